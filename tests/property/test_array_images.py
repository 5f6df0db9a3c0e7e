"""Images that are rows of arrays: the core's batches against the same transforms in Python, row by row."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from draws import reference
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import transforms as T

SEED, EPOCH = 5, 3
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def random_rows(count, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


@st.composite
def row_shapes(draw):
    """Height, width, channels or None, whether channels come last."""
    side = st.integers(5, 50)
    return draw(side), draw(side), draw(st.sampled_from([None, 1, 2, 3, 4])), draw(st.booleans())


@st.composite
def pipelines(draw, height, width, channels):
    """Transforms that the core knows, of such images."""
    steps = []
    if draw(st.booleans()):
        side = st.integers(1, 55)
        steps.append(T.RandomCrop((draw(side), draw(side)), draw(st.none() | st.integers(0, 9)), True, 77))
        if draw(st.booleans()):
            steps.append(T.CenterCrop((draw(st.integers(1, steps[0].size[0])), draw(st.integers(1, 9)))))
            steps[0].fill = 0
    elif draw(st.booleans()):
        steps.append(T.RandomCrop((draw(st.integers(1, height)), draw(st.integers(1, width)))))
    if draw(st.booleans()):
        steps.append(T.RandomHorizontalFlip())
    if draw(st.booleans()):
        steps.append(T.RandomVerticalFlip(0.3))
    finish = draw(st.sampled_from(["uint8", "cast", "scale", "normalise"]))
    if finish == "cast":
        steps.append(T.ToDtype(draw(st.sampled_from(FLOATS))))
    if finish == "scale":
        steps.append(T.ToDtype(draw(st.sampled_from(FLOATS)), scale=True))
    if finish == "normalise":
        n = channels or 1
        steps += [T.ToTensor(), T.Normalize([0.485, 0.5, 0.4, 0.1][:n], [0.229, 0.3, 0.2, 0.1][:n])]
        steps.append(T.ToDtype(draw(st.sampled_from(FLOATS))))
    return T.Compose(steps or [T.RandomHorizontalFlip()])


def opened(rows, form, folder, transform):
    """A dataset of these rows, however they lie."""
    if form == "files":
        for number, part in enumerate(rows.tensor_split(3)):
            np.save(Path(folder, f"{number}.npy"), part.numpy())
        return penstock.ShardDataset(folder, transform=transform, seed=SEED)
    if form == "fortran":
        np.save(Path(folder, "0.npy"), np.asfortranarray(rows.numpy()))
        return penstock.ShardDataset({"image": folder}, fields="image", transform=transform, seed=SEED)
    if form == "strided":
        wide = torch.zeros(*rows.shape[:-1], 2 * rows.shape[-1] + 1, dtype=torch.uint8)
        wide[..., 1::2] = rows
        rows = wide[..., 1::2]
    if form == "cut":  # the last byte of the memory is the last one of the last row
        memory = torch.zeros(rows.numel() + 5, dtype=torch.uint8)
        memory[5:] = rows.flatten()
        rows = memory[5:].view(rows.shape)
    if form == "transposed":
        rows = rows.transpose(1, 2).contiguous().transpose(1, 2)
    return penstock.TensorDataset(rows, transform={0: transform}, seed=SEED)


def first_field(batch):
    return batch[0] if isinstance(batch, list) else batch


@given(st.data())
def test_batches_equal_a_loop(data):
    height, width, channels, last = shape = data.draw(row_shapes())
    transform = data.draw(pipelines(height, width, channels))
    rows = random_rows(7, {None: (height, width)}.get(channels, (channels, height, width)))
    channels_last = channels is not None and data.draw(st.booleans())
    stored = rows.permute(0, 2, 3, 1).contiguous() if channels and last else rows
    layout = "HWC" if last else "CHW"
    form = data.draw(st.sampled_from(["files", "fortran", "strided", "cut", "transposed"]))
    with tempfile.TemporaryDirectory() as folder:
        images = T.ImageRows(transform, layout=layout, channels_last=channels_last)
        dataset = opened(stored, form, folder, images)
        assert "by the core" in dataset.explain(), (shape, transform)
        dataset.set_epoch(EPOCH)
        picks = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=9))
        batch = first_field(dataset.gather(picks))
        key = dataset.random_key()
        expected = torch.stack([reference(transform, rows[i], key, i) for i in picks])
        if channels_last and expected.ndim == 4:
            expected = expected.permute(0, 2, 3, 1)
        assert batch.dtype == expected.dtype
        assert torch.equal(batch, expected)
        assert dataset.schema[0].shape == tuple(expected.shape[1:])
        assert dataset.schema[0].dtype == expected.dtype


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("width", [224, 232, 227])
@pytest.mark.parametrize("dtype", FLOATS)
def test_images_that_go_past_the_cache(layout, channels_last, width, dtype):
    steps = [T.RandomCrop((160, width - 8)), T.RandomHorizontalFlip(), T.ToTensor()]
    transform = T.Compose([*steps, T.Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]), T.ToDtype(dtype)])
    rows = random_rows(4, (3, 170, width))
    stored = rows if layout == "CHW" else rows.permute(0, 2, 3, 1).contiguous()
    dataset = penstock.TensorDataset(stored, transform={0: T.ImageRows(transform, None, channels_last)})
    dataset.set_epoch(EPOCH)
    batch = dataset.gather([3, 1, 0, 2, 3])[0]
    expected = torch.stack([reference(transform, rows[i], dataset.random_key(), i) for i in [3, 1, 0, 2, 3]])
    assert torch.equal(batch, expected.permute(0, 2, 3, 1) if channels_last else expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_a_resize_is_close_to_torchs(channels, interpolation):
    smooth = torch.nn.functional.interpolate(
        random_rows(6, (channels or 1, 9, 11)).float(), (60, 70), mode="bicubic", antialias=True
    )
    rows = smooth.round().clamp(0, 255).to(torch.uint8)
    rows = rows[:, 0] if channels is None else rows
    steps = [T.RandomResizedCrop((24, 30), interpolation=interpolation), T.RandomHorizontalFlip()]
    transform = T.Compose([*steps, T.CenterCrop((20, 40))])
    dataset = penstock.TensorDataset(rows, transform={0: T.ImageRows(transform, "CHW", resize="fast")})
    assert "by the core" in dataset.explain()
    dataset.set_epoch(EPOCH)
    batch = dataset.gather(range(6))[0]
    for i, got in enumerate(batch):
        image = rows[i] if channels else rows[i][None]
        expected = reference(transform, image, dataset.random_key(), i).reshape(got.shape)
        assert (got.int() - expected.int()).abs().max() <= 2


@pytest.mark.usefixtures("restore_threads")
def test_threads_and_lookahead_make_no_difference():
    crop = [T.RandomCrop(28, padding=4), T.RandomHorizontalFlip(), T.ToDtype(torch.float32, scale=True)]
    dataset = penstock.TensorDataset(
        random_rows(600, (3, 32, 32)), torch.arange(600), transform={0: T.Compose(crop)}
    )
    batches = []
    for threads in (1, 2, 8):
        penstock.set_num_threads(threads)
        loader = penstock.DataLoader(dataset, batch_size=256, shuffle=True, seed=1)
        batches.append(torch.cat([images.flatten(1) for _ in range(2) for images, _ in loader]))
    assert torch.equal(batches[0], batches[1])
    assert torch.equal(batches[0], batches[2])
    assert not torch.equal(batches[0][:600].sort(0).values, batches[0][600:].sort(0).values)
