"""Images in tar archives and in packs: the same as from files, and bad input; two image datasets as one."""

import io
import os
import pickle
import random
import tarfile
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import photograph, to_jpeg, to_pillow, to_png
from PIL import Image

import penstock
from penstock import _core
from penstock import transforms as T
from penstock.datasets import tar_images
from penstock.errors import (
    ArgumentError,
    FormatError,
    MissingFileError,
    PenstockError,
    SchemaError,
    ShardError,
)

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
SMALL = T.Compose([T.Resize((8, 9)), T.ToTensor()])
RANDOM = T.Compose([T.RandomResizedCrop(8), T.ToTensor()])

needs_libraries = pytest.mark.skipif(
    not (_core.BUILD["jpeg"] and _core.BUILD["png"]), reason="needs a build with libjpeg-turbo and libspng"
)


def tenfold(image):
    """A transform that the core does not know."""
    return SMALL(image) * 10


@pytest.fixture(params=[SMALL, tenfold], ids=["native", "Python"])
def transform(request):
    if request.param is SMALL and not _core.BUILD["jpeg"]:
        pytest.skip("needs a build with libjpeg-turbo and libspng")
    return request.param


def encoded(seed, *, png=False, size=(30, 20)):
    pixels = photograph(*size, seed=seed)
    return to_png(to_pillow(pixels)) if png else to_jpeg(pixels)


def write_tar(path, members, format="ustar"):
    """Members in order: (name, contents), or a TarInfo."""
    with tarfile.open(path, "w", format=FORMATS[format], encoding="utf-8", errors="surrogateescape") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def samples(begin, end):
    """Members as webdataset's TarWriter writes them."""
    for k in range(begin, end):
        name = f"part/{k:03}"
        yield f"{name}.cls", str(k % 3).encode()
        yield f"{name}.jpg" if k % 4 else f"{name}.PNG", encoded(k, png=k % 4 == 0)
        yield f"{name}.json", b"{}"


@pytest.fixture
def archives(tmp_path):
    """Twelve images in three archives, of all formats; the same as files in `flat`."""
    for number, format in enumerate(FORMATS):
        write_tar(tmp_path / f"train-{number}.tar", samples(4 * number, 4 * number + 4), format)
    for name, content in samples(0, 12):
        if not name.endswith((".cls", ".json")):
            (tmp_path / "flat" / "part").mkdir(parents=True, exist_ok=True)
            (tmp_path / "flat" / name).write_bytes(content)
    return tmp_path


def everything(dataset):
    return dataset.gather(range(len(dataset)))


# the same as from files ------------------------------------------------------------------------------------


def test_as_from_files(archives, transform):
    dataset = penstock.ImageDataset(archives / "train-*.tar", transform=transform)
    files = penstock.ImageDataset(archives / "flat", [k % 3 for k in range(12)], transform)
    for got, expected in zip(everything(dataset), everything(files), strict=True):
        assert torch.equal(got, expected)
    assert dataset.targets.tolist() == [k % 3 for k in range(12)]
    assert dataset.paths[5] == str(archives / "train-1.tar" / "part" / "005.jpg")
    image, label = dataset[-1]
    assert torch.equal(image, files[11][0])
    assert int(label) == 2
    for loader in (penstock.DataLoader, torch.utils.data.DataLoader):
        images, labels = zip(*loader(dataset, batch_size=5), strict=True)
        assert torch.equal(torch.cat(images), everything(files)[0])
        assert torch.cat(labels).tolist() == dataset.targets.tolist()
    assert dataset.subset([7, 1]).targets.tolist() == [1, 1]


@needs_libraries
def test_shards_are_known(archives):
    dataset = penstock.ImageDataset(archives / "train-*.tar", transform=SMALL)
    assert dataset.shard_lengths.tolist() == [4, 4, 4]
    assert [field.shards for field in dataset.schema] == [3, 3]
    assert dataset.fingerprint == penstock.ImageDataset(archives / "train-*.tar", transform=SMALL).fingerprint


