"""ShardDataset: where it finds its files, what its samples are, and whose memory a batch is."""

import dataclasses
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import DTYPES, FORMATS, assert_same, concat, named, random_tensor, write

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")

# sources ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Three files whose sorted order is not the order they are written in; each row tells its file."""
    for name, value in (("b", 1.0), ("a10", 0.0), ("c", 3.0), ("a9", 2.0)):
        np.save(tmp_path / f"{name}.npy", np.full((2, 1), value, np.float32))
    return tmp_path


def values(dataset):
    return dataset.gather(range(len(dataset)))[:, 0].tolist()


SORTED = [0.0, 0.0, 2.0, 2.0, 1.0, 1.0, 3.0, 3.0]


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_source_may_be_a_path(folder, as_type):
    assert values(penstock.ShardDataset(as_type(folder / "b.npy"))) == [1.0, 1.0]


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_folder_is_read_in_sorted_order(folder, as_type):
    assert values(penstock.ShardDataset(as_type(folder))) == SORTED


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_pattern_is_read_in_sorted_order(folder, as_type):
    assert values(penstock.ShardDataset(as_type(folder / "*.npy"))) == SORTED
    assert values(penstock.ShardDataset(as_type(folder / "a*.npy"))) == SORTED[:4]


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_list_is_read_as_given(folder, as_type):
    paths = [as_type(folder / f"{name}.npy") for name in ("c", "a9", "c")]
    assert values(penstock.ShardDataset(paths)) == [3.0, 3.0, 2.0, 2.0, 3.0, 3.0]
    assert values(penstock.ShardDataset(tuple(paths))) == [3.0, 3.0, 2.0, 2.0, 3.0, 3.0]


def test_a_relative_path_is_remembered_whole(folder, monkeypatch):
    monkeypatch.chdir(folder)
    dataset = penstock.ShardDataset("b.npy")
    pickled = pickle.dumps(dataset)
    monkeypatch.chdir("/")
    assert values(dataset) == [1.0, 1.0]
    assert values(pickle.loads(pickled)) == [1.0, 1.0]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    np.save(tmp_path / "x[1].npy", np.ones((3, 1)))
    assert len(penstock.ShardDataset(tmp_path / "x[1].npy")) == 3


def test_a_mapping_gives_dicts(make_pair):
    images, labels = make_pair()
    dataset = penstock.ShardDataset({"image": images.folder, "label": str(labels.folder / "*.npy")})
    assert dataset.fields == ("image", "label")
    assert type(dataset[3]) is dict
    assert_same(dataset[3], {"image": images.rows[3], "label": labels.rows[3]})
    assert_same(dataset.gather([25, 0]), {"image": images.rows[[25, 0]], "label": labels.rows[[25, 0]]})


def test_a_mapping_with_fields_gives_tuples_in_that_order(make_pair):
    images, labels = make_pair()
    source = {"image": images.paths, "label": labels.paths}
    dataset = penstock.ShardDataset(source, fields=("label", "image"))
    assert dataset.fields == ("label", "image")
    assert type(dataset[3]) is tuple
    assert_same(dataset[3], (labels.rows[3], images.rows[3]))
    assert_same(penstock.ShardDataset(source, fields="label")[3], labels.rows[3])


def test_files_of_several_formats_are_one_dataset(tmp_path):
    parts = [random_tensor((n, 3), seed=n) for n in (2, 3, 4)]
    forms = ("npy", "pt", "npy")
    paths = [
        write(form, tmp_path / f"{i}", part) for i, (form, part) in enumerate(zip(forms, parts, strict=True))
    ]
    assert_same(penstock.ShardDataset(paths).gather(range(9)), concat(parts))


# samples ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_files_of_one_array_give_tensors(make_shards, form):
    shards = make_shards(form)
    dataset = shards.open()
    assert len(dataset) == 26
    assert len(dataset.fields) == 1
    for i in (0, 4, 5, 6, 25, -1, -26):
        assert_same(dataset[i], shards.rows[i])


@pytest.mark.parametrize("suffix", ["npz", "pt", "safetensors"])
def test_files_of_several_named_arrays_give_dicts(tmp_path, suffix):
    x, y = random_tensor((4, 3)), random_tensor((4,), torch.int64)
    save_named(tmp_path / f"f.{suffix}", x=x, y=y)
    dataset = penstock.ShardDataset(tmp_path / f"f.{suffix}")
    assert set(dataset.fields) == {"x", "y"}
    assert type(dataset[2]) is dict
    assert_same(dataset[2], {"x": x[2], "y": y[2]})
    assert_same(dataset.gather([3, 1]), {"x": x[[3, 1]], "y": y[[3, 1]]})


