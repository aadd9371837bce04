"""The clock: who runs, for how many steps, from which state."""

import cases
import pytest
import torch
from cases import F64, assert_active
from torch import nn

from spikewright.clock import Clock, Temporal
from spikewright.errors import ConfigError, NumericError
from spikewright.neurons import LIF, DoubleExponential, Euler, Synapse


def test_there_is_no_clock_outside_a_forward():
    with pytest.raises(ConfigError, match=r"LIF was called outside an SNN.*\.run\("):
        LIF()(torch.rand(4, 2))
    with Clock(2) as clock:
        assert Clock.running(nn.Identity()) is clock
        with Clock(3) as inner:
            assert Clock.running(nn.Identity()) is inner
        assert Clock.running(nn.Identity()) is clock
    with pytest.raises(ConfigError):
        Clock.running(nn.Identity())


def test_time_is_the_outer_part_of_the_leading_dimension():
    module = LIF()
    x = cases.drive(module, (5, 3, 4), F64)
    with Clock(5) as clock:
        out = module(x.flatten(0, 1))
    wanted, state = module.run(x)
    assert_active(wanted)
    assert torch.equal(out, wanted.flatten(0, 1))
    assert torch.equal(clock.left[(module, 0)][0], state[0])


def test_a_module_called_twice_has_two_states():
    module = LIF()
    a, b = cases.drive(module, (6, 2, 4), F64), cases.drive(module, (6, 2, 4), F64, seed=1)
    wanted = [module.run(a)[0], module.run(b)[0]]
    assert_active(torch.cat(wanted))
    assert not torch.equal(*wanted)
    found, state = ([], []), None
    for t in range(6):
        with Clock(1, state) as clock:
            found[0].append(module(a[t]))
            found[1].append(module(b[t]))
        state = clock.left
    assert set(state) == {(module, 0), (module, 1)}
    assert torch.equal(torch.stack(found[0]), wanted[0]) and torch.equal(torch.stack(found[1]), wanted[1])


def test_the_state_handed_in_is_not_changed():
    module = LIF()
    x = cases.drive(module, (6, 2, 4), F64)
    with Clock(6) as first:
        module(x.flatten(0, 1))
    kept, keys = first.left[(module, 0)][0].clone(), set(first.left)
    with Clock(6, first.left):
        assert_active(module(x.flatten(0, 1)))
    assert set(first.left) == keys and torch.equal(first.left[(module, 0)][0], kept)


def test_the_first_layer_whose_state_is_not_finite_is_named():
    body = nn.Sequential(nn.Identity(), Synapse(Euler(2.0)), LIF(), DoubleExponential(Euler(2.0), Euler(3.0)))
    for bad in (float("nan"), float("inf")):
        x = torch.ones(4, 3)
        x[2, 1] = bad
        with Clock(2, root=body) as clock:
            body(x)
        with pytest.raises(NumericError, match=r"current or state of layer '1' \(Synapse\)") as caught:
            clock.check()
        cases.one_line(caught.value)
    # a state that was handed in can spoil a membrane which finite currents reach
    with Clock(2, {(body[2], 0): (torch.full((2, 3), float("nan")),)}, body) as clock:
        body[2](torch.ones(4, 3))
    with pytest.raises(NumericError, match=r"current or state of layer '2' \(LIF\)") as caught:
        clock.check()
    cases.one_line(caught.value)
    with Clock(2, root=body) as clock:
        body(torch.ones(4, 3))
    clock.check()


def test_a_new_kind_of_neuron_is_a_run_method():
    class Doubler(Temporal):
        def run(self, current, state=None):
            count = torch.zeros(()) if state is None else state
            return current * (count + 1), count + len(current)

    module = Doubler()
    with Clock(2) as clock:
        assert torch.equal(module(torch.ones(4, 1)), torch.ones(4, 1))
    with Clock(1, clock.left):
        assert torch.equal(module(torch.ones(2, 1)), torch.full((2, 1), 3.0))
    clock.check()
    with pytest.raises(NotImplementedError):
        Temporal().run(torch.ones(1, 1))
