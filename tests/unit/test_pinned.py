"""On an accelerator: whatever makes the batches, they are pinned, and whole on the device.

`test_accelerator.py` runs these on a simulated one.
"""

import threading
from collections import namedtuple
from typing import Any

import accelerator
import numpy as np
import pytest
import torch
from pictures import photograph, to_jpeg
from reference import assert_same
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import DataLoader as TorchLoader

import penstock
from penstock import transforms

ACCELERATOR = accelerator.name()
if not ACCELERATOR:
    pytest.skip("no accelerator on this machine", allow_module_level=True)

COUNT = 21
LENGTHS = [n % 6 for n in range(COUNT)]
Pair = namedtuple("Pair", "data label")


def shards(folder):
    for number in range(3):
        np.save(folder / f"{number}.npy", np.arange(70, dtype=np.float32).reshape(7, 10) + number)
    return penstock.ShardDataset(folder)


def rows(samples):
    """A collate_fn of the user's own, for one field."""
    return torch.stack(list(samples))


def files(folder):
    for number in range(COUNT):
        torch.save(torch.arange(6.0).view(2, 3) + number, folder / f"{number}.pt")
    return penstock.FileDataset(folder)


def kept_files(folder):
    files(folder)
    return penstock.FileDataset(folder, cache="memory")


def images(folder, **options):
    for number in range(COUNT):
        path = folder / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(to_jpeg(photograph(24, 20, seed=number)))
    steps = [transforms.Resize((16, 16)), transforms.ToTensor()]
    return penstock.ImageFolder(folder, transform=transforms.Compose(steps))


def images_in_python(folder):
    plain = images(folder)
    return penstock.ImageFolder(plain.root, transform=lambda image: torch.tensor(np.asarray(image)[:8, :8]))


def sequences(folder):
    rows = torch.arange(sum(LENGTHS) * 2.0).view(-1, 2)
    return penstock.RaggedDataset({"x": rows, "y": torch.arange(COUNT)}, lengths={"x": LENGTHS})


def tokens(folder):
    np.arange(1_000, dtype=np.uint16).tofile(folder / "0.bin")
    return penstock.TokenDataset(folder, dtype="uint16", block_size=16)


def stream(folder):
    return penstock.StreamDataset(
        lambda: ({"x": np.full(3, n), "y": n, "name": str(n)} for n in range(COUNT))
    )


def plain_list(folder):
    return list(stream(folder))


def stream_of_classes(folder):
    return penstock.StreamDataset(lambda: ((n, n % 2) for n in range(COUNT))).by_class([0, 1])[1]


def pairs(samples):
    """A collate_fn of the user's own."""
    return Pair(torch.stack([torch.as_tensor(sample["x"]) for sample in samples]), [len(samples)])


class Custom:
    """A batch of a class of its own, which knows how to move."""

    def __init__(self, x):
        self.x = x
        self.recorded = None

    def pin_memory(self):
        return Custom(self.x.pin_memory())

    def to(self, device, non_blocking=False):
        return Custom(self.x.to(device, non_blocking=non_blocking))

    def record_stream(self, stream):
        self.recorded = stream


def customs(samples):
    return Custom(torch.stack([torch.as_tensor(sample["x"]) for sample in samples]))


def packed(samples):
    return pack_sequence([torch.ones(n + 1) for n in range(len(samples))], enforce_sorted=False)


MADE: list[tuple[Any, dict[str, Any]]] = [
    *((make, {}) for make in (shards, files, kept_files, images, images_in_python, tokens, stream)),
    (stream_of_classes, {}),
    (shards, {"collate_fn": rows}),
    *(
        (sequences, {"collate_fn": penstock.Collate(layout=layout)})
        for layout in ("pad", "pack", "nested", "list")
    ),
    *((stream, {"collate_fn": collate_fn}) for collate_fn in (pairs, customs, packed)),
    (plain_list, {"collate_fn": pairs}),
]


def named(value):
    """For a test's name."""
    if isinstance(value, penstock.Collate):
        return value.layout.layout
    return getattr(value, "__name__", "")