def test_a_list_is_taken_as_it_is(archives, transform):
    paths = [archives / "train-2.tar", str(archives / "train-0.tar")]
    dataset = penstock.ImageDataset(paths, transform=transform)
    assert dataset.targets.tolist() == [k % 3 for k in (*range(8, 12), *range(4))]
    assert len(penstock.ImageDataset(iter([*paths, paths[0]]), transform=transform)) == 12


@needs_libraries
def test_random_crops_are_those_of_files(archives):
    dataset = penstock.ImageDataset(archives / "train-*.tar", transform=RANDOM, seed=5)
    files = penstock.ImageDataset(archives / "flat", transform=RANDOM, seed=5)
    dataset.set_epoch(3)
    files.set_epoch(3)
    assert torch.equal(everything(dataset)[0], everything(files))
    dataset.set_epoch(4)
    assert not torch.equal(everything(dataset)[0], everything(files))


def test_through_a_pickle(archives, transform):
    dataset = penstock.ImageDataset(archives / "train-*.tar", transform=transform)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.paths == dataset.paths
    assert again.fingerprint == dataset.fingerprint
    for got, expected in zip(everything(again), everything(dataset), strict=True):
        assert torch.equal(got, expected)


@needs_libraries
def test_in_a_spawned_worker(archives):
    dataset = penstock.ImageDataset(archives / "train-*.tar", transform=RANDOM)
    dataset.set_epoch(1)
    loader = torch.utils.data.DataLoader(dataset, 12, num_workers=1, multiprocessing_context="spawn")
    ((images, labels),) = loader
    assert torch.equal(images, everything(dataset)[0])
    assert torch.equal(labels, everything(dataset)[1])


def test_without_a_transform_samples_are_pillow_images(archives):
    image, label = penstock.ImageDataset(archives / "train-0.tar")[1]
    with Image.open(archives / "flat" / "part" / "001.jpg") as expected:
        assert image.tobytes() == expected.convert("RGB").tobytes()
    assert label == 1


# labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        {f"part/{k:03}": k for k in range(12)},
        {f"{k:03}": k for k in range(12)},
        {f"{k:03}.jpg" if k % 4 else f"{k:03}.PNG": k for k in range(12)},
        lambda key: int(key.removeprefix("part/")),
        list(range(12)),
        torch.arange(12),
    ],
)
def test_labels_of_ones_own(archives, transform, labels):
    dataset = penstock.ImageDataset(archives / "train-*.tar", labels, transform)
    assert dataset.targets.tolist() == list(range(12))
    assert everything(dataset)[1].tolist() == list(range(12))


def test_labels_that_are_strings(archives, transform):
    dataset = penstock.ImageDataset(archives / "train-*.tar", lambda key: "ba"[int(key[-1]) % 2], transform)
    assert dataset.classes == ["a", "b"]
    assert dataset.targets.tolist() == [1, 0] * 6


def test_without_labels(tmp_path, transform):
    members = [(name, content) for name, content in samples(0, 3) if not name.endswith(".cls")]
    dataset = penstock.ImageDataset(write_tar(tmp_path / "a.tar", members), transform=transform)
    assert everything(dataset).shape == (3, 3, 8, 9)
    with pytest.raises(AttributeError, match="no class labels"):
        _ = dataset.targets


def test_labels_of_some(tmp_path, transform):
    members = [member for member in samples(0, 3) if member[0] != "part/001.cls"]
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(SchemaError, match=r"a\.tar: row 1: image 'part/001\.jpg': it has no class"):
        penstock.ImageDataset(path, transform=transform)
    assert penstock.ImageDataset(path, [5, 6, 7], transform).targets.tolist() == [5, 6, 7]


# what is a sample ------------------------------------------------------------------------------------------


def by_webdataset(members):
    """Samples of names, as webdataset groups them: keys and suffixes."""
    groups = []
    for name in members:
        folder, stroke, last = name.rpartition("/")
        key, dot, suffix = last.partition(".")
        if not dot or not key:
            continue
        key = folder + stroke + key
        if not groups or groups[-1][0] != key:
            groups.append((key, []))
        groups[-1][1].append(suffix.lower())
    return groups


