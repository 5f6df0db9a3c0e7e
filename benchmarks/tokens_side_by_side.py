"""What windows of tokens cost: every contender in turn, round after round, medians and ratios.

Run as `python -m benchmarks.tokens_side_by_side`. One thread each (`penstock.DataLoader` has one beside the
loop's), warm page cache. Needs 1 GB of memory and 1 GB in the temporary folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import penstock
from benchmarks.bench_tokens import (
    BATCH,
    BLOCK,
    FILES,
    TOKENS,
    Tokens,
    gather_steps,
    loader_steps,
    mapped,
    recipe,
    write_tokens,
)
from benchmarks.side_by_side import medians


def compare(title: str, steps: dict[str, Callable[[], Any]], windows: int, reference: str) -> None:
    """One line per contender: microseconds a batch, windows/s, ratio to the reference."""
    seconds = medians(steps)
    print(f"\n{title}, {BATCH} x {BLOCK} uint16 -> int64")
    for name, value in sorted(seconds.items(), key=lambda item: item[1]):
        us, rate, ratio = value / windows * BATCH * 1e6, windows / value, seconds[reference] / value
        print(f"  {name:40} {us:>9,.1f} us a batch {rate:>12,.0f} windows/s {ratio:7.2f}x")


def require_same(tokens: Tokens) -> None:
    """Every gather gives what the recipe does."""
    expected = recipe(mapped(tokens), tokens.places[-1])
    for name, step in gather_steps(tokens).items():
        if "copied" not in name:
            assert all(map(torch.equal, step(), expected)), name


def main() -> None:
    """Print everything."""
    torch.set_num_threads(1)
    penstock.set_num_threads(1)
    print(penstock.show_config())
    with tempfile.TemporaryDirectory() as folder:
        tokens = write_tokens(Path(folder))
        require_same(tokens)
        compare("batches", gather_steps(tokens), tokens.windows, "nanoGPT: np.memmap, astype, stack")
        compare("loaders", loader_steps(tokens), FILES * TOKENS // BLOCK, "DataLoader over np.memmap")


if __name__ == "__main__":
    main()
