"""Damaged files: we make of them what the reference makes of them, or a PenstockError; never anything else.

And where we accept, the format's own library accepts, and gives the same bytes.
"""

import io
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Refused, assert_same, random_tensor, read_all, read_arrays

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:.*what is no tensor is left out:UserWarning")

OUTCOMES = ("read", "refused")
FOLDER = tempfile.TemporaryDirectory()
X, Y = random_tensor((4, 3), torch.float32), random_tensor((4, 2), torch.int16, seed=1)


def saved(save, *args, **kwargs):
    buffer = io.BytesIO()
    save(buffer, *args, **kwargs)
    return buffer.getvalue()


def torch_saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


structured = np.zeros(4, [("x", "<f4", (3,)), ("y", ">i2", (2,))])
structured["x"], structured["y"] = X, Y
FILES = {
    "npy": saved(np.save, X.numpy()),
    "npy-fortran": saved(np.save, np.asfortranarray(X.numpy())),
    "npy-structured": saved(np.save, structured),
    "npz": saved(np.savez, X.numpy(), y=Y.numpy()),
    "npz-deflated": saved(np.savez_compressed, X.numpy(), y=Y.numpy()),
    "pt": torch_saved(X),
    "pt-dict": torch_saved({"x": X, "y": Y, "step": 3}),
    "pt-views": torch_saved([X.t().contiguous().t(), X[:, 1], torch.nn.Parameter(X), Y.view(torch.uint16)]),
    "safetensors": safetensors.torch.save({"x": X, "y": Y, "z": X.half()}, metadata={"made": "today"}),
}


def library_read(form, data):
    """All arrays as the format's own library reads them: {name: tensor}."""
    if form.startswith("npz"):
        archive = np.load(io.BytesIO(data))
        names = [name.removesuffix(".npy") for name in archive.zip.namelist() if name.endswith(".npy")]
        return {name: torch.from_numpy(archive[name]) for name in names}
    if form.startswith("safetensors"):
        return safetensors.torch.load(data)
    if form.startswith("npy"):
        array = np.load(io.BytesIO(data))
        names = array.dtype.names or [None]
        parts = {name or "": array[name] if name else array for name in names}
        return {
            name: torch.from_numpy(part.astype(part.dtype.newbyteorder("="))) for name, part in parts.items()
        }
    return None  # torch.load is half of the reference


def check(form, data):
    """The rule of this file, for one damaged file.

    Returns:
        "read" or "refused"
    """
    path = Path(FOLDER.name) / "damaged"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    try:
        ours = read_all(path)
    except penstock.PenstockError as error:
        return "refused" if str(path) in str(error) else f"refused without a path: {error!r}"
    for theirs in (reference_willing(path), library_willing(form, data)):
        if theirs is not None:
            one = len(ours) == 1
            assert_same(list(ours.values()) if one else ours, list(theirs.values()) if one else dict(theirs))
    return "read"


def reference_willing(path):
    """What the reference reads; nothing where torch minds only what is no matter of the tensors' bytes.

    That is what is said of gradients, and opcodes of pickle protocols above 2.
    """
    try:
        return read_arrays(path)[1]
    except Refused as refused:
        reasons = ("require gradients", "requires_grad must be", "Unsupported operand")
        if any(reason in str(refused) for reason in reasons):
            return None
        raise


def library_willing(form, data):
    """What the library reads; nothing where it minds only what we do not look at.

    That is the CRC of stored data, which is not read to open a file, and the version of zip.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return library_read(form, data)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        if "Bad CRC-32" in str(error) or "zip file version" in str(error):
            return None
        raise


edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "insert", "delete", "double", "swap", "zero", "number"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)
NUMBERS = [0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def apply(data, edits):
    data = bytearray(data)
    for what, where, value in edits:
        at = int(where * len(data))
        if what == "flip":
            data[at : at + 1] = bytes(byte ^ (1 << value % 8) for byte in data[at : at + 1])
        elif what == "set":
            data[at : at + 1] = bytes([value])
        elif what == "insert":
            data[at:at] = bytes([value])
        elif what == "delete":
            del data[at : at + 1 + value % 9]
        elif what == "double":
            data[at:at] = data[at : at + value]
        elif what == "swap":
            data[at : at + 8] = data[at : at + 8][::-1]
        elif what == "zero":
            data[at : at + value % 33] = bytes(len(data[at : at + value % 33]))
        else:
            size = (2, 4, 8)[value % 3]
            number = NUMBERS[value % len(NUMBERS)] % 2 ** (8 * size)
            data[at : at + size] = number.to_bytes(size, "little")
    return bytes(data)


@pytest.mark.parametrize("form", FILES)
def test_the_files_are_read_before_they_are_damaged(form):
    assert check(form, FILES[form]) == "read"


@pytest.mark.parametrize("form", FILES)
@settings(max_examples=5 * settings().max_examples)
@given(edits=edits)
def test_damaged_bytes(form, edits):
    assert check(form, apply(FILES[form], edits)) in OUTCOMES


@pytest.mark.parametrize("form", FILES)
def test_every_bit_of_one_kind_flipped(form):
    data = FILES[form]
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        assert check(form, bytes(changed)) in OUTCOMES, f"byte {at}"


@pytest.mark.parametrize("form", FILES)
def test_cut_anywhere_it_is_refused(form):
    data = FILES[form]
    for size in range(len(data)):
        assert check(form, data[:size]) == "refused", f"{size} of {len(data)} bytes"


@given(
    st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x08\0\0\0\0\0\0\0{", b"\x80\x02"]),
    st.binary(),
)
def test_any_bytes_at_all(magic, data):
    assert check("any", magic + data) in OUTCOMES


@pytest.mark.parametrize("old", ["(4, 3)", "<f4", "False", "descr", "{", "}", ",", ":"])
@given(new=st.text("0123456789(),:'\"[]{}<>|=fiucbOSUVMm TrueFalsNoL-+.#\n", max_size=12))
def test_other_words_in_the_header_of_an_npy(old, new):
    assert check("npy", FILES["npy"].replace(old.encode(), new.encode().ljust(len(old)), 1)) in OUTCOMES


@pytest.mark.parametrize("old", ["[4,3]", '"F32"', "48", '"x"', '"dtype"', "data_offsets", '"today"', "}"])
@given(new=st.text('0123456789[]{},:"FIUBOLx-+.eE\\ud8nultrfase \n', max_size=12))
def test_other_words_in_the_header_of_safetensors(old, new):
    data = FILES["safetensors"]
    assert old.encode() in data
    header_bytes = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + header_bytes].replace(old.encode(), new.encode())
    assert (
        check("safetensors", len(header).to_bytes(8, "little") + header + data[8 + header_bytes :])
        in OUTCOMES
    )


@given(edits)
@settings(max_examples=5 * settings().max_examples)
def test_a_damaged_pickle_in_a_sound_archive(edits):
    """The archive is made anew around it, so that nothing but the evaluator can refuse."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(FILES["pt-views"])) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, apply(content, edits) if name.endswith("data.pkl") else content)
    assert check("pt", out.getvalue()) in OUTCOMES
