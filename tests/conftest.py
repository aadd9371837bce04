"""Settings every test shares. Helpers of the law tests are in laws/cases.py, importable from everywhere as `cases`."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent / "laws"))
torch.set_num_threads(1)  # the tensors here are tiny: more threads only wait for each other
