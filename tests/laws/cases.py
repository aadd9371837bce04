"""What the law tests run on, found by listing the package.

A new class in `src/spikewright` is taken up by itself when it can be built without arguments. One that cannot, or that
deserves more than one variant, gets a line in `TEMPORAL`, `ENCODERS`, `READOUTS`, `LOSSES`, `LEAKS` or `RESETS`; until
then every law fails on it, naming it. Base classes that are not parts themselves stand in `ABSTRACT`. Whole networks,
those of recipes included, go into `NETWORKS`.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright
from spikewright import encode, losses, neurons, readout
from spikewright.arch import arch
from spikewright.clock import Temporal
from spikewright.neurons import (
    IF,
    LIF,
    PLIF,
    SRM0,
    AdaptiveLIF,
    Charge,
    Competition,
    ConductanceLIF,
    Delay,
    Delta,
    DoubleExponential,
    Euler,
    EulerJump,
    Exact,
    ExactJump,
    ExactRateLIF,
    Factor,
    FewSpikes,
    HardReset,
    HeldDropout,
    HodgkinHuxley,
    Izhikevich,
    LatencyCode,
    Leak,
    MaxPoolGate,
    NoisyLIF,
    NoReset,
    Once,
    OnceIF,
    RefractoryLIF,
    Reset,
    Subtract,
    Synapse,
    SynapticDelay,
    TSSLNeuron,
    UnitPeak,
)
from spikewright.snn import SNN, Run
from spikewright.surrogate import ATan, Sigmoid, Surrogate

F32, F64 = torch.float32, torch.float64
DTYPES = (torch.float16, torch.bfloat16, F32, F64)


def import_all() -> list[str]:
    """Import every module of the package except the command line; their names."""
    found = [m.name for m in pkgutil.walk_packages(spikewright.__path__, "spikewright.")]
    names = [n for n in found if n.split(".")[1] != "cli" and not n.endswith("__main__")]
    for name in names:
        importlib.import_module(name)
    return names


import_all()
ABSTRACT = (
    Temporal,
    neurons.IntegrateAndFire,
    neurons.Biological,
    neurons.adaptive._Threshold,
    neurons.stepwise.Stepwise,
    encode.Encoder,
    encode.Latency,
    readout.Readout,
    readout.Timing,
    losses.Loss,
    losses.TimeLoss,
    Leak,
    Reset,
)


def listed(base: type) -> list[type]:
    """The concrete classes of the package below `base`."""

    def below(parent: type) -> list[type]:
        return [c for child in parent.__subclasses__() for c in (child, *below(child))]

    own = {c: None for c in below(base) if c.__module__.startswith("spikewright.") and c not in ABSTRACT}
    return list(own)


@dataclass(frozen=True)
class Case:
    """One part under test: how to make it, and how to see in what it hands on which neurons fired."""

    name: str
    make: Callable[..., Any]
    fired: Callable[[Tensor], Tensor] | None = None

    def __repr__(self) -> str:
        return self.name


def _demanded(kind: type) -> Any:
    pytest.fail(f"{kind.__module__}.{kind.__name__} has no case: give it one in tests/laws/cases.py")


def _cases(base: type, table: dict[type, list[Case]]) -> list[Case]:
    found = []
    for kind in listed(base):
        if kind in table:
            found += table[kind]
            continue
        try:
            kind()
            found.append(Case(kind.__name__, kind))
        except Exception:
            found.append(Case(kind.__name__, partial(_demanded, kind)))
    return found


# ---- leaks, resets, neurons

LEAKS: list[Leak] = [Factor(0.8), Euler(2.5), EulerJump(2.5), Exact(3.0), ExactJump(3.0), UnitPeak(3.0, 1.5)]
ATTACHED: list[Reset] = [
    HardReset(detach=False),
    HardReset(-0.2, detach=False),
    Subtract(detach=False),
    Subtract(detach=False, delayed=True),
    NoReset(),
]
RESETS: list[Reset] = [*ATTACHED, HardReset(), HardReset(-0.2), Subtract(), Subtract(delayed=True)]


def short(part: Any) -> str:
    """A part's repr without spaces, for test names."""
    return repr(part).replace(" ", "")


