"""Classifiers as modules of a body: what scikit-learn fitted, computed in torch from stored tensors."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError

__all__ = ["SVM", "linear_svm", "principal_components"]


class SVM(nn.Module):
    """A support vector machine with an RBF kernel, classes one against one.

    K(x, s) = exp(-gamma |x - s|^2) with every support vector s; each pair of classes has a decision, the pairs' votes
    are the scores, and sums of their confidences, bounded by 1/3, break ties: scikit-learn's decision function.

    Args:
        features: inputs.
        classes: how many, at least 2.
        vectors: support vectors; fitting and loading set it.
    """

    samplewise = True
    gamma: Tensor

    def __init__(self, features: int, classes: int, vectors: int = 1):
        super().__init__()
        if classes < 2 or features < 1 or vectors < 1:
            raise ConfigError(
                f"SVM: {features} features, {classes} classes, {vectors} vectors: expected at least 1, 2 and 1"
            )
        self.features, self.classes, self.vectors = features, classes, vectors
        self.support = nn.Linear(features, vectors, bias=False)
        self.duals = nn.Linear(vectors, classes * (classes - 1) // 2)
        self.register_buffer("gamma", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """[N, features] -> scores [N, classes]."""
        s = self.support.weight
        distance = x.square().sum(-1, keepdim=True) - 2 * self.support(x) + s.square().sum(-1)
        decisions = self.duals(torch.exp(-self.gamma * distance.clamp(min=0)))
        votes, confidence = x.new_zeros(len(x), self.classes), x.new_zeros(len(x), self.classes)
        for pair, (i, j) in enumerate(combinations(range(self.classes), 2)):
            first = decisions[:, pair]
            votes[:, i] += first >= 0
            votes[:, j] += first < 0
            confidence[:, i] += first
            confidence[:, j] -= first
        return votes + confidence / (3 * (confidence.abs() + 1))

    def take(self, machine: Any) -> None:
        """Become a fitted `sklearn.svm.SVC` whose classes are 0 .. classes - 1."""
        self._resize(len(machine.support_vectors_))
        like, starts = self.support.weight, [0, *machine.n_support_.cumsum()]
        duals = torch.zeros(self.duals.weight.shape, dtype=torch.float64)
        coefficients = torch.tensor(machine.dual_coef_)
        for pair, (i, j) in enumerate(combinations(range(self.classes), 2)):
            for mine, other in ((i, j - 1), (j, i)):
                part = slice(starts[mine], starts[mine + 1])
                duals[pair, part] = coefficients[other, part]
        sign = -1.0 if self.classes == 2 else 1.0  # scikit-learn turns a single decision round
        with torch.no_grad():
            self.support.weight.copy_(torch.tensor(machine.support_vectors_))
            self.duals.weight.copy_(sign * duals)
            self.duals.bias.copy_(sign * torch.tensor(machine.intercept_))
            self.gamma.copy_(torch.tensor(float(machine._gamma), dtype=like.dtype))

    def _resize(self, vectors: int) -> None:
        like = self.support.weight
        self.vectors = vectors
        self.support = nn.Linear(self.features, vectors, bias=False, device=like.device, dtype=like.dtype)
        self.duals = nn.Linear(vectors, self.duals.out_features, device=like.device, dtype=like.dtype)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        found = state.get(f"{prefix}support.weight")
        if found is not None and found.dim() == 2 and len(found) and len(found) != self.vectors:
            self._resize(len(found))
        super()._load_from_state_dict(state, prefix, *rest)

    def extra_repr(self) -> str:
        return f"features={self.features}, classes={self.classes}, vectors={self.vectors}"


def linear_svm(layer: nn.Linear, machine: Any) -> None:
    """Make a layer a fitted `sklearn.svm.LinearSVC`; one decision between two classes becomes two rows."""
    weight, bias = torch.tensor(machine.coef_), torch.tensor(machine.intercept_)
    if len(weight) == 1:
        weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


def principal_components(layer: nn.Linear, pca: Any) -> None:
    """Make a layer a fitted `sklearn.decomposition.PCA`."""
    components = torch.tensor(pca.components_, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(components)
        layer.bias.copy_(-components @ torch.tensor(pca.mean_, dtype=torch.float64))
