"""One sample per file."""

from __future__ import annotations

import errno
import functools
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing import context
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from penstock import _core
from penstock.collate import Transform
from penstock.datasets.base import Dataset, Rows
from penstock.datasets.folder import (
    Folder,
    Ids,
    few,
    index_from,
    missing_files,
    raise_failures,
    shared,
    taken,
)
from penstock.datasets.label_tensors import label_tensor
from penstock.datasets.left_out import warn_of_left_out
from penstock.datasets.shards import SUFFIXES, Raw, distinct
from penstock.errors import ArgumentError, SchemaError, require_choice
from penstock.samplers.base import at_least
from penstock.table import Structure, Table, column_in_memory

__all__ = ["FileDataset"]

Labels: TypeAlias = "Mapping[str, Any] | Sequence[Any] | Tensor | Callable[[Path], Any]"

_LABEL = "label"
_IDS_LOOKED_AT = 1000
_NOT_THE_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # what has gone wrong is not a file's fault


class FileDataset(Dataset):
    """Samples that are files: sample i is what `root/{ids[i]}{suffix}` holds.

    `.npy`, `.npz`, `.pt`/`.pth`, `.safetensors`, raw binary. A sample is a tensor when files hold one array,
    a tuple or a dict when they hold several; with `labels` it is (that, label). Arrays must agree in dtype
    and shape over all files; or they are sequences, which differ in their first dimension and become batches
    as in `RaggedDataset`. Values of `.pt` files that are no tensors are in no sample, as in `ShardDataset`;
    the warning comes when headers are read.

    Headers are read when it is made, by all threads, or not at all with an `index` file. Paths lie in one
    piece of memory, some 50 bytes a file, which worker processes share; nothing is kept per file in Python.
    A sample takes one open, one read into the batch and one close. A file that has been replaced by another
    of the same dtype and shape is read as it is then.

    Args:
        root: The folder.
        ids: Which files, in this order: paths below the root, without the suffix. Default: every data file in
            the folder and those below it, sorted; what begins with a dot is left out.
        labels: A mapping from id to label, or a sequence, array, tensor or column of a table with one for
            every id (by position), or a function of the file's path. Numbers, or tensors of them; Python's
            floats become float64. Default: none.
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
        ragged: Whether arrays that differ in their first dimension are sequences (True), or wrong (False).
            Default: sequences when most files differ from the first one, wrong when only some do.

    Attributes:
        ids: Of the samples, a sequence of str.
        skipped: Path and reason of each file that was left out.

    Raises:
        MissingFileError: Files are not there; the first ten are named, all are counted.
        ShardError: A file is unreadable.
        FormatError: A file is not what it should be.
        SchemaError: Files disagree in names, dtype or shape; a label is missing or no number; an id is there
            twice.
        ArgumentError: An argument has a value that cannot be; the index file is of another folder,
            or does not list what `ids` names.
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
        ragged: bool | None = None,
    ) -> None:
        require_choice("cache", cache, (None, "memory"))
        require_choice("on_error", on_error, ("raise", "skip"))
        if cache_bytes is not None:
            at_least(0, cache_bytes, "cache_bytes")
            require_choice("cache", cache, ("memory",))  # without one it would do nothing
        if index is not None and on_error == "skip":
            raise ArgumentError("an index file does not remember what was skipped", actual='on_error="skip"')
        self.root = os.path.abspath(os.fspath(root))
        wanted = () if fields is None else (fields,) if isinstance(fields, str) else distinct(fields)
        folder = Folder.asked(self.root, suffix, wanted, raw, ragged)
        given = None if ids is None else _distinct_ids(ids)
        if index is not None and not folder.suffixes and _is_below(index, self.root):
            raise ArgumentError(
                "the index file would be one of the samples",
                path=os.fspath(index),
                hint="Put it elsewhere, or say with suffix= which files are meant.",
            )
        self.suffix = _found_suffix(self.root, given) if suffix is None else suffix
        names = None if given is None else [os.fsencode(each + self.suffix) for each in given]
        self.skipped: list[tuple[str, str]] = []
        self._raw = folder.raw
        self._index_path = None if index is None else os.path.abspath(os.fspath(index))
        left_out = np.empty(0, np.int64)
        if self._index_path is None:
            self._index, left_out = self._read_headers(folder, names, on_error)
        else:
            self._index = folder.kept_index(self._index_path)
            if names is not None:
                self._index = self._index.select(self._files_of(names, folder))
                self._index_path = None  # it has more in it
        self._stripped: tuple[str, ...] = (self.suffix,) if self.suffix else ()
        if given is None and suffix is None:
            self._stripped = _common_suffix(self._index)
        self._labels = _label_tensor(labels, self.ids, left_out, self.root)
        self._structure = _structure(self._index, fields, labels is not None)
        self._cache_budget = None if cache is None else (cache_bytes,)
        self._shareable: Tensor | None = None
        cached = None if cache is None else _core.RowCache(self._index, cache_bytes)
        target = None if labels is None else _LABEL
        super().__init__(self._table_of(cached), target=target, transform=transform)

    @property
    def ids(self) -> Ids:
        """Of the samples, in their order."""
        return Ids(self._index, self._stripped)

    @property
    def shard_lengths(self) -> Rows:
        """One, of all samples: there is nothing to gain from the order of small files."""
        return np.array([len(self)])

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_table": None, "_shareable": None, "_cache": shared(self._cache)}
        state["_index"] = shared(self._index) or self._index_path or self._index.image
        state["_index_fingerprint"] = self._index.fingerprint
        state["_labels"] = self._labels_to_send()
        return state

    def _labels_to_send(self) -> Tensor | None:
        """A copy, while a worker process is being started: torch moves what it sends to shared memory."""
        if self._labels is None or context.get_spawning_popen() is None:
            return self._labels
        if self._shareable is None:
            self._shareable = self._labels.clone()
        return self._shareable

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._index = index_from(state["_index"], self.__dict__.pop("_index_fingerprint"))
        cached = None
        if self._cache_budget is not None:
            handle = state["_cache"]
            cached = (
                _core.RowCache(self._index, *self._cache_budget)
                if handle is None
                else taken(handle, functools.partial(_core.RowCache.from_descriptor, self._index))
            )
        self._table = self._table_of(cached)

    def _table_of(self, cache: _core.RowCache | None) -> Table:
        """Files, and a label for each."""
        self._cache = cache
        sources: list[_core.Column | _core.Source] = [_core.FileSource(self._index, self._raw, cache)]
        if self._labels is not None:
            sources.append(column_in_memory(_LABEL, self._labels.contiguous()))
        return Table(_core.Table(sources), self._structure)

    def _read_headers(
        self, folder: Folder, names: Sequence[bytes] | None, on_error: str
    ) -> tuple[_core.FileIndex, Rows]:
        """An index, and which of the files are not in it."""
        indexer, failures = folder.read(names)
        if failures and (on_error == "raise" or any(code in _NOT_THE_FILES for _, _, code, _ in failures)):
            raise_failures(indexer, failures)
        index = indexer.finish()
        warn_of_left_out(indexer.left_out)
        if failures:
            self.skipped = [(os.fsdecode(path), problem) for _, path, _, problem in failures]
            warnings.warn(
                f"{len(failures)} of {indexer.num_files} files are left out, see .skipped; the first: "
                f"{self.skipped[0][0]}: {self.skipped[0][1]}",
                stacklevel=3,
            )
        return index, np.array([file for file, _, _, _ in failures], np.int64)

    def _files_of(self, names: Sequence[bytes], folder: Folder) -> Rows:
        """Numbers of the files of an index."""
        files = self._index.find(names)
        missing = [os.path.join(self.root, os.fsdecode(names[int(i)])) for i in np.flatnonzero(files < 0)]
        if missing and all(map(os.path.exists, missing[:_IDS_LOOKED_AT])):
            raise ArgumentError(
                "ids= names files that the index file does not list",
                path=missing[0],
                expected=f"files like *{', *'.join(folder.suffixes)}",
                hint="Say with suffix= how the names of all files end, or leave index= out.",
            )
        if missing:
            raise missing_files(missing, len(names))
        return files


# --- arguments -------------------------------------------------------------------------------------------


def _distinct_ids(ids: Iterable[str]) -> list[str]:
    if isinstance(ids, (set, frozenset)):
        raise SchemaError("ids= must be a list of names", actual="a set, which has no order")
    lone = isinstance(ids, (str, bytes))
    ids = [each if lone or not isinstance(each, os.PathLike) else os.fspath(each) for each in ids]
    wrong = [each for each in ids if lone or not isinstance(each, str) or "\0" in each]
    if wrong or len(ids) == 0:
        raise SchemaError(
            "ids= must be a list of names" if wrong else "ids= is empty",
            expected="paths below the root, without the suffix",
            actual=few(list(map(repr, wrong))) if wrong else None,
        )
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = sorted({each for each in ids if each in seen or seen.add(each)})  # type: ignore[func-returns-value]
        raise SchemaError(
            f"{len(twice)} ids are there more than once",
            actual=few(list(map(repr, twice))),
            hint="To see a sample more often, use ds.subset(indices) or a sampler.",
        )
    return ids


def _is_below(path: str | os.PathLike[str], root: str) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(root), ""))


def _common_suffix(index: _core.FileIndex) -> tuple[str, ...]:
    """The suffixes that an id is without: none where they alone tell files apart."""
    suffix = os.path.splitext(index.ids(np.zeros(1, np.int64), ())[0])[1]
    if suffix.lower() in SUFFIXES and index.all_end_with(suffix):
        return (suffix,)
    ids = index.ids(None, SUFFIXES)
    return SUFFIXES if len(set(ids)) == len(ids) else ()


def _found_suffix(root: str, ids: Sequence[str] | None) -> str:
    """What to put after an id to have a file: "" where ids are whole names, or where all files are taken."""
    for each in (ids or [])[:_IDS_LOOKED_AT]:
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


def _label_tensor(labels: Labels | None, ids: Ids, failed: Rows, root: str) -> Tensor | None:
    """One label a sample, shape (len(ids), ...)."""
    if labels is None:
        return None
    if isinstance(labels, Mapping):
        values: Any = _mapped(labels, ids)
    elif callable(labels):
        values = [labels(Path(root, name)) for name in ids.with_suffix()]
    else:
        values = labels
    try:
        tensor = label_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SchemaError(
            "labels must be numbers",
            field=_LABEL,
            actual=repr(values[0]) if isinstance(values, (list, np.ndarray)) else type(values).__name__,
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
        f"labels= misses {len(missing)} of {len(names)} ids", actual=few(list(map(repr, missing)))
    )
