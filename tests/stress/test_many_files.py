"""Many files: few descriptors, little memory, many processes at once; files that change; Ctrl-C; forks."""

import gc
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import popen_spawn_posix
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from processes import start_python
from reference import assert_same, random_tensor
from stress.test_memory import MIB, memory_group
from stress.test_processes import PRELUDE, in_a_fork, run
from torch.utils.data import DataLoader

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
MANY = 20_000
INT64 = penstock.Raw("int64")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """20,000 files in 20 folders; file i of folder k holds the number 1000 k + i."""
    root = tmp_path_factory.mktemp("many")
    for k in range(20):
        (root / f"{k:02}").mkdir()
        for i in range(1000):
            with open(root / f"{k:02}" / f"{i:03}.bin", "wb", buffering=0) as file:
                file.write((1000 * k + i).to_bytes(8, "little"))
    return root


def ids_of_many(count=MANY):
    return [f"{i // 1000:02}/{i % 1000:03}" for i in range(count)]


def open_many(root, count=MANY, **options):
    return penstock.FileDataset(root, ids=ids_of_many(count), suffix=".bin", raw=INT64, **options)


# limits ----------------------------------------------------------------------------------------------------


def test_20_000_files_under_a_limit_of_256_open_ones(many):
    script = """
        import resource
        from torch.utils.data import DataLoader
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        count = 20_000
        ids = [f"{i // 1000:02}/{i % 1000:03}" for i in range(count)]
        options = dict(suffix=".bin", raw=penstock.Raw("int64"), labels=torch.arange(count))
        dataset = penstock.FileDataset(sys.argv[1], ids=ids, cache="memory", cache_bytes=9_999 * 8, **options)
        penstock.set_num_threads(3)
        ours = penstock.DataLoader(dataset, 256, shuffle=True)
        theirs = DataLoader(dataset, 256, shuffle=True, num_workers=2, multiprocessing_context="fork")
        for loader in (ours, theirs, ours):
            seen = torch.cat([x for x, y in loader if torch.equal(x, y)])
            assert torch.equal(seen.sort().values, torch.arange(count))
        assert len(os.listdir("/proc/self/fd")) < 30, os.listdir("/proc/self/fd")
        print("read all")
    """
    assert run(script, many) == "read all\n"


def test_more_datasets_than_files_may_be_open(many):
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        raw = penstock.Raw("int64")
        folders = [
            penstock.FileDataset(f"{sys.argv[1]}/{k % 20:02}", ids=["007"], suffix=".bin", raw=raw)
            for k in range(100)
        ]
        print(sum(int(folder[0]) for folder in folders))
    """
    assert run(script, many) == f"{5 * sum(1000 * k + 7 for k in range(20))}\n"


def test_the_work_of_counting_missing_files_grows_with_their_number_only(many):
    """For so many three seconds are much; for a million of them, with a cube, they are days."""
    script = """
        import resource
        limit = int(time.process_time()) + 4
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        try:
            penstock.FileDataset(sys.argv[1], ids=[f"no-{i}" for i in range(30_000)])
        except penstock.ShardError as error:
            print(error.problem)
    """
    assert run(script, many) == "30000 of 30000 files are not there\n"


class Spawning:
    """What the pickler asks while a process is being spawned."""

    DupFd = popen_spawn_posix._DupFd

    def duplicate_for_child(self, descriptor):
        return descriptor


def bytes_for_a_worker(dataset):
    multiprocessing.context.set_spawning_popen(Spawning())
    try:
        return len(ForkingPickler.dumps(dataset))
    finally:
        multiprocessing.context.set_spawning_popen(None)


@pytest.mark.parametrize("indexed", [False, True])
def test_what_a_spawned_worker_is_sent_does_not_grow_with_the_files(many, tmp_path, indexed):
    def size(count):
        options = {"index": tmp_path / "many.idx"} if indexed else {}
        return bytes_for_a_worker(
            open_many(many, count, labels=torch.arange(count), cache="memory", cache_bytes=10**6, **options)
        )

    assert abs(size(MANY) - size(10)) < 100


def test_nothing_is_kept_in_python_for_each_file(many):
    dataset = open_many(many, 10)  # what is made once
    gc.collect()
    before = sys.getallocatedblocks()
    dataset = open_many(many, labels=torch.arange(MANY))
    dataset.gather(range(0, MANY, 7))
    gc.collect()
    assert sys.getallocatedblocks() - before < 2_000


def test_gathers_of_many_files_by_several_threads(many, restore_threads):
    penstock.set_num_threads(3)
    dataset = open_many(many, cache="memory", cache_bytes=15_000 * 8)

    def gather(seed):
        for _ in range(5):
            rows = torch.randint(0, MANY, (5_000,), generator=torch.Generator().manual_seed(seed))
            assert_same(dataset.gather(rows), rows)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(gather, range(4)))
    assert_same(dataset.gather(range(MANY)), torch.arange(MANY))


# memory ----------------------------------------------------------------------------------------------------

TUTORIAL = """
import sys, torch, penstock
from torch.utils.data import DataLoader

