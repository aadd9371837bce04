"""Modules written for one kind of neuron. Compilers want their source in a real file, and some keep their results by
its name, so the files lie in the user's cache folder."""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import re
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

from spikewright.storage import cache_dir, write_atomic

__all__ = ["module_of"]

MARKED = re.compile(r"# --- one kind of neuron\n.*?\n# --- end\n", re.DOTALL)


def module_of(template: ModuleType, own: str, *depends: str) -> tuple[ModuleType, bool]:
    """A copy of the template, its marked part replaced by `own`, and whether it lies where results can be kept.

    The copy's name stands for its text and for `depends`, what else the compiler's results hang on.
    """
    text = MARKED.sub(lambda _: own + "\n", Path(str(template.__file__)).read_text())
    name = f"loops_{hashlib.sha256(repr((text, *depends)).encode()).hexdigest()[:20]}"
    path, cached = cache_dir() / "kernels" / f"{name}.py", True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:  # what runs is this text, whatever lay there
            write_atomic(path, text.encode())
    except Exception:  # a cache that cannot be written costs time, nothing else
        path, cached = _own_folder() / f"{name}.py", False
        path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # Numba's cache looks the module up by name
    spec.loader.exec_module(module)
    return module, cached


@cache
def _own_folder() -> Path:
    """A folder that goes with this process."""
    folder = tempfile.TemporaryDirectory(prefix="spikewright-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