@pytest.mark.parametrize("suffix", ["npz", "pt", "safetensors"])
def test_fields_choose_a_tensor_or_a_tuple(tmp_path, suffix):
    x, y, z = random_tensor((4, 3)), random_tensor((4,), torch.int64), random_tensor((7, 2))
    save_named(tmp_path / f"f.{suffix}", x=x, y=y, z=z)  # z has other rows: of no account unless chosen
    path = tmp_path / f"f.{suffix}"
    assert_same(penstock.ShardDataset(path, fields="y")[2], y[2])
    assert penstock.ShardDataset(path, fields="y").fields == ("y",)
    dataset = penstock.ShardDataset(path, fields=("y", "x"))
    assert dataset.fields == ("y", "x")
    assert type(dataset[2]) is tuple
    assert_same(dataset[2], (y[2], x[2]))
    assert_same(dataset.gather([3, 1]), (y[[3, 1]], x[[3, 1]]))
    assert_same(penstock.ShardDataset(path, fields=("y",))[2], (y[2],))
    assert len(penstock.ShardDataset(path, fields="z")) == 7


def save_named(path, **arrays):
    if path.suffix == ".npz":
        np.savez(path, **{name: array.numpy() for name, array in arrays.items()})
    elif path.suffix == ".pt":
        torch.save(arrays, path)
    else:
        import safetensors.torch

        safetensors.torch.save_file(arrays, path)


def test_a_transform_is_called_with_each_sample(make_shards):
    shards = make_shards()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is slow may be said
        dataset = shards.open(transform=lambda sample: (sample * 2, sample.sum()))
        row = shards.rows[3]
        assert_same(dataset[3], (row * 2, row.sum()))
        assert_same(dataset.__getitems__([3, 5])[0], (row * 2, row.sum()))


# the dataset's own facts -----------------------------------------------------------------------------------


def test_a_dataset_is_a_torch_dataset(make_shards):
    dataset = make_shards().open()
    assert isinstance(dataset, torch.utils.data.Dataset)
    assert isinstance(dataset, penstock.Dataset)
    assert repr(dataset)


@pytest.mark.parametrize("form", FORMATS)
def test_the_schema_says_what_there_is(make_shards, form):
    (field,) = make_shards(form, (5, 0, 7), (2, 3), torch.int16).open().schema
    assert (field.dtype, field.shape, field.kind) == (torch.int16, (2, 3), "fixed")
    assert (field.rows, field.shards, field.bytes) == (12, 3, 12 * 2 * 3 * 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        field.rows = 3


def test_the_schema_names_its_fields_in_order(make_pair):
    images, labels = make_pair()
    dataset = penstock.ShardDataset({"image": images.paths, "label": labels.paths})
    assert isinstance(dataset.schema, tuple)
    assert [field.name for field in dataset.schema] == ["image", "label"] == list(dataset.fields)
    assert [field.shape for field in dataset.schema] == [(2, 3), ()]
    assert [field.shards for field in dataset.schema] == [5, 2]


@pytest.mark.parametrize("name", ["label", "labels", "target", "targets", "y", "class"])
def test_targets_are_found_by_their_name(make_pair, name):
    images, labels = make_pair()
    dataset = penstock.ShardDataset({"image": images.paths, name: labels.paths})
    assert isinstance(dataset.targets, np.ndarray)
    assert dataset.targets.dtype == np.int64
    assert dataset.targets.tolist() == labels.rows.tolist()


def test_targets_may_be_named(make_pair):
    images, labels = make_pair()
    dataset = penstock.ShardDataset({"image": images.paths, "digit": labels.paths}, target="digit")
    assert dataset.targets.tolist() == labels.rows.tolist()
    assert pickle.loads(pickle.dumps(dataset)).targets.tolist() == labels.rows.tolist()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.bool])
def test_targets_of_any_integers_are_int64(make_shards, dtype):
    shards = make_shards("npy", (5, 3), (), dtype)
    targets = penstock.ShardDataset({"label": shards.paths}).targets
    assert targets.dtype == np.int64
    assert targets.tolist() == shards.rows.to(torch.int64).tolist()


def test_without_labels_there_are_no_targets(make_shards):
    with pytest.raises((AttributeError, penstock.SchemaError)):
        _ = make_shards().open().targets


