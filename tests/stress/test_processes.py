"""Fork, spawn, threads, Ctrl-C, exit, and the limits of a process."""

import gc
import os
import pickle
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from processes import start_python
from reference import assert_same, random_tensor
from torch.utils.data import DataLoader

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
PRELUDE = """
import os, sys, time
import numpy as np
import torch
import penstock
"""


@pytest.fixture
def large(tmp_path):
    """(dataset, rows): batches of it are large enough to be cut up for several threads."""
    rows = random_tensor((300, 50_000), torch.uint8)
    for i, part in enumerate(rows.split(70)):
        np.save(tmp_path / f"{i}.npy", part.numpy())
    return penstock.ShardDataset(tmp_path), rows


def start(script, *arguments):
    return start_python(PRELUDE, script, *arguments)


def run(script, *arguments):
    """What the script prints; it must end by itself, with nothing to complain of."""
    process = start(script, *arguments)
    try:
        printed, complaint = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail("the process hangs")
    assert (process.returncode, complaint) == (0, "")
    return printed


def in_a_fork(function, seconds=20):
    """Run `function` in a child of this process; it must come back, and without an exception."""
    pid = os.fork()
    if pid == 0:
        status = 1
        torch.set_num_threads(1)  # torch's own OpenMP threads do not survive a fork
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pytest.fail("the child hangs")


# fork and spawn --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_child_forked_after_use_can_gather(large, threads, restore_threads):
    dataset, rows = large
    penstock.set_num_threads(threads)
    assert_same(dataset.gather(range(300)), rows)
    for _ in range(10):
        in_a_fork(lambda: assert_same(dataset.gather(range(299, -1, -1)), rows.flip(0)))
    assert_same(dataset.gather(range(300)), rows)


def test_a_child_of_a_child_can_gather(large, restore_threads):
    dataset, rows = large
    penstock.set_num_threads(2)
    dataset.gather(range(300))

    def gather_and_fork():
        dataset.gather(range(300))
        in_a_fork(lambda: assert_same(dataset.gather(range(300)), rows))

    in_a_fork(gather_and_fork)


def test_a_fork_while_other_threads_gather(large, restore_threads):
    dataset, rows = large
    penstock.set_num_threads(3)
    done = threading.Event()

    def keep_busy():
        while not done.is_set():
            dataset.gather(range(300))

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(keep_busy) for _ in range(2)]
        try:
            for _ in range(15):
                in_a_fork(lambda: assert_same(dataset.gather(range(300)), rows))
        finally:
            done.set()
        for future in futures:
            future.result()


def test_batches_of_the_parent_are_right_in_the_child_and_after_it(large):
    dataset, rows = large
    batch = dataset.gather(range(100))

    def use():
        assert_same(batch, rows[:100])
        batch.zero_()
        for _ in range(5):
            dataset.gather(range(100, 200))

    in_a_fork(use)
    assert_same(batch, rows[:100])


def test_a_spawned_process_can_gather(large, tmp_path):
    dataset, rows = large
    (tmp_path / "dataset.pickle").write_bytes(pickle.dumps(dataset))
    script = """
        import pickle
        dataset = pickle.loads(open(sys.argv[1], "rb").read())
        print(dataset.gather([299, 0]).sum().item(), len(dataset))
    """
    assert run(script, tmp_path / "dataset.pickle").split() == [str(int(rows[[299, 0]].sum())), "300"]


def test_pickles_grow_with_the_number_of_files_only(tmp_path):
    def size(files, rows):
        folder = tmp_path / f"{files}-{rows}"
        folder.mkdir()
        for i in range(files):
            np.save(folder / f"{i:03}.npy", np.zeros((rows, 100)))
        dataset = penstock.ShardDataset(folder)
        dataset.gather([0, -1])
        return len(pickle.dumps(dataset))

    assert abs(size(1, 10) - size(1, 10_000)) < 100
    assert size(100, 10) < 1000 + 500 * 100


# the end of a process --------------------------------------------------------------------------------------

