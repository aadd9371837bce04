"""The gradient training loop, on Hugging Face accelerate (devices, mixed precision, several processes).

Everything random is a function of (seed, phase, epoch, step), so a checkpoint needs no generator states and a run that
is stopped anywhere goes on bit for bit.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from spikewright.data import Split
from spikewright.engine.session import Interrupted, Session, mixed_seed, seed_all
from spikewright.errors import ConfigError, ModelFileError, NumericError
from spikewright.losses import Loss
from spikewright.measure import firing_rates, silent_layers
from spikewright.readout import hits
from spikewright.snn import SNN, inference
from spikewright.storage import Checkpoints
from spikewright.times.layer import Timed

if TYPE_CHECKING:
    from spikewright.phases import Fit

__all__ = ["Trainee", "Trainer"]


class Trainee(nn.Module):
    """Network and loss as one module, which is what several processes wrap."""

    def __init__(
        self,
        snn: SNN,
        loss: Loss,
        steps: int | None = None,
        recompute: bool = False,
        weight_clamp: float | None = None,
        weight_floor: float | None = None,
    ):
        super().__init__()
        self.snn, self.loss, self.steps, self.recompute = snn, loss, steps, recompute
        self.weight_clamp, self.weight_floor = weight_clamp, weight_floor

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch and its classes -> (loss, final scores); the gradient of the loss is what the optimiser gets."""
        run = self.snn.run(x, steps=self.steps, generator=generator, recompute=self.recompute)
        return self.loss(run, y), run.scores[-1].detach()

    @torch.no_grad()
    def settle(self) -> None:
        """What follows every step of the optimiser."""
        clamp, floor = self.weight_clamp, self.weight_floor
        if clamp is not None or floor is not None:
            low = max(x for x in (floor, clamp and -clamp) if x is not None)
            for p in self.snn.parameters():
                p.clamp_(low, clamp)
        for module in self.snn.modules():
            if callable(constrain := getattr(module, "constrain", None)):  # a parameter with a range of its own
                constrain()


@dataclass
class _Progress:
    """Where the training stands: all of it goes into a checkpoint."""

    epoch: int = 0
    step: int = 0  # within the epoch
    loss: float = 0.0  # sums over the epoch so far
    hits: int = 0
    seen: int = 0
    seconds: float = 0.0  # of this epoch
    total_seconds: float = 0.0
    total_seen: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = -1
    last_loss: float = 0.0  # mean of the epoch before this


