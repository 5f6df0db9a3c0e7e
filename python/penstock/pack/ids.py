"""Names of samples, in two arrays: their bytes end to end, and where each begins."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.pack.disk import Bytes, reading, write_whole
from penstock.pack.plan import DIGEST_BYTES, Offsets, ends_of

__all__ = ["digest_of_ids", "read_ids", "write_ids"]


def digest_of_ids(ids: Sequence[str], sizes: Offsets | None) -> str:
    """What stands for all names, and for the sizes of encoded samples."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for array in (*_joined(ids), np.zeros(0, np.int64) if sizes is None else sizes):
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_ids(folder: Path, ids: Sequence[str]) -> None:
    """Write the names of all samples below a folder.

    Raises:
        ShardError: They cannot be written.
    """
    names, ends = _joined(ids)
    write_whole(folder / "pack" / "ids.npy", _as_npy(names))
    write_whole(folder / "pack" / "id_offsets.npy", _as_npy(ends))


def read_ids(folder: Path) -> list[str]:
    """The names that were written.

    Raises:
        ShardError: They cannot be read.
    """
    names, ends = _load(folder / "pack" / "ids.npy"), _load(folder / "pack" / "id_offsets.npy")
    text = names.tobytes()
    return [
        text[begin:end].decode("utf-8", "surrogateescape")
        for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]


def _joined(ids: Sequence[str]) -> tuple[Bytes, Offsets]:
    names = [name.encode("utf-8", "surrogateescape") for name in ids]  # a name that is no UTF-8 stays
    return np.frombuffer(b"".join(names), np.uint8), ends_of(
        np.array([len(name) for name in names], np.int64)
    )


def _as_npy(array: npt.NDArray[Any]) -> bytes:
    content = BytesIO()
    np.save(content, array)
    return content.getvalue()


def _load(path: Path) -> npt.NDArray[Any]:
    with reading(path):
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    return array
