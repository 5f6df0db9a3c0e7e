"""A loader that works ahead: broken off, failing, forked, and walked by many at once."""

import gc
import os
import random
import threading
import time
import zlib

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
ROWS, BATCH = 4_000, 50


@pytest.fixture
def folder(tmp_path):
    """Rows of 16 KiB that hold their own number, in files of 16 MB."""
    for shard in range(4):
        rows = np.arange(shard * 1_000, (shard + 1) * 1_000, dtype=np.float32)
        np.save(tmp_path / f"{shard}.npy", np.repeat(rows[:, None], 4_096, axis=1))
    return tmp_path


def ours(dataset, batch_size=BATCH, sampler=None):
    return penstock.DataLoader(dataset, batch_size, sampler is None, sampler, seed=0)


def torchs(dataset, batch_size=BATCH, sampler=None):
    order = penstock.ShuffleSampler(dataset, seed=0) if sampler is None else sampler
    return DataLoader(dataset, batch_sampler=penstock.BatchSampler(order, batch_size, lookahead=8))


@pytest.fixture(params=[ours, torchs])
def loader(folder, request):
    return request.param(penstock.ShardDataset(folder))


def samples_in(batch):
    assert torch.equal(batch[:, 0], batch[:, -1])
    return batch[:, 0].long().tolist()


def whole_epoch(loader):
    seen = [sample for batch in loader for sample in samples_in(batch)]
    assert sorted(seen) == list(range(ROWS))


def order_of(epoch):
    return penstock._core.Permutation(ROWS, 0, epoch).take(0, ROWS).tolist()


def test_200_epochs_broken_off(loader):
    for turn in range(200):
        for number, batch in enumerate(loader):
            samples_in(batch)
            if number == turn % 7:
                break
    whole_epoch(loader)


def fail_at_once(loader):
    for batch in loader:
        samples_in(batch)
        raise ZeroDivisionError


def test_200_exceptions_in_the_loop(loader):
    for _ in range(200):
        with pytest.raises(ZeroDivisionError):
            fail_at_once(loader)
    whole_epoch(loader)


def test_a_slow_consumer_and_one_that_keeps_everything(loader):
    kept = []
    for number, batch in enumerate(loader):
        if number % 20 == 0:
            time.sleep(0.02)
        kept.append(batch)
    assert sorted(sample for batch in kept for sample in samples_in(batch)) == list(range(ROWS))


@pytest.mark.parametrize("make", [ours, torchs])
def test_10_000_batches_are_never_written_over_while_somebody_has_them(folder, make):
    chance, kept, batches = random.Random(0), [], 0
    loader = make(penstock.ShardDataset(folder), 8)

    def drop(number):
        kept[number], kept[-1] = kept[-1], kept[number]
        batch, checksum = kept.pop()
        assert zlib.crc32(batch.numpy()) == checksum

    for epoch in range(20):
        seen = []
        for batch in loader:
            seen += samples_in(batch)
            kept.append((batch, zlib.crc32(batch.numpy())))
            del batch
            batches += 1
            most = chance.randrange(100)
            while len(kept) > most:
                drop(chance.randrange(len(kept)))
        assert seen == order_of(epoch)
    while kept:
        drop(0)
    assert batches == 10_000


def test_one_loader_walked_many_times_at_once(loader):
    """Each pass is an epoch of its own, from the moment of its first batch."""
    chance = random.Random(0)
    walks = [iter(loader) for _ in range(10)]
    seen = [samples_in(next(walk)) for walk in walks]
    underway = list(range(10))
    while underway:
        number = chance.choice(underway)
        batch = next(walks[number], None)
        if batch is None:
            underway.remove(number)
        else:
            seen[number] += samples_in(batch)
    assert seen == [order_of(epoch) for epoch in range(10)]


