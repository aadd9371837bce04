"""Settings every test shares. Helpers of the law tests are in laws/cases.py, importable from everywhere as `cases`."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "laws"))
torch.set_num_threads(1)  # the tensors here are tiny: more threads only wait for each other


@pytest.fixture(autouse=True)
def seeded():
    """Weights that a test draws without a seed of its own are the same whatever ran before it, and in which process."""
    torch.manual_seed(0)
