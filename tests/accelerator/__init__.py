"""The accelerator that tests run on: a GPU, or one that is simulated in this process.

`pytest -p accelerator.plugin` (with `tests` in PYTHONPATH) gives a process the simulated one: whoever asks
torch for an accelerator finds it. There is no way back, so this is done in processes of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils import cpp_extension

SOURCE = Path(__file__).with_name("simulated.cpp")
SIMULATED = "simulated"


def name() -> str | None:
    """Of this process's accelerator, as a device is named; None if it has none."""
    device = torch.accelerator.current_accelerator(check_available=True)
    return device.type if device else None


def build(library: Path) -> None:
    """Compile the simulated accelerator. Takes some ten seconds."""
    command = ["c++", "-std=c++20", "-O1", "-shared", "-fPIC", str(SOURCE), "-o", str(library)]
    command += [option for path in cpp_extension.include_paths() for option in ("-isystem", path)]
    command += [
        option for path in cpp_extension.library_paths() for option in (f"-L{path}", f"-Wl,-rpath,{path}")
    ]
    subprocess.run([*command, "-ltorch_cpu", "-lc10"], check=True, capture_output=True, text=True)


def install(library: Path) -> None:
    """Give this process the simulated accelerator, for good."""
    global _library
    _library = ctypes.CDLL(str(library))
    _library.install()
    torch.utils.rename_privateuse1_backend(SIMULATED)
    torch._register_device_module(SIMULATED, _module())


def slow_copies(seconds: float) -> None:
    """Every copy from now on begins so much later, if the accelerator is simulated."""
    if name() == SIMULATED:
        _library.set_copy_delay(int(seconds * 1e6))


def keep_busy(seconds: float) -> None:
    """The current stream does nothing else for so long, or for about as long on a GPU of 2 GHz."""
    if name() == SIMULATED:
        _library.keep_busy(int(seconds * 1e6))
    else:
        torch.cuda._sleep(int(seconds * 2e9))


@contextlib.contextmanager
def stuck() -> Iterator[None]:
    """The current stream does nothing; on a GPU only for some time."""
    if name() != SIMULATED:
        keep_busy(2)
        yield
        return
    _library.close_gate()
    try:
        yield
    finally:
        _library.open_gate()


_library: ctypes.CDLL


def _module() -> types.ModuleType:
    """What torch and its users look for under `torch.simulated`."""
    module = types.ModuleType(f"torch.{SIMULATED}")
    module.__dict__.update(
        Stream=torch.Stream,
        Event=functools.partial(torch.Event, SIMULATED),
        stream=lambda stream: stream,
        current_stream=torch.accelerator.current_stream,
        synchronize=torch.accelerator.synchronize,
        is_available=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        manual_seed_all=lambda seed: None,
        _is_in_bad_fork=lambda: False,
    )
    return module
