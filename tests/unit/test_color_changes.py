"""ColorJitter: the core's changes of colors against Pillow's, to the byte, and how they are drawn."""

import itertools

import numpy as np
import pytest
import torch
from pictures import from_pillow, photograph, to_jpeg, to_pillow
from PIL import Image, ImageEnhance

import penstock
from penstock import _core
from penstock import transforms as T
from penstock.datasets.lowering import lowered
from penstock.errors import ArgumentError, SchemaError

NAMES = ("brightness", "contrast", "saturation", "hue")


def by_pillow(image, name, factor):
    """As torchvision's functions for Pillow images."""
    if name == "gray":
        return image.convert("L").convert(image.mode)
    if name != "hue":
        kind = {"brightness": "Brightness", "contrast": "Contrast", "saturation": "Color"}[name]
        return getattr(ImageEnhance, kind)(image).enhance(factor)
    if image.mode == "L":
        return image
    hue, saturation, value = image.convert("HSV").split()
    turned = np.array(hue) + np.array(int(factor * 255) % 256).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def every_color(step):
    """One of `step` of the 2**24 colors each, step being odd."""
    numbers = np.arange(0, 2**24, step, dtype=np.uint32)
    numbers = numbers[: len(numbers) // 256 * 256].reshape(256, -1)
    return np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], -1).astype(np.uint8)


# pixels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        *itertools.product(("brightness", "contrast", "saturation"), (0, 0.3, 0.999, 1, 1.4, 17.3, 1e9)),
        *(("hue", turn / 255) for turn in (-127, -60, -1, 0, 1, 42, 43, 100, 127)),
        ("gray", 0),
    ],
)
def test_every_color(name, factor):
    pixels = every_color(29)
    expected = from_pillow(by_pillow(Image.fromarray(pixels), name, factor))
    assert np.array_equal(_core.change_colors(pixels, [(name, factor)]), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 3), (65, 3), (200, 100)])
def test_one_after_the_other(channels, size):
    random = np.random.default_rng([channels, *size])
    pixels = photograph(*size, channels)
    for _ in range(20):
        changes = [(str(name), float(random.uniform(0, 2.5))) for name in random.choice(NAMES, 5)]
        changes = [(name, factor / 2.5 - 0.5 if name == "hue" else factor) for name, factor in changes]
        image = to_pillow(pixels)
        for name, factor in changes:
            image = by_pillow(image, name, factor)
        assert np.array_equal(_core.change_colors(pixels, changes), from_pillow(image))


def test_what_cannot_be():
    pixels = photograph(5, 5)
    with pytest.raises(ArgumentError, match="no such change"):
        _core.change_colors(pixels, [("taste", 1)])
    for change in (("hue", 1.1), ("hue", float("nan")), ("contrast", float("inf"))):
        with pytest.raises(ArgumentError, match="no such factor"):
            _core.change_colors(pixels, [change])
    black = np.zeros((3, 3, 3), np.uint8)
    assert not _core.change_colors(black, [("brightness", 1e300)]).any()
    with pytest.raises(SchemaError, match="no pixels"):
        _core.change_colors(photograph(5, 5, 4), [])


# called in Python ------------------------------------------------------------------------------------------


def test_the_transform_by_itself():
    image = to_pillow(photograph(30, 20))
    for name, factor in (("brightness", 0.7), ("contrast", 1.2), ("saturation", 0), ("hue", -0.2)):
        jitter = T.ColorJitter(**{name: (factor, factor)})
        assert np.array_equal(from_pillow(jitter(image)), from_pillow(by_pillow(image, name, factor)))
    assert T.ColorJitter()(image) is image
    assert T.ColorJitter(hue=0.5)(image.convert("L")).mode == "L"
    assert T.RandomGrayscale(1)(image).mode == "RGB"
    assert T.RandomApply([T.ColorJitter(1)], 0)(image) is image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transform", [T.ColorJitter(0.5, 0.5, 0.5, 0.2), T.RandomGrayscale(1)], ids=repr)
def test_a_tensor_of_pixels_is_changed_as_an_image(transform, channels):
    image = to_pillow(photograph(30, 20, channels))
    torch.manual_seed(3)
    expected = T.PILToTensor()(transform(image))
    torch.manual_seed(3)
    assert torch.equal(transform(T.PILToTensor()(image)), expected)


def test_gray_of_floats_has_torchvisions_weights():
    floats = T.ToTensor()(to_pillow(photograph(30, 20)))
    luma = (0.2989 * floats[0] + 0.587 * floats[1] + 0.114 * floats[2])[None]
    assert torch.equal(T.Grayscale()(floats), luma)
    assert torch.equal(T.Grayscale(3)(floats), luma.expand(3, -1, -1))
    assert torch.equal(T.RandomGrayscale(1)(floats), luma.expand(3, -1, -1))
    assert torch.equal(T.RandomGrayscale(1)(luma), luma)


@pytest.mark.parametrize("transform", [T.ColorJitter(0.1), T.Grayscale(), T.RandomGrayscale(1)], ids=repr)
def test_tensors_that_are_no_pictures(transform):
    name = type(transform).__name__
    with pytest.raises(SchemaError, match=rf"{name} is for Pillow images, and for uint8.*\(4, 5, 5\)"):
        transform(torch.zeros(4, 5, 5, dtype=torch.uint8))
    if name == "ColorJitter":
        with pytest.raises(SchemaError, match=r"float32.*Put it before ToTensor"):
            transform(torch.zeros(3, 5, 5))


