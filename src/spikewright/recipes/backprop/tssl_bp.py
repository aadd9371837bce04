"""TSSL-BP: backpropagation through the timing of spikes, between neurons and within one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright.arch import Normalize, ScaledSumPool, arch
from spikewright.data import Dataset
from spikewright.encode import Direct, Frames
from spikewright.engine.optim import AdamW, Constant, Cosine
from spikewright.losses import CountMargin, KernelSpikeMSE
from spikewright.neurons import Euler, HeldDropout, Synapse, TSSLNeuron
from spikewright.phases import Fit, Phase
from spikewright.recipes import Augmented, recipe
from spikewright.snn import SNN

_FASHION = "32C5p2-P2-64C5p2-P2-1024-10"
_CIFAR = "96C3-D0.2-256C3-D0.2-P2-384C3-D0.2-P2-384C3-D0.2-256C3-D0.2-1024-D0.2-1024-D0.2-10"


@recipe(
    paper="Zhang & Li 2020",
    reports={"mnist": 99.53, "nmnist": 99.40, "fashion-mnist": 92.83, "cifar10": 91.41},
    presets={
        "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20},
        "nmnist": {"arch": "12C5p1-P2-64C5-P2-10", "steps": 30, "tau_m": 8.0, "tau_s": 4.0, "loss": "count"},
        "fashion-mnist": {"arch": _FASHION},
        "cifar10": {"arch": _CIFAR, "lr": 2e-4, "epochs": 150, "conv_gain": 5.0},
    },
)
@dataclass
class TSSLBP(Augmented):
    """Temporal spike sequence learning: gradients through inter- and intra-neuron spike timing dependencies.

    Layers hand on post-synaptic currents, the image enters through the same synapse, pools are 1.1 times the sum, no
    layer has a bias, weights are kept within +-4 and the gradient's global norm within 1; the loss is a sum over the
    batch, so the batch size belongs to the method. Dropout (CIFAR-10 only) holds its mask over the steps.
    """

    arch: str = "15C5-P2-40C5-P2-300-10"
    """Network, in the papers' notation or by name."""
    steps: int = 5
    """Time steps T."""
    tau_m: float = 5.0
    """Membrane time constant, steps."""
    tau_s: float = 3.0
    """Synaptic time constant, steps."""
    loss: Literal["kernel", "count"] = "kernel"
    """Fit the filtered output train (kernel) or its count (count)."""
    desired: float = 15.0
    """Count asked of the true class (count loss)."""
    undesired: float = 3.0
    """Count the other classes may reach (count loss)."""
    conv_gain: float = 1.0
    """Factor on the convolutions' initial weights."""
    epochs: int = 100
    """Passes over the training set."""
    batch: int = 50
    """Samples a step."""
    lr: float = 5e-4
    """Learning rate of AdamW."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The paper's rate is constant; a cosine serves runs much shorter than its 100 epochs."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        neuron = TSSLNeuron(self.tau_m, self.tau_s)
        network = arch(
            self.arch, data, neuron, pool=ScaledSumPool, bias=False, spiking_output=True, dropout=HeldDropout
        )
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
            elif isinstance(layer, nn.Conv2d):
                layer.weight.data.mul_(self.conv_gain)
        front = [] if data.frames else [("normalize", Normalize(data.mean, data.std))]
        synapse = ("synapse", Synapse(Euler(self.tau_s)))
        body = nn.Sequential(OrderedDict([*front, synapse, *network.named_children()]))
        snn = SNN(body, self.steps, Frames() if data.frames else Direct())
        loss = KernelSpikeMSE(self.tau_s) if self.loss == "kernel" else CountMargin(self.desired, self.undesired)
        yield Fit(
            snn,
            loss,
            self.epochs,
            self.batch,
            AdamW(self.lr),
            Cosine() if self.schedule == "cosine" else Constant(),
            clip=1.0,
            weight_clamp=4.0,
            augment=self.augment(data),
        )
