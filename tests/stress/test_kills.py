"""Processes that end while batches are under way: by themselves, by Ctrl-C, killed and resumed."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from processes import start_python
from torch.utils.data import DataLoader

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
ROWS = 4_000

PRELUDE = """
import atexit, gc, json, os, random, signal, sys, threading, time, warnings
import torch
import penstock

chance = random.Random(sys.argv[2])

def some_loader():
    dataset = penstock.ShardDataset(sys.argv[1])
    batch_size, ahead = chance.choice([1, 50, 500]), chance.choice([1, 8, 64])
    penstock.set_num_threads(chance.choice([1, 2, 4]))
    if chance.random() < 0.5:
        return penstock.DataLoader(dataset, batch_size, shuffle=True, seed=0, prefetch_factor=ahead)
    order = penstock.BatchSampler(penstock.ShuffleSampler(dataset), batch_size, lookahead=ahead)
    return torch.utils.data.DataLoader(dataset, batch_sampler=order)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows of 4 KiB that hold their own number."""
    folder = tmp_path_factory.mktemp("rows")
    for shard in range(4):
        rows = np.arange(shard * 1_000, (shard + 1) * 1_000, dtype=np.float32)
        np.save(folder / f"{shard}.npy", np.repeat(rows[:, None], 1_024, axis=1))
    return folder


def order_of(epoch):
    return penstock._core.Permutation(ROWS, 0, epoch).take(0, ROWS).tolist()


def start(script, *arguments):
    return start_python(PRELUDE, script, *arguments)


# by themselves ---------------------------------------------------------------------------------------------

ENDINGS = {  # what a program does last, with its loader half way
    "nothing": "",
    "sys.exit": "sys.exit()",
    "an exception": "raise ZeroDivisionError",
    "the loader is dropped": "del loader",
    "the loader and its pass are dropped": "del loader, walk, batches",
    "batches live on in a cycle": "batches.append(batches); del batches, walk",
    "the modules are gone": "sys.modules.clear()",
    "a loader that begins": "walks = [iter(loader) for _ in range(5)]; next(walks[3])",
    "a thread goes on": "threading.Thread(target=list, args=(walk,)).start()",
    "an exit handler goes on": "atexit.register(lambda: next(walk))",
    "an exit handler begins": "atexit.register(lambda: next(iter(loader)))",
    "sys.exit in a batch": "forever(lambda *_: sys.exit())",
    "Ctrl-C in a batch": "forever(signal.default_int_handler)",
}
STATUS_AND_LAST_LINE = {
    "an exception": (1, "ZeroDivisionError"),
    "Ctrl-C in a batch": (-signal.SIGINT, "KeyboardInterrupt"),
}

EXITS = """
def forever(handler):
    signal.signal(signal.SIGPROF, handler)
    signal.setitimer(signal.ITIMER_PROF, chance.random() / 50 + 1e-6)
    while True:
        list(loader)

def begin():
    global loader, walk, batches
    loader = some_loader()
    walk = iter(loader)
    batches = [next(walk) for _ in range(chance.choice([0, 1, 3]))]

def complaint_of(pid, pipe):
    with open(pipe) as errors:
        complaint = errors.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), complaint

warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
gc.collect()
gc.freeze()  # what torch has brought is left as it is: that halves the time of an exit
endings = json.loads(sys.argv[3])
for number in range(100):
    ending = list(endings)[number % len(endings)]
    begun_before_the_fork = number % 4 == 0
    if begun_before_the_fork:
        begin()
    pipe, its_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        break
    os.close(its_end)
    print(json.dumps([ending, *complaint_of(pid, pipe)]), flush=True)
else:
    sys.exit()

signal.alarm(20)  # kills who hangs
os.dup2(its_end, 2)
torch.set_num_threads(1)
if not begun_before_the_fork:
    begin()
