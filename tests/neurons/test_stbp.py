"""The gradient of a leaky neuron against the recursion written out by hand (STBP, Wu et al. 2018)."""

import cases
import pytest
import torch
from cases import F64, assert_active
from torch.autograd import grad

from spikewright.neurons import LIF, Factor, HardReset, Subtract
from spikewright.surrogate import ATan, Rectangle, Sigmoid


def potentials(module, x):
    """Potential before the reset, at every step."""
    decay, gain = module.coefficients()
    state, found = torch.full_like(x[0], module.v_init), []
    for i in x:
        found.append(decay * state + gain * i)
        state = module.run(i[None], (state,))[1][0]
    return torch.stack(found)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("surrogate", [Rectangle(1.0), ATan(), Sigmoid()], ids=repr)
@pytest.mark.parametrize("k, v_th", [(0.2, 0.5), (0.5, 0.3), (0.9, 1.0)])
@pytest.mark.parametrize("soft", [False, True])
def test_autograd_is_the_recursion(k, v_th, surrogate, detach, soft):
    """du[t] = g[t] sg[t] + du[t+1] k ((1 - s[t]) - u[t] sg[t]); detached, without the last term. Soft reset likewise,
    with d v / d u = 1 - v_th sg[t], or 1."""
    reset = Subtract(detach) if soft else HardReset(detach=detach)
    module = LIF(leak=Factor(k), v_th=v_th, reset=reset, surrogate=surrogate, strict=True)
    x = cases.drive(module, (20, 3, 7), F64).requires_grad_()
    g = torch.randn(20, 3, 7, generator=torch.Generator().manual_seed(1), dtype=F64)
    spikes, _ = module.run(x)
    assert_active(spikes)
    (found,) = grad((spikes * g).sum(), x)

    with torch.no_grad():
        u = potentials(module, x)
    sg = surrogate.derivative(u - v_th)
    assert (sg > 0).any()
    du, wanted = torch.zeros(3, 7, dtype=F64), []
    for t in range(19, -1, -1):
        keep = 1 - (0 if detach else v_th) * sg[t] if soft else (1 - spikes[t]) - (0 if detach else 1) * u[t] * sg[t]
        du = g[t] * sg[t] + du * k * keep
        wanted.insert(0, du)
    torch.testing.assert_close(found, torch.stack(wanted).detach(), rtol=1e-12, atol=1e-12)
    assert (found != 0).any()


def test_attached_and_detached_differ():
    found = []
    for detach in (True, False):
        module = LIF(leak=Factor(0.5), v_th=0.3, reset=HardReset(detach=detach), surrogate=Sigmoid())
        x = cases.drive(module, (20, 3, 7), F64).requires_grad_()
        spikes, _ = module.run(x)
        assert_active(spikes)
        found.append(grad(spikes.sum(), x)[0])
    assert not torch.allclose(*found)
