"""Any rows, in any order, any threads, any stack of datasets: what row by row and `torch.stack` give."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import FORMATS, assert_same, gather, random_tensor, write

import penstock

pytestmark = pytest.mark.usefixtures("restore_threads")
LENGTHS = (0, 5, 1, 0, 17, 3, 64, 0, 2)
ROWS = sum(LENGTHS)
_folder = tempfile.TemporaryDirectory()


@functools.cache
def dataset_of(form, row_bytes, dtype=torch.uint8, transposed=False):
    """(dataset, its shards in RAM); made once."""
    folder = Path(_folder.name) / f"{form}-{row_bytes}-{dtype}-{transposed}"
    folder.mkdir()
    row_shape = (row_bytes // dtype.itemsize,)
    parts = [random_tensor((n, *row_shape), dtype, i) for i, n in enumerate(LENGTHS)]
    if transposed:
        parts = [part.t().contiguous().t() for part in parts]
    paths = [write(form, folder / f"x{i:02}", part) for i, part in enumerate(parts)]
    raw = penstock.Raw(dtype, row_shape) if form == "raw" else None
    return penstock.ShardDataset(paths, raw=raw), parts


row_numbers = st.integers(-ROWS, ROWS - 1)
indices = st.lists(row_numbers, max_size=200)
SIZES = [
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    17,
    31,
    32,
    40,
    63,
    64,
    65,
    100,
    128,
    255,
    256,
    511,
    512,
    520,
    1000,
    4095,
    4096,
    4097,
]


@given(st.sampled_from(FORMATS), st.sampled_from([8, 40, 4096]), indices)
def test_any_rows_of_any_format(form, row_bytes, rows):
    dataset, parts = dataset_of(form, row_bytes)
    assert_same(dataset.gather(rows), gather(parts, rows))


@pytest.mark.parametrize("row_bytes", SIZES)
def test_rows_of_every_size(row_bytes):
    dataset, parts = dataset_of("npy", row_bytes)
    rows = torch.randint(-ROWS, ROWS, (333,), generator=torch.Generator().manual_seed(row_bytes)).tolist()
    for threads in (1, 3):
        penstock.set_num_threads(threads)
        assert_same(dataset.gather(rows), gather(parts, rows))


@settings(max_examples=20)
@given(st.sampled_from([65_536, 150_528, 300_001]), st.integers(1, 5), st.lists(row_numbers, max_size=60))
def test_large_rows_with_any_number_of_threads(row_bytes, threads, rows):
    dataset, parts = dataset_of("npy", row_bytes)
    penstock.set_num_threads(threads)
    assert_same(dataset.gather(rows), gather(parts, rows))


@given(
    st.sampled_from([torch.uint8, torch.int16, torch.float32, torch.complex128]), indices, st.integers(1, 3)
)
def test_strided_rows(dtype, rows, threads):
    penstock.set_num_threads(threads)
    for form in ("npy", "pt", "npz-deflated"):
        dataset, parts = dataset_of(form, 112, dtype, transposed=True)
        assert_same(dataset.gather(rows), gather(parts, rows))


@given(indices, st.integers(1, 64), st.integers(1, 4))
def test_batches_laid_end_to_end_are_the_epoch(rows, batch_size, threads):
    penstock.set_num_threads(threads)
    dataset, parts = dataset_of("npy", 520)
    batches = [dataset.gather(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    assert_same(torch.cat([dataset.gather([]), *batches]), gather(parts, rows))


AS = {
    "list": list,
    "tuple": tuple,
    "int64 array": lambda rows: np.array(rows, dtype=np.int64),
    "int8 array": lambda rows: np.array(rows, dtype=np.int8),
    "big-endian array": lambda rows: np.array(rows, dtype=">i4"),
    "reversed array": lambda rows: np.array(rows[::-1], dtype=np.int64)[::-1],
    "int64 tensor": lambda rows: torch.tensor(rows, dtype=torch.int64),
    "int32 tensor": lambda rows: torch.tensor(rows, dtype=torch.int32),
    "strided tensor": lambda rows: torch.tensor(rows, dtype=torch.int64).repeat_interleave(2)[::2],
    "numpy integers": lambda rows: [np.int32(row) for row in rows],
}


@given(st.sampled_from(sorted(AS)), indices)
def test_indices_of_every_kind(kind, rows):
    dataset, parts = dataset_of("npy", 40)
    assert_same(dataset.gather(AS[kind](rows)), gather(parts, rows))


@given(st.integers(-ROWS, ROWS - 1), st.integers(-ROWS, ROWS - 1), st.sampled_from([1, 2, 7, -1, -3]))
def test_ranges(begin, end, step):
    dataset, parts = dataset_of("npy", 40)
    assert_same(dataset.gather(range(begin, end, step)), gather(parts, range(begin, end, step)))


@given(indices, st.booleans())
def test_into_a_buffer_of_the_user(rows, twice):
    dataset, parts = dataset_of("npy", 40)
    out = torch.full((len(rows), 40), 7, dtype=torch.uint8)
    for _ in range(1 + twice):
        assert dataset.gather(rows, out=out) is out
    assert_same(out, gather(parts, rows))


@given(row_numbers)
def test_one_row(row):
    for form in FORMATS:
        dataset, parts = dataset_of(form, 40)
        assert_same(dataset[row], gather(parts, [row])[0])


@st.composite
def stacks(draw, depth=3):
    """A dataset made of subsets and sums of datasets, and the same in RAM."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        dataset, parts = dataset_of(draw(st.sampled_from(["npy", "pt", "raw"])), 40)
        return dataset, torch.cat(parts)
    if draw(st.booleans()):
        one, other = draw(stacks(depth=depth - 1)), draw(stacks(depth=depth - 1))
        return one[0] + other[0], torch.cat([one[1], other[1]])
    dataset, rows = draw(stacks(depth=depth - 1))
    chosen = draw(st.lists(st.integers(-len(rows), len(rows) - 1), max_size=30)) if len(rows) else []
    return dataset.subset(chosen), rows[torch.tensor(chosen, dtype=torch.int64)]


@given(stacks(), st.data())
def test_subsets_and_sums_of_datasets(stack, data):
    dataset, rows = stack
    assert len(dataset) == len(rows)
    chosen = data.draw(st.lists(st.integers(-len(rows), len(rows) - 1), max_size=50)) if len(rows) else []
    assert_same(dataset.gather(chosen), rows[torch.tensor(chosen, dtype=torch.int64)])