# subsets and sums ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_type", [list, np.array, torch.tensor])
def test_a_subset_is_native(make_pair, as_type):
    images, labels = make_pair()
    dataset = penstock.ShardDataset({"image": images.paths, "label": labels.paths})
    subset = dataset.subset(as_type([25, 3, 3, -2]))
    assert isinstance(subset, penstock.Subset)
    assert isinstance(subset, penstock.Dataset)
    assert len(subset) == 4
    assert subset.fields == dataset.fields
    assert subset.targets.tolist() == labels.rows[[25, 3, 3, -2]].tolist()
    assert [field.rows for field in subset.schema] == [4, 4]
    assert_same(subset[0], dataset[25])
    assert_same(subset.gather([-1, 0])["image"], images.rows[[-2, 25]])
    with pytest.raises(IndexError):
        subset[4]


def test_a_subset_of_a_subset(make_shards):
    shards = make_shards()
    subset = shards.open().subset(range(5, 26)).subset([2, 0, -1]).subset([1, 1])
    assert_same(subset.gather([0, 1]), shards.rows[[5, 5]])


def test_an_empty_subset(make_shards):
    subset = make_shards().open().subset([])
    assert len(subset) == 0
    assert_same(subset.gather([]), torch.empty(0, 4))
    with pytest.raises(IndexError):
        subset[0]


def test_a_sum_is_native(make_shards):
    one, other = make_shards(folder="one"), make_shards("pt", seed=1, folder="other")
    both = one.open() + other.open()
    rows = concat([one.rows, other.rows])
    assert isinstance(both, penstock.Dataset)
    assert len(both) == 52
    assert both.schema[0].rows == 52
    for i in (0, 25, 26, 51, -1, -27):
        assert_same(both[i], rows[i])
    assert_same(both.gather([51, 0, 26, 25]), rows[[51, 0, 26, 25]])


def test_a_sum_of_subsets_has_their_targets(make_pair):
    images, labels = make_pair()
    dataset = penstock.ShardDataset({"image": images.paths, "label": labels.paths})
    both = dataset.subset([1, 2]) + dataset + dataset.subset([5])
    order = [1, 2, *range(26), 5]
    assert both.targets.tolist() == labels.rows[order].tolist()
    assert_same(both.gather(range(29)), {"image": images.rows[order], "label": labels.rows[order]})


def test_a_sum_with_a_foreign_dataset_is_a_torch_sum(make_shards):
    shards = make_shards()
    both = shards.open() + torch.utils.data.TensorDataset(torch.zeros(3, 4))
    assert len(both) == 29
    assert_same(both[0], shards.rows[0])


