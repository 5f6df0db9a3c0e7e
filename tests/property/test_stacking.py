"""Batches of any samples, chunks cut at any places: torch's default collate is the reference."""

from itertools import chain

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import default_collate

import penstock
from penstock import StreamDataset
from penstock.stacking import Stacker, rows_of

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64"]
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def random_array(rng, shape, dtype):
    return np.asarray(rng.random(shape) * 100).astype(dtype)


def laid_out(array, how):
    """The same numbers, lying otherwise in memory."""
    if how == "reversed" and array.ndim:
        return array[..., ::-1].copy()[..., ::-1]
    if how == "transposed":
        return np.asfortranarray(array)
    return np.repeat(array[..., None], 2, axis=-1)[..., 0] if how == "apart" else array


def tensor_like(array):
    """A tensor that lies as the array does, where a tensor can."""
    return torch.from_numpy(array if min(array.strides, default=0) >= 0 else array.copy())


@st.composite
def leaves(draw):
    """A function from a generator of random numbers to a value."""
    kind = draw(st.sampled_from(["array", "tensor", "float", "int", "bool", "str", "bytes", "scalar"]))
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(shapes)
    how = draw(st.sampled_from(["plain", "reversed", "transposed", "apart"]))
    return {
        "array": lambda rng: laid_out(random_array(rng, shape, dtype), how),
        "tensor": lambda rng: tensor_like(laid_out(random_array(rng, shape, dtype), how)),
        "float": lambda rng: float(rng.random()),
        "int": lambda rng: int(rng.integers(-(2**62), 2**62)),
        "bool": lambda rng: bool(rng.integers(2)),
        "str": lambda rng: str(rng.random()),
        "bytes": lambda rng: rng.bytes(3),
        "scalar": lambda rng: random_array(rng, (), dtype)[()],
    }[kind]


def nested(children):
    return st.one_of(
        st.lists(children, max_size=3).map(lambda makes: lambda rng: tuple(make(rng) for make in makes)),
        st.lists(children, max_size=3).map(lambda makes: lambda rng: [make(rng) for make in makes]),
        st.dictionaries(st.sampled_from("abc"), children, max_size=3).map(
            lambda makes: lambda rng: {key: make(rng) for key, make in makes.items()}
        ),
    )


structures = st.recursive(leaves(), nested, max_leaves=5)


def plain(sample):
    """The same sample with arrays that torch can take."""
    if isinstance(sample, (tuple, list)):
        return type(sample)(map(plain, sample))
    if isinstance(sample, dict):
        return {key: plain(part) for key, part in sample.items()}
    return sample.copy() if isinstance(sample, np.ndarray) else sample


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for each, other in zip(a, b, strict=True):
            assert_same(each, other)
    else:
        assert a == b


@given(structures, st.integers(1, 9), st.integers(0, 2**32))
def test_a_batch_is_default_collates(make, count, seed):
    rng = np.random.default_rng(seed)
    samples = [make(rng) for _ in range(count)]
    assert_same(Stacker().stack(samples, 0), default_collate([plain(sample) for sample in samples]))


@given(
    st.lists(st.integers(0, 9), max_size=12),
    st.integers(1, 20),
    st.sampled_from(DTYPES),
    shapes,
    st.sampled_from(["plain", "reversed", "transposed", "apart"]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_chunks_cut_anew_are_their_rows(lengths, batch_size, dtype, shape, how, tensors, seed):
    rng = np.random.default_rng(seed)
    chunks = []
    for length in lengths:
        array = laid_out(random_array(rng, (length, *shape), dtype), how)
        part = tensor_like(array) if tensors else array
        chunks.append({"a": (part,), "b": np.arange(length)})
    rows = [plain(row) for chunk in chunks for row in rows_of(chunk)]
    expected = [default_collate(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    stream = StreamDataset(chunks, batched=True, length=len(rows))
    batches = list(penstock.DataLoader(stream, batch_size))
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert_same(batch, other)


@given(
    st.integers(0, 60),
    st.integers(0, 20),
    st.integers(1, 9),
    st.integers(0, 8),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_stream_resumes_anywhere(count, shuffle_buffer, batch_size, taken, batched, seed):
    source = [np.arange(i, min(i + 4, count)) for i in range(0, count, 4)] if batched else range(count)

    def loader():
        stream = StreamDataset(
            source, batched=batched, shuffle_buffer=shuffle_buffer, seed=seed, length=count
        )
        return penstock.DataLoader(stream, batch_size)

    whole = [batch.tolist() for batch in loader()]
    assert sorted(chain.from_iterable(whole)) == list(range(count))
    begun, fresh = loader(), loader()
    walk = iter(begun)
    taken = min(taken, max(0, len(whole) - 1))
    for _ in range(taken):
        next(walk)
    fresh.load_state_dict(begun.state_dict())
    assert [batch.tolist() for batch in fresh] == whole[taken:]
