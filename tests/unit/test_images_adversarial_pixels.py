"""Every kind of JPEG and PNG under every transform, and orientations that Pillow does not heed either."""

import io

import numpy as np
import pytest
import torch
from pictures import RULE, photograph, to_jpeg, to_pillow, to_png, write_png
from PIL import Image

import penstock
from penstock import _core
from penstock import transforms as T

pytestmark = pytest.mark.skipif(
    not (_core.BUILD["jpeg"] and _core.BUILD["png"]), reason="needs a build with libjpeg-turbo and libspng"
)

WIDTH, HEIGHT = 53, 38


def png16(channels):
    return write_png(photograph(WIDTH, HEIGHT, channels).astype(np.uint16) * 257 + 3)


def paletted(**options):
    return to_png(to_pillow(photograph(WIDTH, HEIGHT)).quantize(32), **options)


def with_orientation(orientation, form="JPEG"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    to_pillow(photograph(WIDTH, HEIGHT)).save(file, form, exif=exif)
    return file.getvalue()


KINDS = {
    "gray.jpg": to_jpeg(photograph(WIDTH, HEIGHT, 1)),
    "rgb.jpg": to_jpeg(photograph(WIDTH, HEIGHT), quality=90),
    "progressive.jpg": to_jpeg(photograph(WIDTH, HEIGHT), progressive=True),
    "444.jpg": to_jpeg(photograph(WIDTH, HEIGHT), subsampling=0),
    "cmyk.jpg": to_jpeg(photograph(WIDTH, HEIGHT, 4)),
    "gray.png": to_png(to_pillow(photograph(WIDTH, HEIGHT, 1))),
    "gray alpha.png": to_png(Image.fromarray(photograph(WIDTH, HEIGHT, 2), "LA")) if RULE < "12" else None,
    "alpha.png": to_png(to_pillow(photograph(WIDTH, HEIGHT, 4))),
    "one bit.png": to_png(to_pillow(photograph(WIDTH, HEIGHT, 1)).convert("1")),
    "palette.png": paletted(),
    "palette, 2 bits.png": paletted(bits=2),
    "gray of 16 bits.png": png16(1),
    "gray alpha of 16 bits.png": png16(2),
    "rgb of 16 bits.png": png16(3),
    "alpha of 16 bits.png": png16(4),
    "interlaced.png": write_png(photograph(WIDTH, HEIGHT), interlaced=True),
    "turned.jpg": with_orientation(6),
    "turned.png": with_orientation(8, "PNG"),
}
KINDS = {name: data for name, data in KINDS.items() if data is not None}

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TRANSFORMS = {
    "as it is": [T.PILToTensor()],
    "resized": [T.Resize((17, 29)), T.ToTensor()],
    "larger, bicubic": [T.Resize((77, 61), "bicubic"), T.PILToTensor()],
    "shorter side, middle": [T.Resize(25), T.CenterCrop(24), T.ToTensor(), T.Normalize(MEAN, STD)],
    "a middle that is larger": [T.CenterCrop((60, 20)), T.PILToTensor()],
    "gray": [T.Grayscale(), T.Resize((20, 20)), T.ToTensor()],
    "gray three times": [T.Grayscale(3), T.Resize((20, 20)), T.PILToTensor()],
    "with a border": [T.Resize((30, 30)), T.Pad((1, 2, 3, 4), fill=7), T.ToTensor()],
    "mirrored": [T.RandomHorizontalFlip(1.0), T.RandomVerticalFlip(1.0), T.PILToTensor()],
    "bfloat16": [T.ToTensor(), T.Normalize(MEAN, STD), T.ToDtype(torch.bfloat16)],
    "whole, by a random crop": [T.RandomCrop((HEIGHT, WIDTH)), T.PILToTensor()],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    (root / "all").mkdir()
    for name, data in KINDS.items():
        (root / "all" / name).write_bytes(data)
    return root


def opened(path):
    with Image.open(path) as image:
        return image.convert("RGB")


@pytest.mark.filterwarnings("ignore:.*Transparency:UserWarning")
@pytest.mark.parametrize("steps", TRANSFORMS.values(), ids=TRANSFORMS)
def test_every_kind_under_every_transform(folder, steps):
    transform = T.Compose(steps)
    dataset = penstock.ImageFolder(folder, transform)
    assert dataset.sample_transform is None, dataset.explain()
    images = dataset.gather(range(len(dataset)))[0]
    wrong = [
        path.rpartition("/")[2]
        for (path, _), image in zip(dataset.samples, images, strict=True)
        if not torch.equal(image, transform(opened(path)))
    ]
    assert not wrong


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("decode", ["exact", "fast"])
def test_orientations_change_no_crop(tmp_path, orientation, decode):
    """As in torchvision, whose loader does not turn images: pixels and random crops are those without."""
    for name, data in (("with", with_orientation(orientation)), ("without", KINDS["rgb.jpg"])):
        (tmp_path / name / "class").mkdir(parents=True)
        (tmp_path / name / "class" / "a.jpg").write_bytes(data)
    plain = io.BytesIO()
    to_pillow(photograph(WIDTH, HEIGHT)).save(plain, "JPEG")
    (tmp_path / "without" / "class" / "a.jpg").write_bytes(plain.getvalue())
    for steps in (
        [T.RandomResizedCrop(24), T.RandomHorizontalFlip()],
        [T.RandomCrop((38, 40))],
        [T.CenterCrop(30)],
    ):
        both = []
        for name in ("with", "without"):
            dataset = penstock.ImageFolder(
                tmp_path / name, T.Compose([*steps, T.PILToTensor()]), decode=decode, seed=5
            )
            dataset.set_epoch(2)
            both.append(dataset.gather([0])[0])
        assert torch.equal(*both)


def test_random_transforms_treat_every_kind_alike(folder):
    """The same part of an image is cut out, whatever it is encoded as: the numbers go by rows and sizes."""
    transform = T.Compose([T.RandomResizedCrop(16), T.PILToTensor()])
    dataset = penstock.ImageFolder(folder, transform, seed=1)
    steps = _core.ImageSteps(dataset._lowered.steps)
    key = dataset.random_key(0)
    dataset.set_epoch(0)
    images = dataset.gather(range(len(dataset)))[0]
    for row, (path, _) in enumerate(dataset.samples):
        x, y, width, height = map(int, steps.plan(WIDTH, HEIGHT, key, row)[0])
        part = opened(path).crop((x, y, x + width, y + height)).resize((16, 16), Image.Resampling.BILINEAR)
        assert torch.equal(images[row], T.PILToTensor()(part)), path
