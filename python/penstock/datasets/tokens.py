"""Windows of tokens, for language models."""

from __future__ import annotations

import os
from typing import Any, Literal

from penstock import _core
from penstock.collate import Transform
from penstock.datasets.base import Dataset
from penstock.datasets.shards import Paths, resolve_paths
from penstock.samplers.base import at_least
from penstock.table import Structure, Table

__all__ = ["TokenDataset"]

_LONGEST = (1 << 63) - 1


class TokenDataset(Dataset):
    """Windows of token files: sample i is (x, y), and y is x one token later.

    nanoGPT's files without a header, llm.c's, and Megatron-LM's `.bin` with its `.idx` beside it. A window is
    `block_size + 1` tokens of one file, none crosses files: x is the first `block_size` of them, y the last,
    both int64. They begin `stride` tokens apart. Only headers are read when it is made; a batch's windows are
    read, widened and checked natively, in one pass.

    Windows of Megatron-LM's files run over all tokens, through the ends of documents, as its own GPT dataset
    has them: windows within documents would lose all that are shorter, and the rest of every longer one.

    All files must hold tokens of one dtype: files of different ones come from different tokenizers.

    Args:
        source: A path, a folder (its `.bin` files), a glob pattern, or a list of paths. Patterns and folders
            are taken in sorted order, a list as given.
        block_size: Tokens of x, and of y.
        dtype: Of the tokens in the files: "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", or
            that of torch or numpy. Needed for files without a header, checked for others.
        stride: Tokens from the beginning of a window to that of the next; 1 is every place in the files, as
            nanoGPT draws them. Default: block_size, so that every token but the first of a file is in one y.
        vocab_size: Given: every token of a batch must be from 0 to vocab_size - 1. Default: not checked.
        format: "raw" for files without a header, "llm.c", "megatron"; or "auto": Megatron-LM's where an
            `.idx` lies beside the file, llm.c's where the file begins with its magic number, else "raw".
            Default: "auto".
        transform: Called with each sample; the slow path, one Python call a sample. Default: none.

    Attributes:
        block_size: As given.
        stride: As given, or block_size.
        num_tokens: In all files.
        num_left_out: Of these, the tokens behind the last window of their file, or in a file that is shorter
            than one window.

    Raises:
        ShardError: A file is unreadable; MissingFileError: it is not there.
        FormatError: A file is not what it should be: it holds no tokens, ends inside one, or its header says
            what cannot be. Of a batch: a token is outside the vocabulary.
        SchemaError: No file matches, or none is as long as one window; a dtype is missing, is no whole
            number, or two files disagree in it.
        ArgumentError: block_size, stride or vocab_size is less than 1.
    """

    def __init__(
        self,
        source: Paths,
        *,
        block_size: int,
        dtype: Any = None,
        stride: int | None = None,
        vocab_size: int | None = None,
        format: Literal["auto", "raw", "llm.c", "megatron"] = "auto",
        transform: Transform | None = None,
    ) -> None:
        self.block_size = at_least(1, block_size, "block_size")
        self.stride = self.block_size if stride is None else at_least(1, stride, "stride")
        vocabulary = None if vocab_size is None else min(_LONGEST, at_least(1, vocab_size, "vocab_size"))
        paths = [os.fsencode(path) for path in resolve_paths(source, suffixes=(".bin",))]
        files = _core.TokenFiles(paths, format, None if dtype is None else _dtype_name(dtype))
        window, apart = min(_LONGEST, self.block_size), min(_LONGEST, self.stride)
        core = _core.Table([_core.TokenSource(files.windows(window, apart), vocabulary)])
        super().__init__(Table(core, Structure("tuple", ("x", "y"))), transform=transform)
        self.num_tokens = files.num_tokens
        self.num_left_out = files.num_left_out(window, apart)


def _dtype_name(dtype: Any) -> str:
    """As the core calls it: of a name, a torch dtype, or numpy's class or dtype."""
    name = dtype.__name__ if isinstance(dtype, type) else str(dtype)
    return name.removeprefix("torch.")
