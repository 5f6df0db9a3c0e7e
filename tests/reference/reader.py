"""A slow, obvious reader of every format: what the native one must equal, refusals included.

Each function trusts the format's own library where there is one and adds the checks the library leaves out.
"""

import io
import itertools
import json
import math
import pickle
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch


class Refused(Exception):
    """This file, or an array that was asked for, must not be read."""


class RawRows(NamedTuple):
    """What `penstock.Raw` says, in the reference's words."""

    dtype: torch.dtype
    row_shape: tuple
    offset: int = 0


def read_arrays(path, raw=None, fields=None):
    """Read all arrays of a file, or just `fields`.

    Returns:
        ("array" | "sequence" | "mapping", {name: tensor}); the one array of a format without names is "".

    Raises:
        Refused: The file is broken, or an array that was asked for cannot be a tensor.
    """
    data = Path(path).read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            container, arrays = _read(data, raw)
    except Exception as error:
        raise Refused(f"{path}: {error!r}") from error
    chosen = {name: arrays[name] for name in (fields if fields is not None else arrays)}
    for name, array in chosen.items():
        if isinstance(array, Refused):
            raise Refused(f"{path}: {name}: {array}")
    if not chosen:
        raise Refused(f"{path}: no array in it")
    return container, chosen


def _read(data, raw):
    if raw is not None:
        return "array", {"": _raw(data, raw)}
    if data.startswith(b"\x93NUMPY"):
        return _npy(data)
    if data.startswith(b"PK\x03\x04"):
        records = _zip_records(data)
        is_torch = any(name.endswith("/data.pkl") for name in records)
        return _torch(data, records) if is_torch else _npz(records)
    return "mapping", _safetensors(data)


# raw -------------------------------------------------------------------------------------------------------


def _raw(data, raw):
    row_bytes = math.prod(raw.row_shape) * raw.dtype.itemsize
    rest = data[raw.offset :]
    if raw.offset > len(data) or row_bytes <= 0 or len(rest) % row_bytes:
        raise Refused("no whole number of rows")
    return _tensor_of(rest, raw.dtype, (len(rest) // row_bytes, *raw.row_shape))


def _tensor_of(data, dtype, shape):
    if not data:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy()).view(dtype).reshape(shape)


# npy and npz -----------------------------------------------------------------------------------------------


def _npy(data):
    array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if array.dtype.names is None:
        return "array", {"": _from_numpy(array)}
    return "mapping", {name: _from_numpy(array[name]) for name in array.dtype.names}


def _from_numpy(array):
    try:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C", copy=True))
    except TypeError as error:
        return Refused(str(error))


def _npz(records):
    arrays = {}
    for name, record in records.items():
        if not name.endswith(".npy"):
            continue
        try:
            container, parts = _npy(record.content())
            arrays[name[:-4]] = parts[""] if container == "array" else Refused("a structured array in an npz")
        except ValueError as error:
            if "Object arrays" not in str(error):
                raise
            arrays[name[:-4]] = Refused(str(error))
    return "mapping", arrays


# zip -------------------------------------------------------------------------------------------------------


class Record(NamedTuple):
    """A file in a zip archive as the central directory has it; of its own bytes nothing is checked yet."""

    archive: bytes
    directory: int
    name: bytes
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    header: int

    def span(self):
        """Where its bytes lie, from its local header, which must agree with the directory."""
        local = self.archive[self.header : self.header + 30]
        name_bytes, extra_bytes = struct.unpack("<26xHH", local)
        name = self.archive[self.header + 30 :][:name_bytes]
        begin = self.header + 30 + name_bytes + extra_bytes
        end = begin + self.compressed
        if local[:4] != b"PK\x03\x04" or end > self.directory or name != self.name:
            raise Refused(f"{self.name}: outside the archive, or called {name} there")
        if self.flags & 0x61 or self.method not in (0, 8):
            raise Refused(f"{self.name}: encrypted, patched, or compressed in another way")
        if self.method == 0 and self.compressed != self.size:
            raise Refused(f"{self.name}: stored, but of two sizes")
        return begin, end

    def content(self):
        begin, end = self.span()
        if self.method == 0:
            return self.archive[begin:end]  # its CRC is numpy's affair: no payload is read to open a file
        content = zlib.decompressobj(wbits=-15).decompress(self.archive[begin:end], max_length=self.size)
        if len(content) != self.size or zlib.crc32(content) != self.crc:
            raise Refused(f"{self.name}: inflated to something else")
        return content


def _zip_records(data):
    """{name: record}; only records that are used need be sound."""
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - 22 - 65_535), len(data) - 18)
    count, size, at = struct.unpack_from("<10xHII", data, end)
    if data[max(0, end - 20) :][:4] == b"PK\x06\x07":
        (end64,) = struct.unpack_from("<8xQ", data, end - 20)
        if data[end64:][:4] == b"PK\x06\x06":
            count, size, at = struct.unpack_from("<32xQQQ", data, end64)
    if at + size > end:
        raise Refused("no central directory")
    records, place = {}, at
    for _ in range(count):
        record, place = _zip_record(data, place, at)
        name = record.name.decode("utf-8" if record.flags & 0x800 else "cp437")
        if name in records or place > at + size:
            raise Refused("a name stands twice, or the directory is too short")
        records[name] = record
    return records


