"""Fixtures: shards of every format, of uneven lengths, some of them empty."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from reference import RawRows, concat, random_tensor, write

import penstock

hypothesis.settings.register_profile("ci", max_examples=60, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=1_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

UNEVEN = (5, 0, 1, 17, 3, 0)


@dataclass
class Shards:
    """Files that hold `rows` between them, in the order of `paths`."""

    form: str
    folder: Path
    paths: list[Path]
    parts: list[torch.Tensor]
    raw: RawRows | None

    @property
    def rows(self) -> torch.Tensor:
        return concat(self.parts)

    def open(self, **options: Any) -> penstock.ShardDataset:
        if self.raw:
            dtype = str(self.raw.dtype).removeprefix("torch.")
            options["raw"] = penstock.Raw(dtype, self.raw.row_shape, self.raw.offset)
        return penstock.ShardDataset(self.paths, **options)


@pytest.fixture
def make_shards(tmp_path):
    """make_shards(form, lengths, row_shape, dtype, seed, folder) -> Shards"""

    def make(form="npy", lengths=UNEVEN, row_shape=(4,), dtype=torch.float32, seed=0, folder="shards"):
        where = tmp_path / folder
        where.mkdir()
        parts = [random_tensor((n, *row_shape), dtype, seed * 1000 + i) for i, n in enumerate(lengths)]
        paths = [write(form, where / f"shard_{i:03}", part) for i, part in enumerate(parts)]
        return Shards(form, where, paths, parts, RawRows(dtype, row_shape) if form == "raw" else None)

    return make


@pytest.fixture
def make_pair(make_shards):
    """make_pair() -> (image shards, label shards): row-aligned, cut at different places."""

    def make(lengths=(5, 0, 1, 17, 3), row_shape=(2, 3), classes=3):
        images = make_shards("npy", lengths, row_shape, folder="image")
        total = sum(lengths)
        labels = make_shards("npy", (total - 4, 4), (), torch.int64, folder="label")
        for path, part in zip(labels.paths, labels.parts, strict=True):
            part.remainder_(classes)
            write("npy", path.with_suffix(""), part)
        return images, labels

    return make


@pytest.fixture
def restore_threads():
    """Give the process its number of threads back."""
    before = penstock.get_num_threads()
    yield
    penstock.set_num_threads(before)
