"""Transforms in Python are given the images that Pillow would give, decoded by the core."""

import io
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from pictures import photograph, to_jpeg, to_pillow, to_png, write_png
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

import penstock
from penstock import FormatError, _core
from penstock.datasets.decoded import NumberedImages

pytestmark = [
    pytest.mark.skipif(
        not (_core.BUILD["jpeg"] and _core.BUILD["png"]),
        reason="needs a build with libjpeg-turbo and libspng",
    ),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
IMAGES = os.path.join(os.path.dirname(__file__), "..", "data", "images")


def as_pixels(image):
    """A transform that the core does not know."""
    assert image.mode == "RGB"
    return np.asarray(image).copy()


def by_torchvision(path):
    """What torchvision's loader does."""
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of palettes with transparency
        return Image.open(file).convert("RGB")


def rotated(pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    return to_jpeg(pixels, exif=exif.tobytes(), dpi=(72, 72))


def paletted(transparent):
    image = to_pillow(photograph(20, 30)).convert("P")
    options = {"transparency": 3} if transparent else {}
    return to_png(image, **options)


@pytest.fixture
def root(tmp_path):
    rgb, gray = photograph(41, 23), photograph(30, 44, 1)
    wide = np.random.default_rng(0).integers(0, 65536, (9, 11, 1)).astype(np.uint16)
    files = {
        "rgb.jpg": to_jpeg(rgb),
        "gray.jpg": to_jpeg(gray),
        "cmyk.jpg": to_jpeg(photograph(33, 21, 4)),
        "rotated.jpg": rotated(photograph(64, 48)),
        "progressive.jpg": to_jpeg(rgb, progressive=True),
        "rgb.png": to_png(to_pillow(rgb)),
        "gray.png": to_png(to_pillow(gray)),
        "alpha.png": to_png(to_pillow(photograph(12, 13, 4))),
        "gray alpha.png": to_png(to_pillow(photograph(12, 13, 2))),
        "palette.png": paletted(False),
        "transparent.png": paletted(True),
        "wide.png": write_png(wide),
        "one.png": to_png(to_pillow(photograph(1, 1))),
    }
    for number, (name, data) in enumerate(files.items()):
        path = tmp_path / "images" / f"class {number % 2}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "images"


def test_samples_are_those_of_torchvision(root):
    dataset = penstock.ImageFolder(root)
    assert isinstance(dataset.table, NumberedImages)
    assert "decoded by the core" in dataset.explain()
    listed = DataLoader(dataset, 13, collate_fn=list)
    for samples in (list(dataset), dataset.__getitems__(range(13)), next(iter(listed))):
        for (image, target), (path, number) in zip(samples, dataset.samples, strict=True):
            expected = by_torchvision(path)
            assert np.array_equal(np.asarray(image), np.asarray(expected)), path
            assert (image.mode, image.info, target) == ("RGB", expected.info, number), path
    row = [os.path.basename(path) for path, _ in dataset.samples].index("rotated.jpg")
    assert ImageOps.exif_transpose(dataset[row][0]).size == (48, 64)


def test_files_of_every_sampling():
    paths = sorted(os.path.join(IMAGES, name) for name in os.listdir(IMAGES))
    dataset = penstock.ImageDataset(paths, transform=as_pixels)
    for path, pixels in zip(paths, dataset.__getitems__(range(len(paths))), strict=True):
        assert np.array_equal(pixels, np.asarray(by_torchvision(path))), path


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_whoever_asks(root, threads):
    dataset = penstock.ImageFolder(root, lambda image: torch.tensor(image.size))
    expected = torch.tensor([by_torchvision(path).size for path, _ in dataset.samples])
    before = penstock.get_num_threads()
    try:
        penstock.set_num_threads(threads)
        rows = torch.randperm(13, generator=torch.Generator().manual_seed(0)).tolist() * 2
        assert torch.equal(dataset.gather(rows)[0], expected[rows])
        assert torch.equal(dataset.subset(rows).gather([3, 0, 3])[0], expected[[rows[3], rows[0], rows[3]]])
        assert torch.equal((dataset + dataset)[14][0], expected[1])
        for loader in (
            DataLoader(dataset, 13),
            penstock.DataLoader(dataset, 13),
            penstock.DataLoader(dataset, 13, num_workers=1),
        ):
            assert torch.equal(next(iter(loader))[0], expected)
    finally:
        penstock.set_num_threads(before)


def test_rows_in_any_order(root):
    dataset = penstock.ImageFolder(root, as_pixels)
    numbered, _ = dataset.table.rows(range(13))
    for k in (12, 0, 5, 4, 6, 12, 11):
        number, pixels = numbered[k]
        assert number == k
        assert np.array_equal(pixels, dataset[k][0])


def test_through_a_pickle(root):
    dataset = pickle.loads(pickle.dumps(penstock.ImageFolder(root, as_pixels)))
    assert isinstance(dataset.table, NumberedImages)
    assert np.array_equal(dataset[0][0], np.asarray(by_torchvision(dataset.samples[0][0])))


def test_what_pillow_alone_decodes(root):
    """A GIF that is called .jpg, beside what the core decodes."""
    file = io.BytesIO()
    to_pillow(photograph(22, 11)).save(file, "GIF")
    (root / "class 0" / "rgb.jpg").write_bytes(file.getvalue())
    dataset = penstock.ImageFolder(root, as_pixels)
    for (pixels, _), (path, _) in zip(dataset.__getitems__(range(13)), dataset.samples, strict=True):
        assert np.array_equal(pixels, np.asarray(by_torchvision(path)))


@pytest.mark.parametrize("data", [b"no image", to_jpeg(photograph(41, 23))[:-300]])
def test_broken_files(root, data):
    path = root / "class 0" / "rgb.jpg"
    path.write_bytes(data)
    dataset = penstock.ImageFolder(root, as_pixels)
    row = [name for name, _ in dataset.samples].index(str(path))
    for ask in (lambda: dataset.__getitems__(range(13)), lambda: dataset[row]):
        with pytest.raises(FormatError) as caught:
            ask()
        assert (caught.value.path, caught.value.row) == (str(path), row)
    assert len(dataset.__getitems__([k for k in range(13) if k != row])) == 12
    replacing = penstock.ImageFolder(root, as_pixels, on_error="replace")
    pixels, target = replacing.__getitems__(range(13))[row]
    (other,) = [
        k
        for k in range(13)
        if k != row and np.array_equal(np.asarray(by_torchvision(dataset.samples[k][0])), pixels)
    ]
    assert target == dataset.samples[other][1]
    assert [name for name, _ in replacing.skipped] == [str(path)]
