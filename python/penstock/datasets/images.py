"""One image per file."""

from __future__ import annotations

import importlib.metadata
import logging
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
from penstock.datasets.base import Dataset, Rows
from penstock.datasets.files import require_choice
from penstock.datasets.folder import few, index_from, shared
from penstock.datasets.image_files import (
    IsValid,
    class_files,
    files_below,
    files_named,
    kept_files,
    without,
)
from penstock.datasets.lowering import Decode, Lowered, NotLowered, lowered
from penstock.errors import ArgumentError, FormatError, MissingFileError, SchemaError, ShardError
from penstock.samplers.base import at_least, seed_bits
from penstock.table import Structure, Table, column_in_memory

__all__ = ["ImageDataset", "ImageFolder"]

OnError: TypeAlias = Literal["raise", "skip", "replace"]
JpegWarnings: TypeAlias = Literal["count", "error", "ignore"]
ImageLabels: TypeAlias = "Mapping[str, Any] | Sequence[Any] | Tensor | Callable[[Path], Any]"
Problem: TypeAlias = tuple[str, str]
"""A path and what is wrong there."""

_MOST_PIXELS = 89_478_485
_ATTEMPTS = 100
_MOST_TOLD = 1000
_log = logging.getLogger("penstock")


class _Images(Dataset):
    """Images that lie in files, and maybe a label for each."""

    def __init__(
        self,
        files: _core.FileIndex,
        labels: Tensor | None,
        *,
        transform: Callable[[Any], Any] | None,
        decode: Decode,
        on_error: OnError,
        channels_last: bool,
        jpeg_warnings: JpegWarnings,
        max_pixels: int,
        seed: int,
    ) -> None:
        require_choice("decode", decode, ("exact", "fast"))
        require_choice("on_error", on_error, ("raise", "skip", "replace"))
        require_choice("jpeg_warnings", jpeg_warnings, ("count", "error", "ignore"))
        self.image_transform = transform
        self.decode = decode
        self.on_error = on_error
        self.channels_last = channels_last
        self.jpeg_warnings = jpeg_warnings
        self.max_pixels = at_least(1, max_pixels, "max_pixels")
        self.seed = seed
        self._epoch: int | None = None
        self._files = files
        self._labels = labels
        self._sent_labels: Tensor | None = None
        self._left_out: list[Problem] = []
        self._core_log = _core.ImageLog()
        self._python_log: list[Problem] = []
        self._lowered: Lowered | None = None
        self._size: tuple[int, int] | None = None
        self._headers: tuple[Rows, list[tuple[int, str]]] | None = None  # while it is being made
        self._why_slow = self._choose()
        self._leave_out_broken()
        self._headers = None
        table, slow_path = self._built()
        super().__init__(table, transform=slow_path)
        if self._why_slow is not None and transform is not None:
            _log.warning("%s", self.explain())

    # --- how the samples are made -----------------------------------------------------------------------

    def explain(self) -> str:
        """Whether the core makes the samples, or which transform keeps it from that, in one line."""
        if self._why_slow is None:
            return f"{type(self).__name__}: images are decoded and transformed by the core"
        return f"{type(self).__name__}: images are loaded one by one in Python, because {self._why_slow}"

    def what_helps(self) -> str:
        """What would make samples cheaper where decoding is what takes the time; for `DataLoader.report`."""
        if not (_core.BUILD["jpeg"] and _core.BUILD["png"]):
            return "a build with libjpeg-turbo and libspng, where now Pillow decodes, or smaller image files"
        if self.decode == "exact" and self._lowered is not None:
            return 'decode="fast" (of JPEG files that are resized) or smaller image files'
        return "smaller image files"

    def _choose(self) -> str | None:
        """Finds what the core is to do, or why it cannot."""
        if self.image_transform is None:
            return "there is no transform: samples are Pillow images"
        try:
            plan = lowered(self.image_transform, self.decode)
        except NotLowered as why:
            return str(why)
        self._size = _core.ImageSteps(plan.steps).size
        if self._size is None and (reason := self._find_size(plan)) is not None:
            return reason
        self._lowered = plan
        return None

    def _find_size(self, plan: Lowered) -> str | None:
        """Where the steps leave it open: what all images come to; or why there is no such thing."""
        sizes, _ = self._read_headers(plan)
        steps = _core.ImageSteps(plan.steps)
        known = np.unique(sizes[sizes[:, 0] > 0], axis=0)
        results = {steps.plan(int(width), int(height), 0, 0)[3][2:] for width, height in known}
        if len(results) != 1:
            return f"it leaves images of {len(results)} sizes"
        self._size = results.pop()
        return None

    def _read_headers(self, plan: Lowered) -> tuple[Rows, list[tuple[int, str]]]:
        """Sizes of all images, and what is wrong with some; once."""
        if self._headers is None:
            self._headers = _core.image_sizes(self._files, self._pipeline(plan))
        return self._headers

    def _leave_out_broken(self) -> None:
        """With on_error="skip": the files whose header cannot be read."""
        if self.on_error != "skip":
            return
        if self._why_slow is None:
            assert self._lowered is not None
            _, failures = self._read_headers(self._lowered)
        else:
            failures = _headers_by_pillow(self._files)
        if not failures:
            return
        numbers = [number for number, _ in failures]
        paths = self._paths(np.array(numbers))
        self._left_out = [(path, why) for path, (_, why) in zip(paths, failures, strict=True)]
        if len(numbers) == self._files.num_files:
            raise FormatError("none of the images can be read", path=paths[0], actual=failures[0][1])
        warnings.warn(
            f"{len(numbers)} of {self._files.num_files} images are left out, see .skipped; the first: "
            f"{paths[0]}: {failures[0][1]}",
            stacklevel=4,
        )
        if self._labels is not None:
            keep = np.delete(np.arange(self._files.num_files), numbers)
            self._labels = self._labels[torch.from_numpy(keep)]
        self._files = without(self._files, numbers)

    def _pipeline(self, plan: Lowered) -> _core.ImagePipeline:
        return _core.ImagePipeline(
            mode=plan.mode,
            channels=plan.channels,
            dtype=str(plan.dtype).removeprefix("torch."),
            channels_last=self.channels_last,
            scale=plan.scale,
            mean=plan.mean,
            std=plan.std,
            decode=self.decode,
            filter=plan.filter,
            rule=_pillow_rule(),
            warnings=self.jpeg_warnings,
            max_pixels=self.max_pixels,
        )

    def _built(self) -> tuple[Table, _InPython | None]:
        """The table, and what makes samples of its rows in Python."""
        column = None if self._labels is None else column_in_memory("target", self._labels)
        if self._lowered is None:
            numbers = column_in_memory("index", torch.arange(self._files.num_files))
            columns: list[_core.Column | _core.Source] = [numbers, *([] if column is None else [column])]
            return Table(_core.Table(columns), self._structure("index")), _InPython(self)
        plan = self._lowered
        assert self._size is not None
        source = _core.ImageSource(
            self._files,
            self._pipeline(plan),
            _core.ImageSteps(plan.steps),
            self._size,
            plan.fill,
            column,
            self.on_error != "raise",
            self._core_log,
        )
        return Table(_core.Table([source]), self._structure("image")), None

    def _structure(self, first: str) -> Structure:
        names = (first,) if self._labels is None else (first, "target")
        return Structure("tensor" if self._labels is None else "tuple", names)

    # --- what is random ---------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next: with `seed` and its number it decides how a sample is cropped.

        `penstock.DataLoader` needs no such call where it loads natively: it goes by its sampler's epoch. In
        any other loader, crops are drawn from torch's random numbers until this is called. Worker processes
        that persist do not hear of it.

        Args:
            epoch: 0 or more.
        """
        self._epoch = at_least(0, epoch, "epoch")

    def random_key(self, epoch: int | None = None) -> int:
        """See `Dataset.random_key`."""
        epoch = self._epoch if epoch is None else epoch
        if epoch is None:
            return int(torch.empty((), dtype=torch.int64).random_().item())
        return _core.derive_key(seed_bits(self.seed), epoch)

    # --- what was found ---------------------------------------------------------------------------------

    @property
    def skipped(self) -> list[Problem]:
        """Path and reason of images that were left out, and of those that others stood in for until now.

        The latter in this process only, and the first 1,000.
        """
        _, replaced = self._core_log.broken
        return self._left_out + self._with_paths(replaced) + self._python_log

    def header_sizes(self) -> tuple[Rows, list[Problem]]:
        """What the files' headers say, read by all threads.

        Returns:
            Width and height of the images that can be read, shape (images, 2), int64; path and reason of the
            others.
        """
        sizes, failures = _core.image_sizes(self._files, _core.ImagePipeline())
        return sizes[sizes[:, 0] > 0], self._with_paths(failures)

    @property
    def warnings(self) -> list[Problem]:
        """Path of each JPEG that libjpeg has warned of until now, and its first warning.

        Such an image is decoded, but part of it may be gray. In this process only; the first 1,000.
        """
        return self._with_paths(self._core_log.warnings[1])

    @property
    def shard_lengths(self) -> Rows:
        """One, of all samples: there is nothing to gain from the order of small files."""
        return np.array([len(self)])

    def _with_paths(self, notes: Sequence[tuple[int, str]]) -> list[Problem]:
        paths = self._paths(np.array([row for row, _ in notes], np.int64))
        return [(path, text) for path, (_, text) in zip(paths, notes, strict=True)]

    def _paths(self, numbers: Rows | None = None) -> list[str]:
        root = os.fsdecode(self._files.root)
        return [os.path.join(root or "/", name) for name in self._files.ids(numbers, ())]

    # --- in another process -----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_table": None, "transform": None, "_core_log": None}
        state["_files"] = shared(self._files) or self._files.image
        if self._labels is not None and context.get_spawning_popen() is not None:
            if self._sent_labels is None:  # a copy: torch moves what it sends to shared memory
                self._sent_labels = self._labels.clone()
            state["_labels"] = self._sent_labels
        return {**state, "_sent_labels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._files = index_from(state["_files"], 0)
        self._core_log = _core.ImageLog()
        self._table, self.transform = self._built()


class ImageFolder(_Images):
    """Images in one folder for each class: sample i is (image, number of its class).

    torchvision's `ImageFolder` (its arguments, attributes, order and errors), with the work done by the core:
    files are read, decoded, cropped, resized, flipped, normalised and laid out by its threads, straight into
    the batch, with the pixels that Pillow would give. JPEG and PNG it decodes itself (see `show_config`); for
    other formats, such as WebP, its threads call Pillow, and do the rest. For that the transform must be one
    that the core knows: `penstock.transforms`, or torchvision's (v1 or v2) `Compose` of
    `Resize`, `CenterCrop`, `RandomCrop`, `RandomResizedCrop`, flips, `Pad`, `Grayscale`, `ColorJitter`
    (also in a `RandomApply`) and `RandomGrayscale` behind them, `ToTensor`,
    `PILToTensor`, `ToImage`, `ToDtype`, `ConvertImageDtype` and `Normalize`; with at most one resize,
    bilinear or bicubic and before the image becomes a tensor, and all results of one size. (Where
    torchvision scales by multiplying with 1/255, as `v2.ToDtype` does, the core divides: the last bit of a
    float may differ.) Any other transform, and none, is called with a Pillow image, one sample after the
    other, as in torchvision: `explain()` says why, and so does a message of the logger "penstock".

    Which part is cut out depends on `seed`, epoch and sample alone: not on threads, ranks, order or resume.

    Args:
        root: The folder that holds one folder for each class.
        transform: From a Pillow image to a tensor. Default: none; samples are then Pillow images.
        target_transform: Called with each class's number, once; gives a number, or a tensor. Default: none.
        is_valid_file: Called with each path, instead of going by its ending. Default: none.
        allow_empty: Whether a class may be without images. Default: False.
        decode: "exact", or "fast": a JPEG that is to become much smaller is decoded at 1/2, 1/4 or 1/8 of its
            size, as Pillow's `draft` does, and a resize of a uint8 tensor is done as one of an image.
            Default: "exact".
        on_error: "raise" for an image that cannot be decoded; or "replace": another sample, chosen by the
            number of this one, stands in for it, image and target; or "skip": those whose header cannot be
            read are left out from the start (with a warning; every header is read), others are replaced. See
            `skipped`. Default: "raise".
        index: A file to keep what was found in the folder: the next start lists no folder that has not
            changed. Made when it is not there, or when the folder has changed. Default: none.
        channels_last: Samples are (height, width, channels), not (channels, height, width). Of native ones.
            Default: False.
        jpeg_warnings: What to do where libjpeg warns of corrupt data that it went on after: "count" it (see
            `warnings`), take it for an "error", or "ignore" it. Of native samples; where Pillow decodes, it
            does not tell of them. Default: "count".
        max_pixels: Images with more are refused before any memory is taken. Of native samples; Pillow has its
            own limit. Default: Pillow's.
        seed: Of what is random. Default: 0.

    Attributes:
        classes: Names of the classes, sorted.
        class_to_idx: From name to number.
        image_transform: The transform, as given. (`transform` is None where the core does the work.)

    Raises:
        MissingFileError: There is no root, or no class, or a class has no image. (A FileNotFoundError.)
        ArgumentError: An argument has a value that cannot be; the index file is of another folder.
        SchemaError: `target_transform` gives no numbers.
        FormatError: Of a batch: a file is no image, or a broken one.
        ShardError: Of a batch: a file cannot be read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        is_valid_file: IsValid | None = None,
        allow_empty: bool = False,
        *,
        decode: Decode = "exact",
        on_error: OnError = "raise",
        index: str | os.PathLike[str] | None = None,
        channels_last: bool = False,
        jpeg_warnings: JpegWarnings = "count",
        max_pixels: int = _MOST_PIXELS,
        seed: int = 0,
    ) -> None:
        self.root = os.path.expanduser(os.fspath(root))
        self.target_transform = target_transform
        files = kept_files(class_files, self.root, is_valid_file, index)
        self.classes = sorted(os.fsdecode(name) for name in _core.folders_of_root(files))
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self._require_images(files, allow_empty)
        numbers = torch.arange(len(self.classes))
        if target_transform is not None:
            numbers = _as_tensor([target_transform(i) for i in range(len(self.classes))])
        super().__init__(
            files,
            numbers[torch.from_numpy(self._class_numbers(files))],
            transform=transform,
            decode=decode,
            on_error=on_error,
            channels_last=channels_last,
            jpeg_warnings=jpeg_warnings,
            max_pixels=max_pixels,
            seed=seed,
        )
        self._samples: list[tuple[str, int]] | None = None

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Path and class of each sample. Made at first use."""
        if self._samples is None:
            paths = [os.path.join(self.root, name) for name in self._files.ids(None, ())]
            self._samples = list(zip(paths, self.targets.tolist(), strict=True))
        return self._samples

    @property
    def imgs(self) -> list[tuple[str, int]]:
        """The same as `samples`."""
        return self.samples

    def _require_images(self, files: _core.FileIndex, allow_empty: bool) -> None:
        there = {os.fsdecode(name) for name, _ in _core.first_folders(files)}
        empty = [name for name in self.classes if name not in there]
        if (empty and not allow_empty) or not there:
            raise MissingFileError(f"no image is there of the classes {few(empty)}", path=self.root)

    def _class_numbers(self, files: _core.FileIndex) -> Rows:
        """Of each file."""
        counts = _core.first_folders(files)
        numbers = [self.class_to_idx[os.fsdecode(name)] for name, _ in counts]
        return np.repeat(np.array(numbers, np.int64), [count for _, count in counts])

    def _read_targets(self) -> Rows:
        return self._class_numbers(self._files)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_samples": None}


class ImageDataset(_Images):
    """Images in a flat folder, or in a list: sample i is an image, or (image, label).

    Transforms, random numbers and what happens to broken files are as in `ImageFolder`.

    Args:
        source: A folder, whose images and those below it are taken, folder by folder and sorted; or a list of
            paths, taken as it is.
        labels: A mapping from file name (its path below the folder, or its last part, with or without ending)
            to label; or a sequence or tensor with one for every image, such as a column of a CSV file; or a
            function of the file's path. Numbers; or strings, which are numbered in sorted order. Default:
            none.
        transform: As in `ImageFolder`.
        is_valid_file: As in `ImageFolder`, for a folder.
        decode: As in `ImageFolder`.
        on_error: As in `ImageFolder`.
        index: As in `ImageFolder`, for a folder.
        channels_last: As in `ImageFolder`.
        jpeg_warnings: As in `ImageFolder`.
        max_pixels: As in `ImageFolder`.
        seed: As in `ImageFolder`.

    Attributes:
        classes: Of labels that are strings, sorted; else none.
        class_to_idx: From these to their numbers.
        image_transform: The transform, as given. (`transform` is None where the core does the work.)

    Raises:
        MissingFileError: There is no such folder, or no image in it.
        SchemaError: A label is missing, or no number and no string; there are more or fewer than images.
        ArgumentError, FormatError, ShardError: As `ImageFolder`.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        labels: ImageLabels | None = None,
        transform: Callable[[Any], Any] | None = None,
        is_valid_file: IsValid | None = None,
        *,
        decode: Decode = "exact",
        on_error: OnError = "raise",
        index: str | os.PathLike[str] | None = None,
        channels_last: bool = False,
        jpeg_warnings: JpegWarnings = "count",
        max_pixels: int = _MOST_PIXELS,
        seed: int = 0,
    ) -> None:
        if isinstance(source, (str, os.PathLike)):
            root = os.path.expanduser(os.fspath(source))
            files = kept_files(files_below, root, is_valid_file, index)
        elif index is None and is_valid_file is None:
            root, files = "", files_named(source)
        else:
            raise ArgumentError("index= and is_valid_file= are for a folder, not for a list of paths")
        if files.num_files == 0:
            raise MissingFileError("there is no image", path=root or None)
        self.root = root
        self.classes: list[str] = []
        self.class_to_idx: dict[str, int] = {}
        super().__init__(
            files,
            None if labels is None else self._numbered(_values_of(labels, files)),
            transform=transform,
            decode=decode,
            on_error=on_error,
            channels_last=channels_last,
            jpeg_warnings=jpeg_warnings,
            max_pixels=max_pixels,
            seed=seed,
        )

    @property
    def paths(self) -> list[str]:
        """Of all samples."""
        return self._paths()

    def _numbered(self, values: Any) -> Tensor:
        """One label for each image, strings as numbers."""
        if isinstance(values, np.ndarray) and values.dtype.kind in "OU":
            values = values.tolist()
        if not isinstance(values, Tensor) and all(isinstance(value, str) for value in values):
            self.classes = sorted(set(values))
            self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
            values = [self.class_to_idx[value] for value in values]
        return _as_tensor(values)

    def _read_targets(self) -> Rows:
        labels = self._labels
        if labels is None or labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
            raise AttributeError(
                "this ImageDataset has no class labels: whole numbers or strings, one an image"
            )
        return labels.to(torch.int64).numpy()