names = st.sampled_from(["a", "b", "a.b", "c.d/a", "c/a", ".a", "", "x" * 120, "long/" * 30 + "z", "\u00e9"])
suffixes = st.sampled_from(["jpg", "JPG", "png", "cls", "json", "seg.png", "tar", ""])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.tuples(names, suffixes), max_size=12), st.sampled_from(list(FORMATS)))
def test_members_are_grouped_as_by_webdataset(tmp_path, members, format):
    texts = [f"{name}.{suffix}" if suffix else name for name, suffix in members]
    try:
        path = write_tar(
            tmp_path / "x.tar", [(text, f"{k}".encode()) for k, text in enumerate(texts)], format
        )
    except ValueError:  # too long for ustar
        return
    groups = by_webdataset(texts)
    images = [[s for s in found if s in ("jpg", "png")] for _, found in groups]
    classes = [found.count("cls") for _, found in groups]
    broken = any(
        len(image) > 1 or count > 1 or count > len(image)
        for image, count in zip(images, classes, strict=True)
    )
    if broken:
        with pytest.raises(FormatError):
            _core.tar_images([os.fsencode(path)], [".jpg", ".png"])
        return
    ((identity, found, ends, offsets, sizes, labels, has_labels),) = _core.tar_images(
        [os.fsencode(path)], [".jpg", ".png"]
    )
    kept = [key for (key, _), image in zip(groups, images, strict=True) if image]
    keys = [found[a:b].decode() for a, b in pairwise([0, *ends.tolist()])]
    assert [key[: key.index(".", key.rfind("/") + 1)] for key in keys] == kept
    assert has_labels.tolist() == [n > 0 for n, image in zip(classes, images, strict=True) if image]
    content = path.read_bytes()
    assert identity[2] == len(content)
    for key, offset, size, label, has_label in zip(keys, offsets, sizes, labels, has_labels, strict=True):
        number = int(content[offset : offset + size])
        assert texts[number] == key
        assert not has_label or texts[label].startswith(key[: key.index(".", key.rfind("/") + 1)])


def test_what_is_no_file_is_passed_over(tmp_path, transform):
    folder, fifo, link = (tarfile.TarInfo(name) for name in ("part", "pipe.fifo", "latest"))
    folder.type, fifo.type, link.type = tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE
    link.linkname = "part"
    hidden = ("part/._000.jpg", b"a Mac's")
    path = write_tar(tmp_path / "a.tar", [folder, fifo, link, hidden, *samples(0, 2), ("README.md", b"#")])
    assert len(penstock.ImageDataset(path, transform=transform)) == 2


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_an_image_that_is_a_link_is_refused(tmp_path, kind):
    link = tarfile.TarInfo("b.jpg")
    link.type, link.linkname = kind, "a.jpg"
    path = write_tar(tmp_path / "a.tar", [("a.jpg", encoded(0)), link])
    with pytest.raises(FormatError, match=r"a\.tar: member 'b\.jpg': it is a link.*dereference"):
        penstock.ImageDataset(path, transform=SMALL)


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ([("a.jpg", b""), ("a.png", b"")], r"member 'a\.png': its sample has 'a\.jpg' already"),
        ([("a.cls", b"1")], r"member 'a\.cls': there is no image next to it"),
        ([("a.jpg", b""), ("b.jpg", b""), ("a.cls", b"1")], r"member 'a\.cls': there is no image next"),
        ([("a.jpg", b""), ("a.cls", b"cat")], r"member 'a\.cls': it is no class; .* found 'cat'"),
        ([("a.jpg", b""), ("a.cls", b"")], r"it is no class"),
        ([("a.jpg", b""), ("a.cls", b"9" * 30)], r"it is no class"),
        ([("a.jpg", b""), ("a.cls", b"1" + b" " * 100)], r"it is no class"),
    ],
)
def test_samples_that_cannot_be(tmp_path, members, match):
    with pytest.raises(FormatError, match=rf"a\.tar: {match}" if match.startswith("member") else match):
        penstock.ImageDataset(write_tar(tmp_path / "a.tar", members), transform=SMALL)


