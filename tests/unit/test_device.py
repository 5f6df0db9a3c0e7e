"""Batches on a device: what arrives, in which order, converted how.

On the machine's accelerator if it has one; `test_accelerator.py` runs these on a simulated one.
"""

from collections import UserDict, namedtuple

import accelerator
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader as TorchLoader

import penstock
from benchmarks import device_side_by_side, side_by_side
from benchmarks.workloads import Rows
from penstock import ArgumentError, Convert, DevicePrefetcher, device
from penstock.device import Mover, Moving, Produced, moved_ahead

IMAGES = torch.randint(0, 256, (203, 3, 8, 6), dtype=torch.uint8)
LABELS = torch.arange(203) % 5
DATA = penstock.TensorDataset(IMAGES, LABELS)
ACCELERATOR = accelerator.name()
DEVICES = ["cpu", *([ACCELERATOR] if ACCELERATOR else [])]
needs_accelerator = pytest.mark.skipif(not ACCELERATOR, reason="no accelerator on this machine")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def same(batches, images=IMAGES, labels=LABELS):
    x, y = (torch.cat([batch[i].cpu() for batch in batches]) for i in (0, 1))
    return torch.equal(x, images) and torch.equal(y, labels)


# --- the way there -----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loaders_batches_arrive(device, num_workers):
    loader = penstock.DataLoader(DATA, 16, num_workers=num_workers, device=device)
    for _ in range(2):
        batches = list(loader)
        assert all(tensor.device.type == device for batch in batches for tensor in batch)
        assert same(batches)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("prefetch_factor", [1, 2, 100])
def test_any_loaders_batches_arrive(device, prefetch_factor):
    ahead = DevicePrefetcher(TorchLoader(DATA, 16), device, prefetch_factor=prefetch_factor)
    assert len(ahead) == 13
    for _ in range(2):
        assert same(list(ahead))


def test_batches_of_any_make_go_to_the_device():
    Pair = namedtuple("Pair", "x y")
    x, y = torch.ones(2), torch.zeros(3)
    batch = {"pair": Pair(x, y), "list": [x, (y, "text")], "more": UserDict(x=x), "none": None}
    (moved,) = DevicePrefetcher([batch], "meta")
    assert moved["pair"].x.is_meta
    assert moved["list"][1][0].is_meta
    assert moved["list"][1][1] == "text"
    assert type(moved["more"]) is UserDict
    assert moved["more"]["x"].is_meta
    assert moved["none"] is None


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_so_many_are_on_the_way_and_the_first_comes_at_once(ahead):
    begun = []

    def produce():
        for i in range(10):
            begun.append(i)
            yield Produced(torch.tensor([i]))

    for i, each in enumerate(moved_ahead(produce(), Mover("cpu"), ahead)):
        assert each.batch.item() == i
        assert len(begun) == min(i + 1 + min(i, ahead), 10)


def test_an_exception_comes_in_its_turn():
    def batches():
        yield from torch.arange(5)
        raise OSError("the sixth")

    seen = []
    with pytest.raises(OSError, match="the sixth"):
        seen.extend(DevicePrefetcher(batches(), "cpu", prefetch_factor=3))
    walk = iter(DevicePrefetcher(batches(), "cpu", prefetch_factor=3))
    assert [int(next(walk)) for _ in range(5)] == list(range(5))
    with pytest.raises(OSError, match="the sixth"):
        next(walk)


def test_a_transform_that_fails_fails_its_batch_alone():
    def transform(batch):
        if batch[1][0] == 2:
            raise ValueError("twos")
        return batch

    walk = iter(penstock.DataLoader(DATA, 1, device="cpu", device_transform=transform))
    labels = []
    for _ in range(len(DATA)):
        try:
            labels.append(int(next(walk)[1]))
        except ValueError:
            labels.append(-2)
    assert labels == [-2 if label == 2 else label for label in LABELS.tolist()]


def test_the_state_counts_what_was_yielded_not_what_is_on_the_way():
    loader = penstock.DataLoader(DATA, 16, shuffle=True, seed=4, device="cpu")
    whole = list(loader)
    loader.set_epoch(0)
    walk = iter(loader)
    for _ in range(5):
        next(walk)
    again = penstock.DataLoader(DATA, 16, shuffle=True, seed=4, device="cpu")
    again.load_state_dict(loader.state_dict())
    for batch, expected in zip(again, whole[5:], strict=True):
        assert torch.equal(batch[0], expected[0])