class _InPython:
    """Makes samples of the rows of a table that holds numbers of images: one Python call each."""

    def __init__(self, images: _Images) -> None:
        self._files = images._files
        self._labels = images._labels
        self._transform = images.image_transform
        self._attempts = _ATTEMPTS if images.on_error != "raise" else 0
        self._log = images._python_log

    def __call__(self, sample: Any) -> Any:
        row = int(sample if self._labels is None else sample[0])
        image, row = self._some_image(row)
        if self._transform is not None:
            image = self._transform(image)
        if self._labels is None:
            return image
        label = self._labels[row]
        is_number = label.ndim == 0 and not label.is_floating_point()
        return image, label.item() if is_number else label

    def _some_image(self, row: int) -> tuple[Any, int]:
        """The image of a row, or of one that stands in for it; and which that is."""
        other = row
        for attempt in range(self._attempts):
            try:
                return self._image(other), other
            except (FormatError, ShardError) as error:
                if len(self._log) < _MOST_TOLD:
                    self._log.append((str(error.path), error.problem))
                other = _core.derive_key(_core.derive_key(0, row), attempt) % self._files.num_files
        return self._image(other), other

    def _image(self, row: int) -> Any:
        name = self._files.ids(np.array([row]), ())[0]
        return _by_pillow(os.path.join(os.fsdecode(self._files.root) or "/", name))


