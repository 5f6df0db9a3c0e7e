"""What an accelerator waits for: the rate of copies to it, how much of them the loop hides, a training loop.

Run as `python -m benchmarks.device_side_by_side` on a machine with a GPU (`... cpu` only shows that it runs).
Needs 3 GB in the temporary folder and 2 GB of the GPU's memory. Contenders take turns; medians.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader as TorchLoader

import penstock
from benchmarks.bench_loader import CONTENDERS
from benchmarks.side_by_side import medians, report
from benchmarks.workloads import ROWS, Rows, Written, write

SHAPE = (3, 224, 224)  # of a row of 150 KB
WORKERS = min(4, os.cpu_count() or 1)
OWN, BY_HAND = "penstock.DataLoader(device=)", "np.memmap by hand, torch's loader"


@dataclass(frozen=True)
class Machine:
    """A device, and how to wait for it and keep it busy."""

    device: torch.device

    @property
    def is_gpu(self) -> bool:
        """Whether copies can run beside the loop."""
        return self.device.type == "cuda"

    def finish(self) -> None:
        """Wait for all that was asked of it."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def seconds(self, step: Callable[[], Any]) -> float:
        """Of all that a step asks for, until it is done."""
        self.finish()
        start = time.perf_counter()
        step()
        self.finish()
        return time.perf_counter() - start

    def rates(self, steps: dict[str, Callable[[], Any]], rows: int) -> dict[str, float]:
        """Rows a second of each, by median."""
        finished: dict[str, Callable[[], Any]] = {
            name: partial(self.seconds, step) for name, step in steps.items()
        }
        return {name: rows / seconds for name, seconds in medians(finished).items()}

    def pinned(self, batch: Tensor) -> Tensor:
        """In memory that copies need not wait for."""
        return batch.pin_memory() if self.is_gpu else batch

    def work(self, seconds: float) -> Callable[[], None]:
        """Keeps the loop's stream busy for so long, and nothing else."""
        if not self.is_gpu:
            return lambda: time.sleep(seconds)
        cycles = 10_000_000
        torch.cuda._sleep(cycles)
        measured = self.seconds(lambda: torch.cuda._sleep(cycles))
        return lambda: torch.cuda._sleep(int(cycles * seconds / measured))


def compare_copies(machine: Machine, data: Written) -> float:
    """Batches that lie ready in pinned memory, one after the other to the device. Seconds of a plain copy."""
    rows = data.rows
    ready = [machine.pinned(batch.clone()) for batch in data.ram.split(rows.batch)[:8]]
    batches = (ready * 64)[:64]
    target = torch.empty_like(ready[0], device=machine.device)

    def plain() -> None:
        for batch in batches:
            target.copy_(batch, non_blocking=True)

    def ahead() -> None:
        for arrived in penstock.DevicePrefetcher(batches, machine.device):
            assert arrived.device == machine.device

    reference = "plain copy into one tensor"
    rates = machine.rates({reference: plain, "DevicePrefetcher": ahead}, len(batches) * rows.batch)
    report("copies alone", rates, rows.row_bytes, reference)
    return rows.batch / rates[reference]


def loaders(machine: Machine, data: Written) -> dict[str, Iterable[Any]]:
    """Epochs of batches on the device, of bytes."""
    rows = data.rows
    make, collate_fn, _ = CONTENDERS["np.memmap, __getitems__"]

    def by_hand(workers: int) -> Iterable[Any]:
        loader = TorchLoader(
            make(data),
            rows.batch,
            shuffle=True,
            num_workers=workers,
            collate_fn=collate_fn,
            pin_memory=machine.is_gpu,
            drop_last=True,
        )
        return OnDevice(loader, machine.device)

    own = penstock.DataLoader(
        penstock.ShardDataset(data.pattern), rows.batch, shuffle=True, drop_last=True, device=machine.device
    )
    return {
        OWN: own,
        BY_HAND: by_hand(0),
        f"{BY_HAND}, {WORKERS} workers": by_hand(WORKERS),
    }


