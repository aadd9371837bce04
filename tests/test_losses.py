"""Losses against their formulas written out with plain loops."""

import math

import cases
import pytest
import torch
from cases import F64

from spikewright.errors import ConfigError
from spikewright.losses import (
    CountMargin,
    CrossEntropy,
    EarlyCrossEntropy,
    KernelSpikeMSE,
    LastOutput,
    OneEarly,
    OwnScore,
    RateMSE,
    RelativeTarget,
    SquaredTime,
    Tempotron,
    TimeLoss,
    TimeMargin,
)
from spikewright.snn import Run

STEPS, BATCH, CLASSES = 7, 4, 5


def made(steps=STEPS):
    """A run whose outputs are spikes (their mean the scores), and its classes."""
    run, target = cases.run_of(steps, BATCH, CLASSES)
    out = (run.out < 0.4).double()
    cases.assert_active(out)
    return Run(out, out.cumsum(0) / torch.arange(1, steps + 1).view(-1, 1, 1)), target


def numbers(tensor):
    return tensor.tolist()


def test_cross_entropy():
    run, target = made()
    total = 0.0
    for row, c in zip(numbers(run.scores[-1]), target.tolist(), strict=True):
        total -= row[c] - math.log(sum(map(math.exp, row)))
    assert CrossEntropy()(run, target).item() == pytest.approx(total / BATCH, rel=1e-12)


def test_rate_mse():
    run, target = made()
    total = 0.0
    for row, c in zip(numbers(run.scores[-1]), target.tolist(), strict=True):
        total += sum((float(k == c) - rate) ** 2 for k, rate in enumerate(row))
    assert RateMSE()(run, target).item() == pytest.approx(total / BATCH / CLASSES, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 10, 13, 30])
@pytest.mark.parametrize("tau_s", [3.0, 4.0, 1.5])
def test_kernel_spike_mse(steps, tau_s):
    run, target = made(steps) if steps > 2 else cases.run_of(steps, BATCH, CLASSES)
    wished = [float(t % 2) for t in range(steps)] if steps >= 10 else [float(t > 0) for t in range(steps)]
    psc, a = [], 0.0
    for s in wished:
        a += (s - a) / tau_s
        psc.append(a)
    total = 0.0
    for t in range(steps):
        for b, c in enumerate(target.tolist()):
            for k in range(CLASSES):
                total += 0.5 * (run.out[t, b, k].item() - (psc[t] if k == c else 0)) ** 2
    assert KernelSpikeMSE(tau_s)(run, target).item() == pytest.approx(total, rel=1e-12)
    assert KernelSpikeMSE(tau_s).train(steps).tolist() == wished


def test_the_wished_current_of_five_steps():
    """Outputs equal to it cost nothing: 0, .333333, .555556, .703704, .802469 at tau_s = 3."""
    psc = torch.tensor([0, 1 / 3, 5 / 9, 19 / 27, 65 / 81], dtype=F64)
    out = torch.zeros(5, 1, 3, dtype=F64)
    out[:, 0, 1] = psc
    assert KernelSpikeMSE(3.0)(Run(out, out), torch.tensor([1])).item() == pytest.approx(0, abs=1e-20)
    assert psc.tolist() == pytest.approx([0, 0.333333, 0.555556, 0.703704, 0.802469], abs=1e-6)


