"""Images of different sizes in one batch: padded or as a list, against Pillow and a loop."""

import itertools
import os
import pickle

import numpy as np
import pytest
import torch
from pictures import photograph, to_jpeg, to_pillow, to_png
from PIL import Image
from torch.utils.data import DataLoader

import penstock
from penstock import ArgumentError, Collate, FormatError, ShardError, _core
from penstock import transforms as T

pytestmark = [
    pytest.mark.skipif(
        not (_core.BUILD["jpeg"] and _core.BUILD["png"]),
        reason="needs a build with libjpeg-turbo and libspng",
    ),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
SIZES = [(1, 1), (40, 30), (31, 47), (64, 64), (90, 33), (2, 50), (300, 200), (17, 1)]  # width, height


def write(path, size, seed=0):
    pixels = photograph(*size, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(to_pillow(pixels)) if path.suffix == ".png" else to_jpeg(pixels, quality=90))
    return path


@pytest.fixture
def root(tmp_path):
    for number, size in enumerate(SIZES):
        form = "png" if number % 2 else "jpg"
        write(tmp_path / "images" / f"class {number % 3}" / f"{number}.{form}", size, number)
    return tmp_path / "images"


def by_pillow(dataset, transform):
    """Every sample, one by one."""
    samples = []
    for path, _ in dataset.samples:
        with Image.open(path) as image:
            samples.append(transform(image.convert("RGB")))
    return samples


def padded(images, value=0.0, multiple=1, side="right", channels_last=False):
    """Batch, sizes and mask, by a loop over the images."""
    free = (0, 1) if channels_last else (1, 2)
    sizes = torch.tensor([[image.shape[i] for i in free] for image in images])
    height, width = (-(-int(most) // multiple) * multiple for most in sizes.amax(0))
    channels = images[0].shape[2 if channels_last else 0]
    shape = (height, width, channels) if channels_last else (channels, height, width)
    batch = torch.full((len(images), *shape), value, dtype=images[0].dtype)
    mask = torch.zeros(len(images), height, width, dtype=torch.bool)
    for k, (image, (h, w)) in enumerate(zip(images, sizes.tolist(), strict=True)):
        y, x = (height - h, width - w) if side == "left" else (0, 0)
        place = batch[k, y : y + h, x : x + w] if channels_last else batch[k, :, y : y + h, x : x + w]
        place.copy_(image)
        mask[k, y : y + h, x : x + w] = True
    return batch, sizes, mask


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


# layouts ---------------------------------------------------------------------------------------------------


def test_padded_with_sizes_behind_all_fields(root):
    dataset = penstock.ImageFolder(root, T.ToTensor())
    assert "by the core" in dataset.explain()
    batch, sizes, _ = padded(by_pillow(dataset, T.ToTensor()))
    targets = torch.from_numpy(dataset.targets)
    for images, found, labels in (
        dataset.gather(range(8)),
        next(iter(DataLoader(dataset, 8))),
        next(iter(DataLoader(dataset, 8, collate_fn=penstock.collate))),
        next(iter(penstock.DataLoader(dataset, 8))),
    ):
        same([images, found, labels], [batch, sizes, targets])
        assert images.is_contiguous()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
def test_every_way_to_pad(root, dtype, channels_last):
    casts = [T.PILToTensor()] if dtype == torch.uint8 else [T.ToTensor(), T.ToDtype(dtype)]
    transform = T.Compose(casts)
    dataset = penstock.ImageFolder(root, transform, channels_last=channels_last)
    samples = by_pillow(dataset, transform)
    if channels_last:
        samples = [sample.permute(1, 2, 0) for sample in samples]
    rows = [3, 0, 7, 3, -2]
    chosen = [samples[row] for row in rows]
    for side, multiple, value in itertools.product(("right", "left"), (1, 7, 64), (0, 3)):
        options = {"padding_side": side, "pad_to_multiple": multiple, "padding_value": value}
        expected = padded(chosen, value, multiple, side, channels_last)
        got = Collate(**options, mask=True)(dataset.__getitems__(rows))
        same(got[:3], list(expected))
        images, _ = Collate(**options, lengths=False)(dataset.__getitems__(rows))
        same(images, expected[0])
    for got, expected in zip(Collate(layout="list")(dataset.__getitems__(rows))[0], chosen, strict=True):
        same(got, expected)
        assert got.is_contiguous()


def test_single_samples(root):
    dataset = penstock.ImageFolder(root, T.ToTensor())
    expected = by_pillow(dataset, T.ToTensor())
    for i, (image, target) in enumerate(dataset):
        same(image, expected[i])
        assert target == dataset.samples[i][1]
    samples = dataset.__getitems__([6, 2])
    same([image for image, _ in samples], [expected[6], expected[2]])
    own = DataLoader(dataset.subset([6, 2]), 2, collate_fn=lambda samples: [image for image, _ in samples])
    same(next(iter(own)), [expected[6], expected[2]])


def test_without_labels(root):
    paths = [path for path, _ in penstock.ImageFolder(root, T.ToTensor()).samples]
    dataset = penstock.ImageDataset(paths, transform=T.ToTensor())
    with_sizes = dataset.gather([1, 4])
    assert [tuple(part.shape) for part in with_sizes] == [(2, 3, 64, 90), (2, 2)]
    alone = Collate(lengths=False)(dataset.__getitems__([1, 4]))
    same(alone, with_sizes[0])
    assert [image.shape for image in Collate(layout="list")(dataset.__getitems__([1, 4]))] == [
        dataset[1].shape,
        dataset[4].shape,
    ]


def test_resize_of_the_shorter_edge_and_normalise(root):
    transform = T.Compose(
        [T.Resize(20, max_size=60), T.Grayscale(1), T.RandomHorizontalFlip(1.0), T.ToTensor()]
    )
    assert "after a resize" in penstock.ImageFolder(root, transform).explain()
    transform = T.Compose(
        [
            T.Grayscale(1),
            T.Resize(20, max_size=60),
            T.Pad(2),
            T.RandomHorizontalFlip(1.0),
            T.ToTensor(),
            T.Normalize([0.5], [0.25]),
        ]
    )
    dataset = penstock.ImageFolder(root, transform)
    images, sizes, _ = dataset.gather(range(8))
    same([images, sizes], list(padded(by_pillow(dataset, transform))[:2]))


def test_samples_that_were_changed(root):
    for channels_last in (False, True):
        dataset = penstock.ImageFolder(root, T.ToTensor(), channels_last=channels_last)
        for options in (
            {},
            {"padding_side": "left", "pad_to_multiple": 16, "mask": True},
            {"layout": "list"},
        ):
            collate = Collate(**options)
            samples = dataset.__getitems__([1, 6, 3])
            samples[1][0].mul_(2)
            got, expected = collate(samples), collate(dataset.__getitems__([1, 6, 3]))
            expected[0][1].mul_(2)
            same(got, expected)


def test_no_rows(root):
    dataset = penstock.ImageFolder(root, T.ToTensor())
    images, sizes, targets = dataset.gather([])
    assert (images.shape, sizes.shape, targets.shape) == ((0, 3, 0, 0), (0, 2), (0,))


@pytest.mark.parametrize(
    "options", [{"layout": "pack"}, {"layout": "nested"}, {"max_length": 9}, {"batch_first": False}]
)
def test_layouts_that_images_cannot_have(root, options):
    dataset = penstock.ImageFolder(root, T.ToTensor())
    with pytest.raises(ArgumentError, match="images of different sizes cannot be laid out like this"):
        Collate(**options)(dataset.__getitems__([0]))
    with pytest.raises(ArgumentError, match="such a multiple"):
        Collate(pad_to_multiple=2**40)(dataset.__getitems__([0]))
    bytes_only = penstock.ImageFolder(root, T.PILToTensor())
    with pytest.raises(ArgumentError, match="padding_value"):
        Collate(padding_value=-1)(bytes_only.__getitems__([0]))


def test_what_the_dataset_says(root):
    dataset = penstock.ImageFolder(root, T.PILToTensor())
    image, _ = dataset.schema
    assert (image.shape, image.kind, image.bytes, image.rows) == ((3, -1, -1), "ragged", 0, 8)
    last = penstock.ImageFolder(root, T.PILToTensor(), channels_last=True)
    assert last.schema[0].shape == (-1, -1, 3)
    assert "uint8 (3, -1, -1)" in repr(dataset)
    with pytest.raises(AttributeError):
        dataset.lengths  # noqa: B018
    with pytest.raises(penstock.SchemaError, match="different lengths"):
        dataset.gather([0], out=(torch.empty(1, 3, 1, 1), torch.empty(1, dtype=torch.int64)))
    assert dataset.fingerprint != last.fingerprint
    assert pickle.loads(pickle.dumps(dataset)).fingerprint == dataset.fingerprint


def test_images_of_one_size_are_stacked_as_ever(root):
    paths = [write(root / f"{i}.png", (9, 7), i) for i in range(3)]
    assert penstock.ImageDataset(paths, transform=T.ToTensor()).gather(range(3)).shape == (3, 3, 7, 9)


def test_headers_beyond_the_first_look(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.datasets.images._FIRST_LOOK", 4)
    paths = [write(tmp_path / f"{i}.png", (9, 7), i) for i in range(6)]
    assert penstock.ImageDataset(paths, transform=T.ToTensor()).gather([5]).shape == (1, 3, 7, 9)
    write(paths[5], (9, 8))
    images, sizes = penstock.ImageDataset(paths, transform=T.ToTensor()).gather([0, 5])
    assert (images.shape, sizes.tolist()) == ((2, 3, 8, 9), [[7, 9], [8, 9]])


# who makes them --------------------------------------------------------------------------------------------


def test_whoever_makes_the_batch(root):
    transform = T.Compose([T.RandomHorizontalFlip(), T.RandomVerticalFlip(), T.ToTensor()])
    dataset = penstock.ImageFolder(root, transform, seed=5)
    dataset.set_epoch(2)
    batches = [dataset.gather(range(k, min(k + 3, 8))) for k in range(0, 8, 3)]
    listed = [Collate(layout="list")(dataset.__getitems__(range(k, min(k + 3, 8)))) for k in range(0, 8, 3)]
    before = penstock.get_num_threads()
    try:
        for threads in (1, 2, 8):
            loader = penstock.DataLoader(dataset, 3, num_threads=threads)
            loader.set_epoch(2)
            same(list(loader), batches)
            same(list(DataLoader(dataset, 3)), batches)
            ahead = DataLoader(dataset, batch_sampler=penstock.BatchSampler(range(8), 3))
            same(list(ahead), batches)
            loader = penstock.DataLoader(dataset, 3, collate_fn=Collate(layout="list"))
            loader.set_epoch(2)
            same(list(loader), listed)
    finally:
        penstock.set_num_threads(before)
    same(list(DataLoader(dataset, 3, num_workers=2)), batches)
    same(list(DataLoader(dataset, 3, num_workers=1, collate_fn=Collate(layout="list"))), listed)
    spawned = DataLoader(dataset, 8, num_workers=1, multiprocessing_context="spawn")
    same(list(spawned), [dataset.gather(range(8))])
    dataset.set_epoch(3)
    assert not torch.equal(dataset.gather(range(3))[0], batches[0][0])


def test_pinned_memory_is_asked_for(root):
    dataset = penstock.ImageFolder(root, T.ToTensor())
    same(dataset.gather([1, 2], pin_memory=True), dataset.gather([1, 2]))


# broken files ----------------------------------------------------------------------------------------------

HEADERS = {"no image": b"hello, world", "empty": b"", "header cut": to_jpeg(photograph(60, 40))[:100]}


def cut(path):
    """A sound header with half of the data."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("layout", ["pad", "list"])
@pytest.mark.parametrize("bad", [*HEADERS, "cut", "missing"])
def test_a_bad_file_is_named(root, bad, layout):
    dataset = penstock.ImageFolder(root, T.ToTensor())
    path = next(path for path, _ in dataset.samples if path.endswith("6.jpg"))
    row = [path for path, _ in dataset.samples].index(path)
    if bad == "cut":
        cut(root / path)
    elif bad == "missing":
        os.unlink(path)
    else:
        (root / path).write_bytes(HEADERS[bad])
    collate = Collate(layout=layout)
    error = ShardError if bad == "missing" else FormatError
    for ask in (
        lambda: dataset[row],
        lambda: collate(dataset.__getitems__([row, 0])),
        lambda: list(penstock.DataLoader(dataset, 8, collate_fn=collate)),
    ):
        with pytest.raises(error, match=rf"6\.jpg: row {row}\b"):
            ask()
    others = [k for k in range(8) if k != row]
    batches = iter(penstock.DataLoader(dataset, 1, sampler=[row, *others], collate_fn=collate))
    with pytest.raises(error):
        next(batches)
    assert len(list(batches)) == 7


@pytest.mark.parametrize("bad", [*HEADERS, "cut"])
def test_another_image_stands_in(root, bad):
    """The same one in any batch and alone, whole, with its own target and size."""
    sound = penstock.ImageFolder(root, T.ToTensor())
    expected = [image for image, _ in sound]
    path = next(path for path, _ in sound.samples if path.endswith("6.jpg"))
    row = [path for path, _ in sound.samples].index(path)
    if bad == "cut":
        cut(root / path)
    else:
        (root / path).write_bytes(HEADERS[bad])
    dataset = penstock.ImageFolder(root, T.ToTensor(), on_error="replace")
    image, target = dataset[row]
    (other,) = [k for k in range(8) if torch.equal(expected[k], image)]
    assert other != row
    assert target == sound.targets[other]
    for rows in ([row], [row, 0], range(8), [row, row]):
        chosen = [other if k == row else k for k in rows]
        images, sizes, targets = dataset.gather(rows)
        whole, right, _ = padded([expected[k] for k in chosen])
        assert sizes.tolist() == right.tolist()
        assert targets.tolist() == sound.targets[chosen].tolist()
        height, width = whole.shape[2:]
        same(images[:, :, :height, :width], whole)
        assert not images[:, :, height:].any()
        assert not images[:, :, :, width:].any()
        listed = Collate(layout="list")(dataset.__getitems__(rows))[0]
        same(listed, [expected[k] for k in chosen])
    assert [each for each, _ in dataset.skipped] == [path]


def test_none_fits_in_the_place_of_the_smallest(root):
    cut(next(root.glob("*/7.png")))  # 17 x 1: only the one pixel fits
    dataset = penstock.ImageFolder(root, T.ToTensor(), on_error="replace")
    row = [os.path.basename(path) for path, _ in dataset.samples].index("7.png")
    assert dataset[row][0].shape == (3, 1, 1)
    cut(next(root.glob("*/0.jpg")))
    with pytest.raises(FormatError, match=r"\d\.(jpg|png)"):
        dataset[row]


def test_skipped(root):
    bad = next(root.glob("*/6.jpg"))
    bad.write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 8"):
        dataset = penstock.ImageFolder(root, T.ToTensor(), on_error="skip")
    images, sizes, targets = dataset.gather(range(7))
    same([images, sizes], list(padded(by_pillow(dataset, T.ToTensor()))[:2]))
    assert targets.tolist() == dataset.targets.tolist()


def test_a_file_that_changes_its_size(root):
    dataset = penstock.ImageFolder(root, T.ToTensor())
    path, _ = dataset.samples[0]
    before = dataset[0][0].shape
    write(root / path, (33, 22))
    with pytest.raises(ShardError, match=r"row 0: .*another size than when.*found 33 x 22"):
        dataset[0]
    assert dataset[0][0].shape == (3, 22, 33) != before  # looked at again


def test_all_are_broken(root):
    for path in root.glob("*/*.*"):
        path.write_bytes(b"no image")
    for on_error in ("raise", "replace"):
        dataset = penstock.ImageFolder(root, T.ToTensor(), on_error=on_error)
        with pytest.raises(FormatError):
            dataset.gather([0, 1])


# any sizes -------------------------------------------------------------------------------------------------


def test_random_sizes_and_batches(tmp_path):
    random = np.random.default_rng(3)
    paths = [
        write(tmp_path / f"{i}.{'jpg' if i % 3 else 'png'}", random.integers(1, 150, 2).tolist(), i)
        for i in range(60)
    ]
    dataset = penstock.ImageDataset(paths, transform=T.PILToTensor())
    samples = []
    for path in dataset.paths:
        with Image.open(path) as image:
            samples.append(T.PILToTensor()(image.convert("RGB")))
    for _ in range(40):
        rows = random.integers(0, 60, random.integers(1, 20))
        images, sizes = dataset.gather(rows)
        expected, right, _ = padded([samples[row] for row in rows], 0)
        same([images, sizes], [expected, right])
        same(Collate(layout="list")(dataset.__getitems__(rows)), [samples[row] for row in rows])