@pytest.mark.parametrize("device", ["nowhere", "cuda:77", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_there_is_refused(device):
    for make in (
        lambda: penstock.DataLoader(DATA, device=device),
        lambda: DevicePrefetcher(TorchLoader(DATA), device),
    ):
        with pytest.raises(ArgumentError, match=device):
            make()


def test_too_few_ahead_are_refused():
    with pytest.raises(ArgumentError, match="1 or more"):
        DevicePrefetcher([], "cpu", prefetch_factor=0)


@pytest.mark.skipif(bool(ACCELERATOR), reason="there is an accelerator")
def test_without_an_accelerator_nothing_is_pinned_and_nobody_warned(recwarn):
    loader = penstock.DataLoader(DATA, 16, pin_memory=True)
    assert same(list(loader))
    assert not recwarn.list
    assert penstock.DataLoader(DATA, 16).pin_memory is False


# --- conversion --------------------------------------------------------------------------------------


def test_bytes_become_what_torchvision_makes_of_them():
    loader = penstock.DataLoader(
        DATA, 16, device="cpu", device_transform=Convert(scale=1 / 255, mean=MEAN, std=STD)
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    expected = (IMAGES.float() / 255 - mean) / std
    batches = list(loader)
    torch.testing.assert_close(torch.cat([x for x, _ in batches]), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.cat([y for _, y in batches]), LABELS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_types_and_memory_formats(dtype, channels_last):
    x, y = Convert(dtype, scale=1 / 255, channels_last=channels_last)([IMAGES, LABELS])
    assert (x.dtype, y.dtype) == (dtype, torch.int64)
    exact = torch.promote_types(dtype, torch.float32)
    assert torch.equal(x, (IMAGES.to(exact) * (1 / 255)).to(dtype))
    assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert torch.equal(Convert(dtype)([IMAGES, LABELS])[0], IMAGES.to(dtype))


def test_what_it_was_given_stays_as_it_was():
    x = torch.rand(4, 3)
    before = x.clone()
    Convert(scale=2.0, mean=1.0)(x)
    assert torch.equal(x, before)


def test_which_tensors_are_converted():
    batch = {"x": torch.ones(2, 3), "bytes": torch.ones(2, 3, dtype=torch.uint8), "y": torch.ones(2)}
    kinds = {name: value.dtype for name, value in Convert(torch.float64)(batch).items()}
    assert kinds == {"x": torch.float64, "bytes": torch.float64, "y": torch.float32}
    kinds = {name: value.dtype for name, value in Convert(torch.float64, fields=["y"])(batch).items()}
    assert kinds == {"x": torch.float32, "bytes": torch.uint8, "y": torch.float64}
    x, y = Convert(torch.float64, fields=[1])((batch["x"], batch["y"]))
    assert (x.dtype, y.dtype) == (torch.float32, torch.float64)
    with pytest.raises(ArgumentError, match="no such field"):
        Convert(fields=["z"])(batch)


def test_a_deviation_of_nothing_is_refused():
    with pytest.raises(ArgumentError, match="standard deviation"):
        Convert(std=(1.0, 0.0, 1.0))


def test_a_transform_without_a_device_is_applied_where_the_batches_are():
    loader = penstock.DataLoader(DATA, 16, device_transform=Convert(torch.float64))
    assert same(list(loader), IMAGES.double())


# --- on an accelerator -------------------------------------------------------------------------------


@needs_accelerator
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("pin_memory", [None, True, False])
def test_batches_are_pinned(pin_memory, num_workers):
    loader = penstock.DataLoader(DATA, 16, num_workers=num_workers, pin_memory=pin_memory)
    for _ in range(2):
        batches = list(loader)
        assert all(tensor.is_pinned() == (pin_memory is not False) for batch in batches for tensor in batch)
        assert same(batches)


@needs_accelerator
@pytest.mark.parametrize("num_workers", [0, 1])
def test_torchs_loader_pins_them(num_workers):
    loader = TorchLoader(DATA, 16, num_workers=num_workers, pin_memory=True, collate_fn=penstock.collate)
    batches = list(loader)
    assert all(tensor.is_pinned() for batch in batches for tensor in batch)
    assert same(batches)


@needs_accelerator
def test_what_is_asked_for_pinned_is():
    assert all(tensor.is_pinned() for tensor in DATA.gather([5, 2], pin_memory=True))
    assert not any(tensor.is_pinned() for tensor in DATA.gather([5, 2]))
    assert all(tensor.is_pinned() for tensor in penstock.Collate(pin_memory=True)(DATA.__getitems__([5, 2])))


def sums(batches, delay):
    """Of each batch, as the loop's stream copies it, that being slow; the loop lets go of it before."""
    found, copies = [], []
    for x in batches:
        accelerator.keep_busy(delay)
        copies.append(x.clone())
        del x
        if len(copies) == 32:
            found += [int(copy.cpu().long().sum()) for copy in copies]
            copies.clear()
    return found + [int(copy.cpu().long().sum()) for copy in copies]


@needs_accelerator
@pytest.mark.timeout(600)
def test_ten_thousand_batches_are_whole_under_slow_streams(tmp_path):
    rows = np.random.default_rng(0).integers(0, 255, (20_000, 1_024), np.uint8)
    np.save(tmp_path / "rows.npy", rows)
    expected = rows[: 312 * 64].reshape(312, -1).sum(1, dtype=np.int64).tolist()
    loader = penstock.DataLoader(
        penstock.ShardDataset(tmp_path), 64, drop_last=True, device=ACCELERATOR, prefetch_factor=4
    )
    accelerator.slow_copies(20e-6)
    try:
        for epoch in range(10_000 // len(loader) + 1):
            assert sums(loader, delay=epoch % 3 * 20e-6) == expected
    finally:
        accelerator.slow_copies(0)


ROWS = torch.randint(0, 256, (64, 1 << 20), dtype=torch.uint8)


def right(monkeypatch):
    """Each row from pinned memory of its own."""
    return DevicePrefetcher((row.pin_memory() for row in ROWS), ACCELERATOR)


def no_waiting(monkeypatch):
    """The loop's stream reads before the copy is done."""
    monkeypatch.setattr(Moving, "arrived", lambda self: self._batch)
    return right(monkeypatch)


def no_record(monkeypatch):
    """The loop's stream reads memory that has gone to a batch after."""
    monkeypatch.setattr(device, "_used_by", lambda tensor, stream: tensor)
    return right(monkeypatch)


def one_pinned_buffer(monkeypatch):
    """A batch is assembled where the one before it is still being copied from."""

    def batches():
        pinned = torch.empty_like(ROWS[0], pin_memory=True)
        for row in ROWS:
            yield pinned.copy_(row)

    return DevicePrefetcher(batches(), ACCELERATOR)


def one_slot(monkeypatch):
    """A batch is copied to where the loop's stream has yet to read the one before it."""
    slot, side = torch.empty_like(ROWS[0], device=ACCELERATOR), torch.Stream(ACCELERATOR)
    for row in ROWS.pin_memory():
        with side:
            slot.copy_(row, non_blocking=True)
        side.synchronize()
        yield slot


@needs_accelerator
@pytest.mark.parametrize(
    ("make", "is_right"),
    [(right, True), (no_waiting, False), (no_record, False), (one_pinned_buffer, False), (one_slot, False)],
)
def test_such_sums_find_what_is_done_too_early(make, is_right, monkeypatch):
    accelerator.slow_copies(1e-3)
    try:
        assert (sums(make(monkeypatch), delay=2e-3) == ROWS.long().sum(1).tolist()) == is_right
    finally:
        torch.accelerator.synchronize()
        accelerator.slow_copies(0)


@needs_accelerator
def test_the_transform_works_on_the_copies_stream():
    streams = []

    def transform(batch):
        streams.append(torch.accelerator.current_stream())
        return batch

    prefetcher = DevicePrefetcher(list(ROWS[:3]), ACCELERATOR, transform=transform)
    for _ in prefetcher:
        assert torch.accelerator.current_stream() not in streams
    assert streams == [prefetcher._mover._stream] * 3


@needs_accelerator
def test_copies_go_on_while_the_loops_stream_is_stuck():
    batches = list(ROWS[:8].pin_memory())
    prefetcher = DevicePrefetcher(batches, ACCELERATOR)
    with accelerator.stuck():
        arrived = list(prefetcher)
        prefetcher._mover._stream.synchronize()
        assert not torch.accelerator.current_stream().query()
    assert torch.equal(torch.stack(arrived).cpu(), ROWS[:8])


def test_the_benchmark_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(side_by_side, "ROUNDS", 1)
    monkeypatch.setattr(device_side_by_side, "WORKERS", 1)
    rows = Rows("150KB", 2, 4, 3 * 224 * 224, "uint8", 2)
    device_side_by_side.measure("cuda" if torch.cuda.is_available() else "cpu", rows, tmp_path)
    said = capsys.readouterr().out
    assert said.startswith("\ncopies alone")
    assert said.count("penstock.DataLoader(device=)") == 3


@pytest.mark.parametrize("dtype", ["float32", np.float32, None, float])
def test_a_dtype_that_is_none_of_torch_is_refused_at_once(dtype):
    with pytest.raises(ArgumentError, match=r"no dtype of torch; needed one such as torch\.float32"):
        Convert(dtype=dtype)


@pytest.mark.parametrize(
    "options", [{"mean": (0.5, 0.5)}, {"std": (1.0,) * 4}, {"mean": (0.5,) * 2, "std": (1.0,) * 2}]
)
def test_other_channels_than_the_batch_has_are_said(options):
    with pytest.raises(ArgumentError, match=r"channels as the batch; needed \d channels.*\(4, 3, 8, 6\)"):
        Convert(**options)(torch.zeros(4, 3, 8, 6))
    with pytest.raises(ArgumentError, match="channels as the batch"):
        Convert(fields=[0], **options)((torch.zeros(4), 1))


@pytest.mark.parametrize("std", [(1.0, 1.0), [[1.0]]])
def test_mean_and_std_of_different_numbers_of_channels(std):
    with pytest.raises(ArgumentError, match=r"one for each channel; found shapes \(3,\) and"):
        Convert(mean=MEAN, std=std)


def test_one_number_in_a_list_is_of_all_channels():
    batch = torch.rand(4, 3, 8, 6)
    assert torch.equal(Convert(mean=[0.5], std=STD)(batch), Convert(mean=0.5, std=STD)(batch))
