"""Token files as their own tools write them, and the slow way to read windows out of them."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

LLM_C = {"uint16": (20240520, 1), "uint32": (20240801, 7)}
MEGATRON = {
    "uint8": 1,
    "int8": 2,
    "int16": 3,
    "int32": 4,
    "int64": 5,
    "float64": 6,
    "float32": 7,
    "uint16": 8,
}
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64")


def write_raw(path: Path, tokens: Any) -> Path:
    """No header: nanoGPT's."""
    tokens.astype(tokens.dtype.newbyteorder("<")).tofile(path)
    return path


def write_llm_c(path: Path, tokens: Any) -> Path:
    """256 int32: magic, version, number of tokens; then the tokens."""
    header = np.zeros(256, "<i4")
    header[:3] = *LLM_C[tokens.dtype.name], len(tokens)
    path.write_bytes(header.tobytes() + tokens.tobytes())
    return path


def write_megatron(path: Path, documents: Sequence[Any], *, modes: bool = False) -> Path:
    """A `.bin` of the documents end to end, one sequence each, and its `.idx`."""
    tokens = np.concatenate(documents)
    lengths = np.array([len(document) for document in documents], "<i4")
    pointers = np.cumsum([0, *lengths[:-1]], dtype="<i8") * tokens.itemsize
    index = struct.pack("<9sQBQQ", b"MMIDIDX", 1, MEGATRON[tokens.dtype.name], len(lengths), len(lengths) + 1)
    index += lengths.tobytes() + pointers.tobytes() + np.arange(len(lengths) + 1, dtype="<i8").tobytes()
    path.with_suffix(".idx").write_bytes(index + bytes(len(lengths) if modes else 0))
    return write_raw(path, tokens)


def windows_of(files: Sequence[Any], block_size: int, stride: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Every (x, y), one window after another."""
    return [
        (torch.from_numpy(window[:-1]), torch.from_numpy(window[1:]))
        for tokens in files
        for at in range(0, len(tokens) - block_size, stride)
        for window in [tokens[at : at + block_size + 1].astype(np.int64)]
    ]


def random_tokens(rng: np.random.Generator, count: int, dtype: str) -> Any:
    """Of the whole range of the dtype."""
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, count, dtype, endpoint=True)