def test_two_loaders_and_many_threads_over_one_dataset(folder):
    dataset = penstock.ShardDataset(folder)
    loaders = [penstock.DataLoader(dataset, BATCH, shuffle=True, seed=seed) for seed in range(4)]
    failures = []

    def run(loader):
        try:
            whole_epoch(loader)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(loader,)) for loader in loaders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def test_no_thread_and_no_batch_outlives_its_iterator(loader):
    walk = iter(loader)
    for _ in range(3):
        next(walk)
    threads = threading.active_count()
    del walk
    gc.collect()
    assert threading.active_count() == threads
    whole_epoch(loader)


def test_a_file_that_shrinks_fails_in_its_turn_and_spares_the_rest(folder, loader):
    walk = iter(loader)
    seen = samples_in(next(walk))
    os.truncate(folder / "2.npy", 1_000)
    failed, paths = 0, set()
    while True:
        try:
            seen += samples_in(next(walk))
        except penstock.ShardError as error:
            failed += 1
            paths.add(error.path)
        except StopIteration:
            break
    assert failed > 0
    assert paths == {str(folder / "2.npy")}
    assert len(seen) == len(set(seen))
    assert len(seen) + failed * BATCH == ROWS


@pytest.mark.parametrize("make", [ours, torchs])
def test_100_passes_in_which_one_sample_fails(folder, make):
    dataset, chance = penstock.ShardDataset(folder), random.Random(0)
    for _ in range(100):
        order, fails_at = list(range(ROWS)), chance.randrange(ROWS)
        order[fails_at] = ROWS
        walk = iter(make(dataset, sampler=order))
        before = [sample for _ in range(fails_at // BATCH) for sample in samples_in(next(walk))]
        with pytest.raises(IndexError, match=str(ROWS)):
            next(walk)
        after = [sample for batch in walk for sample in samples_in(batch)]
        assert before + after == order[: len(before)] + order[len(before) + BATCH :]


def samples_before_ctrl_c(loader, moment):
    """How many a loop sees before it is interrupted while it begins so many batches ahead."""
    begin, begun, seen = loader.dataset.begin, [], 0

    def interrupted(*arguments, **options):
        begun.append(arguments)
        if len(begun) == moment:
            raise KeyboardInterrupt
        return begin(*arguments, **options)

    loader.dataset.begin = interrupted
    try:
        while True:
            for batch in loader:
                seen += len(batch)
    except KeyboardInterrupt:
        return seen


def test_ctrl_c_leaves_a_state_of_what_was_yielded(folder):
    for moment in range(1, 2 * ROWS // BATCH):
        loader = ours(penstock.ShardDataset(folder))
        seen = samples_before_ctrl_c(loader, moment)
        state = loader.state_dict()["sampler"]
        assert state["epoch"] * ROWS + state["position"] == seen


@pytest.mark.parametrize("make", [ours, torchs])
def test_a_transform_that_fails_for_one_sample(folder, make):
    def transform(row):
        if int(row[0]) == 1_234:
            raise ZeroDivisionError("no such thing")
        return row

    dataset = penstock.ShardDataset(folder, transform=transform)
    for epoch in range(3):
        walk, fails_in = iter(make(dataset)), order_of(0).index(1_234) // BATCH
        for _ in range(fails_in):
            samples_in(next(walk))
        with pytest.raises(penstock.SampleError, match="no such thing"):
            next(walk)
        assert len([samples_in(batch) for batch in walk]) == ROWS // BATCH - fails_in - 1, epoch


def test_a_forked_child_goes_on_with_the_iterator(loader):
    for taken in (0, 1, 5):
        walk = iter(loader)
        for _ in range(taken):
            next(walk)
        pid = os.fork()
        if pid == 0:
            status = 1
            torch.set_num_threads(1)
            try:
                status = 0 if len([samples_in(batch) for batch in walk]) == ROWS // BATCH - taken else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert len([samples_in(batch) for batch in walk]) == ROWS // BATCH - taken
