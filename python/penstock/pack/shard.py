"""The files of one shard: written under other names, read back, named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np

from penstock.errors import ShardError
from penstock.pack.disk import Bytes, read_at, reading, sync, write_at, writing
from penstock.pack.plan import DIGEST_BYTES, Column, File, Offsets, Plan, cuts, ends_of
from penstock.pack.running import Pool
from penstock.pack.sources import Source
from penstock.progress import Advance

__all__ = ["Shard", "start_digests"]

BATCH_BYTES = 32 << 20
BATCH_ROWS = 1 << 16
WORTH_A_THREAD = 6 << 10  # bytes of a row: to hash less holds the interpreter's lock too often


class Shard:
    """The files of one shard, finished or in the making, when they have names of their own."""

    def __init__(self, folder: Path, plan: Plan, number: int, *, making: bool = False) -> None:
        self.folder = folder
        self.plan = plan
        self.number = number
        self.rows = plan.rows[number]
        self.first = plan.firsts[number]
        self.files = plan.files(number)
        self._suffix = ".tmp" if making else ""
        self._file_of = {name: file for file in self.files for name in file.begins}

    # what a shard goes through

    def write(self, source: Source, pool: Pool, bar: Advance) -> None:
        """Fill the files with samples and their digests.

        Raises:
            ShardError: A file cannot be read or written.
        """
        self._create()
        offsets = self._write_offsets(source)
        for begin, end in self._batches(offsets):
            blocks = source.read(self.first + begin, self.first + end, pool)
            digests = start_digests(blocks, _part(offsets, begin, end), end - begin, pool)
            for column, block in zip(self.plan.columns, blocks, strict=True):
                self._put(column.name, _begin_of(column, begin, offsets), block)
            self._put("", DIGEST_BYTES * begin, digests())
            bar(sum(block.nbytes for block in blocks))

    def sync(self) -> None:
        """Have the files on the disk, and out of memory.

        Raises:
            ShardError: One could not be written.
        """
        for file in self.files:
            sync(self._path(file), forget=True)

    def verify(self, pool: Pool, bar: Advance) -> None:
        """Compare all samples on the disk with their digests.

        Raises:
            ShardError: One differs, or cannot be read.
        """
        offsets = self._read_offsets()
        compare: Callable[[], None] | None = None
        for begin, end in self._batches(offsets):
            blocks = [self._take_rows(column, begin, end, offsets) for column in self.plan.columns]
            digests = start_digests(blocks, _part(offsets, begin, end), end - begin, pool)
            if compare is not None:
                compare()
            compare = partial(self._compare, begin, end, digests)
            bar(sum(block.nbytes for block in blocks))
        if compare is not None:
            compare()

    def publish(self) -> None:
        """Give all files their names; that of the digests comes last, and says that all are there.

        Raises:
            ShardError: That failed.
        """
        *others, digests = self.files
        for files in (others, [digests]):
            for file in files:
                with writing(self._path(file)):
                    os.replace(self._path(file), self.folder / file.path)
            for folder in {self._path(file).parent for file in files}:
                sync(folder)

    def discard(self) -> None:
        """Delete the files, as far as that is possible."""
        for file in self.files:
            with suppress(OSError):
                self._path(file).unlink()

    # what is asked of one

    def require_whole(self) -> None:
        """See that all files are there, each with its size and head.

        Raises:
            ShardError: One is not.
        """
        for file in self.files:
            path = self._path(file)
            with reading(path):
                size = path.stat().st_size
            if size != file.size or read_at(path, 0, len(file.head)).tobytes() != file.head:
                raise ShardError(
                    "this is not the file that was packed",
                    path=os.fspath(path),
                    expected=f"{file.size} bytes",
                    actual=f"{size}{' with another head' if size == file.size else ''}",
                )

    def digest(self, row: int) -> bytes:
        """The digest of one of its rows."""
        return self._take_digests(row, row + 1).tobytes()

    def encoded(self, row: int) -> bytes:
        """The bytes of one of its rows in the encoded column."""
        column = self.plan.encoded
        assert column is not None
        begin, end = self._take(f"{column.name}_offsets", 8 * row, 16).view(np.int64).tolist()
        return self._take(column.name, begin, end - begin).tobytes()

    def _path(self, file: File) -> Path:
        return self.folder / f"{file.path}{self._suffix}"

    def _create(self) -> None:
        for file in self.files:
            path = self._path(file)
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.head)

    def _put(self, name: str, begin: int, data: Bytes) -> None:
        file = self._file_of[name]
        write_at(self._path(file), file.begins[name] + begin, data.reshape(-1))

    def _take(self, name: str, begin: int, count: int) -> Bytes:
        file = self._file_of[name]
        return read_at(self._path(file), file.begins[name] + begin, count)

    def _take_digests(self, begin: int, end: int) -> Bytes:
        return self._take("", DIGEST_BYTES * begin, DIGEST_BYTES * (end - begin)).reshape(-1, DIGEST_BYTES)

    def _take_rows(self, column: Column, begin: int, end: int, offsets: Offsets | None) -> Bytes:
        first, last = _begin_of(column, begin, offsets), _begin_of(column, end, offsets)
        data = self._take(column.name, first, last - first)
        return data if column.encoded else data.reshape(end - begin, column.row_bytes)

    def _batches(self, offsets: Offsets | None) -> Iterator[tuple[int, int]]:
        row_bytes = max(self.plan.row_bytes, BATCH_BYTES // BATCH_ROWS)
        return cuts(self.rows, row_bytes, offsets, BATCH_BYTES)

    def _write_offsets(self, source: Source) -> Offsets | None:
        if source.sizes is None or self.plan.encoded is None:
            return None
        offsets = ends_of(source.sizes[self.first : self.first + self.rows])
        self._put(f"{self.plan.encoded.name}_offsets", 0, offsets.view(np.uint8))
        return offsets

    def _read_offsets(self) -> Offsets | None:
        if self.plan.encoded is None or self.plan.encoded_bytes is None:
            return None
        name = f"{self.plan.encoded.name}_offsets"
        size = self.plan.encoded_bytes[self.number]
        offsets = self._take(name, 0, 8 * (self.rows + 1)).view(np.int64)
        if offsets[0] != 0 or offsets[-1] != size or (offsets[1:] < offsets[:-1]).any():
            raise ShardError(
                "these are no offsets",
                path=os.fspath(self._path(self._file_of[name])),
                expected=f"from 0 up to {size}",
            )
        return offsets

    def _compare(self, begin: int, end: int, digests: Callable[[], Bytes]) -> None:
        needed, found = self._take_digests(begin, end), digests()
        if np.array_equal(needed, found):
            return
        row = int(np.flatnonzero((needed != found).any(axis=1))[0])
        raise ShardError(
            "a sample is not what was packed",
            path=os.fspath(self._path(self.files[0])),
            row=self.first + begin + row,
            expected=f"digest {needed[row].tobytes().hex()}",
            actual=found[row].tobytes().hex(),
        )


def start_digests(
    blocks: Sequence[Bytes], edges: Offsets | None, rows: int, pool: Pool
) -> Callable[[], Bytes]:
    """Have the BLAKE2b of each row computed, its columns end to end.

    Args:
        blocks: Of each column, shape (rows, row_bytes); encoded ones end to end, shape (bytes,).
        edges: Where encoded rows begin, and the last one ends, shape (rows + 1,).
        rows: How many.
        pool: Whose threads do it.

    Returns:
        What waits for them, and gives them, shape (rows, 16).
    """
    num_bytes = sum(block.nbytes for block in blocks)
    is_small = num_bytes < rows * WORTH_A_THREAD
    if is_small and edges is None and len(blocks) > 1:
        blocks = [np.concatenate(blocks, axis=1)]
    views = [(block.reshape(-1).data, _edges_of(block, edges, rows)) for block in blocks]
    digests = np.empty((rows, DIGEST_BYTES), np.uint8)

    def work(begin: int, end: int) -> None:
        (view, at), *others = views
        found = []
        for row in range(begin, end):
            digest = blake2b(view[at[row] : at[row + 1]], digest_size=DIGEST_BYTES)
            for other, its in others:
                digest.update(other[its[row] : its[row + 1]])
            found.append(digest.digest())
        digests[begin:end] = np.frombuffer(b"".join(found), np.uint8).reshape(-1, DIGEST_BYTES)

    wait = pool.start(work, rows, 1 if is_small else None)

    def done() -> Bytes:
        wait()
        return digests

    return done


def _edges_of(block: Bytes, edges: Offsets | None, rows: int) -> list[int]:
    if edges is None or block.ndim == 2:
        edges = np.arange(rows + 1) * block.shape[1]
    positions: list[int] = (edges - edges[0]).tolist()
    return positions


def _begin_of(column: Column, row: int, offsets: Offsets | None) -> int:
    return int(offsets[row]) if column.encoded and offsets is not None else row * column.row_bytes


def _part(offsets: Offsets | None, begin: int, end: int) -> Offsets | None:
    return None if offsets is None else offsets[begin : end + 1]
