"""Rows of different lengths: any lengths, cut into any shards, written in any way, in any layout."""

import itertools
import pickle
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import ALL_DTYPES, NUMPY_DTYPES, assert_same, random_tensor
from reference.ragged import assert_same_batch, batch_of, fields_of, split_by

import penstock
from penstock import Collate, RaggedDataset
from penstock.table import Underway

pytestmark = [
    pytest.mark.usefixtures("restore_threads"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning"),
]
seeds = st.integers(0, 1000)
lengths = st.lists(st.integers(0, 9) | st.just(0), min_size=1, max_size=25)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
dtypes = st.sampled_from(NUMPY_DTYPES)
any_dtypes = st.sampled_from([dtype for dtype in ALL_DTYPES if "x2" not in str(dtype)])


@st.composite
def options(draw):
    """Arguments of a Collate."""
    chosen = {
        "batch_first": draw(st.booleans()),
        "lengths": draw(st.booleans()),
        "mask": draw(st.booleans()),
        "pad_to_multiple": draw(st.none() | st.integers(1, 9)),
        "max_length": draw(st.none() | st.integers(0, 10)),
        "truncation": draw(st.sampled_from(["right", "left"])),
        "padding_side": draw(st.sampled_from(["right", "left"])),
        "layout": draw(st.sampled_from(["pad", "pad", "pad", "pack", "list"])),
    }
    return {name: value for name, value in chosen.items() if draw(st.booleans())}


NOT_PICKLED = (torch.uint16, torch.uint32, torch.uint64)  # by torch, where they are tensors
paddings = st.sampled_from([0, 1])  # which every dtype holds


def cut(draw, count, most=5):
    """Rows of shards: any whole numbers of that sum."""
    ends = sorted(draw(st.lists(st.integers(0, count), max_size=most)))
    return np.diff([0, *ends, count]).tolist()


# written in any way ----------------------------------------------------------------------------------------


def view_of(tensor):
    """The same elements, every second of a tensor that begins later and has its axes turned."""
    turned = tensor.permute(tuple(reversed(range(tensor.ndim))))
    wide = torch.zeros((*(2 * n + 1 for n in turned.shape),), dtype=tensor.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in turned.shape)]
    view.copy_(turned)
    return view.permute(tuple(reversed(range(tensor.ndim))))


def swapped(tensor):
    array = tensor.numpy()
    return array.astype(array.dtype.newbyteorder(">"))


WAYS = {
    "npy": lambda path, t: np.save(f"{path}.npy", t.numpy()),
    "npy, Fortran": lambda path, t: np.save(f"{path}.npy", np.asfortranarray(t.numpy())),
    "npy, big-endian": lambda path, t: np.save(f"{path}.npy", swapped(t)),
    "npz": lambda path, t: np.savez(f"{path}.npz", t.numpy()),
    "npz, deflated": lambda path, t: np.savez_compressed(f"{path}.npz", t.numpy()),
    "npz, deflated, big-endian": lambda path, t: np.savez_compressed(f"{path}.npz", swapped(t)),
    "pt": lambda path, t: torch.save(t.clone(), f"{path}.pt"),
    "pt, a view": lambda path, t: torch.save(view_of(t), f"{path}.pt"),
    "safetensors": lambda path, t: safetensors.torch.save_file({"x": t.contiguous()}, f"{path}.safetensors"),
}
ways = st.sampled_from(list(WAYS))


def write_all(draw, folder, tensors):
    """Each in a way of its own."""
    folder.mkdir()
    for i, tensor in enumerate(tensors):
        has_it = tensor.dtype != torch.complex128  # safetensors has not
        way = draw(ways.filter(lambda way, has_it=has_it: has_it or way != "safetensors"))
        WAYS[way](folder / f"{i:03}", tensor)
    return folder