exec(endings[ending])
"""


@pytest.mark.timeout(400)
def test_200_exits_of_the_interpreter(folder):
    """Two programs fork 100 children each, in turn, which run to the true end of an interpreter."""
    programs = [start(EXITS, folder, seed, json.dumps(ENDINGS)) for seed in range(2)]
    exits = []
    try:
        for program in programs:
            printed, complaint = program.communicate(timeout=180)
            assert (program.returncode, complaint) == (0, "")
            exits += [json.loads(line) for line in printed.splitlines()]
    finally:
        for program in programs:
            program.kill()
    assert len(exits) == 200
    assert {ending for ending, _, _ in exits} == set(ENDINGS)
    for ending, status, complaint in exits:
        last_line = complaint.rstrip().rpartition("\n")[2]
        assert (status, last_line) == STATUS_AND_LAST_LINE.get(ending, (0, "")), (ending, complaint)


@pytest.mark.parametrize("ending", ["sys.exit()", "raise SystemExit(0)", "os._exit(0)", "pass"])
def test_the_interpreter_exits_with_batches_under_way(folder, ending):
    process = start(f"walk = iter(some_loader())\nnext(walk)\n{ending}", folder, 0)
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (0, "")


# by Ctrl-C -------------------------------------------------------------------------------------------------


def test_ctrl_c_at_random_moments(folder):
    chance = random.Random(0)
    script = """
    loader = some_loader()
    print("go", flush=True)
    while True:
        list(loader)
    """
    for turn in range(4):
        process = start(script, folder, turn)
        assert process.stdout.readline() == "go\n"
        time.sleep(chance.random() / 4)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=20)
        assert process.returncode in (1, -signal.SIGINT)
        assert complaint.rstrip().endswith("KeyboardInterrupt")


def test_50_times_ctrl_c_and_on_within_2_seconds(folder):
    """Whoever catches it goes on with a new loader, and with the threads that were there."""
    script = """
    torch.set_num_threads(1)
    penstock.set_num_threads(4)
    loader = penstock.DataLoader(penstock.ShardDataset(sys.argv[1]), 500)
    list(loader)
    print(len(os.listdir("/proc/self/task")), flush=True)
    for _ in range(50):
        loader = batch = None
        try:
            print("go", flush=True)
            loader = some_loader()
            while True:
                for batch in loader:
                    pass
        except KeyboardInterrupt:
            loader = batch = None
        print(len(os.listdir("/proc/self/task")), flush=True)
    """
    process, chance = start(script, folder, 0), random.Random(1)
    try:
        threads = int(process.stdout.readline())
        for _ in range(50):
            assert process.stdout.readline() == "go\n", process.communicate()[1]
            time.sleep(chance.random() / 20)
            process.send_signal(signal.SIGINT)
            sent = time.monotonic()
            assert int(process.stdout.readline() or -1) == threads, process.communicate()[1]
            assert time.monotonic() - sent < 2
        _, complaint = process.communicate(timeout=20)
        assert (process.returncode, complaint) == (0, "")
    finally:
        process.kill()


# killed, and resumed from what the dead has written down ---------------------------------------------------


class Ledger:
    """Batches that were trained on, each in one line with the state after it."""

    def __init__(self, path):
        self.path = path
        path.touch()

    def append(self, samples, state):
        with open(self.path, "a") as file:
            file.write(json.dumps([samples, state]) + "\n")

    def drop_half_a_line(self):
        """What was cut short was not written."""
        os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)

    def lines(self):
        return self.path.read_text().splitlines()

    def state(self):
        """The latest one, or None."""
        lines = self.lines()
        return json.loads(lines[-1])[1] if lines else None

    def samples(self):
        return [sample for line in self.lines() for sample in json.loads(line)[0]]


class Ours:
    """Training with Penstock's loader."""

    def __init__(self, dataset, batch_size, ahead):
        self.loader = penstock.DataLoader(dataset, batch_size, shuffle=True, seed=0, prefetch_factor=ahead)

    def state(self):
        return self.loader.state_dict()["sampler"]

    def resume(self, state):
        self.loader.load_state_dict({**self.loader.state_dict(), "sampler": state, "batches": 0})


class Torchs:
    """Training with torch's loader, whose batch sampler keeps the state."""

    def __init__(self, dataset, batch_size, ahead):
        order = penstock.ShuffleSampler(dataset, seed=0)
        self.order = penstock.BatchSampler(order, batch_size, lookahead=ahead)
        self.loader = DataLoader(dataset, batch_sampler=self.order)

    def state(self):
        return self.order.state_dict()

    def resume(self, state):
        self.order.load_state_dict(state)


def train_an_epoch(folder, ledger, chance):
    """Go on to the end of an epoch, in one way or another."""
    penstock.set_num_threads(chance.choice([1, 2, 4]))
    training = chance.choice([Ours, Torchs])(
        penstock.ShardDataset(folder), chance.randrange(1, 100), chance.choice([1, 8, 64])
    )
    if state := ledger.state():
        training.resume(state)
    for batch in training.loader:
        assert torch.equal(batch[:, 0], batch[:, -1])
        ledger.append(batch[:, 0].long().tolist(), training.state())


def train_until_killed(folder, ledger, chance, seconds):
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        try:
            while True:
                train_an_epoch(folder, ledger, chance)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    ledger.drop_half_a_line()


def test_killed_50_times_and_resumed_nothing_is_lost_or_seen_twice(folder, tmp_path, restore_threads):
    """50 times after at least one batch, and some times before it."""
    ledger, chance = Ledger(tmp_path / "ledger"), random.Random(0)
    lives = lives_with_batches = 0
    while lives_with_batches < 50:
        before = len(ledger.lines())
        train_until_killed(folder, ledger, random.Random(lives), chance.uniform(0, 0.03 + lives / 1000))
        lives += 1
        lives_with_batches += len(ledger.lines()) > before
    train_an_epoch(folder, ledger, chance)
    samples = ledger.samples()
    assert samples == [sample for epoch in range(len(samples) // ROWS) for sample in order_of(epoch)]
