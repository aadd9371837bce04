"""The libraries: how each builds a LIF neuron and a network, in its own best idiom, and what is done with them.

A row is a library, or a floor to compare with, and a precision: "ours-float32", "snntorch", "snntorch-bf16", "ann".
Every neuron is the same: u = v + (x - v) / 2, a spike at u >= 1, a hard reset to 0 through which no gradient flows, and
the arctan surrogate with alpha 2 where the library has one (norse: superspike, sinabs: exponential). Networks of one
seed have the same weights everywhere, so their firing rates agree but for rounding.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

PEERS = ("spikingjelly", "snntorch", "norse", "sinabs")
OURS = ("ours-float32", "ours-bf16", "ours-reference")  # reference: the plain torch loops instead of the kernels
PEER_ROWS = (*PEERS, *(f"{name}-bf16" for name in PEERS))
LOCAL_PEERS = ("spyker", "bindsnet", "brian2", "authors")  # of STDP and spike times; the authors' code is our NumPy
BRIAN = Path(__file__).parent.parent / ".venv-brian" / "bin" / "python"  # Brian2 wants an older NumPy

NETS = {
    "A": "64C3-AP2-128C3-AP2-128C3-AP2-512FC-10",
    "B": "15C5-P2-40C5-P2-300-10",
    "F": "784-800-10",  # on Poisson spikes; A and B see the image as a constant current
}
GAIN = {"A": 8.0, "B": 8.0, "F": 5.0}  # on the initial weights: with torch's own the deeper layers never fire

Run = Callable[[Tensor], Tensor]
Layers = list[nn.Module | None]  # None: here is a neuron


class Job(NamedTuple):
    """What a row does when it has its turn."""

    step: Callable[[], object]
    rate: Callable[[], float] | None = None  # the mean of the spikes that come out; None: no spikes in this row
    items: int = 1  # a step's cost is shared by so many


def installed(row: str) -> bool:
    """Whether what a row measures is there."""
    name = row.partition("-")[0]
    if name == "brian2":
        return BRIAN.exists()
    return name not in (*PEERS, *LOCAL_PEERS) or name == "authors" or importlib.util.find_spec(name) is not None


def digits_28(count: int) -> Tensor:
    """scikit-learn's digits, enlarged to 20 x 20 in a frame of 28 x 28, over and over: [count, 1, 28, 28] in 0..1."""
    from sklearn.datasets import load_digits

    x = torch.tensor(load_digits().images / 16, dtype=torch.float32)[:, None]
    x = functional.interpolate(x, size=20, mode="bilinear", align_corners=True)
    x = functional.pad(((x - 0.15) / 0.7).clamp(0, 1), (4, 4, 4, 4))
    return x[torch.arange(count) % len(x)]


def bf16(row: str) -> bool:
    return row.endswith("-bf16")