def test_classes_with_blanks(tmp_path, transform):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", encoded(0)), ("a.cls", b" -7\r\n")])
    assert penstock.ImageDataset(path, transform=transform).targets.tolist() == [-7]


# bad input -------------------------------------------------------------------------------------------------


def test_sources_that_cannot_be(archives):
    with pytest.raises(MissingFileError, match="no tar file is there"):
        penstock.ImageDataset(archives / "none-*.tar", transform=SMALL)
    with pytest.raises(ShardError, match=r"none\.tar"):
        penstock.ImageDataset(archives / "none.tar", transform=SMALL)
    with pytest.raises(ArgumentError, match="compressed archive"):
        penstock.ImageDataset([archives / "a.tar.gz"], transform=SMALL)
    with pytest.raises(ArgumentError, match="is_valid_file"):
        penstock.ImageDataset(archives / "train-0.tar", transform=SMALL, is_valid_file=bool)
    empty = write_tar(archives / "empty.tar", [])
    with pytest.raises(MissingFileError, match=r"empty\.tar: no image is in the archives"):
        penstock.ImageDataset(empty, transform=SMALL)
    with tarfile.open(archives / "zipped.tar", "w:gz") as tar:
        tar.add(archives / "train-0.tar")
    with pytest.raises(FormatError, match=r"zipped\.tar: the archive is compressed"):
        penstock.ImageDataset(archives / "zipped.tar", transform=SMALL)


def test_a_tar_cut_short_anywhere(tmp_path):
    whole = write_tar(tmp_path / "a.tar", [("a.jpg", b"x" * 700), ("b.jpg", b"y" * 10)], "pax").read_bytes()
    path = tmp_path / "cut.tar"
    outcomes = set()
    for size in range(0, 3072, 7):
        path.write_bytes(whole[:size])
        try:
            ((*_, offsets, sizes, _, _),) = _core.tar_images([os.fsencode(path)], [".jpg"])
        except FormatError as error:
            outcomes.add((error.path, error.problem))
        else:
            assert all(offset + n <= size for offset, n in zip(offsets, sizes, strict=True))
            assert len(offsets) in (1, 2)
    assert outcomes == {
        (str(path), f"{member}the archive is cut short")
        for member in ("", "member 'a.jpg': ", "member 'b.jpg': ")
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    st.sampled_from(list(FORMATS)),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4),
    st.booleans(),
)
def test_any_bytes_are_extents_in_bounds_or_an_error(tmp_path, format, changes, mends):
    members = [("n" * 110 + ".jpg", b"x" * 100), ("a.cls", b"1"), ("a.png", b"y" * 600)]
    content = bytearray(
        write_tar(tmp_path / "a.tar", members, "gnu" if format == "ustar" else format).read_bytes()
    )
    for at, byte in changes:
        content[at % len(content)] = byte
    if mends:  # checksums that fit
        for at in range(0, len(content), 512):
            block = content[at : at + 512]
            if any(block[257:262]):
                block[148:156] = b" " * 8
                content[at + 148 : at + 156] = f"{sum(block):06o}\0 ".encode()
    path = tmp_path / "b.tar"
    path.write_bytes(content)
    try:
        ((*_, offsets, sizes, _, _),) = _core.tar_images([os.fsencode(path)], [".jpg", ".png"])
    except FormatError:
        return
    assert all(0 <= a <= a + n <= len(content) for a, n in zip(offsets, sizes, strict=True))


