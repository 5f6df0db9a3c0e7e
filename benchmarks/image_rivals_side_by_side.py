"""What a folder of JPEGs costs, against FFCV and DALI: every contender in turn, round after round, medians.

Run as `python -m benchmarks.image_rivals_side_by_side`. Cut at random, flipped, normalised to float32, on one
thread each, then on two; warm page cache. FFCV (its own file, of JPEGs of quality 90 too) and DALI (on the
CPU) where they are installed: `pip install ffcv nvidia-dali-cuda120`, FFCV needing Debian's `pkg-config
libopencv-dev libturbojpeg0-dev`. Processor time is said too: a busy machine changes it less.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import penstock
from benchmarks.bench_image_folders import BATCH, FILES, MEAN, SIDE, STD, training, write_jpegs
from benchmarks.reports import print_promises, report

ROUNDS = 5
OURS = "penstock.ImageFolder"
PROMISES = {"FFCV, its own file": 1.5, "DALI, on the CPU": 2.0}
MEAN_255, STD_255 = (255 * np.array(each) for each in (MEAN, STD))

Loader = Iterable[tuple[Tensor, Tensor]]


def ours(folder: Path, threads: int, decode: Literal["exact", "fast"] = "exact") -> Loader:
    """On one thread the loop's own; on more those of the core, ahead of the loop."""
    penstock.set_num_threads(threads)
    dataset = penstock.ImageFolder(folder, training(penstock.transforms), decode=decode)
    make: Callable[..., Any] = DataLoader if threads == 1 else penstock.DataLoader
    return make(dataset, BATCH, shuffle=True)


def ffcv(folder: Path, threads: int) -> Loader:
    """Converts on first use; batches are views of memory that it writes again, channels last."""
    import ffcv  # type: ignore[import-not-found, unused-ignore]
    from ffcv.fields.decoders import (  # type: ignore[import-not-found, unused-ignore]
        IntDecoder,
        RandomResizedCropRGBImageDecoder,
    )
    from ffcv.transforms import (  # type: ignore[import-not-found, unused-ignore]
        NormalizeImage,
        RandomHorizontalFlip,
        Squeeze,
        ToTensor,
        ToTorchImage,
    )

    file = folder.with_suffix(".beton")
    if not file.exists():
        fields = {
            "image": ffcv.fields.RGBImageField(write_mode="jpg", jpeg_quality=90),
            "label": ffcv.fields.IntField(),
        }
        ffcv.writer.DatasetWriter(str(file), fields).from_indexed_dataset(Pictures(folder))
    image = [
        RandomResizedCropRGBImageDecoder((SIDE, SIDE)),
        RandomHorizontalFlip(),
        NormalizeImage(MEAN_255, STD_255, np.float32),
        ToTensor(),
        ToTorchImage(),
    ]
    return ffcv.loader.Loader(
        str(file),
        batch_size=BATCH,
        num_workers=threads,
        os_cache=True,
        order=ffcv.loader.OrderOption.RANDOM,
        drop_last=False,
        pipelines={"image": image, "label": [IntDecoder(), ToTensor(), Squeeze()]},
    )


class Pictures:
    """What FFCV converts."""

    def __init__(self, folder: Path) -> None:
        self.samples = penstock.ImageFolder(folder, training(penstock.transforms)).samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        path, target = self.samples[index]
        with Image.open(path) as file:
            return file.convert("RGB"), target


