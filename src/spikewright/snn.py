"""The one thing every method ends in: an `SNN`, encode -> body -> readout over T steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from spikewright.clock import Clock
from spikewright.encode import Direct, Encoder, Frames
from spikewright.errors import ConfigError, DataError
from spikewright.kernels import raised
from spikewright.readout import Rate, Readout

__all__ = ["SNN", "Run", "Stream"]

T = TypeVar("T")


class Run(NamedTuple):
    """What a network did over a block of steps."""

    out: Tensor  # [T, B, F]: what the body handed on
    scores: Tensor  # [T, B, C]: the class scores after every step


@dataclass
class _Carry:
    """Everything a sequence hands from one block of steps to the next."""

    at: int = 0
    neurons: dict[Any, Any] = field(default_factory=dict)
    readout: Any = None


class SNN(nn.Module):
    """A spiking network: an encoder, any `nn.Module` as body, and a readout, run for `steps` steps.

    Inside the body every tensor is [T*B, ...]: convolutions, norms, pools and skips are plain torch modules; only
    neurons see time. Every call starts from rest. With ReLU for neurons and steps=1 it is the ANN.

    Args:
        body: maps [N, ...] to [N, F].
        steps: T, the steps a sequence takes.
        encode: values -> input of the body; `Direct` by default.
        readout: outputs of the body -> class scores; `Rate` by default.
    """

    def __init__(self, body: nn.Module, steps: int, encode: Encoder | None = None, readout: Readout | None = None):
        super().__init__()
        self.body = _instance("body", body, nn.Module)
        self.steps = _checked_steps(steps)
        self.encode = _instance("encode", encode or Direct(), Encoder)
        self.readout = _instance("readout", readout or Rate(), Readout)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Class scores after the last step: x [B, ...] -> [B, C]."""
        return self.run(x, generator=generator).scores[-1]

    def run(self, x: Tensor, *, steps: int | None = None, generator: torch.Generator | None = None) -> Run:
        """Run a whole sequence from rest: x [B, ...] -> `Run`.

        Args:
            steps: another T than the network's own.
            generator: source of the encoder's seed; without one the seed is 0, so that a second call gives the same.
        """
        steps = self.steps if steps is None else _checked_steps(steps)
        return self._advance(_checked_input(x), steps, steps, _seed(generator), _Carry())

    @torch.no_grad()
    def scores(
        self, x: Tensor, *, steps: int | None = None, chunk: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Class scores after every step, without gradients: x [B, ...] -> [T, B, C].

        `chunk` steps are run at a time and hand their state on, so memory does not grow with T.
        """
        steps = self.steps if steps is None else _checked_steps(steps)
        chunk = steps if chunk is None else _checked_steps(chunk, "chunk")
        x, seed, carry = _checked_input(x), _seed(generator), _Carry()
        return torch.cat(
            [self._advance(x, min(chunk, steps - t), steps, seed, carry).scores for t in range(0, steps, chunk)]
        )

    def stream(self, seed: int = 0) -> Stream:
        """A sequence at rest that the caller feeds step by step; the state is the stream's."""
        return Stream(self, seed)

    @torch.no_grad()
    def predict(self, images: Tensor | np.ndarray, batch: int = 256) -> Tensor:
        """Classes of images [B, C, H, W], float in 0..1 or uint8 in 0..255: int64 [B], the first of equal scores."""
        x = torch.as_tensor(images)
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        device = next((p.device for p in self.parameters()), x.device)
        with inference(self):
            return (
                torch.cat([self(part.to(device)).argmax(-1).cpu() for part in x.split(batch)])
                if len(x)
                else x.new_zeros(0, dtype=torch.long)
            )

    def materialise(self, x: Tensor) -> None:
        """Give the lazy layers of the body (`arch` without a data set) their sizes from a sample x [B, ...]."""
        if any(is_lazy(p) for p in self.parameters()):
            with torch.no_grad(), inference(self):
                self.run(x[:1], steps=None if isinstance(self.encode, Frames) else 1)

    def save(self, folder: str | Path) -> None:
        """Write model.safetensors and model.json; `sw.load_model(folder)` reads them back."""
        from spikewright.model_file import save_model

        save_model(self, Path(folder))

    def _advance(self, x: Tensor, block: int, steps: int, seed: int, carry: _Carry, streaming: bool = False) -> Run:
        """Run the next `block` steps of a sequence of `steps`, updating `carry`."""
        encode = self.encode.stream if streaming else self.encode.run
        current = encode(x, carry.at, carry.at + block, steps, seed)
        with Clock(block, carry.neurons) as clock:
            try:
                out = self.body(current.flatten(0, 1))
            except RuntimeError as error:
                if not _is_shape_error(error):
                    raise
                raise ConfigError(
                    f"an input of shape {tuple(x.shape)} does not fit the body: {str(error).splitlines()[0]}"
                ) from error
        clock.check(self.body)
        if out.dim() != 2 or out.shape[0] != block * current.shape[1]:
            raise ConfigError(
                f"the body handed on {tuple(out.shape)}, expected [{block * current.shape[1]}, outputs]: end it with a "
                "dense layer over flattened features and keep the batch dimension"
            )
        out = raised(out).unflatten(0, (block, current.shape[1]))
        scores, carry.readout = self.readout.run(out, carry.readout)
        carry.neurons, carry.at = clock.left, carry.at + block
        return Run(out, scores)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, encode={self.encode}, readout={self.readout}"


class Stream:
    """A running sequence: `scores = stream(x_t)` takes the input of the next step(s) and answers at once.

    The state is held here, nowhere else; two streams of one network never meet.
    """

    def __init__(self, snn: SNN, seed: int = 0):
        self.snn = snn
        self._seed = seed
        self._carry = _Carry()

    @property
    def at(self) -> int:
        """Steps taken so far."""
        return self._carry.at

    @torch.no_grad()
    def __call__(self, x: Tensor, steps: int = 1) -> Tensor:
        """x [B, ...], the input of the next `steps` steps ([B, steps, ...] for frames) -> scores so far [B, C]."""
        steps = _checked_steps(steps)
        x = _checked_input(x)
        return self.snn._advance(x, steps, self.snn.steps, self._seed, self._carry, streaming=True).scores[-1]


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, and as it was afterwards."""
    was = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, training in was.items():
            m.training = training


def _instance(name: str, value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise ConfigError(f"SNN: {name} is {value!r}, expected a {kind.__name__} (an instance, not its class)")
    return value


def _checked_steps(steps: int, name: str = "steps") -> int:
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ConfigError(f"{name} is {steps!r}, expected a whole number of at least 1")
    return int(steps)


def _checked_input(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise DataError(f"an SNN takes a floating-point tensor [B, ...], found {found}: for uint8 images use predict()")
    if x.dim() < 2:
        raise DataError(f"an SNN takes a batch [B, ...], found shape {tuple(x.shape)}: add a batch dimension")
    if not x.isfinite().all():
        kind = "NaN" if x.isnan().any() else "infinity"
        raise DataError(f"the input holds {kind}: clean the data, a spiking network would only go quiet")
    return x


def _seed(generator: torch.Generator | None) -> int:
    if generator is None:
        return 0
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _is_shape_error(error: RuntimeError) -> bool:
    text = str(error)
    return any(
        part in text
        for part in ("shapes cannot be multiplied", "expected input", "Expected", "size mismatch", "Kernel size can't")
    )
