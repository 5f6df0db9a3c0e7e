"""Files that change under an open dataset: a ShardError soon after, and the process lives.

What is gone is never given as data; what another file holds is untouched.
"""

import contextlib
import faulthandler
import mmap
import os
import pickle
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from reference import assert_same, random_tensor
from torch.utils.data import DataLoader

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
PATIENCE_S = 20.0  # a change is seen about a second later; this machine may be busy
ROW, HEADER = 1024, 128
SIZES = {"few rows": 20, "many rows": 8192}  # small enough to be read with pread, large enough to be mapped


class Victim:
    """A dataset of one `.npy` in use, the rows it had, and a sound dataset beside it."""

    def __init__(self, folder, rows):
        self.rows = random_tensor((rows, ROW), torch.uint8, seed=1).clamp_(min=1)  # no zeros: lost pages show
        self.path = folder / "victim.npy"
        np.save(self.path, self.rows.numpy())
        self.size = self.path.stat().st_size
        np.save(folder / "other.npy", self.rows[:7].numpy())
        self.other = penstock.ShardDataset(folder / "other.npy")
        self.dataset = penstock.ShardDataset(self.path)
        self.check()
        time.sleep(0.02)  # a change within one tick of the file system's clock has no other time

    def check(self):
        assert_same(self.dataset.gather(range(len(self.rows))), self.rows)

    def check_or_be_told(self):
        """For as long as a change may go unseen: the old rows, or a ShardError where it was not kept open."""
        for _ in range(5):
            try:
                self.check()
            except penstock.ShardError as error:
                message = str(error)
            else:
                message = str(self.path)
            assert str(self.path) in message
            time.sleep(0.5)

    def rows_gone(self, size):
        """Rows of which not one page is left, when the file is cut to `size`."""
        end = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        return range(max(0, -(-(end - HEADER) // ROW)), len(self.rows))

    def error_in_use(self, rows=None, right=True):
        """Use the dataset until it complains; what it gives until then must be `right`."""
        rows = range(len(self.rows)) if rows is None else rows
        end = time.monotonic() + PATIENCE_S
        error = None
        while error is None:
            assert time.monotonic() < end, "nothing was said"
            try:
                batch = self.dataset.gather(rows)
            except penstock.ShardError as caught:
                error = caught
            else:
                assert not right or torch.equal(batch, self.rows[list(rows)])
                time.sleep(0.01)
        assert str(self.path) in str(error)
        assert_same(self.other.gather(range(7)), self.rows[:7])
        return error


@pytest.fixture(params=SIZES)
def victim(request, tmp_path):
    return Victim(tmp_path, SIZES[request.param])


CUTS = {
    "to nothing": lambda size: 0,
    "to the header": lambda size: HEADER,
    "mid-page": lambda size: size // 2 // mmap.PAGESIZE * mmap.PAGESIZE + 100,
    "to a page": lambda size: size // 2 // mmap.PAGESIZE * mmap.PAGESIZE,
    "to a page and a byte": lambda size: size // 2 // mmap.PAGESIZE * mmap.PAGESIZE + 1,
    "to a page less a byte": lambda size: size // 2 // mmap.PAGESIZE * mmap.PAGESIZE - 1,
    "by a byte": lambda size: size - 1,
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_file_cut_in_use_is_reported(victim, cut):
    size = CUTS[cut](victim.size)
    os.truncate(victim.path, size)
    gone = victim.rows_gone(size)
    if gone:
        for row in (gone[0], gone[-1]):
            with pytest.raises(penstock.ShardError, match=r"victim\.npy"):
                victim.dataset.gather([row])
    error = victim.error_in_use(
        right=False
    )  # the rest of the last page reads as zeros until the size is looked at
    assert error.path == str(victim.path)


@pytest.mark.parametrize("cut", CUTS)
def test_rows_before_the_cut_are_right_until_it_is_reported(victim, cut):
    size = CUTS[cut](victim.size)
    os.truncate(victim.path, size)
    left = max(0, (size - HEADER) // ROW)
    if left:
        victim.error_in_use(rows=range(left))


@pytest.mark.parametrize("enabled", [False, True])
def test_with_and_without_faulthandler(victim, enabled):
    before = faulthandler.is_enabled()
    try:
        faulthandler.enable() if enabled else faulthandler.disable()
        os.truncate(victim.path, 0)
        for _ in range(3):
            victim.error_in_use(right=False)
    finally:
        faulthandler.enable() if before else faulthandler.disable()


def test_faulthandler_enabled_between_two_batches(victim):
    before = faulthandler.is_enabled()
    try:
        faulthandler.disable()
        victim.dataset.gather([0])
        faulthandler.enable()
        os.truncate(victim.path, 0)
        victim.error_in_use(right=False)
    finally:
        faulthandler.enable() if before else faulthandler.disable()


@pytest.mark.parametrize("faulthandler_option", [[], ["-X", "faulthandler"]], ids=["plain", "faulthandler"])
def test_a_process_of_its_own_survives(tmp_path, faulthandler_option):
    script = """
        import os, sys
        import numpy as np
        import penstock

        path = sys.argv[1]
        np.save(path, np.ones((8192, 1024), np.uint8))
        dataset = penstock.ShardDataset(path)
        dataset.gather(range(8192))
        os.truncate(path, 5000)
        try:
            dataset.gather(range(8192))
        except penstock.ShardError as error:
            print("survived:", error)
    """
    command = [sys.executable, *faulthandler_option, "-c", textwrap.dedent(script), str(tmp_path / "x.npy")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("survived:")


@pytest.mark.parametrize("threads", [1, 3])
def test_every_thread_of_the_core_survives(victim, threads, restore_threads):
    penstock.set_num_threads(threads)
    os.truncate(victim.path, 0)
    for _ in range(20):
        with pytest.raises(penstock.ShardError):
            victim.dataset.gather(range(len(victim.rows)))


def test_out_may_be_used_again_after_a_fault(victim):
    out = torch.empty_like(victim.rows)
    victim.dataset.gather(range(len(out)), out=out)
    os.truncate(victim.path, 0)
    with pytest.raises(penstock.ShardError):
        victim.dataset.gather(range(len(out)), out=out)
    victim.other.gather(range(7), out=out[:7])
    assert_same(out[:7].clone(), victim.rows[:7])


def test_other_shards_of_the_dataset_can_still_be_read(tmp_path):
    parts = [random_tensor((n, ROW), torch.uint8, seed=n) for n in (4000, 4001, 4002)]
    for i, part in enumerate(parts):
        np.save(tmp_path / f"{i}.npy", part.numpy())
    dataset = penstock.ShardDataset(tmp_path)
    dataset.gather([0, 5000, 12_000])
    os.truncate(tmp_path / "1.npy", 0)
    with pytest.raises(penstock.ShardError, match=r"1\.npy"):
        dataset.gather([0, 5000])
    assert_same(dataset.gather([0, 12_000]), torch.stack([parts[0][0], parts[2][3999]]))


# in DataLoader workers, which put their own SIGBUS handler in place ----------------------------------------


@pytest.mark.parametrize("cut", ["to nothing", "mid-page"])
def test_a_file_cut_under_a_worker_is_reported_to_the_loop(victim, cut):
    rows = list(range(len(victim.rows))) * (1 + 20_000 // len(victim.rows))
    loader = DataLoader(victim.dataset, 20, sampler=rows, num_workers=2, multiprocessing_context="fork")
    batches = iter(loader)
    assert_same(next(batches), victim.rows[rows[:20]])
    os.truncate(victim.path, CUTS[cut](victim.size))
    with pytest.raises(penstock.ShardError, match=r"victim\.npy"):
        exhaust(batches)
    batches._shutdown_workers()  # else torch waits for them ten seconds: the exception holds the iterator
    other = DataLoader(victim.other, 2, num_workers=2, multiprocessing_context="fork")
    assert_same(torch.cat(list(other)), victim.rows[:7])
    assert_same(victim.other.gather(range(7)), victim.rows[:7])


def exhaust(batches):
    for _batch in batches:
        pass


def test_after_a_worker_was_forked_the_parent_still_survives(victim):
    list(DataLoader(victim.dataset, 20, sampler=range(20), num_workers=2, multiprocessing_context="fork"))
    os.truncate(victim.path, 0)
    victim.error_in_use(right=False)


# other changes ---------------------------------------------------------------------------------------------


def test_a_file_replaced_by_rename_gives_its_old_rows_or_is_reported(victim):
    np.save(victim.path.with_name("new.npy"), 255 - victim.rows.numpy())
    os.replace(victim.path.with_name("new.npy"), victim.path)
    victim.check_or_be_told()


def test_a_large_file_replaced_by_rename_can_be_read_on(tmp_path):
    victim = Victim(tmp_path, SIZES["many rows"])
    np.save(tmp_path / "new.npy", 255 - victim.rows.numpy())
    os.replace(tmp_path / "new.npy", victim.path)
    for _ in range(5):
        victim.check()
        time.sleep(0.5)
    assert_same(penstock.ShardDataset(victim.path).gather([0]), 255 - victim.rows[:1])


def test_a_file_written_anew_with_the_same_size_is_reported(victim):
    np.save(victim.path, 255 - victim.rows.numpy())
    assert victim.path.stat().st_size == victim.size
    victim.error_in_use(right=False)


def test_a_file_written_in_place_is_reported(victim):
    with victim.path.open("r+b") as file:
        file.seek(HEADER + 5 * ROW)
        file.write(b"\0" * ROW)
    victim.error_in_use(right=False)


def test_a_file_cut_and_grown_again_is_reported(victim):
    os.truncate(victim.path, 0)
    os.truncate(victim.path, victim.size)
    victim.error_in_use(right=False)


def test_a_removed_file_gives_its_rows_or_is_reported(victim):
    os.unlink(victim.path)
    victim.check_or_be_told()
    assert_same(victim.other.gather(range(7)), victim.rows[:7])


@pytest.mark.parametrize("change", [os.unlink, lambda path: os.truncate(path, 0)], ids=["removed", "cut"])
def test_a_file_gone_before_the_dataset_is_unpickled(victim, change):
    pickled = pickle.dumps(victim.dataset)
    change(victim.path)
    with pytest.raises(penstock.ShardError, match=r"victim\.npy"):
        pickle.loads(pickled).gather(range(len(victim.rows)))


def test_a_fault_while_other_threads_read_another_file(victim):
    """Each fault stops the one gather that met it."""
    from concurrent.futures import ThreadPoolExecutor

    def read_other():
        for _ in range(200):
            assert_same(victim.other.gather(range(7)), victim.rows[:7])

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(read_other) for _ in range(3)]
        os.truncate(victim.path, 0)
        for _ in range(50):
            with contextlib.suppress(penstock.ShardError):
                victim.dataset.gather(range(len(victim.rows)))
        for future in futures:
            future.result()


def test_a_dataset_opened_again_after_the_change_is_sound(victim):
    os.truncate(victim.path, 0)
    with pytest.raises(penstock.ShardError):
        victim.dataset.gather(range(len(victim.rows)))
    np.save(victim.path, 255 - victim.rows.numpy())
    assert_same(penstock.ShardDataset(victim.path).gather(range(len(victim.rows))), 255 - victim.rows)