HOLDING = """
    np.save(sys.argv[1], np.ones((4000, 1000), np.uint8))
    dataset = penstock.ShardDataset(sys.argv[1])
    penstock.set_num_threads(4)
    batches = [dataset.gather(range(4000)) for _ in range(5)]
    views = [batch.numpy()[5:] for batch in batches]
    samples = dataset.__getitems__([1, 2])
    sample = samples[0]
"""


@pytest.mark.parametrize("end", ["", "del dataset", "sys.exit()", "del batches", "sys.modules.clear()"])
def test_a_process_ends_while_batches_are_alive(tmp_path, end):
    run(HOLDING + "    " + end, tmp_path / "x.npy")


def test_a_process_ends_while_a_thread_gathers(tmp_path):
    """Of the core alone: a daemon thread in any of torch's own calls aborts the process at its end."""
    script = """
    import threading

    def forever():
        rows = np.arange(4000)
        while True:
            dataset.table.core.gather(rows)

    threading.Thread(target=forever, daemon=True).start()
    time.sleep(0.5)
    """
    for _ in range(3):
        run(HOLDING + script, tmp_path / "x.npy")


def test_a_process_ends_while_a_loader_is_half_way(tmp_path):
    script = """
    from torch.utils.data import DataLoader
    batches = iter(DataLoader(dataset, 10, num_workers=2, multiprocessing_context="fork"))
    next(batches)
    """
    run(HOLDING + script, tmp_path / "x.npy")


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_ends_the_process(tmp_path, workers):
    script = """
    from torch.utils.data import DataLoader, RandomSampler
    workers = int(sys.argv[2])
    context = "fork" if workers else None
    endless = RandomSampler(dataset, replacement=True, num_samples=10**9)
    loader = DataLoader(dataset, 500, sampler=endless, num_workers=workers, multiprocessing_context=context)
    for i, batch in enumerate(loader):
        if i == 5:
            print("ready", flush=True)
    """
    process = start(HOLDING + script, tmp_path / "x.npy", workers)
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=20)
        assert process.returncode != 0
        assert "KeyboardInterrupt" in complaint
    finally:
        process.kill()


def test_ctrl_c_in_a_large_gather_is_a_keyboard_interrupt(tmp_path):
    script = """
    rows = np.tile(np.arange(4000), 25)
    print("ready", flush=True)
    try:
        while True:
            dataset.gather(rows)
    except KeyboardInterrupt:
        print(dataset.gather([0]).sum().item())
    """
    process = start(HOLDING + script, tmp_path / "x.npy")
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=5)
        assert (process.returncode, printed, complaint) == (0, "1000\n", "")
    finally:
        process.kill()


# threads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_many_threads_gather_at_once(large, threads, restore_threads):
    dataset, rows = large
    penstock.set_num_threads(threads)

    def gather(seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(15):
            chosen = torch.randint(0, 300, (50,), generator=generator)
            assert_same(dataset.gather(chosen), rows[chosen])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(gather, range(8)))


def test_an_exception_surfaces_in_the_thread_that_asked(large):
    dataset, rows = large

    def gather(i):
        if i % 2:
            with pytest.raises(IndexError):
                dataset.gather([0] * 200 + [300 + i])
        else:
            assert_same(dataset.gather([i] * 200), rows[[i] * 200])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(gather, range(100)))


def test_the_number_of_threads_may_change_while_others_gather(large, restore_threads):
    dataset, rows = large

    def gather(_):
        for _ in range(10):
            assert_same(dataset.gather(range(100)), rows[:100])

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(gather, i) for i in range(3)]
        for n in range(60):
            penstock.set_num_threads(1 + n % 4)
            assert penstock.get_num_threads() == 1 + n % 4
        for future in futures:
            future.result()


def test_a_batch_may_be_dropped_in_another_thread(large):
    dataset, rows = large
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            batches = [
                future.result() for future in [pool.submit(dataset.gather, range(50)) for _ in range(8)]
            ]
            sums = pool.map(lambda batch: int(batch.sum()), batches)
            assert set(sums) == {int(rows[:50].sum())}