@dataclass(frozen=True)
class OnDevice:
    """The loop that people write: pinned by torch, copied when its turn comes."""

    loader: Any
    device: torch.device

    def __iter__(self) -> Any:
        for batch in self.loader:
            yield batch.to(self.device, non_blocking=True)


def compare_epochs(machine: Machine, data: Written, copy_seconds: float) -> None:
    """An epoch that only sums; one whose loop works as long as a batch takes to load; that work alone."""
    rows = data.rows
    total = len(data.batches) * rows.batch
    expected = int(data.ram.sum(dtype=torch.int64)) if rows.total == total else None
    found: dict[str, int] = {}

    def summed(name: str, batches: Iterable[Any]) -> Callable[[], None]:
        def step() -> None:
            whole = torch.zeros((), dtype=torch.int64, device=machine.device)
            for batch in batches:
                whole += batch.sum(dtype=torch.int64)
            found[name] = int(whole)

        return step

    sources = loaders(machine, data)
    rates = machine.rates({name: summed(name, batches) for name, batches in sources.items()}, total)
    assert expected is None or set(found.values()) == {expected}, found
    report("an epoch, from files to sums on the device", rates, rows.row_bytes, BY_HAND)
    busy = max(copy_seconds, rows.batch / rates[OWN])
    work = machine.work(busy)

    def worked(batches: Iterable[Any]) -> Callable[[], None]:
        def step() -> None:
            for _ in batches:
                work()

        return step

    steps = {name: worked(batches) for name, batches in sources.items()}
    steps["the work alone"] = worked(range(len(data.batches)))
    report(
        f"an epoch whose loop works {busy * 1e3:.1f} ms a batch, as long as ours takes to come",
        machine.rates(steps, total),
        rows.row_bytes,
        "the work alone",
    )


def compare_training(machine: Machine, data: Written) -> None:
    """A small convolutional network, in bfloat16, from bytes; and on data that is there already."""
    rows = data.rows
    net = nn.Sequential(
        nn.Conv2d(3, 64, 7, 4), nn.ReLU(), nn.Conv2d(64, 128, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    net = net.to(machine.device, torch.bfloat16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    labels = torch.arange(rows.batch, device=machine.device) % 10
    convert = penstock.Convert(torch.bfloat16, scale=1 / 255, channels_last=True)
    resident = data.ram[: 4 * rows.batch].to(machine.device)

    def train(batches: Iterable[Tensor]) -> None:
        for batch in batches:
            images = convert(batch.view(-1, *SHAPE))
            loss = nn.functional.cross_entropy(net(images).float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    def there() -> Iterable[Tensor]:
        for i in range(len(data.batches)):
            yield resident[i % 4 * rows.batch : (i % 4 + 1) * rows.batch]

    steps: dict[str, Callable[[], Any]] = {
        name: partial(train, batches) for name, batches in loaders(machine, data).items()
    }
    steps["data on the device already"] = lambda: train(there())
    rates = machine.rates(steps, len(data.batches) * rows.batch)
    report("an epoch of training", rates, rows.row_bytes, "data on the device already")


def measure(device: str, rows: Rows, folder: Path) -> None:
    """Print everything."""
    machine = Machine(torch.empty(0, device=device).device)
    data = write(rows, folder)
    compare_epochs(machine, data, compare_copies(machine, data))
    compare_training(machine, data)


def main() -> None:
    """On the device that is named, or a GPU."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU on this machine")
    print(penstock.show_config())
    rows = ROWS["150KB"] if device != "cpu" else Rows("150KB", 2, 64, 3 * 224 * 224, "uint8", 16)
    with tempfile.TemporaryDirectory() as folder:
        measure(device, rows, Path(folder))


if __name__ == "__main__":
    main()
