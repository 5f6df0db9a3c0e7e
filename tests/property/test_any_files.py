"""A sample per file: random arrays in every way they can be written, any order, any part, any cache."""

import functools
import pickle
import random
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import DTYPES, NUMPY_DTYPES, assert_same, random_tensor, read_arrays, to_bytes
from torch.utils.data import default_collate

import penstock

pytestmark = [
    pytest.mark.usefixtures("restore_threads"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning"),
]
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
seeds = st.integers(0, 1000)


# one array, written in any way -----------------------------------------------------------------------------


def view_of(tensor):
    """The same elements in a tensor that begins later, goes by two, and has its axes turned."""
    turned = tensor.permute(tuple(reversed(range(tensor.ndim))))
    wide = torch.zeros((*(2 * n + 1 for n in turned.shape),), dtype=tensor.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in turned.shape)]
    view.copy_(turned)
    return view.permute(tuple(reversed(range(tensor.ndim))))


def save_npy(path, array, **how):
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, **how)


def fortran(tensor):
    return tensor.numpy().copy(order="F")


def swapped(tensor):
    array = tensor.numpy()
    return array.astype(array.dtype.newbyteorder(">"))


WAYS = {
    "npy": lambda path, t: save_npy(path, t.numpy()),
    "npy, version 2": lambda path, t: save_npy(path, t.numpy(), version=(2, 0)),
    "npy, Fortran": lambda path, t: save_npy(path, fortran(t)),
    "npy, big-endian": lambda path, t: save_npy(path, swapped(t)),
    "npz": lambda path, t: np.savez(path.open("wb"), t.numpy()),
    "npz, Fortran": lambda path, t: np.savez(path.open("wb"), fortran(t)),
    "npz, deflated": lambda path, t: np.savez_compressed(path.open("wb"), a=t.numpy()),
    "npz, deflated, big-endian": lambda path, t: np.savez_compressed(path.open("wb"), swapped(t)),
    "npz, deflated, Fortran": lambda path, t: np.savez_compressed(path.open("wb"), fortran(t)),
    "pt": lambda path, t: torch.save(t, path),
    "pt, a dict": lambda path, t: torch.save({"only": t, "step": 3}, path),
    "pt, a view": lambda path, t: torch.save(view_of(t), path),
    "pt, a parameter of a batch": lambda path, t: torch.save(torch.stack([t, t])[1], path),
    "safetensors": lambda path, t: safetensors.torch.save_file({"x": t.contiguous()}, path),
}


def write_each(folder, tensors, ways):
    """Each tensor in a file of its own."""
    paths = [folder / f"{i}.dat" for i in range(len(tensors))]
    for path, tensor, way in zip(paths, tensors, ways, strict=True):
        WAYS[way](path, tensor)
    return paths


def lone_array(path):
    (array,) = read_arrays(path)[1].values()
    return array


@pytest.mark.filterwarnings("ignore:.*what is no tensor is left out:UserWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(
    st.sampled_from([dtype for dtype in NUMPY_DTYPES if not dtype.is_complex]),
    shapes,
    st.lists(st.sampled_from(list(WAYS)), min_size=1, max_size=6),
    st.data(),
)
def test_one_array_in_any_way(dtype, shape, ways, data):
    tensors = [random_tensor(shape, dtype, i) for i in range(len(ways))]
    rows = data.draw(st.lists(st.integers(-len(ways), len(ways) - 1), max_size=20))
    with tempfile.TemporaryDirectory() as folder:
        paths = write_each(Path(folder), tensors, ways)
        dataset = penstock.FileDataset(folder, ids=[path.name for path in paths])
        batch = dataset.gather(rows)
        for path, tensor in zip(paths, tensors, strict=True):
            assert_same(lone_array(path), tensor)
    assert (batch.dtype, batch.shape) == (dtype, (len(rows), *shape))
    assert to_bytes(batch) == b"".join(to_bytes(tensors[row]) for row in rows)