def header(name=b"a.jpg", size=b"00000000001\0", kind=b"0", magic=b"ustar\x0000"):
    block = bytearray(512)
    block[: len(name)], block[124:136], block[156:157], block[257:265] = name, size, kind, magic
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (header(size=b"\x80" + b"\xff" * 11) + bytes(512), "its header gives an impossible size"),
        (header(size=b"\x80\0\0\0" + b"\xff" * 8) + bytes(512), "impossible size"),
        (
            header(size=b"\x80\0\0\0\x7f" + b"\xff" * 7) + bytes(512),
            "member 'a.jpg': the archive is cut short",
        ),
        (header(size=b"\xff" * 12) + bytes(512), "its header gives an impossible size"),
        (header(size=b"0000000000x\0") + bytes(512), "its header gives an impossible size"),
        (header(kind=b"S") + bytes(512), "it has holes.*--sparse"),
        (header(kind=b"x", size=b"00010000000\0") + bytes(2 << 20), "attributes of a member are too long"),
        (header(kind=b"x", size=b"00000000004\0") + b"99 a" + bytes(508), "attributes of the archive"),
        (header(kind=b"x", size=b"00000000015\0") + b"13 size=1234x"[:13] + bytes(499), "attributes"),
        (header(kind=b"x", size=b"00000000013\0") + b"11 size=-1\n" + bytes(501), "attributes"),
        (header(kind=b"L", size=b"00000000004\0") + b"name" + bytes(508), "the archive is cut short"),
        (header(kind=b"L", size=b"00000000004\0") + b"name" + bytes(508 + 1024), "the archive is cut short"),
        (bytes(100), "the archive is cut short"),
        (b"no tar at all, but long enough" * 100, "this is no tar archive"),
        (header()[:148] + b"0000000\0" + header()[156:] + bytes(512), "this is no tar archive"),
        (header() + bytes(512) + b"\1" * 512, r"a header of the archive is damaged.*at byte 1024"),
    ],
)
def test_hostile_archives(tmp_path, content, match):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=rf"a\.tar: .*{match}"):
        penstock.ImageDataset(path, transform=SMALL)


def test_sizes_and_names_in_every_place(tmp_path):
    """A binary size, a pax size above a wrong one, global attributes, a prefix, a signed checksum."""

    def record(key, value):
        text = f" {key}={value}\n".encode()
        length = len(text) + 1
        length += len(str(length)) - 1
        return str(length).encode() + text

    def attributes(kind, *records):
        body = b"".join(records)
        return header(b"pax", f"{len(body):011o}\0".encode(), kind) + body.ljust(512, b"\0")

    signed = bytearray(header("\u00e9.jpg".encode()))
    signed[148:156] = b" " * 8
    signed[148:156] = f"{sum(b - 256 * (b > 127) for b in signed):06o}\0 ".encode()
    prefixed = bytearray(header(b"p.jpg"))
    prefixed[345:350], prefixed[148:156] = b"front", b" " * 8
    prefixed[148:156] = f"{sum(prefixed):06o}\0 ".encode()
    content = b"".join(
        [
            header(b"b.jpg", b"\x80" + bytes(9) + b"\2\1") + b"x" * 513 + bytes(511),
            attributes(b"x", record("size", 3), record("path", "long/name.jpg"), record("mtime", "1.5")),
            header(b"wrong", b"77777777777\0") + b"yyy" + bytes(509),
            attributes(b"g", record("path", "all.jpg")),
            header(b"ignored") + b"z" + bytes(511),
            attributes(b"x", record("path", "own.jpg")),
            header(b"ignored too") + b"z" + bytes(511),
            attributes(b"g", record("path", "")),
            bytes(signed) + b"w" + bytes(511),
            bytes(prefixed) + b"v",
        ]
    )
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    ((_, names, ends, offsets, sizes, _, _),) = _core.tar_images([os.fsencode(path)], [".jpg"])
    edges = [0, *ends.tolist()]
    found = [
        (names[a:b].decode(), content[offset : offset + size])
        for a, b, offset, size in zip(edges, edges[1:], offsets, sizes, strict=False)
    ]
    assert found == [
        ("b.jpg", b"x" * 513),
        ("long/name.jpg", b"yyy"),
        ("all.jpg", b"z"),
        ("own.jpg", b"z"),
        ("\u00e9.jpg", b"w"),
        ("front/p.jpg", b"v"),
    ]


