"""What `penstock demo` does: train from scattered files, and measure against what people write by hand."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import safetensors.torch
import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader

import penstock

__all__ = ["Settings", "run"]

NEEDED_ACCURACY = 0.95
TRAIN_BATCH = 64
TRAIN_SHARDS = 12
SPEED_BATCH = 256
SPEED_SHARDS = 24
CAP_S = 1.0


@dataclass(frozen=True)
class Settings:
    """What to run.

    Attributes:
        folder: Where files are written.
        kept: Whether they stay there.
        epochs: To train for, per format.
        rounds: To take the median speed of.
        rows: To measure the speed on, at least.
    """

    folder: Path
    kept: bool
    epochs: int
    rounds: int
    rows: int


def run(settings: Settings, console: Console) -> bool:
    """Run the demo and print what it found.

    Returns:
        Whether every format reached the accuracy.
    """
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        one_thread(),
        Progress(*bars, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        digits = split_digits()
        trainings = train_all(settings, digits, progress)
        console.print(training_table(trainings, settings.epochs))
        speeds = measure_all(settings, digits.images.flatten(1), progress)
        console.print(speed_table(speeds, settings.rounds))
    print_files(settings, console)
    failed = [training.format for training in trainings if training.accuracy <= NEEDED_ACCURACY]
    if failed:
        console.print(
            f"Failed: not over {NEEDED_ACCURACY:.0%} of the held-out digits from {', '.join(failed)}."
        )
    return not failed


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread each for torch and Penstock, and afterwards as many as before."""
    before = torch.get_num_threads(), penstock.get_num_threads()
    torch.set_num_threads(1)
    penstock.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        penstock.set_num_threads(before[1])


# Training from files


@dataclass(frozen=True)
class Digits:
    """Images, shape (n, 1, 8, 8), float32 in [0, 1]; labels, shape (n,), int64."""

    images: Tensor
    labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor


