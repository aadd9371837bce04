"""What a user can get wrong ends in one line that names the thing and the value found, and never in silence."""

import inspect
import math

import cases
import numpy as np
import pytest
import torch
from cases import F32, F64, network, one_line
from torch import nn

from spikewright import losses, neurons, readout
from spikewright.clock import Clock
from spikewright.encode import Bernoulli, Direct, Frames, LinearLatency, LogLatency, Poisson
from spikewright.errors import ConfigError, DataError, NumericError, SpikewrightError
from spikewright.neurons import LIF, Factor, Synapse, TSSLNeuron
from spikewright.snn import SNN, Run

NAN, INF = math.nan, math.inf


def refused(act, *contains, kind=SpikewrightError):
    with pytest.raises(kind) as caught:
        act()
    assert isinstance(caught.value, SpikewrightError)
    return one_line(caught.value, *contains)


# ---- constructor fields

FIELDS = {
    (neurons.LIF, "tau"): (0.5, 0, -1, -2.0),
    (neurons.LIF, "v_th"): (0, -1.0),
    (neurons.IF, "v_th"): (0, -1.0),
    (neurons.PLIF, "tau"): (1, 0.5, 0, -3.0),
    (neurons.PLIF, "v_th"): (0, -1.0),
    (neurons.TSSLNeuron, "tau_m"): (1, 0.5, 0, -3.0),
    (neurons.TSSLNeuron, "tau_s"): (1, 0.5, 0, -3.0),
    (neurons.TSSLNeuron, "v_th"): (0, -1.0),
    (neurons.IF, "size"): (0, -1.0),
    (neurons.TunableLIF, "k"): (0, -0.1, 1.1),
    (neurons.TunableLIF, "v_th"): (0, -1.0),
    (neurons.NoisyLIF, "alpha"): (1.99, 0, -4.0),
    (neurons.NoisyLIF, "beta"): (-0.1, 1.1),
    (neurons.NoisyLIF, "v_th"): (0, -1.0),
    (neurons.HeldDropout, "p"): (1, 1.5, -0.1),
    (neurons.Factor, "k"): (-0.1, 1.1),
    (neurons.Euler, "tau"): (0.5, 0, -1),
    (neurons.EulerJump, "tau"): (0.5, 0, -1),
    (neurons.Exact, "tau"): (0, -1),
    (neurons.ExactJump, "tau"): (0, -1),
    (neurons.UnitPeak, "tau"): (0, -1),
    (neurons.UnitPeak, "rise"): (0, -1, 10.0),
    (neurons.SynapticDelay, "inputs"): (0, 1.5),
    (neurons.SynapticDelay, "longest"): (0, True),
    (neurons.SynapticDelay, "initial"): (-1.0, 101.0),
    (readout.NearestTrain, "tau"): (0, -1.0),
    (readout.NearestTrain, "reach"): (0, -1.0, NAN),
    (Bernoulli, "gain"): (0, -0.5, 1.5),
    (Poisson, "rate"): (0, -0.5, 17),
    (LogLatency, "tau"): (0, -1.0),
    (LogLatency, "theta"): (0, 1, -0.2, 1.5),
    (readout.Leading, "size"): (0, -1, 2.5, NAN, True),
    (readout.SpikingSoftmax, "seed"): (1.5, NAN, True),
    (readout.Vote, "size"): (0, -1, 2.5, NAN, INF, True),
    (losses.CountMargin, "desired"): (3.0, 1.0),
    (losses.CountMargin, "undesired"): (15.0, -1.0),
    (losses.KernelSpikeMSE, "tau_s"): (0.5, 0, -1),
}


def bad_fields():
    """The table above, and NaN and both infinities for every float field of every listed class."""
    rows = [(kind, name, value) for (kind, name), values in FIELDS.items() for value in values]
    for kind in (*(c for base in cases.ABSTRACT for c in cases.listed(base)),):
        for name, p in inspect.signature(kind).parameters.items():
            if p.annotation in ("float", float):
                rows += [(kind, name, value) for value in (NAN, INF, -INF)]
    unique = {(k.__name__, n, repr(v)): (k, n, v) for k, n, v in rows}
    return [pytest.param(*row, id="-".join(key)) for key, row in unique.items()]


