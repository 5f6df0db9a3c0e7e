"""One sample per file."""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing import context, reduction
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import torch
from torch import Tensor

from penstock import _core
from penstock.collate import Structure, Table, Transform
from penstock.datasets.base import Dataset, Rows, column_in_memory
from penstock.datasets.shards import SUFFIXES, Raw, distinct
from penstock.errors import ArgumentError, FormatError, PenstockError, SchemaError, ShardError
from penstock.progress import steps

__all__ = ["FileDataset"]

Labels: TypeAlias = "Mapping[str, Any] | Sequence[Any] | Tensor | Callable[[Path], Any]"

_LABEL = "label"
_FILES_AT_ONCE = 4096
_MOST_TOLD = 10


class FileDataset(Dataset):
    """Samples that are files: sample i is what `root/{ids[i]}{suffix}` holds.

    `.npy`, `.npz`, `.pt`/`.pth`, `.safetensors`, raw binary. A sample is a tensor when files hold one array,
    a tuple or a dict when they hold several; with `labels` it is (that, label). Arrays must agree in dtype
    and shape over all files.

    Headers are read when it is made, by all threads, or not at all with an `index` file. Paths lie in one
    piece of memory, some 50 bytes a file, which worker processes share; nothing is kept per file in Python.
    A sample takes one open, one read into the batch and one close. A file that has been replaced by another
    of the same dtype and shape is read as it is then.

    Args:
        root: The folder.
        ids: Which files, in this order: paths below the root, without the suffix. Default: every data file in
            the folder and those below it, sorted; what begins with a dot is left out.
        labels: A mapping from id to label, or a sequence or tensor with one for every id, or a function of
            the file's path. Numbers. Default: none.
        suffix: What file names end with. Default: it is found.
        fields: As in `ShardDataset`: a name, or a tuple of names. Default: all arrays.
        transform: Called with each sample; the slow path, one Python call a sample. Default: none.
        raw: What a file holds when it has no header: one row. Default: it has one.
        cache: "memory": what has been read once is kept in memory that forked workers share, and is not read
            again, even if the file changes. Default: None.
        cache_bytes: What the cache may take; what comes later is read every time. Default: half of the memory
            that is available now.
        index: A file to keep what was found in the folder: the next start reads no headers. Made when it is
            not there, made anew when files came or went, or when it is damaged (with a warning). Several
            processes may start at once. Better not in the folder itself, which it changes: then the folder
            is listed again at every start. Default: none.
        on_error: "raise" what is wrong with a file, or "skip" those that cannot be read or do not agree:
            they are left out, a warning counts them, `skipped` lists them. Default: "raise".

    Attributes:
        ids: Of the samples, a sequence of str.
        skipped: Path and reason of each file that was left out.

    Raises:
        ShardError: A file is missing (the first ten are named, all are counted) or unreadable.
        FormatError: A file is not what it should be.
        SchemaError: Files disagree in names, dtype or shape; a label is missing or no number; an id is there
            twice.
        ArgumentError: An argument has a value that cannot be; the index file is of another folder.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        ids: Iterable[str] | None = None,
        labels: Labels | None = None,
        suffix: str | None = None,
        fields: str | Sequence[str] | None = None,
        transform: Transform | None = None,
        raw: Raw | None = None,
        cache: Literal["memory"] | None = None,
        cache_bytes: int | None = None,
        index: str | os.PathLike[str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        _require_choice("cache", cache, (None, "memory"))
        _require_choice("on_error", on_error, ("raise", "skip"))
        if index is not None and on_error == "skip":
            raise ArgumentError("an index file does not remember what was skipped", actual='on_error="skip"')
        self.root = os.path.abspath(os.fspath(root))
        given = None if ids is None else _distinct_ids(ids)
        self.suffix = _found_suffix(self.root, given) if suffix is None else suffix
        self._listed = SUFFIXES if suffix is None else (suffix,)  # what is listed where there are no ids
        self.skipped: list[tuple[str, str]] = []
        self._raw = raw
        self._index_path = None if index is None else os.path.abspath(os.fspath(index))
        wanted = () if fields is None else (fields,) if isinstance(fields, str) else distinct(fields)
        names = None if given is None else [os.fsencode(each + self.suffix) for each in given]
        if index is None:
            self._index, failed = self._read_headers(names, wanted, on_error)
            rows = None
        else:
            self._index, failed = self._kept_index(wanted), np.empty(0, np.int64)
            rows = None if given is None else self._rows_of(given, names)
        self._cache_budget = None if cache is None else (cache_bytes,)
        self._rows = rows
        self._labels = _label_tensor(labels, self.ids, failed, self.root)
        self._structure = _structure(self._index, fields, labels is not None)
        cached = None if cache is None else _core.RowCache(self._index, cache_bytes)
        target = None if labels is None else _LABEL
        super().__init__(self._table_of(rows, cached), target=target, transform=transform)
        self._rows = rows

    @property
    def ids(self) -> _Ids:
        """Of the samples, in their order."""
        return _Ids(self._index, self._rows, self._listed if self.suffix == "" else (self.suffix,))

    @property
    def shard_lengths(self) -> Rows:
        """One, of all samples: there is nothing to gain from the order of small files."""
        return np.array([len(self)])

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_table": None, "_cache": _shared(self._cache)}
        state["_index"] = _shared(self._index) or self._index_path or self._index.image
        state["_fingerprint"] = self._index.fingerprint
        state["_rows"] = None if self._rows is None else torch.from_numpy(self._rows)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._rows = None if state["_rows"] is None else state["_rows"].numpy()
        self._index = _index_from(state["_index"], self.__dict__.pop("_fingerprint"))
        cached = None
        if self._cache_budget is not None:
            shared = state["_cache"]
            cached = (
                _core.RowCache(self._index, *self._cache_budget)
                if shared is None
                else _core.RowCache.from_descriptor(self._index, shared.detach())
            )
        self._table = self._table_of(self._rows, cached)

    def _table_of(self, rows: Rows | None, cache: _core.RowCache | None) -> Table:
        """Files, and a label for each."""
        self._cache = cache
        sources: list[_core.Column | _core.Source] = [
            _core.FileSource(self._index, None if self._raw is None else self._raw._as_core(), cache)
        ]
        if self._labels is not None:
            labels = self._labels
            if rows is not None:  # files that are not among the samples have a row too
                labels = labels.new_zeros((self._index.num_files, *labels.shape[1:]))
                labels[torch.from_numpy(rows)] = self._labels
            sources.append(column_in_memory(_LABEL, labels.contiguous()))
        return Table(_core.Table(sources), self._structure)

    # --- what is in the folder -----------------------------------------------------------------------

    def _indexer(
        self, names: Sequence[bytes] | None, fields: tuple[str, ...], known: _core.FileIndex | None
    ) -> _core.FileIndexer:
        suffixes: Sequence[str] = [] if self._raw is not None and self._listed == SUFFIXES else self._listed
        raw = None if self._raw is None else self._raw._as_core()
        return _core.FileIndexer(
            os.fsencode(self.root), self._recipe(fields), names, suffixes, fields, raw, known
        )

    def _recipe(self, fields: tuple[str, ...]) -> bytes:
        """What was asked of the folder: an index of it serves whoever asks for the same."""
        raw = None if self._raw is None else self._raw._as_core()
        return json.dumps({"suffixes": self._listed, "fields": fields, "raw": raw}).encode()

    def _read_headers(
        self, names: Sequence[bytes] | None, fields: tuple[str, ...], on_error: str
    ) -> tuple[_core.FileIndex, Rows]:
        """An index, and which of the files are not in it."""
        indexer = self._indexer(names, fields, None)
        if indexer.num_files == 0:
            raise SchemaError(
                "no data file is there" if names is None else "ids= is empty",
                path=self.root,
                expected=f"files like *{', *'.join(self._listed)}",
            )
        _read(indexer)
        failures = indexer.failures()
        if failures and on_error == "raise":
            _raise_failures(indexer, failures)
        index = indexer.finish()
        if failures:
            self.skipped = [(os.fsdecode(path), problem) for _, path, _, problem in failures]
            warnings.warn(
                f"{len(failures)} of {indexer.num_files} files are left out, see .skipped; the first: "
                f"{self.skipped[0][0]}: {self.skipped[0][1]}",
                stacklevel=4,
            )
        return index, np.array([file for file, _, _, _ in failures], np.int64)

    def _kept_index(self, fields: tuple[str, ...]) -> _core.FileIndex:
        """The index file's contents, after a look whether the folder is still the same."""
        assert self._index_path is not None
        path = os.fsencode(self._index_path)
        known = self._open_index(path, fields)
        if known is not None and known.is_current():
            return known
        indexer = self._indexer(None, fields, known)
        if indexer.num_files == 0:
            raise SchemaError("no data file is there", path=self.root)
        _read(indexer)
        if failures := indexer.failures():
            _raise_failures(indexer, failures)
        index = indexer.finish()
        if known is None or not index.same_files_as(known):
            index.write(path)
        return index

    def _open_index(self, path: bytes, fields: tuple[str, ...]) -> _core.FileIndex | None:
        """What the file holds; nothing where it must be made."""
        try:
            known = _core.FileIndex.open(path)
        except ShardError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        except FormatError as error:
            warnings.warn(f"{error}. It is made anew", stacklevel=5)
            return None
        for what, kept, asked in (
            ("of another folder", known.root, os.fsencode(self.root)),
            ("for other arguments", known.recipe, self._recipe(fields)),
        ):
            if kept != asked:
                raise ArgumentError(
                    f"the index file is {what}",
                    path=os.fsdecode(path),
                    expected=os.fsdecode(asked),
                    actual=os.fsdecode(kept),
                    hint="Remove it, or name another one.",
                )
        return known

    def _rows_of(self, ids: Sequence[str], names: Sequence[bytes] | None) -> Rows:
        """Numbers of the files of an index."""
        assert names is not None
        rows = self._index.find(names)
        if len(missing := np.flatnonzero(rows < 0)):
            raise _missing([os.path.join(self.root, os.fsdecode(names[int(i)])) for i in missing], len(ids))
        return rows


