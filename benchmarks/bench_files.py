"""One file a sample: 13,233 `.pt` files of (62, 47) float32, as large and as many as the faces of LFW."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import penstock
from benchmarks import rivals
from benchmarks.bench_loader import WHOLE_EPOCH, run

COUNT, SHAPE, BATCH = 13_233, (62, 47), 64


@dataclass(frozen=True)
class Faces:
    """The files, and what is in them.

    Attributes:
        root: Of `{id}.pt`.
        npy_root: Of `{id}.npy`.
        ids: One for each sample.
        labels: By id. Each is the number of its sample, so that a batch tells what should be in it.
        ram: All samples.
        offset: Where the payload is in a `.pt` file; they are all alike.
        packed: `x.npy` and `y.npy`, all samples and labels.
    """

    root: Path
    npy_root: Path
    ids: list[str]
    labels: dict[str, int]
    ram: Tensor
    offset: int
    packed: Path


def write_faces(folder: Path, count: int = COUNT) -> Faces:
    """Write the files."""
    root, npy_root, packed = folder / "faces", folder / "npy", folder / "packed"
    for each in (root, npy_root, packed):
        each.mkdir()
    ids = [f"face-{i:05}" for i in range(count)]
    ram = torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(0))
    for name, face in zip(ids, ram, strict=True):
        torch.save(face.clone(), root / f"{name}.pt")
        np.save(npy_root / f"{name}.npy", face.numpy())
    np.save(packed / "x.npy", ram.numpy())
    np.save(packed / "y.npy", np.arange(count))
    offset = (root / f"{ids[0]}.pt").read_bytes().index(ram[0].numpy().tobytes())
    labels = {name: i for i, name in enumerate(ids)}
    return Faces(root, npy_root, ids, labels, ram, offset, packed)


@pytest.fixture(scope="session")
def faces(timed: bool, tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return write_faces(tmp_path_factory.mktemp("faces"), COUNT if timed else 2 * BATCH + 1)


# --- an epoch ---------------------------------------------------------------------------------------


def ours(faces: Faces, **arguments: Any) -> Any:
    """A FileDataset of the faces."""
    given = {"ids": faces.ids, "labels": faces.labels, "suffix": ".pt"} | arguments
    return penstock.FileDataset(faces.root, **given)


def packed(faces: Faces) -> Any:
    """The same samples as two files."""
    source = {"x": faces.packed / "x.npy", "y": faces.packed / "y.npy"}
    return penstock.ShardDataset(source, fields=("x", "y"))


def stock(dataset: Any, num_workers: int = 0, **arguments: Any) -> Any:
    """The standard loader; its workers stay, for the good of whoever has some."""
    stay = num_workers > 0
    return DataLoader(
        dataset, BATCH, shuffle=True, num_workers=num_workers, persistent_workers=stay, **arguments
    )


def by_hand(kind: type[rivals.LoadEach], num_workers: int = 0) -> Callable[[Faces], Any]:
    def make(faces: Faces) -> Any:
        root = faces.npy_root if kind is rivals.NumpyLoadEach else faces.root
        return stock(kind(root, faces.ids, faces.labels), num_workers)

    return make


def by_pread(faces: Faces) -> Any:
    dataset = rivals.PreadEach(faces.root, faces.ids, faces.labels, faces.ram[0], faces.offset)
    return stock(dataset, collate_fn=rivals.passed_through)


FILES = "penstock.FileDataset"
CACHED = 'penstock.FileDataset, cache="memory"'
PACKED = "penstock.ShardDataset, packed"
TUTORIAL = {workers: f"torch.load, num_workers={workers}" for workers in (0, 1, 2, 4)}

DATASETS: dict[str, Callable[[Faces], Any]] = {
    FILES: ours,
    CACHED: partial(ours, cache="memory"),
    PACKED: packed,
}

COLLATE, AHEAD = ", penstock.collate", ", penstock.DataLoader"
LOADED_BY: dict[str, Callable[[Any], Any]] = {
    "": stock,
    COLLATE: partial(stock, collate_fn=penstock.collate),
    AHEAD: lambda dataset: penstock.DataLoader(dataset, BATCH, shuffle=True),
}


def loaded(dataset: Callable[[Faces], Any], loader: Callable[[Any], Any]) -> Callable[[Faces], Any]:
    return lambda faces: loader(dataset(faces))


# name: a loader of shuffled batches [x, y]
LOADERS: dict[str, Callable[[Faces], Any]] = {
    **{a + b: loaded(dataset, loader) for a, dataset in DATASETS.items() for b, loader in LOADED_BY.items()},
    **{name: by_hand(rivals.LoadEach, workers) for workers, name in TUTORIAL.items()},
    "torch.load, once, then a dict": by_hand(rivals.LoadEachOnce),
    "np.load, num_workers=0": by_hand(rivals.NumpyLoadEach),
    "np.load, num_workers=2": by_hand(rivals.NumpyLoadEach, 2),
    "os.preadv into the batch": by_pread,
    "torch TensorDataset, in RAM": lambda faces: stock(
        TensorDataset(faces.ram, torch.arange(len(faces.ids)))
    ),
}


def check(loader: Any, faces: Faces) -> None:
    """An epoch: every sample comes once, with its label and as it was written."""
    seen = []
    for x, y in loader:
        assert torch.equal(x, faces.ram[y])
        seen.append(y)
    order = torch.cat(seen)
    assert not torch.equal(order, order.sort().values)
    assert torch.equal(order.sort().values, torch.arange(len(faces.ids)))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("contender", LOADERS)
def bench_epoch(benchmark: Any, faces: Faces, contender: str) -> None:
    loader = LOADERS[contender](faces)
    check(loader, faces)
    benchmark.group = f"a shuffled epoch of {len(faces.ids):,} files by {BATCH}"
    count = benchmark.pedantic(run, (loader, WHOLE_EPOCH), rounds=5, warmup_rounds=1)
    assert count == len(faces.ids)
    if benchmark.stats:
        benchmark.extra_info["files/s"] = round(count / benchmark.stats.stats.median)


# --- files alone ------------------------------------------------------------------------------------

BARE_LOOP = r"""
#include <fcntl.h>
#include <unistd.h>