def test_ranges_are_torchvisions():
    assert T.ColorJitter(0.4, 1.5, (0.2, 0.3), 0.1).brightness == (0.6, 1.4)
    assert T.ColorJitter(0.4, 1.5, (0.2, 0.3), 0.1).contrast == (0, 2.5)
    assert T.ColorJitter(0.4, 1.5, (0.2, 0.3), 0.1).saturation == (0.2, 0.3)
    assert T.ColorJitter(0.4, 1.5, (0.2, 0.3), 0.1).hue == (-0.1, 0.1)
    assert T.ColorJitter(0, (1, 1), 0, 0).contrast is None


# drawn by the core -----------------------------------------------------------------------------------------


def steps_of(*transforms):
    return _core.ImageSteps(lowered(T.Compose([T.Resize((9, 9)), *transforms, T.ToTensor()]), "exact").steps)


def drawn(steps, count):
    return [steps.plan(20, 20, 1, row)[6] for row in range(count)]


def test_factors_are_uniform_and_orders_alike():
    steps = steps_of(T.ColorJitter(0.4, (0.5, 3), 0.8, 0.1))
    assert steps.is_random
    all_changes = drawn(steps, 12_000)
    orders = [tuple(name for name, _ in changes) for changes in all_changes]
    counts = np.array([orders.count(order) for order in itertools.permutations(NAMES)])
    assert counts.sum() == 12_000
    assert ((counts - 500) ** 2 / 500).sum() < 58  # chi-square of 23 degrees: p = 1e-4
    for name, (low, high) in zip(NAMES, [(0.6, 1.4), (0.5, 3), (0.2, 1.8), (-0.1, 0.1)], strict=True):
        factors = np.array([dict(changes)[name] for changes in all_changes])
        shares = (np.sort(factors) - low) / (high - low)
        assert np.abs(shares - np.linspace(0, 1, 12_000)).max() < 2.2 / 12_000**0.5  # Kolmogorov: p = 1e-4


def test_what_does_not_change_is_left_out():
    assert drawn(steps_of(T.ColorJitter()), 3) == [[]] * 3
    assert {name for changes in drawn(steps_of(T.ColorJitter(hue=0.2)), 9) for name, _ in changes} == {"hue"}
    assert drawn(steps_of(T.RandomGrayscale(1)), 2) == [[("gray", 0)]] * 2


@pytest.mark.parametrize("transform", [T.RandomApply([T.ColorJitter(0.5)], 0.8), T.RandomGrayscale(0.8)])
def test_probabilities(transform):
    steps = steps_of(transform)
    assert steps.is_random
    assert abs(sum(map(bool, drawn(steps, 5000))) - 4000) < 4 * (5000 * 0.8 * 0.2) ** 0.5


NOTHING = (0, 0), 0, (0, 0, 0, 0), False, (0, 1), (1, 1), 1.0
SAME = (1, 1)


@pytest.mark.parametrize(
    "colors",
    [
        ((-0.1, 1), SAME, SAME, (0, 0)),
        (SAME, (2, 1), SAME, (0, 0)),
        (SAME, SAME, (1, float("inf")), (0, 0)),
        (SAME, SAME, SAME, (-0.6, 0)),
        (SAME, SAME, SAME, (0, 0.6)),
    ],
)
def test_steps_that_cannot_be(colors):
    with pytest.raises(ArgumentError, match="a change of colors goes from"):
        _core.ImageSteps([("jitter colors", *NOTHING, colors)])


def test_nothing_but_a_flip_comes_after():
    gray, crop = (("gray", *NOTHING, (SAME,) * 4), ("center crop", (5, 5), *NOTHING[1:], (SAME,) * 4))
    with pytest.raises(ArgumentError, match="a change of colors comes before"):
        _core.ImageSteps([gray, crop])
    assert _core.ImageSteps([crop, gray, ("flip vertically", *NOTHING, (SAME,) * 4)]).size == (5, 5)


# batches ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for number in range(12):
        path = tmp_path / f"{number:02}.jpg"
        path.write_bytes(to_jpeg(photograph(40, 30, 1 if number % 4 == 0 else 3, number)))
    return tmp_path


SIMCLR = T.Compose(
    [
        T.RandomResizedCrop(24),
        T.RandomHorizontalFlip(),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
        T.RandomGrayscale(0.2),
        T.ToTensor(),
    ]
)


def test_the_same_whatever_the_threads_and_the_order(folder):
    dataset = penstock.ImageDataset(folder, transform=SIMCLR)
    assert "by the core" in dataset.explain()
    dataset.set_epoch(1)
    rows = np.arange(12)
    expected = dataset.gather(rows)
    before = penstock.get_num_threads()
    try:
        for threads in (1, 4):
            penstock.set_num_threads(threads)
            order = np.random.default_rng(threads).permutation(12)
            assert torch.equal(dataset.gather(order), expected[order])
    finally:
        penstock.set_num_threads(before)
    dataset.set_epoch(2)
    assert not torch.equal(dataset.gather(rows), expected)


def test_a_border_has_colors_too(folder):
    """The mean gray is that of all that is there, border and all."""
    colors = T.ColorJitter(contrast=(0.5, 0.5))
    dataset = penstock.ImageDataset(folder, transform=T.Compose([T.CenterCrop(50), colors, T.PILToTensor()]))
    with Image.open(folder / "01.jpg") as image:
        expected = T.PILToTensor()(colors(T.CenterCrop(50)(image)))
    assert torch.equal(dataset[1], expected)
