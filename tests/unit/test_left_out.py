"""Values of .pt files that are no tensors: in no sample, and never without a word."""

import warnings
from collections import OrderedDict

import pytest
import torch

import penstock

X = torch.arange(10.0).view(5, 2)


def file_with(tmp_path, content):
    torch.save(content, tmp_path / "m.pt")
    return tmp_path / "m.pt"


def one_per_sample(tmp_path, label=1):
    for i in range(3):
        torch.save((torch.full((2,), float(i)), label), tmp_path / f"{i}.pt")
    return tmp_path


def warned(open_it):
    with pytest.warns(UserWarning, match="what is no tensor is left out") as caught:
        open_it()
    assert len(caught) == 1
    assert caught[0].filename == __file__  # where the user's own line is
    return str(caught[0].message)


def test_a_list_beside_a_tensor_is_named(tmp_path):
    path = file_with(tmp_path, {"x": X, "label": [1, 2, 3, 4, 5]})
    message = warned(lambda: penstock.ShardDataset(path))
    assert str(path) in message
    assert "'label' (list)" in message
    assert "torch.tensor(1)" in message
    assert "fields=" in message


def test_files_of_one_sample_warn_once_and_name_the_first(tmp_path):
    folder = one_per_sample(tmp_path)
    message = warned(lambda: penstock.FileDataset(folder))
    assert str(folder / "0.pt") in message
    assert "'1' (int)" in message


def test_an_index_file_warns_when_headers_are_read(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    one_per_sample(folder)
    message = warned(lambda: penstock.FileDataset(folder, index=tmp_path / "files.idx"))
    assert "'1' (int)" in message
    penstock.FileDataset(folder, index=tmp_path / "files.idx")  # reads none


def test_sequences_in_a_list_with_a_number(tmp_path):
    path = file_with(tmp_path, [torch.zeros(2), torch.zeros(3), 5])
    assert "'2' (int)" in warned(lambda: penstock.RaggedDataset(path))


def test_sequences_with_their_lengths_beside_them(tmp_path):
    path = file_with(tmp_path, {"values": torch.zeros(5), "lengths": torch.tensor([2, 3]), "made": "today"})
    assert "'made' (str)" in warned(lambda: penstock.RaggedDataset(path))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, "int"),
        (2**80, "int"),
        (0.5, "float"),
        (True, "bool"),
        ("a", "str"),
        (b"a", "bytes"),
        (bytearray(b"a"), "bytearray"),
        (1j, "complex"),
        ((1, 2), "tuple"),
        ({"a": [1]}, "dict"),
        ({1, 2}, "set"),
        (torch.float32, "dtype"),
        (torch.device("cpu"), "device"),
    ],
)
def test_every_kind_has_its_name(tmp_path, value, kind):
    path = file_with(tmp_path, {"x": X, "y": value})
    assert f"'y' ({kind})" in warned(lambda: penstock.ShardDataset(path))


def test_what_lies_deep_is_named_from_the_top(tmp_path):
    path = file_with(tmp_path, {"a": {"x": X, "lr": 0.1, "b": {"c": [1]}}, (1, 2): "odd"})
    message = warned(lambda: penstock.ShardDataset(path))
    assert "'a.lr' (float), 'a.b' (dict), '<tuple>' (str)" in message


def test_of_many_only_some_are_named(tmp_path):
    path = file_with(tmp_path, {"x": X, **{f"y{i}": i for i in range(5_000)}})
    message = warned(lambda: penstock.ShardDataset(path))
    assert message.count("(int)") == 10
    assert ", ..." in message


@pytest.mark.parametrize("nothing", [None, [], (), {}, OrderedDict(), [None, []]])
def test_what_says_nothing_is_not_worth_a_warning(tmp_path, nothing):
    """A state_dict without them is rare, and nobody misses them."""
    path = file_with(tmp_path, {"x": X, "y": nothing})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        penstock.ShardDataset(path)


def test_whoever_names_fields_is_not_warned(tmp_path):
    path = file_with(tmp_path, {"x": X, "label": [1, 2, 3, 4, 5]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        penstock.ShardDataset(path, fields="x")
        penstock.ShardDataset(path, fields=("x",))
        penstock.ShardDataset({"x": path})
        penstock.RaggedDataset(path, lengths=[2, 3], fields="x")
        penstock.FileDataset(tmp_path, fields="x")


def test_a_mapping_that_names_something_else_is(tmp_path):
    folder = one_per_sample(tmp_path)
    assert "'1' (int)" in warned(lambda: penstock.ShardDataset({"image": folder}))
    torch.save([torch.zeros(2), torch.zeros(3), 5], tmp_path / "0.pt")
    assert "'2' (int)" in warned(lambda: penstock.RaggedDataset({"x": tmp_path / "0.pt"}))


@pytest.mark.parametrize("dataset", [penstock.ShardDataset, penstock.FileDataset])
def test_asked_for_by_name_it_is_said_to_be_no_tensor(tmp_path, dataset):
    path = file_with(tmp_path, {"x": X, "label": [1, 2, 3, 4, 5]})
    with pytest.raises(penstock.SchemaError, match=r"no tensor.*list") as caught:
        dataset(path if dataset is penstock.ShardDataset else tmp_path, fields=("x", "label"))
    assert caught.value.path == str(path)
    assert caught.value.field == "label"
    with pytest.raises(penstock.SchemaError, match="no such array"):
        dataset(path if dataset is penstock.ShardDataset else tmp_path, fields="y")


def test_no_other_array_stands_in_for_it(tmp_path):
    """A lone array may have any name, but not that of something else in its file."""
    path = file_with(tmp_path, {"x": X, "label": [1, 2, 3, 4, 5]})
    with pytest.raises(penstock.SchemaError, match=r"field 'label': this value is no tensor"):
        penstock.ShardDataset({"image": path, "label": path}, fields=("image", "label"))
    with pytest.raises(penstock.SchemaError, match=r"field 'label': this value is no tensor"):
        penstock.RaggedDataset({"x": path, "label": path}, lengths=[2, 3])


def test_as_values_it_is_said_to_be_no_tensor(tmp_path):
    path = file_with(tmp_path, {"x": X, "label": [1, 2, 3, 4, 5]})
    with pytest.raises(penstock.SchemaError, match="this value is no tensor"):
        penstock.RaggedDataset(path, fields="label")
