"""A pack that is killed, or fails, at any moment: it goes on, and what it gives is the same to the byte."""

import errno
import os
import random
import signal
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
import torch

import penstock
from penstock.pack import Packed, pack

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

FORMATS = ["npy", "safetensors"]
FAILURE = "an operation that fails"
CRASH = "an operation that never comes back"


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def state(folder):
    """Of all that lies there: bytes and times."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in paths}


def write_arrays(folder, rows=100, files=60):
    folder.mkdir()
    chance = np.random.default_rng(0)
    for k in range(files):
        np.savez(folder / f"{k:03}.npz", x=chance.random((rows, 16), np.float32), y=np.full(2, k))
    return folder


def write_images(folder):
    chance = random.Random(0)
    for k in range(40):
        (folder / str(k % 4)).mkdir(parents=True, exist_ok=True)
        (folder / str(k % 4) / f"{k}.jpg").write_bytes(chance.randbytes(chance.randrange(20_000)))
    return folder


def in_child(work):
    """Start `work` in a process of its own, which ends with it."""
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def require_nothing_half_done(folder, needed):
    """What can be opened is complete; what bears a name in its place is what it will be."""
    for name, content in contents(folder).items() if folder.exists() else ():
        if not name.startswith("unfinished") and not name.startswith("finished"):
            assert needed[name] == content, name
    if (folder / "pack.json").exists():
        assert len(Packed(folder)) == len(Packed(folder).open())
        assert set(contents(folder)) == set(needed)
    elif folder.exists():
        with pytest.raises((penstock.FormatError, penstock.ShardError)):
            Packed(folder)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("write", [write_arrays, write_images])
def test_killed_100_times(tmp_path, format, write):
    """25 times each."""
    source = write(tmp_path / "from")
    before = state(source)

    def work(folder=tmp_path / "to"):
        pack(source, folder, format=format, shard_bytes=25_000)

    begun = time.monotonic()
    work(tmp_path / "needed")
    seconds, needed = time.monotonic() - begun, contents(tmp_path / "needed")
    chance = random.Random(0)
    kills = packs = 0
    files_left = set()
    while kills < 25:
        pid = in_child(work)
        time.sleep(chance.uniform(0, 0.7 * seconds))
        os.kill(pid, signal.SIGKILL)
        status = status_of(pid)
        assert status in (0, -signal.SIGKILL)
        kills += status != 0
        require_nothing_half_done(tmp_path / "to", needed)
        files_left.add(len(contents(tmp_path / "to")))
        if status == 0:
            assert contents(tmp_path / "to") == needed
            os.rename(tmp_path / "to", tmp_path / f"done{packs}")
            packs += 1
    assert len(files_left) > 3, "all were killed at the same moment"
    work()
    assert contents(tmp_path / "to") == needed
    Packed(tmp_path / "to").verify()
    assert state(source) == before


def fail_at(number, folder, how):
    """Let the given operation on files below a folder fail, and all before it pass."""
    operations = 0

    def hook(event, arguments):
        nonlocal operations
        if event not in (
            "open",
            "os.rename",
            "os.mkdir",
            "os.rmdir",
            "os.remove",
            "os.listdir",
            "os.scandir",
        ):
            return
        with suppress(TypeError):
            if not os.fspath(arguments[0]).startswith(str(folder)):
                return
            operations += 1
            if operations == number and how == CRASH:
                os._exit(9)
            if operations == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sys.addaudithook(hook)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("how", [CRASH, FAILURE])
def test_each_operation_is_the_last_one(tmp_path, format, how):
    """One after another, until a pack goes through with none of them failing."""
    source = write_arrays(tmp_path / "from", 3, 6)
    pack(source, tmp_path / "needed", format=format, shard_bytes=900)
    needed = contents(tmp_path / "needed")

    def work():
        fail_at(number, folder, how)
        try:
            pack(source, folder, format=format, shard_bytes=900)
        except penstock.ShardError as error:
            is_told = error.errno == errno.ENOSPC and str(folder) in str(error)
            os._exit(9 if is_told else 1)

    for number in range(1, 1_000):
        folder = tmp_path / f"to{number}"
        status = status_of(in_child(work))
        if status == 0:
            assert contents(folder) == needed
            if number > 30:
                break
        assert status in (0, 9)
        require_nothing_half_done(folder, needed)
        if how == FAILURE and folder.exists():
            assert not [name for name in contents(folder) if name.endswith(".tmp")]
        pack(source, folder, format=format, shard_bytes=900)
        assert contents(folder) == needed
    assert 30 < number < 900