def _by_pillow(path: str, only_header: bool = False) -> Any:
    """An image as torchvision's loader gives it.

    Raises:
        FormatError: It is no image, or a broken one.
        ShardError: It cannot be read.
    """
    from PIL import Image

    try:
        with open(path, "rb") as file:
            try:
                with Image.open(file) as image:
                    return None if only_header else image.convert("RGB")
            except Exception as error:  # Pillow raises what its formats happen to
                raise FormatError(f"Pillow cannot decode it: {error}", path=path) from error
    except FormatError:
        raise
    except OSError as error:
        raise ShardError(f"it cannot be read: {error.strerror}", path=path, errno=error.errno) from error


def _headers_by_pillow(files: _core.FileIndex) -> list[tuple[int, str]]:
    """Number and problem of each image whose header cannot be read."""
    failures = []
    root = os.fsdecode(files.root) or "/"
    for number, name in enumerate(files.ids(None, ())):
        try:
            _by_pillow(os.path.join(root, name), only_header=True)
        except (FormatError, ShardError) as error:
            failures.append((number, error.problem))
    return failures


def _pillow_rule() -> str:
    """The order of the passes of a resize, which shows in the last bit, in the Pillow that is installed."""
    try:
        major = int(importlib.metadata.version("pillow").split(".")[0])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return "13"
    return "11" if major <= 11 else "13" if major == 13 else "12"


