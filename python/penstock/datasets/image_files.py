"""Folders of image files: which are there, and where what was found is kept."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence

from penstock import _core
from penstock.datasets.folder import kept
from penstock.errors import ArgumentError, MissingFileError

__all__ = [
    "EXTENSIONS",
    "IsValid",
    "class_files",
    "files_below",
    "files_named",
    "kept_files",
    "without",
]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""torchvision's."""

_SECOND_NS = 1_000_000_000
_CLOCK_NS = 50_000_000  # a file system's clock may lag: a change within this time may not show

IsValid = Callable[[str], bool]


def has_image_name(path: str) -> bool:
    """Whether it ends like an image."""
    return path.lower().endswith(EXTENSIONS)


class _Walk:
    """What lies in a folder, in torchvision's order.

    Args:
        root: As it shall stand before the names that `is_valid` sees.
        is_valid: Whether a path is an image.
    """

    def __init__(self, root: str, is_valid: IsValid) -> None:
        self._root = root
        self._start = len(os.path.join(root, ""))  # of names below it
        self._is_valid = is_valid
        self._began_ns = time.time_ns() - _CLOCK_NS
        self.names: list[bytes] = []
        self.folders: list[bytes] = []
        self.changed: list[int] = []

    def note(self, folder: str) -> None:
        """Remember when a folder was changed; 0: too lately to tell."""
        changed = os.stat(folder).st_mtime_ns
        tick = 0 if changed % _SECOND_NS else 2 * _SECOND_NS  # a file system may keep even seconds alone
        self.folders.append(os.fsencode(folder[self._start :]))
        self.changed.append(changed if changed + tick < self._began_ns else 0)

    def add(self, folder: str) -> None:
        """Take the images in a folder and those below it."""
        for at, _, names in sorted(os.walk(folder, followlinks=True)):
            if at != self._root:
                self.note(at)
            paths = (os.path.join(at, name) for name in sorted(names))
            self.names += [os.fsencode(p[self._start :]) for p in paths if self._is_valid(p)]

    def index(self, recipe: bytes) -> _core.FileIndex:
        """All of it."""
        root = os.fsencode(os.path.abspath(self._root))
        return _core.index_of_names(root, recipe, self.names, self.folders, self.changed)


def class_files(root: str, is_valid: IsValid | None, recipe: bytes = b"") -> _core.FileIndex:
    """The images in the folders of a root, class by class.

    Raises:
        MissingFileError: There is no root, or no folder in it.
    """
    walk = _begun(root, is_valid)
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    if not classes:
        raise MissingFileError("there is no folder of a class", path=root)
    for name in classes:
        walk.add(os.path.join(root, name))
    return walk.index(recipe)


def files_below(root: str, is_valid: IsValid | None, recipe: bytes = b"") -> _core.FileIndex:
    """The images in a root and below it.

    Raises:
        MissingFileError: There is no root.
    """
    walk = _begun(root, is_valid)
    walk.add(root)
    return walk.index(recipe)


def files_named(paths: Iterable[str | os.PathLike[str]]) -> _core.FileIndex:
    """Images that are given one by one."""
    names = [os.fsencode(os.path.abspath(os.fspath(path))).lstrip(b"/") for path in paths]
    return _core.index_of_names(b"", b"", names, [], [])


def _begun(root: str, is_valid: IsValid | None) -> _Walk:
    if not os.path.isdir(root):
        raise MissingFileError("this is no folder", path=root)
    walk = _Walk(root, has_image_name if is_valid is None else is_valid)
    walk.note(root)
    return walk


def kept_files(
    walk: Callable[[str, IsValid | None, bytes], _core.FileIndex],
    root: str,
    is_valid: IsValid | None,
    path: str | os.PathLike[str] | None,
) -> _core.FileIndex:
    """What `walk` finds; from an index file, where there is one and no folder has changed.

    Raises:
        ArgumentError: It is an index of something else, or no index; `is_valid` is asked each time.
        MissingFileError: As `walk`.
        ShardError: The index cannot be kept.
    """
    if path is None:
        return walk(root, is_valid, b"")
    if is_valid is not None:
        raise ArgumentError("an index file does not remember what is_valid_file said")
    recipe = json.dumps([walk.__name__, EXTENSIONS]).encode()
    known = kept(os.path.abspath(path), os.fsencode(os.path.abspath(root)), recipe)
    if known is not None and known.is_current():
        return known
    found = walk(root, None, recipe)
    found.write(os.fsencode(os.path.abspath(path)))
    return found


def without(files: _core.FileIndex, left_out: Sequence[int]) -> _core.FileIndex:
    """The same files but for these."""
    gone = set(left_out)
    names = [os.fsencode(name) for i, name in enumerate(files.ids(None, ())) if i not in gone]
    folders = _core.folders_of_root(files)
    return _core.index_of_names(files.root, b"", names, folders, [0] * len(folders))
