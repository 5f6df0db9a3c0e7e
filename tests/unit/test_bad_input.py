"""Bad input: a sentence, not a crash. Each has its class and names the file, the needed and the found.

A healthy dataset is opened before every case and used after it.
"""

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from reference import assert_same, random_tensor, rewrite_zip

import penstock
from penstock import FormatError, SchemaError, ShardError

X = random_tensor((4, 3))


@pytest.fixture(autouse=True)
def healthy(tmp_path):
    """The dataset before it is unharmed."""
    (tmp_path / "healthy").mkdir()
    parts = [random_tensor((n, 3), seed=n) for n in (2, 5)]
    for i, part in enumerate(parts):
        np.save(tmp_path / "healthy" / f"{i}.npy", part.numpy())
    dataset = penstock.ShardDataset(tmp_path / "healthy")
    dataset.gather([0])
    yield dataset
    assert_same(dataset.gather(range(7)), torch.cat(parts))


def saved(save, *args, **options):
    buffer = io.BytesIO()
    save(*args, buffer, **options) if save is torch.save else save(buffer, *args, **options)
    return buffer.getvalue()


def npy(header, data=b"", version=1):
    text = header.encode("latin-1")
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack("<H" if version == 1 else "<I", len(text))
        + text
        + data
    )


def npy_of(shape, descr="'<f8'", data=bytes(64), order="False"):
    return npy(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n", data)


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="U8", shape=(4,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def zip_of(**records):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in records.items():
            archive.writestr("x/" + name.replace("__", "/").replace("_pkl", ".pkl"), content)
    return out.getvalue()


class Evil:
    """A pickle of it would run code."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


TORCH = saved(torch.save, X)
NPY = saved(np.save, X.numpy())
NPZ = saved(np.savez, x=X.numpy())
DEFLATED = saved(np.savez_compressed, x=np.zeros((400, 3)))
SAFE = safetensors({"x": entry("F32", (4, 3), (0, 48))}, X.numpy().tobytes())


def pickled(thing):
    return rewrite_zip(TORCH, {"data.pkl": pickle.dumps(thing, protocol=2)})


def pt_with(old, new):
    """A .pt whose pickle says something else."""
    with zipfile.ZipFile(io.BytesIO(TORCH)) as archive:
        content = archive.read("archive/data.pkl")
    assert content.count(old) == 1
    return rewrite_zip(TORCH, {"data.pkl": content.replace(old, new)})


def long(number):
    size = number.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + number.to_bytes(size, "little", signed=True)


def torchscript():
    class Module(torch.nn.Module):
        def forward(self, x):
            return x

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Module()), buffer)
    return buffer.getvalue()


SHAPE, STRIDE = b"K\x04K\x03\x86", b"K\x03K\x01\x86"

#: id: (content, words of the message as a pattern, are "needed" and "found" stated?)
FILES = {
    "an empty file": (b"", "empty|0 bytes", False),
    "one byte": (b"\x93", "", False),
    "text": (b"hello, this is no data\n", "", False),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", "", False),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "", False),
    "zeros": (bytes(4096), "", False),
    "a git-lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "lfs",
        False,
    ),
    "wrong magic": (b"\x93NUMPX" + NPY[6:], "", False),
    "npy: version 4": (NPY[:6] + b"\x04" + NPY[7:], "version|4", False),
    "npy: minor version 1": (NPY[:7] + b"\x01" + NPY[8:], "version|1", False),
    "npy: header longer than the file": (b"\x93NUMPY\x01\x00\xff\xff{", "header", False),
    "npy: header of 4 GiB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "header", False),
    "npy: header over 10,000 bytes": (npy("{" + " " * 10_050 + "}"), "header", False),
    "npy: header is no dict": (npy("(1, 2)\n"), "header", False),
    "npy: header is no literal": (npy("{'descr': __import__('os').system('true')}"), "literal", False),
    "npy: header is not closed": (npy("{'descr': '<f8', "), "", False),
    "npy: header nested deeply": (npy("(" * 9000), "nested", False),
    "npy: a key is missing": (npy("{'descr': '<f8', 'fortran_order': False}"), "shape|header", False),
    "npy: a key too many": (npy_of("(4,), 'more': 1"), "more|header", False),
    "npy: negative shape": (npy_of("(-2,)"), "shape|negative|-2", False),
    "npy: negative inner shape": (npy_of("(2, -1, 3)"), "shape|negative|-1", False),
    "npy: shape of 2**62 rows": (npy_of(f"({2**62}, 4)"), "large", False),
    "npy: shape of 2**63 rows": (npy_of(f"({2**63},)"), "", False),
    "npy: shape of 2**64 rows": (npy_of(f"({2**64},)"), "", False),
    "npy: shape of 10**30 rows": (npy_of(f"({10**30},)"), "", False),
    "npy: product of 2**64": (npy_of("(4294967296, 4294967296)"), "", False),
    "npy: huge shape without elements": (npy_of(f"(2, {2**62}, 0, {2**62})"), "", False),
    "npy: shape of floats": (npy_of("(2.0,)"), "whole|shape", False),
    "npy: shape of bools": (npy_of("(True,)"), "", False),
    "npy: shape is a list": (npy_of("[4]"), "shape", False),
    "npy: order is no bool": (npy_of("(4,)", order="0"), "order", False),
    "npy: unknown dtype": (npy_of("(4,)", "'<q9'"), "q9", False),
    "npy: objects": (
        saved(np.save, np.array([{}, 1], dtype=object), allow_pickle=True),
        "object|pickle",
        False,
    ),
    "npy: objects in a structure": (npy_of("(4,)", "[('a', '<f4'), ('b', '|O')]"), "object|pickle", False),
    "npy: strings": (saved(np.save, np.array(["a", "b"])), "text|string", False),
    "npy: dates": (saved(np.save, np.array(["2020-01-01"], "M8[D]")), "time|date", False),
    "npy: long doubles": (saved(np.save, np.zeros(3, np.longdouble)), "long ?double", False),
    "npy: cut payload": (NPY[:-1], "", True),
    "npy: no payload": (NPY[:128], "", True),
    "npy: a number of no dimension": (saved(np.save, np.float64(3)), "", False),
    "pt: cut": (TORCH[:-30], "", False),
    "pt: no end": (TORCH[: len(TORCH) // 2], "", False),
    "pt: bytes before it": (b"PK\3\4" + TORCH, "", False),
    "pt: deflated storage": (
        rewrite_zip(TORCH, {"data/0": X.numpy().tobytes()}, zipfile.ZIP_DEFLATED),
        "deflate|compress",
        False,
    ),
    "pt: deflated pickle": (
        rewrite_zip(TORCH, {"data.pkl": zipfile.ZipFile(io.BytesIO(TORCH)).read("archive/data.pkl")}, 8),
        "deflate|compress",
        False,
    ),
    "pt: storage too short": (rewrite_zip(TORCH, {"data/0": bytes(47)}), "48", True),
    "pt: storage too long": (rewrite_zip(TORCH, {"data/0": bytes(49)}), "48", True),
    "pt: storage missing": (rewrite_zip(TORCH, {"data/0": None}), "data/0", False),
    "pt: pickle missing": (rewrite_zip(TORCH, {"data.pkl": None}), "", False),
    "pt: pickle empty": (rewrite_zip(TORCH, {"data.pkl": b""}), "", False),
    "pt: no end of pickle": (rewrite_zip(TORCH, {"data.pkl": b"\x80\x02}q\x00"}), "", False),
    "pt: no tensor": (pickled({"a": 1, "b": [2]}), "tensor|array", False),
    "pt: TorchScript": (torchscript, "TorchScript", False),
    "pt: looks like TorchScript": (
        zip_of(data_pkl=b"\x80\x02N.", constants_pkl=b"\x80\x02)."),
        "TorchScript",
        False,
    ),
    "pt: torch.export": (zip_of(archive_format=b"pt2", models__model="{}"), "export|pt2", False),
    "pt: legacy": (saved(torch.save, X, _use_new_zipfile_serialization=False), "legacy|1\\.6|old", False),
    "pt: sparse": (saved(torch.save, torch.eye(3).to_sparse()), "sparse", False),
    "pt: meta": (saved(torch.save, torch.empty(3, device="meta")), "meta", False),
    "pt: a number of no dimension": (saved(torch.save, torch.tensor(3.0)), "", False),
    "pt: negative shape": (pt_with(SHAPE, b"J\xff\xff\xff\xffK\x03\x86"), "", False),
    "pt: negative stride": (pt_with(STRIDE, b"J\xff\xff\xff\xffK\x01\x86"), "", False),
    "pt: a shape that overflows": (pt_with(SHAPE, long(2**62) + b"K\x03\x86"), "", False),
    "pt: a shape beyond 64 bits": (pt_with(SHAPE, long(2**66) + b"K\x03\x86"), "", False),
    "pt: a stride that overflows": (pt_with(STRIDE, long(2**62) + b"K\x01\x86"), "", False),
    "pt: more rows than the storage has": (pt_with(SHAPE, b"K\x05K\x03\x86"), "", False),
    "pt: fewer strides than dimensions": (pt_with(STRIDE, b"K\x01\x85"), "", False),
    "pt: runs os.system": (pickled({"x": Evil(os.system, "true")}), "system", False),
    "pt: runs eval": (pickled([Evil(eval, "1")]), "eval", False),
    "pt: runs a class of ours": (pickled(Evil(Evil, print, "x")), "Evil", False),
    "pt: refers to itself": (rewrite_zip(TORCH, {"data.pkl": b"\x80\x02]q\x00h\x00a."}), "", False),
    "pt: nested deeply": (
        rewrite_zip(TORCH, {"data.pkl": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b"."}),
        "",
        False,
    ),
    "npz: cut": (NPZ[:-30], "", False),
    "npz: empty": (saved(np.savez), "", False),
    "npz: no arrays in it": (zip_of(readme="hello"), "", False),
    "npz: entry cut": (rewrite_zip(NPZ, {"x.npy": NPY[:-1]}), "x", True),
    "npz: entry is no npy": (rewrite_zip(NPZ, {"x.npy": b"hello"}), "x", False),
    "npz: objects": (saved(np.savez, x=np.array([{}, 1], dtype=object)), "object|pickle", False),
    "npz: bad deflate": (DEFLATED[:70] + bytes(20) + DEFLATED[90:], "", False),
    "safetensors: cut header": (SAFE[:20], "header", True),
    "safetensors: header of 2**63 bytes": (struct.pack("<Q", 2**63) + b"{}", "header", True),
    "safetensors: header of 2**64 - 1 bytes": (struct.pack("<Q", 2**64 - 1) + b"{}", "header", True),
    "safetensors: header over the limit": (struct.pack("<Q", 100_000_001) + b"{}", "header", False),
    "safetensors: no JSON": (safetensors(b"{nonsense}"), "JSON|header", False),
    "safetensors: blank before the header": (
        safetensors(b' {"x":' + json.dumps(entry()).encode() + b"}", bytes(4)),
        "",
        False,
    ),
    "safetensors: not UTF-8": (safetensors(b'{"\xff": 1}'), "", False),
    "safetensors: nested deeply": (safetensors(b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "", False),
    "safetensors: a key twice": (
        safetensors(
            b'{"x":' + json.dumps(entry()).encode() + b',"x":' + json.dumps(entry()).encode() + b"}", bytes(4)
        ),
        "x",
        False,
    ),
    "safetensors: no tensor": (safetensors({}), "", False),
    "safetensors: a hole": (safetensors({"x": entry(), "y": entry(offsets=(5, 9))}, bytes(9)), "", True),
    "safetensors: overlap": (safetensors({"x": entry(), "y": entry(offsets=(3, 7))}, bytes(7)), "", True),
    "safetensors: bytes after the last": (safetensors({"x": entry()}, bytes(5)), "", True),
    "safetensors: cut payload": (SAFE[:-1], "", True),
    "safetensors: shape and bytes disagree": (safetensors({"x": entry(shape=(5,))}, bytes(4)), "", True),
    "safetensors: negative shape": (safetensors({"x": entry(shape=(-4,))}, bytes(4)), "", False),
    "safetensors: shape of floats": (safetensors({"x": entry(shape=(4.0,))}, bytes(4)), "", False),
    "safetensors: shape that overflows": (
        safetensors({"x": entry(shape=(2**32, 2**32))}, bytes(4)),
        "",
        False,
    ),
    "safetensors: end before begin": (safetensors({"x": entry(offsets=(4, 0))}, bytes(4)), "", False),
    "safetensors: offsets of 2**63": (safetensors({"x": entry(offsets=(0, 2**63))}, bytes(4)), "", False),
    "safetensors: offsets of 2**64": (safetensors({"x": entry(offsets=(0, 2**64))}, bytes(4)), "", False),
    "safetensors: negative offsets": (safetensors({"x": entry(offsets=(-4, 0))}, bytes(4)), "", False),
    "safetensors: one offset": (safetensors({"x": entry(offsets=(0,))}, bytes(4)), "", False),
    "safetensors: unknown dtype": (safetensors({"x": entry("Q8")}, bytes(4)), "Q8", False),
    "safetensors: no dtype": (
        safetensors({"x": {"shape": [4], "data_offsets": [0, 4]}}, bytes(4)),
        "dtype",
        False,
    ),
    "safetensors: metadata of numbers": (
        safetensors({"__metadata__": {"a": 1}, "x": entry()}, bytes(4)),
        "",
        False,
    ),
    "safetensors: a number of no dimension": (
        safetensors({"x": entry(shape=(), offsets=(0, 1))}, bytes(1)),
        "",
        False,
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_is_refused_by_name(tmp_path, case):
    content, words, states_sizes = FILES[case]
    path = tmp_path / "bad.dat"
    path.write_bytes(content() if callable(content) else content)
    no_rows = "of no dimension" in case or "no tensor" in case or "npz: empty" in case or "no arrays" in case
    with pytest.raises(
        (FormatError, SchemaError) if no_rows else FormatError, match=f"(?i){words}"
    ) as caught:
        penstock.ShardDataset(path)
    error = caught.value
    assert error.path == str(path)
    assert str(path) in str(error)
    if states_sizes:
        assert error.expected in str(error)
        assert error.actual in str(error)


@pytest.mark.parametrize("form", ["npy", "npz", "deflated", "pt", "safetensors"])
def test_cut_at_every_byte_of_the_header(tmp_path, form):
    content = {"npy": NPY, "npz": NPZ, "deflated": DEFLATED, "pt": TORCH, "safetensors": SAFE}[form]
    path = tmp_path / "cut.dat"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(FormatError) as caught:
            penstock.ShardDataset(path)
        assert str(path) in str(caught.value), f"{size} of {len(content)} bytes"


def test_code_in_a_file_is_never_run(tmp_path):
    marker = tmp_path / "marker"
    evil = Evil(os.system, f"touch {marker}")
    (tmp_path / "a.pt").write_bytes(pickled({"x": evil}))
    (tmp_path / "b.pt").write_bytes(pickle.dumps(evil, protocol=2))
    np.save(tmp_path / "c.npy", np.array([evil], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "d.npz", x=np.array([evil], dtype=object))
    torch.save(evil, tmp_path / "e.pt", _use_new_zipfile_serialization=False)
    for path in tmp_path.glob("?.*"):
        with pytest.raises(FormatError):
            penstock.ShardDataset(path)
    assert not marker.exists()


def test_a_small_file_that_claims_much_allocates_little(tmp_path):
    """A deflate bomb: the declared size is the cap, and must be the true one."""
    bomb = saved(np.savez_compressed, x=np.zeros(30_000_000, np.uint8))
    (tmp_path / "x.npz").write_bytes(bomb.replace(b"'shape': (30000000,)", b"'shape': (3,)       "))
    with contextlib.suppress(FormatError):
        penstock.ShardDataset(tmp_path / "x.npz").gather([0])
    header = npy_of(f"({2**40},)", "'|u1'", b"")
    (tmp_path / "x.npz").write_bytes(rewrite_zip(bomb, {"x.npy": header}, zipfile.ZIP_DEFLATED))
    with pytest.raises(FormatError):
        penstock.ShardDataset(tmp_path / "x.npz")


# raw -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "offset"), [(11, 0), (13, 0), (12, 1), (12, 13), (12, 2**62)])
def test_raw_bytes_that_are_no_whole_rows(tmp_path, size, offset):
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(FormatError) as caught:
        penstock.ShardDataset(path, raw=penstock.Raw("int16", (3,), offset))
    assert str(path) in str(caught.value)
    assert caught.value.expected
    assert caught.value.actual


@pytest.mark.parametrize(
    "arguments",
    [("int17", (3,)), ("uint8", (-3,)), ("uint8", (2**62, 2**62)), ("uint8", (3,), -1), ("uint8", (0,))],
    ids=str,
)
def test_raw_arguments_that_make_no_rows(tmp_path, arguments):
    (tmp_path / "x.bin").write_bytes(bytes(12))
    with pytest.raises(SchemaError):
        penstock.ShardDataset(tmp_path / "x.bin", raw=penstock.Raw(*arguments))


# sources ---------------------------------------------------------------------------------------------------


def test_a_folder_with_no_data(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SchemaError, match="empty"):
        penstock.ShardDataset(tmp_path / "empty")


def test_a_pattern_that_matches_nothing(tmp_path):
    with pytest.raises(SchemaError, match=r"\*\.npy"):
        penstock.ShardDataset(str(tmp_path / "*.npy"))


@pytest.mark.parametrize("source", [[], {}, {"x": []}], ids=str)
def test_a_source_of_nothing(source):
    with pytest.raises(SchemaError):
        penstock.ShardDataset(source)


def test_a_file_that_is_missing(tmp_path):
    np.save(tmp_path / "a.npy", X.numpy())
    for source in (tmp_path / "b.npy", [tmp_path / "a.npy", tmp_path / "b.npy"], {"x": tmp_path / "b.npy"}):
        with pytest.raises(ShardError, match=r"b\.npy"):
            penstock.ShardDataset(source)


def test_a_path_that_is_no_file(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(penstock.PenstockError, match=r"folder\.npy"):
        penstock.ShardDataset([tmp_path / "folder.npy"])


@pytest.mark.timeout(20)
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(penstock.PenstockError, match=r"pipe\.npy"):
        penstock.ShardDataset([tmp_path / "pipe.npy"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    np.save(tmp_path / "x.npy", X.numpy())
    (tmp_path / "x.npy").chmod(0)
    with pytest.raises(ShardError, match=r"x\.npy"):
        penstock.ShardDataset(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "other", [torch.zeros(2, 4), torch.zeros(2, 3, 1), torch.zeros(2), torch.zeros(2, 3).half()]
)
def test_shards_that_disagree_are_both_named(tmp_path, other):
    for i, tensor in enumerate([X, X, other, X]):
        np.save(tmp_path / f"{i}.npy", tensor.numpy())
    with pytest.raises(SchemaError) as caught:
        penstock.ShardDataset(tmp_path)
    message = str(caught.value)
    assert "2.npy" in message
    assert "0.npy" in message or "1.npy" in message
    assert caught.value.expected
    assert caught.value.actual


def test_shards_with_other_fields_are_named(tmp_path):
    np.savez(tmp_path / "0.npz", x=X, y=X)
    np.savez(tmp_path / "1.npz", x=X, z=X)
    with pytest.raises(SchemaError) as caught:
        penstock.ShardDataset(tmp_path)
    assert "1.npz" in str(caught.value)
    assert "y" in str(caught.value) or "z" in str(caught.value)


def test_row_counts_that_disagree_between_fields_of_a_file(tmp_path):
    torch.save({"image": torch.zeros(5, 2), "label": torch.zeros(4)}, tmp_path / "x.pt")
    with pytest.raises(SchemaError, match=r"image.*label|label.*image") as caught:
        penstock.ShardDataset(tmp_path / "x.pt")
    assert "5" in str(caught.value)
    assert "4" in str(caught.value)


def test_row_counts_that_agree_in_sum_but_not_in_each_file(tmp_path):
    np.savez(tmp_path / "0.npz", x=X[:1], y=X[:3])
    np.savez(tmp_path / "1.npz", x=X[:3], y=X[:1])
    with pytest.raises(SchemaError, match=r"\.npz"):
        penstock.ShardDataset(tmp_path)


def test_row_counts_that_disagree_between_fields_of_a_mapping(tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((5, 2)))
    np.save(tmp_path / "label.npy", np.zeros(4))
    with pytest.raises(SchemaError, match=r"image.*label|label.*image") as caught:
        penstock.ShardDataset({"image": tmp_path / "image.npy", "label": tmp_path / "label.npy"})
    assert "5" in str(caught.value)
    assert "4" in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"fields": "z"}, {"fields": ("x", "z")}, {"fields": ()}, {"target": "z"}], ids=str
)
def test_fields_that_are_not_there(tmp_path, options):
    np.savez(tmp_path / "a.npz", x=X, y=X)
    with pytest.raises(SchemaError):
        penstock.ShardDataset(tmp_path / "a.npz", **options)


# indices and out= ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [7, -8, 2**31, 2**63 - 1, -(2**63), 2**63, 2**64, -(10**30)])
def test_an_index_out_of_range(healthy, index):
    for use in (healthy.__getitem__, lambda i: healthy.gather([0, i]), lambda i: healthy.subset([0, i])):
        with pytest.raises(IndexError):
            use(index)
    with pytest.raises(IndexError):
        list(healthy.__getitems__([0, index]))


def test_an_index_out_of_range_in_arrays(healthy):
    for indices in (
        np.array([7]),
        np.array([2**63], np.uint64),
        torch.tensor([-8]),
        range(8),
        np.array([-8], np.int8),
    ):
        with pytest.raises(IndexError):
            healthy.gather(indices)


@pytest.mark.parametrize(
    "indices",
    [
        [0.0],
        [True, False],
        ["1"],
        [None],
        [[0, 1]],
        np.array([0.0]),
        np.array([True] * 7),
        np.array([[0, 1]]),
        np.array(3),
        torch.tensor([1.0]),
        torch.tensor([True] * 7),
        torch.tensor([[0, 1]]),
        "0",
        None,
        3,
        2.5,
    ],
    ids=repr,
)
def test_indices_that_are_no_row_numbers(healthy, indices):
    for use in (healthy.gather, healthy.subset):
        with pytest.raises(SchemaError):
            use(indices)


@pytest.mark.parametrize("index", [1.0, True, "1", None, (1,), [1.0], [[1]]], ids=repr)
def test_an_index_that_is_no_row_number(healthy, index):
    with pytest.raises(SchemaError):
        healthy[index]


OUTS = {
    "too few rows": torch.zeros(2, 3),
    "too many rows": torch.zeros(4, 3),
    "another row shape": torch.zeros(3, 4),
    "another rank": torch.zeros(9),
    "another dtype": torch.zeros(3, 3, dtype=torch.float64),
    "an integer of that size": torch.zeros(3, 3, dtype=torch.int32),
    "another device": torch.zeros(3, 3, device="meta"),
    "columns of something": torch.zeros(3, 6)[:, ::2],
    "transposed": torch.zeros(3, 3).t(),
    "one row for all": torch.zeros(1, 3).expand(3, 3),
    "sparse": torch.zeros(3, 3).to_sparse(),
    "an array": np.zeros((3, 3), np.float32),
    "a tuple": (torch.zeros(3, 3),),
    "a dict": {"x": torch.zeros(3, 3)},
}


@pytest.mark.parametrize("case", OUTS)
def test_an_out_that_does_not_fit(healthy, case):
    with pytest.raises(SchemaError):
        healthy.gather([0, 1, 2], out=OUTS[case])


def test_an_out_that_does_not_fit_says_what_would(healthy):
    with pytest.raises(SchemaError) as caught:
        healthy.gather([0, 1, 2], out=torch.zeros(2, 3))
    assert "(3, 3)" in caught.value.expected
    assert "(2, 3)" in caught.value.actual


def test_an_out_is_not_touched_when_an_index_is_out_of_range(healthy):
    out = torch.full((3, 3), 7.0)
    with pytest.raises(IndexError):
        healthy.gather([0, 1, 99], out=out)
    assert (out == 7).all()


def test_outs_of_several_fields_must_have_their_structure(tmp_path):
    np.savez(tmp_path / "x.npz", a=X, b=X)
    as_dict = penstock.ShardDataset(tmp_path / "x.npz")
    as_tuple = penstock.ShardDataset(tmp_path / "x.npz", fields=("a", "b"))
    one = torch.zeros(2, 3)
    for out in ({"a": one}, {"a": one, "c": one}, {"a": one, "b": one, "c": one}, (one, one), one):
        with pytest.raises(SchemaError):
            as_dict.gather([0, 1], out=out)
    for out in ((one,), (one, one, one), {"a": one, "b": one}, one):
        with pytest.raises(SchemaError):
            as_tuple.gather([0, 1], out=out)


# datasets together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [torch.zeros(2, 4), torch.zeros(2, 3).double()], ids=["shape", "dtype"])
def test_datasets_that_disagree_cannot_be_added(tmp_path, healthy, other):
    np.save(tmp_path / "other.npy", other.numpy())
    with pytest.raises(SchemaError):
        healthy + penstock.ShardDataset(tmp_path / "other.npy")
