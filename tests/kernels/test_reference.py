"""The time loops against the recurrences in plain Python, and every faster path against the loops."""

import importlib
import pkgutil

import cases
import pytest
import torch
from cases import F32, F64, assert_active

from spikewright import kernels
from spikewright.kernels import reference
from spikewright.neurons import HardReset
from spikewright.surrogate import STDB, ATan

SETTINGS = {"decay": 0.7, "gain": 0.6, "v_th": 0.5, "v_init": 0.1, "reset": HardReset(), "strict": False}


def paths(name):
    """Every implementation of a kernel in the package: the definition and the one that is chosen.

    `fused` serves through the chosen one, and answers None where it does not serve.
    """
    modules = [importlib.import_module(f"spikewright.kernels.{m.name}") for m in pkgutil.iter_modules(kernels.__path__)]
    return {m.__name__: getattr(m, name) for m in (*modules, kernels) if hasattr(m, name) and m is not kernels.fused}


def test_the_kernels_are_listed():
    assert {"spikewright.kernels", "spikewright.kernels.reference"} <= set(paths("integrate_and_fire")) & set(
        paths("low_pass")
    )


@pytest.mark.parametrize("path", paths("low_pass"))
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_low_pass_is_its_recurrence(path, dtype):
    x = torch.rand(30, 2, 3, generator=torch.Generator().manual_seed(0), dtype=F64).to(dtype).requires_grad_()
    out, last = paths("low_pass")[path](x, None, decay=0.7, gain=0.6)
    assert torch.equal(out[-1], last)
    for n in range(3):
        a = 0.0
        for t in range(30):
            a = 0.7 * a + 0.6 * x[t, 1, n].item()
            assert out[t, 1, n].item() == pytest.approx(a, rel=1e-6 if dtype == F32 else 1e-13)
    (grad,) = torch.autograd.grad(out.sum(), x)
    wanted = 0.6 * (1 - 0.7 ** torch.arange(30, 0, -1, dtype=F64)) / (1 - 0.7)
    torch.testing.assert_close(grad[:, 0, 0].double(), wanted, rtol=1e-6 if dtype == F32 else 1e-13, atol=0)


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
@pytest.mark.parametrize("path", paths("integrate_and_fire"))
@pytest.mark.parametrize("surrogate", [ATan(), STDB(0.3, 0.1)], ids=repr)
def test_every_path_equals_the_definition(path, surrogate, dtype):
    found = []
    for kernel in (reference.integrate_and_fire, paths("integrate_and_fire")[path]):
        x = cases.drive(cases.LIF(), (20, 3, 5), dtype).requires_grad_()
        out, state = kernel(x, None, surrogate=surrogate, **SETTINGS)
        assert_active(out)
        found.append(((out, *state), torch.autograd.grad(out.sum(), x)[0]))
    (outs, gradient), (wanted, wanted_gradient) = found
    for a, b in zip(outs, wanted, strict=True):
        assert torch.equal(a, b)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(gradient, wanted_gradient, rtol=8 * eps, atol=8 * eps * wanted_gradient.abs().max())


def test_the_age_counts_the_steps_since_the_last_spike():
    surrogate = STDB(0.3, 0.1)
    x = torch.tensor([0.2, 1.5, 0.0, 0.0, 1.5, 0.0], dtype=F64)[:, None, None].requires_grad_()
    out, (_, age) = reference.integrate_and_fire(
        x, None, **SETTINGS | {"decay": 0.0, "gain": 1.0, "v_th": 1.0, "v_init": 0.0}, surrogate=surrogate
    )
    assert out.flatten().tolist() == [0, 1, 0, 0, 1, 0]
    assert age.item() == 1
    (grad,) = torch.autograd.grad(out.sum(), x)
    ages = torch.tensor([reference.NEVER + 1, 0, 1, 2, 0, 1], dtype=F64)
    torch.testing.assert_close(grad.flatten(), 0.3 * torch.exp(-0.1 * ages), rtol=1e-12, atol=0)


def test_the_age_is_handed_on_in_the_state():
    surrogate = STDB(0.3, 0.1)
    x = cases.drive(cases.LIF(), (20, 3, 5), F64)
    whole, last = reference.integrate_and_fire(x, None, surrogate=surrogate, **SETTINGS)
    assert_active(whole)
    state, out = None, []
    for block in x.split([1, 7, 12]):
        part, state = reference.integrate_and_fire(block, state, surrogate=surrogate, **SETTINGS)
        out.append(part)
    assert torch.equal(torch.cat(out), whole)
    assert all(torch.equal(a, b) for a, b in zip(state, last, strict=True)) and len(last) == 2
