"""The floor: ordinary tensors, as numpy, torch and safetensors write them, are read equal to the byte.

Each case is read by the slow reference too, so that both are known to agree with whoever wrote the file.
"""

import io
import json
import struct
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch

import penstock
from reference import (
    ALL_DTYPES,
    DTYPES,
    FORMATS,
    NUMPY_DTYPES,
    RawRows,
    assert_same,
    random_tensor,
    read_all,
    read_arrays,
    rewrite_zip,
    write,
)

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")


def name_of(value):
    return str(value).removeprefix("torch.")


def assert_reads(path, expected, raw=None, fields=None):
    """`expected`: the one tensor of the file, or {name: tensor}."""
    _, reference = read_arrays(path, raw, fields)
    ours = read_all(path, raw, fields)
    if isinstance(expected, torch.Tensor):
        reference, ours = next(iter(reference.values())), next(iter(ours.values()))
    assert_same(reference, expected)
    assert_same(ours, expected)


def assert_reads_or_refuses(path, expected, words):
    """Either is right; a refusal must say `words`."""
    try:
        ours = read_all(path)[""]
    except penstock.FormatError as error:
        refusal = str(error)
    else:
        assert_same(ours, expected)
        return
    assert words in refusal


# every format ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "dtype"), [(f, t) for f in FORMATS for t in DTYPES[f]], ids=name_of)
def test_every_dtype_is_read(tmp_path, form, dtype):
    tensor = random_tensor((5, 2, 4), dtype)
    raw = RawRows(dtype, (2, 4)) if form == "raw" else None
    assert_reads(write(form, tmp_path / "x", tensor), tensor, raw)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("row_shape", [(), (1,), (3, 2), (3, 1, 2), (2, 2, 2, 3), (2, 1, 2, 1, 2)], ids=str)
def test_rows_of_every_rank_are_read(tmp_path, form, row_shape):
    tensor = random_tensor((6, *row_shape), torch.int16)
    raw = RawRows(torch.int16, row_shape) if form == "raw" else None
    assert_reads(write(form, tmp_path / "x", tensor), tensor, raw)


@pytest.mark.parametrize("form", FORMATS)
def test_a_shard_without_rows_is_read(tmp_path, form):
    raw = RawRows(torch.float64, (3, 2)) if form == "raw" else None
    assert_reads(
        write(form, tmp_path / "x", torch.empty(0, 3, 2, dtype=torch.float64)),
        torch.empty(0, 3, 2).double(),
        raw,
    )


@pytest.mark.parametrize("form", [f for f in FORMATS if f != "raw"])
@pytest.mark.parametrize("shape", [(5, 0), (5, 0, 3), (5, 3, 0), (0, 0)], ids=str)
def test_rows_without_elements_are_read(tmp_path, form, shape):
    assert_reads(write(form, tmp_path / "x", torch.empty(shape)), torch.empty(shape))


@pytest.mark.parametrize("form", [f for f in FORMATS if f != "raw"])
def test_a_file_is_known_by_its_bytes_not_by_its_name(tmp_path, form):
    tensor = random_tensor((5, 3))
    path = write(form, tmp_path / "x", tensor).rename(tmp_path / "x.dat")
    assert_reads(path, tensor)


# npy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NUMPY_DTYPES, ids=name_of)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_npy_in_any_order_of_elements_and_bytes(tmp_path, dtype, order, endian):
    tensor = random_tensor((5, 3, 4), dtype)
    array = tensor.numpy()
    np.save(tmp_path / "x.npy", array.astype(array.dtype.newbyteorder(endian), order=order))
    assert_reads(tmp_path / "x.npy", tensor)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=str)
def test_npy_of_every_version(tmp_path, version):
    tensor = random_tensor((5, 3))
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, tensor.numpy(), version=version)
    assert_reads(tmp_path / "x.npy", tensor)


