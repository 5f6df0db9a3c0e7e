"""What the tests compare with, and the tools they share: writers of every format, equality of bytes."""

import io
import math
import zipfile

import numpy as np
import safetensors.torch
import torch

import penstock

from .reader import RawRows, Refused, gather, read_arrays

__all__ = ["ALL_DTYPES", "DTYPES", "FORMATS", "NUMPY_DTYPES", "RawRows", "Refused", "assert_same", "concat"]
__all__ += ["gather", "named", "random_tensor", "read_all", "read_arrays", "rewrite_zip", "to_bytes", "write"]

NUMPY_DTYPES = [torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32]
NUMPY_DTYPES += [torch.uint64, torch.int64, torch.float16, torch.float32, torch.float64]
NUMPY_DTYPES += [torch.complex64, torch.complex128]
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
NEWER = [getattr(torch, name) for name in ("float8_e8m0fnu", "float4_e2m1fn_x2") if hasattr(torch, name)]
ALL_DTYPES = [*NUMPY_DTYPES, torch.bfloat16, torch.complex32, *FLOAT8, *NEWER]

#: Every format, and the element types that its own library writes.
DTYPES = {
    "npy": NUMPY_DTYPES,
    "npz": NUMPY_DTYPES,
    "npz-deflated": NUMPY_DTYPES,
    "pt": ALL_DTYPES,
    "safetensors": [t for t in ALL_DTYPES if t not in (torch.complex32, torch.complex128)],
    "raw": ALL_DTYPES,
}
FORMATS = list(DTYPES)
SUFFIX = {"npz-deflated": ".npz", "raw": ".bin"}


def random_tensor(shape, dtype=torch.float32, seed=0):
    """A tensor of random bytes (of 0 and 1 for bool): NaNs, infinities and all."""
    size = math.prod(shape) * dtype.itemsize
    data = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    return (data % 2 if dtype == torch.bool else data).view(dtype).reshape(shape)


def write(form, path, tensor):
    """Write one tensor with the format's own library.

    Returns:
        The path, with the format's suffix.
    """
    path = path.with_name(path.name + SUFFIX.get(form, "." + form))
    if form == "npy":
        np.save(path, tensor.numpy())
    elif form == "npz":
        np.savez(path, x=tensor.numpy())
    elif form == "npz-deflated":
        np.savez_compressed(path, x=tensor.numpy())
    elif form == "pt":
        torch.save(tensor, path)
    elif form == "safetensors":
        safetensors.torch.save_file({"x": tensor.contiguous()}, path)
    else:
        path.write_bytes(to_bytes(tensor))
    return path


def to_bytes(tensor):
    """A tensor's elements in row-major order."""
    plain = tensor.detach().reshape(-1).clone(memory_format=torch.contiguous_format)
    return plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def concat(tensors):
    """`torch.cat` along the rows, for element types too that torch cannot concatenate."""
    return torch.cat([tensor.view(torch.uint8) for tensor in tensors]).view(tensors[0].dtype)


def assert_same(actual, expected):
    """Equal structure; tensors equal in type, dtype, shape and every byte (NaNs too)."""
    if isinstance(expected, torch.Tensor):
        assert type(actual) is torch.Tensor, type(actual)
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        assert to_bytes(actual) == to_bytes(expected)
    elif isinstance(expected, dict):
        assert isinstance(actual, dict)
        assert set(actual) == set(expected)
        for name in expected:
            assert_same(actual[name], expected[name])
    else:
        assert isinstance(actual, (tuple, list))
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)


def named(dataset, batch):
    """A batch (or sample) of any structure as {field: tensor}."""
    if isinstance(batch, dict):
        return batch
    return dict(zip(dataset.fields, [batch] if isinstance(batch, torch.Tensor) else batch, strict=True))


def read_all(path, raw=None, fields=None):
    """A whole file by way of penstock: {field: tensor}; the only field of a tensor dataset is called ""."""
    raw = penstock.Raw(str(raw.dtype).removeprefix("torch."), raw.row_shape, raw.offset) if raw else None
    dataset = penstock.ShardDataset(path, raw=raw, fields=fields)
    batch = dataset.gather(range(len(dataset)))
    return {"": batch} if isinstance(batch, torch.Tensor) else named(dataset, batch)


def rewrite_zip(data, changes, compression=zipfile.ZIP_STORED):
    """A torch or npz archive again, with the content of some records changed.

    Args:
        data: The archive.
        changes: {the end of a record's name: its new content, or None to leave it out}.
        compression: Of the changed records; the others are stored.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content, method = old.read(name), zipfile.ZIP_STORED
            for ending, changed in changes.items():
                if name.endswith(ending):
                    content, method = changed, compression
            if content is not None:
                new.writestr(name, content, method)
    return out.getvalue()