long read_files(const char *const *paths, long count, long bytes, long offset, char *out, long slots) {
    for (long i = 0; i < count; ++i) {
        int file = open(paths[i], O_RDONLY | O_CLOEXEC);
        if (file < 0 || pread(file, out + i % slots * bytes, bytes, offset) != bytes || close(file) < 0)
            return i;
    }
    return count;
}
"""


def bare_loop(folder: Path) -> Any:
    """`read_files` of `BARE_LOOP`, or None without a compiler."""
    compiler, library = shutil.which("cc"), folder / "bare_loop.so"
    if compiler is None:
        return None
    command = [compiler, "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=BARE_LOOP.encode(), check=True)
    function = ctypes.CDLL(str(library)).read_files
    function.argtypes = [
        ctypes.c_void_p,
        ctypes.c_long,
        ctypes.c_long,
        ctypes.c_long,
        ctypes.c_void_p,
        ctypes.c_long,
    ]
    function.restype = ctypes.c_long
    return function


def bare_step(read_files: Any, paths: list[Path], offset: int, out: Tensor) -> Callable[[], Tensor]:
    """Reads each of the files, in this order, into one batch after the other; gives the last."""
    names = (ctypes.c_char_p * len(paths))(*(str(path).encode() for path in paths))
    last = len(paths) % len(out) or len(out)

    def step() -> Tensor:
        count = read_files(names, len(paths), out[0].nbytes, offset, out.data_ptr(), len(out))
        assert count == len(paths), paths[count]
        return out[:last]

    return step


def gather_step(dataset: Any, order: Tensor, out: Tensor | None) -> Callable[[], Tensor]:
    """Gathers all samples, in this order, in batches; gives the last."""
    batches = [batch.numpy() for batch in order.split(BATCH)]
    labels = torch.empty(BATCH, dtype=torch.int64)

    def step() -> Tensor:
        for batch in batches:
            x = out if out is None else (out[: len(batch)], labels[: len(batch)])
            result = dataset.gather(batch, out=x)
        return result[0]

    return step


BARE = "open, pread, close in C"
GATHERS = (f"{FILES} gather(out=)", f"{FILES} gather()", BARE)


def gather_steps(faces: Faces, order: Tensor, folder: Path) -> dict[str, Callable[[], Tensor]]:
    """name: one pass over all files, without a loader, that gives the last batch."""
    out = torch.empty(BATCH, *SHAPE)
    steps: dict[str, Callable[[], Tensor]] = {}
    read_files = bare_loop(folder)
    if read_files is not None:
        paths = [faces.root / f"{faces.ids[i]}.pt" for i in order.tolist()]
        steps[BARE] = bare_step(read_files, paths, faces.offset, out)
    steps[GATHERS[0]] = gather_step(ours(faces), order, torch.empty(BATCH, *SHAPE))
    steps[GATHERS[1]] = gather_step(ours(faces), order, None)
    return steps


@pytest.mark.parametrize("contender", GATHERS)
def bench_files_alone(benchmark: Any, faces: Faces, tmp_path: Path, contender: str) -> None:
    order = torch.randperm(len(faces.ids), generator=torch.Generator().manual_seed(0))
    steps = gather_steps(faces, order, tmp_path)
    if contender not in steps:
        pytest.skip("there is no C compiler")
    benchmark.group = f"{len(faces.ids):,} files in random order, no loader"
    last = benchmark.pedantic(steps[contender], rounds=5, warmup_rounds=1)
    assert torch.equal(last, faces.ram[order[-len(last) :]])
    if benchmark.stats:
        benchmark.extra_info["files/s"] = round(len(faces.ids) / benchmark.stats.stats.median)


# --- opening ----------------------------------------------------------------------------------------


def tutorial_dataset(faces: Faces) -> Any:
    """What comes before the tutorial's: the ids of a folder."""
    ids = [path.stem for path in sorted(faces.root.glob("*.pt"))]
    return rivals.LoadEach(faces.root, ids, faces.labels)


def with_index(faces: Faces, index: Path) -> Any:
    return ours(faces, index=index)


# name: makes the dataset, given a path for an index
OPENERS: dict[str, Callable[[Faces, Path], Any]] = {
    f"{FILES}, ids and labels given": lambda faces, _: ours(faces),
    f"{FILES}, nothing given": lambda faces, _: ours(faces, ids=None, labels=None),
    f"{FILES}, ids, labels and an index": with_index,
    "a sorted glob for the tutorial's": lambda faces, _: tutorial_dataset(faces),
}


@pytest.mark.parametrize("contender", OPENERS)
def bench_open_files(benchmark: Any, faces: Faces, tmp_path: Path, contender: str) -> None:
    benchmark.group = f"open {len(faces.ids):,} files of one sample"
    index = tmp_path / "faces.index"
    dataset = benchmark.pedantic(OPENERS[contender], (faces, index), rounds=5, warmup_rounds=1)
    assert len(dataset) == len(faces.ids)
    x = dataset[7][0] if isinstance(dataset[7], tuple) else dataset[7]
    assert torch.equal(x, faces.ram[7])