class _Ids(Sequence[str]):
    """Names of files, without their suffix; made when they are looked at."""

    def __init__(self, index: _core.FileIndex, rows: Rows | None, suffixes: Sequence[str]) -> None:
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
        return ids if isinstance(i, slice) else ids[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._index.ids(self._rows, self._suffixes))

    def names(self) -> list[str]:
        """With their suffix."""
        return self._index.ids(self._rows, ())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"[{shown}{', ...' if len(self) > 3 else ''}] ({len(self)} ids)"


# --- arguments -------------------------------------------------------------------------------------------


def _require_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise ArgumentError(
            f"{name}= has a value that cannot be", expected=f"one of {choices}", actual=repr(value)
        )


def _distinct_ids(ids: Iterable[str]) -> list[str]:
    ids = [os.fspath(each) for each in ids]
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = sorted({each for each in ids if each in seen or seen.add(each)})  # type: ignore[func-returns-value]
        raise SchemaError(
            f"{len(twice)} ids are there more than once",
            actual=_few(list(map(repr, twice))),
            hint="To see a sample more often, use ds.subset(indices) or a sampler.",
        )
    return ids


def _found_suffix(root: str, ids: Sequence[str] | None) -> str:
    """What to put after an id to have a file: "" where ids are whole names, or where all files are taken."""
    for each in (ids or [])[:_MOST_TOLD]:
        for suffix in ("", *SUFFIXES):
            if os.path.isfile(os.path.join(root, each + suffix)):
                return suffix
    return ""