def _values_of(labels: ImageLabels, files: _core.FileIndex) -> Any:
    """One label for each file."""
    names = files.ids(None, ())
    root = os.fsdecode(files.root) or "/"
    if isinstance(labels, Mapping):
        return _mapped(labels, names, root)
    if callable(labels) and not isinstance(labels, Tensor):
        return [labels(Path(root, name)) for name in names]
    values = labels if hasattr(labels, "__len__") else list(labels)
    if len(values) != len(names):
        raise SchemaError(
            "labels= does not have one for every image", expected=str(len(names)), actual=str(len(values))
        )
    return values.to_list() if hasattr(values, "to_list") else values  # a column of pandas


def _mapped(labels: Mapping[str, Any], names: Sequence[str], root: str) -> list[Any]:
    values, missing = [], []
    for name in names:
        last = os.path.basename(name)
        keys = (name, os.path.splitext(name)[0], os.path.join(root, name), last, os.path.splitext(last)[0])
        key = next((key for key in keys if key in labels), None)
        if key is None:
            missing.append(name)
        else:
            values.append(labels[key])
    if missing:
        raise SchemaError(f"labels= misses {len(missing)} of {len(names)} images", actual=few(missing))
    return values


def _as_tensor(values: Any) -> Tensor:
    try:
        if isinstance(values, list) and values and isinstance(values[0], Tensor):
            return torch.stack(values)
        return torch.as_tensor(values).contiguous()
    except (TypeError, ValueError, RuntimeError) as error:
        raise SchemaError(
            "labels must be numbers",
            field="target",
            actual=repr(values[0]) if len(values) else "none",
            hint='Number them, such as {"cat": 0, "dog": 1}[name], or give strings alone.',
        ) from error
