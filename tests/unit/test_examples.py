"""The examples run and hold what they promise; frameworks that take a `penstock.DataLoader` apart."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import SequentialSampler

import penstock

EXAMPLES = Path(__file__).parents[2] / "examples"
BY_THEMSELVES = sorted({path.stem for path in EXAMPLES.glob("*.py")} - {"distributed", "resume", "shards"})
TWO_RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")

ROWS = 1_003
DATA = penstock.TensorDataset(torch.zeros(ROWS, 4), torch.arange(ROWS))


def run(*words: object, returncode: int = 0, cwd: Path | None = None) -> str:
    """Run Python with these arguments; what it prints."""
    command = [sys.executable, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=100)
    assert finished.returncode == returncode, finished.stdout + finished.stderr
    return finished.stdout


@pytest.mark.parametrize("name", BY_THEMSELVES)
def test_example(name):
    assert "loss" in run(EXAMPLES / f"{name}.py")


@pytest.mark.parametrize("name", ["accelerate_loop", "distributed"])
def test_example_on_two_ranks(name):
    options = ["--cpu"] if name == "accelerate_loop" else []
    assert "loss" in run(*TWO_RANKS, EXAMPLES / f"{name}.py", *options)


@pytest.mark.parametrize(("save_every", "deaths"), [(10, (7, 75)), (63, (63, 130))])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, save_every, deaths):
    resume = EXAMPLES / "resume.py"
    whole = run(resume, tmp_path / "whole").splitlines()
    again = [resume, tmp_path / "again", "--save-every", save_every]
    for death in deaths:
        run(*again, "--die-after", death, returncode=-signal.SIGKILL)
    going_on, *last = run(*again).splitlines()
    assert going_on == f"going on after batch {deaths[-1] // save_every * save_every}"
    assert last == whole


def samples(loader):
    return [number for _, numbers in loader for number in numbers.tolist()]


def order_of(epoch, seed):
    return penstock._core.Permutation(ROWS, seed, epoch).take(0, ROWS).tolist()


def shuffled(**options):
    return penstock.DataLoader(DATA, 64, shuffle=True, seed=3, **options)


def in_batches(**options):
    order = penstock.ShuffleSampler(DATA, seed=3, num_replicas=1, rank=0)
    return penstock.DataLoader(DATA, batch_sampler=penstock.BatchSampler(order, 64), **options)


@pytest.mark.parametrize("package", ["lightning.fabric", "lightning.pytorch"])
@pytest.mark.parametrize("make", [shuffled, in_batches])
@pytest.mark.parametrize("options", [{"prefetch_factor": 5, "pin_memory": False}, {"num_workers": 1}])
def test_lightning_makes_it_anew_with_another_sampler(package, make, options):
    make_anew = importlib.import_module(f"{package}.utilities.data")._update_dataloader
    loader = make(**options)
    anew = make_anew(loader, SequentialSampler(DATA))
    assert type(anew) is penstock.DataLoader
    assert samples(anew) == list(range(ROWS))
    for name in ("seed", "num_threads", "num_workers", "prefetch_factor", "pin_memory", "drop_last"):
        assert getattr(anew, name) == getattr(loader, name)
    assert len(anew) == len(loader)
    assert anew._is_native() == loader._is_native()


@pytest.mark.filterwarnings("ignore")  # Lightning's
@pytest.mark.parametrize("make", [shuffled, in_batches])
def test_lightning_predicts(make):
    """It makes the loader anew, and its batch sampler over torch's sampler, to note each batch's indices."""
    import lightning
    from lightning.pytorch.callbacks import BasePredictionWriter

    class Writer(BasePredictionWriter):
        def write_on_batch_end(self, trainer, module, prediction, indices, batch, *numbers):
            assert list(indices) == prediction.tolist()

    class Echo(lightning.LightningModule):
        def predict_step(self, batch, number):
            return batch[1]

    trainer = lightning.Trainer(accelerator="cpu", logger=False, callbacks=[Writer("batch")])
    assert sorted(torch.cat(trainer.predict(Echo(), make())).tolist()) == list(range(ROWS))


DISTRIBUTED_BY_LIGHTNING = """
import lightning, torch, penstock

data = penstock.TensorDataset(torch.zeros(1_003, 4), torch.arange(1_003))

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.seen = []

    def training_step(self, batch, number):
        self.seen.append(batch[1])
        return self.layer(batch[0]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())

model = Model()
trainer = lightning.Trainer(accelerator="cpu", strategy="ddp", devices=1, max_epochs=2, logger=False)
trainer.fit(model, penstock.DataLoader(data, 64, shuffle=True, seed=3))
assert isinstance(trainer.train_dataloader.sampler, torch.utils.data.DistributedSampler), "Lightning's"
assert isinstance(trainer.train_dataloader, penstock.DataLoader)
assert (torch.cat(model.seen).bincount(minlength=1_003) == 2).all()
"""


def test_lightning_may_put_its_own_sampler_in(tmp_path):
    """As it does when it was not told `use_distributed_sampler=False`; here with one rank."""
    program = tmp_path / "program.py"
    program.write_text(DISTRIBUTED_BY_LIGHTNING)
    run(program, cwd=tmp_path)


PREPARED = """
import torch, penstock
from accelerate import Accelerator

data = penstock.TensorDataset(torch.zeros(1_003, 4), torch.arange(1_003))
order = penstock.ShuffleSampler(data, seed=3, num_replicas=1, rank=0)
accelerator = Accelerator(cpu=True)
loader = accelerator.prepare(penstock.DataLoader(data, 64, sampler=order))
for epoch in range(2):
    mine = torch.cat([numbers for _, numbers in loader])
    times_seen = accelerator.gather(mine).bincount(minlength=1_003)
    assert times_seen.min() == 1 and times_seen.sum() == 1_024
accelerator.end_training()
"""


def test_accelerate_shares_it_out(tmp_path):
    program = tmp_path / "prepared.py"
    program.write_text(PREPARED)
    run(*TWO_RANKS, program)


@pytest.mark.parametrize("make", [shuffled, in_batches])
def test_accelerate_puts_torchs_loader_in_its_place(make):
    from accelerate import Accelerator

    prepared = Accelerator(cpu=True).prepare(make())
    for epoch in range(2):
        assert samples(prepared) == order_of(epoch, 3)


@pytest.mark.parametrize("make", [shuffled, in_batches])
def test_accelerate_skips_batches(make):
    """As the Trainer of transformers does, to go on in mid-epoch."""
    from accelerate import skip_first_batches

    assert samples(skip_first_batches(make(), 3)) == order_of(0, 3)[3 * 64 :]