def _structure(index: _core.FileIndex, fields: str | Sequence[str] | None, labelled: bool) -> Structure:
    """How a sample is put together."""
    names = tuple(index.fields)
    if isinstance(fields, str) or (fields is None and len(names) == 1 and index.container != "sequence"):
        sample = Structure("tensor", names)
    elif fields is not None or index.container == "sequence":
        sample = Structure("tuple", names)
    else:
        sample = Structure("dict", names)
    if not labelled:
        return sample
    if _LABEL in names:
        raise SchemaError(
            "the files hold labels, and labels= gives others",
            field=_LABEL,
            hint="Leave labels= out, or choose the other arrays with fields=.",
        )
    if sample.kind == "tensor":
        return Structure("tuple", (*names, _LABEL))
    return Structure("pair", (*names, _LABEL), sample)


def _label_tensor(labels: Labels | None, ids: _Ids, failed: Rows, root: str) -> Tensor | None:
    """One label a sample, shape (len(ids), ...)."""
    if labels is None:
        return None
    if isinstance(labels, Mapping):
        values: Any = _mapped(labels, ids)
    elif callable(labels):
        values = [labels(Path(root, name)) for name in ids.names()]
    else:
        values = labels
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SchemaError(
            "labels must be numbers",
            field=_LABEL,
            actual=repr(next(iter(values), None)),
            hint='Number them, such as {"cat": 0, "dog": 1}[name].',
        ) from error
    if tensor.ndim and len(failed) and len(tensor) == len(ids) + len(failed):  # a sequence for all files
        tensor = tensor[torch.from_numpy(np.delete(np.arange(len(tensor)), failed))]
    if tensor.ndim == 0 or len(tensor) != len(ids):
        raise SchemaError(
            "labels= does not have one for every file",
            expected=f"{len(ids)} labels",
            actual=f"{len(tensor) if tensor.ndim else 'a single number'}",
        )
    return tensor


