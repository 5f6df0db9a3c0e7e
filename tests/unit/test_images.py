"""ImageFolder and ImageDataset: what they find, what they give, and bad input."""

import copy
import logging
import os
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
from pictures import photograph, to_jpeg, to_pillow, to_png
from PIL import Image

import penstock
from penstock import _core
from penstock import transforms as T
from penstock.errors import ArgumentError, FormatError, SampleError, SchemaError, ShardError

needs_libraries = pytest.mark.skipif(
    not (_core.BUILD["jpeg"] and _core.BUILD["png"]), reason="needs a build with libjpeg-turbo and libspng"
)

SMALL = T.Compose([T.Resize((8, 9)), T.ToTensor()])
RANDOM = T.Compose([T.RandomResizedCrop(8), T.ToTensor()])
NO_COLORS = ((1, 1), (1, 1), (1, 1), (0, 0))


def tenfold(image):
    """A transform that the core does not know."""
    return SMALL(image) * 10


def write(path, seed=0, size=(30, 20), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = photograph(*size, seed=seed)
    path.write_bytes(to_png(to_pillow(pixels)) if path.suffix == ".png" else to_jpeg(pixels, **options))
    return path


@pytest.fixture
def root(tmp_path):
    """Eight images of two classes, in torchvision's order."""
    names = ["cat/.a.jpg", "cat/b.JPG", "cat/z.png", "cat/more/c.jpg", "cat/more+/d.jpg"]
    for seed, name in enumerate([*names, "dog-1/x.jpeg", "dog-1/y.png", "dog-1/z.png"]):
        write(tmp_path / "images" / name, seed)
    (tmp_path / "images" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "images" / "x.jpg").write_text("of no class")
    return tmp_path / "images"


@pytest.fixture(params=["native", "by Pillow", "Python"])
def transform(request):
    """One that the core takes on, with its own decoders (where it has them) and without; and another."""
    _core.use_image_libraries(request.param != "by Pillow")
    yield tenfold if request.param == "Python" else SMALL
    _core.use_image_libraries(True)


def found_by_torchvision(root):
    """What torchvision's make_dataset does."""
    found = []
    for number, name in enumerate(sorted(each.name for each in os.scandir(root) if each.is_dir())):
        for at, _, files in sorted(os.walk(root / name, followlinks=True)):
            found += [(os.path.join(at, f), number) for f in sorted(files) if not f.endswith("txt")]
    return found


# what is there ---------------------------------------------------------------------------------------------


def test_attributes_are_torchvisions(root, transform):
    dataset = penstock.ImageFolder(root, transform)
    assert dataset.classes == ["cat", "dog-1"]
    assert dataset.class_to_idx == {"cat": 0, "dog-1": 1}
    assert dataset.samples == dataset.imgs == found_by_torchvision(root)
    assert dataset.targets.tolist() == [0] * 5 + [1] * 3
    assert len(dataset) == 8
    assert dataset.fields == (("image" if dataset.sample_transform is None else "index"), "target")
    assert dataset.transform is transform
    assert dataset.root == str(root)


def test_samples_and_batches(root, transform):
    dataset = penstock.ImageFolder(root, transform)
    expected = []
    for path, _ in dataset.samples:
        with Image.open(path) as image:
            expected.append(transform(image.convert("RGB")))
    for i, (image, target) in enumerate(dataset):
        assert torch.equal(image, expected[i])
        assert int(target) == dataset.samples[i][1]
    for loader in (penstock.DataLoader, torch.utils.data.DataLoader):
        images, targets = zip(*loader(dataset, batch_size=3), strict=True)
        assert torch.equal(torch.cat(images), torch.stack(expected))
        assert torch.equal(torch.cat(targets), torch.tensor([0] * 5 + [1] * 3))
    some = torch.utils.data.DataLoader(dataset.subset([6, 1]), 2, num_workers=1)
    assert torch.equal(next(iter(some))[0], torch.stack([expected[6], expected[1]]))
    assert dataset.subset([6, 1]).classes == dataset.classes
    assert dataset.subset([6, 1]).targets.tolist() == [1, 0]


def test_a_part_has_its_own_samples_and_the_classes_of_all(root, transform):
    dataset = penstock.ImageFolder(root, transform)
    nested = dataset.subset([7, 6, 1, 0]).subset([3, 1])
    parts = [dataset.subset([6, -1, 6]), nested, *penstock.random_split(dataset, [2, 6], seed=0)]
    for part in (*parts, *dataset.by_class().values(), pickle.loads(pickle.dumps(nested))):
        chosen = part.indices if part.dataset is dataset else [0, 6]
        assert part.samples == part.imgs == [dataset.samples[i] for i in chosen]
        assert [target for _, target in part.samples] == part.targets.tolist()
        assert (part.classes, part.class_to_idx) == (dataset.classes, dataset.class_to_idx)
        assert part.root == dataset.root
        for name in ("paths", "header_sizes", "lengths"):
            assert not hasattr(part, name)
    flat = penstock.ImageDataset(root, transform=transform)
    assert flat.subset([3, 0]).paths == [flat.paths[3], flat.paths[0]]


def test_through_a_pickle(root, transform):
    dataset = penstock.ImageFolder(root, transform, seed=3)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.samples == dataset.samples
    assert again.fingerprint == dataset.fingerprint
    assert torch.equal(again.gather([7, 2])[0], dataset.gather([7, 2])[0])
    assert repr(again) == repr(dataset)


def test_in_a_spawned_worker(root):
    dataset = penstock.ImageFolder(root, RANDOM)
    dataset.set_epoch(1)
    loader = torch.utils.data.DataLoader(dataset, 8, num_workers=1, multiprocessing_context="spawn")
    ((images, targets),) = loader
    assert torch.equal(images, dataset.gather(range(8))[0])
    assert torch.equal(targets, dataset.gather(range(8))[1])


def test_target_transform(root, transform):
    dataset = penstock.ImageFolder(root, transform, target_transform=lambda number: number * 10 + 1)
    assert dataset.gather([0, 7])[1].tolist() == [1, 11]
    assert dataset.targets.tolist() == [0] * 5 + [1] * 3
    pairs = penstock.ImageFolder(root, transform, target_transform=lambda number: torch.eye(2)[number])
    assert pairs.gather([7, 0])[1].tolist() == [[0, 1], [1, 0]]
    with pytest.raises(SchemaError, match="labels must be numbers"):
        penstock.ImageFolder(root, transform, target_transform=str)


def assert_like(dataset, other):
    """The same samples, however they are asked for, and made in the same way."""
    assert len(dataset) == len(other)
    assert dataset.fields == other.fields
    assert dataset.explain() == other.explain()
    assert dataset.fingerprint == other.fingerprint
    expected = [torch.stack(field) for field in zip(*map(tensors, other), strict=True)]
    for loader in (penstock.DataLoader, torch.utils.data.DataLoader):
        fields = zip(*loader(dataset, batch_size=3), strict=True)
        for found, wanted in zip(fields, expected, strict=True):
            assert torch.equal(torch.cat(found), wanted)
    assert penstock.DataLoader(dataset, 3)._is_native() == ("in Python" not in other.explain())


def tensors(sample):
    return [torch.as_tensor(field) for field in sample]


FLOATS = T.Compose([T.CenterCrop(9), T.ToTensor()])


@pytest.mark.parametrize(
    "other",
    [FLOATS, SMALL, tenfold, T.Compose([T.Resize((5, 6)), tenfold])],
    ids=["another", "small", "a function", "with a function"],
)
def test_a_transform_may_be_set(root, transform, other, caplog):
    """torchvision's is an attribute: what is set there, later samples come through."""
    dataset = penstock.ImageFolder(root, transform)
    before = dataset.gather([0, 7])
    flat = penstock.ImageDataset(root / "cat", list(range(5)), transform)
    part, loader = dataset.subset(range(8)), penstock.DataLoader(dataset, 2)
    caplog.clear()
    dataset.transform = flat.transform = other
    assert dataset.transform is other
    expected = penstock.ImageFolder(root, other)
    assert len(caplog.records) == 3 * ("in Python" in expected.explain())
    assert_like(dataset, expected)
    assert_like(pickle.loads(pickle.dumps(dataset)), expected)
    assert_like(flat, penstock.ImageDataset(root / "cat", list(range(5)), other))
    assert part.transform is other
    assert_like(part, expected.subset(range(8)))
    assert torch.equal(torch.cat([images for images, _ in loader]), expected.gather(range(8))[0])
    dataset.transform = transform
    assert torch.equal(dataset.gather([0, 7])[0], before[0])


def test_no_transform_may_be_set(root, transform):
    dataset = penstock.ImageFolder(root, transform)
    dataset.transform = None
    image, target = dataset[6]
    assert (dataset.transform, image.mode, image.size, target) == (None, "RGB", (30, 20), 1)
    assert "there is no transform" in dataset.explain()


def test_parts_may_have_transforms_of_their_own(root, transform):
    """The validation part is not augmented."""
    dataset = penstock.ImageFolder(root, transform)
    train, val = penstock.random_split(dataset, [5, 3], seed=0)
    val.transform = FLOATS
    assert val.transform is FLOATS
    assert train.transform is dataset.transform is transform
    assert torch.equal(train.gather([0, 1])[0], dataset.gather(train.indices[:2])[0])
    assert_like(val, penstock.ImageFolder(root, FLOATS).subset(val.indices))
    torchs_train, torchs_val = torch.utils.data.random_split(dataset, [5, 3])
    torchs_val.dataset = copy.copy(dataset)
    torchs_val.dataset.transform = FLOATS
    assert torchs_val[0][0].shape == (3, 9, 9)
    assert torch.equal(torchs_train[0][0], dataset[torchs_train.indices[0]][0])


def test_a_transform_that_cannot_be_is_not_set(root, transform):
    dataset = penstock.ImageFolder(root, transform)
    with pytest.raises(ArgumentError, match="a size is 1 pixel or more"):
        dataset.transform = T.Compose([T.Resize((1 << 30, 1 << 30)), T.ToTensor()])
    assert dataset.transform is transform
    assert_like(dataset, penstock.ImageFolder(root, transform))


def test_a_target_transform_may_be_set(root, transform):
    dataset = penstock.ImageFolder(root, transform)
    part = dataset.subset([7, 0])
    tenth = dataset.target_transform = lambda number: number * 10 + 1
    assert dataset.target_transform is tenth
    assert_like(dataset, penstock.ImageFolder(root, transform, target_transform=tenth))
    assert part.gather([0, 1])[1].tolist() == [11, 1]
    assert part.targets.tolist() == [1, 0]
    with pytest.raises(SchemaError, match="labels must be numbers"):
        dataset.target_transform = str
    assert dataset.target_transform is tenth
    dataset.target_transform = None
    assert dataset.gather([0, 7])[1].tolist() == [0, 1]


def halved(path):
    with Image.open(path) as image:
        return image.convert("RGB").reduce(2)


def test_a_loader_of_ones_own(root, transform, caplog):
    """As torchvision's argument, in its place."""
    dataset = penstock.ImageFolder(str(root), transform, None, halved)
    assert dataset.loader is halved
    assert "images are loaded one by one in Python, because loader= opens them" in dataset.explain()
    assert caplog.messages[-1] == dataset.explain()
    expected = torch.stack([transform(halved(path)) for path, _ in dataset.samples])
    for each in (dataset, pickle.loads(pickle.dumps(dataset)), dataset.subset(range(8))):
        for loader in (penstock.DataLoader, torch.utils.data.DataLoader):
            images, targets = zip(*loader(each, batch_size=3), strict=True)
            assert torch.equal(torch.cat(images), expected)
            assert torch.cat(targets).tolist() == [0] * 5 + [1] * 3
    dataset.transform = SMALL
    assert torch.equal(dataset[7][0], SMALL(halved(dataset.samples[7][0])))


def test_a_loader_sees_the_paths_of_samples(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    dataset = penstock.ImageFolder("images", loader=lambda path: path)
    assert list(dataset) == dataset.samples
    assert dataset.samples[0][0].startswith("images/cat")
    texts = penstock.ImageFolder(
        root, loader=os.path.getsize, is_valid_file=lambda path: path.endswith("txt"), allow_empty=True
    )
    assert texts[0] == (len("no image"), 0)
    assert texts.extensions is None


def test_without_a_loader_there_is_one(root, transform):
    """Which subclasses of torchvision's call."""
    dataset = penstock.ImageFolder(root, transform)
    assert dataset.extensions == (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
    path = dataset.samples[0][0]
    with Image.open(path) as image:
        assert np.array_equal(dataset.loader(path), image.convert("RGB"))
        gray = pickle.loads(pickle.dumps(penstock.ImageFolder(root, mode="L").loader))(path)
        assert np.array_equal(gray, image.convert("L"))
    with pytest.raises(ShardError, match="cannot be read"):
        dataset.loader(str(root / "none.png"))


def test_torchvisions_loader_is_the_cores(root):
    def default_loader(path):
        raise AssertionError

    default_loader.__module__, default_loader.__qualname__ = "torchvision.datasets.folder", "default_loader"
    dataset = penstock.ImageFolder(root, SMALL, loader=default_loader)
    assert_like(dataset, penstock.ImageFolder(root, SMALL))
    assert dataset.loader is default_loader


@pytest.mark.parametrize("on_error", ["replace", "skip"])
def test_what_a_loader_raises_of(root, transform, on_error):
    def loader(path):
        if path.endswith("b.JPG"):
            raise ValueError("no such thing")
        return halved(path)

    with pytest.raises(
        (FormatError, SampleError), match=r"b\.JPG: (row 1: )?loader= raised ValueError: no such thing"
    ):
        penstock.ImageFolder(root, transform, loader=loader).gather([0, 1])
    dataset = penstock.ImageFolder(root, transform, loader=loader, on_error=on_error)
    assert len(dataset.gather(range(8))[0]) == 8
    assert {os.path.basename(path) for path, _ in dataset.skipped} == {"b.JPG"}


def test_a_file_that_a_loader_cannot_read(root, transform):
    dataset = penstock.ImageFolder(root, transform, loader=halved)
    os.unlink(root / "cat" / "b.JPG")
    with pytest.raises((ShardError, SampleError), match=r"b\.JPG: (row 1: )?cannot be read: No such file"):
        dataset.gather([0, 1])


def test_a_loader_decides_what_an_image_is(root):
    with pytest.raises(ArgumentError, match="mode=, dtype= and apply_exif_orientation= are not for"):
        penstock.ImageFolder(root, SMALL, loader=halved, mode="L")


def test_is_valid_file(root, transform):
    dataset = penstock.ImageFolder(root, transform, is_valid_file=lambda path: path.endswith("z.png"))
    assert [os.path.basename(path) for path, _ in dataset.samples] == ["z.png", "z.png"]
    assert dataset.targets.tolist() == [0, 1]


def test_the_slow_path_says_why(root, caplog):
    with caplog.at_level(logging.WARNING, "penstock"):
        dataset = penstock.ImageFolder(root, T.Compose([T.Resize(9), tenfold]))
    assert "tenfold is not one that the core knows" in caplog.text
    assert len(caplog.records) == 1
    assert dataset.explain() == caplog.messages[0]
    with pytest.raises(SampleError, match="row 2") as caught:
        penstock.ImageFolder(root, lambda image: image / 0)[2]
    assert isinstance(caught.value.__cause__, TypeError)


def test_what_a_loop_that_waits_is_told(root, monkeypatch):
    def report(**options):
        loader = penstock.DataLoader(penstock.ImageFolder(root, **options), 1)
        for _ in loader:
            pass
        return loader.report()

    monkeypatch.setattr(_core, "num_processors", lambda: 1)
    monkeypatch.setattr(_core, "BUILD", {**_core.BUILD, "jpeg": "one", "png": "one"})
    assert 'only decode="fast" (of JPEG files' in report(transform=SMALL)
    assert "only smaller image files would help" in report(transform=SMALL, decode="fast")
    assert (
        "use num_workers; images are decoded by the core and transformed one by one in Python, because"
        in report(transform=tenfold)
    )
    monkeypatch.setitem(_core.BUILD, "jpeg", "")
    assert "a build with libjpeg-turbo and libspng, where now Pillow decodes, " in report(transform=SMALL)


def test_without_a_transform_samples_are_pillow_images(root):
    image, target = penstock.ImageFolder(root)[6]
    assert (image.mode, image.size, target) == ("RGB", (30, 20), 1)


def test_what_keeps_the_core_from_it(root):
    assert "by the core" in penstock.ImageFolder(root, SMALL).explain()


def test_images_of_one_size_need_no_resize(root):
    dataset = penstock.ImageFolder(root, T.Compose([T.RandomHorizontalFlip(), T.ToTensor()]))
    assert "by the core" in dataset.explain()
    assert dataset.gather([0, 6])[0].shape == (2, 3, 20, 30)
    write(root / "cat" / ".a.jpg", 0, (29, 20))
    with pytest.raises(SchemaError, match=r"\.a\.jpg: row 0: .*another size.*needed 30 x 20, found 29 x 20"):
        dataset.gather([0, 6])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_and_layouts(root, dtype):
    casts = [T.PILToTensor()] if dtype == torch.uint8 else [T.ToTensor(), T.ToDtype(dtype)]
    parts = [T.Resize((8, 9)), *casts]
    images = penstock.ImageFolder(root, T.Compose(parts)).gather(range(8))[0]
    assert (images.dtype, images.shape) == (dtype, (8, 3, 8, 9))
    last = penstock.ImageFolder(root, T.Compose(parts), channels_last=True).gather(range(8))[0]
    assert torch.equal(last.permute(0, 3, 1, 2), images)


@needs_libraries
def test_fast_is_near(root):
    write(root / "cat" / ".a.jpg", 1, (300, 200), quality=95)
    exact, fast = (penstock.ImageFolder(root, SMALL, decode=each)[0][0] for each in ("exact", "fast"))
    assert 0 < (exact - fast).abs().mean() < 0.04


# an index --------------------------------------------------------------------------------------------------


def long_ago(root):
    """So that a file system's clock can tell what happens next from what was."""
    for at, _, _ in os.walk(root):
        os.utime(at, (1e9, 1e9))


def test_an_index_is_believed_until_a_folder_changes(root, tmp_path, transform):
    long_ago(root)
    index = tmp_path / "index"
    first = penstock.ImageFolder(root, transform, index=index)
    written = index.stat().st_mtime_ns
    again = penstock.ImageFolder(root, transform, index=index)
    assert index.stat().st_mtime_ns == written
    assert again.samples == first.samples == penstock.ImageFolder(root, transform).samples
    assert again.classes == first.classes
    assert torch.equal(again.gather([1, 7])[0], first.gather([1, 7])[0])
    write(root / "dog-1" / "a.png")
    write(root / "eel" / "a.png")
    anew = penstock.ImageFolder(root, transform, index=index)
    assert anew.classes == ["cat", "dog-1", "eel"]
    assert len(anew) == 10
    assert index.stat().st_mtime_ns != written
    with pytest.raises(ArgumentError, match="of another folder"):
        penstock.ImageFolder(root / "..", transform, allow_empty=True, index=index)
    with pytest.raises(ArgumentError, match="for other arguments"):
        penstock.ImageDataset(root, transform=transform, index=index)
    with pytest.raises(ArgumentError, match="does not remember"):
        penstock.ImageFolder(root, transform, is_valid_file=bool, index=index)


def test_an_index_with_an_empty_class(root, tmp_path, transform):
    (root / "ant").mkdir()
    long_ago(root)
    for _ in range(2):
        dataset = penstock.ImageFolder(root, transform, allow_empty=True, index=tmp_path / "index")
        assert dataset.classes == ["ant", "cat", "dog-1"]
        assert dataset.targets.tolist() == [1] * 5 + [2] * 3
        with pytest.raises(FileNotFoundError, match="ant"):
            penstock.ImageFolder(root, transform, index=tmp_path / "index")


# ImageDataset ----------------------------------------------------------------------------------------------


@pytest.fixture
def flat(tmp_path):
    for seed in range(4):
        write(tmp_path / "flat" / f"{'cat' if seed % 2 else 'dog'}_{seed}.jpg", seed)
    return tmp_path / "flat"


NAMES = ["cat_1.jpg", "cat_3.jpg", "dog_0.jpg", "dog_2.jpg"]


def test_without_labels(flat, transform):
    dataset = penstock.ImageDataset(flat, transform=transform)
    assert [os.path.basename(path) for path in dataset.paths] == NAMES
    assert dataset[1].shape == (3, 8, 9)
    assert dataset.gather([0, 3]).shape == (2, 3, 8, 9)
    with pytest.raises(AttributeError, match="no class labels"):
        dataset.targets  # noqa: B018
    given = penstock.ImageDataset([flat / "dog_2.jpg", str(flat / "cat_1.jpg")], transform=transform)
    assert torch.equal(given.gather([0, 1]), dataset.gather([3, 0]))
    assert given.paths == [str(flat / "dog_2.jpg"), str(flat / "cat_1.jpg")]


@pytest.mark.parametrize(
    "labels",
    [
        [5, 6, 7, 8],
        (5, 6, 7, 8),
        torch.tensor([5, 6, 7, 8]),
        np.array([5, 6, 7, 8]),
        {"cat_1": 5, "cat_3": 6, "dog_0": 7, "dog_2": 8},
        {"cat_1.jpg": 5, "cat_3.jpg": 6, "dog_0.jpg": 7, "dog_2.jpg": 8},
        lambda path: 5 + NAMES.index(path.name),
    ],
)
def test_labels(flat, transform, labels):
    dataset = penstock.ImageDataset(flat, labels, transform)
    assert dataset.gather([3, 0])[1].tolist() == [8, 5]
    assert dataset.targets.tolist() == [5, 6, 7, 8]


def test_labels_that_are_strings(flat, transform):
    for labels in (lambda path: path.name[:3], np.array(["cat", "cat", "dog", "dog"])):
        dataset = penstock.ImageDataset(flat, labels, transform)
        assert dataset.classes == ["cat", "dog"]
        assert dataset.targets.tolist() == [0, 0, 1, 1]
        assert dataset.gather([2])[1].tolist() == [1]


def test_labels_that_are_not_classes(flat, transform):
    dataset = penstock.ImageDataset(flat, torch.rand(4, 2), transform)
    assert dataset.gather([2])[1].shape == (1, 2)
    with pytest.raises(AttributeError):
        dataset.targets  # noqa: B018


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([1, 2], "needed 4, found 2"),
        ({"cat_1": 5}, "misses 3 of 4 images; found cat_3.jpg"),
        (["cat", 1, 2, 3], "labels must be numbers"),
        ([None] * 4, "labels must be numbers"),
    ],
)
def test_labels_that_cannot_be(flat, labels, match):
    with pytest.raises(SchemaError, match=match):
        penstock.ImageDataset(flat, labels, SMALL)


# bad input -------------------------------------------------------------------------------------------------


def test_no_folder_and_no_class(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        penstock.ImageFolder(tmp_path / "nowhere", SMALL)
    with pytest.raises(FileNotFoundError, match="no folder of a class"):
        penstock.ImageFolder(tmp_path, SMALL)
    (tmp_path / "ant").mkdir()
    for allow_empty in (False, True):
        with pytest.raises(FileNotFoundError, match="no image is there of the classes ant"):
            penstock.ImageFolder(tmp_path, SMALL, allow_empty=allow_empty)
    with pytest.raises(FileNotFoundError, match="there is no image"):
        penstock.ImageDataset(tmp_path, transform=SMALL)
    with pytest.raises(FileNotFoundError, match="there is no image"):
        penstock.ImageDataset([], transform=SMALL)


@pytest.mark.parametrize(
    "options", [{"decode": "slow"}, {"on_error": "ignore"}, {"jpeg_warnings": "print"}, {"max_pixels": 0}]
)
def test_options_that_cannot_be(root, options):
    with pytest.raises(ArgumentError):
        penstock.ImageFolder(root, SMALL, **options)


JPEG = to_jpeg(photograph(30, 20), quality=90)
BAD = {
    "truncated": JPEG[: len(JPEG) // 2],
    "header only": JPEG[:100],
    "no image": b"hello, world",
    "empty": b"",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_file_is_named(root, transform, bad):
    path = root / "cat" / "b.JPG"
    path.write_bytes(BAD[bad])
    dataset = penstock.ImageFolder(root, transform)
    for ask in (
        lambda: dataset[1],
        lambda: dataset.gather([0, 1]),
        lambda: list(penstock.DataLoader(dataset, 8)),
    ):
        with pytest.raises(FormatError, match=r"row 1\b") as caught:
            ask()
        assert caught.value.path == str(path)


def test_a_file_that_cannot_be_read(root, transform):
    dataset = penstock.ImageFolder(root, transform)
    (root / "cat" / "b.JPG").unlink()
    with pytest.raises(ShardError, match=r"b\.JPG: row 1"):
        dataset.gather([0, 1])
    (root / "cat" / "b.JPG").mkdir()
    with pytest.raises(ShardError, match=r"b\.JPG: row 1"):
        dataset.gather([0, 1])
    assert len(penstock.ImageFolder(root, SMALL)) == 7  # a folder is no image, whatever its name
    folder = penstock.ImageDataset([root / "cat" / "b.JPG"], transform=SMALL)
    with pytest.raises(ShardError):
        folder.gather([0])


@pytest.mark.parametrize("bad", BAD)
def test_replaced(root, transform, bad):
    """By the same sample each time, with its own target."""
    path = root / "cat" / "b.JPG"
    whole = penstock.ImageFolder(root, transform)
    images, targets = whole.gather(range(8))
    path.write_bytes(BAD[bad])
    dataset = penstock.ImageFolder(root, transform, on_error="replace")
    assert dataset.skipped == []
    got, labels = dataset.gather(range(8))
    places = [k for k in range(8) if k != 1]
    assert torch.equal(got[places], images[places])
    assert torch.equal(labels[places], targets[places])
    stands_in = [k for k in places if torch.equal(images[k], got[1])]
    assert len(stands_in) == 1
    assert labels[1] == targets[stands_in[0]]
    assert torch.equal(dataset[1][0], got[1])
    assert dataset.skipped[0][0] == str(path)
    assert dataset.skipped[0][1]


def test_all_are_broken(root):
    for path, _ in penstock.ImageFolder(root, SMALL).samples:
        shutil.copy(root / "x.jpg", path)
    with pytest.raises(FormatError):
        penstock.ImageFolder(root, SMALL, on_error="replace").gather([0])
    with pytest.raises(FormatError, match="none of the images"):
        penstock.ImageFolder(root, SMALL, on_error="skip")


@pytest.mark.parametrize("bad", ["no image", "empty"])
def test_skipped(root, transform, bad):
    path = root / "cat" / "b.JPG"
    path.write_bytes(BAD[bad])
    with pytest.warns(UserWarning, match=r"1 of 8 images are left out.*b\.JPG"):
        dataset = penstock.ImageFolder(root, transform, on_error="skip")
    assert len(dataset) == 7
    assert dataset.targets.tolist() == [0] * 4 + [1] * 3
    assert str(path) not in dict(dataset.samples)
    assert [each for each, _ in dataset.skipped] == [str(path)]
    images, targets = dataset.gather(range(7))
    assert len(images) == 7
    assert targets.tolist() == [0] * 4 + [1] * 3
    path.write_bytes(JPEG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(penstock.ImageFolder(root, transform, on_error="skip")) == 8


@needs_libraries
def test_warnings_are_counted_an_error_or_ignored(root):
    path = root / "cat" / "b.JPG"
    data = to_jpeg(photograph(100, 75), quality=90)
    path.write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    dataset = penstock.ImageFolder(root, SMALL)
    dataset.gather(range(8))
    dataset.gather(range(8))
    assert [each for each, _ in dataset.warnings] == [str(path)]
    assert dataset.skipped == []
    with pytest.raises(FormatError, match=r"b\.JPG: row 1.*libjpeg"):
        penstock.ImageFolder(root, SMALL, jpeg_warnings="error").gather(range(8))
    ignoring = penstock.ImageFolder(root, SMALL, jpeg_warnings="ignore")
    ignoring.gather(range(8))
    assert ignoring.warnings == []


def test_zeroed_blocks(root):
    """Refused, or counted, or decoded as libjpeg does without a word; never another size, never a crash."""
    path = root / "cat" / "b.JPG"
    dataset = penstock.ImageFolder(root, SMALL, on_error="replace")
    for start in range(0, len(JPEG), 37):
        path.write_bytes(JPEG[:start] + bytes(len(JPEG[start : start + 64])) + JPEG[start + 64 :])
        assert dataset.gather([1])[0].shape == (1, 3, 8, 9)


def test_too_many_pixels_and_too_few(root):
    with pytest.raises(FormatError, match="needed 599 pixels or fewer, found 30 x 20"):
        penstock.ImageFolder(root, SMALL, max_pixels=599).gather([0])
    crop = T.Compose([T.RandomCrop(25), T.ToTensor()])
    for on_error in ("raise", "replace"):  # not the file's fault
        with pytest.raises(ArgumentError, match=r"\.a\.jpg: row 0: the image is smaller.*pad_if_needed"):
            penstock.ImageFolder(root, crop, on_error=on_error).gather([0])


@pytest.mark.parametrize("epoch", [-1, 1.5])
def test_epochs_are_numbers_from_0(root, epoch):
    with pytest.raises((ArgumentError, SchemaError)):
        penstock.ImageFolder(root, RANDOM).set_epoch(epoch)


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (("resize", (0, 5), 0, (0, 0, 0, 0), False, (0, 1), (1, 1), 0.0), "1 pixel or more"),
        (("resize shorter", (5, 5), 5, (0, 0, 0, 0), False, (0, 1), (1, 1), 0.0), "must be longer"),
        (("pad", (0, 0), 0, (-1, 0, 0, 0), False, (0, 1), (1, 1), 0.0), "a border"),
        (("flip vertically", (0, 0), 0, (0, 0, 0, 0), False, (0, 1), (1, 1), 1.5), "a probability"),
        (("random resized crop", (5, 5), 0, (0, 0, 0, 0), False, (1, 0), (1, 1), 0.0), "scale and ratio"),
        (("random resized crop", (5, 5), 0, (0, 0, 0, 0), False, (0, 1), (0, 1), 0.0), "scale and ratio"),
        (("sharpen", (0, 0), 0, (0, 0, 0, 0), False, (0, 1), (1, 1), 0.0), "no such step; found sharpen"),
    ],
)
def test_steps_that_cannot_be(step, match):
    with pytest.raises(ArgumentError, match=match):
        _core.ImageSteps([(*step, NO_COLORS)])


def test_steps_that_are_not_one_resize():
    resize = ("resize", (5, 5), 0, (0, 0, 0, 0), False, (0.0, 1.0), (1.0, 1.0), 0.0)
    with pytest.raises(ArgumentError, match="not one crop and one resize"):
        _core.ImageSteps([(*resize, NO_COLORS)] * 2)
    longer = ("resize shorter", (5, 5), 0, (0, 0, 0, 0), False, (0.0, 1.0), (1.0, 1.0), 0.0)
    with pytest.raises(ArgumentError, match="too large"):
        _core.ImageSteps([(*longer, NO_COLORS)]).plan(1, 2**24, 0, 0)
    border = ("pad", (0, 0), 0, (2**24,) * 4, False, (0.0, 1.0), (1.0, 1.0), 0.0)
    with pytest.raises(ArgumentError, match="too large"):
        _core.ImageSteps([(*border, NO_COLORS)]).plan(1, 1, 0, 0)


def test_labels_that_are_floats_keep_all_their_digits(flat, transform):
    dataset = penstock.ImageDataset(flat, [1700000001.0, 1, 2, 3], transform)
    assert dataset[0][1].dtype == torch.float64
    assert dataset[0][1] == 1700000001