def integrate_and_fire(resets: list[Reset], surrogate: Surrogate | None = None) -> list[Case]:
    """Every leak, reset and comparison, each with a start of its own: LIF, IF and PLIF."""
    surrogate = surrogate or ATan()
    found = []
    for reset, strict in itertools.product(resets, (False, True)):
        common = {"reset": reset, "strict": strict, "surrogate": surrogate, "v_init": 0.1 if strict else 0.0}
        tail = f"{short(reset)}{'-strict' if strict else ''}"
        found += [Case(f"LIF-{short(leak)}-{tail}", partial(LIF, leak=leak, **common)) for leak in LEAKS]
        found.append(Case(f"IF-{tail}", partial(IF, **common)))
        found.append(Case(f"PLIF-{tail}", partial(PLIF, 3.0, **common)))
    return found


def risen(out: Tensor) -> Tensor:
    """A synapse's output [T, ...] in 0..1 rises exactly where its neuron fired."""
    return out > torch.cat([torch.zeros_like(out[:1]), out[:-1]])


def charged() -> Charge:
    """With a charge that is not zero."""
    module = Charge()
    module.charge += 0.5
    return module


_IAF = integrate_and_fire(RESETS)
TEMPORAL: dict[type, list[Case]] = {
    LIF: [c for c in _IAF if c.name.startswith("LIF")],
    IF: [
        *(c for c in _IAF if c.name.startswith("IF")),
        Case("IF-size", partial(IF, size=0.3)),
    ],
    Charge: [Case("Charge", charged)],
    Delay: [Case("Delay", Delay), Case("Delay-3", partial(Delay, 3))],
    ExactRateLIF: [
        Case("ExactRateLIF", partial(ExactRateLIF, 1.5, 3.0, gain=3.0)),
        Case("ExactRateLIF-fine", partial(ExactRateLIF, 1.0, 2.0, 0.7, gain=4.0, bias=0.5, size=0.3)),
    ],
    FewSpikes: [
        Case("FewSpikes", partial(FewSpikes.binary, 3, 2.0)),
        Case("FewSpikes-2", partial(FewSpikes, (0.3, -0.2), (0.5, 0.1), (0.7, -0.3), 1)),
    ],
    MaxPoolGate: [Case("MaxPoolGate", partial(MaxPoolGate, 3, stride=1, padding=1))],
    PLIF: [c for c in _IAF if c.name.startswith("PLIF")],
    Synapse: [Case(f"Synapse-{short(leak)}", partial(Synapse, leak)) for leak in LEAKS],
    DoubleExponential: [
        Case("DoubleExponential-equal", partial(DoubleExponential, ExactJump(3.0), ExactJump(3.0))),
        Case("DoubleExponential-unlike", partial(DoubleExponential, Euler(2.0), ExactJump(4.0))),
    ],
    SynapticDelay: [
        Case("SynapticDelay", partial(SynapticDelay, longest=4, initial=3.0)),
        Case("SynapticDelay-none", partial(SynapticDelay, longest=2)),
    ],
    HeldDropout: [
        Case("HeldDropout", partial(HeldDropout, 0.3)),
        Case("HeldDropout-evaluating", lambda: HeldDropout(0.3).eval()),
    ],
    NoisyLIF: [
        Case("NoisyLIF", NoisyLIF),
        Case("NoisyLIF-channel", partial(NoisyLIF, 8.0, 0.3, over="channel", match="variance", first="rest")),
        Case("NoisyLIF-uniform", partial(NoisyLIF, None, noise="uniform")),
        Case("NoisyLIF-without", partial(NoisyLIF, 2.0, noise="none", reset=HardReset(detach=False))),
    ],
    OnceIF: [Case("OnceIF", OnceIF), Case("OnceIF-loose", partial(OnceIF, 0.7, strict=False, v_init=0.1))],
    LatencyCode: [Case("LatencyCode", partial(LatencyCode, 9)), Case("LatencyCode-long", partial(LatencyCode, 40))],
    TSSLNeuron: [
        Case("TSSLNeuron", TSSLNeuron, risen),
        Case("TSSLNeuron-other", partial(TSSLNeuron, 8.0, 4.0, 0.7), risen),
    ],
}


