"""NaN and infinity stop a run within one step; silence is told; clipping and clamping hold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import spikewright as sw
from spikewright.data import Dataset, Split
from spikewright.engine.optim import SGD
from spikewright.engine.session import Session
from spikewright.engine.trainer import Trainee, Trainer
from spikewright.engine.upkeep import Upkeep
from spikewright.errors import ConfigError, NumericError, SpikewrightError
from spikewright.losses import CrossEntropy, KernelSpikeMSE, RateMSE
from spikewright.phases import Fit
from spikewright.storage import Checkpoints


def tiny(samples: int = 40) -> Dataset:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(samples, 1, 6, 6, generator=draw)
    y = torch.arange(samples) % 4
    return Dataset.from_tensors("tiny", x, y, x[:8], y[:8])


def network(v_th: float = 0.05, spiking_output: bool = False, **parts: Any) -> sw.SNN:
    torch.manual_seed(3)
    neuron = sw.LIF(2.0, v_th=v_th)
    return sw.SNN(sw.arch("4C3-P2-8-4", (1, 6, 6), neuron, spiking_output=spiking_output, **parts), 3)


class Poisoned(CrossEntropy):
    """From some step on, the gradient of one parameter is NaN or infinite."""

    def __init__(self, parameter: torch.nn.Parameter, step: int, value: float = math.nan):
        self.__dict__.update(parameter=parameter, step=step, value=value, calls=0)

    def __call__(self, run: sw.Run, target: torch.Tensor) -> torch.Tensor:
        self.__dict__["calls"] += 1
        if self.calls == self.step:
            self.parameter.register_hook(lambda grad: torch.full_like(grad, self.value))
        return super().__call__(run, target)


def stopped(snn: sw.SNN, **options: Any) -> str:
    with pytest.raises(NumericError) as caught:
        sw.fit(snn, tiny(), epochs=3, batch=10, progress=False, **options)
    line = str(caught.value)
    assert caught.value.code == 6 and "\n" not in line
    return line


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("name", ["body.conv1.weight", "body.fc2.bias", "body.fc3.weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_that_step_and_names_its_parameter(
    name: str, clip: float | None, value: float
) -> None:
    snn = network()
    loss = Poisoned(snn.get_parameter(name), step=6, value=value)
    line = stopped(snn, loss=loss, clip=clip)
    assert loss.calls == 6  # not one step more
    assert repr(name) in line and "epoch 2, step 2" in line
    assert all(p.isfinite().all() for p in snn.parameters())


@pytest.mark.parametrize("poisoned", ["conv1.weight", "fc2.bias", "fc3.weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_no_silence(poisoned: str, value: float) -> None:
    snn = network()  # with a hard reset an infinite potential is a spike like any other
    snn.body.get_parameter(poisoned).data.view(-1)[0] = value
    loss = Poisoned(snn.body.fc3.bias, step=0)
    line = stopped(snn, loss=loss)
    assert loss.calls <= 1
    assert poisoned in line or poisoned[:3].replace("con", "neuron1").replace("fc", "neuron") in line or "fc3" in line


ABSURD = {"limit": 40, "progress": False, "arch": "4C3-P2-8-10", "steps": 3, "epochs": 3, "batch": 10, "lr": 1e30}


def test_an_absurd_learning_rate_stops_with_the_last_checkpoint_intact(tmp_path: Path) -> None:
    with pytest.raises(NumericError) as caught:
        sw.train("surrogate", "digits", out=tmp_path / "run", checkpoint_minutes=0.0, **ABSURD)
    assert "\n" not in str(caught.value) and "NaN or infinite" in str(caught.value)
    found = Checkpoints(tmp_path / "run" / "checkpoint").latest()
    assert found is not None and found[0] <= 2
    assert all(tensor.isfinite().all() for tensor in found[1].values())
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("recipe", ["stbp", "tssl-bp"])
def test_where_a_spike_bounds_everything_an_absurd_learning_rate_leaves_finite_weights(recipe: str) -> None:
    snn = sw.train(recipe, "digits", **ABSURD)
    weights = [float(p.detach().abs().max()) for p in snn.parameters()]
    assert max(weights) == 4.0 if recipe == "tssl-bp" else 1e20 < max(weights) < math.inf


def test_weights_spoiled_by_the_last_step_of_all_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    snn = network()

    def spoil(self: torch.optim.Optimizer, closure: Any = None) -> None:
        snn.body.fc3.weight.data.fill_(math.nan)  # no neuron behind it whose membrane would tell

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    with pytest.raises(NumericError, match="fc3"):
        sw.fit(snn, tiny(), epochs=1, batch=100, progress=False)


def test_nan_in_the_data_is_refused() -> None:
    x = torch.rand(20, 1, 6, 6)
    x[3, 0, 2, 2] = math.nan
    with pytest.raises(SpikewrightError, match="NaN"):
        sw.fit(network(), Dataset.from_tensors("bad", x, torch.arange(20) % 4, x[:4], torch.arange(4)), progress=False)


# ---------------------------------------------------------------------------------------------------- silent layers


def test_a_dead_layer_is_named_after_the_first_epoch_and_once(capfd: pytest.CaptureFixture[str]) -> None:
    snn = network()
    snn.body.neuron2.v_th = 1e6
    sw.fit(snn, tiny(), epochs=2, batch=10)
    lines = [line for line in capfd.readouterr().err.splitlines() if "did not fire" in line]
    assert len(lines) == 1 and "'neuron2'" in lines[0] and "neuron1" not in lines[0]


def test_a_living_network_is_not_warned_of(capfd: pytest.CaptureFixture[str]) -> None:
    snn = network()
    sw.fit(snn, tiny(), epochs=1, batch=10)
    rates = sw.measure.firing_rates(snn, tiny().train.batch(torch.arange(20)))
    assert all(0 < rate < 1 for rate in rates.values()), rates
    err = capfd.readouterr().err
    assert "warning" not in err and "epoch 1/1" in err


# ---------------------------------------------------------------------------------------------- what a step does


def test_clipping_bounds_the_global_norm() -> None:
    before = network()
    norms = {}
    for clip in (None, 1e-3):
        snn = network()
        sw.fit(snn, tiny(), epochs=1, batch=100, validation=0.0, optimizer=SGD(1.0, momentum=0.0), clip=clip)
        moved = [a - b for a, b in zip(snn.parameters(), before.parameters(), strict=True)]
        norms[clip] = float(torch.cat([m.detach().flatten() for m in moved]).norm())
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3) and norms[None] > 0.01


def test_a_mean_loss_over_batches_of_unequal_size_is_the_mean_over_samples() -> None:
    frozen = SGD(1e-30, momentum=0.0)
    lines = [
        sw.fit(network(), tiny(), epochs=1, batch=b, validation=0.0, optimizer=frozen, progress=False)[0]
        for b in (40, 16, 7)
    ]
    assert lines[1]["loss"] == pytest.approx(lines[0]["loss"], rel=1e-5)
    assert lines[2]["loss"] == pytest.approx(lines[0]["loss"], rel=1e-5)
    assert lines[0]["train_accuracy"] == lines[1]["train_accuracy"] == lines[2]["train_accuracy"]


def test_a_summed_loss_is_recorded_per_sample_too() -> None:
    frozen = {"optimizer": SGD(1e-30, momentum=0.0), "loss": KernelSpikeMSE(), "validation": 0.0, "progress": False}
    lines = [sw.fit(network(spiking_output=True), tiny(), epochs=1, batch=b, **frozen)[0] for b in (40, 16)]
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0}, {"epochs": -1}, {"epochs": 1.5}, {"epochs": True}, {"batch": 0}, {"batch": "64"},
        {"clip": 0.0}, {"clip": math.nan}, {"clip": -1.0}, {"weight_clamp": 0.0}, {"weight_clamp": math.inf},
        {"validate_steps": 0},
    ],
)  # fmt: skip
def test_bad_settings_of_a_fit_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))) as caught:
        Fit(network(), RateMSE(), **values)
    assert "\n" not in str(caught.value)


def test_a_network_without_parameters_is_refused() -> None:
    bare = sw.SNN(torch.nn.Sequential(torch.nn.Flatten(), sw.LIF(2.0)), 2)
    with pytest.raises(ConfigError, match="nothing to train"):
        sw.fit(bare, tiny(), progress=False)


class Wipe(Upkeep):
    """Sets all weights to 0, after which every sample is a tie."""

    calls = 0

    @torch.no_grad()
    def __call__(self, snn: sw.SNN, split: Split, generator: torch.Generator) -> int:
        type(self).calls += 1
        for p in snn.parameters():
            p.zero_()
        return 4


def test_what_is_renewed_between_epochs_is_tested_only_after_it_could_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wipe, "calls", 0)
    snn, seen = network(), []
    before = {k: v.clone() for k, v in snn.state_dict().items()}
    standing = SGD(1e-30, momentum=0.0)
    accuracy = Trainer._accuracy
    monkeypatch.setattr(Trainer, "_accuracy", lambda self, split: seen.append(accuracy(self, split)) or seen[-1])
    session = Session(tiny(), seed=0, validation=0.3, progress=False)
    Fit(snn, CrossEntropy(), epochs=3, batch=10, optimizer=standing, upkeep=Wipe()).run(session)
    assert Wipe.calls == 2  # not after the last epoch
    assert [line.get("renewed") for line in session.records] == [4, 4, None]
    assert seen[0] > max(seen[1:3])
    assert all(torch.equal(snn.state_dict()[k], v) for k, v in before.items())  # the first epoch's are the best


def test_the_average_of_the_weights_is_validated_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    snn, passed, tested = network(), [], []
    settle, accuracy = Trainee.settle, Trainer._accuracy

    def now() -> torch.Tensor:
        return torch.cat([p.detach().flatten().clone() for p in snn.parameters()]).double()

    monkeypatch.setattr(Trainee, "settle", lambda self: (settle(self), passed.append(now()))[0])
    monkeypatch.setattr(Trainer, "_accuracy", lambda self, split: (tested.append(now()), accuracy(self, split))[1])
    session = Session(tiny(), seed=0, validation=0.25, progress=False)
    fit = Fit(snn, CrossEntropy(), epochs=4, batch=10, optimizer=SGD(0.5), average=0.25)
    fit.run(session)
    mean, means = passed[0], []
    for n, weights in enumerate(passed):
        mean = mean + max(0.25, 1 / (n + 1)) * (weights - mean)
        means.append(mean)
    assert len(passed) == 12 and (passed[0] - passed[-1]).abs().max() > 0.1
    for epoch, weights in enumerate(tested):
        torch.testing.assert_close(weights, means[3 * epoch + 2], rtol=1e-5, atol=1e-6)
    last = torch.cat([fit.last[n].flatten() for n, _ in snn.named_parameters()]) if fit.last else now()
    torch.testing.assert_close(last.double(), means[-1], rtol=1e-5, atol=1e-6)
    for wrong in (0.0, 1.5, math.nan):
        with pytest.raises(ConfigError, match="average is"):
            Fit(snn, average=wrong)


def test_validation_has_steps_of_its_own_and_training_ends_where_it_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    snn, steps, found = network(), [], iter([0.2, 0.6, 0.9, 0.3])
    run = sw.SNN.run
    monkeypatch.setattr(sw.SNN, "run", lambda *a, **more: steps.append(more.get("steps")) or run(*a, **more))
    accuracy = Trainer._accuracy
    monkeypatch.setattr(Trainer, "_accuracy", lambda self, split: (accuracy(self, split), next(found))[1])
    session = Session(tiny(), seed=0, validation=0.25, progress=False)
    Fit(snn, CrossEntropy(), epochs=9, batch=30, steps=1, validate_steps=4, until=0.6).run(session)
    assert [line["validation_accuracy"] for line in session.records] == [0.2, 0.6]
    assert steps == [1, 4, 1, 4]