IDS = ["-".join([make.__name__, *map(named, options.values())]) for make, options in MADE]


def leaves(batch):
    """The tensors of a batch."""
    if isinstance(batch, Custom):
        return [batch.x]
    if isinstance(batch, PackedSequence):
        return [batch.data, batch.sorted_indices]
    if isinstance(batch, dict):
        return [leaf for value in batch.values() for leaf in leaves(value)]
    if isinstance(batch, torch.Tensor) and batch.is_nested:
        return [batch.values(), batch.offsets()]
    if isinstance(batch, (list, tuple)):
        return [leaf for value in batch for leaf in leaves(value)]
    return [batch] if isinstance(batch, torch.Tensor) else []


def is_pinned(batch):
    """Torch pins a nested tensor's values, not its offsets; what is empty is nowhere."""
    if isinstance(batch, torch.Tensor) and batch.is_nested:
        return batch.values().is_pinned()
    if isinstance(batch, (list, tuple)) and not isinstance(batch, PackedSequence):
        return all(map(is_pinned, batch))
    if isinstance(batch, dict):
        return all(map(is_pinned, batch.values()))
    return all(leaf.is_pinned() or leaf.numel() == 0 for leaf in leaves(batch))


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert type(one) is type(other)
        for a, b in zip(leaves(one), leaves(other), strict=True):
            assert_same(a.cpu(), b)


@pytest.mark.parametrize(("make", "options"), MADE, ids=IDS)
def test_pinned(make, options, tmp_path):
    dataset = make(tmp_path)
    batches = list(penstock.DataLoader(dataset, 4, pin_memory=True, **options))
    assert all(map(is_pinned, batches))
    same(batches, list(penstock.DataLoader(dataset, 4, pin_memory=False, **options)))


@pytest.mark.parametrize(("make", "options"), MADE, ids=IDS)
def test_pinned_by_torchs_loader(make, options, tmp_path):
    dataset = make(tmp_path)
    options = {"collate_fn": penstock.collate} | options
    batches = list(TorchLoader(dataset, 4, pin_memory=True, **options))
    assert all(map(is_pinned, batches))
    same(batches, list(TorchLoader(dataset, 4, **options)))


@pytest.mark.parametrize("ahead", [penstock.DataLoader, penstock.DevicePrefetcher])
@pytest.mark.parametrize(("make", "options"), MADE, ids=IDS)
def test_on_the_device(make, options, ahead, tmp_path):
    dataset = make(tmp_path)
    plain = penstock.DataLoader(dataset, 4, pin_memory=False, **options)
    if ahead is penstock.DataLoader:
        batches = list(penstock.DataLoader(dataset, 4, device=ACCELERATOR, **options))
    else:
        batches = list(penstock.DevicePrefetcher(plain, ACCELERATOR))
    for batch in batches:
        assert all(leaf.device.type == ACCELERATOR for leaf in leaves(batch))
        assert not isinstance(batch, Custom) or batch.recorded == torch.accelerator.current_stream()
    same(batches, list(plain))


def test_where_no_pinned_memory_is_to_be_had_pageable_memory_is_used(monkeypatch, tmp_path):
    dataset, real = shards(tmp_path), torch.empty

    def empty(*shape, pin_memory=False, **options):
        if pin_memory:
            raise RuntimeError("out of memory")
        return real(*shape, **options)

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.warns(UserWarning, match="no pinned memory is to be had: out of memory"):
        batches = list(penstock.DataLoader(dataset, 4))
    monkeypatch.undo()
    same(batches, list(penstock.DataLoader(dataset, 4, pin_memory=False)))


def test_a_streams_thread_pins_for_the_device_of_the_loops(monkeypatch):
    devices = {}
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 3)
    monkeypatch.setattr(
        torch.accelerator, "set_device_index", lambda index: devices.update({threading.get_ident(): index})
    )
    list(penstock.DataLoader(stream(None), 4))
    assert list(devices.values()) == [3]
    assert threading.get_ident() not in devices
