"""Lengths, offsets, files and arguments that cannot be: a sentence names them."""

import contextlib
import os
import pickle
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from reference import assert_same, random_tensor
from reference.ragged import batch_of, split_by
from torch.utils.data import DataLoader

import penstock
from penstock import FormatError, PenstockError, RaggedDataset, SchemaError, ShardError

VALUES = random_tensor((10, 2))
MOST = 2**63 - 1


@pytest.fixture
def folder(tmp_path):
    """Values in two files, 4 and 6."""
    np.save(tmp_path / "x0.npy", VALUES[:4].numpy())
    np.save(tmp_path / "x1.npy", VALUES[4:].numpy())
    return tmp_path


# lengths and offsets ---------------------------------------------------------------------------------------

BAD_LENGTHS = {
    "too few": ([3, 6], None, "do not sum to the number of values"),
    "too many": ([3, 8], 1, "more than there are values"),
    "none": ([], None, "do not sum"),
    "negative": ([3, -1, 8], 1, "cannot be negative"),
    "negative, and the sum is right": ([12, -2], 0, "more than there are values|negative"),
    "huge": ([MOST], 0, "more than there are values"),
    "a sum that goes round": ([MOST, MOST, 12], 0, "more than there are values"),
    "the least": ([-(2**63), 10], 0, "negative"),
    "a zero too many at the end is legal, not a one": ([10, 0, 1], 2, "more than there are values"),
}
BAD_OFFSETS = {
    "none": ([], 0, "begin with 0"),
    "not from 0": ([1, 10], 0, "begin with 0"),
    "from below 0": ([-1, 10], 0, "begin with 0"),
    "decreasing": ([0, 6, 3, 10], 1, "never decrease"),
    "beyond, and back": ([0, 99, 10], 1, "never decrease"),
    "below 0": ([0, -5, 10], 0, "never decrease"),
    "short": ([0, 4, 9], 2, "end with the number of values"),
    "long": ([0, 4, 11], 2, "end with the number of values"),
    "only 0": ([0], 0, "end with the number of values"),
    "huge": ([0, MOST], 1, "end with the number of values"),
}
CASES = [("lengths", name) for name in BAD_LENGTHS] + [("offsets", name) for name in BAD_OFFSETS]


def written(numbers, path):
    np.save(path, np.array(numbers, np.int64))
    return path


