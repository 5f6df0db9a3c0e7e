"""A loader that works ahead: broken off, failing, interrupted, forked, killed and resumed at any moment."""

import gc
import json
import os
import random
import signal
import threading
import time

import numpy as np
import pytest
import torch
from processes import start_python

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
ROWS, BATCH = 4_000, 50

PRELUDE = """
import json, os, sys, time
import numpy as np
import torch
import penstock
folder = sys.argv[1]
dataset = penstock.ShardDataset(folder)
loader = penstock.DataLoader(dataset, 50, shuffle=True, seed=0)
"""


@pytest.fixture
def folder(tmp_path):
    """Rows of 16 KiB that hold their own number, in files of 16 MB."""
    for shard in range(4):
        rows = np.arange(shard * 1_000, (shard + 1) * 1_000, dtype=np.float32)
        np.save(tmp_path / f"{shard}.npy", np.repeat(rows[:, None], 4_096, axis=1))
    return tmp_path


@pytest.fixture
def loader(folder):
    return penstock.DataLoader(penstock.ShardDataset(folder), BATCH, shuffle=True, seed=0)


def samples_in(batch):
    assert torch.equal(batch[:, 0], batch[:, -1])
    return batch[:, 0].long().tolist()


def whole_epoch(loader):
    seen = [sample for batch in loader for sample in samples_in(batch)]
    assert sorted(seen) == list(range(ROWS))


def start(script, *arguments):
    return start_python(PRELUDE, script, *arguments)


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


@pytest.mark.parametrize("ending", ["sys.exit()", "raise SystemExit(0)", "os._exit(0)", "pass"])
def test_the_interpreter_exits_with_batches_under_way(folder, ending):
    process = start(f"walk = iter(loader)\nnext(walk)\n{ending}", folder)
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (0, "")


def test_ctrl_c_at_random_moments(folder):
    chance = random.Random(0)
    for _ in range(4):
        process = start("print('go', flush=True)\nwhile True:\n    for batch in loader: pass", folder)
        assert process.stdout.readline() == "go\n"
        time.sleep(chance.random() / 4)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=20)
        assert process.returncode in (1, -signal.SIGINT)
        assert complaint.rstrip().endswith("KeyboardInterrupt")


def test_killed_and_resumed_nothing_is_lost_or_seen_twice(folder, tmp_path):
    """Each run writes what it has done, and its state, to a ledger, until it is killed."""
    ledger = tmp_path / "ledger"
    script = """
    lines = [json.loads(line) for line in open(sys.argv[2])] if os.path.exists(sys.argv[2]) else []
    if lines:
        loader.load_state_dict(lines[-1]["state"])
    ledger = open(sys.argv[2], "a")
    print("go", flush=True)
    for batch in loader:
        entry = {"samples": batch[:, 0].long().tolist(), "state": loader.state_dict()}
        ledger.write(json.dumps(entry) + chr(10))
        ledger.flush()
        time.sleep(0.002)
    print("done", flush=True)
    """
    chance = random.Random(1)
    for _ in range(8):
        process = start(script, folder, ledger)
        assert process.stdout.readline() == "go\n"
        time.sleep(chance.random() / 20)
        process.kill()
        process.communicate(timeout=20)
        text = ledger.read_text()
        ledger.write_text(text[: text.rfind("\n") + 1])  # a line that was cut short was not done
    process = start(script, folder, ledger)
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (0, "")
    seen = [sample for line in ledger.read_text().splitlines() for sample in json.loads(line)["samples"]]
    epochs = [penstock._core.Permutation(ROWS, 0, epoch).take(0, ROWS) for epoch in range(len(seen) // ROWS)]
    assert seen == np.concatenate(epochs).tolist()
