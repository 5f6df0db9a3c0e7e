"""The process's threads, and what this build is."""

from __future__ import annotations

import os
import platform

import numpy
import torch

from penstock import _core
from penstock.errors import ArgumentError
from penstock.pillow import pillow_version

__all__ = ["get_num_threads", "set_num_threads", "show_config"]


def get_num_threads() -> int:
    """Threads that assembling a batch may use, the calling one included.

    Default: `PENSTOCK_NUM_THREADS` in the environment, or else the processors this process may keep busy: by
    its affinity and by its control group's quota. In a DataLoader's worker process: one.
    """
    return _core.num_threads()


def set_num_threads(count: int) -> None:
    """Set how many threads assembling a batch may use, for the whole process.

    Args:
        count: 1 or more; 1 means the calling thread alone. Ahead of a training loop there is always one
            thread besides the loop's own.

    Raises:
        SchemaError: `count` is less than 1.
    """
    _core.set_num_threads(count)


def _threads_from_environment() -> None:
    count = os.environ.get("PENSTOCK_NUM_THREADS")
    if not count:
        return
    if not count.isdecimal() or int(count) < 1:
        raise ArgumentError(
            "PENSTOCK_NUM_THREADS is no number of threads", expected="1 or more", actual=repr(count)
        )
    set_num_threads(int(count))


_threads_from_environment()


def show_config() -> str:
    """Describe this build and what it runs on; what a bug report should quote."""
    version = pillow_version()
    pillow = f"Pillow {version}" if version else ""
    facts = {
        "compiler": _core.BUILD["compiler"],
        "build type": _core.BUILD["build_type"],
        "sanitizers": _core.BUILD["sanitizers"] or "none",
        "zlib": "yes" if _core.BUILD["zlib"] else "no: deflated .npz arrays cannot be read",
        "jpeg": _core.BUILD["jpeg"] or pillow or "no: JPEG images cannot be decoded",
        "png": _core.BUILD["png"] or pillow or "no: PNG images cannot be decoded",
        "others": pillow or "no: other images cannot be decoded without Pillow",
        "threads": get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    return "\n".join(f"{name:>11}: {value}" for name, value in facts.items())
