"""The same JPEGs from a folder, from tar archives and from a pack: what it costs where their bytes lie."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

import penstock
from benchmarks.bench_image_folders import BATCH, FILES, SIDE, epoch, testing, write_jpegs
from penstock import _core, transforms

ARCHIVES = 10

pytestmark = pytest.mark.skipif(
    not (_core.BUILD["jpeg"] and _core.BUILD["png"]), reason="needs a build with libjpeg-turbo and libspng"
)


def write_archives(jpegs: Path, folder: Path) -> None:
    """The same images and their classes, as webdataset's writer puts them."""
    images = penstock.ImageFolder(jpegs).samples
    for number in range(ARCHIVES):
        with tarfile.open(folder / f"{number:06}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for path, target in images[number::ARCHIVES]:
                for suffix, content in ((".cls", str(target).encode()), (".jpg", Path(path).read_bytes())):
                    member = tarfile.TarInfo(Path(path).stem + suffix)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def write_all(folder: Path, files: int) -> None:
    """JPEGs in class folders, in archives and in a pack."""
    for name in ("jpegs", "archives"):
        (folder / name).mkdir()
    write_jpegs(folder / "jpegs", files)
    write_archives(folder / "jpegs", folder / "archives")
    penstock.pack(folder / "jpegs", folder / "pack")


@pytest.fixture(scope="session")
def places(timed: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image_shards")
    write_all(folder, FILES if timed else 20)
    return folder


def datasets(folder: Path, transform: Any) -> dict[str, penstock.Dataset]:
    """By where their images lie."""
    return {
        "files": penstock.ImageFolder(folder / "jpegs", transform),
        "tar archives": penstock.ImageDataset(folder / "archives" / "*.tar", transform=transform),
        "a pack": penstock.ImageDataset(folder / "pack", transform=transform),
    }


@pytest.mark.parametrize("contender", ["files", "tar archives", "a pack"])
def bench_load_images_from(benchmark: Any, places: Path, contender: str) -> None:
    benchmark.group = f"JPEGs of 500 x 375 that lie in ...: Resize, Normalize, {BATCH} x {SIDE} x {SIDE}"
    dataset = datasets(places, testing(transforms))[contender]
    loader = penstock.DataLoader(dataset, BATCH, shuffle=True, seed=0)
    images = benchmark.pedantic(epoch(loader), rounds=3, warmup_rounds=1)
    assert images == len(dataset)
    if benchmark.stats:
        benchmark.extra_info["images/s"] = round(images / benchmark.stats.stats.median)


@pytest.mark.parametrize("contender", ["without an index", "with an index"])
def bench_open_archives(benchmark: Any, places: Path, contender: str) -> None:
    benchmark.group = "tar archives, opened"
    index = None if contender == "without an index" else places / "index"
    dataset = benchmark.pedantic(
        lambda: penstock.ImageDataset(
            places / "archives" / "*.tar", transform=testing(transforms), index=index
        ),
        rounds=5,
        warmup_rounds=1,
    )
    assert len(dataset.targets) == len(dataset)
