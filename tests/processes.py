"""What tests ask of the system: Python programs in processes of their own, and what it holds in memory."""

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np


def start_python(prelude: str, script: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start `prelude` and then `script`, which may be indented; with its output in pipes."""
    command = [sys.executable, "-c", prelude + textwrap.dedent(script), *map(str, arguments)]

    def heed_ctrl_c() -> None:  # a test run in the background may have been told to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )


def share_in_cache(path: "str | os.PathLike[str]") -> float:
    """How much of a file the system holds in memory: mincore(2)."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        pages = -(-len(mapped) // mmap.PAGESIZE)
        in_memory = np.zeros(pages, np.uint8)
        view = np.frombuffer(mapped, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.mincore(
            ctypes.c_void_p(view.ctypes.data),
            ctypes.c_size_t(len(mapped)),
            ctypes.c_void_p(in_memory.ctypes.data),
        )
        del view
        assert done == 0, os.strerror(ctypes.get_errno())
        return float((in_memory & 1).mean())