def numbers_of(draw, folder, values, counts, shards):
    """lengths= or offsets=, in memory or in files."""
    sums = [0, *itertools.accumulate(counts)]
    keyword, numbers = draw(st.sampled_from([("lengths", counts), ("offsets", sums)]))
    kind = draw(st.sampled_from(["list", "tensor", "array", "file", "files"]))
    if kind == "list":
        return {keyword: numbers}
    tensor = torch.tensor(numbers, dtype=draw(st.sampled_from([torch.int64, torch.int32, torch.uint8])))
    if kind in ("tensor", "array"):
        return {keyword: tensor if kind == "tensor" else swapped(tensor)}
    pieces = [tensor]
    if kind == "files" and keyword == "lengths":
        pieces = list(tensor.split(cut(draw, len(counts))))
        if len(pieces) == len(shards):  # which would have to be those of the files
            pieces.append(tensor[:0])
    return {keyword: write_all(draw, folder / "numbers", pieces)}


@st.composite
def datasets(draw, folder):
    """(a dataset of one field, its rows)"""
    counts, shape, dtype, seed = draw(lengths), draw(shapes), draw(dtypes), draw(seeds)
    values = random_tensor((sum(counts), *shape), dtype, seed)
    rows = split_by(values, counts)
    kind = draw(st.sampled_from(["shards", "memory", "view", "lists", "files", "list", "embedded"]))
    if kind in ("memory", "view"):
        given = numbers_of(draw, folder, values, counts, [len(values)])
        return RaggedDataset(view_of(values) if kind == "view" else values, **given), rows
    if kind == "shards":
        shards = cut(draw, len(values))
        where = write_all(draw, folder / "values", values.split(shards))
        return RaggedDataset(where, **numbers_of(draw, folder, values, counts, shards)), rows
    if kind == "files":
        return RaggedDataset(write_all(draw, folder / "values", rows)), rows
    if kind == "list":
        return RaggedDataset([view_of(row) if draw(st.booleans()) else row for row in rows]), rows
    begin = 0
    for i, count in enumerate(cut(draw, len(rows))):
        part, begin = rows[begin : begin + count], begin + count
        if kind == "lists" and part:
            torch.save([view_of(row) if draw(st.booleans()) else row for row in part], folder / f"{i}.pt")
        elif kind == "embedded":
            own = torch.tensor([len(row) for row in part], dtype=torch.int64)
            whole = values[sum(counts[: begin - count]) : sum(counts[:begin])]
            np.savez(folder / f"{i}.npz", values=whole.numpy(), lengths=own.numpy())
    return RaggedDataset(folder), rows


def rows_of(draw, count):
    return draw(st.lists(st.integers(-count, count - 1), min_size=1, max_size=30))


@given(st.data())
def test_every_way_to_write_rows_gives_them_back(data):
    with tempfile.TemporaryDirectory() as name:
        penstock.set_num_threads(data.draw(st.integers(1, 3)))
        dataset, rows = data.draw(datasets(Path(name)))
        assert dataset.lengths.tolist() == [len(row) for row in rows]
        assert dataset.shard_lengths.sum() == len(rows)
        assert_same([dataset[i] for i in range(len(rows))], rows)
        if rows[0].dtype not in NOT_PICKLED and data.draw(st.booleans()):
            dataset = pickle.loads(pickle.dumps(dataset))
        for _ in range(3):
            indices, chosen = rows_of(data.draw, len(rows)), data.draw(options())
            chosen["padding_value"] = data.draw(paddings)
            batch = Collate(**chosen)(dataset.__getitems__(indices))
            assert_same_batch(batch, batch_of([rows[i] for i in indices], **chosen))


@given(lengths, shapes, any_dtypes, options(), paddings, seeds)
def test_foreign_sequences_of_any_kind(counts, shape, dtype, chosen, padding, seed):
    rows = split_by(random_tensor((sum(counts), *shape), dtype, seed), counts)
    batch = Collate(padding, ragged=True, **chosen)(rows)
    assert_same_batch(batch, batch_of(rows, padding_value=padding, **chosen))
    assert_same_batch(Collate(padding, **chosen)(RaggedDataset(rows).__getitems__(range(len(rows)))), batch)