@pytest.mark.parametrize("kind, name, value", bad_fields())
def test_a_field_out_of_range_is_refused_when_the_part_is_made(kind, name, value):
    text = refused(lambda: kind(**{name: value}), name, str(value), kind=ConfigError)
    assert any(c.__name__ in text for c in (kind, *cases.listed(neurons.Leak)))


def test_the_bad_fields_are_found_by_listing():
    assert len(bad_fields()) > 90


def test_a_delayed_reset_needs_a_membrane_that_remembers():
    """Subtracting at the next step, after the leak, means nothing where the leak forgets everything."""
    for leak in (Factor(0.0), neurons.Euler(1.0), neurons.ExactJump(1e-6)):
        module = LIF
        refused(lambda m=module, leak=leak: m(leak=leak, reset=neurons.Subtract(delayed=True)).run(torch.ones(3, 2, 2)))


# ---- steps

BAD_STEPS = [0, -1, 1.5, 2.0, True, "3", NAN, [4]]


@pytest.mark.parametrize("steps", BAD_STEPS, ids=repr)
def test_a_number_of_steps_is_a_whole_number_of_at_least_1(steps):
    snn = network("conv")
    x = cases.images(snn.encode, 2, 6)
    refused(lambda: SNN(nn.Identity(), steps), "steps", repr(steps), kind=ConfigError)
    refused(lambda: snn.run(x, steps=steps), "steps", repr(steps), kind=ConfigError)
    refused(lambda: snn.scores(x, steps=steps), "steps", repr(steps), kind=ConfigError)
    refused(lambda: snn.scores(x, chunk=steps), "chunk", repr(steps), kind=ConfigError)
    refused(lambda: snn.stream()(x, steps), "steps", repr(steps), kind=ConfigError)


def test_steps_of_another_integer_type_are_taken():
    snn = network("conv", np.int64(3))
    assert snn.scores(cases.images(snn.encode, 2, 3), steps=np.int32(2), chunk=np.uint8(1)).shape == (2, 2, 10)


# ---- inputs

GOOD = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def with_value(value, dtype=F32):
    x = GOOD.clone().to(dtype)
    x[1, 0, 3, 3] = value
    return x


BAD_INPUTS = {
    "list": GOOD.tolist(),
    "array": GOOD.numpy(),
    "none": None,
    "object-array": np.array([None, "x"], dtype=object),
    "int64": GOOD.long(),
    "uint8": (GOOD * 255).byte(),
    "bool": GOOD > 0.5,
    "complex": GOOD.to(torch.complex64),
    "scalar": torch.tensor(0.5),
    "one-dimension": torch.rand(8),
    "nan": with_value(NAN),
    "inf": with_value(INF),
    "-inf": with_value(-INF),
    "channels": GOOD.expand(2, 3, 8, 8),
    "larger": torch.rand(2, 1, 12, 12),
    "smaller": torch.rand(2, 1, 4, 4),
    "tiny": torch.rand(2, 1, 1, 1),
    "flat": torch.rand(2, 5),
    "three-dimensions": torch.rand(2, 9, 8),
    "five-dimensions": torch.rand(2, 1, 1, 9, 8),
    "no-pixels": torch.rand(2, 1, 0, 8),
    "float64": GOOD.double(),
    "half": GOOD.half(),
}


@pytest.mark.parametrize("name", cases.NETWORKS)
@pytest.mark.parametrize("bad", BAD_INPUTS)
def test_an_input_that_does_not_fit_is_refused_by_every_network(name, bad):
    snn, x = network(name, 3, dtype=F32), BAD_INPUTS[bad]
    refused(lambda: snn(x))
    refused(lambda: snn.run(x, steps=1))
    refused(lambda: snn.scores(x, chunk=1))
    refused(lambda: snn.stream()(x))
    assert Clock._running.get() is None


