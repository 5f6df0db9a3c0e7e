"""The error classes: what they are, what they carry, what they say; they survive a process boundary."""

import copy
import errno
import os
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from torch._utils import ExceptionWrapper

import penstock

CLASSES = {
    penstock.FormatError: ValueError,
    penstock.ShardError: OSError,
    penstock.SampleError: RuntimeError,
    penstock.SchemaError: TypeError,
}
FACTS = ("path", "field", "row", "offset", "expected", "actual", "hint")


def cut_file(tmp_path):
    path = tmp_path / "cut.npy"
    np.save(path, np.zeros((8, 4), np.float32))
    os.truncate(path, 200)
    penstock.ShardDataset(path)


def missing_file(tmp_path):
    penstock.ShardDataset(tmp_path / "nothing.npy")


def unknown_field(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3), b=np.zeros(3))
    penstock.ShardDataset(tmp_path / "x.npz", fields="c")


def failing_transform(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    penstock.ShardDataset(tmp_path / "x.npy", transform=lambda _sample: 1 / 0)[2]


RAISERS = {
    cut_file: penstock.FormatError,
    missing_file: penstock.ShardError,
    unknown_field: penstock.SchemaError,
    failing_transform: penstock.SampleError,
}


@pytest.fixture(params=RAISERS, ids=lambda raiser: raiser.__name__)
def error(request, tmp_path):
    with pytest.raises(RAISERS[request.param]) as caught:
        request.param(tmp_path)
    return caught.value


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_has_the_common_base_and_a_builtin_one(cls):
    assert issubclass(cls, penstock.PenstockError)
    assert issubclass(cls, CLASSES[cls])


@pytest.mark.parametrize("cls", [*CLASSES, penstock.PenstockError])
def test_a_class_can_be_made_from_a_message_alone(cls):
    error = cls("what went wrong")
    assert str(error) == "what went wrong"
    assert [getattr(error, fact) for fact in FACTS] == [None] * len(FACTS)


def test_every_error_has_every_fact_if_only_as_none(error):
    for fact in FACTS:
        getattr(error, fact)


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_error_survives_pickling_and_copying(error, again):
    other = again(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert [getattr(other, fact) for fact in FACTS] == [getattr(error, fact) for fact in FACTS]
    assert getattr(other, "errno", None) == getattr(error, "errno", None)


def test_an_error_keeps_its_class_and_message_through_a_dataloader_worker(error):
    with pytest.raises(type(error)) as caught:
        ExceptionWrapper((type(error), error, error.__traceback__), where="in a worker").reraise()
    assert str(error) in str(caught.value)


def test_a_cut_file_says_what_was_needed_and_what_was_found(tmp_path):
    with pytest.raises(penstock.FormatError) as caught:
        cut_file(tmp_path)
    error, path = caught.value, str(tmp_path / "cut.npy")
    assert error.path == path
    assert "256" in error.expected or "128" in error.expected
    assert "200" in error.actual or "72" in error.actual
    assert path in str(error)
    assert str(error.expected) in str(error)
    assert str(error.actual) in str(error)


def test_a_missing_file_is_an_oserror_with_its_number(tmp_path):
    with pytest.raises(OSError, match=r"nothing\.npy") as caught:
        missing_file(tmp_path)
    assert caught.value.errno == errno.ENOENT
    assert str(tmp_path / "nothing.npy") in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).errno == errno.ENOENT


def rows_of_a_kind(kind, path):
    """A dataset over 100 pages at `path`, its rows one or ten of them; and pages to a row."""
    if kind == "shards":
        np.save(path, np.zeros((100, 1024), np.float32))
        return penstock.ShardDataset(path), 1
    if kind == "ragged":
        np.save(path, np.zeros(102_400, np.float32))
        return penstock.RaggedDataset(path, lengths=[10_240] * 10), 10
    if kind == "big-endian ragged":
        np.save(path, np.zeros(102_400, ">f4"))
        return penstock.RaggedDataset(path, lengths=[10_240] * 10), 10
    if kind == "images":
        np.save(path, np.zeros((100, 64, 64), np.uint8))
        return penstock.ShardDataset(path, transform=penstock.transforms.ToTensor()), 1
    np.save(path, np.zeros((100, 1024), ">f4"))
    return penstock.ShardDataset(path), 1


@pytest.mark.parametrize("kind", ["shards", "ragged", "big-endian ragged", "images", "big-endian"])
def test_a_file_that_shrinks_names_the_field_and_the_row(tmp_path, kind):
    path = tmp_path / "x.npy"
    dataset, pages = rows_of_a_kind(kind, path)
    rows = [0, 70 // pages, 90 // pages]
    dataset.gather(rows)
    os.truncate(path, 50 * 4096)
    with pytest.raises(penstock.ShardError) as caught:
        dataset.gather(rows)
    assert (caught.value.path, caught.value.row) == (str(path), rows[1])
    assert caught.value.field is not None


def test_inflated_data_that_is_corrupt_names_the_field_and_the_first_row(tmp_path):
    for name, offset in (("a", 0), ("b", 3)):
        np.savez_compressed(tmp_path / f"{name}.npz", x=np.arange(30_000).reshape(-1, 10) + offset)
    path = tmp_path / "b.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    dataset = penstock.ShardDataset(tmp_path)
    with pytest.raises(penstock.FormatError) as caught:
        dataset.gather([0])
    assert (caught.value.path, caught.value.field, caught.value.row) == (str(path), "x", 3000)


def test_an_unknown_field_is_named_beside_those_there_are(tmp_path):
    with pytest.raises(penstock.SchemaError) as caught:
        unknown_field(tmp_path)
    message = str(caught.value)
    assert "'c'" in message
    assert "a" in message
    assert "b" in message


def test_a_failing_transform_names_the_row_and_keeps_its_cause(tmp_path):
    with pytest.raises(penstock.SampleError) as caught:
        failing_transform(tmp_path)
    assert caught.value.row == 2
    assert "2" in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "ZeroDivisionError" in str(caught.value)


def test_an_index_outside_is_an_index_error_that_names_it_and_the_length(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((17, 2)))
    dataset = penstock.ShardDataset(tmp_path / "x.npy")
    for use in (lambda: dataset[99], lambda: dataset.gather([0, 99]), lambda: dataset.subset([99])):
        with pytest.raises(IndexError, match=r"99.*17|17.*99"):
            use()


def test_paths_that_are_not_utf8_are_named(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.npy"
    with open(path, "wb") as file:
        file.write(b"nothing of ours")
    with pytest.raises(penstock.FormatError) as caught:
        penstock.ShardDataset(os.fsdecode(path))
    str(caught.value).encode("utf-8", "surrogateescape")
    pickle.loads(pickle.dumps(caught.value))


def test_errors_of_torch_are_not_swallowed(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    dataset = penstock.ShardDataset(tmp_path / "x.npy", transform=lambda sample: sample.no_such_thing)
    with pytest.raises(penstock.SampleError, match="no_such_thing"):
        dataset[0]
    assert isinstance(penstock.ShardDataset(tmp_path / "x.npy")[0], torch.Tensor)


# --- what is not there -----------------------------------------------------------------------------------


def open_images(paths):
    return penstock.ImageDataset(paths, transform=penstock.transforms.ToTensor())[1]


ABSENT = {
    "a shard": lambda folder: penstock.ShardDataset(folder / "x.npy"),
    "a shard among others": lambda folder: penstock.ShardDataset([folder / "there.npy", folder / "x.npy"]),
    "a folder": lambda folder: penstock.FileDataset(folder / "nope"),
    "files of ids": lambda folder: penstock.FileDataset(folder, ids=["there", "nope"], suffix=".npy"),
    "sequences": lambda folder: penstock.RaggedDataset(folder / "x.npy"),
    "tokens": lambda folder: penstock.TokenDataset(folder / "x.bin", dtype="uint16", block_size=2),
    "an image": lambda folder: open_images([folder / "there.png", folder / "nope.png"]),
    "an archive": lambda folder: penstock.ImageDataset(folder / "nope.tar"),
    "an archive, with an index": lambda folder: penstock.ImageDataset(
        folder / "nope.tar", index=folder / "nope.idx"
    ),
    "a pack": lambda folder: penstock.Packed(folder / "nope"),
    "what is to be packed": lambda folder: penstock.pack(folder / "nope", folder / "to"),
}


@pytest.mark.parametrize("open_it", ABSENT.values(), ids=ABSENT)
def test_what_is_not_there_is_a_missing_file(tmp_path, open_it):
    np.save(tmp_path / "there.npy", np.zeros(3))
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "there.png")
    with pytest.raises(penstock.MissingFileError, match=r"nope|x\.npy|x\.bin") as caught:
        open_it(tmp_path)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, penstock.ShardError)
    assert caught.value.errno in (errno.ENOENT, None)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (penstock.MissingFileError, str(caught.value))


def test_what_cannot_be_read_for_another_reason_is_no_missing_file(tmp_path):
    with pytest.raises(penstock.ShardError) as caught:
        penstock.ShardDataset(tmp_path.parent / tmp_path.name / ("n" * 300 + ".npy"))
    assert not isinstance(caught.value, FileNotFoundError)