class Trainer:
    """Runs one `Fit` in a session; afterwards `fit.snn` has the last weights and `best` those that validation chose."""

    def __init__(self, fit: Fit, session: Session, memory: str | None = None):
        self.fit, self.session = fit, session
        self.accelerator = session.accelerator
        self.snn = fit.snn
        if len(session.train) < self.accelerator.num_processes:
            raise ConfigError(
                f"{len(session.train)} training samples cannot feed {self.accelerator.num_processes} processes"
            )
        self.snn.materialise(session.train.batch(torch.arange(1)))
        self.at = _Progress()
        self.best: dict[str, Tensor] = {}
        self.mean: dict[str, Tensor] = {}  # the average of the weights, from the first step on
        parameters = [p for p in self.snn.parameters() if p.requires_grad]
        if not parameters:
            raise ConfigError("there is nothing to train: the network has no parameters that take a gradient")
        optimizer = fit.optimizer.build(parameters)
        self.trainee = fit.trainee(recompute=(memory or session.memory) == "low")
        self.model, self.optimizer = self.accelerator.prepare(self.trainee, optimizer)
        self.device = self.accelerator.device
        self.samples = session.train.to(self.device)
        self.batches = math.ceil(len(session.train) / fit.batch)
        self._saved = time.monotonic()
        self._agreed = self.accelerator.num_processes == 1  # several processes stop at the same step, or one waits

    # ---- the loop

    def run(self) -> None:
        """Train to the last epoch, from the session's checkpoint if there is one."""
        if self.session.resumed is not None:
            self._restore(*self.session.resumed)
        with self.session.listening(), self._bar() as tell:
            for epoch in range(self.at.epoch, self.fit.epochs):
                if self._enough():
                    break
                self._epoch(epoch, tell)
                self._finish_epoch(epoch)
        if self.mean:
            self.snn.load_state_dict(self.mean)
        self.accelerator.wait_for_everyone()

    def _enough(self) -> bool:
        """Whether validation accuracy or the last epoch's loss ends the training."""
        if self.fit.until is not None and self.at.best_accuracy >= self.fit.until:
            return True
        return self.fit.stop_below is not None and self.at.epoch > 0 and self.at.last_loss < self.fit.stop_below

    def _epoch(self, epoch: int, tell: Callable[..., None]) -> None:
        order = torch.randperm(len(self.session.train), generator=self._generator("order", epoch))
        self.model.train()
        for step in range(self.at.step, self.batches):
            started = time.monotonic()
            indices = order[step * self.fit.batch : (step + 1) * self.fit.batch]
            loss, hit = self._step(epoch, step, indices)
            self.at.loss += loss * len(indices)
            self.at.hits += hit
            self.at.seen += len(indices)
            self.at.seconds += time.monotonic() - started
            self.at.step = step + 1
            self.session.ticks += 1
            tell(self.at)
            self._maybe_save()

    def _step(self, epoch: int, step: int, indices: Tensor) -> tuple[float, int]:
        """One optimiser step over the global batch `indices`; returns its mean loss and hits."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        if len(indices) < world:  # a last batch too small to share: everybody takes all of it
            rank, world = 0, 1
        mine = indices[rank::world]
        x, y = self.samples.batch(mine), self.samples.labels[mine]
        if self.fit.augment is not None:
            x = self.fit.augment(x, self._generator("augment", epoch, step, rank))
        x, y = x.to(self.device), y.to(self.device)
        factor = self.fit.schedule.factor(epoch + step / self.batches, self.fit.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = self.fit.optimizer.lr * factor
        if self.fit.during is not None:
            self.fit.during(self.snn, epoch + step / self.batches)
        seed_all(mixed_seed(self.session.seed, self.session.phase, epoch, step, rank))
        loss, scores = self.model(x, y, self._generator("encode", epoch, step))
        # Processes average their gradients: a sum over the batch, or shares of unequal size, must be weighed.
        share = world if self.fit.loss.summed else world * len(mine) / len(indices)
        self.accelerator.backward(loss * share if share != 1 else loss)
        norm = get_total_norm([p.grad for p in self.snn.parameters() if p.grad is not None])
        if not (loss.isfinite() and norm.isfinite()):
            raise self._numeric_error(x, loss, epoch, step)
        if self.fit.clip_rows is not None:
            _clip_rows(self.snn.parameters(), self.fit.clip_rows)
        if self.fit.clip is not None:
            clip_grads_with_norm_(self.snn.parameters(), self.fit.clip, norm)
        self.optimizer.step(loss.detach)  # some take the loss into account
        self.optimizer.zero_grad(set_to_none=True)
        self.trainee.settle()
        if not get_total_norm(self.snn.parameters(), math.inf).isfinite():
            raise self._numeric_error(x, loss, epoch, step)
        if self.fit.average is not None:
            self._average(epoch * self.batches + step, self.fit.average)
        return self._sums(loss.detach(), hits(scores, y), len(mine), len(indices))

    def _sums(self, loss: Tensor, hit: Tensor, mine: int, batch: int) -> tuple[float, int]:
        """Mean loss and hits of the global batch; and agree with the other processes whether to stop."""
        here = [loss.double() * (1 if self.fit.loss.summed else mine), hit.sum().double()]
        stop = torch.tensor(float(self.session.signal or 0), dtype=torch.double, device=loss.device)
        sums, processes = torch.stack([*here, stop]), self.accelerator.num_processes
        if processes > 1:
            sums = self.accelerator.reduce(sums)
            if batch < processes:  # everybody had all of it
                sums[:2] /= processes
        total, hit_count, stopping = sums.tolist()
        if stopping:
            self._agreed, self.session.signal = True, self.session.signal or int(signal.SIGTERM)
        return total / batch, round(hit_count)

    def _average(self, steps: int, share: float) -> None:
        """After that many steps, and one: at first the plain mean of the weights, later one that forgets."""
        share = max(share, 1 / (steps + 1))
        for name, now in self.snn.state_dict().items():
            if name in self.mean and now.is_floating_point():
                self.mean[name].lerp_(now, share)
            else:
                self.mean[name] = now.clone()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The network with the average of its weights, if there is one."""
        if not self.mean:
            yield
            return
        now = {k: v.clone() for k, v in self.snn.state_dict().items()}
        self.snn.load_state_dict(self.mean)
        try:
            yield
        finally:
            self.snn.load_state_dict(now)

    def _finish_epoch(self, epoch: int) -> None:
        at, session = self.at, self.session
        if epoch == 0:
            self._warn_of_silence()
        line: dict[str, Any] = {
            "phase": session.phase,
            "epoch": epoch + 1,
            "loss": at.loss / at.seen,
            "train_accuracy": at.hits / at.seen,
        }
        if session.valid is not None:
            with self._averaged():
                accuracy = self._accuracy(session.valid)
                line["validation_accuracy"] = accuracy
                if accuracy >= at.best_accuracy:  # of equals the later one
                    at.best_accuracy, at.best_epoch = accuracy, epoch + 1
                    self.best = {k: v.detach().cpu().clone() for k, v in self.snn.state_dict().items()}
        if self.fit.upkeep is not None and epoch + 1 < self.fit.epochs:  # what is new has to learn before it is tested
            line["renewed"] = self.fit.upkeep(self.snn, session.train, self._generator("upkeep", epoch))
        line |= {"seconds": round(at.seconds, 3), "images_per_second": round(at.seen / max(at.seconds, 1e-9), 1)}
        session.record(line)
        session.console.print(_sentence(line, self.fit.epochs), highlight=False, soft_wrap=True)
        at.total_seconds, at.total_seen = at.total_seconds + at.seconds, at.total_seen + at.seen
        at.last_loss = line["loss"]
        at.epoch, at.step, at.loss, at.hits, at.seen, at.seconds = epoch + 1, 0, 0.0, 0, 0, 0.0
        self._maybe_save()

    @torch.no_grad()
    def _accuracy(self, split: Split) -> float:
        """Accuracy of the last scores, ties wrong, the samples shared among the processes."""
        mine = torch.arange(len(split))[self.accelerator.process_index :: self.accelerator.num_processes]
        total = torch.zeros((), dtype=torch.double, device=self.device)
        steps = self.fit.validate_steps or self.fit.steps
        with inference(self.snn), self.accelerator.autocast():
            for part in mine.split(max(self.fit.batch, 100)):
                scores = self.snn.run(split.batch(part).to(self.device), steps=steps).scores[-1]
                total += hits(scores, split.labels[part].to(self.device)).sum()
        return float(self.accelerator.reduce(total)) / len(split)

    # ---- what can go wrong

    def _warn_of_silence(self) -> None:
        some = torch.arange(min(32, len(self.session.train)))
        with inference(self.snn):
            rates = firing_rates(self.snn, self.session.train.batch(some).to(self.device))
        for name in silent_layers(rates):
            self.session.console.print(
                f"[yellow]warning:[/] layer {name!r} did not fire once on {len(some)} training images after the first "
                "epoch: lower its threshold, scale its weights up, or use a wider surrogate",
                highlight=False,
                soft_wrap=True,
            )

    def _numeric_error(self, x: Tensor, loss: Tensor, epoch: int, step: int) -> NumericError:
        where = f"epoch {epoch + 1}, step {step + 1}"
        remedy = "lower the learning rate or clip the gradient; the last checkpoint is untouched"
        if not loss.isfinite() and (layer := self._first_bad_layer(x)):
            return NumericError(f"output of layer {layer!r} is NaN or infinite in {where}: {remedy}")
        bad = [n for n, p in self.snn.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        if bad:  # gradients flow backwards: the last one is where it began
            return NumericError(f"gradient of {bad[-1]!r} is NaN or infinite in {where}: {remedy}")
        bad = [n for n, p in self.snn.named_parameters() if not p.isfinite().all()]
        if bad:
            return NumericError(f"{bad[0]!r} is NaN or infinite after {where}: {remedy}")
        return NumericError(f"the loss or its gradient's norm overflows in {where}: {remedy}")

    @torch.no_grad()
    def _first_bad_layer(self, x: Tensor) -> str:
        """Name of the first layer, in the order of the forward, whose output is not finite; "" if all are."""
        found: list[str] = []

        def look(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, out: Tensor) -> None:
                if out.isnan().any() or not (isinstance(module, Timed) or out.isfinite().all()):
                    found.append(name)

            return hook

        leaves = [(n, m) for n, m in self.snn.body.named_modules() if not any(m.children())]
        hooks = [m.register_forward_hook(look(n)) for n, m in leaves]
        try:
            self.snn.run(x)
        finally:
            for hook in hooks:
                hook.remove()
        return found[0] if found else ""

    # ---- checkpoints

    def _maybe_save(self) -> None:
        late = time.monotonic() - self._saved > 60 * self.session.checkpoint_minutes
        if late or (self.session.signal is not None and self._agreed):
            self._save()

    def _save(self) -> None:
        """Write a checkpoint; then stop, if a signal has come by now."""
        self._saved = time.monotonic()
        if self.session.folder is not None and self.session.checkpoints is not None:
            self._checkpoint(self.session.checkpoints)
        if self.session.signal is not None and self._agreed:
            raise Interrupted(self.session.signal)

    def _checkpoint(self, checkpoints: Checkpoints) -> None:
        tensors = {f"model.{k}": v for k, v in self.snn.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()} | {f"mean.{k}": v for k, v in self.mean.items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v) for k, v in values.items() if v is not None}
        checkpoints.save(self.session.ticks, tensors, {"phase": self.session.phase, "progress": vars(self.at)})

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        try:
            self.snn.load_state_dict(part("model."))
            self.at = _Progress(**state["progress"])
        except (RuntimeError, KeyError, TypeError) as error:
            raise ModelFileError(f"the checkpoint does not belong to this run: {str(error).splitlines()[0]}") from error
        self.best, self.mean = part("best."), part("mean.")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part("optimizer.").items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})

    # ---- small things

    def _generator(self, *parts: int | str) -> torch.Generator:
        return torch.Generator().manual_seed(mixed_seed(self.session.seed, self.session.phase, *parts))

    def _bar(self) -> Any:
        return _bar(self.session, self.fit.epochs, self.batches)