@pytest.mark.parametrize(
    "view", [lambda x: x.T, lambda x: x[::-1], lambda x: x[1::2, ::-2], lambda x: x[:, 1]]
)
def test_npy_of_numpy_views(tmp_path, view):
    array = view(random_tensor((6, 5), torch.int32).numpy())
    np.save(tmp_path / "x.npy", array)
    assert_reads(tmp_path / "x.npy", torch.from_numpy(array.copy()))


def test_npy_with_more_bytes_after_the_data(tmp_path):
    tensor = random_tensor((5, 3))
    path = write("npy", tmp_path / "x", tensor)
    path.write_bytes(path.read_bytes() + b"trailing")
    assert_reads(path, tensor)


STRUCTURED = {
    "packed": np.dtype([("x", "<f4", (2, 3)), ("y", "<i8")]),
    "aligned": np.dtype([("x", "u1"), ("y", "f8"), ("z", "i2")], align=True),
    "big-endian": np.dtype([("x", ">u2"), ("y", ">c16"), ("z", "<f2")]),
    "gaps": np.dtype({"names": ["x", "y"], "formats": ["<i4", "?"], "offsets": [3, 12], "itemsize": 29}),
    "unicode": np.dtype([("größe", "<f4"), ("色", "u1")]),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_fields_of_a_structured_npy_are_named_arrays(tmp_path, name):
    dtype = STRUCTURED[name]
    array = np.zeros(7, dtype)
    for field in dtype.names:
        values = random_tensor(array[field].shape, torch.uint8, seed=len(field)).numpy()
        array[field] = values % 2 if array[field].dtype == bool else values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # numpy: format 3.0 is needed for the names
        np.save(tmp_path / "x.npy", array)
    native = {f: torch.from_numpy(array[f].astype(array[f].dtype.newbyteorder("="))) for f in dtype.names}
    assert_reads(tmp_path / "x.npy", native)
    second = dtype.names[1]
    assert_reads(tmp_path / "x.npy", {second: native[second]}, fields=(second,))


def test_a_field_beside_one_that_torch_cannot_hold(tmp_path):
    array = np.array([("a", 1), ("bc", 2)], dtype=[("word", "U4"), ("count", "<i4")])
    np.save(tmp_path / "x.npy", array)
    assert_reads(tmp_path / "x.npy", {"count": torch.tensor([1, 2], dtype=torch.int32)}, fields=("count",))
    with pytest.raises(penstock.FormatError, match="word"):
        penstock.ShardDataset(tmp_path / "x.npy")


def npy_with_header(header, data):
    text = header.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


ODD_HEADERS = [
    "{'shape': (4, 3), 'fortran_order': False, 'descr': '<f4'}\n",
    '{"descr": "<f4", "fortran_order": False, "shape": (4, 3)}\n',
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), }",
    "   {'descr': '<f4', 'fortran_order': False, 'shape': (4, 3,), }   \n",
    "{'descr': 'f4', 'fortran_order': False, 'shape': (4, 3)}\n",
    "{'descr': '=f4', 'fortran_order': False, 'shape': (4, 3)}\n",
    "{'descr': 'float32', 'fortran_order': False, 'shape': (4, 3)}\n",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 3L)}\n",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (0x4, 0b11)}\n",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3)} # a comment\n",
    "{'descr': '<' 'f4', 'fortran_order': False, 'shape': (4, 3)}\n",
    "{'descr': '<f8', 'descr': '<f4', 'fortran_order': False, 'shape': (4, 3)}\n",
]


@pytest.mark.parametrize("header", ODD_HEADERS)
def test_whatever_header_numpy_accepts(tmp_path, header):
    tensor = random_tensor((4, 3))
    (tmp_path / "x.npy").write_bytes(npy_with_header(header, tensor.numpy().tobytes()))
    assert_reads(tmp_path / "x.npy", tensor)