SOON = {
    "v_rest": -65.0,
    "v_reset": -65.0,
    "v_th": -64.6,
    "tau": 4.0,
    "refractory": 1.0,
    "h": 1.0,
}  # fires in some steps
PARTNER = partial(ConductanceLIF, 2.0, -60.0, -60.0, -55.0, refractory=0.0, h=1.0)
TEMPORAL |= {
    RefractoryLIF: [
        Case("RefractoryLIF", partial(RefractoryLIF, **SOON)),
        Case("RefractoryLIF-jump", partial(RefractoryLIF, **SOON, jump=True)),
    ],
    ConductanceLIF: [Case("ConductanceLIF", partial(ConductanceLIF, **SOON | {"v_th": -60.0}))],
    Izhikevich: [
        Case("Izhikevich", partial(Izhikevich, h=1.0)),
        Case("Izhikevich-half-step", partial(Izhikevich, h=1.0, half_step=True)),
    ],
    HodgkinHuxley: [Case("HodgkinHuxley", partial(HodgkinHuxley, h=0.05))],
    AdaptiveLIF: [
        Case("AdaptiveLIF", partial(AdaptiveLIF, 3.0, 5.0)),
        Case("AdaptiveLIF-refractory", partial(AdaptiveLIF, 3.0, 5.0, beta=0.5, refractory=1)),
    ],
    SRM0: [
        Case("SRM0", partial(SRM0, 3.0, 1.0)),
        Case("SRM0-alpha", partial(SRM0, 2.0, 2.0)),
        Case("SRM0-no-synapse", partial(SRM0, 3.0, 0.0)),
    ],
    Delta: [Case("Delta", partial(Delta, 0.7)), Case("Delta-many", partial(Delta, 0.7, many=True))],
    Competition: [
        Case(
            "Competition",
            lambda: Competition(
                cell=ConductanceLIF(**SOON | {"v_th": -63.0}), partner=PARTNER(), inhibition=3.0, theta=3.0
            ),
        ),
        Case(
            "Competition-direct",
            lambda: Competition(cell=RefractoryLIF(**SOON, jump=True), inhibition=1.0, theta=0.1),
        ),
    ],
}
STRONGER = {Izhikevich: 60.0, HodgkinHuxley: 250.0}  # what drives these in a few steps


def temporal_cases() -> list[Case]:
    """Every module that sees time."""
    return _cases(Temporal, TEMPORAL)


