"""What images are before they are transformed: mode=, dtype=, apply_exif_orientation=."""

import io
import pickle

import numpy as np
import pytest
import torch
from pictures import photograph, to_pillow
from PIL import Image, ImageOps

import penstock
from penstock import _core
from penstock import transforms as T
from penstock.errors import ArgumentError, FormatError, SchemaError

ORIENTATION = 0x0112
needs_libraries = pytest.mark.skipif(
    not (_core.BUILD["jpeg"] and _core.BUILD["png"]), reason="needs a build with libjpeg-turbo and libspng"
)


def to_pixels(image):
    """A transform that the core does not know: (channels, height, width) of a Pillow image."""
    pixels = np.array(image)
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


@pytest.fixture(
    params=[pytest.param(T.PILToTensor(), marks=needs_libraries), to_pixels], ids=["native", "Python"]
)
def transform(request):
    return request.param


def save(path, image, **options):
    image.save(path, **options)
    return path


def pictures(folder, mode):
    """Two files of each kind that Pillow opens in this mode."""
    whole = to_pillow(photograph(23, 17, seed=1))
    if mode == "P":
        whole = whole.quantize(16)
    elif mode == "LA" or mode == "RGBA":
        whole.putalpha(whole.convert("L").rotate(180))
        whole = whole.convert(mode)
    else:
        whole = whole.convert(mode)
    files = [whole.crop((0, 0, 20, 15)), whole.crop((3, 2, 23, 17))]
    ending = "jpg" if mode == "CMYK" else "png"
    return [save(folder / f"{i}.{ending}", each) for i, each in enumerate(files)]


def as_opened(path):
    with Image.open(path) as image:
        return image.copy()