def test_kernel_spike_mse_has_the_difference_as_its_gradient():
    run, target = made(5)
    out = run.out.requires_grad_()
    (found,) = torch.autograd.grad(KernelSpikeMSE()(Run(out, run.scores), target), out)
    psc = torch.tensor([0, 1 / 3, 5 / 9, 19 / 27, 65 / 81], dtype=F64)
    onehot = torch.nn.functional.one_hot(target, CLASSES)
    torch.testing.assert_close(found, out.detach() - psc[:, None, None] * onehot, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("desired, undesired", [(15.0, 3.0), (3.0, 1.0), (2.0, 0.0)])
def test_count_margin(desired, undesired):
    run, target = made()
    out = run.out.requires_grad_()
    total, wanted = 0.0, torch.zeros(BATCH, CLASSES, dtype=F64)
    for b, c in enumerate(target.tolist()):
        for k in range(CLASSES):
            count = out[:, b, k].sum().item()
            delta = (count - (desired if k == c else undesired)) / STEPS
            if (k == c and delta > 0) or (k != c and delta < 0):
                delta = 0.0
            wanted[b, k] = delta
            total += 0.5 * delta**2 * STEPS
    loss = CountMargin(desired, undesired)(Run(out, run.scores), target)
    assert loss.item() == pytest.approx(total, rel=1e-12) and total > 0
    (found,) = torch.autograd.grad(loss, out)
    torch.testing.assert_close(found, wanted.expand(STEPS, BATCH, CLASSES), rtol=1e-12, atol=1e-12)


def test_count_margin_is_0_once_all_counts_are_where_they_should_be():
    out = torch.zeros(20, 1, 3)
    out[:16, 0, 2] = 1
    out[:2, 0, 0] = 1
    assert CountMargin()(Run(out, out), torch.tensor([2])) == 0
    assert CountMargin()(Run(out, out), torch.tensor([0])) > 0


def test_every_loss_is_lower_for_the_right_class():
    out = torch.zeros(20, 1, 3, dtype=F64)
    out[1::2, 0, 2] = 1
    run = Run(out, out.cumsum(0) / 20)
    early = Run(torch.tensor([[[16.0, 12.0, 8.0]]], dtype=F64), run.scores)
    for loss in (case.make() for case in cases.loss_cases()):
        if isinstance(loss, (LastOutput, SquaredTime)):  # the body computes the one, the other asks all for one time
            continue
        seen = early if isinstance(loss, TimeLoss) else run
        assert loss(seen, torch.tensor([2])) < loss(seen, torch.tensor([0])), loss


def test_the_last_output_is_the_mean_of_what_the_body_says():
    out = torch.rand(4, 3, 5, dtype=F64)
    assert LastOutput()(Run(out, out), torch.tensor([0, 1, 2])) == out[-1, :, -1].mean()


TIMES = torch.tensor([[3.0, 4.0, 9.0, math.inf], [math.inf] * 4, [5.0, 2.0, 2.0, 7.0]], dtype=F64)


def of_times(loss, classes, steps=20):
    times = TIMES.clone().requires_grad_()
    value = loss(Run(times[None], torch.zeros(steps, 3, 4, dtype=F64)), torch.tensor(classes))
    (grad,) = torch.autograd.grad(value, times)
    return value.item(), grad


def test_relative_targets_by_hand():
    # the true class second: 3 -> 6, 4 -> 3; all silent: 20 -> T - gamma; the true class third: the other 2 -> 5
    errors = [[3, -1, 0, 0], [0, 0, -3, 0], [0, 3, 0, 0]]
    value, grad = of_times(RelativeTarget(3.0), [1, 2, 2])
    assert value == pytest.approx(sum(math.hypot(*e) for e in errors) / 3)
    for e, g in zip(errors, grad.tolist(), strict=True):  # the authors' normalised error, shared by the batch
        assert g == pytest.approx([-x / math.hypot(*e) / 3 for x in e])
    value, grad = of_times(RelativeTarget(3.0, skip_silent=True), [1, 2, 2])
    assert not grad[1].any() and grad[0].any()


def test_small_errors_enter_by_their_square_as_in_hubers_loss():
    errors = [[3, -1, 0, 0], [0, 0, -3, 0], [0, 3, 0, 0]]
    value, grad = of_times(RelativeTarget(3.0, huber=3.1), [1, 2, 2])  # the first is longer, the others shorter
    lengths = [math.hypot(*e) for e in errors]
    assert value == pytest.approx((lengths[0] - 3.1 / 2 + (lengths[1] ** 2 + lengths[2] ** 2) / 6.2) / 3)
    for e, length, g in zip(errors, lengths, grad.tolist(), strict=True):
        assert g == pytest.approx([-x / max(length, 3.1) / 3 for x in e])
    run = Run(torch.tensor([[[2.0, 9.0]]], requires_grad=True), torch.zeros(20, 1, 2))
    loss = RelativeTarget(huber=5.0)(run, torch.tensor([0]))
    assert loss == 0 and not torch.autograd.grad(loss, run.out)[0].any()


def test_the_true_class_may_be_asked_for_a_time_of_its_own():
    # at most 2.5: the first 3 -> 2.5 and the others behind it, silent ones 20 -> 2.5
    _, plain = of_times(RelativeTarget(3.0), [1, 2, 2])
    _, grad = of_times(RelativeTarget(3.0, by=2.5), [1, 2, 2])
    wanted = TIMES.clamp(max=20)
    for b, true in enumerate([1, 2, 2]):
        first = wanted[b].min()
        if first < 20:
            near = wanted[b] - first < 3
            wanted[b, near] = first + 3
        wanted[b, true] = min(float(first), 2.5)
    error = wanted - TIMES.clamp(max=20)
    torch.testing.assert_close(grad, -error / error.norm(dim=1, keepdim=True) / 3)
    assert not torch.equal(grad, plain)
    with pytest.raises(ConfigError, match="after the end of the run"):
        of_times(RelativeTarget(3.0, by=20.0), [1, 2, 2])


def test_an_image_without_error_has_a_gradient_of_0():
    run = Run(torch.tensor([[[2.0, 9.0]]], requires_grad=True), torch.zeros(20, 1, 2))
    loss = RelativeTarget()(run, torch.tensor([0]))
    (grad,) = torch.autograd.grad(loss, run.out)
    assert loss == 0 and not grad.any()


def test_squared_times_by_hand():
    value, grad = of_times(SquaredTime((16.0, 10.0)), [1, 0, 1])
    ends = TIMES.clamp(max=20)  # a silent output is one at T, and has a gradient
    wanted = torch.tensor([[10.0], [16.0], [10.0]], dtype=F64)
    assert value == pytest.approx(0.5 * float((ends - wanted).square().sum()))
    torch.testing.assert_close(grad, ends - wanted)
    value, grad = of_times(OneEarly(4.0, 8.0), [1, 0, 1])
    wanted = torch.full_like(TIMES, 8.0)
    wanted[[0, 1, 2], [1, 0, 1]] = 4.0
    assert value == pytest.approx(0.5 * float((ends - wanted).square().sum()))
    torch.testing.assert_close(grad, ends - wanted)


def test_time_margins_by_hand():
    value, grad = of_times(TimeMargin(0.2, 0.5), [1, 2, 3])  # shares .15 .2 .45 1; 1 1 1 1; .25 .1 .1 .35
    errors = [0.35, 0, 0.05, 0, 0, 0, 0.8, 0, 0.25, 0.4, 0.4, 0.15]
    assert value == pytest.approx(sum(e * e for e in errors) / 3)
    assert (grad[0, :3] <= 0).all() and grad[1, 2] > 0 and grad[2, 3] > 0


def test_early_cross_entropy_by_hand():
    value, _ = of_times(EarlyCrossEntropy(2.0, 0.01, 10.0), [1, 2, 3])
    total = 0.0
    for row, c in zip(TIMES.clamp(max=20).tolist(), [1, 2, 3], strict=True):
        total += -math.log(math.exp(-row[c] / 2) / sum(math.exp(-t / 2) for t in row))
        total += 0.01 * (math.exp(row[c] / 10) - 1)
    assert value == pytest.approx(total / 3)


@pytest.mark.parametrize("loss", [SquaredTime((16.0, 10.0, 1.0)), OneEarly(2.0, 16.0)], ids=repr)
def test_a_wanted_time_after_the_end_is_refused(loss):
    with pytest.raises(ConfigError, match=r"16, after the end of the run: expected below its 12 steps"):
        of_times(loss, [0, 1, 0], steps=12)


def test_the_tests_above_cover_every_loss():
    assert set(cases.listed(cases.losses.Loss)) == {
        *(CrossEntropy, RateMSE, KernelSpikeMSE, CountMargin, LastOutput, OwnScore, Tempotron),
        *(RelativeTarget, SquaredTime, OneEarly, TimeMargin, EarlyCrossEntropy),
    }


def test_own_score():
    run, target = made()
    total = sum(-run.scores[-1, b, c].item() for b, c in enumerate(target.tolist()))
    assert OwnScore()(run, target).item() == pytest.approx(total / BATCH, rel=1e-12)


@pytest.mark.parametrize("neurons", [1, CLASSES])
def test_tempotron(neurons):
    run, target = cases.run_of(STEPS, BATCH, CLASSES)
    out, target = 1.2 * run.out[..., :neurons], target.clamp(max=1) if neurons == 1 else target
    total, wrong = 0.0, 0
    for b in range(BATCH):
        for k in range(neurons):
            should = int(target[b]) == (1 if neurons == 1 else k)
            top = max(out[:, b, k].tolist())
            if (top >= 1.0) != should:
                total, wrong = total + abs(1.0 - top), wrong + 1
    assert wrong and Tempotron(1.0)(Run(out, run.scores), target).item() == pytest.approx(total / BATCH, rel=1e-12)