# npz -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_several_arrays(tmp_path, save):
    tensors = {f"array {i}": random_tensor((6, i), t) for i, t in enumerate(NUMPY_DTYPES, 1)}
    save(tmp_path / "x.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    assert_reads(tmp_path / "x.npz", tensors)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_in_any_order_of_elements_and_bytes(tmp_path, save):
    tensor = random_tensor((6, 5), torch.int32)
    save(tmp_path / "x.npz", fortran=np.asfortranarray(tensor.numpy()), big=tensor.numpy().astype(">i4"))
    assert_reads(tmp_path / "x.npz", {"fortran": tensor, "big": tensor})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_names_may_be_anything(tmp_path, save):
    names = ["色", "größe", "a.b", "dir/x", "with space", "x.npy"]
    tensors = {name: random_tensor((4, 2), seed=i) for i, name in enumerate(names)}
    save(tmp_path / "x.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    assert_reads(tmp_path / "x.npz", tensors)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_arrays_that_cannot_be_rows_do_no_harm_unless_asked_for(tmp_path, save):
    tensor = random_tensor((4, 2))
    objects = np.array([{}, [], None, 1], dtype=object)
    save(
        tmp_path / "x.npz", x=tensor.numpy(), version=np.int64(3), words=np.array(["a"] * 4), objects=objects
    )
    assert_same(penstock.ShardDataset(tmp_path / "x.npz", fields="x").gather(range(4)), tensor)
    for field in ("words", "objects"):
        with pytest.raises(penstock.FormatError, match=field):
            penstock.ShardDataset(tmp_path / "x.npz", fields=field)
    with pytest.raises((penstock.FormatError, penstock.SchemaError), match="version"):
        penstock.ShardDataset(tmp_path / "x.npz", fields="version")
    with pytest.raises((penstock.FormatError, penstock.SchemaError)):
        penstock.ShardDataset(tmp_path / "x.npz")


def test_npz_positional_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", np.arange(3), np.ones((3, 2)))
    assert_reads(tmp_path / "x.npz", {"arr_0": torch.arange(3), "arr_1": torch.ones(3, 2).double()})


# torch -----------------------------------------------------------------------------------------------------

VIEWS = {
    "rows from the middle": lambda x: x[2:5],
    "every second row": lambda x: x[::2],
    "a column": lambda x: x[:, 1],
    "columns": lambda x: x[:, 1:3],
    "every second column": lambda x: x[1:, ::2],
    "transposed": lambda x: x.transpose(0, 1),
    "transposed rows": lambda x: x.transpose(1, 2),
    "permuted": lambda x: x.permute(2, 0, 1),
    "permuted and cut": lambda x: x.permute(1, 2, 0)[1:, ::2],
    "one row for all": lambda x: x[:1].expand(9, -1, -1),
    "one element for all of a row": lambda x: x[:, :1, :1].expand(-1, 4, 5),
    "windows that overlap": lambda x: x.reshape(-1).unfold(0, 4, 2),
    "channels last": lambda x: x.reshape(3, 2, 4, 5).contiguous(memory_format=torch.channels_last),
    "no rows": lambda x: x[6:],
    "unsqueezed": lambda x: x[:, None, :, 1, None],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.complex128], ids=name_of)
def test_pt_of_views(tmp_path, view, dtype):
    tensor = VIEWS[view](random_tensor((6, 4, 5), dtype))
    torch.save(tensor, tmp_path / "x.pt")
    assert_reads(tmp_path / "x.pt", tensor.contiguous())


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=name_of)
def test_pt_transposed_of_every_dtype(tmp_path, dtype):
    tensor = random_tensor((3, 5, 4), dtype).transpose(0, 1)
    torch.save(tensor, tmp_path / "x.pt")
    assert_reads(tmp_path / "x.pt", tensor.contiguous())


def test_pt_tensors_that_share_a_storage(tmp_path):
    base = random_tensor((6, 5))
    tensors = {
        "all": base,
        "again": base,
        "left": base[:, :2],
        "right": base[:, 2:],
        "turned": base[:5, :5].T,
    }
    tensors = {name: tensor[:5] for name, tensor in tensors.items()}
    torch.save(tensors, tmp_path / "x.pt")
    assert_reads(tmp_path / "x.pt", {name: tensor.contiguous() for name, tensor in tensors.items()})


