"""The classifier behind a first-spike network, fitted by scikit-learn."""

import numpy as np
import torch
from torch import nn

from spikewright.engine.readout import ReadoutFitter


def test_a_small_c_leaves_a_linear_svm_its_intercept():
    """Two classes far from the origin, so that the border lies where weights alone cannot put it."""
    rng = np.random.default_rng(0)
    y = (np.arange(4000) % 2 == 0).astype(np.int64)
    x = (rng.normal(0, 1, (4000, 3)) + 6 * y[:, None] + 20).astype(np.float32)
    fitter = ReadoutFitter.__new__(ReadoutFitter)
    fitter.c, fitter.seed, fitter.machine = 1e-4, 0, nn.Linear(3, 2)
    fitter._fit(x, y)
    right = (fitter.machine(torch.from_numpy(x)).argmax(1).numpy() == y).mean()
    assert right > 0.99
