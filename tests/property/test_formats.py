"""Random tensors, written with each format's own library in every way it has, are read equal to the byte."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import (
    ALL_DTYPES,
    DTYPES,
    FORMATS,
    NUMPY_DTYPES,
    RawRows,
    assert_same,
    concat,
    random_tensor,
    read_all,
    read_arrays,
    write,
)

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")

shapes = st.lists(st.integers(0, 5), min_size=1, max_size=5).map(tuple)
seeds = st.integers(0, 1000)


def tensors(dtypes):
    return st.builds(random_tensor, shapes, st.sampled_from(dtypes), seeds)


@st.composite
def views(draw):
    """A tensor and what torch can do to it without a copy."""
    tensor = draw(tensors(ALL_DTYPES))
    tensor = tensor.permute(draw(st.permutations(range(tensor.ndim))))
    for dim in range(tensor.ndim):
        begin, step = draw(st.integers(0, 3)), draw(st.integers(1, 3))
        tensor = tensor[(slice(None),) * dim + (slice(begin, None, step),)]
    if draw(st.booleans()):
        tensor = tensor.unsqueeze(draw(st.integers(0, tensor.ndim)))
    if tensor.shape[0] == 1 and draw(st.booleans()):
        tensor = tensor.expand(draw(st.integers(1, 4)), *tensor.shape[1:])
    return tensor


@st.composite
def rows_in_common(draw, dtypes):
    """{name: tensor}, at least two, all with as many rows."""
    rows = draw(st.integers(0, 5))
    names = draw(
        st.lists(st.text("abcxyz_ 0色", min_size=1, max_size=6), min_size=2, max_size=4, unique=True)
    )
    row_shapes = st.lists(st.integers(0, 4), max_size=3).map(lambda shape: (rows, *shape))
    return {
        name: draw(st.builds(random_tensor, row_shapes, st.sampled_from(dtypes), seeds)) for name in names
    }


def assert_reads(write_to, expected, raw=None):
    """Write with `write_to(path)`, which may return another path; read with ours and the reference."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path = write_to(path) or path
        ours, reference = read_all(path, raw), read_arrays(path, raw)[1]
    if isinstance(expected, torch.Tensor):
        ours, reference = next(iter(ours.values())), next(iter(reference.values()))
    assert_same(reference, expected)
    assert_same(ours, expected)


@given(st.data(), st.sampled_from(FORMATS))
def test_one_tensor_in_any_format(data, form):
    tensor = data.draw(tensors(DTYPES[form]))
    if form == "raw" and 0 in tensor.shape[1:]:
        tensor = tensor.new_empty((0, 3))
    raw = RawRows(tensor.dtype, tuple(tensor.shape[1:])) if form == "raw" else None
    assert_reads(lambda path: write(form, path, tensor), tensor, raw)


@given(views())
def test_a_torch_view(tensor):
    assert_reads(lambda path: torch.save(tensor, path), tensor.contiguous())


@given(st.lists(views(), min_size=1, max_size=4))
def test_torch_views_side_by_side(tensors):
    rows = min(len(tensor) for tensor in tensors)
    tensors = {f"t{i}": tensor[:rows] for i, tensor in enumerate([*tensors, tensors[0]])}
    assert_reads(
        lambda path: torch.save(tensors, path), {name: t.contiguous() for name, t in tensors.items()}
    )


@given(rows_in_common(NUMPY_DTYPES), st.sampled_from([np.savez, np.savez_compressed]))
def test_several_arrays_in_an_npz(arrays, save):
    def write_to(path):
        with path.open("wb") as file:
            save(file, **{name: tensor.numpy() for name, tensor in arrays.items()})

    assert_reads(write_to, arrays)


@given(rows_in_common(DTYPES["safetensors"]))
def test_several_tensors_in_safetensors(arrays):
    assert_reads(lambda path: safetensors.torch.save_file(arrays, path), arrays)


@given(tensors(NUMPY_DTYPES), st.sampled_from("<>"), st.permutations(range(5)), st.lists(st.integers(-3, 3)))
def test_a_numpy_view_in_any_byte_order(tensor, endian, axes, steps):
    array = tensor.numpy().transpose([axis for axis in axes if axis < tensor.ndim])
    array = array[tuple(slice(None, None, step or 1) for step in steps[: array.ndim])]

    def write_to(path):
        with path.open("wb") as file:
            np.save(file, array.astype(array.dtype.newbyteorder(endian), order="K"))

    assert_reads(write_to, torch.from_numpy(array.copy()))


@given(st.data(), st.sampled_from(FORMATS), st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_shards_are_laid_end_to_end(data, form, lengths):
    dtype = data.draw(st.sampled_from(DTYPES[form]))
    row_shape = data.draw(st.lists(st.integers(1, 4), max_size=2).map(tuple))
    parts = [random_tensor((n, *row_shape), dtype, i) for i, n in enumerate(lengths)]
    raw = penstock.Raw(dtype, row_shape) if form == "raw" else None
    with tempfile.TemporaryDirectory() as folder:
        paths = [write(form, Path(folder) / f"x{i}", part) for i, part in enumerate(parts)]
        dataset = penstock.ShardDataset(paths, raw=raw)
        batch = dataset.gather(range(len(dataset)))
    assert_same(batch, concat(parts))
