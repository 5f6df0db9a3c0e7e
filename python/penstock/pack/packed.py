"""A folder that has been packed."""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path
from typing import Any

from penstock.datasets import ShardDataset
from penstock.datasets.shards import PACK_MANIFEST
from penstock.errors import FormatError, RowError, SchemaError
from penstock.pack.disk import PathLike
from penstock.pack.ids import read_ids
from penstock.pack.plan import FINISHED, UNFINISHED, Plan
from penstock.pack.running import Pool
from penstock.pack.shard import Shard
from penstock.progress import bar

__all__ = ["Packed"]


class Packed:
    """A folder that `pack` has finished.

    Only the manifest is read when it is made. Its length is the number of samples.

    Args:
        folder: Where it is.

    Attributes:
        folder: Its absolute path.
        fields: Names of the fields, in their order.
        classes: Names of the classes, or None.

    Raises:
        ShardError: It is not there, or cannot be read.
        FormatError: It is no packed folder, or not a finished one.
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(os.path.abspath(folder))
        begun = any((self.folder / name).exists() for name in (UNFINISHED, FINISHED))
        if begun and not (self.folder / PACK_MANIFEST).exists():
            raise FormatError(
                "this pack is not finished",
                path=os.fspath(self.folder),
                hint="Pack the same source into it again: that goes on.",
            )
        self._plan = Plan.read(self.folder)
        self.fields = tuple(column.name for column in self._plan.columns)
        self.classes = None if self._plan.classes is None else list(self._plan.classes)

    def __len__(self) -> int:
        return self._plan.firsts[-1]

    def __repr__(self) -> str:
        return f"Packed({str(self.folder)!r}: {len(self)} samples in {self.num_shards} shards)"

    @property
    def num_shards(self) -> int:
        """Of how many shards the samples are."""
        return len(self._plan.rows)

    @property
    def num_bytes(self) -> int:
        """Of all samples together."""
        return sum(map(self._plan.bytes_of, range(self.num_shards)))

    @property
    def ids(self) -> list[str] | None:
        """The samples' names in the source, or None where they had none. Read anew each time."""
        return None if self._plan.ids is None else read_ids(self.folder)

    @property
    def source(self) -> dict[str, list[str]]:
        """The files of each field, as `ShardDataset` takes them; images are not among them."""
        return {
            column.name: [
                os.fspath(self.folder / self._plan.path_of(column, number))
                for number in range(self.num_shards)
            ]
            for column in self._plan.columns
            if not column.encoded
        }

    def open(self, **options: Any) -> ShardDataset:
        """The samples as a dataset, put together as they were; of images, their labels.

        Args:
            options: `fields`, `target` and `transform` as for `ShardDataset`.

        Raises:
            SchemaError: There are images alone, or `options` do not fit.
            ShardError: A file is unreadable; MissingFileError: it is not there.
        """
        if not self.source:
            raise SchemaError("there are images alone: encoded() gives them", path=os.fspath(self.folder))
        return ShardDataset(self.folder, **options)

    def encoded(self, index: int) -> bytes:
        """An image as its file was, byte for byte. Negative numbers count from the end.

        Raises:
            RowError: There is no such sample.
            SchemaError: These are no images.
            ShardError: Its file cannot be read.
        """
        if self._plan.encoded is None:
            raise SchemaError("there are no images", path=os.fspath(self.folder))
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise RowError("no such sample", row=index, expected=f"a number below {len(self)}")
        number = bisect_right(self._plan.firsts, row) - 1
        return Shard(self.folder, self._plan, number).encoded(row - self._plan.firsts[number])

    def verify(self) -> None:
        """Read every sample and compare it with its digest. On a terminal with a bar.

        Raises:
            ShardError: A file is missing or cannot be read, or holds something else: which one, and the
                first sample that differs.
        """
        with bar("verifying", self.num_bytes, unit="B") as advance, Pool() as pool:
            for number in range(self.num_shards):
                shard = Shard(self.folder, self._plan, number)
                shard.require_whole()
                shard.verify(pool, advance)
