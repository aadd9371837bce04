"""What encoders are, and the two that encode nothing: values as a current, frames as they come."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikewright.errors import ConfigError, DataError

__all__ = ["Direct", "Encoder", "Frames", "expect_unit"]


class Encoder:
    """Base of the encoders. `spikes`: whether it hands on spikes (0, 1, or signed) rather than analog values."""

    spikes = True

    @property
    def cells(self) -> int:
        """Spike trains a value becomes: [B, C, ...] is handed on as [T, B, C cells, ...]."""
        return 1

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        """x [B, ...] -> [stop - start, B, ...]."""
        raise NotImplementedError

    def stream(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        """The same for a caller who streams and holds x for these steps alone."""
        return self.run(x, start, stop, steps, seed)

    def decode(self, spikes: Tensor) -> Tensor:
        """The values that a whole sequence stands for: spikes [T, B, ...] -> [B, ...], as far as the code lets know.

        Raises ConfigError for an encoder without a decoder.
        """
        raise ConfigError(f"{type(self).__name__} has no decoder: its spikes do not tell the values")


def expect_unit(name: str, x: Tensor, low: float = 0.0) -> None:
    """Raise DataError unless all values are within low..1."""
    if x.numel():
        least, most = x.min().item(), x.max().item()
        if not (low <= least and most <= 1):
            raise DataError(
                f"{name} takes values in {low:g}..1, found {least:.4g}..{most:.4g}: scale the input (pixels / 255) and "
                "leave normalisation out in front of this encoder"
            )


@dataclass(frozen=True)
class Direct(Encoder):
    """The values themselves as a constant current at every step; the first layer does the encoding."""

    spikes = False

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        return x.expand(stop - start, *x.shape)


@dataclass(frozen=True)
class Frames(Encoder):
    """Input that already has a time axis: x [B, T, ...] (binned events) with T = steps."""

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        if x.dim() < 2 or x.shape[1] != steps:
            found = x.shape[1] if x.dim() > 1 else "no time axis"
            raise DataError(
                f"Frames: the input has {found} frames, the network runs {steps} steps: "
                f"bin the events by data.with_steps({steps})"
            )
        return x[:, start:stop].transpose(0, 1)

    def stream(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        return self.run(x, 0, stop - start, stop - start, seed)