def split_digits() -> Digits:
    """scikit-learn's handwritten digits, a fifth of each class held out."""
    scans, classes = load_digits(return_X_y=True)
    images = torch.tensor(scans, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(classes, dtype=torch.int64)
    rows = torch.arange(len(labels)).numpy()
    train, held_out = train_test_split(rows, test_size=0.2, stratify=classes, random_state=0)
    return Digits(images[train], labels[train], images[held_out], labels[held_out])


def uneven_lengths(rows: int, shards: int) -> list[int]:
    """How many rows each shard gets: at least one, all of them together, the same at every call."""
    cuts = np.random.default_rng(0).choice(np.arange(1, rows), shards - 1, replace=False)
    lengths: list[int] = np.diff(np.sort(cuts), prepend=0, append=rows).tolist()
    return lengths


@dataclass(frozen=True)
class Format:
    """How shards of one format are written and opened.

    Attributes:
        suffix: Of the files; the folder is named after it.
        write: Called with a path without suffix, the images and the labels of one shard.
        open: Called with the folder.
    """

    suffix: str
    write: Callable[[Path, Tensor, Tensor], None]
    open: Callable[[Path], penstock.ShardDataset]


def _write_npy(path: Path, images: Tensor, labels: Tensor) -> None:
    np.save(path.with_name(f"image_{path.name}.npy"), images.numpy())
    np.save(path.with_name(f"label_{path.name}.npy"), labels.numpy())


def _write_pt(path: Path, images: Tensor, labels: Tensor) -> None:
    torch.save({"image": images.clone(), "label": labels.clone()}, path.with_suffix(".pt"))


def _write_safetensors(path: Path, images: Tensor, labels: Tensor) -> None:
    safetensors.torch.save_file({"image": images, "label": labels}, path.with_suffix(".safetensors"))


def _open_npy(folder: Path) -> penstock.ShardDataset:
    files = {field: sorted(folder.glob(f"{field}_*.npy")) for field in ("image", "label")}
    return penstock.ShardDataset(files, fields=("image", "label"))


def _open_named(folder: Path) -> penstock.ShardDataset:
    return penstock.ShardDataset(folder, fields=("image", "label"))


FORMATS = (
    Format(".npy", _write_npy, _open_npy),
    Format(".pt", _write_pt, _open_named),
    Format(".safetensors", _write_safetensors, _open_named),
)


def write_digits(folder: Path, form: Format, digits: Digits) -> penstock.ShardDataset:
    """Write the training digits as shards under `folder`, and open them."""
    where = folder / form.suffix.removeprefix(".")
    where.mkdir(parents=True)
    lengths = uneven_lengths(len(digits.labels), TRAIN_SHARDS)
    shards = zip(torch.split(digits.images, lengths), torch.split(digits.labels, lengths), strict=True)
    for i, (images, labels) in enumerate(shards):
        form.write(where / f"{i:02}", images, labels)
    return form.open(where)


@dataclass(frozen=True)
class Training:
    """How training from one format went."""

    format: str
    shards: int
    accuracy: float
    seconds: float


def train_all(settings: Settings, digits: Digits, progress: Progress) -> list[Training]:
    """Train from shards of every format in turn."""
    rows, held_out = len(digits.labels), len(digits.held_out_labels)
    progress.console.print(
        f"{rows + held_out:,} handwritten digits of scikit-learn: {rows:,} to train on, "
        f"{held_out:,} held out.\n{TRAIN_SHARDS} uneven shards per format; .npy: images and labels apart.",
        highlight=False,
    )
    datasets = [write_digits(settings.folder, form, digits) for form in FORMATS]
    train(datasets[0], range(1))  # untimed: torch imports half of itself at the first step
    return [
        train_one(form, dataset, settings.epochs, digits, progress)
        for form, dataset in zip(FORMATS, datasets, strict=True)
    ]


def train_one(
    form: Format, dataset: penstock.ShardDataset, epochs: int, digits: Digits, progress: Progress
) -> Training:
    """Train from shards of one format."""
    started = time.perf_counter()
    network = train(dataset, progress.track(range(epochs), description=f"training from {form.suffix}"))
    seconds = time.perf_counter() - started
    training = Training(form.suffix, dataset.schema[0].shards, accuracy(network, digits), seconds)
    progress.console.print(
        f"  {form.suffix}: {training.accuracy:.1%} of the held-out digits in {seconds:.1f} s", highlight=False
    )
    return training


def train(dataset: penstock.ShardDataset, epochs: Iterable[int]) -> nn.Module:
    """Train a small network through the standard DataLoader, with a fixed seed."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    loader = DataLoader(dataset, batch_size=TRAIN_BATCH, shuffle=True)
    for _ in epochs:
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    return network


def accuracy(network: nn.Module, digits: Digits) -> float:
    """The share of held-out digits that the network gets right."""
    with torch.inference_mode():
        guesses = network(digits.held_out_images).argmax(dim=1)
    return float((guesses == digits.held_out_labels).float().mean())


# Rows per second


class OpenUntilItFits(torch.utils.data.Dataset[Tensor]):
    """The dataset people start from: for every sample, load file after file until the index fits.

    Args:
        paths: The shards.
        load: Gives a file's rows.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[Path], Tensor]) -> None:
        self.paths = paths
        self.load = load
        self.rows = sum(len(load(path)) for path in paths)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Tensor:
        for path in self.paths:
            rows = self.load(path)
            if index < len(rows):
                return rows[index]
            index -= len(rows)
        raise IndexError(index)


class MappedFiles(torch.utils.data.Dataset[Tensor]):
    """What they write next: cumulative lengths, one memory map per `.npy` file, a copy per row."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.files = [np.load(path, mmap_mode="r") for path in paths]
        self.ends = list(accumulate(len(file) for file in self.files))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Tensor:
        shard = bisect_right(self.ends, index)
        rows = self.files[shard]
        return torch.from_numpy(np.array(rows[index - self.ends[shard] + len(rows)]))


@dataclass(frozen=True)
class Rival:
    """One way to read the same rows.

    Attributes:
        name: What it is.
        source: Where the rows lie: ".npy", ".pt" or "RAM".
        loop: Who makes the batches: "DataLoader", or "bare" when the loop does.
        epoch: The batches of one shuffled epoch, given a seed.
    """

    name: str
    source: str
    loop: str
    epoch: Callable[[int], Iterable[Tensor]]


@dataclass(frozen=True)
class Speed:
    """What was measured of a rival.

    Attributes:
        rival: It.
        rows: Timed in one round.
        per_s: Rows per second, the median of the rounds.
        capped: Whether it was stopped in the checking round, at the first batch past `CAP_S` seconds.
    """

    rival: Rival
    rows: int
    per_s: float
    capped: bool


def write_rows(folder: Path, digits: Tensor, at_least: int) -> Tensor:
    """Write the digits over and over, as `.npy` and `.pt` shards, until there are enough.

    Args:
        folder: Gets the folders `rows_npy` and `rows_pt`.
        digits: Shape (n, 64), float32.
        at_least: Rows to write.

    Returns:
        All rows, shape (rows, 64), float32. Column 0, a corner that is hardly ever inked, holds the row
        number instead, so that a delivered row can be told from its repeats.
    """
    rows = digits.repeat(math.ceil(at_least / len(digits)), 1)
    rows[:, 0] = torch.arange(len(rows))
    for name in ("rows_npy", "rows_pt"):
        (folder / name).mkdir(parents=True)
    for i, part in enumerate(torch.split(rows, uneven_lengths(len(rows), SPEED_SHARDS))):
        np.save(folder / "rows_npy" / f"{i:02}.npy", part.numpy())
        torch.save(part.clone(), folder / "rows_pt" / f"{i:02}.pt")
    return rows


def rivals(folder: Path, rows: Tensor) -> list[Rival]:
    """Everything that is measured; the dataset people start from comes first for each source."""
    npy, pt = folder / "rows_npy", folder / "rows_pt"
    npy_files, pt_files = sorted(npy.iterdir()), sorted(pt.iterdir())
    dataset = penstock.ShardDataset(npy)
    in_ram = torch.utils.data.TensorDataset(rows)
    return [
        _loaded("opens files until the index fits", ".npy", OpenUntilItFits(npy_files, _load_npy)),
        _loaded("one mmap per file, row by row", ".npy", MappedFiles(npy_files)),
        _loaded("penstock.ShardDataset", ".npy", dataset),
        _loaded("opens files until the index fits", ".pt", OpenUntilItFits(pt_files, torch.load)),
        _loaded("penstock.ShardDataset", ".pt", penstock.ShardDataset(pt)),
        Rival("torch TensorDataset", "RAM", "DataLoader", lambda seed: map(_only, _loader(in_ram, seed))),
        _bare("penstock gather", ".npy", dataset.gather, len(rows)),
        _bare("torch.index_select: the limit", "RAM", partial(torch.index_select, rows, 0), len(rows)),
    ]


def _load_npy(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path))


def _loader(dataset: torch.utils.data.Dataset[Any], seed: int) -> DataLoader[Any]:
    return DataLoader(dataset, SPEED_BATCH, shuffle=True, generator=torch.Generator().manual_seed(seed))


def _loaded(name: str, source: str, dataset: torch.utils.data.Dataset[Any]) -> Rival:
    return Rival(name, source, "DataLoader", lambda seed: _loader(dataset, seed))


def _only(batch: list[Tensor]) -> Tensor:
    return batch[0]


def _bare(name: str, source: str, gather: Callable[[Tensor], Tensor], rows: int) -> Rival:
    def epoch(seed: int) -> Iterator[Tensor]:
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
        return map(gather, torch.split(order, SPEED_BATCH))

    return Rival(name, source, "bare", epoch)


def check(rival: Rival, rows: Tensor) -> Speed:
    """Read an epoch, or as much as the cap allows, and compare every row with the one in RAM.

    Raises:
        RuntimeError: A row is wrong, missing or there twice.
    """
    started = time.perf_counter()
    batches: list[Tensor] = []
    capped = False
    for batch in rival.epoch(0):
        batches.append(batch)
        capped = time.perf_counter() - started > CAP_S
        if capped:
            break
    seconds = time.perf_counter() - started
    delivered = torch.cat(batches)
    numbers = delivered[:, 0].long()
    once = len(torch.unique(numbers)) == len(numbers) and (capped or len(numbers) == len(rows))
    if not (once and torch.equal(delivered, rows[numbers])):
        raise RuntimeError(f"{rival.name} ({rival.source}) did not deliver the rows that were written")
    return Speed(rival, len(delivered), len(delivered) / seconds, capped)


def time_epoch(rival: Rival, seed: int) -> float:
    """Seconds for one shuffled epoch, each batch dropped before the next."""
    started = time.perf_counter()
    for _ in rival.epoch(seed):
        pass
    return time.perf_counter() - started


def measure(rivals: Sequence[Rival], rows: Tensor, rounds: int, progress: Progress) -> list[Speed]:
    """Check every rival, then time those that finished, interleaved."""
    checked = [check(rival, rows) for rival in progress.track(rivals, description="checking rows")]
    finished = [i for i, speed in enumerate(checked) if not speed.capped]
    seconds: dict[int, list[float]] = {i: [] for i in finished}
    for seed in progress.track(range(1, rounds + 1), description="timing rounds"):
        for i in finished:
            seconds[i].append(time_epoch(rivals[i], seed))
    timed = {i: Speed(rivals[i], len(rows), len(rows) / median(seconds[i]), capped=False) for i in finished}
    return [timed.get(i, speed) for i, speed in enumerate(checked)]


def measure_all(settings: Settings, digits: Tensor, progress: Progress) -> list[Speed]:
    """Write the digits, shape (n, 64), over and over, and measure everything on them."""
    rows = write_rows(settings.folder, digits, settings.rows)
    progress.console.print(
        f"Measuring on the training digits repeated {len(rows) // len(digits):,} times: {len(rows):,} rows\n"
        f"of 64 float32 ({rows.nbytes / 1e6:,.1f} MB) in {SPEED_SHARDS} uneven shards; pixel 0: row number.",
        highlight=False,
    )
    return measure(rivals(settings.folder, rows), rows, settings.rounds, progress)


# What is printed


def training_table(trainings: Sequence[Training], epochs: int) -> Table:
    """Accuracy by format."""
    title = f"Trained {epochs:,} epochs each through the standard DataLoader"
    same = len({training.accuracy for training in trainings}) == 1
    caption = "Same rows and seed, so the same accuracy." if same else None
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD)
    table.add_column("format")
    for heading in ("shards", "held-out accuracy", "seconds"):
        table.add_column(heading, justify="right")
    for one in trainings:
        table.add_row(one.format, f"{one.shards:,}", f"{one.accuracy:.1%}", f"{one.seconds:.1f}")
    return table


def speed_table(speeds: Sequence[Speed], rounds: int) -> Table:
    """Rows per second, with the ratios to the hand-written dataset and to the limit, the last one."""
    capped = " and ".join(f"{speed.rows:,}" for speed in speeds if speed.capped)
    caption = (
        f"Shuffled batches of {SPEED_BATCH}, one thread, files in the page cache; median of {rounds:,} "
        "interleaved rounds, after one in which every row was checked."
    )
    if capped:
        caption += f"\n* The checking round only, stopped once past {CAP_S:g} s: {capped} rows."
    table = Table(title="Rows per second", caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("read by")
    table.add_column("from")
    for heading in ("rows/s", "hand-written", "limit"):
        table.add_column(heading, justify="right")
    for loop, heading in (("DataLoader", "standard DataLoader"), ("bare", "bare loop over batches")):
        table.add_row(f"[bold]{heading}")
        for speed in speeds:
            if speed.rival.loop == loop:
                table.add_row(*_speed_cells(speed, speeds))
        table.add_section()
    return table


def _speed_cells(speed: Speed, speeds: Sequence[Speed]) -> tuple[str, ...]:
    rival = speed.rival
    first = next(other for other in speeds if other.rival.source == rival.source)
    of_limit = speed.per_s / speeds[-1].per_s
    has_first = rival.source != "RAM" and rival.loop == "DataLoader"
    return (
        rival.name,
        rival.source,
        f"{speed.per_s:,.0f}" + ("*" if speed.capped else " "),
        f"{speed.per_s / first.per_s:,.0f}x" if has_first else "",
        f"{of_limit:.0%}" if of_limit >= 0.01 else "<1%",
    )


def print_files(settings: Settings, console: Console) -> None:
    """Say where the files are, and how to open them; or how to keep them."""
    if settings.kept:
        folder = settings.folder
        said = f"The files are in {folder}. To open some:"
    else:
        folder = Path("digits")
        said = (
            f"The files are deleted now. To keep them: penstock demo --folder {folder}. Then, to open some:"
        )
    source = str(folder / "safetensors")
    snippet = (
        f"{said}\n\n"
        "    from penstock import ShardDataset\n"
        f'    dataset = ShardDataset({source!r}, fields=("image", "label"))\n'
        f"    loader = torch.utils.data.DataLoader(dataset, batch_size={TRAIN_BATCH}, shuffle=True)\n"
    )
    console.print(snippet, highlight=False, markup=False, soft_wrap=True)
