"""The data of the examples: ten classes of noisy patterns, in `.npy` shards of uneven lengths."""

import atexit
import tempfile
from pathlib import Path

import numpy as np


def make_shards(folder: Path | None = None) -> Path:
    """Write the shards.

    Args:
        folder: Where to. Default: a temporary folder, which is gone when the program ends.

    Returns:
        The folder, with `x_*.npy`: (n, 32) float32; `y_*.npy`: (n,) int64, classes 0 to 9; and `id_*.npy`:
        (n,) int64, which numbers all samples from 0, so that an example can show which ones it has seen.
    """
    if folder is None:
        temporary = tempfile.TemporaryDirectory()
        atexit.register(temporary.cleanup)
        folder = Path(temporary.name)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(10, 32))
    total = 0
    for shard, length in enumerate([700, 1, 1200, 850, 1250]):
        y = rng.integers(10, size=length)
        x = patterns[y] + rng.normal(size=(length, 32))
        np.save(folder / f"x_{shard}.npy", x.astype(np.float32))
        np.save(folder / f"y_{shard}.npy", y)
        np.save(folder / f"id_{shard}.npy", np.arange(total, total + length))
        total += length
    return folder
