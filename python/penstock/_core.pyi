"""The compiled core. Not public: use the package."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias, TypedDict, overload

import numpy as np
import numpy.typing as npt

class _Build(TypedDict):
    compiler: str
    build_type: str
    sanitizers: str
    zlib: bool
    jpeg: str  # the library and its version, or nothing
    png: str

class _Bound(type):
    """pybind11's metaclass."""

_Capsule: TypeAlias = Any
"""A DLPack capsule."""

_Rows: TypeAlias = Any
"""Row numbers: ints, or an integer array, shape (batch,); negative ones count from the end."""

_Int64: TypeAlias = npt.NDArray[np.int64]

_Float64: TypeAlias = npt.NDArray[np.float64]

BUILD: _Build

class CumulativeIndex(metaclass=_Bound):
    def __init__(self, rows_per_shard: _Int64) -> None: ...  # shape (shards,)
    @property
    def num_rows(self) -> int: ...
    @property
    def num_shards(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    def locate(self, rows: _Rows) -> tuple[_Int64, _Int64]: ...  # shard, row inside: (batch,)

class Column(metaclass=_Bound):
    def __init__(self, *args: NoReturn, **kwargs: NoReturn) -> None: ...  # raises: there is no constructor
    @staticmethod
    def in_memory(name: str, dtype: str, capsule: _Capsule) -> Column: ...
    @property
    def num_rows(self) -> int: ...
    @property
    def rows_per_shard(self) -> _Int64: ...  # (shards,)

class Field(metaclass=_Bound):
    def __init__(self, *args: NoReturn, **kwargs: NoReturn) -> None: ...  # raises: there is no constructor
    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def row_shape(self) -> tuple[int, ...]: ...
    @property
    def row_bytes(self) -> int: ...
    @property
    def is_ragged(self) -> bool: ...  # then of each value of a row: shape and bytes
    @property
    def is_image(self) -> bool: ...  # ragged: images of any size, -1 in row_shape, bytes of a pixel
    @property
    def is_dlpack(self) -> bool: ...

class Source(metaclass=_Bound):
    def __init__(self, *args: NoReturn, **kwargs: NoReturn) -> None: ...  # raises: there is no constructor

class FileSet(metaclass=_Bound):
    def __init__(
        self,
        paths: Sequence[str | bytes],
        raw: tuple[str, Sequence[int], int] | None = None,
        access: str = "auto",
        same_arrays: bool = True,
    ) -> None: ...
    @property
    def container(self) -> str: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def left_out(self) -> _LeftOut | None: ...  # of the first file that has values that are no tensors
    def column(self, array: str, field: str) -> Column: ...
    def columns(self, arrays: Sequence[str]) -> list[Column]: ...
    def values(self, field: str) -> Column: ...  # a shard of each array
    def require_all_usable(self) -> None: ...

_Raw: TypeAlias = tuple[str, Sequence[int], int]
"""Dtype, row shape, offset."""

_LeftOut: TypeAlias = tuple[bytes, list[tuple[str, str]]]
"""Path; name and kind of each."""

class FileIndexer(metaclass=_Bound):
    def __init__(
        self,
        root: bytes,
        recipe: bytes,
        names: Sequence[bytes] | None,  # below the root; None: all that end like one of `suffixes`
        suffixes: Sequence[str],
        fields: Sequence[str],
        raw: _Raw | None,
        known: FileIndex | None,
        ragged: bool | None,  # whether files of other lengths than the first are sequences; None: if most are
    ) -> None: ...
    @property
    def num_files(self) -> int: ...
    def read(self, begin: int, end: int) -> None: ...
    def settle(self) -> None: ...  # once all are read
    @property
    def left_out(self) -> _LeftOut | None: ...  # as of a FileSet; None where `fields` are given
    def failures(self) -> list[tuple[int, bytes, int, str]]: ...  # file, path, errno, what is wrong
    def raise_first(self) -> None: ...
    def finish(self) -> FileIndex: ...

class FileIndex(metaclass=_Bound):
    def __init__(self, *args: NoReturn, **kwargs: NoReturn) -> None: ...  # raises: there is no constructor
    @staticmethod
    def open(path: bytes) -> FileIndex: ...
    @staticmethod
    def from_bytes(image: bytes) -> FileIndex: ...
    @staticmethod
    def from_descriptor(descriptor: int) -> FileIndex: ...
    @property
    def num_files(self) -> int: ...
    @property
    def container(self) -> str: ...
    @property
    def root(self) -> bytes: ...
    @property
    def recipe(self) -> bytes: ...
    @property
    def fields(self) -> list[str]: ...
    @property
    def image(self) -> bytes: ...
    @property
    def descriptor(self) -> int: ...  # of the image in memory; -1: it has none
    @property
    def fingerprint(self) -> int: ...
    def ids(self, files: _Int64 | None, suffixes: Sequence[str]) -> list[str]: ...
    def all_end_with(self, suffix: str) -> bool: ...
    def find(self, names: Sequence[bytes]) -> _Int64: ...  # (names,); -1: not there
    def select(self, files: _Int64) -> FileIndex: ...  # these alone, in that order
    @property
    def is_settled(self) -> bool: ...
    def same_files_as(self, other: FileIndex) -> bool: ...
    def is_current(self) -> bool: ...
    def write(self, path: bytes) -> None: ...

class RowCache(metaclass=_Bound):
    def __init__(self, index: FileIndex, budget_bytes: int | None) -> None: ...
    @staticmethod
    def from_descriptor(index: FileIndex, descriptor: int) -> RowCache: ...
    @property
    def rows_kept(self) -> int: ...
    @property
    def descriptor(self) -> int: ...

class FileSource(Source):
    def __init__(self, index: FileIndex, raw: _Raw | None, cache: RowCache | None) -> None: ...

class RaggedSource(Source):
    @staticmethod
    def from_lengths(values: Column, lengths: _Int64) -> RaggedSource: ...  # (rows,)
    @staticmethod
    def from_offsets(values: Column, offsets: _Int64) -> RaggedSource: ...  # (rows + 1,)

_Layout: TypeAlias = tuple[bool, bool, bool, bool, int | None, int]
"""Packed, batch first, pads front, cuts front, most values, multiple."""

class TokenFiles(metaclass=_Bound):
    def __init__(
        self, paths: Sequence[str | bytes], format: str, dtype: str | None, access: str = "auto"
    ) -> None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def num_tokens(self) -> int: ...
    def num_left_out(self, block_size: int, stride: int) -> int: ...
    def windows(self, block_size: int, stride: int) -> Column: ...

class TokenSource(Source):
    def __init__(self, windows: Column, vocab_size: int | None) -> None: ...

class Table(metaclass=_Bound):
    def __init__(self, sources: Sequence[Column | Source | Table]) -> None: ...
    def __getstate__(self) -> tuple[Any, ...]: ...
    def __setstate__(self, state: tuple[Any, ...]) -> None: ...
    @property
    def num_rows(self) -> int: ...
    @property
    def row_work(self) -> int: ...
    @property
    def fingerprint(self) -> int: ...
    @property
    def fields(self) -> list[Field]: ...
    def num_shards(self, field: int) -> int: ...
    def rows_per_shard(self, field: int) -> _Int64: ...  # (shards,)
    def select(self, field: int) -> Table: ...
    @property
    def is_ragged(self) -> bool: ...
    @property
    def is_random(self) -> bool: ...
    def in_epoch(self, key: int) -> Table: ...
    def in_batch(self, indices: _Rows, layout: _Layout, paddings: Sequence[bytes]) -> Table: ...
    def batch_shape(self, field: int, rows: int) -> tuple[int, ...]: ...
    def places(self, field: int, rows: int) -> _Int64: ...  # (rows,), bytes; of images in a batch
    def lengths(self, field: int) -> _Int64: ...  # (rows,)
    def gather(self, indices: _Rows) -> list[_Capsule]: ...  # one per field, (batch, *row_shape)
    def gather_into(self, indices: _Rows, outs: Sequence[_Capsule]) -> None: ...
    def will_need(self, first: _Int64, count: _Int64) -> None: ...  # (ranges,)
    def concatenate(self, other: Table) -> Table: ...

class Permutation(metaclass=_Bound):
    def __init__(self, size: int, seed: int, epoch: int) -> None: ...
    @property
    def size(self) -> int: ...
    def take(self, first: int, count: int, step: int = 1) -> _Int64: ...  # (count,)

class BlockOrder(metaclass=_Bound):
    def __init__(
        self,
        rows_per_shard: _Int64,  # (shards,)
        block_rows: int,
        window_rows: int,
        seed: int,
        epoch: int,
    ) -> None: ...
    @property
    def num_rows(self) -> int: ...
    def blocks(self, begin: int, end: int) -> tuple[_Int64, _Int64, int]: ...  # (blocks,), (blocks,), end
    def take(self, first: int, count: int, step: int = 1) -> _Int64: ...  # (count,)

class ClassIndex(metaclass=_Bound):
    def __init__(self, targets: _Int64) -> None: ...  # (samples,)
    @property
    def labels(self) -> _Int64: ...  # (classes,)
    @property
    def first(self) -> _Int64: ...  # (classes + 1,)
    @property
    def samples(self) -> _Int64: ...  # (samples,)

class BalancedBatches(metaclass=_Bound):
    def __init__(
        self, index: ClassIndex, classes_per_batch: int, samples_per_class: int, seed: int, epoch: int
    ) -> None: ...
    def batch(self, number: int) -> _Int64: ...  # (classes_per_batch * samples_per_class,)

class StratifiedBatches(metaclass=_Bound):
    def __init__(self, index: ClassIndex, batch_size: int, seed: int, epoch: int) -> None: ...
    def batch(self, number: int) -> _Int64: ...  # (batch_size,); the last one may be shorter

class Episodes(metaclass=_Bound):
    def __init__(
        self, index: ClassIndex, num_ways: int, samples_per_class: int, seed: int, epoch: int
    ) -> None: ...
    def batch(self, number: int) -> _Int64: ...  # (num_ways * samples_per_class,)

class LengthBatches(metaclass=_Bound):
    def __init__(
        self,
        by_length: ClassIndex,
        batch_size: int,
        max_tokens: int,
        pad_to_multiple: int,
        batches_per_turn: int,
        spread: float,
        shuffle: bool,
        longest_first: bool,
        drop_last: bool,
    ) -> None: ...
    @property
    def num_batches(self) -> int: ...
    def batch(self, number: int, seed: int, epoch: int) -> _Int64: ...  # (samples of that batch,)

class AliasTable(metaclass=_Bound):
    def __init__(self, weights: _Float64) -> None: ...  # (samples,)
    def draw(self, first: int, count: int, step: int, seed: int, epoch: int) -> _Int64: ...  # (count,)

def draw_without_replacement(weights: _Float64, count: int, seed: int, epoch: int) -> _Int64: ...  # (count,)
def require_weights(weights: _Float64, num_positive: int) -> None: ...

class Pending(metaclass=_Bound):
    @overload
    def __init__(self, table: Table, indices: _Rows) -> None: ...
    @overload
    def __init__(self, table: Table, indices: _Rows, outs: Sequence[_Capsule]) -> None: ...
    def drop_cache(self) -> None: ...
    def submit(self) -> None: ...
    def times(self) -> tuple[int, int]: ...  # begun and done, ns
    def wait(self) -> None: ...
    def take(self) -> list[_Capsule]: ...  # one per field, (batch, *row_shape)

def stack_rows(values: list[Any] | tuple[Any, ...], out: _Capsule) -> int: ...  # how many fit
def concatenate_rows(chunks: list[Any] | tuple[Any, ...], begin: int, out: _Capsule) -> int: ...  # likewise
def arrange_rows(
    values: Sequence[Any], layout: tuple[bool, bool, bool, bool, int | None, int], padding: bytes
) -> tuple[_Capsule, _Int64] | None: ...
def stack_numbers(  # likewise
    values: list[Any] | tuple[Any, ...],
    kind: str,  # "float" (ints too), "int" or "bool"
    out: _Capsule,
) -> int: ...
def columns(samples: list[Any] | tuple[Any, ...]) -> list[tuple[Any, ...]] | None: ...
def sort_by_label(
    samples: list[Any], key: Any, lists: dict[Any, list[Any]]
) -> tuple[int, int]: ...  # how many were sorted, and how many of these have no list
def batch_bytes(count: int) -> _Capsule: ...  # (count,), uint8
def num_processors() -> int: ...
def num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def set_default_num_threads(count: int) -> None: ...
def recycled_bytes() -> int: ...
def row_numbers(indices: _Rows, num_rows: int) -> npt.NDArray[np.int64]: ...

_Rect: TypeAlias = tuple[int, int, int, int]
"""Left, top, width, height; in pixels."""

_Pixels: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""(height, width, channels); 1 to 4 channels."""

def set_image_opener(
    opener: Callable[
        [bytes, str, int, bool], tuple[int, int, int, bool, int, Callable[[int, int, int, int], bytes]] | None
    ],
) -> None: ...  # (data, mode, bits, orientation): see penstock.pillow.open_image
def close_image_opener() -> None: ...  # for ever; returns when no thread is in it
def use_image_libraries(uses: bool) -> None: ...  # for tests
def resize_pixels(
    pixels: _Pixels,
    width: int,
    height: int,
    box: Sequence[float] | None = None,  # left, top, right, bottom
    window: _Rect | None = None,  # of the result
    filter: str = "bilinear",
    rule: str = "13",  # whose order of passes: Pillow's "11", "12" or "13"
    instructions: str | None = None,
) -> _Pixels: ...
def image_info(
    data: bytes, mode: str = "RGB", bits: int = 8, orientation: bool = False, max_pixels: int = ...
) -> tuple[str, int, int, int, int]: ...  # format, width and height (upright), channels decoded, orientation
def decode_image(
    data: bytes,
    mode: str = "RGB",
    bits: int = 8,
    orientation: bool = False,
    warnings: str = "count",
    max_pixels: int = ...,
    crop: _Rect | None = None,
) -> tuple[_Pixels, int, str]: ...  # pixels, number of warnings, the first of them
def change_colors(
    pixels: npt.NDArray[np.uint8],  # (height, width, 1 or 3)
    changes: Sequence[tuple[str, float]],  # "brightness", "contrast", "saturation", "hue", "gray"; factor
) -> npt.NDArray[np.uint8]: ...

class ImagePipeline(metaclass=_Bound):
    def __init__(
        self,
        *,
        mode: str = "RGB",
        channels: int = 3,
        bits: int = 8,
        dtype: str = "float32",
        channels_last: bool = False,
        scale: bool = True,
        mean: Sequence[float] = ...,
        std: Sequence[float] = ...,
        decode: str = "exact",
        filter: str = "bilinear",
        rule: str = "13",
        orientation: bool = False,
        warnings: str = "count",
        max_pixels: int = ...,
    ) -> None: ...
    def run(
        self,
        data: bytes,
        crop: _Rect | None = None,
        resize: tuple[int, int] | None = None,  # width, height
        window: _Rect | None = None,
        flip_horizontally: bool = False,
        flip_vertically: bool = False,
    ) -> tuple[_Capsule, int, str]: ...  # (1, channels, height, width); number of warnings, the first of them

_Identity: TypeAlias = tuple[int, int, int, int]
"""Device, inode, size, time of change in ns."""

class ImageExtents(metaclass=_Bound):
    def __init__(
        self,
        paths: Sequence[bytes],
        identities: Sequence[_Identity],
        rows: _Int64,  # (paths,)
        offsets: _Int64,  # (images,)
        sizes: _Int64,  # (images,)
        names: bytes,
        name_ends: _Int64,  # (images,)
    ) -> None: ...
    @property
    def state(
        self,
    ) -> tuple[list[bytes], list[_Identity], _Int64, _Int64, _Int64, bytes, _Int64]: ...
    @property
    def num_files(self) -> int: ...
    @property
    def root(self) -> bytes: ...  # always empty
    def ids(self, files: _Int64 | None, suffixes: Sequence[str]) -> list[str]: ...
    def place(self, row: int) -> tuple[bytes, bytes]: ...  # path of its file, name in there

def tar_images(
    paths: Sequence[bytes], suffixes: Sequence[str]
) -> list[
    tuple[_Identity, bytes, _Int64, _Int64, _Int64, _Int64, npt.NDArray[np.bool_]]
]: ...  # names, their ends, offsets, sizes, labels, whether there is one
def byte_shards(column: Column) -> list[tuple[bytes, _Identity, int]]: ...  # path, identity, offset
def index_of_names(
    root: str | bytes,
    recipe: str | bytes,
    names: Sequence[bytes],
    folders: Sequence[bytes],
    changed: Sequence[int],
) -> FileIndex: ...
def first_folders(index: FileIndex) -> list[tuple[bytes, int]]: ...
def folders_of_root(index: FileIndex) -> list[bytes]: ...
def read_image(images: FileIndex | ImageExtents, row: int, max_pixels: int) -> bytes: ...
def image_sizes(
    images: FileIndex | ImageExtents, pipeline: ImagePipeline, first: int | None = None
) -> tuple[_Int64, list[tuple[int, str]]]: ...  # (files, 2); number and problem of those that are -1, -1
def derive_key(key: int, number: int) -> int: ...

_Step: TypeAlias = tuple[
    str,
    tuple[int, int],
    int,
    tuple[int, int, int, int],
    bool,
    tuple[float, float],
    tuple[float, float],
    float,
    Sequence[tuple[float, float]],
]
"""Kind, width and height, longest, left top right bottom, pads if needed, scale, ratio, probability; least
and most of brightness, contrast, saturation and hue."""

class ImageSteps(metaclass=_Bound):
    def __init__(self, steps: Sequence[_Step]) -> None: ...
    @property
    def size(self) -> tuple[int, int] | None: ...  # width, height
    @property
    def is_random(self) -> bool: ...
    def plan(
        self, width: int, height: int, key: int, row: int
    ) -> tuple[
        _Rect | None, tuple[int, int] | None, _Rect, _Rect, bool, bool, list[tuple[str, float]]
    ]: ...  # crop, resize, visible, window, flips horizontally, vertically, changes of colors

class ImageLog(metaclass=_Bound):
    def __init__(self) -> None: ...
    @property
    def broken(self) -> tuple[int, list[tuple[int, str]]]: ...  # all; row and problem of the first
    @property
    def warnings(self) -> tuple[int, list[tuple[int, str]]]: ...

class ImageSource(Source):
    def __init__(
        self,
        images: FileIndex | ImageExtents,
        pipeline: ImagePipeline,
        steps: ImageSteps,
        size: tuple[int, int] | None,
        fill: int,
        column: Column | None,
        replaces_broken: bool,
        log: ImageLog,
    ) -> None: ...

class ArrayImageSource(Source):
    def __init__(
        self,
        table: Table,
        field: int,
        rows_channels_last: bool,
        pipeline: ImagePipeline,
        steps: ImageSteps,
        fill: int,
        has_channels: bool,
    ) -> None: ...
