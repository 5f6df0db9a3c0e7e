"""`pack`: what is in the files, what is refused, and what a pack goes through."""

import errno
import fcntl
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from reference import NUMPY_DTYPES, assert_same, random_tensor
from safetensors.torch import load_file
from typer.testing import CliRunner

import penstock
from penstock import cli, progress
from penstock.pack import Packed, disk, pack, running, shard, sources
from penstock.pack.plan import cuts, folders_for

FORMATS = ["npy", "safetensors"]


def snapshot(folder):
    """Every file below a folder: its bytes and when it was changed."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def contents(folder):
    return {name: content for name, (_, content) in snapshot(folder).items()}


def everything(dataset):
    return dataset.gather(range(len(dataset)))


@pytest.fixture
def tuples(tmp_path):
    """Three `.pt` shards of (x, y), 700 samples."""
    folder = tmp_path / "tuples"
    folder.mkdir()
    for k, rows in enumerate([300, 0, 400]):
        torch.save((random_tensor((rows, 3, 4), seed=k), torch.arange(rows) % 10), folder / f"{k}.pt")
    return penstock.ShardDataset(folder)


@pytest.fixture
def files(tmp_path):
    """60 files of a sample each, in folders, one with a name that is no UTF-8."""
    root = tmp_path / "files"
    for k in range(60):
        (root / str(k % 3)).mkdir(parents=True, exist_ok=True)
        np.save(root / str(k % 3) / f"{k:02}.npy", np.full((5, 2), k, np.float32))
    np.save(root / "\udcff.npy", np.full((5, 2), 60, np.float32))
    return root


@pytest.fixture
def images(tmp_path):
    """Class folders with folders in them; bytes that need not be images, some of them none."""
    root, chance = tmp_path / "images", np.random.default_rng(0)
    names = [
        "b/2.jpg",
        "b/1.PNG",
        "b/deeper/0.jpeg",
        "a/x.webp",
        "a/.y.jpg",
        "b/notes.txt",
        "z.jpg",
        "c/no.md",
    ]
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(chance.bytes(100 * k if name != "b/1.PNG" else 0))
    return root


# what is in the files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_order_structure_and_every_byte_are_kept(tuples, tmp_path, format):
    packed = pack(tuples, tmp_path / "to", format=format, shard_bytes=5_600)
    assert (len(packed), packed.num_shards, packed.num_bytes) == (700, 7, 700 * 56)
    assert (packed.fields, packed.ids, packed.classes) == (("0", "1"), None, None)
    for got, needed in zip(everything(packed.open()), everything(tuples), strict=True):
        assert_same(got, needed)
    packed.verify()
    assert repr(packed) == f"Packed({str(tmp_path / 'to')!r}: 700 samples in 7 shards)"


def test_numpy_alone_reads_npy(tuples, tmp_path):
    packed = pack(tuples, tmp_path / "to", shard_bytes=5_000)
    x, y = everything(tuples)
    for field, needed in (("0", x), ("1", y)):
        paths = sorted((tmp_path / "to" / field).iterdir())
        assert [path.name for path in paths[:2]] == ["00000.npy", "00001.npy"]
        assert_same(torch.from_numpy(np.concatenate([np.load(path) for path in paths])), needed)
    assert packed.source["1"] == [str(path) for path in paths]
    assert sorted(os.listdir(tmp_path / "to")) == ["0", "1", "pack", "pack.json"]


def test_safetensors_alone_reads_safetensors(tuples, tmp_path):
    pack(tuples, tmp_path / "to", format="safetensors", shard_bytes=5_000)
    shards = [load_file(path) for path in sorted((tmp_path / "to" / "data").iterdir())]
    for k, needed in enumerate(everything(tuples)):
        assert_same(torch.cat([tensors[str(k)] for tensors in shards]), needed)


def test_digests_are_those_of_hashlib(tuples, tmp_path):
    pack(tuples, tmp_path / "to", shard_bytes=10_000)
    paths = sorted((tmp_path / "to" / "pack" / "digests").iterdir())
    digests = np.concatenate([np.load(path) for path in paths])
    x, y = (tensor.numpy() for tensor in everything(tuples))
    needed = [hashlib.blake2b(a.tobytes() + b.tobytes(), digest_size=16) for a, b in zip(x, y, strict=True)]
    assert [digest.tobytes() for digest in digests] == [digest.digest() for digest in needed]


def within(write_at, most):
    def write(path, begin, data):
        assert data.nbytes <= most
        write_at(path, begin, data)

    return write


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("batch", [1, 100, 7_000, 1 << 20])
def test_batches_are_smaller_than_shards_or_larger(tuples, tmp_path, monkeypatch, format, batch):
    pack(tuples, tmp_path / "to", format=format, shard_bytes=11_111)
    monkeypatch.setattr(shard, "BATCH_BYTES", batch)
    monkeypatch.setattr(shard, "WORTH_A_THREAD", 8)
    monkeypatch.setattr(shard, "write_at", within(disk.write_at, max(batch, 56)))
    pack(tuples, tmp_path / "other", format=format, shard_bytes=11_111).verify()
    assert contents(tmp_path / "to") == contents(tmp_path / "other")


@pytest.mark.parametrize("dtype", NUMPY_DTYPES, ids=str)
def test_dtypes_of_numpy(make_shards, tmp_path, dtype):
    shards = make_shards("pt", dtype=dtype, row_shape=(2, 3))
    packed = pack(shards.open(), tmp_path / "to", shard_bytes=100)
    assert_same(everything(packed.open()), shards.rows)


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.float8_e5m2, torch.uint16], ids=str)
def test_dtypes_of_safetensors(make_shards, tmp_path, dtype):
    shards = make_shards("pt", dtype=dtype, row_shape=(3,))
    packed = pack(shards.open(), tmp_path / "to", format="safetensors", shard_bytes=50)
    assert_same(everything(packed.open()), shards.rows)
    with pytest.raises(penstock.SchemaError, match="safetensors has no complex128"):
        pack(penstock.TensorDataset(torch.zeros(2, dtype=torch.complex128)), tmp_path, format="safetensors")


def test_a_dtype_that_numpy_has_not(make_shards, tmp_path):
    with pytest.raises(penstock.SchemaError, match=r'npy has no bfloat16. Pack it with format="safetensors"'):
        pack(make_shards("pt", dtype=torch.bfloat16).open(), tmp_path / "to")


def test_a_dict_whose_names_are_no_names_of_folders(tmp_path):
    names = ["a/b", "..", "pack", "Pack", "label", "field_0", "x" * 200]
    torch.save({name: torch.full((4, 2), k) for k, name in enumerate(names)}, tmp_path / "x.pt")
    dataset = penstock.ShardDataset(tmp_path / "x.pt")
    batch = everything(pack(dataset, tmp_path / "to").open())
    assert list(batch) == names
    assert all((batch[name] == k).all() for k, name in enumerate(names))
    assert folders_for(names) == ["field_0", "field_1", "field_2", "Pack", "label", "field_5", "field_6"]


@pytest.mark.parametrize("format", FORMATS)
def test_no_samples(make_shards, tmp_path, format):
    shards = make_shards(lengths=(0, 0))
    packed = pack(shards.open(), tmp_path / "to", format=format)
    assert (len(packed), len(packed.open()), packed.num_shards) == (0, 0, 1)
    packed.verify()


def test_a_tensor_a_dict_and_parts_of_datasets(make_shards, make_pair, tmp_path):
    shards = make_shards()
    assert_same(everything(pack(shards.folder, tmp_path / "1", kind="shards").open()), shards.rows)
    image, label = make_pair(lengths=(5, 0, 20))
    dataset = penstock.ShardDataset({"image": image.paths, "label": label.paths})
    batch = everything(pack(dataset.subset([7, 3, 3]) + dataset, tmp_path / "2").open())
    assert list(batch) == ["image", "label"]
    assert_same(batch["image"], torch.cat([image.rows[[7, 3, 3]], image.rows]))
    assert pack(dataset, tmp_path / "3").open().targets.tolist() == label.rows.tolist()


def test_files_with_a_sample_each(files, tmp_path):
    dataset = penstock.FileDataset(files)
    packed = pack(files, tmp_path / "to", shard_bytes=400)
    assert packed.ids == list(dataset.ids)
    assert "\udcff" in packed.ids
    assert "0/00" in packed.ids
    assert_same(everything(packed.open()), everything(dataset))
    names = np.load(tmp_path / "to" / "pack" / "ids.npy").tobytes()
    ends = np.load(tmp_path / "to" / "pack" / "id_offsets.npy")
    assert names[ends[1] : ends[2]] == os.fsencode(packed.ids[1])


def test_labels_and_ids_of_files(files, tmp_path):
    ids = [f"{k % 3}/{k:02}" for k in range(59, 0, -1)]
    dataset = penstock.FileDataset(files, ids=ids, labels=[k % 3 for k in range(59, 0, -1)])
    packed = pack(dataset, tmp_path / "to", shard_bytes=480)
    assert packed.ids == ids
    assert packed.open().targets.tolist() == [k % 3 for k in range(59, 0, -1)]
    assert all(map(torch.equal, everything(packed.open()), everything(dataset)))
    assert pack(dataset.subset([3, -1]), tmp_path / "part").ids == [ids[3], ids[-1]]
    assert pack(dataset + dataset, tmp_path / "twice").ids == ids + ids


def test_dicts_with_labels(tmp_path):
    (tmp_path / "from").mkdir()
    for k in range(5):
        np.savez(tmp_path / "from" / f"{k}.npz", a=np.full(3, k), b=np.float32(k))
    dataset = penstock.FileDataset(tmp_path / "from", labels=range(5))
    batch = everything(pack(dataset, tmp_path / "to").open())
    assert list(batch) == ["a", "b", "label"]
    assert batch["label"].tolist() == batch["b"].tolist() == batch["a"][:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("format", FORMATS)
def test_images_stay_the_bytes_that_they_are(images, tmp_path, format):
    before = snapshot(images)
    packed = pack(images, tmp_path / "to", format=format, shard_bytes=450)
    names = ["a/.y.jpg", "a/x.webp", "b/1.PNG", "b/2.jpg", "b/deeper/0.jpeg"]
    assert packed.ids == names
    assert packed.classes == ["a", "b", "c"]
    assert packed.open().targets.tolist() == [0, 0, 1, 1, 1]
    assert [packed.encoded(i) for i in range(5)] == [(images / name).read_bytes() for name in names]
    assert packed.encoded(-1) == packed.encoded(4)
    assert packed.num_shards > 1
    packed.verify()
    assert snapshot(images) == before
    with pytest.raises(penstock.RowError, match="row 5: no such sample"):
        packed.encoded(5)


def test_numpy_alone_reads_images(images, tmp_path):
    packed = pack(images, tmp_path / "to")
    image, ends = (np.load(tmp_path / "to" / name / "00000.npy") for name in ("image", "image_offsets"))
    assert (image.dtype, ends.dtype) == (np.uint8, np.int64)
    assert [image[a:b].tobytes() for a, b in pairwise(ends)] == [packed.encoded(i) for i in range(5)]


def test_images_of_one_folder(images, tmp_path):
    packed = pack(images / "b" / "deeper", tmp_path / "to")
    assert (packed.ids, packed.classes, packed.fields) == (["0.jpeg"], None, ("image",))
    with pytest.raises(penstock.SchemaError, match="images alone"):
        packed.open()
    with pytest.raises(penstock.SchemaError, match="no images"):
        pack(penstock.TensorDataset(torch.zeros(2)), tmp_path / "other").encoded(0)


@pytest.mark.parametrize("limit", [1, 10, 45, 1_000])
def test_cuts(limit):
    sizes = np.array([0, 10, 3, 50, 0, 0, 7, 10, 10, 1])
    for ends in (None, np.concatenate([[0], np.cumsum(sizes)])):
        ranges = list(cuts(10, 4, ends, limit))
        assert [i for begin, end in ranges for i in range(begin, end)] == list(range(10))
        for begin, end in ranges:
            size = 4 * (end - begin) + (0 if ends is None else ends[end] - ends[begin])
            assert size <= limit or end == begin + 1


# what it goes through --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_once_more_there_is_nothing_to_do(tuples, tmp_path, format):
    pack(tuples, tmp_path / "to", format=format, shard_bytes=5_000)
    before = snapshot(tmp_path / "to")
    pack(tuples, tmp_path / "to", format=format, shard_bytes=5_000)
    assert snapshot(tmp_path / "to") == before


def test_an_unfinished_pack_is_none(tuples, tmp_path, monkeypatch):
    monkeypatch.setattr(shard, "blake2b", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pack(tuples, tmp_path / "to")
    assert os.listdir(tmp_path / "to") == ["unfinished"]
    with pytest.raises(penstock.FormatError, match=r"not finished\. Pack the same source into it again"):
        Packed(tmp_path / "to")


def other_source(tuples, tmp_path):
    x, y = everything(tuples)
    x[350] += 1
    torch.save((x, y), tmp_path / "other.pt")
    return penstock.ShardDataset(tmp_path / "other.pt")


@pytest.mark.parametrize("is_finished", [False, True])
def test_another_source_is_refused(tuples, tmp_path, monkeypatch, is_finished):
    if not is_finished:
        monkeypatch.setattr(os, "rename", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack(tuples, tmp_path / "to")
    else:
        pack(tuples, tmp_path / "to")
    before = snapshot(tmp_path / "to")
    refused = [
        (tuples.subset(range(600)), {}, "its rows differ"),
        (tuples, {"shard_bytes": 100}, "its shard_bytes differ; needed 100, found 536870912"),
        (tuples, {"format": "safetensors"}, "its format differ"),
        (other_source(tuples, tmp_path), {}, "row 350: this folder holds the pack of another source"),
    ]
    for source, options, complaint in refused:
        with pytest.raises(penstock.ArgumentError, match=complaint) as raised:
            pack(source, tmp_path / "to", **options)
        assert raised.value.path == str(tmp_path / "to")
    assert snapshot(tmp_path / "to") == before


def test_other_ids_are_refused(files, tmp_path):
    pack(penstock.FileDataset(files, ids=["0/00", "0/03"]), tmp_path / "to")
    with pytest.raises(penstock.ArgumentError, match="its ids differ"):
        pack(penstock.FileDataset(files, ids=["0/00", "0/06"]), tmp_path / "to")


def test_a_finished_shard_that_was_damaged_is_made_again(tuples, tmp_path, monkeypatch):
    pack(tuples, tmp_path / "needed", shard_bytes=8_000)
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack(tuples, tmp_path / "to", shard_bytes=8_000)
    os.truncate(tmp_path / "to" / "unfinished" / "0" / "00001.npy", 100)
    (tmp_path / "to" / "unfinished" / "1" / "00002.npy").unlink()
    pack(tuples, tmp_path / "to", shard_bytes=8_000)
    assert contents(tmp_path / "to") == contents(tmp_path / "needed")


def test_two_processes_do_not_pack_into_one_folder(tuples, tmp_path):
    (tmp_path / "to").mkdir()
    other = os.open(tmp_path / "to", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(penstock.ShardError, match="another process packs into this folder"):
        pack(tuples, tmp_path / "to")
    os.close(other)
    pack(tuples, tmp_path / "to")


# what is refused -------------------------------------------------------------------------------------------


def test_the_source_is_not_packed_into_itself(files, images, tmp_path):
    (tmp_path / "link").symlink_to(files / "0")
    for source in (files, penstock.FileDataset(files)):
        for folder in (files, files / "new" / "er", tmp_path / "link" / "new"):
            with pytest.raises(penstock.ArgumentError, match="cannot be packed into itself"):
                pack(source, folder)
    with pytest.raises(penstock.ArgumentError, match="cannot be packed into itself"):
        pack(images, images / "to")
    assert not (files / "new").exists()


def test_a_folder_that_holds_something_is_left_alone(tuples, tmp_path):
    for name in ("mine.txt", "unfinished/mine.txt"):
        to = tmp_path / name.replace("/", "_")
        (to / name).parent.mkdir(parents=True)
        (to / name).write_text("mine")
        with pytest.raises(penstock.ArgumentError, match=r"not empty, and no pack to go on with.*mine.txt"):
            pack(tuples, to)
        assert contents(to) == {name: b"mine"}


def test_arguments(tuples, images, tmp_path):
    to = tmp_path / "to"
    with pytest.raises(penstock.ArgumentError, match="format= has a value that cannot be"):
        pack(tuples, to, format="npz")
    with pytest.raises(penstock.ArgumentError, match="kind= has a value that cannot be"):
        pack(images, to, kind="picture")
    with pytest.raises(penstock.ArgumentError, match="shard_bytes= must be positive"):
        pack(tuples, to, shard_bytes=0)
    with pytest.raises(penstock.SchemaError, match="needed a Penstock dataset or a path, found list"):
        pack([1, 2], to)
    with pytest.raises(penstock.SchemaError, match="with a transform cannot be packed"):
        pack(penstock.ShardDataset(tmp_path / "tuples", transform=abs), to)
    with pytest.raises(penstock.PenstockError, match="nowhere"):
        pack(tmp_path / "nowhere", to)
    with pytest.raises(penstock.SchemaError, match="no image is there"):
        pack(images / "c", to, kind="images")
    np.save(images / "b" / "x.npy", np.zeros(3))
    with pytest.raises(penstock.ArgumentError, match="there are images and other data files"):
        pack(images, to)
    assert not to.exists()
    to.write_text("a file")
    with pytest.raises(penstock.ShardError, match="to: cannot be written: File exists"):
        pack(tuples, to)


def test_an_image_that_changes_while_it_is_packed(images, tmp_path):
    source = sources.ImageSource(images)
    (images / "b" / "2.jpg").write_bytes(b"new")
    (images / "a" / "x.webp").unlink()
    with running.Pool() as pool:
        with pytest.raises(
            penstock.ShardError, match=r"2.jpg: changed while it was packed; needed 0 .*found 3"
        ):
            source.read(3, 4, pool)
        with pytest.raises(penstock.ShardError, match=r"x.webp: cannot be read: No such file"):
            source.read(0, 2, pool)


def test_a_sample_that_comes_back_different_is_not_packed(tuples, tmp_path, monkeypatch):
    """The disk drops a bit, once."""
    written = disk.write_at

    def drop(path, begin, data):
        data = data.copy()
        if path.name == "00001.npy.tmp" and path.parent.name == "0":
            data[1_000] ^= 1
        written(path, begin, data)

    monkeypatch.setattr(shard, "write_at", drop)
    with pytest.raises(
        penstock.ShardError, match=r"0/00001.npy.tmp: row 162: a sample is not what was packed"
    ):
        pack(tuples, tmp_path / "to", shard_bytes=8_000)
    names = contents(tmp_path / "to" / "unfinished")
    assert not [name for name in names if name.endswith(".tmp")]
    assert "pack/digests/00000.npy" in names
    assert "pack/digests/00001.npy" not in names


@pytest.mark.parametrize("format", FORMATS)
def test_verify_finds_every_bit(tmp_path, format):
    """One bit flipped, anywhere in any file but the manifest: an error that names a file."""
    dataset = penstock.TensorDataset(torch.arange(6).view(3, 2), torch.tensor([1, 2, 3]))
    packed = pack(dataset, tmp_path / "to", format=format)
    for path in (path for path in tmp_path.glob("to/*/**/*") if path.is_file()):
        content = path.read_bytes()
        for i in range(len(content)):
            changed = bytearray(content)
            changed[i] ^= 1 << i % 8
            path.write_bytes(changed)
            with pytest.raises(penstock.ShardError, match=re.escape(str(tmp_path / "to"))):
                packed.verify()
        path.write_bytes(content)
    packed.verify()


def test_verify_finds_offsets_that_are_none(images, tmp_path):
    packed = pack(images, tmp_path / "to")
    path = tmp_path / "to" / "image_offsets" / "00000.npy"
    ends = np.load(path)
    for wrong in (ends + 1, ends[::-1].copy(), np.where(ends == ends[1], 1 << 60, ends)):
        np.save(path, wrong)
        with pytest.raises(penstock.ShardError, match="these are no offsets"):
            packed.verify()


def test_a_pack_that_lacks_a_file(tuples, tmp_path):
    packed = pack(tuples, tmp_path / "to", shard_bytes=8_000)
    gone = tmp_path / "to" / "0" / "00002.npy"
    gone.unlink()
    for call in (packed.verify, packed.open, lambda: pack(tuples, tmp_path / "to", shard_bytes=8_000)):
        with pytest.raises(penstock.ShardError, match=r"00002\.npy"):
            call()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"penstock_pack": 1}', b'{"penstock_pack": 1, "columns": 3}', b"\xff"],
)
def test_a_manifest_that_is_none(tmp_path, content):
    (tmp_path / "pack.json").write_bytes(content)
    with pytest.raises(penstock.FormatError, match=r"pack.json: this is no manifest of a pack"):
        Packed(tmp_path)


def test_a_manifest_of_another_version(tuples, tmp_path):
    pack(tuples, tmp_path / "to")
    manifest = tmp_path / "to" / "pack.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "penstock_pack": 2}))
    with pytest.raises(penstock.FormatError, match="of another version; needed 1, found 2"):
        Packed(tmp_path / "to")
    with pytest.raises(penstock.ShardError, match=r"pack.json: cannot be read: No such file"):
        Packed(tmp_path)


# a disk that is full ---------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", folder], check=True)


def big_source(tmp_path):
    np.save(tmp_path / "big.npy", np.random.default_rng(0).integers(0, 256, (1_000, 300), np.uint8))
    return penstock.ShardDataset(tmp_path / "big.npy")


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk(small_disk, tmp_path, format):
    dataset = big_source(tmp_path)
    needed = pack(dataset, tmp_path / "needed", format=format, shard_bytes=30_000)
    other = small_disk / "other"
    other.write_bytes(bytes(200_000))
    with pytest.raises(penstock.ShardError, match=r"make room and pack again") as raised:
        pack(dataset, small_disk / "to", format=format, shard_bytes=30_000)
    assert raised.value.errno == errno.ENOSPC
    assert "unfinished" in raised.value.path
    unfinished = contents(small_disk / "to" / "unfinished")
    assert len(unfinished) > 2
    assert not [name for name in unfinished if name.endswith(".tmp")]
    other.unlink()
    assert len(pack(dataset, small_disk / "to", format=format, shard_bytes=30_000)) == len(needed)
    assert contents(small_disk / "to") == contents(tmp_path / "needed")


def test_a_limit_on_files(tmp_path):
    dataset = big_source(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(
            penstock.ShardError, match=r"00000\.npy\.tmp: cannot be written: File too large"
        ) as raised:
            pack(dataset, tmp_path / "to")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG
    assert list(contents(tmp_path / "to")) == ["unfinished/pack.json"]
    pack(dataset, tmp_path / "to").verify()


# the command -----------------------------------------------------------------------------------------------


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["pack", *map(str, arguments)])


def test_the_command(files, tmp_path):
    done = invoke(files, tmp_path / "to", "--format", "safetensors", "--shard-size", "1k", "--verify")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "61 samples of data, 0.0 MB in 3 shards, every sample verified" in done.stdout
    assert len(Packed(tmp_path / "to").open()) == 61


def test_the_command_over_shards_and_images(tuples, images, tmp_path):
    done = invoke(tmp_path / "tuples" / "*.pt", tmp_path / "1")
    assert "700 samples of 0, 1, 0.0 MB in 1 shard," in done.stdout
    done = invoke(images, tmp_path / "2", "--kind", "images")
    assert "5 samples of image, label" in done.stdout


@pytest.mark.parametrize(
    ("size", "needed"), [("1", 1), ("2k", 2048), ("3MiB", 3 << 20), ("4 gb", None), ("4G", 4 << 30)]
)
def test_sizes(size, needed):
    if needed is None:
        with pytest.raises(cli.typer.BadParameter, match="is no size"):
            cli._to_bytes(size)
    else:
        assert cli._to_bytes(size) == needed


def test_the_command_says_what_is_wrong(files, tmp_path):
    done = invoke(files, files / "to")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"penstock: {files}/to: the source cannot be packed into itself")
    assert invoke(files, tmp_path / "to", "--shard-size", "0").exit_code == 2


def test_a_bar_on_a_terminal(tuples, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "SECONDS_BEFORE", 0)
    pack(tuples, tmp_path / "to", shard_bytes=8_000)
    assert re.search(r"packing: .*/39.2k", capsys.readouterr().err)
    Packed(tmp_path / "to").verify()
    assert re.search(r"verifying: .*/39.2k", capsys.readouterr().err)


@pytest.mark.parametrize("format", ["npy", "safetensors"])
def test_shard_dataset_opens_the_folder(tmp_path, format):
    x, y = torch.arange(600.0).view(100, 6), torch.arange(100) % 7
    for i in range(100):
        (tmp_path / "files").mkdir(exist_ok=True)
        torch.save(x[i].clone(), tmp_path / "files" / f"{i:03}.pt")
    packed = penstock.pack(
        penstock.FileDataset(tmp_path / "files", labels=y),
        tmp_path / "packed",
        format=format,
        shard_bytes=700,
    )
    dataset = penstock.ShardDataset(tmp_path / "packed")
    assert packed.num_shards > 3
    assert packed.ids == [f"{i:03}" for i in range(100)]
    there = dataset.gather(range(100))
    assert torch.equal(there[0], x)
    assert torch.equal(there[1], y)
    assert (dataset.targets == y.numpy()).all()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"columns": 3}', '{"columns": [], "sample": "x"}'])
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "pack.json").write_text(text)
    with pytest.raises(penstock.FormatError, match="manifest"):
        penstock.ShardDataset(tmp_path)


# --- sequences -------------------------------------------------------------------------------------------


def sequences_in_files(folder):
    folder.mkdir()
    for i in range(4):
        np.save(folder / f"{i}.npy", np.zeros((2 + i, 3), np.float32))
    return folder


@pytest.mark.parametrize("kind", ["memory", "files", "folder"])
def test_sequences_are_refused_before_anything_is_written(tmp_path, kind):
    folder = sequences_in_files(tmp_path / "files")
    source = {
        "memory": penstock.RaggedDataset([torch.zeros(2), torch.zeros(3)]),
        "files": penstock.FileDataset(folder),
        "folder": folder,
    }[kind]
    with pytest.raises(
        penstock.SchemaError, match=r"different lengths cannot be packed.*RaggedDataset"
    ) as caught:
        pack(source, tmp_path / "to")
    assert caught.value.field == ("values" if kind == "memory" else "data")
    assert not (tmp_path / "to").exists()


def test_the_command_refuses_sequences(tmp_path):
    done = invoke(sequences_in_files(tmp_path / "files"), tmp_path / "to")
    assert done.exit_code == 1
    assert "rows of different lengths cannot be packed" in done.stderr
    assert not (tmp_path / "to").exists()