def with_attribute(tensor):
    tensor.origin = "somewhere"
    return tensor


DRESSED = {
    "parameter": lambda x: torch.nn.Parameter(x),
    "frozen parameter": lambda x: torch.nn.Parameter(x, requires_grad=False),
    "parameter with an attribute": lambda x: with_attribute(torch.nn.Parameter(x)),
    "requires grad": lambda x: x.requires_grad_(),
    "tensor with an attribute": with_attribute,
}


@pytest.mark.parametrize("dress", DRESSED)
def test_pt_of_tensors_in_other_clothes(tmp_path, dress):
    torch.save(DRESSED[dress](random_tensor((5, 3))), tmp_path / "x.pt")
    assert_reads(tmp_path / "x.pt", random_tensor((5, 3)))


def test_pt_buffers_are_read_or_refused(tmp_path):
    torch.save(torch.nn.Buffer(random_tensor((5, 3))), tmp_path / "x.pt")
    assert_reads_or_refuses(tmp_path / "x.pt", random_tensor((5, 3)), "Buffer")


@pytest.mark.parametrize("view", [torch.conj, torch._neg_view], ids=["conj", "neg"])
def test_pt_of_lazy_views_is_right_or_refused(tmp_path, view):
    tensor = view(torch.randn(5, 3, dtype=torch.complex64))
    torch.save(tensor, tmp_path / "x.pt")
    assert_reads_or_refuses(tmp_path / "x.pt", tensor.resolve_conj().resolve_neg(), "x.pt")


@pytest.mark.filterwarnings("ignore:.*what is no tensor is left out:UserWarning")
def test_pt_of_a_dict_with_other_things_in_it(tmp_path):
    x, y = random_tensor((5, 3)), random_tensor((5,), torch.int64)
    others = {
        "step": 3,
        "big": 10**30,
        "rate": 0.5,
        "name": "größe",
        "none": None,
        "flag": True,
        "bytes": b"\xff",
    }
    others |= {
        "list": [1, [2], ()],
        "set": {1},
        "complex": 1j,
        "dtype": torch.float32,
        "size": torch.Size([1, 2]),
    }
    others |= {"device": torch.device("cpu"), "empty": {}, "negative": -70000}
    torch.save({"x": x, **others, "y": y}, tmp_path / "x.pt")
    assert_reads(tmp_path / "x.pt", {"x": x, "y": y})


def test_pt_nested_names_are_joined_with_dots(tmp_path):
    t = [random_tensor((5, i), seed=i) for i in range(5)]
    torch.save({"a": {"b": t[0], "c": [t[1], {"d": t[2]}]}, 7: (t[3],), "e": t[4]}, tmp_path / "x.pt")
    expected = {"a.b": t[0], "a.c.0": t[1], "a.c.1.d": t[2], "7.0": t[3], "e": t[4]}
    assert_reads(tmp_path / "x.pt", expected)


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_pt_of_a_sequence_gives_tuples(tmp_path, kind, count):
    tensors = [random_tensor((5, i + 1), seed=i) for i in range(count)]
    torch.save(kind(tensors), tmp_path / "x.pt")
    dataset = penstock.ShardDataset(tmp_path / "x.pt")
    assert type(dataset[0]) is tuple
    assert_same(dataset[2], tuple(tensor[2] for tensor in tensors))
    assert_reads(tmp_path / "x.pt", {str(i): tensor for i, tensor in enumerate(tensors)})


def test_pt_of_a_state_dict(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 4))
    torch.save(module.state_dict(), tmp_path / "x.pt")
    assert_reads(tmp_path / "x.pt", {name: tensor.detach() for name, tensor in module.state_dict().items()})


