"""Stored machines answer as scikit-learn's do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.svm import SVC, LinearSVC
from torch import nn

from spikewright.classifiers import SVM, linear_svm, principal_components
from spikewright.errors import ConfigError

X, Y = load_digits(return_X_y=True)
X = X / 4


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_an_rbf_machine_decides_as_scikit_learn(classes):
    x, y = X[classes > Y], Y[classes > Y]
    half = len(x) // 2
    machine = SVC(C=2.4, break_ties=True).fit(x[:half], y[:half])
    module = SVM(64, classes).double()
    module.take(machine)
    scores = module(torch.from_numpy(x)).detach().numpy()
    if classes > 2:
        assert scores == pytest.approx(machine.decision_function(x), abs=1e-9)
    assert np.array_equal(scores.argmax(1), machine.predict(x)) and len(set(machine.predict(x))) == classes
    again = SVM(64, classes).double()
    again.load_state_dict(module.state_dict())
    assert again.vectors == len(machine.support_vectors_)
    assert torch.equal(again(torch.from_numpy(x)), module(torch.from_numpy(x)))


@pytest.mark.parametrize("classes", [2, 10])
def test_a_linear_machine_behind_a_projection(classes):
    x, y = X[classes > Y], Y[classes > Y]
    pca = PCA(12, random_state=0).fit(x)
    machine = LinearSVC(C=2.4, random_state=0, dual=False).fit(pca.transform(x), y)
    project, decide = nn.Linear(64, 12).double(), nn.Linear(12, classes).double()
    principal_components(project, pca)
    linear_svm(decide, machine)
    assert project(torch.from_numpy(x)).detach().numpy() == pytest.approx(pca.transform(x), abs=1e-9)
    assert np.array_equal(decide(project(torch.from_numpy(x))).argmax(1).numpy(), machine.predict(pca.transform(x)))


def test_sizes_that_make_no_machine_are_refused():
    with pytest.raises(ConfigError):
        SVM(3, 1)
