"""Formulas read off a surrogate's torch code: spelt in Python again they give what torch gave."""

import gc
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cases import F32, assert_active

from spikewright import surrogate as sg
from spikewright.kernels import formula, fused, reference
from spikewright.kernels.formula import PARAMETERS
from spikewright.neurons import HardReset

GRID = torch.cat([torch.linspace(-20, 20, 161), torch.linspace(-1.3, 1.3, 105)])  # 0, -1 and 1 among them
NAMES = {
    "float32": np.float32,
    "exp": np.exp,
    "sqrt": math.sqrt,
    "abs": abs,
    "min": min,
    "max": max,
}


def variants(entry):
    """With its own numbers, with others, and in units of the threshold."""
    changed = {name: getattr(entry(), name) * 1.7**i for i, name in enumerate(entry.parameters(), 1)}
    return [entry(), entry(**changed), entry(scale_by_threshold=True)]


def written(surrogate, strict, dialect="numba"):
    """The formula's source as a plain Python function of x, v_th and age."""
    found = formula.trace(surrogate, strict)
    names = ["x", "v_th", "age", *(f"p_{name}" for name in found.parameters)]
    body = "".join(f"\n    {line}" for line in found.source(dialect).splitlines())
    space = dict(NAMES)
    exec(f"def slope({', '.join(names)}):{body}", space)
    values = found.values(surrogate)
    return lambda x, v_th, age: space["slope"](x, v_th, age, *values)


@pytest.fixture
def own_parts():
    """For tests that write a surrogate of their own: afterwards no cache keeps its class, so none is listed later."""
    yield
    formula._trace.cache_clear()
    gc.collect()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("entry", sg.catalogue(), ids=lambda e: e.__name__)
def test_every_formula_is_the_derivative(entry, strict):
    for surrogate in variants(entry):
        assert len(formula.trace(surrogate, strict).parameters) <= PARAMETERS
        slope = written(surrogate, strict)
        for v_th, age in ((1.0, 0.0), (0.7, 3.0), (20.0, reference.NEVER)):
            wanted = surrogate.derivative(GRID, v_th, torch.full_like(GRID, age), strict)
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = [slope(np.float32(x), v_th, np.float32(age)) for x in GRID.tolist()]
            assert all(isinstance(value, np.float32) for value in found)
            error = (torch.tensor(np.array(found)).double() - wanted.double()).abs().max().item()
            assert error <= 1e-6 * wanted.abs().max().item(), f"{surrogate} at theta {v_th}: {error:.1e}"
            assert (wanted != 0).any()


@pytest.mark.parametrize("entry", sg.catalogue(), ids=lambda e: e.__name__)
def test_every_formula_is_spelt_in_every_dialect(entry):
    for dialect in formula.DIALECTS:
        source = formula.trace(entry(), False).source(dialect)
        assert source.splitlines()[-1].startswith("return ") and source.count("return") == 1


def slopes(surrogate):
    """The gradient of the kernel and of the definition for a current that spreads around the threshold."""
    found = []
    for way in (fused.integrate_and_fire, reference.integrate_and_fire):
        x = torch.linspace(-1, 3, 101)[None, None].requires_grad_()
        how = {"decay": 0.0, "gain": 1.0, "v_th": 1.0, "v_init": 0.0, "reset": HardReset(), "strict": False}
        s, _ = way(x, None, surrogate=surrogate, pool=0, dtype=F32, **how)
        assert_active(s)
        found.append(torch.autograd.grad(s.sum(), x)[0])
    return found


def test_surrogates_of_one_kind_share_a_formula_whatever_their_numbers():
    two, three = sg.ATan(2.0), sg.ATan(3.0)
    shared = formula.trace(two, False)
    assert formula.trace(three, False) is shared and formula.trace(sg.ATan(2.0), False) is shared
    assert shared.values(two) == [2.0] and shared.values(three) == [3.0]
    gradients = [slopes(surrogate) for surrogate in (two, three)]
    for found, wanted in gradients:
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    assert not torch.allclose(gradients[0][0], gradients[1][0], rtol=0.1)