class _bar:
    """A progress bar on standard error, on a terminal only: epoch, accuracy, images/s, time left."""

    def __init__(self, session: Session, epochs: int, batches: int):
        self.epochs, self.batches, self.total = epochs, batches, epochs * batches
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[now]}"),
            TimeRemainingColumn(),
        )
        shown = not session.console.quiet and session.console.is_terminal
        self.bar = Progress(*columns, console=session.console, transient=True, disable=not shown)

    def __enter__(self) -> Callable[[_Progress], None]:
        self.bar.start()
        self.task = self.bar.add_task("training", total=self.total, now="")
        return self.tell

    def tell(self, at: _Progress) -> None:
        speed = at.seen / max(at.seconds, 1e-9)
        now = f"loss {at.loss / at.seen:.4f}  train {100 * at.hits / at.seen:.2f} %  {speed:,.0f} images/s  eta"
        done = at.epoch * self.batches + at.step
        self.bar.update(self.task, completed=done, description=f"epoch {at.epoch + 1}/{self.epochs}", now=now)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def _clip_rows(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Shorten every row of a weight matrix's gradient that is longer than `most`."""
    for p in parameters:
        if p.grad is not None and p.dim() > 1:
            norm = p.grad.flatten(1).norm(dim=1).view(-1, *[1] * (p.dim() - 1))
            p.grad.mul_(most / norm.clamp(min=most))


def _sentence(line: dict[str, Any], epochs: int) -> str:
    valid = f"  validation {100 * line['validation_accuracy']:.2f} %" if "validation_accuracy" in line else ""
    return (
        f"epoch {line['epoch']}/{epochs}  loss {line['loss']:.4f}  train {100 * line['train_accuracy']:.2f} %{valid}"
        f"  {line['images_per_second']:,.0f} images/s  {line['seconds']:.0f} s"
    )