def test_a_bad_image_is_named(tmp_path, transform):
    members = [("good.jpg", encoded(0)), ("bad/one.jpg", b"no image"), ("good2.jpg", encoded(1))]
    path = write_tar(tmp_path / "a.tar", members)
    dataset = penstock.ImageDataset(path, transform=transform)
    with pytest.raises(FormatError, match=r"a\.tar: .*image 'bad/one\.jpg': ") as caught:
        everything(dataset)
    assert (caught.value.path, caught.value.row) == (str(path), 1)
    replaced = penstock.ImageDataset(path, transform=transform, on_error="replace")
    assert len(everything(replaced)) == 3
    with pytest.warns(UserWarning, match="1 of 3 images are left out"):
        skipped = penstock.ImageDataset(path, [0, 1, 2], transform, on_error="skip")
    assert everything(skipped)[1].tolist() == [0, 2]
    for each in (replaced, skipped):
        ((where, why),) = each.skipped
        assert where.startswith(str(path))
        assert "bad/one.jpg" in where + why
    assert torch.equal(everything(skipped)[0], dataset.gather([0, 2]))


@pytest.mark.parametrize("change", ["truncated", "rewritten", "gone"])
def test_an_archive_that_changes(archives, change):
    path = archives / "train-0.tar"
    dataset = penstock.ImageDataset(path, transform=tenfold)
    if change == "truncated":
        os.truncate(path, 2000)
    elif change == "rewritten":
        path.write_bytes(path.read_bytes()[::-1] + b"x")
    else:
        path.unlink()
    with pytest.raises(ShardError, match=r"train-0\.tar: row 0: the file (cannot be opened|has)"):
        everything(dataset)


@needs_libraries
def test_an_archive_that_changes_after_its_first_batch(archives):
    path = archives / "train-0.tar"
    dataset = penstock.ImageDataset(path, transform=SMALL)
    everything(dataset)
    os.truncate(path, 2000)
    with pytest.raises(ShardError, match=r"train-0\.tar.*truncated since|shorter than"):
        everything(dataset)


# an index --------------------------------------------------------------------------------------------------


def test_an_index_is_believed_until_an_archive_changes(archives, tmp_path, transform, monkeypatch):
    index = tmp_path / "index"
    expected = penstock.ImageDataset(archives / "train-*.tar", transform=transform, index=index)
    made = index.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(_core, "tar_images", None)
        again = penstock.ImageDataset(archives / "train-*.tar", transform=transform, index=index)
    assert again.paths == expected.paths
    assert again.targets.tolist() == expected.targets.tolist()
    assert torch.equal(everything(again)[0], everything(expected)[0])
    write_tar(archives / "train-1.tar", samples(20, 23))
    changed = penstock.ImageDataset(archives / "train-*.tar", transform=transform, index=index)
    assert len(changed) == 11
    assert index.stat().st_mtime_ns > made
    assert len(penstock.ImageDataset(archives / "train-0.tar", transform=transform, index=index)) == 4
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith("tmp")) == []


def test_an_index_that_is_none(archives, tmp_path):
    index = tmp_path / "index"
    np.save(tmp_path / "array.npy", np.arange(3))
    for content in (b"something else", b"", (tmp_path / "array.npy").read_bytes()):
        index.write_bytes(content)
        with pytest.raises(ArgumentError, match="this is no index file"):
            penstock.ImageDataset(archives / "train-0.tar", transform=tenfold, index=index)
        assert index.read_bytes() == content
    np.savez(index.with_suffix(".npz"), a=np.arange(3))
    with pytest.raises(ArgumentError, match="this is no index file"):
        penstock.ImageDataset(archives / "train-0.tar", transform=tenfold, index=index.with_suffix(".npz"))
    with pytest.raises(ShardError, match="cannot be written"):
        penstock.ImageDataset(archives / "train-0.tar", transform=tenfold, index=tmp_path / "no" / "index")


