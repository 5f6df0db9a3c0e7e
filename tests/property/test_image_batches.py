"""Native batches of images against the same transforms in Python, by Pillow and torch."""

import itertools

import numpy as np
import pytest
import torch
from draws import MASK, derived, reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import photograph, to_jpeg, to_pillow, to_png
from PIL import Image

import penstock
from penstock import _core
from penstock import transforms as T

SIZES = ((40, 30), (31, 47), (64, 64), (90, 33), (9, 50), (50, 17))
NO_COLORS = ((1, 1), (1, 1), (1, 1), (0, 0))


# batches ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for number, ((width, height), form, channels) in enumerate(
        itertools.product(SIZES, ("jpg", "png"), (1, 3))
    ):
        pixels = photograph(width, height, channels)
        data = to_jpeg(pixels, quality=90) if form == "jpg" else to_png(to_pillow(pixels))
        path = root / f"class {number % 3}" / f"{number:02}.{form}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return root


sizes = st.one_of(st.integers(1, 48), st.tuples(st.integers(1, 48), st.integers(1, 48)))
filters = st.sampled_from(["bilinear", "bicubic"])
probabilities = st.sampled_from([0.0, 0.5, 1.0])
paddings = st.one_of(
    st.integers(0, 9), st.tuples(st.integers(0, 9), st.integers(0, 9)), st.tuples(*[st.integers(0, 9)] * 4)
)
firsts: st.SearchStrategy[list] = st.one_of(
    st.just([]),
    st.builds(lambda side: [T.RandomCrop(side)], st.integers(1, 9)),
    st.builds(lambda channels: [T.Grayscale(channels)], st.sampled_from([1, 3])),
)
resizes: st.SearchStrategy[list] = st.one_of(
    st.builds(
        lambda height, width, by: [T.Resize((height, width), by)],
        st.integers(1, 48),
        st.integers(1, 48),
        filters,
    ),
    st.builds(lambda size, by: [T.Resize(size, by, max_size=size + 20)], st.integers(1, 48), filters),
    st.builds(lambda size, by: [T.RandomResizedCrop(size, interpolation=by)], sizes, filters),
    st.builds(lambda size: [T.RandomResizedCrop(size, (0.5, 3.0), (0.1, 0.2))], sizes),
    st.just([]),
)
afters = st.lists(
    st.one_of(
        st.builds(T.CenterCrop, sizes),
        st.builds(T.RandomHorizontalFlip, probabilities),
        st.builds(T.RandomVerticalFlip, probabilities),
        st.builds(T.Pad, paddings),
        st.builds(T.RandomCrop, sizes, st.none() | paddings, st.just(True)),
    ),
    max_size=4,
)
factors = st.one_of(st.sampled_from([0.0, 0.4, 2.0]), st.tuples(st.floats(0, 1), st.floats(1, 3)))
jitters = st.builds(
    T.ColorJitter,
    factors,
    factors,
    factors,
    st.one_of(st.sampled_from([0.0, 0.1, 0.5]), st.tuples(st.floats(-0.5, 0), st.floats(0, 0.5))),
)
colors = st.lists(
    st.one_of(
        jitters,
        st.builds(lambda jitter, p: T.RandomApply([jitter], p), jitters, probabilities),
        st.builds(T.RandomGrayscale, probabilities),
        st.builds(T.RandomHorizontalFlip, probabilities),
    ),
    max_size=3,
)
ends = st.sampled_from(
    [
        ["to pixels"],
        ["to tensor"],
        ["to tensor", "normalize"],
        ["to tensor", "normalize", "bfloat16"],
        ["to pixels", "float16"],
        ["to pixels", "float32"],
    ]
)


def ending(names, channels):
    known = {
        "to pixels": T.PILToTensor(),
        "to tensor": T.ToTensor(),
        "normalize": T.Normalize([0.485, 0.456, 0.406][:channels], [0.229, 0.224, 0.225][:channels]),
        "bfloat16": T.ToDtype(torch.bfloat16),
        "float16": T.ToDtype(torch.float16, scale=True),
        "float32": T.ToDtype(torch.float32, scale=False),
    }
    return [known[name] for name in names]


@st.composite
def pipelines(draw):
    first, resize, after = draw(firsts), draw(resizes), draw(afters)
    channels = next((each.num_output_channels for each in first if isinstance(each, T.Grayscale)), 3)
    crop = T.CenterCrop(draw(sizes))  # one size for all
    return T.Compose([*first, *resize, *after, crop, *draw(colors), *ending(draw(ends), channels)])


def opened(path):
    with Image.open(path) as image:
        return image.convert("RGB")