@given(
    st.lists(st.integers(-2, 6), max_size=8),
    st.integers(0, 20),
    st.sampled_from(["lengths", "offsets"]),
    st.integers(1, 4),
)
def test_any_numbers_are_refused_or_right(numbers, count, keyword, shards):
    values = torch.arange(count)
    if keyword == "lengths":
        is_right = min(numbers, default=0) >= 0 and sum(numbers) == count
    else:
        is_right = numbers[:1] == [0] and numbers == sorted(numbers) and numbers[-1] == count
    with tempfile.TemporaryDirectory() as name:
        for i, part in enumerate(torch.tensor_split(values, shards)):
            np.save(f"{name}/{i}.npy", part.numpy())
        for source in (values, name):
            if not is_right:
                with pytest.raises(penstock.SchemaError):
                    RaggedDataset(source, **{keyword: numbers})
                continue
            counts = numbers if keyword == "lengths" else np.diff(numbers).tolist()
            dataset = RaggedDataset(source, **{keyword: numbers})
            assert_same([dataset[i] for i in range(len(dataset))], split_by(values, counts))


# any stack of datasets, in any loader ----------------------------------------------------------------------

COUNT = 60
MANY = [(i * 7919) % 13 for i in range(COUNT)]
VALUES = torch.arange(sum(MANY) * 2, dtype=torch.int32).view(-1, 2)
ROWS = split_by(VALUES, MANY)


def pickled(dataset, numbers, chance):
    return pickle.loads(pickle.dumps(dataset)), numbers


def chosen_of(dataset, numbers, chance):
    indices = [chance.randrange(-len(numbers), len(numbers)) for _ in range(chance.randint(1, 60))]
    return dataset.subset(indices), [numbers[i] for i in indices]


def split(dataset, numbers, chance):
    part = penstock.random_split(dataset, [0.5, 0.5], seed=chance.randrange(99))[chance.randrange(2)]
    return (part, [numbers[i] for i in part.indices]) if len(part) else (dataset, numbers)


def doubled(dataset, numbers, chance):
    return (dataset + dataset, numbers * 2) if len(numbers) < 300 else (dataset, numbers)


def of_a_class(dataset, numbers, chance):
    label = chance.choice(sorted(set(numbers)))
    part = dataset.by_class()[label]
    return part, [label] * numbers.count(label)


def expected(numbers, **chosen):
    return fields_of({"x": [ROWS[i] for i in numbers], "y": torch.tensor(numbers)}, **chosen)


@given(
    st.booleans(),
    st.lists(st.sampled_from([pickled, chosen_of, split, doubled, of_a_class]), max_size=5),
    options(),
    st.integers(1, 3),
    st.sampled_from([0, Underway.WORTH_A_THREAD]),
    seeds,
)
def test_no_stack_of_datasets_and_no_loader_gives_a_wrong_row(in_memory, steps, chosen, threads, work, seed):
    penstock.set_num_threads(threads)
    chance = random.Random(seed)
    collate = Collate(**chosen)
    before, Underway.WORTH_A_THREAD = Underway.WORTH_A_THREAD, work
    try:
        with tempfile.TemporaryDirectory() as folder:
            source = VALUES if in_memory else f"{folder}/*"
            for i, part in enumerate(VALUES.split(chance.randint(40, 400))):
                np.save(f"{folder}/{i:03}.npy", part.numpy())
            dataset = RaggedDataset({"x": source, "y": torch.arange(COUNT)}, lengths=MANY)
            numbers = list(range(COUNT))
            for step in steps:
                dataset, numbers = step(dataset, numbers, chance)
                assert dataset.lengths.tolist() == [MANY[i] for i in numbers]
            rows = [chance.randrange(-len(numbers), len(numbers)) for _ in range(20)]
            batch = collate(dataset.__getitems__(rows))
            assert_same_batch(batch, expected([numbers[row] for row in rows], **chosen))
            loader = penstock.DataLoader(
                dataset, chance.randint(1, 30), shuffle=True, seed=seed, collate_fn=collate
            )
            seen = []
            for batch in loader:
                seen += batch["y"].tolist()
                assert_same_batch(batch, expected(batch["y"].tolist(), **chosen))
            assert sorted(seen) == sorted(numbers)
    finally:
        Underway.WORTH_A_THREAD = before