def run(module: Temporal, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """`module.run`, with the same global generator at the start of every sequence (for `HeldDropout`)."""
    with torch.random.fork_rng(devices=[]):
        if state is None:
            torch.manual_seed(3)
        return module.run(x, state)


def drive(module: Temporal, shape: tuple[int, ...], dtype: torch.dtype = F32, seed: int = 0) -> Tensor:
    """A current [T, B, ...] that makes a neuron fire now and then; spikes where the module is a synapse."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g, dtype=F64) * 1.3 + 0.4
    x = x * STRONGER.get(type(module), 1.0)
    passes_on = (Synapse, DoubleExponential, HeldDropout, LatencyCode, Charge, Delay, Once, MaxPoolGate, SynapticDelay)
    return (x > 0.9).to(dtype) if isinstance(module, passes_on) else x.to(dtype)


def fired(case: Case, module: Temporal, x: Tensor, out: Tensor) -> Tensor:
    """Which neurons fired; for a synapse, where its input did."""
    if case.fired:
        return case.fired(out)
    spikes = module.spikes_in(out)
    return (x if spikes is None else spikes) != 0


def assert_active(spikes: Tensor) -> None:
    """Between 1 % and 99 % of the neurons and steps have a spike: on silence every law holds."""
    share = (spikes != 0).double().mean().item()
    assert 0.01 <= share <= 0.99, f"{share:.2%} spiking proves nothing"


def tensors(state: Any) -> list[Tensor]:
    """All tensors of a nested state."""
    if isinstance(state, Tensor):
        return [state]
    return [t for part in state for t in tensors(part)] if isinstance(state, (tuple, list)) else []


# ---- encoders, readouts, losses

ENCODERS: dict[type, list[Case]] = {
    encode.WeightedPhase: [
        Case("WeightedPhase", encode.WeightedPhase),
        Case("WeightedPhase-weighted", partial(encode.WeightedPhase, 4, weighted=True)),
    ],
    encode.Burst: [Case("Burst", encode.Burst), Case("Burst-t_max", partial(encode.Burst, 3, 1, 4))],
    encode.Bernoulli: [
        Case("Bernoulli", encode.Bernoulli),
        Case("Bernoulli-gain", partial(encode.Bernoulli, 0.4)),
        Case("Bernoulli-signed", partial(encode.Bernoulli, 0.8, signed=True)),
    ],
    encode.Normalized: [
        Case("Normalized", partial(encode.Normalized, encode.Bernoulli(0.9, signed=True), (0.4,), (0.3,))),
    ],
    encode.LinearLatency: [
        Case("LinearLatency", encode.LinearLatency),
        Case("LinearLatency-zero-last", partial(encode.LinearLatency, silent_zero=False)),
    ],
    encode.Population: [
        Case("Population", encode.Population),
        Case("Population-window", partial(encode.Population, window=5.0)),
    ],
    encode.RankOrder: [
        Case("RankOrder", encode.RankOrder),
        Case("RankOrder-even", partial(encode.RankOrder, even=True)),
    ],
    encode.RampLatency: [Case("RampLatency", partial(encode.RampLatency, 5.0, 0.2))],
    encode.TwoTimes: [Case("TwoTimes", partial(encode.TwoTimes, 3.3))],
}
TRAINS = (((1, 3),), ((4,),), ((),))  # of one neuron, asked of all outputs
READOUTS: dict[type, list[Case]] = {
    **{
        kind: [Case(f"{kind.__name__}-{short(leak)}", partial(kind, leak)) for leak in (Factor(1.0), Euler(3.0))]
        for kind in (readout.LastMembrane, readout.MeanMembrane, readout.MaxMembrane)
    },
    readout.NHot: [Case("NHot", partial(readout.NHot, 2)), Case("NHot-3", partial(readout.NHot, 3, True, 5))],
    readout.Recent: [Case("Recent-3", partial(readout.Recent, 3)), Case("Recent-1", partial(readout.Recent, 1))],
    readout.NearestTrain: [
        Case("NearestTrain", partial(readout.NearestTrain, TRAINS)),
        Case("NearestTrain-reach", partial(readout.NearestTrain, TRAINS, 3.0, 0.5)),
    ],
    readout.Vote: [
        Case("Vote-2", partial(readout.Vote, 2)),
        Case("Vote-2-MaxMembrane", partial(readout.Vote, 2, readout.MaxMembrane(Factor(0.9)))),
    ],
}
LOSSES: dict[type, list[Case]] = {
    losses.CountMargin: [
        Case("CountMargin", losses.CountMargin),
        Case("CountMargin-low", partial(losses.CountMargin, 4.0, 1.0)),
    ],
    losses.SquaredTime: [Case("SquaredTime", partial(losses.SquaredTime, (0.4, 0.1, 0.2, 0.3)))],
    losses.OneEarly: [Case("OneEarly", partial(losses.OneEarly, 0.1, 0.5))],
}


def encoder_cases() -> list[Case]:
    """Every encoder."""
    return _cases(encode.Encoder, ENCODERS)


def readout_cases() -> list[Case]:
    """Every readout."""
    return _cases(readout.Readout, READOUTS)


def encoders_with_readouts() -> list[Any]:
    """Every encoder with a readout, every readout with an encoder: pairs (encoder, readout), not the whole product."""
    encoders, readouts = encoder_cases(), readout_cases()
    count = max(len(encoders), len(readouts))
    pairs = [(encoders[i % len(encoders)], readouts[(i + k) % len(readouts)]) for k in (0, 7) for i in range(count)]
    return [pytest.param(e, r, id=f"{e}-{r}") for e, r in pairs]


def loss_cases() -> list[Case]:
    """Every loss."""
    return _cases(losses.Loss, LOSSES)


def images(encoder: Any, batch: int, steps: int, dtype: torch.dtype = F64, seed: int = 0, shape=(1, 8, 8)) -> Tensor:
    """Values in 0..1 that the encoder takes, [B, ...]; with a time axis for frames."""
    g = torch.Generator().manual_seed(seed)
    size = (batch, steps, *shape) if isinstance(encoder, encode.Frames) else (batch, *shape)
    return torch.rand(size, generator=g, dtype=F64).to(dtype)


def run_of(steps: int, batch: int, classes: int, dtype: torch.dtype = F64, seed: int = 0) -> tuple[Run, Tensor]:
    """A made-up run with random outputs and scores, and its classes."""
    g = torch.Generator().manual_seed(seed)
    out = torch.rand(steps, batch, classes, generator=g, dtype=F64).to(dtype)
    scores = torch.rand(steps, batch, classes, generator=g, dtype=F64).to(dtype)
    return Run(out, scores), torch.randint(classes, (batch,), generator=g)


# ---- networks


class SkipNet(nn.Module):
    """A network as a user writes one: a skip connection, and a single activation module used in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 8 * 8, 10)
        self.act = LIF(1.5, v_th=0.5)
        self.out = LIF(1.5, v_th=0.2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv1(x))
        y = self.act(self.conv2(y) + y)
        return self.out(self.fc(y.flatten(1)))