def anonymous_memory():
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return int(lines["RssAnon"].split()[0]) * 1024

folder, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
partition = {"train": [f"id-{i}" for i in range(count)]}
labels = {name: i for i, name in enumerate(partition["train"])}
train = penstock.FileDataset(
    folder,
    ids=partition["train"],
    labels=labels,
    suffix=".bin",
    raw=penstock.Raw("uint8", (512, 512)),
    cache="memory" if kind == "cached" else None,
)
Loader = DataLoader if kind == "torch's" else penstock.DataLoader
loader = Loader(train, batch_size=32, shuffle=True)
next(iter(loader))
before, seen, grown = anonymous_memory(), torch.zeros(count, dtype=torch.int64), 0
for epoch in range(5):
    for local_batch, local_labels in loader:
        assert torch.equal(local_batch[:, 0, 0].int() + 256 * local_batch[:, -1, -1].int(), local_labels)
        seen[local_labels] += 1
        grown = max(grown, anonymous_memory() - before)
assert (seen == 5).all(), seen.unique()
if kind != "cached":
    assert grown < 12 * local_batch.numel() + 20 * 2**20, f"grew by {grown} bytes"
print("ok")
"""
IMAGE_BYTES = 512 * 512


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """400 MiB that no page cache holds; image i begins and ends with the bytes of its number."""
    root = tmp_path_factory.mktemp("images")
    count = 400 * MIB // IMAGE_BYTES
    for i in range(count):
        with open(root / f"id-{i}.bin", "wb") as file:
            file.write(bytes([i % 256]) + bytes(IMAGE_BYTES - 2) + bytes([i // 256]))
    os.sync()
    for path in root.iterdir():
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return root, count


@pytest.mark.parametrize(
    "kind",
    [
        "penstock's",
        "torch's",
        "cached",
    ],
)
def test_5_epochs_see_every_sample_5_times_in_less_memory_than_the_data(images, kind):
    folder, count = images
    try:
        with memory_group(360 * MIB) as enter:
            command = [sys.executable, "-c", TUTORIAL, str(folder), kind, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, preexec_fn=enter)
    except OSError as error:
        pytest.skip(f"no control group of our own: {error}")
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


# several processes -----------------------------------------------------------------------------------------

TEN = """
root, index, state = sys.argv[1:]
gate, its_end = os.pipe()
pids = []
for rank in range(10):
    pid = os.fork()
    if pid:
        pids.append(pid)
        continue
    os.close(its_end)
    os.read(gate, 1)  # until all are there
    import warnings
    warnings.simplefilter("error" if state != "damaged" else "ignore")
    dataset = penstock.FileDataset(root, index=index, labels=lambda path: int(path.stem))
    x, y = dataset.gather(range(len(dataset)))
    os._exit(0 if torch.equal(x[:, 0], y) and len(dataset) == 60 else 1)