@pytest.mark.parametrize("kind", ["shards", "subset", "sum"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_dataset_survives_pickling(make_shards, form, kind):
    shards = make_shards(form)
    dataset = shards.open()
    if kind == "subset":
        dataset = dataset.subset([25, 3])
    elif kind == "sum":
        dataset = dataset + dataset
    again = pickle.loads(pickle.dumps(dataset))
    assert type(again) is type(dataset)
    assert (len(again), again.fields, again.schema) == (len(dataset), dataset.fields, dataset.schema)
    assert again.fingerprint == dataset.fingerprint
    assert_same(again.gather(range(len(dataset))), dataset.gather(range(len(dataset))))


def test_a_pickled_field_has_the_files_it_had(tmp_path):
    for i in range(5):
        np.save(tmp_path / f"image{i}.npy", np.full((4, 2), i, np.float32))
    np.save(tmp_path / "label.npy", np.arange(20))
    dataset = penstock.ShardDataset(
        {"image": str(tmp_path / "image*.npy"), "label": str(tmp_path / "label.npy")}
    )
    again = pickle.loads(pickle.dumps(dataset))
    assert again.fingerprint == dataset.fingerprint
    assert again.targets.tolist() == list(range(20))
    mapped = Path("/proc/self/maps").read_text()
    assert str(tmp_path / "label.npy") in mapped
    assert str(tmp_path / "image") not in mapped
    loader = penstock.DataLoader(dataset, 4, shuffle=True, seed=0)
    next(iter(loader))
    penstock.DataLoader(again, 4, shuffle=True, seed=0).load_state_dict(loader.state_dict())


def test_a_pickle_carries_no_data(make_shards):
    dataset = make_shards(lengths=(1000, 1000), row_shape=(1000,)).open()
    dataset.gather(range(2000))
    assert len(pickle.dumps(dataset)) < 10_000


# gather ----------------------------------------------------------------------------------------------------


def test_no_rows_make_an_empty_batch(make_pair):
    images, labels = make_pair()
    dataset = penstock.ShardDataset({"image": images.paths, "label": labels.paths})
    for none in ([], range(0), np.array([], np.int64), torch.tensor([], dtype=torch.int64)):
        expected = {"image": torch.empty(0, 2, 3), "label": torch.empty(0, dtype=torch.int64)}
        assert_same(dataset.gather(none), expected)


def test_a_dataset_of_empty_shards_is_empty(make_shards):
    dataset = make_shards(lengths=(0, 0)).open()
    assert len(dataset) == 0
    assert_same(dataset.gather([]), torch.empty(0, 4))
    for use in (lambda: dataset[0], lambda: dataset[-1], lambda: dataset.gather([0])):
        with pytest.raises(IndexError):
            use()


def test_a_numpy_integer_is_an_index(make_shards):
    shards = make_shards()
    dataset = shards.open()
    for i in (np.int64(3), np.uint8(3), torch.tensor(3)):
        assert_same(dataset[i], shards.rows[3])


def test_a_dataset_ends_iteration_by_its_index_error(make_shards):
    shards = make_shards()
    assert_same(torch.stack(list(shards.open())), shards.rows)


def test_out_is_filled_and_returned(make_pair):
    images, labels = make_pair()
    source = {"image": images.paths, "label": labels.paths}
    out = {"image": torch.zeros(2, 2, 3), "label": torch.zeros(2, dtype=torch.int64)}
    assert penstock.ShardDataset(source).gather([7, -1], out=out) is out
    assert_same(out, {"image": images.rows[[7, -1]], "label": labels.rows[[7, -1]]})
    pair = (torch.zeros(2, dtype=torch.int64), torch.zeros(2, 2, 3))
    assert penstock.ShardDataset(source, fields=("label", "image")).gather([7, -1], out=pair) is pair
    assert_same(pair, (labels.rows[[7, -1]], images.rows[[7, -1]]))


def test_out_may_be_a_part_of_something_larger(make_shards):
    shards = make_shards()
    whole = torch.full((6, 4), 7.0)
    shards.open().gather([3, 25], out=whole[2:4])
    assert_same(whole[2:4].clone(), shards.rows[[3, 25]])
    assert (whole[:2] == 7).all()
    assert (whole[4:] == 7).all()


@pytest.mark.parametrize(("form", "dtype"), [(form, t) for form in FORMATS for t in DTYPES[form]], ids=str)
def test_out_of_any_dtype(make_shards, form, dtype):
    shards = make_shards(form, dtype=dtype)
    out = random_tensor((2, 4), dtype, seed=9)
    shards.open().gather([3, 25], out=out)
    assert_same(out, concat([shards.rows[3:4], shards.rows[25:26]]))


# whose memory it is ----------------------------------------------------------------------------------------


def test_a_sample_is_an_owned_copy(make_shards):
    shards = make_shards()
    dataset = shards.open()
    sample = dataset[3]
    assert type(sample) is torch.Tensor
    sample.zero_()
    assert_same(dataset[3], shards.rows[3])
    assert sample.untyped_storage().nbytes() <= 1024


def test_a_write_to_a_batch_reaches_no_file(make_shards):
    shards = make_shards()
    before = [path.read_bytes() for path in shards.paths]
    batch = shards.open().gather(range(26))
    batch.zero_()
    assert [path.read_bytes() for path in shards.paths] == before
    assert_same(shards.open().gather(range(26)), shards.rows)


@pytest.mark.parametrize("row_shape", [(4,), (150_000,)], ids=["small", "large"])
def test_a_batch_never_changes_under_its_owner(make_shards, row_shape):
    shards = make_shards(row_shape=row_shape, dtype=torch.uint8)
    dataset = shards.open()
    kept = []
    for i in range(200):
        rows = [i % 26, (i * 7) % 26, -1 - i % 26]
        kept.append((rows, dataset.gather(rows)))
        dataset.gather(rows)  # and one that is dropped
    for rows, batch in kept:
        assert_same(batch, shards.rows[rows])


HOLD = {
    "a slice": lambda batch: batch[2:5],
    "a row": lambda batch: batch[3],
    "a transpose": lambda batch: batch.t(),
    "other elements": lambda batch: batch.view(torch.int16),
    "an array": lambda batch: batch.numpy(),
    "a slice of an array": lambda batch: batch.numpy()[2:5],
    "a memoryview": lambda batch: memoryview(batch.numpy()),
    "dlpack": lambda batch: np.from_dlpack(batch[1:]),
    "the storage": lambda batch: torch.tensor([], dtype=batch.dtype).set_(batch.untyped_storage()),
    "detached": lambda batch: batch.detach().requires_grad_(False)[1:],
    "data of a parameter": lambda batch: torch.nn.Parameter(batch, requires_grad=False),
}


@pytest.mark.parametrize("hold", HOLD)
@pytest.mark.parametrize("row_bytes", [64, 100_000])
def test_memory_is_not_used_again_while_anything_looks_at_it(make_shards, hold, row_bytes):
    shards = make_shards(row_shape=(row_bytes,), dtype=torch.uint8)
    dataset = shards.open()
    rows = list(range(10))
    held, expected = HOLD[hold](dataset.gather(rows)), HOLD[hold](shards.rows[rows].clone())
    for _ in range(30):
        dataset.gather([25] * 10)
    assert np.asarray(held).tobytes() == np.asarray(expected).tobytes()


def test_memory_is_used_again_when_a_batch_is_dropped(make_shards):
    dataset = make_shards(row_shape=(200_000,), dtype=torch.uint8).open()
    addresses = {dataset.gather(range(26)).data_ptr() for _ in range(50)}
    assert len(addresses) <= 4


def test_a_batch_outlives_its_dataset_and_its_files(make_shards):
    shards = make_shards()
    dataset = shards.open()
    batch, sample = dataset.gather(range(26)), dataset[3]
    del dataset
    for path in shards.paths:
        os.unlink(path)
    assert_same(batch, shards.rows)
    assert_same(sample, shards.rows[3])


def test_the_fields_of_a_batch_do_not_overlap(make_pair):
    images, labels = make_pair()
    dataset = penstock.ShardDataset({"image": images.paths, "label": labels.paths})
    batch = named(dataset, dataset.gather(range(26)))
    batch["label"].fill_(-1)
    assert_same(batch["image"], images.rows)
    batch["image"].zero_()
    assert (batch["label"] == -1).all()


@pytest.mark.parametrize("name", ["float32", "float64", "complex128", "uint8"])
def test_a_batch_is_aligned_for_whoever_computes_on_it(make_shards, name):
    dataset = make_shards("npz", row_shape=(3,), dtype=getattr(torch, name)).open()
    for rows in (range(26), range(1), range(3)):
        assert dataset.gather(rows).data_ptr() % 64 == 0


# --- what a raw file is said to hold ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["uint16", torch.uint16, np.uint16, np.dtype("uint16"), np.dtype("<u2")], ids=repr
)
@pytest.mark.parametrize("shape", [(3,), 3, [np.int64(3)], np.int64(3), torch.Size([3])], ids=repr)
def test_dtypes_and_shapes_of_raw_files_may_be_said_in_any_way(tmp_path, dtype, shape):
    numbers = np.arange(12, dtype=np.uint16)
    numbers.tofile(tmp_path / "x.bin")
    dataset = penstock.ShardDataset(tmp_path / "x.bin", raw=penstock.Raw(dtype, shape))
    assert dataset.gather([3]).tolist() == [[9, 10, 11]]
    (tmp_path / "one").mkdir()
    numbers[:3].tofile(tmp_path / "one" / "0.bin")
    files = penstock.FileDataset(tmp_path / "one", raw=penstock.Raw(dtype, shape))
    assert files[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("float32", (3.0,)), r"whole numbers; found row_shape=\(3\.0,\)"),
        (("float32", "3"), "whole numbers; found row_shape='3'"),
        (("float32", 3.0), r"whole numbers; found row_shape=3\.0"),
        (("float32", None), "whole numbers; found row_shape=None"),
        (("float32", (3,), 1.5), r"whole numbers; .*offset=1\.5"),
        ((np.dtype(">f4"), (3,)), "a raw file is little-endian"),
        ((None, (3,)), "no dtype of a raw file.*found None"),
        ((object(), (3,)), "no dtype of a raw file"),
        ((np.str_, (3,)), "no such dtype"),
        (("float33", (3,)), "no such dtype; found 'float33'"),
    ],
)
def test_a_raw_file_of_what_cannot_be(tmp_path, arguments, said):
    (tmp_path / "x.bin").write_bytes(bytes(24))
    with pytest.raises(penstock.SchemaError, match=said):
        penstock.ShardDataset(tmp_path / "x.bin", raw=penstock.Raw(*arguments))