WAYS = {
    "list": lambda numbers, path: numbers,
    "tensor": lambda numbers, path: torch.tensor(numbers, dtype=torch.int64),
    "array": lambda numbers, path: np.array(numbers, np.int64),
    "file": written,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", ["memory", "file", "files"])
@pytest.mark.parametrize(("keyword", "name"), CASES)
def test_numbers_that_do_not_fit_name_field_and_row(folder, source, way, keyword, name):
    numbers, row, words = {"lengths": BAD_LENGTHS, "offsets": BAD_OFFSETS}[keyword][name]
    np.save(folder / "all.npy", VALUES.numpy())
    values = {"memory": VALUES, "file": folder / "all.npy", "files": f"{folder}/x*"}[source]
    given = {keyword: WAYS[way](numbers, folder / "numbers.npy")}
    with pytest.raises(SchemaError, match=words) as caught:
        RaggedDataset(values, **given)
    assert caught.value.field == "values"
    assert caught.value.row == row
    with pytest.raises(SchemaError, match=words) as caught:
        RaggedDataset({"z": values}, **given)
    assert caught.value.field == "z"


WRONG_KIND = {
    "floats": [4.0, 6.0],
    "bools": [True] * 10,
    "a column": [[4], [6]],
    "a number": torch.tensor(10),
    "too large": [2**70],
    "None": [None, 10],
    "words": [4, "six"],
    "complex": np.array([10 + 0j]),
    "float tensor": torch.tensor([10.0]),
    "dates": np.array([10], "M8[s]"),
}


@pytest.mark.parametrize("keyword", ["lengths", "offsets"])
@pytest.mark.parametrize("kind", WRONG_KIND)
def test_numbers_of_another_kind_are_refused(keyword, kind):
    with pytest.raises(SchemaError, match=f"{keyword} must be whole numbers") as caught:
        RaggedDataset(VALUES, **{keyword: WRONG_KIND[kind]})
    assert caught.value.field == "values"


@pytest.mark.parametrize("kind", ["floats", "bools", "a column", "float tensor"])
def test_files_of_numbers_of_another_kind_are_named(tmp_path, kind):
    np.save(tmp_path / "numbers.npy", np.asarray(WRONG_KIND[kind]))
    with pytest.raises(SchemaError, match="must be whole numbers") as caught:
        RaggedDataset(VALUES, lengths=tmp_path / "numbers.npy")
    assert caught.value.path == str(tmp_path / "numbers.npy")


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([[4], [3, 3]], id="ragged themselves"),
        pytest.param(10, id="an int"),
        pytest.param(10.5, id="a float"),
        pytest.param({4, 6}, id="a set"),
        pytest.param(torch.tensor([10]).to(torch.bfloat16), id="bfloat16"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_by_name(numbers):
    with pytest.raises(PenstockError):
        RaggedDataset(VALUES, lengths=numbers)


@pytest.mark.parametrize("values", [[[1, 2], [3]], 5, None, [1, 2, 3]], ids=str)
def test_values_of_no_kind_that_is_known_are_refused_by_name(values):
    with pytest.raises(PenstockError):
        RaggedDataset(values)


def test_unsigned_numbers_that_no_int64_holds_are_refused():
    for numbers in (np.array([2**63], np.uint64), torch.tensor([2**64 - 1, 11], dtype=torch.uint64)):
        with pytest.raises(SchemaError):
            RaggedDataset(VALUES, lengths=numbers)


def test_a_length_that_is_not_that_of_its_file_names_the_file(folder):
    for i, counts in enumerate(([2, 3], [5])):
        np.save(folder / f"n{i}.npy", np.array(counts))
    with pytest.raises(SchemaError, match="do not sum") as caught:
        RaggedDataset(f"{folder}/x*", lengths=f"{folder}/n*")
    assert caught.value.path == str(folder / "n0.npy")
    assert caught.value.expected.startswith("4")
    assert caught.value.actual == "5"


@pytest.mark.parametrize(
    ("offsets", "path"),
    [
        (([0, 2, 4], [4, 6, 10]), "n1.npy"),
        (([0, 2], [0, 6]), "n0.npy"),
        (([0, 4], [0, 7]), "n1.npy"),
        (([0, 4], []), "n1.npy"),
        (([1, 4], [0, 6]), "n0.npy"),
    ],
    ids=str,
)
def test_offsets_of_each_file_begin_and_end_with_it(folder, offsets, path):
    for i, each in enumerate(offsets):
        np.save(folder / f"n{i}.npy", np.array(each, np.int64))
    with pytest.raises(SchemaError, match="begin with 0 and end with the number of values") as caught:
        RaggedDataset(f"{folder}/x*", offsets=f"{folder}/n*")
    assert caught.value.path == str(folder / path)


@pytest.mark.parametrize("middle", [[0, 3, 2, 4], [0, -1, 4], [0, 9, 4], [0, MOST, 4]], ids=str)
def test_offsets_of_a_file_that_decrease_are_refused(folder, middle):
    np.save(folder / "n0.npy", np.array(middle))
    np.save(folder / "n1.npy", np.array([0, 6]))
    with pytest.raises(SchemaError, match="never decrease"):
        RaggedDataset(f"{folder}/x*", offsets=f"{folder}/n*")


# files -----------------------------------------------------------------------------------------------------


def test_values_that_disagree_name_both_files(tmp_path):
    for other in (np.zeros((3, 5), np.float32), np.zeros((3, 2)), np.zeros((3, 2, 1), np.float32)):
        np.save(tmp_path / "a.npy", np.zeros((2, 2), np.float32))
        np.save(tmp_path / "b.npy", other)
        for numbers in ({}, {"lengths": [5]}):
            with pytest.raises(SchemaError, match="the shards disagree") as caught:
                RaggedDataset(tmp_path, **numbers)
            assert caught.value.path == str(tmp_path / "b.npy")
            assert "a.npy" in caught.value.expected


@pytest.mark.parametrize(
    "others",
    [
        [torch.zeros(3, 5), torch.zeros(2, 4)],
        [torch.zeros(3, 5), torch.zeros(2)],
        [torch.zeros(3, 5), torch.zeros(2, 5, dtype=torch.float64)],
    ],
)
def test_lists_of_tensors_that_disagree(tmp_path, others):
    torch.save(others, tmp_path / "a.pt")
    with pytest.raises(SchemaError):
        RaggedDataset(tmp_path / "a.pt")
    with pytest.raises(SchemaError) as caught:
        RaggedDataset(others)
    assert caught.value.field == "values"
    assert "number 1" in str(caught.value)


@pytest.mark.parametrize("other", [5, "a", None, [torch.ones(2)]], ids=str)
def test_lists_of_other_things_are_refused(tmp_path, other):
    torch.save([torch.ones(3), other, torch.ones(4)], tmp_path / "a.pt")
    with pytest.raises((SchemaError, FormatError)) as caught:
        RaggedDataset(tmp_path)
    assert caught.value.path == str(tmp_path / "a.pt")


def test_an_empty_list_is_named(tmp_path):
    torch.save([], tmp_path / "a.pt")
    with pytest.raises((SchemaError, FormatError)) as caught:
        RaggedDataset(tmp_path)
    assert caught.value.path == str(tmp_path / "a.pt")


def test_numbers_without_rows_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.float32(1))
    for numbers in ({}, {"lengths": [1]}):
        with pytest.raises(SchemaError) as caught:
            RaggedDataset(tmp_path, **numbers)
        assert caught.value.path == str(tmp_path / "a.npy")
    with pytest.raises(SchemaError):
        RaggedDataset(torch.tensor(1.0), lengths=[1])


def test_several_arrays_that_nothing_tells_apart(tmp_path):
    np.savez(tmp_path / "a.npz", values=np.zeros(3), more=np.zeros(3))
    with pytest.raises(SchemaError, match="none that tells samples apart") as caught:
        RaggedDataset(tmp_path)
    assert "'values', 'more'" in caught.value.actual
    np.savez(tmp_path / "a.npz", tokens=np.zeros(3), lengths=np.array([3]))
    with pytest.raises(SchemaError):
        RaggedDataset(tmp_path)
    with pytest.raises(SchemaError, match="no such array"):
        RaggedDataset(tmp_path, fields="nothing", lengths=[3])


def test_files_of_which_one_lacks_lengths(tmp_path):
    np.savez(tmp_path / "a.npz", values=np.zeros(3), lengths=np.array([3]))
    np.savez(tmp_path / "b.npz", values=np.zeros(3), other=np.array([3]))
    with pytest.raises(SchemaError) as caught:
        RaggedDataset(tmp_path)
    assert caught.value.path == str(tmp_path / "b.npz")


def test_the_lengths_of_a_later_file_are_no_sample(tmp_path):
    np.savez(tmp_path / "a.npz", values=np.arange(4))
    np.savez(tmp_path / "b.npz", values=np.arange(3), lengths=np.array([1, 2]))
    with pytest.raises(SchemaError):
        RaggedDataset(tmp_path)


@pytest.mark.parametrize("numbers", [{}, {"lengths": [4]}], ids=["one sample a file", "lengths"])
def test_a_field_that_is_not_there_is_not_replaced_by_another(tmp_path, numbers):
    np.savez(tmp_path / "a.npz", x=np.arange(4))
    with pytest.raises(SchemaError):
        RaggedDataset(tmp_path, fields="y", **numbers)


@pytest.mark.parametrize("numbers", [{"lengths": "n*.npy"}, {"offsets": []}, {"lengths": [1, 2, 3]}], ids=str)
def test_what_is_missing_is_named(tmp_path, numbers):
    np.save(tmp_path / "a.npy", VALUES.numpy())
    for values in (
        tmp_path / "nowhere.npy",
        f"{tmp_path}/nothing*",
        [tmp_path / "a.npy", tmp_path / "b.npy"],
    ):
        with pytest.raises(PenstockError) as caught:
            RaggedDataset(values, **numbers)
        assert str(tmp_path) in str(caught.value) or "n*.npy" in str(caught.value)


CHANGES = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "no header": lambda data: data[8:],
    "zeros": lambda data: bytes(len(data)),
    "more rows": lambda data: data.replace(b"(10, 2)", b"(99, 2)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_broken_files_of_values_and_of_lengths_are_named(tmp_path, change):
    np.save(tmp_path / "x.npy", VALUES.numpy())
    np.save(tmp_path / "n.npy", np.ones((10, 2), np.int64))
    for name in ("x.npy", "n.npy"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(CHANGES[change](whole))
        with pytest.raises((FormatError, ShardError)) as caught:
            RaggedDataset(tmp_path / "x.npy", lengths=tmp_path / "n.npy")
        assert caught.value.path == str(tmp_path / name)
        (tmp_path / name).write_bytes(whole)


def test_any_bytes_are_refused_or_right(tmp_path):
    """A safetensors file of values and lengths with bytes changed: an error, or rows within the values."""
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"values": VALUES, "lengths": torch.tensor([3, 0, 7])}, path)
    good = path.read_bytes()
    chance = random.Random(0)
    for _ in range(150):
        data = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.choice([0, 255, 48, 57, 91, 93, chance.randrange(256)])
        path.write_bytes(data)
        with contextlib.suppress(PenstockError, MemoryError):
            dataset = RaggedDataset(path)
            assert dataset.lengths.min(initial=0) >= 0
            rows = [dataset[i] for i in range(len(dataset))]
            if rows:
                assert_same(dataset.gather(range(len(rows))), batch_of(rows))


@pytest.mark.parametrize("value", [-1, 2**40, 2**62, 7])
def test_lengths_in_a_file_that_were_tampered_with(tmp_path, value):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"lengths": torch.tensor([3, 0, 7]), "values": VALUES}, path)
    data = path.read_bytes()
    where = data.index(struct.pack("<q", 3) + struct.pack("<q", 0))
    path.write_bytes(data[:where] + struct.pack("<q", value) + data[where + 8 :])
    with pytest.raises(SchemaError):
        RaggedDataset(path)


