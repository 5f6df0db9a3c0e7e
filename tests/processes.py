"""What tests ask of the system: Python programs in processes of their own, and what it holds in memory."""

import contextlib
import ctypes
import functools
import json
import mmap
import os
import selectors
import signal
import socket
import subprocess
import sys
import textwrap
import time
from typing import IO

import numpy as np

SERVER = """
# Has imported torch once for all programs, which takes longer than most of them: it is forked for each.
import gc, json, os, signal, socket, sys
import numpy, torch, penstock

def fork_when_asked(asked):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    while True:
        message, pipes, _, _ = socket.recv_fds(asked, 1 << 20, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return json.loads(message), pipes
        for each in pipes:
            os.close(each)

def told_and_forked(told):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return
    os.write(told, b"%d\\n" % pid)
    os.write(told, b"%d\\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)

with socket.socket(fileno=int(sys.argv[1])) as asked:
    request, (out, err, told) = fork_when_asked(asked)
os.dup2(out, 1)
os.dup2(err, 2)
os.close(out)
os.close(err)
told_and_forked(told)
os.close(told)
sys.argv = ["-c", *request["arguments"]]
os.chdir(request["folder"])
os.environ.clear()
os.environ.update(request["environment"])
script = request["script"]
del asked, request, out, err, told, fork_when_asked, told_and_forked
exec(compile(script, "<string>", "exec"))
"""


@functools.cache
def _server() -> socket.socket:
    ours, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its_end:
        command = [sys.executable, "-c", SERVER, str(its_end.fileno())]
        subprocess.Popen(command, pass_fds=[its_end.fileno()], stdin=subprocess.DEVNULL).returncode = 0
    return ours


class Forked:
    """What the tests use of a `subprocess.Popen` with pipes and text."""

    def __init__(self, script: str, arguments: list[str]) -> None:
        pipes = [os.pipe() for _ in range(3)]
        request = {
            "script": script,
            "arguments": arguments,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
        }
        socket.send_fds(_server(), [json.dumps(request).encode()], [its_end for _, its_end in pipes])
        for _, its_end in pipes:
            os.close(its_end)
        self.stdout, self.stderr, self._told = (os.fdopen(ours) for ours, _ in pipes)
        told = self._told.fileno()  # as no buffer may take the status, which comes later
        self.pid = int(b"".join(iter(lambda: os.read(told, 1).strip(), b"")))
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that is still to come, and the end of the process.

        Raises:
            subprocess.TimeoutExpired: It goes on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        streams: list[IO[str]] = [self.stdout, self.stderr, self._told]
        read: dict[IO[str], list[bytes]] = {stream: [] for stream in streams if not stream.closed}
        with selectors.DefaultSelector() as selector:
            for stream in read:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                left = None if end is None else end - time.monotonic()
                ready = selector.select(left) if left is None or left > 0 else []
                if not ready:
                    raise subprocess.TimeoutExpired("a forked program", timeout or 0)
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    read[key.fileobj].append(data)  # type: ignore[index]
                    if not data:
                        selector.unregister(key.fileobj)
        printed, complaint, status = (b"".join(read.get(stream, [])).decode() for stream in streams)
        for stream in read:
            stream.close()
        if status:
            self.returncode = int(status)
        return printed, complaint


def start_python(prelude: str, script: str, *arguments: object) -> Forked:
    """Start `prelude` and then `script`, which may be indented; with its output in pipes.

    In a process of its own, forked from one that has imported torch and penstock and done nothing else; it
    runs to the true end of its interpreter, with the environment, folder and handlers that a new one has.
    """
    return Forked(prelude + textwrap.dedent(script), list(map(str, arguments)))


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