@given(st.sampled_from(["pt", "raw", "safetensors"]), st.data(), seeds)
def test_element_types_that_only_torch_has(form, data, seed):
    dtype = data.draw(
        st.sampled_from([d for d in DTYPES[form] if d not in NUMPY_DTYPES and "x2" not in str(d)])
    )
    shape = data.draw(shapes.filter(lambda shape: form != "raw" or 0 not in shape))
    rows = [random_tensor(shape, dtype, seed + i) for i in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        for i, row in enumerate(rows):
            path = Path(folder) / f"{i}"
            path.write_bytes(to_bytes(row)) if form == "raw" else WAYS[form](path, row)
        raw = penstock.Raw(dtype, shape) if form == "raw" else None
        dataset = penstock.FileDataset(folder, ids=list("012"), raw=raw)
        for i in (2, -2, 0):
            assert_same(dataset[i], rows[i])


# several arrays --------------------------------------------------------------------------------------------


def save_named(path, arrays, suffix):
    if suffix == ".pt":
        torch.save(arrays, path)
    elif suffix == ".safetensors":
        safetensors.torch.save_file(arrays, path)
    else:
        save = np.savez if suffix == ".npz" else np.savez_compressed
        with path.open("wb") as file:
            save(file, **{name: tensor.numpy() for name, tensor in arrays.items()})


@st.composite
def dict_files(draw):
    """A list of dicts of tensors, alike in names, dtypes and shapes."""
    names = draw(
        st.lists(st.text("abcxyz_ 0色", min_size=1, max_size=5), min_size=2, max_size=4, unique=True)
    )
    kinds = {
        name: (draw(shapes), draw(st.sampled_from([d for d in NUMPY_DTYPES if not d.is_complex])))
        for name in names
    }
    count = draw(st.integers(1, 5))
    return [{name: random_tensor(*kind, i) for name, kind in kinds.items()} for i in range(count)]


@given(dict_files(), st.sampled_from([".pt", ".npz", ".npz deflated", ".safetensors"]), st.data())
def test_several_arrays_and_fields_and_labels_and_a_cache(files, suffix, data):
    names = list(files[0])
    fields = data.draw(
        st.none() | st.sampled_from(names) | st.lists(st.sampled_from(names), min_size=1, unique=True)
    )
    labels = data.draw(st.none() | st.lists(seeds, min_size=len(files), max_size=len(files)))
    rows = data.draw(st.lists(st.integers(-len(files), len(files) - 1), min_size=1, max_size=9))
    budget = data.draw(st.none() | st.integers(0, 2000))
    with tempfile.TemporaryDirectory() as folder:
        for i, arrays in enumerate(files):
            save_named(Path(folder) / f"{i}{suffix.split()[0]}", arrays, suffix)
        dataset = penstock.FileDataset(
            folder, fields=fields, labels=labels, cache="memory", cache_bytes=budget
        )
        for _ in range(2):
            assert_same(dataset.gather(rows), expected_batch(files, fields, labels, rows))


def expected_batch(files, fields, labels, rows):
    def sample(row):
        if fields is None:
            x = files[row]
        elif isinstance(fields, str):
            x = files[row][fields]
        else:
            x = tuple(files[row][name] for name in fields)
        return x if labels is None else (x, torch.tensor(labels[row]))

    return default_collate([sample(row) for row in rows])


# ids, labels, what is skipped ------------------------------------------------------------------------------

names = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: not name.startswith("."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@st.composite
def folders(draw):
    """{id: value}, none of which is a folder of another."""
    ids = draw(st.lists(paths, min_size=1, max_size=12, unique=True))
    return {name + "_": i for i, name in enumerate(ids)}


def write_values(folder, values, broken=()):
    for name, value in values.items():
        path = Path(folder) / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_npy(path, np.int64(value).reshape(()))
        if name in broken:
            path.write_bytes(b"")


def labels_as(kind, ids, values):
    labels = [-values[name] for name in ids]
    if kind == "function":
        return lambda path: -int(np.load(path))
    if kind == "mapping":
        return dict(zip(ids, labels, strict=True))
    return torch.tensor(labels) if kind == "tensor" else labels


@given(folders(), st.data(), st.sampled_from(["mapping", "list", "tensor", "function"]))
def test_labels_and_ids_belong_together_whatever_is_skipped(values, data, kind):
    some = st.lists(st.sampled_from(list(values)), unique=True)
    ids = data.draw(st.permutations(list(values)))[: data.draw(st.integers(1, len(values)))]
    broken = set(data.draw(some)) - {ids[0]}
    left = [name for name in ids if name not in broken]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        write_values(folder, values, broken)
        dataset = penstock.FileDataset(
            folder, ids=ids, suffix=".npy", labels=labels_as(kind, ids, values), on_error="skip"
        )
        x, y = dataset.gather(range(len(dataset)))
    assert dataset.ids == left
    assert x.tolist() == [values[name] for name in left] == (-y).tolist()
    assert len(dataset.skipped) == len(ids) - len(left)


@given(folders(), st.data())
def test_any_ids_of_a_folder_with_an_index(values, data):
    with tempfile.TemporaryDirectory() as folder:
        write_values(f"{folder}/data", values)
        for _ in range(3):
            ids = data.draw(st.permutations(list(values)))[: data.draw(st.integers(1, len(values)))]
            dataset = penstock.FileDataset(f"{folder}/data", ids=ids, index=f"{folder}/index", labels=values)
            assert dataset.ids == ids
            expected = [values[name] for name in ids]
            assert [part.tolist() for part in dataset.gather(range(len(ids)))] == [expected, expected]
        dataset = penstock.FileDataset(f"{folder}/data", index=f"{folder}/index")
        assert sorted(dataset.gather(range(len(values))).tolist()) == sorted(values.values())
        assert list(dataset.ids) == sorted(values, key=lambda name: f"{name}.npy".encode())


# any part, in any order, by any cache ----------------------------------------------------------------------

COUNT, WIDTH = 40, 3
_folder = tempfile.TemporaryDirectory()
VALUES = torch.arange(COUNT * WIDTH, dtype=torch.int32).view(COUNT, WIDTH)


@functools.cache
def folder_of_rows():
    for i, row in enumerate(VALUES):
        (Path(_folder.name) / f"{i:02}.bin").write_bytes(row.numpy().tobytes())
    return _folder.name


def open_rows(budget):
    return penstock.FileDataset(
        folder_of_rows(),
        raw=penstock.Raw("int32", (WIDTH,)),
        labels=range(COUNT),
        cache=None if budget is None else "memory",
        cache_bytes=budget,
    )


def pickled(dataset, numbers, chance):
    return pickle.loads(pickle.dumps(dataset)), numbers


def chosen(dataset, numbers, chance):
    indices = [chance.randrange(-len(numbers), len(numbers)) for _ in range(chance.randint(1, 60))]
    return dataset.subset(indices), [numbers[i] for i in indices]


def split(dataset, numbers, chance):
    part = penstock.random_split(dataset, [0.5, 0.5], seed=chance.randrange(99))[chance.randrange(2)]
    return (part, [numbers[i] for i in part.indices]) if len(part) else (dataset, numbers)


def doubled(dataset, numbers, chance):
    return (dataset + dataset, numbers * 2) if len(numbers) < 500 else (dataset, numbers)


def half_an_epoch(dataset, numbers, chance):
    loader = penstock.DataLoader(dataset, chance.randint(1, 9), shuffle=True, seed=chance.randrange(99))
    for _, (x, y) in zip(range(3), loader, strict=False):
        assert_same(x, VALUES[y])
    return dataset, numbers


@given(
    st.none() | st.integers(0, COUNT * WIDTH * 4 + 50),
    st.lists(st.sampled_from([pickled, chosen, split, doubled, half_an_epoch]), max_size=6),
    st.integers(1, 3),
    seeds,
)
def test_no_stack_of_datasets_gives_a_wrong_row(budget, steps, threads, seed):
    penstock.set_num_threads(threads)
    chance = random.Random(seed)
    whole = dataset = open_rows(budget)
    numbers = list(range(COUNT))
    for step in steps:
        dataset, numbers = step(dataset, numbers, chance)
        rows = [chance.randrange(-len(numbers), len(numbers)) for _ in range(20)]
        x, y = dataset.gather(rows)
        assert y.tolist() == [numbers[row] for row in rows]
        assert_same(x, VALUES[y])
    if budget is not None:
        assert whole._cache.rows_kept <= budget // (WIDTH * 4)