def test_the_other_python_threads_run_during_a_gather(large):
    """The GIL is released: a counter in another thread gets on."""
    dataset, _ = large
    chosen = np.tile(np.arange(300), 20)
    counted, done = 0, threading.Event()

    def count():
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(0.001)

    def counts_during(call):
        before = counted
        call()
        return counted > before

    thread = threading.Thread(target=count)
    thread.start()
    try:
        assert any(counts_during(lambda: dataset.gather(chosen)) for _ in range(100))
    finally:
        done.set()
        thread.join()


# order of the end of things --------------------------------------------------------------------------------


def test_things_may_be_dropped_in_any_order(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(1000))
    expected = torch.arange(1000)
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)):
        dataset = penstock.ShardDataset(tmp_path / "x.npy")
        things = [dataset, dataset.gather(range(1000)), dataset.__getitems__(range(1000))]
        del dataset
        for i in order[:2]:
            things[i] = None
            gc.collect()
        left = things[order[2]]
        if isinstance(left, penstock.ShardDataset):
            left = left.gather(range(1000))
        elif isinstance(left, penstock.Samples):
            left = torch.utils.data.default_collate(left)
        assert_same(left, expected)


def test_a_subset_outlives_the_dataset_it_was_made_of(large):
    dataset, rows = large
    subset, both = dataset.subset([299, 5]), dataset + dataset
    del dataset, large
    gc.collect()
    assert_same(subset.gather([0, 1]), rows[[299, 5]])
    assert_same(both.gather([305]), rows[[5]])


def test_datasets_give_back_their_files_and_maps(tmp_path):
    for i in range(20):
        np.save(tmp_path / f"{i}.npy", np.ones((300, 1000)))

    def open_and_use():
        dataset = penstock.ShardDataset(tmp_path)
        return dataset.gather(range(0, 6000, 7)).sum().item()

    def held():
        with open("/proc/self/maps") as maps:
            return len(os.listdir("/proc/self/fd")), sum(str(tmp_path) in line for line in maps)

    open_and_use()
    gc.collect()
    files, maps = held()
    for _ in range(20):
        open_and_use()
    gc.collect()
    assert held()[0] <= files + 2
    assert held()[1] <= maps + 2


def test_many_datasets_may_be_open(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(10))
    datasets = [penstock.ShardDataset(tmp_path / "x.npy") for _ in range(500)]
    for i, dataset in enumerate(datasets):
        assert int(dataset[i % 10]) == i % 10


@pytest.mark.parametrize("rows", [3, 5000], ids=["small files", "large files"])
def test_more_shards_than_files_may_be_open(tmp_path, rows):
    """300 shards under a limit of 64 open files."""
    for i in range(300):
        np.save(tmp_path / f"{i:03}.npy", np.full((rows, 20), i, np.int16))
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        dataset = penstock.ShardDataset(sys.argv[1])
        rows = len(dataset) // 300
        order = torch.randperm(len(dataset))[:20_000]
        for indices in (*order.split(1000), torch.arange(0, len(dataset), rows)):
            batch = dataset.gather(indices)
            assert torch.equal(batch[:, 0], (indices // rows).to(torch.int16))
        files = [open(sys.argv[1] + "/000.npy") for _ in range(5)]
        print("read all")
    """
    assert run(script, tmp_path) == "read all\n"


def test_workers_under_a_small_limit_of_open_files(tmp_path):
    for i in range(150):
        np.save(tmp_path / f"{i:03}.npy", np.full((2, 20), i))
    script = """
        import resource
        from torch.utils.data import DataLoader
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        dataset = penstock.ShardDataset(sys.argv[1])
        dataset.gather(range(300))
        loader = DataLoader(dataset, 10, num_workers=2, multiprocessing_context="fork")
        print(sum(int(batch[:, 0].sum()) for batch in loader))
    """
    assert run(script, tmp_path) == f"{2 * sum(range(150))}\n"


def test_a_loader_in_a_thread_is_a_loader(large):
    dataset, rows = large
    with ThreadPoolExecutor(1) as pool:
        batches = pool.submit(lambda: list(DataLoader(dataset, 64))).result()
    assert_same(torch.cat(batches), rows)