def test_surrogates_of_different_kinds_share_none():
    kinds = [*(entry() for entry in sg.catalogue()), *(entry(scale_by_threshold=True) for entry in (sg.ATan, sg.STDB))]
    found = [formula.trace(kind, False) for kind in kinds] + [formula.trace(kind, True) for kind in kinds]
    assert len(set(map(id, found))) == len(set(found)) == len(found)


def test_what_a_users_surrogate_holds_besides_its_numbers_makes_it_another_kind(own_parts):
    @dataclass(frozen=True)
    class Stepped(sg.Surrogate):
        height: float = 1.0
        power: int = 1

        def curve(self, x):
            return torch.where(x.abs() < 1, self.height * self.power, 0 * x)

    class Plain(sg.Surrogate):
        """No dataclass: its number is known to nobody."""

        def __init__(self, height):
            object.__setattr__(self, "height", height)

        def curve(self, x):
            return self.height / (1 + x.abs())

    assert formula.trace(Stepped(1.0, 2), False) is formula.trace(Stepped(3.0, 2), False)
    assert formula.trace(Stepped(1.0, 2), False) is not formula.trace(Stepped(1.0, 3), False)
    for surrogate in (Plain(2.0), Plain(3.0)):
        assert formula.trace(surrogate, False).parameters == ()
        with np.errstate(all="ignore"):
            slope = written(surrogate, False)
        x = torch.linspace(-3, 3, 50)
        found = torch.tensor([float(slope(np.float32(v), 1.0, np.float32(0))) for v in x.tolist()])
        torch.testing.assert_close(found, surrogate.curve(x), rtol=1e-6, atol=0)


def test_what_cannot_be_traced_is_none_and_keeps_its_numbers(own_parts):
    def curve_of(function):
        @dataclass(frozen=True)
        class Mine(sg.Surrogate):
            width: float = 2.0

            def curve(self, x):
                return function(self, x)

        return Mine()

    strange = {
        "another operation": lambda self, x: x.sin(),
        "random": lambda self, x: torch.rand_like(x),
        "branches on values": lambda self, x: x if x.max() > 0 else -x,
        "branches on a number": lambda self, x: x if self.width > 1 else -x,
        "python's float": lambda self, x: x * math.sqrt(self.width),
        "a sum": lambda self, x: x / x.sum(),
        "a shape": lambda self, x: x * x.shape[0],
        "another power": lambda self, x: x.abs() ** 1.5,
        "infinite": lambda self, x: x.clamp(max=math.inf),
        "not a number": lambda self, x: torch.where(x > 0, math.nan, x),
        "a tensor": lambda self, x: x * torch.tensor(2.0),
        "nothing": lambda self, x: None,
        "an error": lambda self, x: 1 / 0,
    }
    for what, function in strange.items():
        surrogate = curve_of(function)
        assert formula.trace(surrogate, False) is None, what
        assert surrogate.width == 2.0
    assert formula.trace(curve_of(lambda self, x: self.width / (1 + x.abs())), False).parameters == ("width",)


def test_a_surrogate_that_holds_what_may_change_is_not_traced(own_parts):
    @dataclass(frozen=True)
    class Annealed(sg.Surrogate):
        by: object = None

        def curve(self, x):
            return 1 / (1 + x.abs())

    for by in ([2.0], {"a": 2.0}, torch.tensor(2.0), np.ones(2), object(), None):
        assert formula.trace(Annealed(by), False) is None
    for by in (2.0, 3, True, "arctangent"):
        assert formula.trace(Annealed(by), False) is not None


def test_division_by_zero_is_torchs(own_parts):
    """In a branch that is not taken, too: 1 / (x + theta) of a silent neuron is 1 / 0."""
    x = torch.tensor([0.0, 0.0, 2.0, 0.0, 1.5, 0.3])[:, None, None].repeat(1, 3, 5).requires_grad_()
    how = {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "v_init": 0.0, "reset": HardReset(), "strict": False}
    found = []
    for way in (fused.integrate_and_fire, reference.integrate_and_fire):
        s, _ = way(x, None, surrogate=sg.SpikeOnlyPotential(), pool=0, dtype=F32, **how)
        assert_active(s)
        found.append(torch.autograd.grad(s.sum(), x)[0])
    assert found[1].isfinite().all() and (found[1] != 0).any()
    torch.testing.assert_close(*found, rtol=1e-6, atol=0)