@pytest.mark.parametrize("size", [0, 200, 4096])
def test_a_file_that_shrinks_is_named_and_the_rest_is_unharmed(tmp_path, size):
    values = random_tensor((4000, 5))
    for i, part in enumerate(values.split(2000)):
        np.save(tmp_path / f"{i}.npy", part.numpy())
    dataset = RaggedDataset(tmp_path, lengths=[40] * 100)
    rows = split_by(values, [40] * 100)
    dataset.gather(range(100))
    os.truncate(tmp_path / "1.npy", size)
    for use in (
        lambda: dataset.gather([0, 99, 98]),
        lambda: dataset[99],
        lambda: penstock.Collate(layout="pack")(dataset.__getitems__([99])),
        lambda: list(penstock.DataLoader(dataset, 10))[-1],
        lambda: list(DataLoader(dataset, 10))[-1],
    ):
        with pytest.raises(ShardError) as caught:
            use()
        assert caught.value.path == str(tmp_path / "1.npy")
    assert_same(dataset.gather([5, 0, 49]), batch_of([rows[i] for i in (5, 0, 49)]))


def test_batches_around_one_that_fails_arrive(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.full((4000, 5), i, np.float32))
    dataset = RaggedDataset(tmp_path, lengths=[40] * 300)
    dataset.gather(range(300))
    os.truncate(tmp_path / "1.npy", 0)
    walk = iter(penstock.DataLoader(dataset, 100))
    assert next(walk)[0].unique().tolist() == [0]
    with pytest.raises(ShardError):
        next(walk)
    assert next(walk)[0].unique().tolist() == [2]
    assert next(walk, None) is None


# arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"values": VALUES}, "need lengths= or offsets=", id="neither"),
        pytest.param({"values": VALUES, "lengths": [10], "offsets": [0, 10]}, "give one of them", id="both"),
        pytest.param(
            {"values": VALUES, "lengths": [10], "target": "y"}, "target= names no field", id="no target"
        ),
        pytest.param({"values": {}}, "fields=|maps no field", id="no fields"),
        pytest.param(
            {"values": {"x": VALUES}, "lengths": [10], "fields": "y"}, "does not", id="no such field"
        ),
        pytest.param(
            {"values": {"x": VALUES}, "lengths": [10], "fields": ()}, "one or more", id="no field chosen"
        ),
        pytest.param(
            {"values": {"x": VALUES}, "lengths": [10], "fields": ("x", "x")}, "once", id="a field twice"
        ),
        pytest.param(
            {"values": {"x": VALUES, "z": VALUES}, "lengths": {"x": [10]}}, "disagree", id="rows disagree"
        ),
        pytest.param(
            {"values": {"x": VALUES, "label": torch.arange(3)}, "lengths": [10]}, "disagree", id="labels"
        ),
        pytest.param({"values": []}, "no data file|empty list", id="nothing"),
        pytest.param(
            {"values": torch.zeros(3, 2).to_sparse(), "lengths": [3]}, "no tensor with rows", id="sparse"
        ),
        pytest.param(
            {"values": torch.zeros(3, device="meta"), "lengths": [3]}, "no tensor with rows", id="meta"
        ),
        pytest.param({"values": [torch.ones(2), "a"]}, "no tensor with rows", id="a word in a list"),
        pytest.param({"values": [torch.ones(2), None]}, "no tensor with rows", id="None in a list"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, words):
    with pytest.raises(SchemaError, match=words):
        RaggedDataset(**arguments)