@given(transform=pipelines(), epoch=st.integers(0, 2**40), seed=st.integers(-(2**63), 2**63), data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_are_those_of_pillow_and_torch(folder, transform, epoch, seed, data):
    dataset = penstock.ImageFolder(folder, transform, seed=seed)
    assert dataset.sample_transform is None, dataset.explain()
    dataset.set_epoch(epoch)
    key = derived(seed & MASK, epoch)
    rows = data.draw(st.lists(st.integers(0, len(dataset) - 1), min_size=1, max_size=6))
    images, targets = dataset.gather(rows)
    assert targets.tolist() == [dataset.samples[row][1] for row in rows]
    for row, image in zip(rows, images, strict=True):
        expected = reference(transform, opened(dataset.samples[row][0]), key, row)
        torch.testing.assert_close(image, expected, rtol=0, atol=0)


def test_the_same_batch_whoever_makes_it(folder):
    """Whatever the threads, the order, the subset, the loader and the process."""
    transform = T.Compose([T.RandomResizedCrop(24), T.RandomHorizontalFlip(), T.ToTensor()])
    dataset = penstock.ImageFolder(folder, transform, seed=7)
    dataset.set_epoch(3)
    expected = dataset.gather(range(len(dataset)))[0]
    before = penstock.get_num_threads()
    try:
        for threads in (1, 2, 8):
            penstock.set_num_threads(threads)
            rows = np.random.default_rng(threads).permutation(len(dataset))
            assert torch.equal(dataset.gather(rows)[0], expected[rows])
            loader = penstock.DataLoader(dataset, 5, shuffle=True, seed=threads, num_threads=threads)
            loader.set_epoch(3)
            order = penstock.ShuffleSampler(dataset, seed=threads)
            order.set_epoch(3)
            assert torch.equal(torch.cat([images for images, _ in loader]), expected[list(order)])
    finally:
        penstock.set_num_threads(before)
    some = dataset.subset([5, 3, 5])
    assert torch.equal(some.gather([0, 1, 2])[0], expected[[5, 3, 5]])
    assert torch.equal(dataset[4][0], expected[4])
    workers = torch.utils.data.DataLoader(dataset, 6, num_workers=2)
    assert torch.equal(torch.cat([images for images, _ in workers]), expected)
    again = penstock.ImageFolder(folder, transform, seed=7)
    again.set_epoch(4)
    assert not torch.equal(again.gather(range(len(dataset)))[0], expected)


def test_epochs_and_resume(folder):
    transform = T.Compose([T.RandomResizedCrop(24), T.RandomHorizontalFlip(), T.ToTensor()])

    def loader():
        dataset = penstock.ImageFolder(folder, transform)
        return penstock.DataLoader(dataset, 4, shuffle=True, seed=1)

    whole = loader()
    epochs = [[images for images, _ in whole] for _ in range(2)]
    assert not torch.equal(torch.cat(epochs[0]).sum(), torch.cat(epochs[1]).sum())
    broken_off = loader()
    list(broken_off)
    batches = iter(broken_off)
    next(batches)
    going_on = loader()
    going_on.load_state_dict(broken_off.state_dict())
    assert all(map(torch.equal, [images for images, _ in going_on], epochs[1][1:]))


def test_torchs_loader_goes_by_torchs_numbers(folder):
    transform = T.Compose([T.RandomResizedCrop(24), T.ToTensor()])
    dataset = penstock.ImageFolder(folder, transform)

    def epoch(seed):
        torch.manual_seed(seed)
        return torch.cat([images for images, _ in torch.utils.data.DataLoader(dataset, 8)])

    first = epoch(1)
    assert torch.equal(epoch(1), first)
    assert not torch.equal(epoch(2), first)
    torch.manual_seed(1)
    assert not torch.equal(dataset[0][0], dataset[0][0])


# what is random --------------------------------------------------------------------------------------------

DRAWN = 4_000


def distance(a, b):
    """Kolmogorov's and Smirnov's, of two samples."""
    at = np.sort(np.concatenate([a, b]))
    cumulative = [np.searchsorted(np.sort(each), at, "right") / len(each) for each in (a, b)]
    return np.abs(cumulative[0] - cumulative[1]).max()


@pytest.mark.parametrize(
    ("width", "height", "scale", "ratio"),
    [
        (500, 375, (0.08, 1.0), (3 / 4, 4 / 3)),
        (100, 900, (0.3, 1.0), (3 / 4, 4 / 3)),  # rarely fits: often the middle
        (60, 40, (0.2, 0.5), (0.5, 0.5)),
    ],
)
def test_random_resized_crop_has_torchvisions_distribution(width, height, scale, ratio):
    lowered = ("random resized crop", (224, 224), 0, (0, 0, 0, 0), False, scale, ratio, 0.0)
    steps = _core.ImageSteps([(*lowered, NO_COLORS)])
    drawn = np.array([steps.plan(width, height, 1, row)[0] for row in range(DRAWN)])
    torch.manual_seed(0)
    expected = np.array([T.RandomResizedCrop(224, scale, ratio)._part(width, height) for _ in range(DRAWN)])
    for each in range(4):
        assert distance(drawn[:, each], expected[:, each]) < 1.95 * (2 / DRAWN) ** 0.5
    assert distance(drawn[:, 2] * drawn[:, 3], expected[:, 2] * expected[:, 3]) < 1.95 * (2 / DRAWN) ** 0.5


def test_flips_and_crops_are_uniform():
    flip = ("flip horizontally", (0, 0), 0, (0, 0, 0, 0), False, (0, 1), (1, 1), 0.3)
    crop = ("random crop", (10, 10), 0, (0, 0, 0, 0), False, (0, 1), (1, 1), 0.0)
    steps = _core.ImageSteps([(*flip, NO_COLORS), (*crop, NO_COLORS)])
    plans = [steps.plan(13, 10, 5, row) for row in range(DRAWN)]
    flips = np.mean([plan[4] for plan in plans])
    assert abs(flips - 0.3) < 4 * (0.3 * 0.7 / DRAWN) ** 0.5
    counts = np.bincount([plan[3][0] for plan in plans], minlength=4)
    assert len(counts) == 4
    assert ((counts - DRAWN / 4) ** 2 / (DRAWN / 4)).sum() < 16.27  # chi-square, 3 degrees, p = 0.001