def test_a_damaged_index_is_made_anew(archives, tmp_path):
    index = tmp_path / "index"
    penstock.ImageDataset(archives / "train-0.tar", transform=tenfold, index=index)
    whole = index.read_bytes()
    index.write_bytes(whole[:-100])
    with pytest.warns(UserWarning, match="made anew"):
        assert len(penstock.ImageDataset(archives / "train-0.tar", transform=tenfold, index=index)) == 4
    assert index.read_bytes() == whole


@pytest.mark.filterwarnings("ignore:.*made anew:UserWarning")
def test_an_index_with_a_flipped_bit(archives, tmp_path):
    index = tmp_path / "index"
    paths = [str(archives / "train-0.tar")]
    expected = tar_images.kept_archives(paths, str(index)).images().state
    whole = index.read_bytes()
    for bit in random.Random(1).sample(range(8 * len(whole)), 200):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        index.write_bytes(changed)
        try:
            found = tar_images.kept_archives(paths, str(index)).images().state
        except PenstockError:
            continue
        for got, needed in zip(found, expected, strict=True):
            assert np.array_equal(got, needed)


def test_extents_that_do_not_fit_together(archives):
    dataset = penstock.ImageDataset(archives / "train-0.tar", transform=tenfold)
    state = list(pickle.loads(pickle.dumps(dataset))._files.state)
    rng = random.Random(0)
    for _ in range(200):
        changed = list(state)
        k = rng.randrange(2, 7)
        if isinstance(changed[k], bytes):
            changed[k] = changed[k][: rng.randrange(len(changed[k]))]
        else:
            changed[k] = changed[k].copy()
            changed[k][rng.randrange(len(changed[k]))] = rng.choice([-1, 2**62, -(2**63), 2**63 - 1])
        with pytest.raises(SchemaError):
            _core.ImageExtents(*changed)
    _core.ImageExtents(*state)


# packs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def classes(tmp_path):
    for k in range(9):
        path = tmp_path / "images" / "abc"[k % 3] / f"{k}.{'png' if k % 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(k, png=k % 2 == 1))
    return tmp_path / "images"


@pytest.mark.parametrize("format", ["npy", "safetensors"])
def test_a_pack_is_as_its_folders(classes, tmp_path, transform, format):
    penstock.pack(classes, tmp_path / "to", format=format, shard_bytes=5_000)
    dataset = penstock.ImageDataset(tmp_path / "to", transform=transform)
    expected = penstock.ImageFolder(classes, transform)
    for got, needed in zip(everything(dataset), everything(expected), strict=True):
        assert torch.equal(got, needed)
    assert dataset.classes == expected.classes
    assert dataset.class_to_idx == expected.class_to_idx
    assert dataset.targets.tolist() == expected.targets.tolist()
    assert dataset.root == str(tmp_path / "to")
    assert dataset.paths[0].endswith("a/0.jpg")
    if transform is SMALL:
        assert 1 < len(dataset.shard_lengths) == dataset.schema[0].shards
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(everything(again)[0], everything(expected)[0])
    own = penstock.ImageDataset(tmp_path / "to", lambda key: key.partition("/")[0] * 2, transform)
    assert own.classes == ["aa", "bb", "cc"]


def test_a_pack_without_labels(archives, tmp_path, transform):
    penstock.pack(archives / "flat" / "part", tmp_path / "to")
    dataset = penstock.ImageDataset(tmp_path / "to", transform=transform)
    assert torch.equal(
        everything(dataset), everything(penstock.ImageDataset(archives / "flat", None, transform))
    )


