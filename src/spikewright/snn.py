"""The one thing every method ends in: an `SNN`, encode -> body -> readout over T steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torch.utils.checkpoint import checkpoint

from spikewright.clock import Clock, Temporal, finite
from spikewright.encode import Direct, Encoder, Frames, Latency
from spikewright.errors import ConfigError, DataError, NumericError, expect, whole
from spikewright.kernels import raised
from spikewright.noise import sample_keys, seeded
from spikewright.passage import passage
from spikewright.readout import Rate, Readout, Timing
from spikewright.times.layer import Timed

__all__ = ["SNN", "Run", "Stream"]

BLOCK = 4  # steps whose activations are kept at a time when they are recomputed
_SHAPE_ERRORS = (  # how torch begins to say that an input does not fit
    "shapes cannot be multiplied",
    "expected input",
    "Expected",
    "size mismatch",
    "Kernel size can't",
    "Output size is too small",
)


class Run(NamedTuple):
    """What a network did over a block of steps."""

    out: Tensor  # [T, B, F]: what the body handed on; [1, B, F]: its outputs' spike times
    scores: Tensor  # [T, B, C]: the class scores after every step


@dataclass
class _Carry:
    """Everything a sequence hands from one block of steps to the next."""

    at: int = 0
    samples: int | None = None
    neurons: dict[Any, Any] = field(default_factory=dict)
    readout: Any = None
    out: Tensor | None = None  # of a body of times, which gives all steps at once


class SNN(nn.Module):
    """A spiking network: an encoder, any `nn.Module` as body, and a readout, run for `steps` steps.

    Inside the body every tensor is [T*B, ...]: convolutions, norms, pools and skips are plain torch modules; only
    neurons see time. Every call starts from rest. With ReLU for neurons and steps=1 it is the ANN.

    A body with `Timed` layers is one of spike times instead: the encoder, a `Latency`, hands it times [B, ...], it runs
    once for the whole sequence, and a `Timing` readout says what the spikes up to each step decide.

    Args:
        body: maps [N, ...] to [N, F].
        steps: T, the steps a sequence takes.
        encode: values -> input of the body; `Direct` by default.
        readout: outputs of the body -> class scores; `Rate` by default.
    """

    def __init__(self, body: nn.Module, steps: int, encode: Encoder | None = None, readout: Readout | None = None):
        super().__init__()
        self.body = expect("SNN", "body", body, nn.Module)
        self.steps = _count(steps)
        self.encode = expect("SNN", "encode", Direct() if encode is None else encode, Encoder)
        self.readout = expect("SNN", "readout", Rate() if readout is None else readout, Readout)
        self._check_signals()

    @property
    def timed(self) -> bool:
        """Whether the body works on spike times rather than on rasters."""
        return any(isinstance(m, Timed) for m in self.body.modules())

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Class scores after the last step: x [B, ...] -> [B, C]."""
        return self.run(x, generator=generator).scores[-1]

    def run(
        self,
        x: Tensor,
        *,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        recompute: bool = False,
    ) -> Run:
        """Run a whole sequence from rest: x [B, ...] -> `Run`.

        Args:
            steps: another T than the network's own.
            generator: source of the encoder's seed; without one the seed is 0, so that a second call gives the same.
            recompute: keep the states at some steps instead of all activations, and compute these again in the
                backward pass: memory grows with the logarithm of T; at T = 64 a step is run forward three times.

        Raises ConfigError for `recompute` with what needs all steps at once: batch norm in training, TSSL-BP's neuron.
        """
        steps = self.steps if steps is None else _count(steps)
        x, seed = self._input(x), _seed(generator)
        if self.timed or not (recompute and torch.is_grad_enabled()):
            return self._advance(x, steps, steps, seed, _Carry())
        name, needy = next(((n, m) for n, m in self.named_modules() if _needs_all_steps(m)), ("", None))
        if needy is not None:
            raise ConfigError(
                f"memory 'low' runs the steps in blocks, but {name!r} ({type(needy).__name__}) needs them all at once "
                "in training: use a smaller batch, or a network without it"
            )
        flat, spec = tree_flatten(vars(_Carry()))
        return self._recomputed(x, steps, steps, seed, spec, *flat)[0]

    @torch.no_grad()
    def scores(
        self, x: Tensor, *, steps: int | None = None, chunk: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Class scores after every step, without gradients: x [B, ...] -> [T, B, C].

        `chunk` steps are run at a time and hand their state on, so memory does not grow with T.
        """
        return torch.cat(list(self.blocks(x, steps=steps, chunk=chunk, generator=generator)))

    def blocks(
        self, x: Tensor, *, steps: int | None = None, chunk: int | None = None, generator: torch.Generator | None = None
    ) -> Iterator[Tensor]:
        """The same chunk by chunk, [chunk, B, C] each: for runs so long that even their scores are too many to keep."""
        steps = self.steps if steps is None else _count(steps)
        chunk = steps if chunk is None else _count(chunk, "chunk")
        x, seed, carry = self._input(x), _seed(generator), _Carry()
        for t in range(0, steps, chunk):
            with torch.no_grad():
                scores = self._advance(x, min(chunk, steps - t), steps, seed, carry).scores
            yield scores

    def stream(self, seed: int = 0) -> Stream:
        """A sequence at rest that the caller feeds step by step; the state is the stream's."""
        return Stream(self, seed)

    @torch.no_grad()
    def predict(self, images: Tensor | np.ndarray, batch: int = 256) -> Tensor:
        """Classes of images [B, C, H, W], float in 0..1 or uint8 in 0..255: int64 [B], the first of equal scores."""
        batch = _count(batch, "batch")
        like = next((p for p in self.parameters() if p.is_floating_point()), torch.empty(0))
        try:
            x = torch.as_tensor(images)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"predict takes images [B, C, H, W] as a tensor or array: {error}") from error
        if not (x.dtype == torch.uint8 or x.is_floating_point()):
            raise DataError(f"predict takes float images in 0..1 or uint8 images, found {x.dtype}")
        x = x.to(like.dtype) / 255 if x.dtype == torch.uint8 else x.to(like.dtype)
        with inference(self):
            parts = [self(part.to(like.device)).argmax(-1).cpu() for part in x.split(batch)] if len(x) else []
        return torch.cat([torch.zeros(0, dtype=torch.long), *parts])

    def materialise(self, x: Tensor) -> None:
        """Give the lazy layers of the body (`arch` without a data set) their sizes from a sample x [B, ...]."""
        if any(is_lazy(p) for p in self.parameters()):
            with torch.no_grad(), inference(self):
                self.run(x[:1], steps=None if isinstance(self.encode, Frames) else 1)

    def save(self, folder: str | Path) -> None:
        """Write model.safetensors and model.json; `sw.load_model(folder)` reads them back."""
        from spikewright.model_file import save_model

        save_model(self, Path(folder))

    def _input(self, x: Tensor) -> Tensor:
        """x, if the network can take it."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            found = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise DataError(
                f"an SNN takes a floating-point tensor [B, ...], found {found}: for uint8 images use predict()"
            )
        if x.dim() < 2:
            raise DataError(f"an SNN takes a batch [B, ...], found shape {tuple(x.shape)}: add a batch dimension")
        own = next((p.dtype for p in self.parameters() if p.is_floating_point()), x.dtype)
        if x.dtype != own and not torch.is_autocast_enabled(x.device.type):
            raise DataError(f"the input is {x.dtype}, the network {own}: convert one of them by .to(...)")
        if not finite(x):
            kind = "NaN" if x.isnan().any() else "infinity"
            raise DataError(f"the input holds {kind}: clean the data, a spiking network would only go quiet")
        return x

    def _check_signals(self) -> None:
        """Whether encoder, layers and readout speak of the same kind of signal."""
        if not self.timed:
            return
        if not isinstance(self.encode, Latency):
            raise ConfigError(
                f"SNN: the body takes spike times, {type(self.encode).__name__} hands on none: encode by a Latency, "
                "such as LinearLatency()"
            )
        times = True
        for name, module in self.body.named_modules():
            if isinstance(module, (Timed, Temporal)) and isinstance(module, Timed) != times:
                found, takes = ("times", "a raster") if times else ("a raster", "times")
                raise ConfigError(
                    f"SNN: layer {name!r} ({type(module).__name__}) takes {takes}, the layers before it hand on {found}"
                )
            times = times and not (isinstance(module, Timed) and module.rasters)
        if times and not isinstance(self.readout, Timing):
            raise ConfigError(
                f"SNN: the body hands on spike times, {type(self.readout).__name__} reads rasters: read them by a "
                "Timing, such as FirstSpike()"
            )

    def _advance(self, x: Tensor, block: int, steps: int, seed: int, carry: _Carry, streaming: bool = False) -> Run:
        """Run the next `block` steps of a sequence of `steps`, updating `carry`."""
        if carry.samples not in (None, len(x)):
            raise ConfigError(
                f"this stream runs {carry.samples} samples, found {len(x)}: a new batch needs a new stream"
            )
        start, stop = carry.at, carry.at + block
        if self.timed:
            run = self._timed(x, start, stop, steps, carry)
        else:
            current = (self.encode.stream if streaming else self.encode.run)(x, start, stop, steps, seed)
            keys = cache(lambda: seeded(sample_keys(current[0]), seed))
            clock = Clock(block, carry.neurons, self.body, keep=streaming or stop < steps, keys=keys)
            out = self._pass(current, clock, block)
            scores, carry.readout = self.readout.run(out, carry.readout)
            carry.neurons, run = clock.left, Run(out, scores)
        carry.at, carry.samples = stop, len(x)
        return run

    def _timed(self, x: Tensor, start: int, stop: int, steps: int, carry: _Carry) -> Run:
        """The steps start .. stop of a network of spike times, which are all known with the first."""
        rasters = any(isinstance(m, Timed) and m.rasters for m in self.body.modules())
        if carry.out is None:
            times = expect("SNN", "encode", self.encode, Latency).times(raised(x), steps)
            carry.out = self._pass(times[None], Clock(steps, root=self.body), steps if rasters else 1)
        if not rasters:
            readout = expect("SNN", "readout", self.readout, Timing)
            return Run(carry.out, readout.at(carry.out[0], start, stop, steps))
        out = carry.out[start:stop]
        scores, carry.readout = self.readout.run(out, carry.readout)
        return Run(out, scores)

    def _pass(self, current: Tensor, clock: Clock, rows: int) -> Tensor:
        """Input of the body [R, B, ...] -> what it hands on [rows, B, F]."""
        samples = current.shape[1]
        with clock:
            try:
                out = passage(self.body, current, clock)
            except RuntimeError as error:
                if not any(part in str(error) for part in _SHAPE_ERRORS):
                    raise
                raise ConfigError(
                    f"an input of shape {tuple(current.shape[1:])} does not fit the body: {str(error).splitlines()[0]}"
                ) from error
        clock.check()
        if not isinstance(out, Tensor) or out.dim() != 2 or out.shape[0] != rows * samples:
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ConfigError(
                f"the body handed on {found}, expected [{rows * samples}, outputs]: end it with a dense layer over "
                "flattened features and keep the batch dimension"
            )
        if not finite(out) and (out.isnan().any() or not self.timed):
            last = [name for name, _ in self.body.named_modules()][-1] or type(self.body).__name__
            raise NumericError(
                f"the output of the last layer, {last!r}, is NaN or infinite: look for NaN in its weights"
            )
        return raised(out).unflatten(0, (rows, samples))

    def _recomputed(
        self, x: Tensor, until: int, steps: int, seed: int, spec: TreeSpec, *flat: Any
    ) -> tuple[Run, _Carry]:
        """Run up to step `until`; of the first half only the state it leaves is kept, and so on within each half."""
        carry = _Carry(**tree_unflatten(list(flat), spec))
        if until - carry.at <= BLOCK:
            return self._advance(x, until - carry.at, steps, seed, carry), carry
        middle = (carry.at + until) // 2
        first, carry = checkpoint(self._recomputed, x, middle, steps, seed, spec, *flat, use_reentrant=False)
        flat_, spec = tree_flatten(vars(carry))  # a checkpoint only lets go of tensors that are arguments of their own
        second, carry = self._recomputed(x, until, steps, seed, spec, *flat_)
        return Run(*(torch.cat(both) for both in zip(first, second, strict=True))), carry

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
        return self.block(x, steps)[-1]

    @torch.no_grad()
    def block(self, x: Tensor, steps: int = 1) -> Tensor:
        """The same with the scores after each of these steps: [steps, B, C]."""
        steps = _count(steps)
        x = self.snn._input(x)
        return self.snn._advance(x, steps, self.snn.steps, self._seed, self._carry, streaming=True).scores


def _count(value: Any, name: str = "steps") -> int:
    """A whole number of at least 1, of NumPy's types too."""
    return whole("", name, int(value) if isinstance(value, np.integer) else value)


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


def _needs_all_steps(module: nn.Module) -> bool:
    """Whether gradients through it would be wrong if the steps were cut into blocks."""
    if isinstance(module, _BatchNorm):
        return module.training
    return isinstance(module, Temporal) and not module.state_differentiable


def _seed(generator: torch.Generator | None) -> int:
    if generator is None:
        return 0
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