@pytest.mark.parametrize("case", cases.encoder_cases(), ids=repr)
@pytest.mark.parametrize("bad", [b for b in BAD_INPUTS if b not in ("five-dimensions",)])
def test_an_input_that_does_not_fit_is_refused_with_every_encoder(case, bad):
    encoder, x = case.make(), BAD_INPUTS[bad]
    if isinstance(encoder, Frames) and isinstance(x, torch.Tensor) and x.dim() > 1:
        x = x.unsqueeze(1).expand(len(x), 3, *x.shape[1:])
    snn = network("conv", 3, encoder, dtype=F32)
    text = refused(lambda: snn(x))
    refused(lambda: snn.stream()(x))
    if bad in ("nan", "int64", "uint8", "complex"):
        assert {"nan": "NaN"}.get(bad, bad) in text


@pytest.mark.parametrize("case", cases.encoder_cases(), ids=repr)
@pytest.mark.parametrize("value", [1.5, -0.5, 255.0, 1e38, -1e38])
def test_values_out_of_range_are_refused_by_the_encoders_that_need_0_to_1(case, value):
    encoder = case.make()
    if isinstance(encoder, (Direct, Frames)):
        assert encoder.run(cases.images(encoder, 2, 3, shape=()), 0, 3, 3).shape[0] == 3
        return
    if "signed" in case.name and value == -0.5:
        return
    snn = network("conv", 3, encoder, dtype=F32)
    refused(lambda: snn(with_value(value)), type(encoder).__name__, f"{value:.4g}", kind=DataError)


def test_denormal_inputs_are_taken_and_huge_ones_overflow_loudly():
    snn = network("conv", 3, dtype=F32)
    assert snn(torch.full_like(GOOD, 1e-42)).isfinite().all()
    snn = network("conv", 3, dtype=F32)
    with torch.no_grad():
        snn.body[0].weight.mul_(100)
    refused(lambda: snn(torch.full_like(GOOD, 1e38)), kind=NumericError)


@pytest.mark.parametrize("frames", [0, 1, 2, 4])
def test_frames_must_be_as_many_as_the_steps(frames):
    snn = network("conv", 3, Frames(), dtype=F32)
    refused(lambda: snn(torch.rand(2, frames, 1, 8, 8)), str(frames), "3", kind=DataError)


def test_frames_need_a_time_axis():
    assert "frames" in refused(lambda: network("conv", 3, Frames(), dtype=F32)(GOOD), kind=DataError)


