"""Arrays in files, for people to look at: what there is, by its headers; and pictures among them."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from rich.bar import Bar
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from penstock.datasets import Dataset, Field, FileDataset, ImageFolder, RaggedDataset, ShardDataset
from penstock.datasets.shards import PACK_MANIFEST, SUFFIXES, resolve_paths
from penstock.errors import MissingFileError, SchemaError
from penstock.look import sheet_of
from penstock.pack import Packed
from penstock.pack.plan import Plan
from penstock.samplers import ShuffleSampler

__all__ = ["ArraysFound", "array_sheet", "arrays_found", "kind_of"]

Kind: TypeAlias = Literal["files", "shards", "images"]
PathLike: TypeAlias = "str | os.PathLike[str]"
Source: TypeAlias = "PathLike | list[str]"

_SPANS = 10  # of a histogram
_CHANNELS = (1, 3, 4)


def kind_of(path: Source) -> Kind:
    """What `penstock inspect` and `penstock show` take a path, or a list of them, for.

    Returns:
        A folder is "images" if there are some in a folder for each class, else "files" with a sample each if
        there are data files; or "shards", if `penstock.pack` made it. What is no folder is "shards".
    """
    if isinstance(path, list) or not os.path.isdir(path) or _is_packed(path):
        return "shards"
    try:
        if len(ImageFolder(path, allow_empty=True)) > 0:
            return "images"
    except MissingFileError:
        pass  # said again by whoever opens it as images
    has_data = any(name.lower().endswith(SUFFIXES) for _, _, names in os.walk(path) for name in names)
    return "files" if has_data else "images"


def _is_packed(source: Source) -> bool:
    return not isinstance(source, list) and os.path.isfile(os.path.join(source, PACK_MANIFEST))


@dataclass(frozen=True)
class ArraysFound:
    """What files of arrays hold.

    Attributes:
        fields: Of the samples, with their number of rows, shards and bytes.
        files: How many there are; of a pack, how many shards.
        samples_per_file: Shape (files,), int64; None where each file is one sample, or holds several arrays
            that are one each.
        lengths: Of the samples, where they differ in their first dimension, shape (samples,), int64.
        broken: Path and reason of each file that is left out.
    """

    fields: tuple[Field, ...]
    files: int
    samples_per_file: np.ndarray[Any, np.dtype[np.int64]] | None
    lengths: np.ndarray[Any, np.dtype[np.int64]] | None
    broken: list[tuple[str, str]]

    def tables(self) -> list[Table]:
        """The fields; then how many samples a file holds, and how long they are, with a bar for each span."""
        fields = Table("field", "dtype", "shape", "rows", "shards", "MB", box=None)
        for field in self.fields:
            dtype, shape = str(field.dtype).removeprefix("torch."), _shape_as_text(field.shape)
            size = f"{field.bytes / 1e6:,.1f}"
            fields.add_row(escape(field.name), dtype, shape, f"{field.rows:,}", f"{field.shards:,}", size)
        counts = (("samples of a file", "files", self.samples_per_file), ("length", "samples", self.lengths))
        return [fields] + [
            _histogram(what, unit, values)
            for what, unit, values in counts
            if values is not None and len(values)
        ]

    def summary(self) -> str:
        """In a sentence."""
        size = sum(field.bytes for field in self.fields) / 1e6
        text = (
            f"{self.fields[0].rows:,} samples in {self.files:,} file{'s'[: self.files != 1]}, {size:,.1f} MB"
        )
        return text + (f"; {len(self.broken)} cannot be read" if self.broken else "")


def arrays_found(source: Source, kind: Kind) -> ArraysFound:
    """Look at every header; and at lengths or offsets, where those are in files.

    Args:
        source: Of "files" a folder; of "shards" as for `ShardDataset`, or a folder that `penstock.pack` made.
        kind: Which of the two.

    Raises:
        ShardError, FormatError, SchemaError: As `FileDataset` and `ShardDataset`.
    """
    if kind == "files":
        source = _one(source)
        with warnings.catch_warnings():  # what is skipped is told by whoever asks
            warnings.filterwarnings("ignore", ".* files are left out, see .skipped", UserWarning)
            dataset = FileDataset(source, on_error="skip")
        return ArraysFound(dataset.schema, len(dataset), None, _lengths_of(dataset), dataset.skipped)
    if _is_packed(source):
        return _found_in_pack(Packed(_one(source)))
    shards = _opened(source)
    files, per_shard = len(resolve_paths(source)), shards.table.core.rows_per_shard(0)
    return ArraysFound(
        shards.schema, files, per_shard if len(per_shard) == files else None, _lengths_of(shards), []
    )


def _one(source: Source) -> PathLike:
    """The folder.

    Raises:
        SchemaError: There are several.
    """
    if isinstance(source, list):
        raise SchemaError("several paths are shards", actual=", ".join(source[:3]))
    return source


def _opened(source: Source) -> Dataset:
    """Shards of rows; or of rows of different lengths, where they are no others."""
    try:
        return ShardDataset(source)
    except SchemaError as error:
        try:
            return RaggedDataset(source)
        except SchemaError:
            raise error from None


def _lengths_of(dataset: Dataset) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    return dataset.lengths if dataset.table.is_ragged else None


def _found_in_pack(packed: Packed) -> ArraysFound:
    """By its manifest; and by the headers of its arrays, so that what is missing is said."""
    plan = Plan.read(packed.folder)
    known = {field.name: field for field in packed.open().schema} if packed.source else {}
    encoded_bytes = sum(plan.encoded_bytes or ())
    fields = tuple(
        Field(column.name, torch.uint8, (-1,), "ragged", len(packed), packed.num_shards, encoded_bytes)
        if column.encoded
        else known[column.name]
        for column in plan.columns
    )
    return ArraysFound(fields, packed.num_shards, np.array(plan.rows, np.int64), None, [])


def _shape_as_text(shape: tuple[int, ...]) -> str:
    return " x ".join("any" if size == -1 else str(size) for size in shape) or "number"


def _histogram(what: str, unit: str, values: np.ndarray[Any, np.dtype[np.int64]]) -> Table:
    """How often each value comes, or each of some spans of them."""
    table = Table(what, unit, "", box=None)
    firsts, counts = np.unique(values, return_counts=True)
    width = 1
    if len(firsts) > _SPANS:
        lowest = int(values.min())
        width = -(-(int(values.max()) - lowest + 1) // _SPANS)
        counts = np.bincount((values - lowest) // width)
        firsts = lowest + width * np.arange(len(counts))
    most = int(counts.max())
    for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
        span = f"{first:,}" if width == 1 else f"{first:,} to {first + width - 1:,}"
        table.add_row(span, f"{count:,}", Bar(most, 0, count, width=40))
    return table


def array_sheet(
    source: Source, kind: Kind = "shards", *, size: int = 224, count: int = 24, seed: int = 0
) -> Image.Image:
    """One shuffled batch of arrays that are pictures, as they are, with their row numbers.

    Args:
        source: As for `ShardDataset`, or a folder for `FileDataset`; rows are uint8, of shape (height,
            width), (height, width, channels) or (channels, height, width), with 1, 3 or 4 channels. The
            first such field is taken.
        kind: Which of the two: "shards" or "files". Default: "shards".
        size: What is smaller is drawn this large, in pixels, or as near to it as whole numbers come.
            Default: 224.
        count: How many. Default: 24.
        seed: Of the order. Default: 0.

    Raises:
        SchemaError: No field is a picture.
        ShardError, FormatError: As `ShardDataset` and `FileDataset`.
    """

    def opened(**options: Any) -> Dataset:
        return FileDataset(_one(source), **options) if kind == "files" else ShardDataset(source, **options)

    dataset = opened()
    names = [field.name for field in dataset.schema if _is_picture(field)]
    if not names:
        raise SchemaError(
            "there is no picture",
            path=_path_of(source),
            expected="uint8 of shape (height, width), (height, width, channels) or (channels, height, width)",
            actual=", ".join(f"{field.name}: {field.dtype} {field.shape}" for field in dataset.schema),
        )
    if len(dataset) == 0:
        raise SchemaError("there are no rows", path=_path_of(source))
    rows = list(islice(ShuffleSampler(dataset, seed=seed), count))
    pictures = _as_rgb(opened(fields=names[0]).gather(rows))
    times = max(1, size // max(pictures.shape[2:]))
    enlarged = pictures.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)
    return sheet_of(enlarged, [str(row) for row in rows])


def _path_of(source: Source) -> str:
    return source[0] if isinstance(source, list) else os.fspath(source)


def _is_picture(field: Field) -> bool:
    shape = field.shape
    has_channels = len(shape) == 3 and (shape[-1] in _CHANNELS or shape[0] in _CHANNELS)
    is_one_size = field.kind == "fixed" and 0 not in shape
    return field.dtype == torch.uint8 and is_one_size and (len(shape) == 2 or has_channels)


def _as_rgb(rows: Tensor) -> Tensor:
    """Shape (batch, 3, height, width); what is transparent in them is not."""
    if rows.ndim == 3:
        rows = rows[:, None]
    elif rows.shape[-1] in _CHANNELS:
        rows = rows.permute(0, 3, 1, 2)
    return rows[:, :3].expand(-1, 3, -1, -1)