os.close(gate)
time.sleep(0.1)
os.close(its_end)
print([os.waitpid(pid, 0)[1] for pid in pids])
"""


def save_numbers(root, numbers):
    root.mkdir(exist_ok=True)
    for i in numbers:
        np.save(root / f"{i:02}.npy", np.full(3, i))


@pytest.mark.parametrize("state", ["none", "damaged", "old"])
def test_ten_processes_that_start_at_once_share_an_index(tmp_path, state):
    root, index = tmp_path / "rows", tmp_path / "index" / "rows.idx"
    index.parent.mkdir()
    save_numbers(root, range(60 if state != "old" else 50))
    if state != "none":
        penstock.FileDataset(root, index=index)
    if state == "damaged":
        index.write_bytes(index.read_bytes()[:-8])
    save_numbers(root, range(60))
    assert run(TEN, root, index, state) == f"{[0] * 10}\n"
    assert os.listdir(index.parent) == ["rows.idx"]
    assert penstock._core.FileIndex.open(os.fsencode(index)).num_files == 60


def test_an_index_is_whole_whenever_it_is_read(tmp_path):
    """One process makes it anew all the time."""
    root, index = tmp_path / "rows", tmp_path / "rows.idx"
    save_numbers(root, range(60))
    penstock.FileDataset(root, index=index)
    script = """
        root, index = sys.argv[1:]
        print("go", flush=True)
        for turn in range(10**9):
            os.unlink(root + "/07.npy")
            penstock.FileDataset(root, index=index)
            np.save(root + "/07.npy", np.full(3, 7))
            penstock.FileDataset(root, index=index)
    """
    process = start_python(PRELUDE, script, root, index)
    try:
        assert process.stdout.readline() == "go\n"
        sizes = {penstock._core.FileIndex.open(os.fsencode(index)).num_files for _ in range(1_000)}
    finally:
        process.kill()
        process.communicate()
    assert sizes <= {59, 60}


def test_forks_while_other_threads_gather_into_a_cache(many, restore_threads):
    penstock.set_num_threads(3)
    dataset = open_many(many, cache="memory")
    done = threading.Event()
    expected = torch.arange(MANY)

    def keep_busy(seed):
        generator = torch.Generator().manual_seed(seed)
        while not done.is_set():
            rows = torch.randint(0, MANY, (500,), generator=generator)
            assert_same(dataset.gather(rows), rows)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(keep_busy, seed) for seed in range(2)]
        try:
            for i in range(10):
                in_a_fork(lambda i=i: assert_same(dataset.gather(expected[i::10]), expected[i::10]))
        finally:
            done.set()
        for future in futures:
            future.result()
    assert dataset._cache.rows_kept == MANY
    assert_same(dataset.gather(expected), expected)


def test_processes_that_are_killed_leave_no_wrong_row_in_the_cache(many):
    dataset = open_many(many, 2_000, cache="memory")
    chance = random.Random(0)
    expected = torch.arange(2_000)
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            dataset.gather(chance.sample(range(2_000), 1_000))
            os._exit(0)
        time.sleep(chance.random() / 200)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert_same(dataset.gather(expected[::50]), expected[::50])
    for _ in range(2):
        assert_same(dataset.gather(expected), expected)


@pytest.mark.parametrize("kind", ["FileDataset", "TensorDataset"])
def test_labels_stay_what_they_were_when_a_process_is_spawned(tmp_path, kind):
    (tmp_path / "0.bin").write_bytes(b"x")
    script = """
        import multiprocessing
        labels = torch.arange(10**6).view(1, -1)
        if sys.argv[2] == "FileDataset":
            dataset = penstock.FileDataset(sys.argv[1], raw=penstock.Raw("uint8"), labels=labels.clone())
        else:
            dataset = penstock.TensorDataset(torch.zeros(1), labels.clone())
        process = multiprocessing.get_context("spawn").Process(target=len, args=(dataset,))
        process.start()
        process.join()
        print(torch.equal(dataset[0][1], labels[0]))
    """
    assert run(script, tmp_path, kind) == "True\n"


# files that change -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", [penstock.DataLoader, DataLoader])
def test_files_that_are_replaced_all_the_time_are_read_whole(tmp_path, loader):
    """Each is all of one number, in one format or another."""
    tensors = [random_tensor((100,), torch.int32, seed)[:1].expand(100).contiguous() for seed in range(4)]
    (tmp_path / "new").mkdir()
    (tmp_path / "rows").mkdir()
    done = threading.Event()

    def write_one(i, chance):
        new = tmp_path / "new" / str(i)
        tensor = chance.choice(tensors)
        if chance.random() < 0.5:
            torch.save(tensor if chance.random() < 0.5 else {"a": tensor}, new)
        else:
            with open(new, "wb") as file:
                chance.choice([np.save, np.savez])(file, tensor.numpy())
        new.replace(tmp_path / "rows" / str(i))

    def keep_writing():
        chance = random.Random(0)
        while not done.is_set():
            write_one(chance.randrange(20), chance)

    for i in range(20):
        write_one(i, random.Random(i))
    dataset = penstock.FileDataset(tmp_path / "rows", ids=map(str, range(20)), suffix="")
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(keep_writing)
        try:
            batches = [batch for _ in range(40) for batch in loader(dataset, 5, shuffle=True)]
        finally:
            done.set()
        writing.result()
    possible = {int(tensor[0]) for tensor in tensors}
    for batch in batches:
        assert_same(batch, batch[:, :1].expand(-1, 100))
        assert set(batch[:, 0].tolist()) <= possible


def test_a_compressed_file_that_is_replaced_all_the_time_is_read_whole(tmp_path):
    (tmp_path / "rows").mkdir()
    for value in (0, 1):
        np.savez_compressed(tmp_path / f"{value}.npz", np.full(100, value))
    shutil.copy(tmp_path / "0.npz", tmp_path / "rows" / "x.npz")
    dataset = penstock.FileDataset(tmp_path / "rows")
    done = threading.Event()

    def keep_replacing():
        for turn in itertools.takewhile(lambda _: not done.is_set(), itertools.count(1)):
            os.link(tmp_path / f"{turn % 2}.npz", tmp_path / "new")
            os.replace(tmp_path / "new", tmp_path / "rows" / "x.npz")

    with ThreadPoolExecutor(1) as pool:
        replacing = pool.submit(keep_replacing)
        try:
            for _ in range(2_000):
                batch = dataset.gather([0] * 20)
                assert_same(batch, batch[:, :1].expand(-1, 100))
        finally:
            done.set()
        replacing.result()


# Ctrl-C ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [False, True])
def test_ctrl_c_while_many_files_are_opened(many, tmp_path, missing):
    script = """
        root, index, suffix = sys.argv[1:]
        ids = [f"{i // 1000:02}/{i % 1000:03}" for i in range(20_000)]
        raw = penstock.Raw("int64")
        print("go", flush=True)
        while True:
            if suffix:
                penstock.FileDataset(root, ids=[*ids, "none"], suffix=suffix, raw=raw, on_error="skip").ids
            else:
                penstock.FileDataset(root, raw=raw, index=index)
                os.unlink(index)
    """
    script = script.replace('"none"', '"00/none"')
    chance = random.Random(0)
    for _ in range(2):
        arguments = (many, tmp_path / "an.idx", ".bin" if missing else "")
        process = start_python(
            "import warnings\nwarnings.simplefilter('ignore')\n" + PRELUDE, script, *arguments
        )
        try:
            assert process.stdout.readline() == "go\n"
            time.sleep(chance.random() / 3)
            process.send_signal(signal.SIGINT)
            _, complaint = process.communicate(timeout=20)
        finally:
            process.kill()
        assert process.returncode in (1, -signal.SIGINT)
        assert complaint.rstrip().endswith("KeyboardInterrupt")
        assert set(os.listdir(tmp_path)) <= {"an.idx"}


def test_after_ctrl_c_the_same_process_opens_the_files(many):
    script = """
        import signal
        ids = [f"{i // 1000:02}/{i % 1000:03}" for i in range(20_000)]
        options = dict(ids=ids, suffix=".bin", raw=penstock.Raw("int64"))
        interrupted = 0
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        for turn in range(20):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 * (turn + 1))
                penstock.FileDataset(sys.argv[1], **options)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
        dataset = penstock.FileDataset(sys.argv[1], **options)
        print(torch.equal(dataset.gather(range(20_000)), torch.arange(20_000)), interrupted > 0)
    """
    assert run(script, many) == "True True\n"