def synapse_net() -> nn.Module:
    """Dense layers with a filtered synapse in front of each neuron."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 20),
        Synapse(ExactJump(3.0)),
        LIF(leak=Exact(4.0), v_th=0.3),
        nn.Linear(20, 10),
        DoubleExponential(Euler(2.0), Euler(3.0)),
        LIF(v_th=0.1),
    )


def tssl_net() -> nn.Module:
    """Input synapse, then layers of TSSL neurons."""
    body = arch("4C3-P2-10", data=(1, 8, 8), neuron=TSSLNeuron(v_th=0.3), spiking_output=True)
    return nn.Sequential(Synapse(Euler(3.0)), *body.children())


# Bodies [N, 1, 8, 8] -> [N, 10]. The networks of recipes are added here: name -> function that builds the body.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: arch("4C3-AP2-10", data=(1, 8, 8), neuron=LIF(1.5, v_th=0.4)),
    "norm": lambda: arch("4C3-AP2-10", data=(1, 8, 8), neuron=LIF(1.5, v_th=0.4), batch_norm=True),
    "skip": SkipNet,
    "plif": lambda: arch("4C3-AP2-10", data=(1, 8, 8), neuron=PLIF(1.5, v_th=0.4)),
    "if": lambda: arch("4C3-MP2-10", data=(1, 8, 8), neuron=IF(v_th=0.7)),
    "tssl": tssl_net,
    "synapse": synapse_net,
    "noisy": lambda: arch("4C3-AP2-10", data=(1, 8, 8), neuron=NoisyLIF(), spiking_output=True),
    "smooth-derivative": lambda: arch("4C3-AP2-10", data=(1, 8, 8), neuron=LIF(1.5, v_th=0.4, surrogate=Sigmoid())),
}


def network(
    name: str,
    steps: int = 6,
    encoder: encode.Encoder | None = None,
    read: readout.Readout | None = None,
    dtype: torch.dtype = F64,
    seed: int = 1,
) -> SNN:
    """A network of `NETWORKS` with fixed weights, in evaluation mode; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = NETWORKS[name]()
        if encoder is not None and encoder.cells > 1:  # several trains a value: folded into one channel first
            body = nn.Sequential(nn.Conv2d(encoder.cells, 1, 1), *([body] if name == "skip" else body))
        snn = SNN(body, steps, encoder, read)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in snn.parameters():
            if p.dim() > 1:
                bound = 2.0 / p[0].numel() ** 0.5
                p.copy_(torch.rand(p.shape, generator=g) * 2 * bound - bound * 0.9)
    return snn.to(dtype).eval()


class Recorder:
    """What every temporal module of a network handed on, call by call, while it is open."""

    def __init__(self, snn: SNN) -> None:
        self.snn = snn
        self.blocks: dict[str, list[Tensor]] = {}

    def __enter__(self) -> Recorder:
        modules = [(n, m) for n, m in self.snn.named_modules() if isinstance(m, Temporal)]
        self._hooks = [m.register_forward_hook(self._hook(n)) for n, m in modules]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, out: Tensor) -> None:
            self.blocks.setdefault(name, []).append(out.detach())

        return keep


def layers(snn: SNN, act: Callable[[], Any], batch: int, calls_per_forward: int = 1) -> dict[str, Tensor]:
    """Run `act` and return the outputs [T, B, ...] of each temporal module (and call of it)."""
    with Recorder(snn) as recorder:
        act()
    found = {}
    for name, blocks in recorder.blocks.items():
        calls = 2 if isinstance(snn.body, SkipNet) and name.endswith("act") else calls_per_forward
        for k in range(calls):
            found[f"{name}#{k}"] = torch.cat([b.unflatten(0, (-1, batch)) for b in blocks[k::calls]])
    return found


def assert_network_active(found: dict[str, Tensor], snn: SNN) -> None:
    """Every neuron layer fires, and none always."""
    modules = dict(snn.named_modules())
    for name, out in found.items():
        module = modules[name.split("#")[0]]
        if module.spikes:
            assert_active(out)
        elif isinstance(module, TSSLNeuron):
            assert_active(risen(out))


def one_line(error: BaseException, *contains: str) -> str:
    """The message, asserted to be one line that contains the given texts."""
    text = str(error)
    assert text and "\n" not in text and "\r" not in text, f"not one line: {text!r}"
    for part in contains:
        assert part in text, f"{part!r} not in {text!r}"
    return text