@pytest.mark.parametrize("indices", [[4], [-5], [0, 99], [2**40]])
def test_rows_outside_are_index_errors(indices):
    dataset = RaggedDataset(VALUES, lengths=[4, 0, 6, 0])
    for use in (
        lambda: dataset.gather(indices),
        lambda: dataset.begin(indices),
        lambda: penstock.collate(dataset.__getitems__(indices)),
        lambda: dataset.subset(indices),
        lambda: dataset[indices[-1]],
    ):
        with pytest.raises(IndexError):
            use()


@pytest.mark.parametrize("indices", [["a"], [0.5], [None], 3.5, [[0]]], ids=str)
def test_rows_that_are_no_numbers_are_refused(indices):
    dataset = RaggedDataset(VALUES, lengths=[4, 0, 6, 0])
    with pytest.raises((SchemaError, TypeError)):
        dataset.gather(indices)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"values": [VALUES[:3], VALUES[3:]], "lengths": [5, 5]}, id="list, lengths"),
        pytest.param({"values": [VALUES[:3], VALUES[3:]], "offsets": [0, 5, 10]}, id="list, offsets"),
        pytest.param({"values": [VALUES[:3], VALUES[3:]], "lengths": [99]}, id="list, impossible"),
    ],
)
def test_lengths_that_are_given_twice_are_refused_unless_they_agree(arguments):
    with pytest.raises(SchemaError):
        RaggedDataset(**arguments)


def test_lengths_of_no_field_are_refused():
    with pytest.raises(SchemaError):
        RaggedDataset({"tokens": torch.arange(10)}, lengths={"token": [4, 6]})


def test_several_fields_of_one_source_are_refused_or_there():
    with contextlib.suppress(SchemaError):
        assert len(RaggedDataset(VALUES, lengths=[10], fields=("a", "b"))[0]) == 2


def test_errors_survive_pickling():
    with pytest.raises(SchemaError) as caught:
        RaggedDataset(VALUES, lengths=[3, -1])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.row, again.field) == (str(caught.value), 1, "values")


def test_pickles_that_were_tampered_with_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", VALUES.numpy())
    pickled = pickle.dumps(RaggedDataset(tmp_path / "x.npy", lengths=[3, 7]))
    good = np.array([0, 3, 10], np.int64).tobytes()
    assert good in pickled
    for bad in ([0, 3, 11], [1, 3, 10], [0, 11, 10], [0, -1, 10], [0, 2**62, 10]):
        with pytest.raises(PenstockError):
            pickle.loads(pickled.replace(good, np.array(bad, np.int64).tobytes()))


def test_nothing_is_printed_when_a_file_shrinks(tmp_path):
    """In a process of its own, where nothing of pytest's is in the way."""
    np.save(tmp_path / "x.npy", np.zeros((4000, 5), np.float32))
    script = f"""
import os, penstock
dataset = penstock.RaggedDataset({str(tmp_path / "x.npy")!r}, lengths=[40] * 100)
dataset.gather(range(100))
os.truncate({str(tmp_path / "x.npy")!r}, 300)
for layout in ("pad", "pack", "list"):
    try:
        penstock.Collate(layout=layout)(dataset.__getitems__(range(100)))
    except penstock.ShardError:
        pass
    else:
        raise SystemExit(layout)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