@pytest.mark.parametrize("kind", ["L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("mode", ["RGB", "L", "unchanged"])
def test_modes(tmp_path, transform, kind, mode):
    paths = pictures(tmp_path, kind)
    batch = penstock.ImageDataset(paths, transform=transform, mode=mode).gather([0, 1])
    for path, image in zip(paths, batch, strict=True):
        expected = as_opened(path)
        if mode != "unchanged" or kind == "P":
            expected = expected.convert("RGB" if mode == "unchanged" else mode)
        assert torch.equal(image, to_pixels(expected))


def test_a_palette_with_a_transparent_color(tmp_path, transform):
    image = to_pillow(photograph(9, 7)).quantize(8)
    path = save(tmp_path / "a.png", image, transparency=3)
    found = penstock.ImageDataset([path], transform=transform, mode="unchanged")[0]
    assert torch.equal(found, to_pixels(as_opened(path).convert("RGBA")))


@needs_libraries
def test_as_many_channels_as_the_first_image(tmp_path):
    paths = [*pictures(tmp_path, "RGBA"), save(tmp_path / "rgb.png", to_pillow(photograph(20, 15)))]
    dataset = penstock.ImageDataset(paths, transform=T.PILToTensor(), mode="unchanged")
    assert dataset.gather([0, 1]).shape == (2, 4, 15, 20)
    with pytest.raises(SchemaError, match=r"rgb\.png: .*another number of channels.*needed 4, found 3"):
        dataset.gather([0, 2])
    paths.insert(0, tmp_path / "broken.png")
    paths[0].write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 of 4"):
        dataset = penstock.ImageDataset(paths, transform=T.PILToTensor(), mode="unchanged", on_error="skip")
    assert len(dataset) == 3
    assert dataset.gather([0]).shape == (1, 4, 15, 20)


@needs_libraries
@pytest.mark.parametrize("mode", ["L", "unchanged", "RGB"])
def test_16_bits(tmp_path, mode):
    pixels = np.random.default_rng(1).integers(0, 65_536, (2, 8, 9), np.uint16)
    paths = [save(tmp_path / f"{i}.png", Image.fromarray(each)) for i, each in enumerate(pixels)]
    channels = 3 if mode == "RGB" else 1
    expected = torch.from_numpy(pixels)[:, None].expand(2, channels, 8, 9)

    def batch(transform):
        dataset = penstock.ImageDataset(paths, transform=transform, mode=mode, dtype="uint16")
        return dataset.gather([0, 1])

    assert torch.equal(batch(T.PILToTensor()), expected)
    assert torch.equal(batch(T.ToTensor()), expected.to(torch.float32) / 65_535)
    normalized = batch(T.Compose([T.ToTensor(), T.Normalize([0.25] * channels, [0.5] * channels)]))
    assert torch.equal(normalized, (expected.to(torch.float32) / 65_535 - 0.25) / 0.5)
    corner = batch(T.Compose([T.CenterCrop(4), T.PILToTensor()]))
    assert torch.equal(corner, expected[:, :, 2:6, 2:6])


def test_16_bits_in_python_are_gray(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 65_536, (8, 9), np.uint16)
    gray = save(tmp_path / "gray.png", Image.fromarray(pixels))
    dataset = penstock.ImageDataset([gray], transform=to_pixels, dtype="uint16")
    assert torch.equal(dataset[0], torch.from_numpy(pixels)[None])
    color = save(tmp_path / "color.png", to_pillow(photograph(9, 8)))
    with pytest.raises(FormatError, match=r"color\.png: .*16"):
        penstock.ImageDataset([color], transform=to_pixels, dtype="uint16")[0]


@needs_libraries
def test_8_bits_are_not_16(tmp_path):
    path = save(tmp_path / "a.png", to_pillow(photograph(9, 8)))
    corner = T.Compose([T.CenterCrop(4), T.PILToTensor()])
    with pytest.raises(FormatError, match=r"a\.png.*16 bits"):
        penstock.ImageDataset([path], transform=corner, dtype="uint16").gather([0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_orientation(tmp_path, transform, orientation, ending):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path / f"a.{ending}", to_pillow(photograph(20, 15)), exif=exif)
    plain = penstock.ImageDataset([path], transform=transform)[0]
    assert torch.equal(plain, to_pixels(as_opened(path)))
    upright = penstock.ImageDataset([path], transform=transform, apply_exif_orientation=True)[0]
    with Image.open(path) as image:
        assert torch.equal(upright, to_pixels(ImageOps.exif_transpose(image)))


def test_a_folder_of_classes_takes_them_too(tmp_path, transform):
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    save(tmp_path / "a" / "x.jpg", to_pillow(photograph(20, 15)), exif=exif)
    dataset = penstock.ImageFolder(tmp_path, transform, mode="L", apply_exif_orientation=True)
    assert dataset[0][0].shape == (1, 20, 15)


@pytest.mark.parametrize(
    ("option", "value"), [("mode", "RGBA"), ("dtype", "float32"), ("decode", "quick"), ("max_pixels", 0)]
)
def test_values_that_cannot_be(tmp_path, option, value):
    path = save(tmp_path / "a.png", to_pillow(photograph(9, 8)))
    with pytest.raises(ArgumentError, match=option):
        penstock.ImageDataset([path], **{option: value})


@needs_libraries
def test_what_the_core_does_not_do_with_them(tmp_path):
    path = save(tmp_path / "a.png", to_pillow(photograph(9, 8)))
    gray = T.Compose([T.Grayscale(), T.PILToTensor()])
    assert "unchanged" in penstock.ImageDataset([path], transform=gray, mode="unchanged").explain()
    border = T.Compose([T.Pad(1, fill=7), T.PILToTensor()])
    assert "border" in penstock.ImageDataset([path], transform=border, dtype="uint16").explain()


def test_unchanged_survives_a_pickle_of_bytes(tmp_path):
    stream = io.BytesIO()
    Image.new("LA", (4, 4), (9, 200)).save(stream, "png")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    dataset = penstock.ImageDataset([tmp_path / "a.png"], transform=to_pixels, mode="unchanged")
    assert pickle.loads(pickle.dumps(dataset))[0].shape == (2, 4, 4)
