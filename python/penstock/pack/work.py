"""From one state of the folder to the next.

    empty -> unfinished/pack.json -> a shard more, ... -> finished/ -> files in their place, pack.json last

Each step is a rename, and each is where a killed one goes on. A shard counts when its digests are there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from penstock.datasets import Dataset
from penstock.datasets.shards import PACK_MANIFEST
from penstock.errors import ArgumentError, ShardError, require_choice
from penstock.pack.disk import PathLike, lock, reading, sync, write_whole, writing
from penstock.pack.ids import digest_of_ids, write_ids
from penstock.pack.packed import Packed
from penstock.pack.plan import FINISHED, UNFINISHED, Plan, cuts, ends_of, require_writable
from penstock.pack.running import Pool
from penstock.pack.shard import Shard, start_digests
from penstock.pack.sources import Kind, Source, open_source, require_apart
from penstock.progress import Advance, bar

__all__ = ["Format", "pack"]

Format: TypeAlias = Literal["npy", "safetensors"]


def pack(
    source: Dataset | PathLike,
    folder: PathLike,
    *,
    kind: Kind | None = None,
    format: Format = "npy",
    shard_bytes: int = 512 << 20,
) -> Packed:
    """Write all samples of a source, in their order, into a few large files of a standard format.

    These can be read with numpy, or with safetensors, alone:

    - `format="npy"`: `<field>/00000.npy`, ..., shape (rows, *row_shape);
    - `format="safetensors"`: `data/00000.safetensors`, ..., all fields in each;
    - images stay the bytes that they are: `image`, uint8, shape (bytes,), holds them end to end, image i
      from `image_offsets[i]` to `[i + 1]`, int64, shape (rows + 1,); and their `label`, int64, shape (rows,);
    - `pack/ids.npy` and `pack/id_offsets.npy`: the samples' names, likewise, in UTF-8;
    - `pack/digests/00000.npy`, uint8, shape (rows, 16): BLAKE2b of each sample, its fields end to end;
    - `pack.json`: what there is.

    A shard counts once every sample of it was read back from the disk and had its digest. Until all is
    there, all lies in `unfinished/`. Killed, or out of space, the same call goes on after the last shard
    that counts; called once more, there is nothing to do. The source is only read, and must not change
    in between.

    All rows of a field must have one shape: sequences of different lengths are refused before anything is
    written. `RaggedDataset` reads them as they are, or end to end beside their lengths.

    On a terminal a bar shows how far it is, if `tqdm` is installed.

    Memory: some batches of 32 MiB, or of one sample where that is larger; and the names.

    Args:
        source: A dataset without a transform; or a path.
        folder: Where to: a new or an empty folder, or one to go on with; not in the source.
        kind: What a path is. "files": a folder of files with a sample each (`FileDataset`). "shards": files
            with many samples each (`ShardDataset`). "images": folders of images, by class, as torchvision's
            `ImageFolder` takes them, or a folder of images. Default: "images" for a folder with images
            and no other data, "files" for any other, and "shards" for a file or a pattern.
        format: Of the files. Default: "npy".
        shard_bytes: Bytes of a shard at most, all fields together; a sample that is larger is a shard by
            itself. Default: 512 MiB.

    Returns:
        The folder; its `open()` gives the dataset.

    Raises:
        ArgumentError: The folder holds something else, or the pack of another source, or lies in the source;
            or an argument has a value that cannot be.
        SchemaError: The source cannot be packed: a transform, rows of different lengths, a dtype that the
            format has not, no files.
        ShardError: A file cannot be read, or written (`errno` says why, such as a full disk), or does not
            give back what was written; or another process packs into the folder.
    """
    target = Path(os.path.abspath(folder))
    require_choice("format", format, get_args(Format))
    if shard_bytes < 1:
        raise ArgumentError("shard_bytes= must be positive", actual=str(shard_bytes))
    require_apart(source, target)
    opened = open_source(source, kind)
    plan = _plan(opened, format, shard_bytes)
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    with lock(target), Pool() as pool:
        _Work(target, opened, plan, pool).run()
    return Packed(target)


def _plan(source: Source, format: Format, shard_bytes: int) -> Plan:
    require_writable(source.columns, format)
    ends = None if source.sizes is None else ends_of(source.sizes)
    row_bytes = sum(column.row_bytes for column in source.columns)
    ranges = list(cuts(len(source), row_bytes, ends, shard_bytes)) or [(0, 0)]
    return Plan(
        format=format,
        shard_bytes=shard_bytes,
        sample=source.sample,
        columns=source.columns,
        rows=tuple(end - begin for begin, end in ranges),
        encoded_bytes=None if ends is None else tuple(int(ends[end] - ends[begin]) for begin, end in ranges),
        classes=None if source.classes is None else tuple(map(str, source.classes)),
        ids=None if source.ids is None else digest_of_ids(source.ids, source.sizes),
    )


class _Work:
    """Packing, in a folder that nobody else packs into."""

    def __init__(self, target: Path, source: Source, plan: Plan, pool: Pool) -> None:
        self.target = target
        self.source = source
        self.plan = plan
        self.pool = pool

    def run(self) -> None:
        unfinished, finished = self.target / UNFINISHED, self.target / FINISHED
        begun = [
            folder for folder in (self.target, finished, unfinished) if (folder / PACK_MANIFEST).exists()
        ]
        if begun:
            self.plan.require_same(Plan.read(begun[0]), self.target)
        else:
            self._begin(unfinished)
        if begun in ([], [unfinished]):
            self._make_shards(unfinished)
        self._move_up(finished)
        for shard in self._shards(self.target):
            shard.require_whole()
            self._require_of_source(shard)

    def _begin(self, folder: Path) -> None:
        """Make the folder in which shards are made; with its manifest, it is ours."""
        with reading(self.target):
            names = {name for name in os.listdir(self.target) if name != UNFINISHED}
            if folder.is_dir():
                names |= {name for name in os.listdir(folder) if name != f"{PACK_MANIFEST}.tmp"}
        if names:
            raise ArgumentError(
                "the folder is not empty, and no pack to go on with",
                path=os.fspath(self.target),
                expected="a new or an empty folder",
                actual=", ".join(sorted(names)[:3]),
            )
        write_whole(folder / PACK_MANIFEST, self.plan.as_json())

    def _make_shards(self, folder: Path) -> None:
        if self.source.ids is not None:
            write_ids(folder, self.source.ids)
        missing = [shard.number for shard in self._shards(folder) if not self._is_made(shard)]
        to_do, total = (
            sum(map(self.plan.bytes_of, numbers)) for numbers in (missing, range(len(self.plan.rows)))
        )
        with (
            bar("packing", total, unit="B", done=total - to_do) as advance,
            ThreadPoolExecutor(1, "penstock-check") as other,
        ):
            checks: list[Future[None]] = []
            for number in missing:
                shard = Shard(folder, self.plan, number, making=True)
                with _discarding(shard):
                    shard.write(self.source, self.pool, lambda num_bytes: advance(num_bytes / 2))
                    _wait(checks)  # so that no more than two are in the making
                checks.append(other.submit(self._check, shard, lambda num_bytes: advance(num_bytes / 2)))
            _wait(checks)
        for path, _, _ in os.walk(folder):
            sync(Path(path))
        with writing(folder):
            os.rename(folder, self.target / FINISHED)
        sync(self.target)

    def _check(self, shard: Shard, advance: Advance) -> None:
        with _discarding(shard):
            shard.sync()
            shard.verify(self.pool, advance)
            shard.publish()

    def _move_up(self, finished: Path) -> None:
        """Give what is finished its place, the manifest last."""
        if not finished.exists():
            return
        with writing(self.target):
            for name in sorted(os.listdir(finished), key=lambda name: name == PACK_MANIFEST):
                sync(self.target)
                os.rename(finished / name, self.target / name)
            sync(self.target)
            finished.rmdir()

    def _shards(self, folder: Path) -> Iterator[Shard]:
        return (Shard(folder, self.plan, number) for number in range(len(self.plan.rows)))

    def _is_made(self, shard: Shard) -> bool:
        try:
            shard.require_whole()
        except ShardError:
            return False
        self._require_of_source(shard)
        return True

    def _require_of_source(self, shard: Shard) -> None:
        """See for some samples of a shard that they are the source's."""
        for row in sorted({0, shard.rows // 2, shard.rows - 1}) if shard.rows else ():
            needed, found = self._digest(shard.first + row), shard.digest(row)
            if needed != found:
                raise ArgumentError(
                    "this folder holds the pack of another source, or the source has changed",
                    path=os.fspath(self.target),
                    row=shard.first + row,
                    expected=f"digest {needed.hex()}",
                    actual=found.hex(),
                    hint="Choose another folder, or delete this one.",
                )

    def _digest(self, sample: int) -> bytes:
        blocks = self.source.read(sample, sample + 1, self.pool)
        edges = None if self.source.sizes is None else ends_of(self.source.sizes[sample : sample + 1])
        return start_digests(blocks, edges, 1, self.pool)().tobytes()


@contextmanager
def _discarding(shard: Shard) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shard.discard()
        raise


def _wait(checks: list[Future[None]]) -> None:
    while checks:
        checks.pop().result()
