"""Energy: counted operations priced by a named table. An estimate of arithmetic; memory and wires are not in it."""

from __future__ import annotations

from dataclasses import dataclass

from spikewright.errors import ConfigError
from spikewright.measure.operations import Operations

__all__ = ["TABLES", "CostTable", "table"]


@dataclass(frozen=True)
class CostTable:
    """Prices of operations, in pJ (1e-12 J).

    Args:
        name: what it is asked for by.
        mac_pj: a multiplication and an addition.
        ac_pj: an addition.
        source: where the prices come from.
        neuron_pj: updating one neuron for one step.
    """

    name: str
    mac_pj: float
    ac_pj: float
    source: str
    neuron_pj: float = 0.0

    def snn_nj(self, operations: Operations) -> float:
        """Energy of an image through all steps, nJ: MACs, ACs, biases and, where it has a price, neuron updates."""
        return (self._fixed_pj(operations) + operations.acs * self.ac_pj) / 1000

    def ann_nj(self, operations: Operations) -> float:
        """Energy of one dense pass of the same body as an ANN, nJ: MACs and biases."""
        return (operations.ann_macs * self.mac_pj + operations.ann_bias_acs * self.ac_pj) / 1000

    def verdict(self, operations: Operations) -> str:
        """One sentence: which of the two costs more, and where they break even."""
        snn, ann = self.snn_nj(operations), self.ann_nj(operations)
        if ann <= 0:
            return "The body has no layer whose operations are counted, so there is no energy to compare."
        ratio = snn / ann
        word = "more than" if ratio > 1 else "as much as" if ratio == 1 else "less than"
        head = f"By {self.name} the SNN costs {word} its ANN, {ratio:.2f} times as much"
        spare = ann - self._fixed_pj(operations) / 1000
        if not operations.event_dense:
            return f"{head}; no layer of it is fed by spikes."
        if spare <= 0:
            return f"{head}; its analog layers and biases alone cost as much as the ANN, so no firing rate breaks even."
        even = spare * 1000 / self.ac_pj / operations.event_dense
        now = operations.acs / operations.event_dense
        return f"{head}; they break even at {even:.3g} spikes per synapse and step, here it is {now:.3g}."

    def _fixed_pj(self, operations: Operations) -> float:
        """What does not depend on the spikes handed on."""
        return (
            operations.macs * self.mac_pj
            + operations.bias_acs * self.ac_pj
            + operations.neuron_updates * self.neuron_pj
        )


_HOROWITZ = (
    "M. Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014, figure 1.1.9: 45 nm, 0.9 V"
)

TABLES: dict[str, CostTable] = {
    t.name: t
    for t in (
        CostTable("45nm", 4.6, 0.9, f"{_HOROWITZ}; 32-bit float: multiply 3.7 pJ, add 0.9 pJ"),
        CostTable("45nm-int32", 3.2, 0.1, f"{_HOROWITZ}; 32-bit integer: multiply 3.1 pJ, add 0.1 pJ"),
        CostTable("45nm-int8", 0.23, 0.03, f"{_HOROWITZ}; 8-bit integer: multiply 0.2 pJ, add 0.03 pJ"),
    )
}


def table(name: str | CostTable) -> CostTable:
    """The cost table of that name, or the table itself.

    Raises:
        ConfigError: there is none of that name; the message lists them.
    """
    if isinstance(name, CostTable):
        return name
    if name not in TABLES:
        raise ConfigError(f"energy table {name!r} is not known, expected one of {', '.join(TABLES)}, or a CostTable")
    return TABLES[name]
