"""Memory: epochs take their batch buffers and no more, also under a limit smaller than the data."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

MIB = 1 << 20
SHARDS, SHARD_BYTES = 16, 32 * MIB  # 512 MiB

PRELUDE = """
import sys, torch, penstock
from torch.utils.data import DataLoader

def anonymous_memory():
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return int(lines["RssAnon"].split()[0]) * 1024

folder, kind = sys.argv[1:]
"""

EPOCH = """
dataset = penstock.ShardDataset(folder)
if kind == "shuffled in blocks":
    order = penstock.BlockShuffleSampler(dataset, window_bytes=2**26, block_bytes=2**20)
    loader = DataLoader(dataset, batch_sampler=penstock.BatchSampler(order, 256))
else:
    loader = DataLoader(dataset, batch_size=256, shuffle=kind == "shuffled")
next(iter(loader))
before, count, total = anonymous_memory(), 0, 0
for batch in loader:
    count += len(batch)
    total += int(batch[:, 0].sum())
assert count == len(dataset), count
assert total == sum(range(16)) * (count // 16), total
grown = anonymous_memory() - before
assert grown < 48 * 2**20, f"grew by {grown} bytes"
print("ok")
"""

TEN_EPOCHS = """
dataset = penstock.ShardDataset({"image": folder + "/image/*.npy", "label": folder + "/label.npy"})
if kind == "penstock's":
    loader = penstock.DataLoader(dataset, 8192, shuffle=True, prefetch_factor=8)
else:
    order = penstock.BatchSampler(penstock.ShuffleSampler(dataset), 8192, lookahead=8)
    loader = DataLoader(dataset, batch_sampler=order)
buffers = (8 + 2) * 8192 * (8 + 8)  # of the batches ahead, the present one and the one before
before, grown = anonymous_memory(), []
for epoch in range(10):
    count = total = 0
    for batch in loader:
        count += len(batch["image"])
        total += int(batch["label"].sum())
    assert count == len(dataset), count
    assert total == sum(range(1000)) * (count // 1000), total
    grown.append(anonymous_memory() - before)
assert max(grown) < buffers + 20 * 10**6, grown
assert grown[9] - grown[1] < 2 * 10**6, grown
print("ok")
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(SHARDS):
        np.save(folder / f"{shard:02}.npy", np.full((SHARD_BYTES // 16384, 16384), shard, np.uint8))
    for path in folder.iterdir():  # cold: pages that others paid for do not count against a limit
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return folder


@pytest.fixture(scope="module")
def ten_million_rows(tmp_path_factory):
    """Rows of 8 bytes in ten files, and a label for each in another: 160 MB."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "image").mkdir()
    for shard in range(10):
        np.save(folder / "image" / f"{shard}.npy", np.full((10**6, 8), shard, np.uint8))
    np.save(folder / "label.npy", np.arange(10**7) % 1000)
    return folder


def run(script, folder, kind, enter=None):
    command = [sys.executable, "-c", PRELUDE + script, str(folder), kind]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=enter)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


@contextmanager
def memory_group(limit):
    """A control group of that limit; yields what a child calls to enter it.

    Raises:
        OSError: The system gives us none.
    """
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    group = Path("/sys/fs/cgroup" if unified else "/sys/fs/cgroup/memory") / f"penstock-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(limit))
        yield lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        group.rmdir()


@pytest.mark.parametrize("order", ["in order", "shuffled", "shuffled in blocks"])
def test_an_epoch_takes_no_more_than_its_batches(shards, order):
    run(EPOCH, shards, order)


@pytest.mark.parametrize("order", ["in order", "shuffled", "shuffled in blocks"])
def test_an_epoch_over_data_larger_than_a_memory_limit(shards, order):
    try:
        with memory_group(360 * MIB) as enter:
            run(EPOCH, shards, order, enter)
    except OSError as error:
        pytest.skip(f"no control group of our own: {error}")


@pytest.mark.parametrize("kind", ["penstock's", "torch's"])
def test_ten_epochs_over_ten_million_rows_take_no_more_than_one(ten_million_rows, kind):
    run(TEN_EPOCHS, ten_million_rows, kind)
