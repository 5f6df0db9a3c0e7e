"""One image per file."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import context
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from penstock import _core
from penstock.datasets.base import Rows
from penstock.datasets.decoded import NumberedImages
from penstock.datasets.epochs import InEpochs
from penstock.datasets.folder import few, index_from, shared
from penstock.datasets.image_files import (
    IsValid,
    class_files,
    files_below,
    files_named,
    kept_files,
)
from penstock.datasets.image_labels import ImageLabels, as_tensor, values_of
from penstock.datasets.image_options import ImageOptions, JpegWarnings, Mode, OnError, PixelType
from penstock.datasets.image_shards import (
    Images,
    ImageShards,
    image_shards,
    without_images,
)
from penstock.datasets.images_in_python import ATTEMPTS, InPython, headers_by_pillow
from penstock.datasets.lowering import Decode, Decoded, Lowered, NotLowered, lowered
from penstock.errors import ArgumentError, FormatError, MissingFileError, ShardError
from penstock.pillow import resize_rule
from penstock.table import Structure, Table, column_in_memory

__all__ = ["ImageDataset", "ImageFolder"]

Problem: TypeAlias = tuple[str, str]
"""A path and what is wrong there."""

_MOST_PIXELS = 89_478_485
_FIRST_LOOK = 256  # headers: more are read only where these say one size
_log = logging.getLogger("penstock")


class _Images(InEpochs):
    """Images that lie in files, and maybe a label for each."""

    def __init__(
        self,
        files: Images,
        labels: Tensor | None,
        transform: Callable[[Any], Any] | None,
        options: ImageOptions,
    ) -> None:
        self.image_transform = transform
        self.options = options
        self.seed = options.seed
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
        if self._is_overridden:
            return self._said_of_override()
        if self._why_slow is None:
            return f"{type(self).__name__}: images are decoded and transformed by the core"
        whole = "decoded by the core and transformed" if self.options.are_torchvisions else "loaded"
        return f"{type(self).__name__}: images are {whole} one by one in Python, because {self._why_slow}"

    def what_helps(self) -> str:
        """What would make samples cheaper where decoding is what takes the time; for `DataLoader.report`."""
        if not (_core.BUILD["jpeg"] and _core.BUILD["png"]):
            return "a build with libjpeg-turbo and libspng, where now Pillow decodes, or smaller image files"
        if self.options.decode == "exact" and self._lowered is not None:
            return 'decode="fast" (of JPEG files that are resized) or smaller image files'
        return "smaller image files"

    def _choose(self) -> str | None:
        """Finds what the core is to do, or why it cannot."""
        if self.image_transform is None:
            return "there is no transform: samples are Pillow images"
        try:
            plan = lowered(self.image_transform, self.options.decode, self._decoded())
        except NotLowered as why:
            return str(why)
        self._size = _core.ImageSteps(plan.steps).size or self._find_size(plan)
        self._lowered = plan
        return None

    def _decoded(self) -> Decoded:
        options = self.options
        channels = {"RGB": 3, "L": 1}.get(options.mode) or self._channels_of_first()
        return Decoded(options.mode, channels, getattr(torch, options.dtype))

    def _channels_of_first(self) -> int:
        """Of the first image that can be read; 3 where none can, as batches will tell."""
        for row in range(min(self._files.num_files, ATTEMPTS)):
            try:
                bytes_ = _core.read_image(self._files, row, self.options.max_pixels)
                return _core.image_info(
                    bytes_, "unchanged", self.options.bits, max_pixels=self.options.max_pixels
                )[3]
            except (FormatError, ShardError):
                continue
        return 3

    def _find_size(self, plan: Lowered) -> tuple[int, int] | None:
        """Where the steps leave it open: what all images come to; None where that is not one size."""
        steps = _core.ImageSteps(plan.steps)

        def results_of(sizes: Rows) -> list[tuple[int, int]]:
            known = np.unique(sizes[sizes[:, 0] > 0], axis=0)
            return list({steps.plan(int(width), int(height), 0, 0)[3][2:] for width, height in known})

        first, _ = _core.image_sizes(self._files, self._pipeline(plan), _FIRST_LOOK)
        results = results_of(first)
        if len(results) < 2 and len(first) < self._files.num_files:
            results = results_of(self._read_headers(plan)[0])
        return results[0] if len(results) == 1 else None

    def _read_headers(self, plan: Lowered) -> tuple[Rows, list[tuple[int, str]]]:
        """Sizes of all images, and what is wrong with some; once."""
        if self._headers is None:
            self._headers = _core.image_sizes(self._files, self._pipeline(plan))
        return self._headers

    def _leave_out_broken(self) -> None:
        """With on_error="skip": the files whose header cannot be read."""
        if self.options.on_error != "skip":
            return
        if self._why_slow is None:
            assert self._lowered is not None
            _, failures = self._read_headers(self._lowered)
        else:
            failures = headers_by_pillow(self._files, self.options.max_pixels)
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
        self._files = without_images(self._files, numbers)

    def _pipeline(self, plan: Lowered, channels_last: bool = False) -> _core.ImagePipeline:
        return _core.ImagePipeline(
            **plan.of_samples(),
            mode=plan.mode,
            bits=self.options.bits,
            channels_last=self.options.channels_last or channels_last,
            decode=self.options.decode,
            rule=resize_rule(),
            orientation=self.options.apply_exif_orientation,
            warnings=self.options.jpeg_warnings,
            max_pixels=self.options.max_pixels,
        )

    def _built(self) -> tuple[Table, InPython | None]:
        """The table, and what makes samples of its rows in Python."""
        column = None if self._labels is None else column_in_memory("target", self._labels)
        if self._lowered is None:
            slow_path = InPython(
                self._files, self._labels, self.image_transform, self.options, self._python_log
            )
            return self._built_for_python(column), slow_path
        is_replaced = self.options.on_error != "raise"
        source = self._source(self._lowered, self._pipeline(self._lowered), self._size, column, is_replaced)
        return Table(_core.Table([source]), self._structure("image")), None

    def _built_for_python(self, column: _core.Column | None) -> Table:
        """Numbers of images; with their pixels, where the core decodes them."""
        numbers = column_in_memory("index", torch.arange(self._files.num_files))
        core = _core.Table([numbers, *([] if column is None else [column])])
        if not self.options.are_torchvisions:
            return Table(core, self._structure("index"))
        plain = Lowered()
        images = self._source(plain, self._pipeline(plain, channels_last=True), None, None, False)
        return NumberedImages(core, self._structure("index"), images)

    def _source(
        self,
        plan: Lowered,
        pipeline: _core.ImagePipeline,
        size: tuple[int, int] | None,
        column: _core.Column | None,
        is_replaced: bool,
    ) -> _core.ImageSource:
        steps = _core.ImageSteps(plan.steps)
        return _core.ImageSource(
            self._files, pipeline, steps, size, plan.fill, column, is_replaced, self._core_log
        )

    def _structure(self, first: str) -> Structure:
        names = (first,) if self._labels is None else (first, "target")
        return Structure("tensor" if self._labels is None else "tuple", names)

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
        """Those of files of many; else one: there is nothing to gain from the order of small files."""
        if isinstance(self._files, _core.FileIndex) or self._lowered is None:
            return np.array([len(self)])
        return super().shard_lengths

    def __add__(self, other: Any) -> Any:
        """These samples and then others; sample by sample where Python makes some of them."""
        if isinstance(other, _Images) and (self._lowered is None or other._lowered is None):
            return torch.utils.data.ConcatDataset([self, other])
        return super().__add__(other)

    def _with_paths(self, notes: Sequence[tuple[int, str]]) -> list[Problem]:
        paths = self._paths(np.array([row for row, _ in notes], np.int64))
        return [(path, text) for path, (_, text) in zip(paths, notes, strict=True)]

    def _paths(self, numbers: Rows | None = None) -> list[str]:
        root = os.fsdecode(self._files.root)
        return [os.path.join(root or "/", name) for name in self._files.ids(numbers, ())]

    # --- in another process -----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_table": None, "_core_log": None}
        if isinstance(self.transform, InPython):  # which is made anew
            state["transform"] = None
        state["_files"] = _sent(self._files)
        if self._labels is not None and context.get_spawning_popen() is not None:
            if self._sent_labels is None:  # a copy: torch moves what it sends to shared memory
                self._sent_labels = self._labels.clone()
            state["_labels"] = self._sent_labels
        return {**state, "_sent_labels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._files = _received(state["_files"])
        self._core_log = _core.ImageLog()
        self._table, slow_path = self._built()
        self.transform = self.transform or slow_path


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
    bilinear or bicubic and before the image becomes a tensor. (Where torchvision scales by multiplying with
    1/255, as `v2.ToDtype` does, the core divides: the last bit of a float may differ.) Any other transform,
    and none, is called with a Pillow image, one sample after the other, as in torchvision; outside of worker
    processes the core's threads decode those that come next meanwhile. `explain()` says why, and so does a
    message of the logger "penstock".

    Where the transform leaves images of different sizes, a batch comes padded, with the sizes behind it, or
    as a list: see `Collate`. Places in a batch are known from the files' headers.

    Which part is cut out depends on `seed`, epoch and sample alone: not on threads, ranks, order or resume. A
    sample that is drawn twice in an epoch is cut alike.

    Args:
        root: The folder that holds one folder for each class.
        transform: From a Pillow image to a tensor. Default: none; samples are then Pillow images.
        target_transform: Called with each class's number, once; gives a number, or a tensor. Default: none.
        is_valid_file: Called with each path, instead of going by its ending. Default: none.
        allow_empty: Whether a class may be without images. Default: False.
        mode: What images are before the transform: "RGB", as in torchvision; "L", one channel of luma; or
            "unchanged", with the channels of the file, 1 to 4 (a palette becomes RGB or RGBA), which must be
            as many in all files as in the first. Default: "RGB".
        dtype: What a channel is before the transform. "uint16" is for PNGs of 16 bits, and nothing else is
            read then; floats are scaled by 65,535. Default: "uint8", as Pillow makes it of any file.
        apply_exif_orientation: Turn the image as its EXIF data says. Default: False, as in torchvision.
        decode: "exact", or "fast": a JPEG that is to become much smaller is decoded at 1/2, 1/4 or 1/8 of its
            size, as Pillow's `draft` does (of a photograph of 640 x 427 to 112 x 112, samples differ by 0.5
            of 255 on average, 11 at most), and a resize of a uint8 tensor is done as one of an image.
            Default: "exact".
        on_error: "raise" for an image that cannot be decoded; or "replace": another sample, chosen by the
            number of this one, stands in for it, image and target; or "skip": those whose header cannot be
            read are left out from the start (with a warning; every header is read), others are replaced. See
            `skipped`. (Among images of different sizes, one whose header is sound is replaced by one that is
            no wider and no higher than it; where a thousand tries find none, it raises.) Default: "raise".
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
        mode: Mode = "RGB",
        dtype: PixelType = "uint8",
        apply_exif_orientation: bool = False,
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
            numbers = as_tensor([target_transform(i) for i in range(len(self.classes))])
        super().__init__(
            files,
            numbers[torch.from_numpy(self._class_numbers(files))],
            transform,
            ImageOptions(
                mode=mode,
                dtype=dtype,
                apply_exif_orientation=apply_exif_orientation,
                decode=decode,
                on_error=on_error,
                channels_last=channels_last,
                jpeg_warnings=jpeg_warnings,
                max_pixels=max_pixels,
                seed=seed,
            ),
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
        assert isinstance(self._files, _core.FileIndex)
        return self._class_numbers(self._files)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_samples": None}


class ImageDataset(_Images):
    """Images in a folder, a list, tar archives or a pack: sample i is an image, or (image, label).

    Transforms, random numbers and what happens to broken files are as in `ImageFolder`.

    Tar archives are those of webdataset: members that follow one another and share their path up to the first
    dot of its last part, the sample's key, are one sample; what ends in `.jpg`, `.png` or another ending of
    images is its image, `.cls` its class as a number in text. Headers are read once; images are read where
    they lie.

    Args:
        source: A folder, whose images and those below it are taken, folder by folder and sorted; or a list of
            paths, taken as it is; or a `.tar` file, a pattern of such, sorted, or a list; or a folder that
            `penstock.pack` has made of images.
        labels: A mapping from file name (its path below the folder, or its last part, with or without ending)
            to label; or a sequence or tensor with one for every image, such as a column of a CSV file; or a
            function of the file's path. Of archives and packs: a mapping from key or name, or its last part;
            or a function of the key. Numbers; or strings, which are numbered in sorted order. Default: what
            the archives or the pack say; else none.
        transform: As in `ImageFolder`.
        is_valid_file: As in `ImageFolder`, for a folder of images.
        mode: As in `ImageFolder`.
        dtype: As in `ImageFolder`.
        apply_exif_orientation: As in `ImageFolder`.
        decode: As in `ImageFolder`.
        on_error: As in `ImageFolder`.
        index: As in `ImageFolder`, for a folder of images; for archives, a file that keeps what their headers
            say, made when it is not there, or when an archive has come, gone or changed.
        channels_last: As in `ImageFolder`.
        jpeg_warnings: As in `ImageFolder`.
        max_pixels: As in `ImageFolder`.
        seed: As in `ImageFolder`.

    Attributes:
        classes: Of labels that are strings, sorted; of a pack, those it was made of; else none.
        class_to_idx: From these to their numbers.
        image_transform: The transform, as given. (`transform` is None where the core does the work.)

    Raises:
        MissingFileError: There is no such folder or file, or no image in it.
        SchemaError: A label is missing, or no number and no string; there are more or fewer than images; some
            images of archives have a class, and others none.
        ArgumentError: As `ImageFolder`; archives are compressed.
        FormatError: As `ImageFolder`; an archive is none, cut short or damaged; a class is no number.
        ShardError: As `ImageFolder`; an archive cannot be read.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        labels: ImageLabels | None = None,
        transform: Callable[[Any], Any] | None = None,
        is_valid_file: IsValid | None = None,
        *,
        mode: Mode = "RGB",
        dtype: PixelType = "uint8",
        apply_exif_orientation: bool = False,
        decode: Decode = "exact",
        on_error: OnError = "raise",
        index: str | os.PathLike[str] | None = None,
        channels_last: bool = False,
        jpeg_warnings: JpegWarnings = "count",
        max_pixels: int = _MOST_PIXELS,
        seed: int = 0,
    ) -> None:
        if not isinstance(source, (str, os.PathLike)):
            source = list(source)
        shards = image_shards(source, index, has_labels=labels is not None)
        files: Images
        if shards is not None:
            if is_valid_file is not None:
                raise ArgumentError("is_valid_file= is for a folder of images, not for files of many")
            root, files = shards.root, shards.images
        elif isinstance(source, (str, os.PathLike)):
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
            self._labels_in(shards) if labels is None else self._numbered(values_of(labels, files)),
            transform,
            ImageOptions(
                mode=mode,
                dtype=dtype,
                apply_exif_orientation=apply_exif_orientation,
                decode=decode,
                on_error=on_error,
                channels_last=channels_last,
                jpeg_warnings=jpeg_warnings,
                max_pixels=max_pixels,
                seed=seed,
            ),
        )

    @property
    def paths(self) -> list[str]:
        """Of all samples."""
        return self._paths()

    def _labels_in(self, shards: ImageShards | None) -> Tensor | None:
        """Those that files of many hold."""
        if shards is None or shards.targets is None:
            return None
        self.classes = shards.classes
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        return torch.from_numpy(shards.targets)

    def _numbered(self, values: Any) -> Tensor:
        """One label for each image, strings as numbers."""
        if isinstance(values, np.ndarray) and values.dtype.kind in "OU":
            values = values.tolist()
        if not isinstance(values, Tensor) and all(isinstance(value, str) for value in values):
            self.classes = sorted(set(values))
            self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
            values = [self.class_to_idx[value] for value in values]
        return as_tensor(values)

    def _read_targets(self) -> Rows:
        labels = self._labels
        if labels is None or labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
            raise AttributeError(
                "this ImageDataset has no class labels: whole numbers or strings, one an image"
            )
        return labels.to(torch.int64).numpy()


def _sent(files: Images) -> Any:
    """What another process makes them of again."""
    return (shared(files) or files.image) if isinstance(files, _core.FileIndex) else files.state


def _received(state: Any) -> Images:
    return _core.ImageExtents(*state) if isinstance(state, tuple) else index_from(state, 0)