def _mapped(labels: Mapping[str, Any], ids: Sequence[str]) -> list[Any]:
    names = list(ids)
    try:
        return [labels[name] for name in names]
    except KeyError:
        missing = [name for name in names if name not in labels]
    raise SchemaError(
        f"labels= misses {len(missing)} of {len(names)} ids", actual=_few(list(map(repr, missing)))
    )


def _few(items: Sequence[str]) -> str:
    return ", ".join(items[:_MOST_TOLD]) + (", ..." if len(items) > _MOST_TOLD else "")


# --- reading ---------------------------------------------------------------------------------------------


def _read(indexer: _core.FileIndexer) -> None:
    for begin, end in steps(indexer.num_files, _FILES_AT_ONCE, "reading headers"):
        indexer.read(begin, end)


def _raise_failures(indexer: _core.FileIndexer, failures: list[tuple[int, bytes, int, str]]) -> None:
    """All missing files at once; otherwise the first that is wrong."""
    gone = [os.fsdecode(path) for _, path, code, _ in failures if code == errno.ENOENT]
    if gone:
        raise _missing(gone, indexer.num_files)
    indexer.raise_first()


def _missing(paths: Sequence[str], total: int) -> PenstockError:
    return ShardError(
        f"{len(paths)} of {total} files are not there",
        path=paths[0],
        actual=f"nothing at {_few(paths)}",
        errno=errno.ENOENT,
        hint="Is suffix= right?",
    )


def _shared(memory: _core.FileIndex | _core.RowCache | None) -> Any:
    """What a worker process that is being started can map; nothing at any other time."""
    if memory is None or memory.descriptor < 0 or context.get_spawning_popen() is None:
        return None
    return reduction.DupFd(memory.descriptor)


def _index_from(pickled: Any, fingerprint: int) -> _core.FileIndex:
    if isinstance(pickled, bytes):
        return _core.FileIndex.from_bytes(pickled)
    if not isinstance(pickled, str):
        return _core.FileIndex.from_descriptor(pickled.detach())
    index = _core.FileIndex.open(os.fsencode(pickled))
    if index.fingerprint != fingerprint:
        raise ShardError("the index file has changed since the dataset was pickled", path=pickled)
    return index
