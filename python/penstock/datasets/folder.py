"""A folder of files that hold one sample each: what is in it, and how a process learns that from another."""

from __future__ import annotations

import errno
import json
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import context, reduction
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np

from penstock import _core
from penstock.datasets.base import Rows
from penstock.datasets.left_out import warn_of_left_out
from penstock.datasets.shards import SUFFIXES, Raw
from penstock.errors import ArgumentError, FormatError, MissingFileError, SchemaError, ShardError
from penstock.progress import steps

__all__ = [
    "Failure",
    "Folder",
    "Ids",
    "few",
    "index_from",
    "kept",
    "missing_files",
    "raise_failures",
    "shared",
    "taken",
]

Failure: TypeAlias = tuple[int, bytes, int, str]
"""Number of the file, path, the system's error number or 0, what is wrong."""

_FILES_AT_ONCE = 4096
_MOST_TOLD = 10


class Ids(Sequence[str]):
    """Names of files below their folder, without their suffix; made when they are looked at."""

    def __init__(self, index: _core.FileIndex, suffixes: Sequence[str], rows: Rows | None = None) -> None:
        self._index = index
        self._rows = rows
        self._suffixes = suffixes

    def __len__(self) -> int:
        return self._index.num_files if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        chosen = np.arange(len(self))[i]
        files = np.atleast_1d(chosen if self._rows is None else self._rows[chosen])
        ids = self._index.ids(files, self._suffixes)
        return ids[0] if np.ndim(chosen) == 0 else ids

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index.ids(self._rows, self._suffixes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"[{shown}{', ...' if len(self) > 3 else ''}] ({len(self)} ids)"

    def at(self, samples: Rows) -> Ids:
        """Those of some samples."""
        return Ids(self._index, self._suffixes, samples if self._rows is None else self._rows[samples])

    def with_suffix(self) -> list[str]:
        """The whole names."""
        return self._index.ids(self._rows, ())


@dataclass(frozen=True)
class Folder:
    """What is asked of a folder; an index of it serves whoever asks for the same.

    Attributes:
        root: Its absolute path.
        suffixes: What the names of its files end with, where none are given.
        fields: Arrays to take of every file; none: all of the first one's.
        raw: What a file without a header holds.
        ragged: Whether files of different lengths are sequences; None: if most differ from the first.
    """

    root: str
    suffixes: tuple[str, ...]
    fields: tuple[str, ...]
    raw: tuple[str, list[int], int] | None
    ragged: bool | None

    @classmethod
    def asked(
        cls, root: str, suffix: str | None, fields: tuple[str, ...], raw: Raw | None, ragged: bool | None
    ) -> Folder:
        """By arguments of a dataset."""
        any_name = () if raw is not None else SUFFIXES
        suffixes = any_name if suffix is None else (suffix,)
        return cls(root, suffixes, fields, None if raw is None else raw._as_core(), ragged)

    def read(self, names: Sequence[bytes] | None) -> tuple[_core.FileIndexer, list[Failure]]:
        """Read the headers of these files, or of all.

        Raises:
            SchemaError: There is none.
        """
        return self._read(names, None)

    def kept_index(self, path: str) -> _core.FileIndex:
        """What an index file says, if the folder is still the same; otherwise it is made anew.

        Raises:
            ArgumentError: It is an index of something else, or no index.
            ShardError, FormatError, SchemaError: A file of the folder is wrong, or the index cannot be made.
        """
        known = kept(path, os.fsencode(self.root), self._recipe())
        if known is not None and known.is_current():
            return known
        indexer, failures = self._read(None, known)
        if failures:
            raise_failures(indexer, failures)
        index = indexer.finish()
        warn_of_left_out(indexer.left_out)
        if known is not None and index.same_files_as(known) and not (index.is_settled > known.is_settled):
            return known
        try:
            index.write(os.fsencode(path))
        except ShardError as error:
            if known is None:
                raise
            warnings.warn(f"{error}. It stays as it was, and out of date", stacklevel=4)
        return index

    def _read(
        self, names: Sequence[bytes] | None, known: _core.FileIndex | None
    ) -> tuple[_core.FileIndexer, list[Failure]]:
        root, recipe = os.fsencode(self.root), self._recipe()
        indexer = _core.FileIndexer(
            root, recipe, names, self.suffixes, self.fields, self.raw, known, self.ragged
        )
        if indexer.num_files == 0:
            raise SchemaError(
                "no data file is there" if names is None else "ids= is empty",
                path=self.root,
                expected=f"files like *{', *'.join(self.suffixes)}",
            )
        for begin, end in steps(indexer.num_files, _FILES_AT_ONCE, "reading headers", " files"):
            indexer.read(begin, end)
        indexer.settle()
        return indexer, indexer.failures()

    def _recipe(self) -> bytes:
        """All of it but where it is."""
        return json.dumps([self.suffixes, self.fields, self.raw, self.ragged]).encode()


def kept(path: str, root: bytes, recipe: bytes) -> _core.FileIndex | None:
    """An index file; nothing where it must be made.

    Raises:
        ArgumentError: It is an index of something else, or no index.
    """
    try:
        known = _core.FileIndex.open(os.fsencode(path))
    except ShardError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    except FormatError as error:
        warnings.warn(f"{error}. It is made anew", stacklevel=5)
        return None
    for what, found, asked in (
        ("of another folder", known.root, root),
        ("for other arguments", known.recipe, recipe),
    ):
        if found != asked:
            raise ArgumentError(
                f"the index file is {what}",
                path=path,
                expected=os.fsdecode(asked),
                actual=os.fsdecode(found),
                hint="Remove it, or name another one.",
            )
    return known


def raise_failures(indexer: _core.FileIndexer, failures: Sequence[Failure]) -> None:
    """All missing files at once; otherwise the first that is wrong."""
    gone = [os.fsdecode(path) for _, path, code, _ in failures if code == errno.ENOENT]
    if gone:
        raise missing_files(gone, indexer.num_files)
    indexer.raise_first()


def missing_files(paths: Sequence[str], total: int) -> MissingFileError:
    """The error that counts them and names the first ten."""
    return MissingFileError(
        f"{len(paths)} of {total} files are not there",
        path=paths[0],
        actual=f"nothing at {few(paths)}",
        errno=errno.ENOENT,
        hint="Is suffix= right?",
    )


def few(items: Sequence[str]) -> str:
    """The first ten, for a message."""
    return ", ".join(items[:_MOST_TOLD]) + (", ..." if len(items) > _MOST_TOLD else "")


# --- from one process to another -------------------------------------------------------------------------


Memory = TypeVar("Memory", _core.FileIndex, _core.RowCache)

_taken: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def shared(memory: _core.FileIndex | _core.RowCache | None) -> Any:
    """What a worker process that is being started can map; nothing at any other time."""
    if memory is None or context.get_spawning_popen() is None:
        return None
    descriptor = memory.descriptor
    return None if descriptor < 0 else reduction.DupFd(descriptor)


def taken(handle: Any, make: Callable[[int], Memory]) -> Memory:
    """What `make` makes of the descriptor that `shared` gave, which is then closed.

    A process that is spawned is given a descriptor once for all datasets that share its memory.
    """
    descriptor: int = handle.detach()
    memory: Memory | None = _taken.get(descriptor)
    if memory is None:
        try:
            memory = _taken[descriptor] = make(descriptor)
        finally:
            os.close(descriptor)
    return memory


def index_from(pickled: Any, fingerprint: int) -> _core.FileIndex:
    """An index by its image, its file, or what `shared` gave.

    Raises:
        ShardError: The file is gone, or another one now.
    """
    if isinstance(pickled, bytes):
        return _core.FileIndex.from_bytes(pickled)
    if not isinstance(pickled, str):
        return taken(pickled, _core.FileIndex.from_descriptor)
    index = _core.FileIndex.open(os.fsencode(pickled))
    if index.fingerprint != fingerprint:
        raise ShardError("the index file has changed since the dataset was pickled", path=pickled)
    return index