def _zip_record(data, place, directory):
    """The record whose entry in the directory is at `place`, and the place of the next."""
    header = struct.unpack_from("<4s4xHH4xIIIHHH8xI", data, place)
    signature, flags, method, crc, compressed, size, name_bytes, extra_bytes, comment_bytes, local = header
    if signature != b"PK\x01\x02":
        raise Refused("a broken central directory")
    name = data[place + 46 :][:name_bytes]
    extra = data[place + 46 + name_bytes :][:extra_bytes]
    wide = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        wide = extra[4 : 4 + length] if kind == 1 else wide
        extra = extra[4 + length :]
    sizes = []
    for narrow in (size, compressed, local):
        if narrow == 0xFFFFFFFF:
            (narrow,), wide = struct.unpack_from("<Q", wide), wide[8:]
        sizes.append(narrow)
    record = Record(data, directory, name, flags, method, crc, sizes[1], sizes[0], sizes[2])
    return record, place + 46 + name_bytes + extra_bytes + comment_bytes


# torch -----------------------------------------------------------------------------------------------------


def _torch(data, records):
    prefix = next(iter(records)).split("/")[0]
    parts = {name.removeprefix(prefix + "/"): record for name, record in records.items()}
    if "data.pkl" not in parts or "constants.pkl" in parts:
        raise Refused("no tensors: TorchScript, torch.export, or another kind of archive")
    sizes = _storage_sizes(_stored(parts["data.pkl"]))
    for key, size in sizes.items():
        if len(_stored(parts[f"data/{key}"])) != size:
            raise Refused(f"storage {key}: {size} bytes needed")
    places = sorted(parts[f"data/{key}"].span() for key in sizes)
    if any(end > begin for (_, end), (begin, _) in itertools.pairwise(places)):
        raise Refused("storages overlap")
    # torch is given an archive made anew of what matters: it minds damage to records that say nothing of
    # tensors, and of a record with the attribute of a directory it hands out whatever is in memory.
    used = ["data.pkl", "byteorder", *(f"data/{key}" for key in sizes)]
    content = torch.load(_archive_of(parts, used), weights_only=True, map_location="cpu")
    arrays = {}
    for name, leaf in _leaves(content):
        if name in arrays:
            raise Refused(f"two tensors are called {name}")
        arrays[name] = _plain(leaf)
    if isinstance(content, torch.Tensor):
        return "array", arrays
    return ("mapping" if isinstance(content, dict) else "sequence"), arrays


def _stored(record):
    if record.method != 0:
        raise Refused(f"{record.name}: compressed")
    return record.content()


