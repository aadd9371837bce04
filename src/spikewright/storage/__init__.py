"""Files that survive kills, full disks and damage, and that can never run code.

Everything is written whole under a temporary name, flushed to the disk and renamed; everything that is read back is
checked against a SHA-256 first. Tensors are safetensors, the rest is strict JSON.
"""

from .atomic import cache_dir, write_atomic
from .checkpoint import Checkpoints
from .formats import load_tensors, read_json, save_tensors, tensors_from_bytes, tensors_to_bytes, write_json
from .pair import load_pair, save_pair
from .runfolder import RunFolder

__all__ = [
    "Checkpoints",
    "RunFolder",
    "cache_dir",
    "load_pair",
    "load_tensors",
    "read_json",
    "save_pair",
    "save_tensors",
    "tensors_from_bytes",
    "tensors_to_bytes",
    "write_atomic",
    "write_json",
]
