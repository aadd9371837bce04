"""Ding et al. 2021: the threshold inside the ANN's activation, then shrunk for speed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from spikewright.arch import arch
from spikewright.convert import Method, RateNorm, Spiking, Trained
from spikewright.convert.graph import Graph
from spikewright.convert.trace import trace
from spikewright.data import Dataset
from spikewright.engine.optim import SGD, Adam, Milestones
from spikewright.losses import LastOutput
from spikewright.phases import Fit, Phase
from spikewright.readout import Leading
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe
from spikewright.snn import SNN


class WithTeacher(nn.Module):
    """A network beside a fixed copy of itself: hands on its scores and, last, the rate inference loss of each sample,

        1 - cos(scores, the copy's scores) + weight Omega,   Omega = mean over layers of sum(r) / sum(r^2)

    for the rates r of the sample: small when rates come soon. Norms and running maxima stay as they are.
    """

    def __init__(self, student: Graph, teacher: Graph, weight: float) -> None:
        super().__init__()
        self.student, self.teacher, self.weight = student, teacher, weight

    def train(self, mode: bool = True) -> WithTeacher:
        """Always in evaluation mode: only what is a parameter changes."""
        super().train(False)
        return self

    def forward(self, x: Tensor) -> Tensor:
        names = self.student.of(RateNorm)
        values = self.student.values(x, names)
        scores = values[self.student.output]
        omegas = [values[n].flatten(1).sum(1) / (values[n].flatten(1).square().sum(1) + 1e-5) for n in names]
        with torch.no_grad():
            goal = self.teacher(x)
        loss = 1 - torch.cosine_similarity(scores, goal) + self.weight * torch.stack(omegas).mean(0)
        return torch.cat([scores, loss[:, None]], 1)


@recipe(
    paper="Ding, Yu, Tian, Huang 2021",
    reports={"mnist": 99.46},
    presets={
        "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 32, "lr": 0.05},
        "cifar10": {"arch": "vgg-5", "epochs": 60, "batch": 50, "lr": 0.02},
    },
)
@dataclass
class RNL(ConversionRecipe):
    """Rate norm layers: clip(relu(z)/theta, 0, 1) with a learned theta is trained, then all thetas are lowered.

    Stage 1 trains the weights; theta is the running largest activation. Stage 2 trains one number q, shared by all
    layers, theta = m sigmoid(q): rates that are high settle soon (the squared L2 norm over L1, 1/Omega), while a cosine
    distance keeps the scores near those of stage 1. In the released code that distance is between a network and itself
    and so has no gradient; here the other is the network of stage 1, kept fixed. The epoch is chosen by validation
    accuracy (the authors: by Omega within a tolerance). Conversion copies the weights: thresholds theta, unit spikes.
    """

    optional: ClassVar[tuple[str, ...]] = ("shrink_epochs",)

    steps: int = 64
    """Time steps T."""
    lr: float = 0.05
    """Learning rate of SGD (momentum 0.9), a tenth after 50 and after 75 % of the epochs."""
    batch_norm: bool = True
    """Batch norm behind the convolutions, folded before conversion."""
    shrink_epochs: int = 2
    """Epochs of stage 2; 0 leaves it out."""
    shrink_lr: float = 0.01
    """Learning rate of q (Adam)."""
    omega: float = 0.1
    """Weight of Omega."""
    q: float = 4.0
    """q at the start of stage 2; at the 10 of stage 1 the sigmoid has no slope left."""

    def network(self, data: Dataset) -> nn.Module:
        return arch(
            self.arch,
            data,
            RateNorm(),
            batch_norm=self.batch_norm,
            spiking_output=False,
            normalize=(data.mean, data.std),
            bias=True,
        )

    def training(self, ann: SNN, data: Dataset) -> Fit:
        for layer in ann.modules():
            if isinstance(layer, RateNorm):
                layer.logit.requires_grad_(False)
        schedule = Milestones(at=(0.5, 0.75))
        return Fit(
            ann,
            epochs=self.epochs,
            batch=self.batch,
            optimizer=SGD(self.lr, 1e-4),
            schedule=schedule,
            clip=5.0,
            augment=self.augment(data),
        )

    def method(self) -> Method:
        return Method(estimate=Trained(), form="thresholds", neuron=Spiking())

    def before(self, ann: SNN, data: Dataset) -> Iterator[Phase]:
        if not self.shrink_epochs:
            return
        sample = data.train.batch(torch.arange(1)).to(next(ann.parameters()))
        student, teacher = trace(ann, sample), trace(ann, sample)
        for p in (*student.parameters(), *teacher.parameters()):
            p.requires_grad_(False)
        q = nn.Parameter(next(student.parameters()).new_tensor(self.q))
        for name in student.of(RateNorm):
            layer: RateNorm = student.get_submodule(name)  # type: ignore[assignment]
            layer.logit = q
        pair = SNN(WithTeacher(student, teacher, self.omega), 1, readout=Leading(data.num_classes))
        yield Fit(pair, LastOutput(), self.shrink_epochs, self.batch, Adam(self.shrink_lr))
        ann.body = student.body()
