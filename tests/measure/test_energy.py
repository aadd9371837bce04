"""Prices times counts, and the sentence."""

import pytest

from spikewright.errors import ConfigError
from spikewright.measure import TABLES, CostTable, Operations
from spikewright.measure.energy import table


def operations(acs: float = 1000.0, macs: float = 100.0) -> Operations:
    return Operations(
        acs=acs,
        macs=macs,
        bias_acs=50,
        dense=20000,
        event_dense=18000,
        neuron_updates=10,
        ann_macs=2000,
        ann_bias_acs=5,
    )


def test_arithmetic() -> None:
    t = TABLES["45nm"]
    assert t.snn_nj(operations()) == pytest.approx((100 * 4.6 + 1050 * 0.9) / 1000)
    assert t.ann_nj(operations()) == pytest.approx((2000 * 4.6 + 5 * 0.9) / 1000)
    priced = CostTable("mine", 2, 1, "a data sheet", neuron_pj=3)
    assert priced.snn_nj(operations()) == pytest.approx((200 + 1050 + 30) / 1000)
    assert [(x.mac_pj, x.ac_pj) for x in TABLES.values()] == [(4.6, 0.9), (3.2, 0.1), (0.23, 0.03)]


def test_the_sentence_says_which_costs_more_and_where_they_break_even() -> None:
    t = TABLES["45nm"]
    even = (t.ann_nj(operations()) - t.snn_nj(operations(acs=0))) * 1000 / 0.9
    assert t.snn_nj(operations(acs=even)) == pytest.approx(t.ann_nj(operations()))
    less, more = t.verdict(operations(acs=even * 0.9)), t.verdict(operations(acs=even * 1.1))
    assert "less than its ANN" in less and "more than its ANN" in more
    assert f"{even / 18000:.3g} spikes per synapse and step" in less
    assert "no firing rate breaks even" in t.verdict(operations(macs=2100))


def test_nothing_counted_is_said() -> None:
    nothing = Operations(0, 0, 0, 0, 0, 0, 0, 0)
    assert "no energy to compare" in TABLES["45nm"].verdict(nothing)
    ann = Operations(0, 1500, 5, 2000, 0, 0, 2000, 5)
    assert "no layer of it is fed by spikes" in TABLES["45nm"].verdict(ann)


def test_an_unknown_table_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'28nm' is not known.*45nm, 45nm-int32, 45nm-int8"):
        table("28nm")
    mine = CostTable("mine", 1, 1, "")
    assert table(mine) is mine
