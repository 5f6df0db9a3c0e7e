"""Streams ahead of the loop: broken off, blocked, forked, interrupted, and never ending."""

import gc
import itertools
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from processes import start_python

import penstock
from penstock import PenstockError, StreamDataset

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

PRELUDE = """
import itertools, os, sys, threading, time
import numpy as np
import penstock
"""


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("penstock")]


def wait_for_no_threads(within_s=10.0):
    end = time.monotonic() + within_s
    while threads():
        assert time.monotonic() < end
        time.sleep(0.002)


def endless():
    row = np.zeros(10, np.float32)
    for i in itertools.count():
        row = row.copy()
        row[0] = i
        yield row


def test_200_passes_broken_off():
    loader = penstock.DataLoader(StreamDataset(endless), 50)
    for turn in range(200):
        for number, batch in enumerate(loader):
            assert batch[:, 0].tolist() == list(range(50 * number, 50 * number + 50))
            if number == turn % 4:
                break
    wait_for_no_threads()


def test_what_is_ahead_is_bounded_by_batches_and_bytes(monkeypatch):
    made = []

    def source():
        for i in itertools.count():
            made.append(i)
            yield np.zeros(1 << 16, np.uint8)

    for batch_size, most_bytes, most in ((4, 1 << 28, 4 * (3 + 2)), (16, 1 << 20, 16 * 3)):
        monkeypatch.setattr("penstock.loader._BYTES_AHEAD", most_bytes)
        made.clear()
        walk = iter(penstock.DataLoader(StreamDataset(source), batch_size, prefetch_factor=3))
        for _ in range(3):
            next(walk)
        time.sleep(0.1)
        assert len(made) <= 3 * batch_size + most
        del walk
    wait_for_no_threads()


def test_a_generator_is_closed_where_it_ran():
    closed = []

    def source():
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    for batch in penstock.DataLoader(StreamDataset(source), 10):
        assert len(batch) == 10
        break
    wait_for_no_threads()
    assert closed == ["penstock: stream"]


def test_dropping_a_loader_in_the_middle_frees_everything():
    class Items:
        def __iter__(self):
            return endless()

    items = Items()
    alive = weakref.ref(items)
    loader = penstock.DataLoader(StreamDataset(items), 10)
    walk = iter(loader)
    next(walk)
    del walk, loader, items
    wait_for_no_threads()
    gc.collect()
    assert alive() is None


def test_a_blocked_source_does_not_hold_up_the_next_pass():
    release = threading.Event()
    first = [True]

    def source():
        yield 1
        if first.pop() if first else False:
            release.wait(60)
        yield 2

    loader = penstock.DataLoader(StreamDataset(source), 1)
    walk = iter(loader)
    assert next(walk).tolist() == [1]
    del walk
    begun = time.monotonic()
    assert [int(batch) for batch in loader] == [1, 2]
    assert time.monotonic() - begun < 30
    release.set()
    wait_for_no_threads()


def test_many_loaders_of_one_stream_at_once():
    stream = StreamDataset(range(2_000), shuffle_buffer=10, seed=0)
    walks = [iter(penstock.DataLoader(stream, 37)) for _ in range(20)]
    seen = [torch.cat([next(walk) for _ in range(10)]) for walk in walks]
    assert all(len(set(each.tolist())) == 370 for each in seen)
    del walks
    wait_for_no_threads()


def test_a_source_that_takes_the_lock_all_the_time_starves_nobody():
    loader = penstock.DataLoader(StreamDataset(endless), 256)
    total = sum(len(batch) for batch in itertools.islice(loader, 200))
    assert total == 200 * 256


def test_a_child_is_told_that_the_thread_is_not_its_own():
    loader = penstock.DataLoader(StreamDataset(endless), 8)
    walk = iter(loader)
    next(walk)
    child = os.fork()
    if child == 0:
        try:
            next(walk)
        except PenstockError as error:
            fresh = next(iter(loader))[0, 0].item() == 0
            os._exit(0 if "forked" in str(error) and fresh else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert next(walk)[0, 0] == 8


def test_workers_forked_while_a_stream_runs():
    ahead = iter(penstock.DataLoader(StreamDataset(endless), 8))
    next(ahead)
    stream = StreamDataset(range(500))
    for _ in range(3):
        seen = [i for batch in penstock.DataLoader(stream, 16, num_workers=2) for i in batch.tolist()]
        assert sorted(seen) == list(range(500))
    assert next(ahead)[0, 0] == 8


def test_spawned_workers():
    seen = penstock.DataLoader(StreamDataset(range(100)), 16, num_workers=1, multiprocessing_context="spawn")
    assert sorted(i for batch in seen for i in batch.tolist()) == list(range(100))


SOURCES = {
    "busy": "def source():\n    while True: yield 1\n",
    "asleep": "def source():\n    yield 1\n    time.sleep(60)\n    yield 2\n",
    "never yields": "def source():\n    while True: pass\n    yield 1\n",
    "computes": "def source():\n    x = np.random.rand(300, 300)\n    while True: yield x @ x\n",
}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_interpreter_exits_while_a_stream_runs(kind):
    process = start_python(
        PRELUDE + SOURCES[kind],
        """
        walk = iter(penstock.DataLoader(penstock.StreamDataset(source), 1))
        waiting = threading.Thread(target=next, args=(walk,), daemon=True)
        waiting.start()
        time.sleep(0.1)
        print("out")
        """,
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip()) == (0, "out"), err


@pytest.mark.parametrize("waiting", ["for a batch", "between batches"])
def test_ctrl_c(waiting):
    source = SOURCES["asleep" if waiting == "for a batch" else "busy"]
    process = start_python(
        PRELUDE + source,
        """
        loader = penstock.DataLoader(penstock.StreamDataset(source), 1)
        try:
            for number, batch in enumerate(loader):
                if number == 0: print("go", flush=True)
        except KeyboardInterrupt:
            print("stopped", flush=True)
        """,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip()) == (0, "stopped"), err


def test_a_thousand_passes_leak_nothing():
    loader = penstock.DataLoader(StreamDataset(range(10)), 3)
    for _ in range(1_000):
        assert sum(len(batch) for batch in loader) == 10
    wait_for_no_threads()