@pytest.mark.parametrize("sizes", [(2, 3), (3, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize("name", cases.NETWORKS)
def test_a_stream_keeps_its_batch_size(name, sizes):
    snn = network(name, 3, dtype=F32)
    stream = snn.stream()
    stream(torch.rand(sizes[0], 1, 8, 8))
    refused(lambda: stream(torch.rand(sizes[1], 1, 8, 8)))


BAD_IMAGES = {
    "object-array": np.array([None, "x"], dtype=object),
    "words": np.array(["a", "b"]),
    "text": "digits.png",
    "none": None,
    "int64": GOOD.long().numpy(),
    "complex": GOOD.numpy().astype(np.complex64),
    "nan": with_value(NAN).numpy(),
    "inf": with_value(INF).numpy(),
    "one-dimension": np.zeros(5, np.float32),
    "channels": np.zeros((2, 3, 8, 8), np.uint8),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_predict_refuses_what_are_not_images(bad):
    refused(lambda: network("conv", 3, dtype=F32).predict(BAD_IMAGES[bad]))


def test_predict_takes_numpys_own_float64():
    snn = network("conv", 3, dtype=F32)
    assert torch.equal(snn.predict(GOOD.double().numpy()), snn.predict(GOOD))


@pytest.mark.parametrize("batch", [0, -1, 1.5, "4", True, None], ids=repr)
def test_predict_refuses_a_batch_size_that_is_none(batch):
    refused(lambda: network("conv", 3, dtype=F32).predict(GOOD, batch=batch), "batch", repr(batch))


# ---- empty batches


@pytest.mark.parametrize("case, read", cases.encoders_with_readouts())
def test_an_empty_batch_gives_empty_results(case, read):
    snn = network("conv", 3, case.make(), read.make())
    x = cases.images(snn.encode, 0, 3)
    classes = snn(cases.images(snn.encode, 1, 3)).shape[1]
    assert snn(x).shape == (0, classes)
    assert snn.scores(x, chunk=2).shape == (3, 0, classes)
    first = x[:, :1] if isinstance(snn.encode, Frames) else x
    assert snn.stream()(first).shape == (0, classes)
    assert snn.predict(x).shape == (0,) and snn.predict(x).dtype == torch.long


@pytest.mark.parametrize("name", cases.NETWORKS)
def test_an_empty_batch_passes_through_every_network(name):
    snn = network(name, 3)
    assert snn(cases.images(snn.encode, 0, 3)).shape == (0, 10)
    assert snn.predict(np.zeros((0, 1, 8, 8), np.uint8)).shape == (0,)


@pytest.mark.parametrize("case", cases.temporal_cases(), ids=repr)
def test_an_empty_batch_passes_through_every_temporal_module(case):
    out, _ = case.make().run(torch.zeros(3, 0, 4))
    assert out.shape == (3, 0, 4)


# ---- modules called on their own

BAD_CURRENTS = {
    "no-steps": torch.zeros(0, 2, 3),
    "scalar": torch.tensor(1.0),
    "int64": torch.ones(3, 2, 3, dtype=torch.long),
    "bool": torch.ones(3, 2, 3, dtype=torch.bool),
    "complex": torch.ones(3, 2, 3, dtype=torch.complex64),
}
KINDS = {type(c.make()).__name__: c for c in cases.temporal_cases()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", BAD_CURRENTS)
def test_a_current_that_is_none_is_refused_by_every_temporal_module(kind, bad):
    refused(lambda: KINDS[kind].make().run(BAD_CURRENTS[bad]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_temporal_module_called_outside_a_network_says_so(kind):
    refused(lambda: KINDS[kind].make()(torch.rand(4, 3)), kind, "SNN", kind=ConfigError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_leading_dimension_that_is_no_multiple_of_the_steps_is_refused(kind):
    with Clock(4):
        refused(lambda: KINDS[kind].make()(torch.rand(6, 3)), kind, "6", "4", kind=ConfigError)


# ---- bodies


class Returns(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


BAD_BODIES = {
    "image": lambda x: x,
    "one-dimension": lambda x: x.flatten(),
    "half-the-batch": lambda x: x.flatten(1)[: len(x) // 2],
    "mean-over-batch": lambda x: x.flatten(1).mean(0, keepdim=True),
    "none": lambda x: None,
    "tuple": lambda x: (x.flatten(1), x),
    "list": lambda x: x.flatten(1).tolist(),
}


@pytest.mark.parametrize("bad", BAD_BODIES)
def test_a_body_that_hands_on_something_else_is_refused(bad):
    refused(lambda: SNN(Returns(BAD_BODIES[bad]), 3)(GOOD), "body", kind=ConfigError)


def test_a_body_that_drops_the_batch_inside_is_refused_by_its_neuron():
    body = nn.Sequential(Returns(lambda x: x.flatten(1)[:-1]), LIF())
    refused(lambda: SNN(body, 3)(GOOD), "LIF", kind=ConfigError)


def test_a_vote_needs_a_multiple_of_its_size():
    refused(lambda: network("conv", 3, read=readout.Vote(3))(GOOD.double()), "Vote", "10", "3", kind=ConfigError)


# ---- NaN and infinity in the weights

VALUES = {"nan": NAN, "inf": INF, "-inf": -INF}


def parts_of(name):
    """Names of the parameters and floating-point buffers of a network."""
    snn = network(name)
    found = [n for n, p in snn.named_parameters()]
    return found + [n for n, b in snn.named_buffers() if b.is_floating_point()]


WEIGHTS = [
    (name, part) for name in ("conv", "norm", "skip", "plif", "if", "tssl", "synapse") for part in parts_of(name)
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name, part", WEIGHTS)
def test_a_weight_that_is_not_finite_stops_the_run_and_names_a_layer(name, part, value):
    snn = network(name, 3, dtype=F32)
    tensor = snn.state_dict()[part]
    tensor.view(-1)[0] = VALUES[value]
    if part.endswith("running_var") and value == "inf":
        return  # 1 / inf is 0: a constant, finite output is right
    if name == "plif" and part.endswith(".w") and value != "nan":
        return  # sigmoid(inf) is 1: a neuron with a time constant of one step, or one that never leaks
    layer = part.removeprefix("body.").rsplit(".", 1)[0]
    for act in (snn, lambda x: snn.scores(x, chunk=1), lambda x: snn.stream()(x), snn.predict):
        text = refused(lambda act=act: act(GOOD), kind=NumericError)
        assert any(
            n.removeprefix("body.") and f"{n.removeprefix('body.')!r}" in text for n, _ in snn.named_modules()
        ), f"names no layer: {text}; the value is in {layer}"


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("part", ["body.conv1.weight", "body.fc2.weight", "body.fc2.bias"])
@pytest.mark.parametrize("read", [readout.Rate(), readout.LastMembrane(), readout.MaxMembrane()], ids=repr)
def test_it_also_stops_a_run_that_ends_in_a_layer_without_neuron(part, value, read):
    with torch.random.fork_rng(devices=[]):
        body = cases.arch("4C3-AP2-10", data=(1, 8, 8), neuron=LIF(1.5, v_th=0.4), spiking_output=False)
    snn = SNN(body, 3, readout=read)
    assert snn(GOOD).isfinite().all()
    snn.state_dict()[part].view(-1)[0] = VALUES[value]
    refused(lambda: snn(GOOD), kind=NumericError)


@pytest.mark.parametrize("part", ["body.conv1.weight", "body.fc2.weight"])
def test_it_also_stops_a_network_without_any_neuron(part):
    with torch.random.fork_rng(devices=[]):
        snn = SNN(cases.arch("4C3-AP2-10", data=(1, 8, 8), neuron=nn.ReLU()), 1)
    assert snn(GOOD).isfinite().all()
    snn.state_dict()[part].view(-1)[0] = NAN
    refused(lambda: snn(GOOD), kind=NumericError)


# ---- losses

BAD_TARGETS = {
    "too-large": torch.tensor([0, 4, 1]),
    "negative": torch.tensor([0, -1, 1]),
    "ignored": torch.tensor([0, -100, 1]),
    "too-many": torch.tensor([0, 1, 1, 2]),
    "one-hot": torch.eye(4)[:3].long(),
    "float": torch.tensor([0.0, 1.0, 2.0]),
    "nan": torch.tensor([0.0, NAN, 2.0]),
    "bool": torch.tensor([True, False, True]),
    "complex": torch.tensor([0j, 1j, 2]),
}


@pytest.mark.parametrize("bad", BAD_TARGETS)
@pytest.mark.parametrize("case", cases.loss_cases(), ids=repr)
def test_targets_that_are_no_classes_are_refused_by_every_loss(case, bad):
    run, _ = cases.run_of(6, 3, 4)
    refused(lambda: case.make()(run, BAD_TARGETS[bad]))


@pytest.mark.parametrize("case", cases.loss_cases(), ids=repr)
def test_one_sample_one_step_and_one_class_are_enough(case):
    for steps, batch, classes in ((1, 3, 4), (5, 1, 4), (5, 3, 1), (1, 1, 1)):
        run, target = cases.run_of(steps, batch, classes)
        assert case.make()(run, target).isfinite()


@pytest.mark.parametrize("case", cases.encoder_cases(), ids=repr)
def test_one_sample_one_step_and_one_output_are_enough_for_a_network(case):
    encoder = case.make()
    dense = nn.Linear(64 * encoder.cells, 1)
    body = nn.Sequential(nn.Flatten(), dense, Synapse(Factor(0.5)), LIF(v_th=0.05), nn.Linear(1, 1), TSSLNeuron())
    snn = SNN(body, 1, encoder)
    assert snn(cases.images(snn.encode, 1, 1, F32)).shape == (1, 1)
    assert Run(*snn.run(cases.images(snn.encode, 1, 1, F32))).out.shape == (1, 1, 1)


def test_latency_of_one_step_fires_at_once():
    assert LinearLatency().run(torch.tensor([[0.0, 0.2, 1.0]], dtype=F64), 0, 1, 1).tolist() == [[[0.0, 1.0, 1.0]]]
