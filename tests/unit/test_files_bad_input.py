"""Bad files, ids, labels and index files of a FileDataset: a sentence names them, the rest is unharmed."""

import contextlib
import errno
import os
import random
import resource
import shutil
import socket
import struct
import tempfile
import time
import warnings
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import assert_same, random_tensor
from torch.utils.data import DataLoader

import penstock
from penstock import ArgumentError, FormatError, PenstockError, SchemaError, ShardError
from penstock.datasets import folder as listing

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
ROWS = random_tensor((6, 4))


@pytest.fixture
def root(tmp_path):
    """Files 0.npy to 5.npy; 3.npy is the one that goes bad."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for i, row in enumerate(ROWS):
        np.save(folder / f"{i}.npy", row.numpy())
    return folder


@pytest.fixture
def bad(root):
    return root / "3.npy"


def assert_the_rest_is_unharmed(dataset):
    others = [5, 0, 4, 1, 2]
    for _ in range(2):
        assert_same(dataset.gather(others), ROWS[others])


# files -----------------------------------------------------------------------------------------------------


def rewrite(content):
    def make(path):
        path.write_bytes(content(path.read_bytes()))

    return make


def instead(make):
    def replace(path):
        path.unlink()
        make(path)

    return replace


def bind_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        where = os.getcwd()
        os.chdir(path.parent)  # a socket's path must be short
        try:
            server.bind(path.name)
        finally:
            os.chdir(where)


#: what happens to a file: (how, class of the error, words, are "needed" and "found" stated?)
BAD = {
    "gone": (os.unlink, ShardError, "No such file|are not there", False),
    "a dangling link": (instead(lambda p: p.symlink_to("nowhere")), ShardError, "No such|not there", False),
    "a looping link": (instead(lambda p: p.symlink_to(p.name)), ShardError, "symbolic links", False),
    "a folder": (instead(os.mkdir), ShardError, "no regular file", False),
    "a FIFO": (instead(os.mkfifo), ShardError, "no regular file", False),
    "a socket": (instead(bind_socket), ShardError, "No such device|no regular file", False),
    "empty": (rewrite(lambda _: b""), FormatError, "empty", False),
    "one byte": (rewrite(lambda data: data[:1]), FormatError, "", False),
    "cut in the header": (rewrite(lambda data: data[:100]), FormatError, "cut short", True),
    "cut in the data": (rewrite(lambda data: data[:-1]), FormatError, "cut short", True),
    "text": (rewrite(lambda _: b"not today"), FormatError, "text", False),
    "other magic": (rewrite(lambda data: b"X" + data[1:]), FormatError, "", False),
    "another shape": (lambda p: np.save(p, np.zeros(5, np.float32)), SchemaError, "disagree", True),
    "another rank": (lambda p: np.save(p, np.zeros((4, 1), np.float32)), SchemaError, "disagree", True),
    "another dtype": (lambda p: np.save(p, np.zeros(4, np.int32)), SchemaError, "disagree", True),
    "two arrays": (
        lambda p: np.savez(p.open("wb"), a=np.zeros(4), b=np.zeros(4)),
        SchemaError,
        "no such array",
        False,
    ),
    "objects": (
        lambda p: np.save(p, np.array([{}], object), allow_pickle=True),
        FormatError,
        "object|pickle",
        False,
    ),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("case", BAD)
def test_a_file_that_goes_bad_is_named_and_the_rest_is_read(root, bad, case):
    make, kind, words, states_both = BAD[case]
    dataset = penstock.FileDataset(root)
    dataset.gather([0, 3])
    make(bad)
    for _ in range(2):
        with pytest.raises(kind, match=f"(?s)^{bad}: .*row 3: .*({words})") as caught:
            dataset.gather([0, 5, 3, 1])
        assert (caught.value.path, caught.value.row) == (str(bad), 3)
        assert not states_both or (caught.value.expected and caught.value.actual)
        assert_the_rest_is_unharmed(dataset)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_when_the_dataset_is_made(root, bad, case):
    make, kind, words, states_both = BAD[case]
    make(bad)
    with pytest.raises(kind, match=f"^{bad}: .*({words})") as caught:
        penstock.FileDataset(root, ids=map(str, range(6)))
    assert caught.value.path == str(bad)
    assert not states_both or (caught.value.expected and caught.value.actual)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_skipped_and_listed(root, bad, case):
    make, _, words, _ = BAD[case]
    make(bad)
    with pytest.warns(UserWarning, match=f"1 of 6 files are left out.*{bad}: .*({words})"):
        dataset = penstock.FileDataset(root, ids=map(str, range(6)), labels=range(6), on_error="skip")
    assert [path for path, _ in dataset.skipped] == [str(bad)]
    assert_same(dataset.gather(range(5)), [ROWS[[0, 1, 2, 4, 5]], torch.tensor([0, 1, 2, 4, 5])])


def test_the_reason_for_a_skip_says_what_was_needed_and_found(root, bad):
    np.save(bad, np.zeros(5, np.float32))
    with pytest.warns(UserWarning, match=r"needed float32 of \(4,\).* found float32 of \(5,\)"):
        dataset = penstock.FileDataset(root, on_error="skip")
    assert "(5,)" in dataset.skipped[0][1]


@pytest.mark.parametrize("workers", [0, 2])
def test_after_an_error_the_loader_goes_on_with_the_next_epoch(root, bad, workers):
    dataset = penstock.FileDataset(root, labels=range(6))
    loader = DataLoader(dataset, 2, num_workers=workers, multiprocessing_context="fork" if workers else None)
    content = bad.read_bytes()
    bad.write_bytes(content[:-1])
    with pytest.raises(FormatError, match=f"{bad}: row 3: the data is cut short"):
        list(loader)
    bad.write_bytes(content)
    assert_same(torch.cat([x for x, _ in loader]), ROWS)


def test_our_loader_gives_the_batches_around_an_error(root, bad):
    bad.write_bytes(b"")
    with pytest.warns(UserWarning, match="left out"):
        dataset = penstock.FileDataset(root, on_error="skip")
    (root / "4.npy").unlink()
    walk = iter(penstock.DataLoader(dataset, 1))
    seen = []
    for _ in range(3):
        seen.append(next(walk))
    with pytest.raises(ShardError, match=r"4\.npy"):
        next(walk)
    assert_same(torch.cat(seen), ROWS[:3])


def test_a_file_that_may_not_be_read(root, bad):
    """As a user that is not root, in a child."""
    if os.geteuid() != 0:
        bad.chmod(0)
        with pytest.raises(ShardError, match="Permission denied"):
            penstock.FileDataset(root)
        return
    for folder in (root, *takewhile(lambda each: each != Path(tempfile.gettempdir()), root.parents)):
        folder.chmod(0o755)
    dataset = penstock.FileDataset(root)
    bad.chmod(0)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setuid(65534)
            with pytest.raises(ShardError, match=f"{bad}: row 3: .*Permission denied"):
                dataset.gather([3])
            assert_the_rest_is_unharmed(dataset)
            with pytest.raises(ShardError, match=f"{bad}: .*Permission denied"):
                penstock.FileDataset(root, ids=list("012345"))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


# files that are replaced -----------------------------------------------------------------------------------


def replaced(path, array, **how):
    other = path.with_suffix(".new")
    with open(other, "wb") as file:
        np.lib.format.write_array(file, array, **how)
    other.replace(path)


ZEROS = np.zeros(4, np.float32)


@pytest.mark.parametrize("in_use", [True, False])
@pytest.mark.parametrize(
    "replace",
    [
        pytest.param(lambda p: replaced(p, ZEROS), id="same size"),
        pytest.param(lambda p: replaced(p, ZEROS, version=(2, 0)), id="another header"),
        pytest.param(lambda p: replaced(p, ZEROS.astype(">f4")), id="another byte order"),
        pytest.param(lambda p: torch.save(torch.zeros(4), p), id="another format"),
        pytest.param(lambda p: np.savez(p.open("wb"), ZEROS), id="another container"),
        pytest.param(lambda p: np.savez_compressed(p.open("wb"), ZEROS), id="compressed"),
        pytest.param(lambda p: torch.save(torch.zeros(8)[::2], p), id="strided"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_file_that_was_replaced_is_read_as_it_is(root, bad, replace, in_use):
    dataset = penstock.FileDataset(root)
    if in_use:
        assert_same(dataset[3], ROWS[3])
    time.sleep(0.02)  # a change within one tick of the file system's clock has no other time
    replace(bad)
    assert_same(dataset[3], torch.zeros(4))
    assert_the_rest_is_unharmed(dataset)


def test_a_file_that_was_replaced_is_read_as_it_was_where_it_is_kept(root, bad):
    dataset = penstock.FileDataset(root, cache="memory")
    dataset.gather([3])
    replaced(bad, np.zeros(5, np.float32))
    assert_same(dataset.gather(range(6)), ROWS)


# ids -------------------------------------------------------------------------------------------------------


def test_all_missing_files_are_counted_and_ten_are_named(root):
    ids = [str(i) for i in range(6)] + [f"no-{i:02}" for i in range(25)]
    with pytest.raises(ShardError, match="25 of 31 files are not there") as caught:
        penstock.FileDataset(root, ids=ids)
    assert [f"no-{i:02}" in str(caught.value) for i in range(25)] == [True] * 10 + [False] * 15
    assert caught.value.path == str(root / "no-00.npy")
    assert caught.value.errno == errno.ENOENT


def test_with_an_index_missing_files_are_counted_too(root, tmp_path):
    with pytest.raises(ShardError, match=r"2 of 3 files are not there.*no-1\.npy.*no-2\.npy"):
        penstock.FileDataset(root, ids=["no-1", "5", "no-2"], index=tmp_path / "an.idx")


def test_ten_missing_files_at_the_front_do_not_hide_the_others(root):
    with pytest.raises(ShardError, match=r"10 of 16 files are not there"):
        penstock.FileDataset(root, ids=[f"no-{i}" for i in range(10)] + [str(i) for i in range(6)])


def test_an_id_that_is_there_twice_is_refused(root):
    with pytest.raises(SchemaError, match="2 ids are there more than once; found '1', '3'"):
        penstock.FileDataset(root, ids=["1", "3", "0", "1", "3", "3"])


@pytest.mark.parametrize("name", ["3.npy\0", "3.npy\0x"])
def test_an_id_with_a_nul_is_no_other_file(root, name):
    with pytest.raises(PenstockError):
        penstock.FileDataset(root, ids=["0", name], suffix=".npy")


@pytest.mark.parametrize(
    "ids",
    ["01", [0, 1], [b"0"], torch.arange(2)],
    ids=repr,
)
def test_ids_of_other_types_are_refused_with_a_sentence(root, ids):
    with pytest.raises(PenstockError, match="ids="):
        penstock.FileDataset(root, ids=ids)


def test_no_ids_at_all_are_refused(root):
    with pytest.raises(SchemaError, match="ids= is empty"):
        penstock.FileDataset(root, ids=[])


def test_no_ids_at_all_are_refused_with_an_index_too(root, tmp_path):
    with pytest.raises(SchemaError, match="ids= is empty"):
        penstock.FileDataset(root, ids=[], index=tmp_path / "an.idx")


def test_the_row_of_an_error_is_the_number_of_the_sample(root, bad, tmp_path):
    dataset = penstock.FileDataset(root, ids=["3", "0"], index=tmp_path / "an.idx")
    bad.unlink()
    with pytest.raises(ShardError, match="row 0:"):
        dataset.gather([0])


@pytest.mark.parametrize(
    "name", ["new\nline", "\udcff\udcfe", "色", "e\u0301", "q'uote", "%s{0}\\", "x" * 240]
)
def test_any_name_is_an_id(root, name):
    shutil.copy(root / "0.npy", root / f"{name}.npy")
    assert_same(penstock.FileDataset(root, ids=[name], labels={name: 3})[0], (ROWS[0], torch.tensor(3)))
    dataset = penstock.FileDataset(root)
    assert name in dataset.ids
    (root / f"{name}.npy").write_bytes(b"")
    with pytest.raises(FormatError, match="the file is empty") as caught:
        dataset[dataset.ids.index(name)]
    assert caught.value.path == str(root / f"{name}.npy")


def test_a_name_that_is_too_long_is_named(root):
    with pytest.raises(ShardError, match="too long"):
        penstock.FileDataset(root, ids=["0", "x" * 300])


@pytest.mark.parametrize("ids", [None, ["0"]])
def test_a_root_that_is_no_folder_is_named(root, ids):
    for path in (root / "none", root / "0.npy"):
        with pytest.raises(ShardError, match=f"^{path}"):
            penstock.FileDataset(path, ids=ids)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(SchemaError, match=f"^{tmp_path}: no data file is there"):
        penstock.FileDataset(tmp_path)


def test_where_all_is_skipped_there_is_no_dataset(root):
    with pytest.raises(SchemaError, match="no file is left"):
        penstock.FileDataset(root, ids=["a", "b"], on_error="skip")


# labels ----------------------------------------------------------------------------------------------------


def test_labels_that_miss_ids_are_named(root):
    with pytest.raises(SchemaError, match="labels= misses 2 of 3 ids; found '1', '4'"):
        penstock.FileDataset(root, ids=["1", "0", "4"], labels={"0": 3, "x": 5})


@pytest.mark.parametrize("labels", [[1, 2], torch.arange(7), torch.tensor(3), 3, []], ids=repr)
def test_labels_that_are_too_few_or_too_many_are_counted(root, labels):
    with pytest.raises(SchemaError, match="one for every file; needed 6 labels, found"):
        penstock.FileDataset(root, labels=labels)


@pytest.mark.parametrize(
    "labels",
    [
        ["cat"] * 6,
        [None] * 6,
        dict.fromkeys("012345", "cat"),
        lambda path: path.stem + "?",
        [[1], [1, 2]] * 3,
        [2**70] * 6,
        object(),
    ],
    ids=["words", "None", "a mapping to words", "a function to words", "ragged", "huge", "an object"],
)
def test_labels_that_are_no_numbers_are_refused(root, labels):
    with pytest.raises(SchemaError, match="labels must be numbers; found"):
        penstock.FileDataset(root, labels=labels)


def test_labels_beside_those_in_the_files_are_refused(tmp_path):
    np.savez(tmp_path / "0.npz", x=np.zeros(3), label=1)
    with pytest.raises(SchemaError, match="field 'label': the files hold labels"):
        penstock.FileDataset(tmp_path, labels=[1])
    assert penstock.FileDataset(tmp_path, labels=[7], fields="x").targets.tolist() == [7]


# arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"cache": "disk"},
        {"cache": True},
        {"on_error": "ignore"},
        {"on_error": "skip", "index": "x.idx"},
        {"cache": "memory", "cache_bytes": -1},
        {"cache_bytes": 10},
    ],
    ids=repr,
)
def test_arguments_that_cannot_be_are_refused(root, options):
    with pytest.raises((ArgumentError, SchemaError)):
        penstock.FileDataset(root, **options)


@pytest.mark.parametrize("fields", ["nope", ("x", "nope"), (), ("x", "x")], ids=repr)
def test_fields_that_are_not_there_are_refused(tmp_path, fields):
    np.savez(tmp_path / "0.npz", x=np.zeros(3), y=np.zeros(3))
    with pytest.raises(SchemaError, match=r"nope|fields="):
        penstock.FileDataset(tmp_path, fields=fields)


@pytest.mark.parametrize("size", [0, 7, 16])
def test_raw_files_of_another_size_are_refused(tmp_path, size):
    (tmp_path / "0.bin").write_bytes(bytes(8))
    (tmp_path / "1.bin").write_bytes(bytes(size))
    with pytest.raises((FormatError, SchemaError), match=r"1\.bin"):
        penstock.FileDataset(tmp_path, raw=penstock.Raw("uint8", (8,)))


# the index file --------------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path, root):
    """An index file of the folder, and what it holds."""
    path = tmp_path / "rows.idx"
    penstock.FileDataset(root, index=path)
    return path, path.read_bytes()


def opens_right(root, path, content):
    """Whether it was made anew, with a warning; the dataset is the right one in any case.

    What does not begin like an index may be refused, and is then left alone.
    """
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            dataset = penstock.FileDataset(root, index=path)
        except ArgumentError:
            assert content[:8] != b"PENSTIDX"
            assert path.read_bytes() == content
            return True
    assert list(dataset.ids) == list("012345")
    assert_same(dataset.gather(range(6)), ROWS)
    assert all(str(path) in str(each.message) and "made anew" in str(each.message) for each in heard)
    return bool(heard)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:-1], id="cut by a byte"),
        pytest.param(lambda data: data[:50], id="cut in the header"),
        pytest.param(lambda data: data + b"\0", id="a byte too many"),
        pytest.param(lambda data: data + bytes(8), id="eight bytes too many"),
        pytest.param(lambda data: data * 2, id="twice"),
        pytest.param(lambda data: bytes(len(data)), id="zeros"),
        pytest.param(lambda data: data[:12] + b"\x03" + data[13:], id="a later version"),
        pytest.param(lambda data: data[:8] + data[8:12][::-1] + data[12:], id="another byte order"),
        pytest.param(lambda data: data[:104] + data[104:][::-1], id="backwards"),
    ],
)
def test_a_damaged_index_is_made_anew_with_a_warning(root, index, spoil):
    path, good = index
    assert opens_right(root, path, spoil(good))
    assert path.read_bytes() == spoil(good) or not opens_right(root, path, path.read_bytes())


def test_an_index_cut_anywhere_is_refused(index):
    path, good = index
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises((FormatError, ArgumentError), match=r"rows\.idx"):
            penstock._core.FileIndex.open(os.fsencode(path))


def test_every_bit_of_one_kind_flipped_in_an_index_is_found(index):
    path, good = index
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
        with pytest.raises((FormatError, ArgumentError), match=r"rows\.idx"):
            penstock._core.FileIndex.open(os.fsencode(path))


def mutated(data, chance):
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, size = chance.randrange(len(data) + 1), chance.choice([1, 1, 8, 8, 40])
        how = chance.choice(["set", "number", "delete", "insert", "move"])
        if how == "set":
            data[at : at + size] = chance.randbytes(len(data[at : at + size]))
        elif how == "number":
            number = struct.pack("<Q", chance.choice([0, 1, 5, 7, 2**31, 2**61, 2**63, 2**64 - 1]))
            data[at // 8 * 8 : at // 8 * 8 + 8] = number
        elif how == "delete":
            del data[at : at + size]
        elif how == "insert":
            data[at:at] = bytes(size)
        else:
            data[at:at] = data[: chance.randrange(len(data) + 1)]
    return bytes(data)


def test_a_mutated_index_is_the_same_dataset_or_made_anew(root, index):
    path, good = index
    chance = random.Random(0)
    for _ in range(500):
        content = mutated(good, chance)
        assert opens_right(root, path, content) == (content != good)


@pytest.mark.parametrize("name", ["rows/3.npy", "labels.csv"])
def test_a_file_that_never_was_an_index_is_not_destroyed(root, tmp_path, name):
    (tmp_path / "labels.csv").write_text("id,label\n0,1\n")
    before = (tmp_path / name).read_bytes()
    with contextlib.suppress(PenstockError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        penstock.FileDataset(root, index=tmp_path / name)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert before in kept


def test_an_index_that_is_no_file_is_named(root, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("folder", "fifo", "none/x.idx"):
        with pytest.raises(ShardError, match=f"^{tmp_path / name}"):
            penstock.FileDataset(root, index=tmp_path / name)


def test_an_index_that_cannot_be_made_leaves_nothing_behind(root, tmp_path):
    (root / "3.npy").write_bytes(b"")
    with pytest.raises(FormatError):
        penstock.FileDataset(root, index=tmp_path / "x.idx")
    assert sorted(os.listdir(tmp_path)) == ["rows"]
    (root / "3.npy").unlink()
    penstock.FileDataset(root, index=tmp_path / "x.idx")
    assert sorted(os.listdir(tmp_path)) == ["rows", "x.idx"]


def test_ids_in_a_set_have_no_order(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(SchemaError, match="a set, which has no order"):
        penstock.FileDataset(tmp_path, ids={"a"})


def test_an_index_that_cannot_be_written_again_is_told(tmp_path, monkeypatch):
    files, index = tmp_path / "files", tmp_path / "kept" / "index"
    files.mkdir()
    index.parent.mkdir()
    np.save(files / "a.npy", np.zeros(3))
    penstock.FileDataset(files, index=index)
    np.save(files / "b.npy", np.ones(3))
    kept = index.read_bytes()
    real = listing._core.FileIndex.write

    def refused(self, path):
        real(self, b"/proc/nowhere/index")

    monkeypatch.setattr(listing._core.FileIndex, "write", refused)
    with pytest.warns(UserWarning, match="cannot be written.*out of date"):
        assert len(penstock.FileDataset(files, index=index)) == 2
    assert index.read_bytes() == kept


def test_too_many_open_files_are_no_reason_to_skip(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.save(tmp_path / "b.npy", np.zeros(3))
    real = listing.Folder.read

    def starved(self, names):
        with limited_descriptors(0):
            return real(self, names)

    monkeypatch.setattr(listing.Folder, "read", starved)
    with pytest.raises(ShardError, match="Too many open files"):
        penstock.FileDataset(tmp_path, on_error="skip", ids=["a", "b"], suffix=".npy")


@contextlib.contextmanager
def limited_descriptors(most):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# names that are not UTF-8 -----------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path):
    """Two files that disagree; the name of the first is no UTF-8."""
    first = os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.npy")
    np.save(first, np.zeros((3, 2), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((3, 3), np.float32))
    return first


@pytest.mark.parametrize("dataset", [penstock.ShardDataset, penstock.FileDataset])
def test_an_error_names_files_that_are_not_utf8(tmp_path, odd, dataset):
    with pytest.raises(SchemaError, match="disagree") as raised:
        dataset(tmp_path)
    assert odd in str(raised.value)
    assert odd in (raised.value.expected or "")


def test_files_that_disagree_with_one_that_is_not_utf8_are_left_out(tmp_path, odd):
    with pytest.warns(UserWarning, match="1 of 2 files are left out"):
        dataset = penstock.FileDataset(tmp_path, on_error="skip")
    ((path, why),) = dataset.skipped
    assert path == str(tmp_path / "b.npy")
    assert odd in why
    assert dataset.ids == ["a\udcff"]
