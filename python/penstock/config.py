"""The process's threads, and what this build is."""

from __future__ import annotations

import platform

import numpy
import torch

from penstock import _core

__all__ = ["get_num_threads", "set_num_threads", "show_config"]


def get_num_threads() -> int:
    """Threads that assembling a batch may use, the calling one included.

    Default: the processors this process may run on. In a DataLoader's worker process: one.
    """
    return _core.num_threads()


def set_num_threads(count: int) -> None:
    """Set how many threads assembling a batch may use, for the whole process.

    Args:
        count: 1 or more; 1 means the calling thread alone.

    Raises:
        SchemaError: `count` is less than 1.
    """
    _core.set_num_threads(count)


def show_config() -> str:
    """Describe this build and what it runs on; what a bug report should quote."""
    facts = {
        "compiler": _core.BUILD["compiler"],
        "build type": _core.BUILD["build_type"],
        "sanitizers": _core.BUILD["sanitizers"] or "none",
        "zlib": "yes" if _core.BUILD["zlib"] else "no: deflated .npz arrays cannot be read",
        "threads": get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    return "\n".join(f"{name:>11}: {value}" for name, value in facts.items())