@dataclass
class Dali:
    """Decodes no more than the part that is cut out."""

    folder: Path
    threads: int
    batches: Any = field(init=False)

    def __post_init__(self) -> None:
        from nvidia.dali import fn, pipeline_def, types  # type: ignore[import-not-found, unused-ignore]
        from nvidia.dali.plugin.pytorch import (  # type: ignore[import-not-found, unused-ignore]
            DALIGenericIterator,
            LastBatchPolicy,
        )

        @pipeline_def(  # type: ignore[untyped-decorator, unused-ignore]
            batch_size=BATCH, num_threads=self.threads, device_id=None
        )
        def define() -> tuple[Any, Any]:
            files, labels = fn.readers.file(file_root=str(self.folder), random_shuffle=True, name="files")
            images = fn.decoders.image_random_crop(files, device="cpu", output_type=types.RGB)
            images = fn.resize(images, resize_x=SIDE, resize_y=SIDE, interp_type=types.INTERP_LINEAR)
            images = fn.crop_mirror_normalize(
                images,
                dtype=types.FLOAT,
                output_layout="CHW",
                mean=MEAN_255.tolist(),
                std=STD_255.tolist(),
                mirror=fn.random.coin_flip(),
            )
            return images, labels

        pipeline = define()
        pipeline.build()
        self.batches = DALIGenericIterator(
            [pipeline],
            ["image", "label"],
            reader_name="files",
            last_batch_policy=LastBatchPolicy.PARTIAL,
            auto_reset=True,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for (batch,) in self.batches:
            yield batch["image"], batch["label"].squeeze(1)


RIVALS = {
    "FFCV, its own file": ("ffcv", ffcv),
    "DALI, on the CPU": ("nvidia.dali", Dali),
}


def is_installed(module: str) -> bool:
    """Without importing it, nor failing where the package around it is missing."""
    return importlib.util.find_spec(module.split(".")[0]) is not None and (
        importlib.util.find_spec(module) is not None
    )


def contenders(folder: Path, threads: int) -> dict[str, Loader]:
    """By name; those that are not installed are said and left out."""
    found: dict[str, Loader] = {OURS: ours(folder, threads), f"{OURS}, fast": ours(folder, threads, "fast")}
    for name, (module, make) in RIVALS.items():
        if is_installed(module):
            found[name] = make(folder, threads)
        else:
            print(f"{name}: {module} is not installed, left out")
    return found


def check(loaders: dict[str, Loader]) -> None:
    """Every image once, of one shape and dtype, and as bright as ours on average."""
    wanted: Tensor | None = None
    for name, loader in loaders.items():
        labels, means = [], []
        for images, batch_labels in loader:
            assert images.shape == (len(batch_labels), 3, SIDE, SIDE), (name, images.shape)
            assert images.dtype == torch.float32, (name, images.dtype)
            labels.append(batch_labels.long().clone())
            means.append(images.mean(dim=(2, 3)))
        counts = torch.bincount(torch.cat(labels))
        assert counts.tolist() == [FILES // 10] * 10, (name, counts)
        mean = torch.cat(means).mean(dim=0)
        wanted = mean if wanted is None else wanted
        assert torch.allclose(mean, wanted, atol=0.05), (name, mean, wanted)
        print(f"  {name:40} mean of each channel {[round(value, 3) for value in mean.tolist()]}")


def measure(loaders: dict[str, Loader]) -> tuple[dict[str, float], dict[str, float]]:
    """Images a second by the clock, and images a second of processor time: medians, interleaved."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    for _ in range(ROUNDS):
        for name, loader in loaders.items():
            clock, processor = time.perf_counter(), time.process_time()
            assert sum(len(labels) for _, labels in loader) == FILES
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    medians = {
        name: [statistics.median(each) for each in zip(*took, strict=True)] for name, took in times.items()
    }
    by_clock, by_processor = ({name: FILES / each[k] for name, each in medians.items()} for k in (0, 1))
    return by_clock, by_processor


def compare(folder: Path, threads: int) -> None:
    """Both measures, and what was asked."""
    torch.set_num_threads(threads)
    loaders = contenders(folder, threads)
    rivals = [name for name in RIVALS if name in loaders]
    check(loaders)
    by_clock, by_processor = measure(loaders)
    said = f"RandomResizedCrop({SIDE}), flip, Normalize, batches of {BATCH}, threads: {threads}"
    report(f"{said}, by the clock", by_clock, rivals, "images")
    report(f"{said}, by processor time", by_processor, rivals, "images")
    print_promises(
        [
            (f"{measure} of {OURS}, times {name}", PROMISES[name], "at least", rates[OURS] / rates[name])
            for measure, rates in (("images/s", by_clock), ("images/s of processor time", by_processor))
            for name in rivals
        ]
    )


def main() -> None:
    """Write the files and compare."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "jpegs"
        folder.mkdir()
        write_jpegs(folder)
        for threads in (1, 2):
            compare(folder, threads)


if __name__ == "__main__":
    main()