def test_packs_that_are_none(classes, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    penstock.pack(penstock.ShardDataset(tmp_path / "x.npy"), tmp_path / "rows")
    with pytest.raises(FormatError, match="no pack of images"):
        penstock.ImageDataset(tmp_path / "rows", transform=SMALL)
    penstock.pack(classes, tmp_path / "to")
    with pytest.raises(ArgumentError, match="needs no index file"):
        penstock.ImageDataset(tmp_path / "to", transform=SMALL, index=tmp_path / "index")
    offsets = tmp_path / "to" / "image_offsets" / "00000.npy"
    whole = np.load(offsets)
    for wrong in (whole[:-1], whole[::-1], whole + 10_000_000):
        np.save(offsets, wrong)
        with pytest.raises((FormatError, SchemaError)):
            penstock.ImageDataset(tmp_path / "to", transform=SMALL)
    (tmp_path / "to" / "pack.json").write_text("{}")
    with pytest.raises(FormatError, match="no manifest"):
        penstock.ImageDataset(tmp_path / "to", transform=SMALL)


# two as one ------------------------------------------------------------------------------------------------


@needs_libraries
def test_one_dataset_and_then_another(archives, classes):
    steps = T.Compose([T.RandomResizedCrop(8), T.ToTensor()])
    first = penstock.ImageFolder(classes, steps, seed=1)
    second = penstock.ImageDataset(
        archives / "train-*.tar", transform=T.Compose(list(steps.transforms)), seed=1
    )
    both = first + second
    assert isinstance(both, penstock.Dataset)
    assert len(both) == 21
    assert both.targets.tolist() == [*first.targets, *second.targets]
    both.set_epoch(2)
    images, labels = everything(both)
    assert torch.equal(images[:9], everything(first)[0])
    assert labels.tolist() == both.targets.tolist()
    assert torch.equal(images, everything(pickle.loads(pickle.dumps(both)))[0])
    parts = first.subset([3, 1]) + second.subset([7])
    assert parts.targets.tolist() == [first.targets[3], first.targets[1], second.targets[7]]
    three = both + second
    assert len(three) == 33
    assert three.fingerprint != both.fingerprint
    epochs = [torch.cat([x for x, _ in penstock.DataLoader(both, 5, seed=4)]) for _ in range(2)]
    assert torch.equal(*epochs)


@needs_libraries
def test_notes_go_to_the_dataset_of_the_image(tmp_path):
    for name in ("a", "b"):
        members = [(f"{name}0.jpg", encoded(0)), (f"{name}1.jpg", b"no image")]
        write_tar(tmp_path / f"{name}.tar", members)
    first, second = (
        penstock.ImageDataset(tmp_path / f"{name}.tar", transform=SMALL, on_error="replace") for name in "ab"
    )
    everything(first + second)
    assert [path for path, _ in first.skipped] == [str(tmp_path / "a.tar" / "a1.jpg")]
    assert [path for path, _ in second.skipped] == [str(tmp_path / "b.tar" / "b1.jpg")]


@needs_libraries
@pytest.mark.parametrize(
    "other",
    [
        {"transform": T.Compose([T.Resize((9, 8)), T.ToTensor()])},
        {"transform": T.Compose([T.CenterCrop((8, 9)), T.ToTensor()])},
        {"transform": T.Compose([T.Resize((8, 9)), T.PILToTensor()])},
        {"on_error": "replace"},
        {"max_pixels": 5000},
    ],
)
def test_datasets_that_are_made_otherwise(classes, other):
    first = penstock.ImageFolder(classes, SMALL)
    second = penstock.ImageFolder(classes, **{"transform": SMALL, **other})
    with pytest.raises(SchemaError, match=r"in different ways.*ConcatDataset"):
        first + second
    assert len(torch.utils.data.ConcatDataset([first, second])) == 18


@needs_libraries
def test_datasets_of_other_kinds(classes):
    images = penstock.ImageFolder(classes, SMALL)
    for other in (penstock.TensorDataset(torch.zeros(2, 3, 8, 9), torch.zeros(2)),):
        with pytest.raises(SchemaError):
            images + other
    slow = penstock.ImageFolder(classes, tenfold)
    both = images + slow
    assert isinstance(both, torch.utils.data.ConcatDataset)
    assert torch.equal(both[9][0], both[0][0] * 10)