def neuron(row: str, steps: int, neurons: int) -> Job:
    """Forward and backward of one layer of neurons: x [steps, 64, neurons / 64]."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if bf16(row) else torch.float32
    x = (torch.randn(steps, 64, neurons // 64) + 0.7).to(dtype).requires_grad_()
    grad = torch.randn(x.shape).to(dtype)
    if row.startswith("bytes"):
        return Job(_bytes_moved(x.detach(), grad))
    run = _library(row).neuron()

    def step() -> None:
        x.grad = None
        run(x).backward(grad)

    def rate() -> float:
        with torch.no_grad():
            return run(x).float().mean().item()

    return Job(step, rate if _spikes(row) else None)


def training(row: str, net: str, steps: int, batch: int) -> Job:
    """One training step: forward, cross-entropy on the firing rates, backward, Adam."""
    module, run, x = _network(row, net, steps, batch)
    labels = torch.randint(0, 10, (batch,))
    learning_rate = 1e-5  # all rows keep the firing rates that they begin with, however many steps they take
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], learning_rate)

    def step() -> None:
        optimizer.zero_grad()
        with _precision(row):
            loss = functional.cross_entropy(run(x).float(), labels)
        loss.backward()
        optimizer.step()

    def rate() -> float:
        with torch.no_grad(), _precision(row):
            return run(x).float().mean().item()

    return Job(step, rate if _spikes(row) else None)


def inference(row: str, net: str, steps: int, batch: int) -> Job:
    """The firing rates of a batch, without gradients."""
    module, run, x = _network(row, net, steps, batch)
    module.eval()

    def step() -> Tensor:
        with torch.inference_mode(), _precision(row):
            return run(x)

    return Job(step, (lambda: step().float().mean().item()) if _spikes(row) else None)


def _network(row: str, net: str, steps: int, batch: int) -> tuple[nn.Module, Run, Tensor]:
    """A net with its weights, how to run it, and a batch: images [B, 1, 28, 28], for F spikes [T, B, 784]."""
    torch.manual_seed(0)
    module, run = _library(row).net(net, steps)
    with torch.no_grad():
        for p in module.parameters():
            if p.dim() > 1:  # not the biases, so that nothing fires which no spike reaches
                p.mul_(GAIN[net])
    torch.manual_seed(1)
    x = torch.rand(batch, 1, 28, 28)
    return module, run, (torch.rand(steps, batch, 784) < x.flatten(1)).float() if net == "F" else x


def _spikes(row: str) -> bool:
    return not row.startswith(("ann", "relu"))


def _precision(row: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16(row))


def _bytes_moved(x: Tensor, grad: Tensor) -> Callable[[], None]:
    """What any forward and backward must move: read x, write spikes; read x and the gradient, write the gradient.

    As integers, so that arithmetic in bfloat16 is not what takes the time.
    """
    x, grad = x.view(torch.int32), grad.view(torch.int32)
    spikes, x_grad = torch.empty_like(x), torch.empty_like(x)

    def step() -> None:
        torch.neg(x, out=spikes)
        torch.add(x, grad, out=x_grad)

    return step


def _layers(net: str) -> Layers:
    """The layers of a net, None where a neuron goes; drawn in the order in which `spikewright.arch` draws."""
    layers: Layers = []
    channels, size = 1, 28
    for token in NETS[net].removeprefix("784-").split("-"):
        if "P" in token:
            layers.append(nn.AvgPool2d(2))
            size //= 2
        elif token.endswith(("C3", "C5")):
            out, kernel = map(int, token.split("C"))
            layers += [nn.Conv2d(channels, out, kernel, padding=int(kernel == 3)), None]
            channels, size = out, size if kernel == 3 else size - 4
        else:
            out = int(token.removesuffix("FC"))
            layers += [*([nn.Flatten()] if size > 1 and net != "F" else []), nn.Linear(channels * size**2, out), None]
            channels, size = out, 1
    return layers


class Library:
    """How a library lays out a net and runs it over time; subclasses say which neuron and how."""

    stepwise = False  # whether it runs step by step, the whole net at each, rather than layer by layer

    def body(self, layers: Layers) -> nn.Module:
        raise NotImplementedError

    def run(self, body: nn.Module, currents: Any) -> Tensor:
        """currents [T, B, ...], a sequence of [B, ...] if stepwise -> what comes out [T, B, ...]."""
        raise NotImplementedError

    def neuron(self) -> Run:
        body = self.body([None])
        return lambda x: self.run(body, x.unbind(0) if self.stepwise else x)  # x[t] would cost T^2 going backward

    def net(self, net: str, steps: int) -> tuple[nn.Module, Run]:
        """(what holds the weights, input -> firing rates [B, 10])."""
        layers = _layers(net)
        head = layers.pop(0) if isinstance(layers[0], nn.Conv2d) else None
        body = self.body(layers)

        def run(x: Tensor) -> Tensor:
            if head is None:
                return self.run(body, x.unbind(0) if self.stepwise else x).mean(0)
            h = head(x)  # the image is the same at every step: convolved once
            return self.run(body, [h] * steps if self.stepwise else h.expand(steps, *h.shape)).mean(0)

        return nn.ModuleList([head or nn.Identity(), body]), run


class SpikingJelly(Library):
    def __init__(self) -> None:
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        self.reset, self.fold = functional.reset_net, layer.SeqToANNContainer
        self.lif = lambda: neuron.LIFNode(2.0, surrogate_function=surrogate.ATan(2.0), detach_reset=True, step_mode="m")

    def body(self, layers: Layers) -> nn.Module:
        return nn.Sequential(*[self.lif() if layer is None else self.fold(layer) for layer in layers])

    def run(self, body: nn.Module, currents: Tensor) -> Tensor:
        self.reset(body)
        return body(currents)


class SnnTorch(Library):
    stepwise = True

    def __init__(self) -> None:
        import snntorch
        from snntorch import surrogate, utils

        # mem = mem / 2 + x is twice our potential: twice the threshold, half the slope
        options = {"beta": 0.5, "threshold": 2.0, "reset_mechanism": "zero", "init_hidden": True}
        self.lif = lambda: snntorch.Leaky(**options, spike_grad=surrogate.atan(alpha=1.0))
        self.reset = utils.reset

    def body(self, layers: Layers) -> nn.Module:
        return nn.Sequential(*[layer or self.lif() for layer in layers])

    def run(self, body: nn.Module, currents: Sequence[Tensor]) -> Tensor:
        self.reset(body)
        return torch.stack([body(current) for current in currents])


class Norse(Library):
    stepwise = True

    def __init__(self) -> None:
        import norse.torch
        from norse.torch.functional.lif_box import LIFBoxParameters

        def reset(z: Tensor, v: Tensor, value: Tensor, threshold: Tensor) -> Tensor:
            return (1 - z.detach()) * v  # its own lets the gradient through z

        parameters = LIFBoxParameters(tau_mem_inv=torch.as_tensor(500.0), reset_method=reset)
        self.lif = lambda: norse.torch.LIFBoxCell(parameters, dt=0.001)
        self.sequence = norse.torch.SequentialState

    def body(self, layers: Layers) -> nn.Module:
        return self.sequence(*[layer or self.lif() for layer in layers])

    def run(self, body: nn.Module, currents: Sequence[Tensor]) -> Tensor:
        state, out = None, []
        for current in currents:
            spikes, state = body(current, state)
            out.append(spikes)
        return torch.stack(out)


class Sinabs(Library):
    def __init__(self) -> None:
        from sinabs.activation import MembraneReset, SingleExponential, SingleSpike
        from sinabs.layers import LIF, Repeat
        from sinabs.utils import reset_states

        options = {"spike_fn": SingleSpike, "reset_fn": MembraneReset(), "surrogate_grad_fn": SingleExponential()}
        self.lif = lambda: LIF(1 / math.log(2), **options).requires_grad_(False)  # else it learns tau
        self.reset, self.fold = reset_states, Repeat

    def body(self, layers: Layers) -> nn.Module:
        return nn.Sequential(*[self.lif() if layer is None else self.fold(layer) for layer in layers])

    def run(self, body: nn.Module, currents: Tensor) -> Tensor:
        self.reset(body)
        return body(currents.transpose(0, 1)).transpose(0, 1)  # it wants [B, T, ...]


class Relu(Library):
    """ReLU for the neurons, on T*B images: what a net costs, layer by layer, whose neurons are next to free."""

    def body(self, layers: Layers) -> nn.Module:
        return nn.Sequential(*[layer or nn.ReLU() for layer in layers])

    def run(self, body: nn.Module, currents: Tensor) -> Tensor:
        return body(currents.flatten(0, 1)).unflatten(0, currents.shape[:2])


class Ann(Relu):
    """The same at one step: what a plain net costs."""

    def net(self, net: str, steps: int) -> tuple[nn.Module, Run]:
        module, run = super().net(net, 1)
        return module, (lambda x: run(x[:1])) if net == "F" else run


class Ours:
    def __init__(self) -> None:
        import spikewright

        self.sw = spikewright

    def neuron(self) -> Run:
        lif = self.sw.LIF(tau=2.0)
        return lambda x: lif.run(x)[0]

    def net(self, net: str, steps: int) -> tuple[nn.Module, Run]:
        sw, lif = self.sw, self.sw.LIF(tau=2.0)
        if net == "F":
            snn = sw.SNN(sw.arch(NETS[net], (784,), lif, spiking_output=True), steps, sw.encode.Frames())
            return snn, lambda x: snn(x.transpose(0, 1))
        snn = sw.SNN(sw.arch(NETS[net], (1, 28, 28), lif, spiking_output=True), steps)
        return snn, snn


def _library(row: str) -> Library | Ours:
    name, _, variant = row.partition("-")
    if name == "ours":  # which kernels spikewright takes is read when it is imported
        os.environ.pop("SPIKEWRIGHT_KERNELS", None)
        if variant == "reference":
            os.environ["SPIKEWRIGHT_KERNELS"] = "reference"
        return Ours()
    peers = {"spikingjelly": SpikingJelly, "snntorch": SnnTorch, "norse": Norse, "sinabs": Sinabs}
    return {**peers, "ann": Ann, "relu": Relu}[name]()
