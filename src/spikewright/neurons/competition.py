"""A layer of cells that compete: whoever fires silences the others of its place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikewright.clock import State, Temporal
from spikewright.errors import ConfigError, expect
from spikewright.kernels import block_of
from spikewright.neurons.biological import Biological, ConductanceLIF, RefractoryLIF
from spikewright.neurons.competition_loops import compete

__all__ = ["Competition", "LabelVote"]


class Competition(Temporal):
    """Cells with thresholds of their own and one-to-all inhibition (Diehl & Cook 2015; Saunders et al. 2019).

    With `partner`, each cell drives one inhibitory cell, in the same step, whose spike inhibits all other cells of the
    same place one step later; without, a cell's own spike does. The thresholds' adaptive part, `theta`, is learned in
    training (`phases.LearnCompeting`) and stays as it is here. The order of a step is that of the training loops.

    Args:
        neurons: how many cells, those of one place next to each other; 0: as many as come, with one theta for all.
        places: how many places; cells of different places do not inhibit each other.
        cell: what each of them is. Conductance cells take inhibition as a conductance, others in mV.
        partner: the inhibitory cell; None: cells inhibit each other directly.
        to_partner: what a spike adds to its partner's g_e.
        inhibition: what an inhibiting spike does to the others.
        theta: where the adaptive part of the thresholds starts, mV.
    """

    spikes = True
    theta_now: Tensor

    def __init__(
        self,
        neurons: int = 0,
        places: int = 1,
        cell: Biological | None = None,
        partner: ConductanceLIF | None = None,
        to_partner: float = 10.4,
        inhibition: float = 17.0,
        theta: float = 20.0,
    ):
        super().__init__()
        if neurons < 0 or places < 1 or neurons % places:
            raise ConfigError(f"Competition: {neurons} neurons at {places} places, expected a multiple of the places")
        if not (0 <= inhibition < float("inf") and 0 <= to_partner < float("inf") and abs(theta) < float("inf")):
            raise ConfigError(
                f"Competition: inhibition {inhibition}, to_partner {to_partner}, theta {theta}: expected finite "
                "numbers, the first two at least 0"
            )
        cell = ConductanceLIF(v_th=-72.0) if cell is None else cell
        if not isinstance(cell, (ConductanceLIF, RefractoryLIF)):
            raise ConfigError(f"Competition: cell is {cell!r}, expected a ConductanceLIF or a RefractoryLIF")
        self.neurons, self.places, self.to_partner, self.inhibition = neurons, places, to_partner, inhibition
        self.cell = cell
        self.partner = None if partner is None else expect("Competition", "partner", partner, ConductanceLIF)
        self.theta = theta
        self.register_buffer("theta_now", torch.full((max(1, neurons),), float(theta)))

    @property
    def lateral(self) -> int:
        """Synapses that a spike of the layer sets off inside it: to its partner, and from there to the others."""
        return max(0, self.neurons // self.places - 1 + (self.partner is not None))

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """current [T, B, neurons] -> (spikes [T, B, neurons], state)."""
        x = block_of(current)
        count = self.neurons or (x.shape[-1] if x.shape[-1] % self.places == 0 else self.places)
        if x.shape[2:] != (count,):
            raise ConfigError(f"Competition: the input is {tuple(x.shape[2:])}, expected ({count},) cells")
        if state is None:
            none = torch.zeros_like(x[0])
            state = (self.cell.rest(x[0]), self.partner.rest(x[0]) if self.partner else (), none)
        cells, partners, fired = state
        jumping = isinstance(self.cell, ConductanceLIF) or self.cell.jump
        if (
            x.device.type == "cpu"
            and x.isfinite().all()
            and jumping
            and not (torch.is_grad_enabled() and _needed(x, state))
        ):
            return self._compiled(x, state, current.dtype)
        theta = self.theta_now.to(x.device, x.dtype)
        out = []
        for i in x.unbind(0):
            s, cells = self.cell.step(i, cells, self.inhibition * self._others(fired), theta)
            fired = s
            if self.partner is not None:
                fired, partners = self.partner.step(self.to_partner * s, partners)
            v, *others = cells
            cells = (v + 0 * i, *others)
            out.append(s)
        return torch.stack(out).to(current.dtype), (cells, partners, fired)

    def _compiled(self, x: Tensor, state: State, dtype: torch.dtype) -> tuple[Tensor, State]:
        """The same by `competition_loops`."""
        cells, partners, fired = state
        kind, out = x.numpy().dtype, torch.empty_like(x, memory_format=torch.contiguous_format)

        def stacked(parts: tuple[Tensor, ...]) -> Tensor:
            filled = [*parts, *[torch.zeros_like(fired)] * (4 - len(parts))]
            return torch.stack([part.detach() for part in filled])

        cells_now, partners_now, inhibiting = (
            stacked(cells),
            stacked(partners),
            fired.detach().clone(memory_format=torch.contiguous_format),
        )
        conductance = isinstance(self.cell, ConductanceLIF)
        compete(
            x.detach().contiguous().numpy(),
            conductance,
            self.partner is not None,
            self.places,
            kind.type(self.inhibition),
            kind.type(self.to_partner),
            self.theta_now.detach().to(x.dtype).expand(x.shape[-1]).numpy(),
            _numbers(self.cell, kind),
            _numbers(self.partner or self.cell, kind),
            cells_now.numpy(),
            partners_now.numpy(),
            inhibiting.numpy(),
            out.numpy(),
        )
        return out.to(dtype), (cells_now.unbind()[: len(cells)], partners_now.unbind()[: len(partners)], inhibiting)

    def _others(self, fired: Tensor) -> Tensor:
        """How many others of its place inhibit each cell: [B, neurons]."""
        spikes = fired.unflatten(-1, (self.places, -1))
        return (spikes.sum(-1, keepdim=True) - spikes).flatten(-2)

    def extra_repr(self) -> str:
        return f"neurons={self.neurons}, places={self.places}, inhibition={self.inhibition:g}"


def _needed(x: Tensor, state: State) -> bool:
    """Whether a gradient is asked for."""
    if isinstance(state, Tensor):
        return state.requires_grad
    return x.requires_grad or any(_needed(x, part) for part in state)


def _numbers(cell: Any, kind: Any) -> Any:
    """A cell for the loops."""
    h, steps = cell.h, round(cell.refractory / cell.h)
    tail = [cell.v_reset, cell.v_th, steps]
    if isinstance(cell, ConductanceLIF):
        decays = [math.exp(-h / cell.tau_e), math.exp(-h / cell.tau_i)]
        return np.array([h / cell.tau, *decays, *cell.means(), cell.v_rest, cell.e_exc, cell.e_inh, *tail], kind)
    return np.array([math.exp(-h / cell.tau), 1.0, 0.0, 0.0, 0.0, cell.v_rest, 0.0, 0.0, *tail], kind)


class LabelVote(nn.Module):
    """Neurons with class labels vote: spikes [N, neurons] -> the mean over each class's neurons [N, classes].

    A class without a neuron gets -1, below any vote; a neuron with the label -1 has none. The labels are part of the
    weights file (`labels_now`); `assign` finds them (Diehl & Cook 2015).
    """

    samplewise = True
    labels_now: Tensor

    def __init__(self, neurons: int, classes: int):
        super().__init__()
        if neurons < 1 or classes < 1:
            raise ConfigError(f"LabelVote: {neurons} neurons, {classes} classes: expected at least 1 of each")
        self.neurons, self.classes = neurons, classes
        self.register_buffer("labels_now", torch.full((neurons,), -1, dtype=torch.long))

    @staticmethod
    def assign(counts: Tensor, labels: Tensor, classes: int) -> Tensor:
        """The class on whose samples each neuron fired most on average: counts [samples, neurons], labels [samples] ->
        int64 [neurons], -1 for a neuron that never fired, of equal classes the first."""
        mean = torch.zeros(classes, counts.shape[1], dtype=torch.float64)
        mean.index_add_(0, labels, counts.double())
        mean /= labels.bincount(minlength=classes).clamp(min=1)[:, None]
        return torch.where(counts.sum(0) > 0, mean.argmax(0), -1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.neurons:
            raise ConfigError(f"LabelVote: the input has {x.shape[-1]} neurons, expected {self.neurons}")
        classes = torch.arange(self.classes, device=x.device)
        member = (self.labels_now[:, None] == classes).to(x.dtype)
        size = member.sum(0)
        return torch.where(size > 0, x @ member / size.clamp(min=1), -torch.ones_like(size))

    def extra_repr(self) -> str:
        return f"neurons={self.neurons}, classes={self.classes}"
