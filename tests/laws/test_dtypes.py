"""Dtype and device follow the input; what is summed up over time is kept in at least float32."""

import cases
import pytest
import torch
from cases import DTYPES, F32, F64, assert_active, network

from spikewright import noise
from spikewright.encode import Frames, LinearLatency, LogLatency
from spikewright.neurons import IF, LIF, DoubleExponential, Euler, ExactJump, Factor, HeldDropout, Synapse
from spikewright.readout import LastMembrane, MaxMembrane, MeanMembrane, Rate, Vote
from spikewright.snn import SNN

HALF = (torch.float16, torch.bfloat16)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_half = pytest.mark.parametrize("dtype", HALF, ids=str)


@each_dtype
@pytest.mark.parametrize("case", cases.temporal_cases(), ids=repr)
def test_a_temporal_module_hands_on_the_dtype_of_its_current(case, dtype):
    module = case.make()
    x = cases.drive(module, (10, 2, 5), dtype)
    out, state = cases.run(module, x)
    assert_active(cases.fired(case, module, x, out))
    assert out.dtype == dtype and out.shape == x.shape
    membranes = [s for s in cases.tensors(state) if s.is_floating_point()]
    assert all(s.dtype == (F64 if dtype == F64 else F32) for s in membranes), "membranes of low precision"


@each_dtype
@pytest.mark.parametrize("case", cases.encoder_cases(), ids=repr)
def test_an_encoder_hands_on_the_dtype_of_its_values(case, dtype):
    encoder = case.make()
    x = cases.images(encoder, 3, 6, dtype)
    out = encoder.run(x, 0, 6, 6, 1)
    assert out.dtype == dtype
    assert out.shape == (6, 3, encoder.cells, 8, 8)
    if encoder.spikes and case.name != "Frames":
        assert_active(out)


@each_dtype
@pytest.mark.parametrize("case", cases.readout_cases(), ids=repr)
def test_a_readout_hands_on_the_dtype_of_the_outputs(case, dtype):
    out = cases.run_of(6, 3, 4, dtype)[0].out
    assert case.make().run(out)[0].dtype == dtype


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("case", cases.loss_cases(), ids=repr)
def test_a_loss_is_a_finite_scalar_of_its_inputs_precision(case, dtype):
    run, target = cases.run_of(6, 3, 4, dtype)
    loss = case.make()(run, target)
    exact = case.make()(cases.Run(run.out.double(), run.scores.double()), target)
    assert loss.shape == () and loss.dtype == dtype
    assert loss.double().item() == pytest.approx(exact.item(), rel=8 * torch.finfo(dtype).eps)


@each_dtype
@pytest.mark.parametrize("name", cases.NETWORKS)
def test_a_network_runs_in_every_dtype_and_scores_in_at_least_float32(name, dtype):
    for case in cases.encoder_cases():
        snn = network(name, 4, case.make(), dtype=dtype)
        x = cases.images(snn.encode, 3, 4, dtype)
        run = snn.run(x)
        assert run.out.dtype == run.scores.dtype == (F64 if dtype == F64 else F32)
        assert snn.scores(x, chunk=1).dtype == run.scores.dtype
        assert snn.predict(x).dtype == torch.long


@each_half
@pytest.mark.parametrize(
    "make",
    [
        lambda: LIF(200.0, v_th=0.05),
        lambda: LIF(leak=ExactJump(500.0), v_th=20.0),
        lambda: IF(v_th=3.0),
        lambda: Synapse(Euler(300.0)),
        lambda: Synapse(Factor(1.0)),
        lambda: DoubleExponential(Euler(50.0), Euler(200.0)),
        lambda: HeldDropout(0.0),
    ],
    ids=["LIF-200", "LIF-500", "IF", "Synapse-300", "Synapse-sum", "DoubleExponential", "HeldDropout"],
)
def test_a_half_precision_current_gives_the_float32_result_rounded(make, dtype):
    g = torch.Generator().manual_seed(0)
    x = (torch.rand(400, 2, 5, generator=g) * 0.3).to(dtype)
    with torch.no_grad():
        out, wanted = make().run(x)[0], make().run(x.float())[0]
    assert (wanted != 0).any()
    assert torch.equal(out, wanted.to(dtype))


@each_half
@pytest.mark.parametrize(
    "read",
    [Rate(), LastMembrane(), MeanMembrane(), MaxMembrane(Factor(0.99)), Vote(2), Vote(2, MeanMembrane())],
    ids=repr,
)
def test_half_precision_spikes_give_the_float32_scores(read, dtype):
    """400 steps: a count kept in bfloat16 stops at 256."""
    g = torch.Generator().manual_seed(0)
    spikes = (torch.rand(3, 400, 6, generator=g) < torch.rand(6, generator=g) * 0.3 + 0.7).to(dtype)
    assert_active(spikes)
    snn = SNN(torch.nn.Flatten(), 400, Frames(), read)
    assert torch.equal(snn.scores(spikes), snn.scores(spikes.float()))


@each_dtype
@pytest.mark.parametrize("encoder", [LinearLatency(), LinearLatency(silent_zero=False), LogLatency(200.0)], ids=repr)
def test_a_value_fires_once_however_many_steps_there_are(encoder, dtype):
    """Steps past 256 have no exact bfloat16, past 2048 no exact float16."""
    x = torch.linspace(0.3, 1, 50, dtype=F64).to(dtype)[None]
    steps = 2600 if dtype == torch.float16 else 600
    spikes = encoder.run(x, 0, steps, steps)
    assert (spikes.float().sum(0) == 1).all()


def test_a_float64_network_keeps_float64_precision_in_held_dropout():
    module = HeldDropout(0.3)
    x = torch.ones(4, 2, 50, dtype=F64)
    out, _ = cases.run(module, x)
    kept = out[out != 0]
    assert 0 < len(kept) < out.numel()
    assert torch.allclose(kept, torch.full_like(kept, 1 / 0.7), rtol=1e-15, atol=0)


@pytest.mark.parametrize("case", cases.temporal_cases() + cases.readout_cases(), ids=repr)
def test_no_part_makes_a_tensor_on_another_device_than_its_input(case):
    """Tensors of the meta device mix with no other: one made on the CPU would raise."""
    part = case.make()
    part = part.to("meta") if isinstance(part, torch.nn.Module) else part
    out, state = part.run(torch.rand(4, 2, 6, device="meta"))
    out, state = part.run(torch.rand(4, 2, 6, device="meta"), state)
    assert {t.device.type for t in (out, *cases.tensors(state))} == {"meta"}


def test_noise_and_losses_stay_on_the_device():
    keys = noise.sample_keys(torch.rand(3, 5, device="meta"))
    assert noise.uniform(keys, 1, 0, 4, (5,)).device.type == "meta"
    for case in cases.loss_cases():
        run, _ = cases.run_of(6, 3, 4)
        run = cases.Run(*(t.to("meta") for t in run))
        if case.name.startswith("CrossEntropy"):  # one_hot has no meta kernel
            assert case.make()(run, torch.zeros(3, dtype=torch.long, device="meta")).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", cases.NETWORKS)
def test_a_gpu_draws_the_same_spikes(name):
    for case in cases.encoder_cases():
        snn = network(name, 6, case.make())
        x = cases.images(snn.encode, 3, 6)
        wanted = snn.run(x)
        run = snn.to("cuda").run(x.cuda())
        assert run.out.device.type == run.scores.device.type == "cuda"
        torch.testing.assert_close(run.out.cpu(), wanted.out, rtol=1e-9, atol=1e-9)
        assert torch.equal(snn.predict(x), wanted.scores[-1].argmax(-1))
