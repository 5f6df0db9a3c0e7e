"""Batches on a device: what arrives, in which order, converted how. On a GPU where there is one."""

from collections import UserDict, namedtuple
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader as TorchLoader

import penstock
from benchmarks import device_side_by_side, side_by_side
from benchmarks.workloads import Rows
from penstock import ArgumentError, Convert, DevicePrefetcher
from penstock.device import Mover, Produced, moved_ahead

IMAGES = torch.randint(0, 256, (203, 3, 8, 6), dtype=torch.uint8)
LABELS = torch.arange(203) % 5
DATA = penstock.TensorDataset(IMAGES, LABELS)
GPU = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
)
DEVICES = ["cpu", GPU]
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


@pytest.mark.parametrize("device", ["cuda:77", "nowhere", *([] if torch.cuda.is_available() else ["cuda"])])
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


def test_without_an_accelerator_nothing_is_pinned_and_nobody_warned(recwarn):
    if torch.cuda.is_available():
        pytest.skip("there is an accelerator")
    loader = penstock.DataLoader(DATA, 16, pin_memory=True)
    assert same(list(loader))
    assert not recwarn.list
    assert penstock.DataLoader(DATA, 16).pin_memory is False


class RecordedStreams:
    """Stands in for `torch.cuda`: streams that write down what is asked of them."""

    def __init__(self):
        self.log = []
        self.now = "the loop's"

    def Stream(self, device):
        return "the side"

    def current_stream(self, device):
        return SimpleNamespace(wait_event=lambda event: self.log.append(f"{self.now} waits for {event.at}"))

    @contextmanager
    def stream(self, stream):
        before, self.now = self.now, stream
        yield
        self.now = before

    def Event(self):
        event = SimpleNamespace(at=None)

        def record(stream):
            self.log.append(f"{stream} is noted")
            event.at = stream

        event.record = record
        return event


def test_streams_are_used_in_the_right_order(monkeypatch):
    streams = RecordedStreams()
    monkeypatch.setattr(torch, "meta", streams, raising=False)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda tensor, stream: streams.log.append(f"used by {streams.now}")
    )

    def transform(batch):
        streams.log.append(f"{streams.now} transforms")
        return batch

    (batch,) = DevicePrefetcher([[torch.ones(2)]], "meta", transform=transform)
    assert batch[0].is_meta
    assert streams.log == [
        "the side transforms",
        "the side is noted",
        "the loop's waits for the side",
        "used by the loop's",
    ]


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


# --- on a GPU ----------------------------------------------------------------------------------------


def checksums(make_batches, stream_delay=2_000_000):
    """Of each batch as the loop's stream finds it, that stream being slow."""
    sums = []
    for x in make_batches:
        torch.cuda._sleep(stream_delay)
        sums.append(x.long().sum())
        del x
    torch.cuda.synchronize()
    return torch.stack(sums).cpu()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.timeout(600)
def test_ten_thousand_batches_are_whole_under_a_slow_stream(tmp_path):
    rows = np.random.default_rng(0).integers(0, 255, (20_000, 4_096), np.uint8)
    np.save(tmp_path / "rows.npy", rows)
    expected = torch.from_numpy(rows).view(-1, 64, 4_096).long().sum((1, 2))[:312]
    loader = penstock.DataLoader(
        penstock.ShardDataset(tmp_path), 64, drop_last=True, device="cuda", prefetch_factor=4
    )
    for _ in range(10_000 // len(loader) + 1):
        assert torch.equal(checksums(loader, 200_000), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_that_test_finds_a_ring_that_is_reused_too_early():
    rows = torch.randint(0, 256, (64, 1 << 20), dtype=torch.uint8)

    def broken_ring():
        slot, side = torch.empty(1 << 20, dtype=torch.uint8, device="cuda"), torch.cuda.Stream()
        for row in rows.pin_memory():
            with torch.cuda.stream(side):
                slot.copy_(row, non_blocking=True)
            side.synchronize()
            yield slot  # and overwritten while the loop's stream has yet to read it

    assert not torch.equal(checksums(broken_ring()), rows.long().sum(1))


def test_the_benchmark_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(side_by_side, "ROUNDS", 1)
    monkeypatch.setattr(device_side_by_side, "WORKERS", 1)
    rows = Rows("150KB", 2, 4, 3 * 224 * 224, "uint8", 2)
    device_side_by_side.measure("cuda" if torch.cuda.is_available() else "cpu", rows, tmp_path)
    said = capsys.readouterr().out
    assert said.startswith("\ncopies alone")
    assert said.count("penstock.DataLoader(device=)") == 3
