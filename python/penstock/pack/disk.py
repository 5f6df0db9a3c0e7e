"""Reading and writing, with errors that name the file."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.errors import ShardError, unreadable

__all__ = [
    "Bytes",
    "PathLike",
    "cannot_be_read",
    "lock",
    "read_at",
    "reading",
    "sync",
    "write_at",
    "write_whole",
    "writing",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
PathLike: TypeAlias = "str | os.PathLike[str]"


@contextmanager
def reading(path: PathLike) -> Iterator[None]:
    """Make every `OSError` a `ShardError` that names the file."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ShardError):
            raise
        raise cannot_be_read(path, error) from error


def cannot_be_read(path: PathLike, error: OSError) -> ShardError:
    """The same error, with the file's name."""
    return unreadable(os.fspath(path), error)


@contextmanager
def writing(path: PathLike) -> Iterator[None]:
    """Likewise; of a full disk it says how to go on."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ShardError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise ShardError(
            f"cannot be written: {error.strerror}",
            path=os.fspath(path),
            errno=error.errno,
            hint="What was finished is kept: make room and pack again." if full else None,
        ) from error


def read_at(path: Path, begin: int, count: int) -> Bytes:
    """Bytes of a file, shape (count,).

    Raises:
        ShardError: It has not as many, or cannot be read.
    """
    out = np.empty(count, np.uint8)
    with reading(path), open(path, "rb", buffering=0) as file:
        file.seek(begin)
        done = 0
        while done < count and (read := file.readinto(out[done:].data)):
            done += read
    if done < count:
        raise ShardError(
            "ends too early",
            path=os.fspath(path),
            expected=f"{begin + count} bytes",
            actual=str(begin + done),
        )
    return out


def write_at(path: Path, begin: int, data: Bytes) -> None:
    """Write bytes into a file that is there.

    Raises:
        ShardError: It cannot be written.
    """
    with writing(path), open(path, "r+b", buffering=0) as file:
        file.seek(begin)
        done = 0
        while done < len(data):
            done += file.write(data[done:].data)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there as a whole or not at all.

    Raises:
        ShardError: It cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def sync(path: Path, *, forget: bool = False) -> None:
    """Have a file or folder on the disk; and out of memory, so that it is read from there.

    Raises:
        ShardError: That failed.
    """
    with writing(path):
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
            if forget:
                os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(opened)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other processes from packing into a folder. One that ends lets go of it.

    Raises:
        ShardError: Another one does.
    """
    with writing(folder):
        opened = os.open(folder, os.O_RDONLY)
    try:
        _lock(opened, folder)
        yield
    finally:
        os.close(opened)


def _lock(opened: int, folder: Path) -> None:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ShardError(
            "another process packs into this folder", path=os.fspath(folder), errno=error.errno
        ) from None
    except OSError:  # a file system without locks
        pass