def _archive_of(parts, names):
    """Some of the records in an archive without any oddity."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            if name in parts:
                archive.writestr(f"x/{name}", parts[name].content())
        archive.writestr("x/version", "3\n")
    return io.BytesIO(out.getvalue())


def _leaves(content, name=()):
    if isinstance(content, torch.Tensor):
        yield ".".join(name), content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, (*name, str(key)))
    elif isinstance(content, (list, tuple)):
        for i, value in enumerate(content):
            yield from _leaves(value, (*name, str(i)))


def _plain(tensor):
    strange = tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu"
    if strange or tensor.is_conj() or tensor.is_neg():
        return Refused("a sparse, quantized, meta, conjugate or negative tensor")
    return tensor.detach().contiguous()


class _Anything:
    """Stands for every object of a pickle that is no storage: takes any call and any state."""

    def __init__(self, *_args, **_kwargs):
        pass

    def __setstate__(self, _state):
        pass

    def __setitem__(self, _key, _value):
        pass


class _StorageName(NamedTuple):
    name: str

    def __call__(self, *_args):
        return _Anything()


_ITEM_BYTES = {"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Byte": 1, "Char": 1, "Short": 2, "Int": 4}
_ITEM_BYTES |= {"Long": 8, "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16, "Untyped": 1}
_ITEM_BYTES |= {"QInt8": 1, "QUInt8": 1, "QInt32": 4, "QUInt4x2": 1, "QUInt2x4": 1}


def _storage_sizes(pickled):
    """The bytes every storage must have, by key, as the pickle states them."""
    sizes = {}

    class Sizes(pickle.Unpickler):
        def find_class(self, module, name):
            return _StorageName(name) if name.endswith("Storage") else _Anything

        def persistent_load(self, pid):
            kind, storage, key, _location, count = pid
            size = _ITEM_BYTES[storage.name.removesuffix("Storage")] * count
            if kind != "storage" or sizes.setdefault(key, size) != size:
                raise Refused(f"storage {key} is said to be of two sizes")
            return _Anything()

    Sizes(io.BytesIO(pickled)).load()
    return sizes


# safetensors -----------------------------------------------------------------------------------------------

SAFETENSORS_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}


def _safetensors(data):
    header_bytes = int.from_bytes(data[:8], "little")
    text, payload = data[8 : 8 + header_bytes], data[8 + header_bytes :]
    if len(data) < 8 or header_bytes > 100_000_000 or len(text) != header_bytes or text[:1] != b"{":
        raise Refused("no safetensors header")
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse)
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not all(isinstance(value, str) for value in metadata.values()):
        raise Refused("metadata that is no text")
    arrays, reached = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        shape = entry["shape"]
        if (
            not all(type(n) is int and n >= 0 for n in (begin, end, *shape))
            or begin != reached
            or end < begin
        ):
            raise Refused(f"{name}: {entry}, but {reached} bytes are covered so far")
        reached = end
        arrays[name] = _safetensor(entry["dtype"], shape, payload[begin:end], end - begin)
    if reached != len(payload):
        raise Refused(f"{len(payload)} bytes of data, {reached} of them covered")
    return arrays


def _object(pairs):
    if len(dict(pairs)) != len(pairs):
        raise Refused("a key stands twice")
    return dict(pairs)


def _refuse(constant):
    raise Refused(f"{constant} is not JSON")


def _safetensor(name, shape, data, size):
    bits = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}.get(name) or SAFETENSORS_DTYPES[name].itemsize * 8
    if math.prod(shape) * bits != size * 8:
        raise Refused(f"{name} {shape} in {size} bytes")
    if name.startswith("F6_"):
        return Refused(f"{name}: torch has no six-bit floats")
    if name == "F4":
        if not shape or shape[-1] % 2:
            raise Refused("an odd number of four-bit floats")
        return _tensor_of(data, torch.float4_e2m1fn_x2, (*shape[:-1], shape[-1] // 2))
    return _tensor_of(data, SAFETENSORS_DTYPES[name], shape)


# datasets and batches --------------------------------------------------------------------------------------


def find_row(shards, row):
    """Row `row` of the given shards laid end to end."""
    if row < 0:
        row += sum(len(shard) for shard in shards)
    for shard in shards:
        if row < len(shard):
            return shard[row]
        row -= len(shard)
    raise IndexError(row)


def gather(shards, indices):
    """Row by row, then `torch.stack`."""
    rows = [find_row(shards, int(i)) for i in indices]
    return torch.stack(rows) if rows else torch.empty((0, *shards[0].shape[1:]), dtype=shards[0].dtype)
