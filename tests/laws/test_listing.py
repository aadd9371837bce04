"""Every part of the package is under the laws: a class without a case fails here, and in every law."""

import cases
import pytest

from spikewright import encode, losses, neurons, readout
from spikewright.clock import Temporal

GROUPS = {
    "temporal": (Temporal, cases.temporal_cases, 30),
    "encoders": (encode.Encoder, cases.encoder_cases, 6),
    "readouts": (readout.Readout, cases.readout_cases, 5),
    "losses": (losses.Loss, cases.loss_cases, 4),
}


@pytest.mark.parametrize("group", GROUPS)
def test_every_listed_class_has_a_case_that_builds_it(group):
    base, make, least = GROUPS[group]
    made = [case.make() for case in make()]
    assert {type(m) for m in made} == set(cases.listed(base))
    assert len(made) >= least


def test_every_leak_and_reset_is_among_the_variants():
    assert {type(leak) for leak in cases.LEAKS} == set(cases.listed(neurons.Leak))
    assert {type(reset) for reset in cases.RESETS} == set(cases.listed(neurons.Reset))


def test_a_class_without_a_case_is_taken_up_or_demanded():
    class Easy(Temporal):
        __module__ = "spikewright.newcomer"

    class Hard(Temporal):
        __module__ = "spikewright.newcomer"

        def __init__(self, size):
            super().__init__()

    found = {case.name: case for case in cases.temporal_cases()}
    assert isinstance(found["Easy"].make(), Easy)
    with pytest.raises(pytest.fail.Exception, match="Hard has no case"):
        found["Hard"].make()
    Easy.__module__ = Hard.__module__ = "elsewhere"
    assert not {"Easy", "Hard"} & {case.name for case in cases.temporal_cases()}
