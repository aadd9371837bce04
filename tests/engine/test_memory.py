"""Less memory for more time, and the forecast of what a training takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cases
import pytest
import torch
from cases import F32, F64, network

import spikewright as sw
from spikewright.errors import ConfigError
from spikewright.measure.memory import allocations, peak_bytes, resident_bytes
from spikewright.recipes.backprop.stbp import STBP
from spikewright.snn import BLOCK
from spikewright.training import forecast

CPU = torch.device("cpu")


@pytest.mark.parametrize("steps", [1, BLOCK, BLOCK + 1, 23])
@pytest.mark.parametrize("name", ["conv", "skip", "plif", "if", "norm"])
def test_recomputed_activations_give_the_same_gradients(name, steps):
    snn = network(name, steps, dtype=F64)
    x = cases.images(snn.encode, 3, steps, dtype=F64)
    found = []
    for recompute in (False, True):
        snn.zero_grad()
        run = snn.run(x, recompute=recompute)
        (run.scores.square().sum() + run.out.sum()).backward()
        found.append((run, [p.grad.clone() for p in snn.parameters()]))
    (plain, gradients), (again, same) = found
    assert plain.out.count_nonzero() > 0
    assert torch.equal(plain.out, again.out) and torch.allclose(plain.scores, again.scores, rtol=1e-12)
    assert any(g.count_nonzero() for g in gradients)
    for g, h in zip(gradients, same, strict=True):
        torch.testing.assert_close(h, g, rtol=1e-9, atol=1e-12)


def _deep(steps: int) -> sw.SNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = sw.arch("8C3-AP2-16C3-AP2-30-10", (1, 16, 16), sw.LIF(v_th=0.05), spiking_output=True)
    return sw.SNN(body, steps)


def _peak(snn: sw.SNN, x: torch.Tensor, recompute: bool) -> int:
    with allocations(CPU) as peak:
        run = snn.run(x, recompute=recompute)
        run.scores[-1].square().sum().backward()
    assert run.out.count_nonzero() > 0
    snn.zero_grad(set_to_none=True)
    return peak.bytes


def test_four_times_the_steps_fit_where_one_did():
    x = torch.rand(16, 1, 16, 16)
    _peak(_deep(4), x, False)  # kernels compiled
    ordinary, low = _peak(_deep(16), x, False), _peak(_deep(64), x, True)
    assert low <= ordinary < _peak(_deep(64), x, False) / 3


def test_batch_norm_in_training_does_not_go_with_recomputing():
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.BatchNorm1d(10), sw.LIF())
    snn = sw.SNN(body, 4)
    with pytest.raises(ConfigError, match=r"'body.2' \(BatchNorm1d\) needs them all"):
        snn.run(torch.rand(3, 1, 8, 8), recompute=True)
    snn.eval()
    assert snn.run(torch.rand(3, 1, 8, 8), recompute=True).scores.shape == (4, 3, 10)


def test_a_neuron_whose_state_takes_no_gradient_does_not_go_with_recomputing():
    snn = network("tssl", 8)
    with pytest.raises(ConfigError, match="TSSLNeuron"):
        snn.run(cases.images(snn.encode, 2, 8), recompute=True)


def test_allocations_counts_what_was_alive_at_once():
    with allocations(CPU) as peak:
        a = torch.zeros(1000, dtype=F32)
        b = a + 1
        del a
        c = b + 1
    assert 8000 <= peak.bytes < 8100 and c.sum() == 2000
    assert 0 < resident_bytes() <= peak_bytes() * 1.01  # the kernel counts pages in batches


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's own figure is taken")
def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it(tmp_path: Path):
    parent = """
import subprocess, sys
big = bytearray(400 * 2**20)
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""
    child = "from spikewright.measure.memory import peak_bytes, resident_bytes; print(peak_bytes() - resident_bytes())"
    said = subprocess.run([sys.executable, "-c", parent, child], capture_output=True, check=True, cwd=tmp_path)
    assert int(said.stdout) < 100 * 2**20


def test_a_forecast_grows_with_the_steps_and_trains_nothing():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    told = forecast(STBP(arch="8C3-P2-20-10", steps=8, batch=32, epochs=1), "digits")
    assert torch.equal(torch.get_rng_state(), before)
    assert told.steps == 8 and told.batch == 32 and {t for t, _ in told.peak} == {4, 8, 16}
    assert told.peak[4, "normal"] < told.peak[8, "normal"] < told.peak[16, "normal"]
    assert told.peak[16, "low"] < told.peak[16, "normal"]
    assert told.total(8, "normal") == told.present + told.peak[8, "normal"] > told.present > 10**7


def test_a_forecast_of_a_network_with_batch_norm_leaves_low_out_and_refuses_it():
    told = forecast("surrogate", "digits", arch="8C3-P2-20-10", steps=2)
    assert told.peak[2, "normal"] and told.peak[2, "low"] is None and told.total(2, "low") is None
    with pytest.raises(ConfigError, match="BatchNorm"):
        forecast("surrogate", "digits", arch="8C3-P2-20-10", steps=2, memory="low")


MEASURED = """
import sys
from pathlib import Path
import spikewright as sw
from spikewright.measure.memory import resident_bytes
from spikewright.storage import read_json
from spikewright.recipes.backprop.stbp import STBP
from spikewright.training import forecast
plan = STBP(arch="32C3-P2-32C3-P2-100-10", steps=40, batch=200, epochs=1)
if sys.argv[1] == "forecast":
    told = forecast(plan, "digits", precision="float32")
    print(told.peak[40, "normal"])
else:
    data = sw.load("digits")
    sw.train(STBP(arch=plan.arch, steps=2, batch=10, epochs=1), data, limit=20, precision="float32", progress=False)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here, not from an earlier one
    before = resident_bytes()
    sw.train(plan, data, out="run", limit=400, precision="float32", progress=False)
    print(round(read_json(Path("run/summary.json"))["train_peak_memory_mb"] * 1e6) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures the resident set")
def test_a_forecast_is_within_thirty_percent_of_what_a_training_takes(tmp_path: Path):
    def said(what: str) -> int:
        command = [sys.executable, "-c", MEASURED, what]
        return int(subprocess.run(command, capture_output=True, check=True, cwd=tmp_path).stdout)

    told, took = said("forecast"), said("train")
    assert 0.7 < told / took < 1.3


def test_low_memory_trains_to_the_same_weights():
    data = sw.load("digits").limited(60, 0)
    plan = STBP(arch="4C3-P2-20-10", steps=9, batch=20, epochs=1)
    a, b = (
        sw.train(plan, data, memory=memory, precision="float32", progress=False).state_dict()
        for memory in ("normal", "low")
    )
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="memory is 'none', expected one of normal, low"):
        sw.train(plan, data, memory="none", progress=False)