@pytest.mark.parametrize("count", [300, 1001])
def test_pt_of_many_tensors(tmp_path, count):
    base = random_tensor((count + 2, 2), torch.int32)
    torch.save({f"t{i}": base[i : i + 2] for i in range(count)}, tmp_path / "x.pt")
    assert_reads(tmp_path / "x.pt", {f"t{i}": base[i : i + 2] for i in range(count)})


@pytest.mark.parametrize("option", [{"save.storage_alignment": 4096}, {"save.compute_crc32": False}], ids=str)
def test_pt_with_options_of_torch_save(tmp_path, option):
    config = pytest.importorskip("torch.utils.serialization", reason="torch before 2.7 has no options").config
    tensor = random_tensor((5, 3))
    with config.patch(option):
        torch.save({"x": tensor, "y": tensor + 1}, tmp_path / "x.pt")
    assert_reads(tmp_path / "x.pt", {"x": tensor, "y": tensor + 1})


def test_pt_written_to_a_buffer_and_to_odd_names(tmp_path):
    tensor = random_tensor((5, 3))
    buffer = io.BytesIO()
    torch.save(tensor, buffer)
    (tmp_path / "buffer.pt").write_bytes(buffer.getvalue())
    torch.save(tensor, tmp_path / "größe 色.pth")
    torch.save(tensor, tmp_path / "a.b.c.pt")
    for path in tmp_path.iterdir():
        assert_reads(path, tensor)


def test_pt_of_a_big_endian_machine_is_swapped_or_refused(tmp_path):
    tensor = random_tensor((5, 3))
    path = write("pt", tmp_path / "x", tensor)
    path.write_bytes(rewrite_zip(path.read_bytes(), {"/byteorder": b"big"}))
    assert_reads_or_refuses(path, torch.from_numpy(tensor.numpy().byteswap()), "big")


# safetensors -----------------------------------------------------------------------------------------------


def test_safetensors_of_every_dtype_together_with_metadata(tmp_path):
    tensors = {name_of(t): random_tensor((4, 6), t) for t in DTYPES["safetensors"]}
    safetensors.torch.save_file(
        tensors, tmp_path / "x.safetensors", metadata={"made": "today", "größe": "色"}
    )
    assert_reads(tmp_path / "x.safetensors", tensors)


def safetensors_file(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors_whose_data_is_not_aligned(tmp_path):
    x, y = random_tensor((3,), torch.uint8), random_tensor((3, 2), torch.float64)
    header = {
        "y": {"dtype": "F64", "shape": [3, 2], "data_offsets": [3, 51]},
        "x": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3], "note": {"more": [1.5, None]}},
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_file(header, x.numpy().tobytes() + y.numpy().tobytes()))
    assert_reads(path, {"x": x, "y": y})


def test_safetensors_six_bit_floats_do_no_harm_unless_asked_for(tmp_path):
    header = {
        "x": {"dtype": "U8", "shape": [4, 3], "data_offsets": [0, 12]},
        "y": {"dtype": "F6_E2M3", "shape": [4, 4], "data_offsets": [12, 24]},
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_file(header, bytes(range(24))))
    expected = torch.arange(12, dtype=torch.uint8).reshape(4, 3)
    assert_same(penstock.ShardDataset(path, fields="x").gather(range(4)), expected)
    with pytest.raises(penstock.FormatError, match="F6"):
        penstock.ShardDataset(path)


# raw -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint16", torch.uint16, "bfloat16", torch.float8_e5m2], ids=name_of)
@pytest.mark.parametrize("offset", [0, 1, 1024])
def test_raw_rows_after_an_offset(tmp_path, dtype, offset):
    element = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    tensor = random_tensor((7, 3), element)
    path = write("raw", tmp_path / "x", tensor)
    path.write_bytes(b"\xaa" * offset + path.read_bytes())
    assert_same(penstock.ShardDataset(path, raw=penstock.Raw(dtype, (3,), offset)).gather(range(7)), tensor)
    assert_same(penstock.ShardDataset(path, raw=penstock.Raw(dtype, (3,), offset=offset))[-1], tensor[-1])
