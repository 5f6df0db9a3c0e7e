"""penstock.DataLoader: torch's batches, ahead of time; its state; what it leaves to torch."""

import contextlib
import copy
import gc
import json
import os
import pickle
import re
import weakref

import numpy as np
import pytest
import torch
from processes import share_in_cache
from torch.utils.data import DataLoader as TorchLoader

import penstock
from penstock import ArgumentError, SchemaError
from penstock.table import Underway

ROWS = 1_003
X = torch.arange(ROWS * 40, dtype=torch.float32).view(ROWS, 40)
Y = torch.arange(ROWS) % 7
DATA = penstock.TensorDataset(X, Y)


@pytest.fixture(autouse=True)
def always_threads(monkeypatch):
    """Small batches go to the threads too."""
    monkeypatch.setattr(Underway, "WORTH_A_THREAD", 0)


def numbers(batches):
    """First elements of each batch: which samples it has."""
    return [(x[:, 0] / 40).long().tolist() for x, _ in batches]


def flat(batches):
    return [sample for batch in batches for sample in batch]


def order_of(epoch, seed=0, rows=ROWS):
    return penstock._core.Permutation(rows, seed, epoch).take(0, rows).tolist()


@pytest.mark.parametrize("prefetch_factor", [None, 1, 7, 500])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 64, ROWS, 5_000])
def test_in_order_batches_are_torchs(batch_size, drop_last, prefetch_factor):
    ours = penstock.DataLoader(DATA, batch_size, drop_last=drop_last, prefetch_factor=prefetch_factor)
    theirs = TorchLoader(torch.utils.data.TensorDataset(X, Y), batch_size, drop_last=drop_last)
    assert len(ours) == len(theirs)
    for _ in range(2):
        for (x, y), (their_x, their_y) in zip(ours, theirs, strict=True):
            assert torch.equal(x, their_x)
            assert torch.equal(y, their_y)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_shuffle_is_the_samplers(num_workers):
    loader = penstock.DataLoader(DATA, 64, shuffle=True, seed=3, num_workers=num_workers)
    for epoch in range(2):
        assert flat(numbers(loader)) == order_of(epoch, 3)
    loader.set_epoch(7)
    assert flat(numbers(loader)) == order_of(7, 3)


def test_torchs_seed_decides_when_none_is_given():
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        orders.append(flat(numbers(penstock.DataLoader(DATA, 64, shuffle=True))))
    assert orders[0] == orders[1] != orders[2]
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    first, second = (penstock.DataLoader(DATA, 64, shuffle=True, generator=g) for g in generators)
    assert numbers(first) == numbers(second)


SAMPLERS = {
    "ours": lambda: {"sampler": penstock.ShuffleSampler(DATA, seed=1), "batch_size": 50},
    "torch's": lambda: {"sampler": torch.utils.data.SequentialSampler(DATA), "batch_size": 50},
    "our batches": lambda: {
        "batch_sampler": penstock.BatchSampler(penstock.ShuffleSampler(DATA, seed=1), 50, lookahead=2)
    },
    "torch's batches": lambda: {
        "batch_sampler": torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(DATA), 50, False)
    },
    "lists": lambda: {"batch_sampler": [[1, 2, 3], [4], [-1, 5]]},
    "balanced": lambda: {"batch_sampler": penstock.BalancedBatchSampler(Y, 5, 4, seed=2)},
    "stratified": lambda: {"batch_sampler": penstock.StratifiedBatchSampler(Y, 60, seed=2)},
}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", SAMPLERS)
def test_any_sampler_gives_what_torchs_loader_gives(kind, num_workers):
    ours = penstock.DataLoader(DATA, **SAMPLERS[kind](), num_workers=num_workers)
    theirs = TorchLoader(DATA, **SAMPLERS[kind]())
    assert numbers(ours) == numbers(theirs)
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", sorted(SAMPLERS))
@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_state_goes_on_with_the_very_next_batch(kind, batches, num_workers):
    loader = penstock.DataLoader(DATA, **SAMPLERS[kind](), num_workers=num_workers)
    walk = iter(loader)
    for _ in range(batches):
        next(walk)
    state = json.loads(json.dumps(loader.state_dict()))
    rest = numbers(walk)
    fresh = penstock.DataLoader(DATA, **SAMPLERS[kind]())
    fresh.load_state_dict(state)
    assert numbers(fresh) == rest
    assert numbers(fresh) == numbers(loader)


def test_a_state_may_be_continued_by_other_ranks():
    def loader(world, rank, size):
        sampler = penstock.ShuffleSampler(DATA, seed=4, num_replicas=world, rank=rank)
        return penstock.DataLoader(DATA, size, sampler=sampler)

    first = [loader(2, rank, 32) for rank in range(2)]
    walks = [iter(each) for each in first]
    seen = [numbers([next(walk) for _ in range(5)]) for walk in walks]
    state = first[0].state_dict()
    assert state == first[1].state_dict()
    rest = []
    for rank in range(3):
        each = loader(3, rank, 20)
        each.load_state_dict(state)
        rest.append(numbers(each))
    done = set(flat(flat(seen)))
    left = flat(flat(rest))
    assert len(done) == 5 * 64
    assert done | set(left) == set(range(ROWS))
    assert len(left) - (ROWS - len(done)) < 3, "padding"


def test_a_state_of_something_else_is_refused():
    loader = penstock.DataLoader(DATA, 10, shuffle=True, seed=0)
    other = penstock.DataLoader(DATA, 10, shuffle=True, seed=1)
    with pytest.raises(ArgumentError, match="another seed"):
        loader.load_state_dict(other.state_dict())
    with pytest.raises(ArgumentError, match="no state of such a loader"):
        loader.load_state_dict(penstock.DataLoader(DATA, batch_sampler=[[1]]).state_dict())
    with pytest.raises(ArgumentError, match="no state of such a loader"):
        loader.load_state_dict({})


def test_a_failure_comes_in_its_turn_and_the_others_arrive():
    batches = [[0, 1], [2, 3], [4, ROWS], [5], ["x"], [6]]
    walk = iter(penstock.DataLoader(DATA, batch_sampler=batches))
    assert numbers([next(walk), next(walk)]) == [[0, 1], [2, 3]]
    with pytest.raises(IndexError, match=str(ROWS)):
        next(walk)
    assert numbers([next(walk)]) == [[5]]
    with pytest.raises(SchemaError):
        next(walk)
    assert numbers([next(walk)]) == [[6]]
    with pytest.raises(StopIteration):
        next(walk)


def test_a_state_goes_on_after_a_batch_that_failed():
    samples = [0, 1, ROWS, 3, 4, 5]
    loader = penstock.DataLoader(DATA, 2, sampler=samples)
    walk = iter(loader)
    next(walk)
    with pytest.raises(IndexError):
        next(walk)
    fresh = penstock.DataLoader(DATA, 2, sampler=samples)
    fresh.load_state_dict(loader.state_dict())
    assert numbers(fresh) == numbers(walk) == [[4, 5]]


def test_a_collate_of_the_users_own_is_called():
    class Counting(penstock.Collate):
        def __call__(self, samples):
            return len(samples)

    assert list(penstock.DataLoader(DATA, 500, collate_fn=Counting())) == [500, 500, 3]


def test_a_sampler_that_fails_does_so_in_its_turn():
    def failing():
        yield [1]
        yield [2]
        raise ZeroDivisionError("my sampler")

    walk = iter(penstock.DataLoader(DATA, batch_sampler=failing()))
    assert numbers([next(walk), next(walk)]) == [[1], [2]]
    with pytest.raises(ZeroDivisionError, match="my sampler"):
        next(walk)


def test_two_passes_at_once_do_not_meet():
    loader = penstock.DataLoader(DATA, 64, shuffle=True, seed=0)
    first, second = iter(loader), iter(loader)
    together = [numbers([a, b]) for a, b in zip(first, second, strict=True)]
    assert flat(a for a, _ in together) == order_of(0)
    assert flat(b for _, b in together) == order_of(1)


def test_kept_batches_are_not_written_over():
    loader = penstock.DataLoader(DATA, 16, shuffle=True, seed=0)
    kept = list(loader) + list(loader)
    assert flat(numbers(kept)) == order_of(0) + order_of(1)


def test_a_view_of_a_subset_and_a_dict_are_native():
    halves = DATA.subset(range(1, ROWS, 2))
    assert flat(numbers(penstock.DataLoader(halves, 64))) == list(range(1, ROWS, 2))


def test_what_is_not_ours_is_loaded_as_torch_does_it():
    plain = torch.utils.data.TensorDataset(X, Y)
    assert flat(numbers(penstock.DataLoader(plain, 64, shuffle=True, seed=0))) == order_of(0)
    collated = penstock.DataLoader(DATA, 2, collate_fn=lambda samples: len(samples))
    assert list(collated) == [2] * (ROWS // 2) + [1]
    one_by_one = penstock.DataLoader(DATA, None)
    assert [int(y) for _, y in one_by_one] == Y.tolist()


def test_a_transform_is_honoured(make_shards):
    shards = make_shards(lengths=(5, 8))
    dataset = shards.open(transform=lambda row: row.sum())
    (batch,) = penstock.DataLoader(dataset, 13)
    assert torch.equal(batch, torch.stack([row.sum() for row in shards.rows]))


def test_a_stream_is_torchs():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(5))

    assert [batch.tolist() for batch in penstock.DataLoader(Stream(), 2)] == [[0, 1], [2, 3], [4]]


def test_arguments_are_kept_as_attributes():
    given = {
        "batch_size": 5,
        "drop_last": True,
        "seed": 9,
        "device": "cpu",
        "device_transform": penstock.Convert(),
        "drop_cache": True,
        "trace": "trace.json",
        "pin_memory": False,
        "num_workers": 0,
        "timeout": 0,
        "in_order": True,
    }
    loader = penstock.DataLoader(DATA, **given, shuffle=True)
    for name, value in given.items():
        assert getattr(loader, name) == value
    assert isinstance(loader.sampler, penstock.ShuffleSampler)
    assert isinstance(loader, TorchLoader)


def test_frameworks_find_what_they_look_for():
    loader = penstock.DataLoader(DATA, 64, shuffle=True, seed=0, prefetch_factor=3)
    assert isinstance(loader.sampler, torch.utils.data.DistributedSampler), "Lightning: leave it alone"
    assert loader.prefetch_factor is None, "Accelerate: hand it on to torch's loader"
    loader.batch_sampler.set_epoch(4)  # transformers' Trainer
    assert flat(numbers(loader)) == order_of(4)


@pytest.mark.parametrize("kind", [TorchLoader, penstock.DataLoader])
@pytest.mark.parametrize("collate_fn", [None, penstock.collate, lambda samples: samples[3]])
def test_inference_mode(kind, collate_fn):
    with torch.inference_mode():
        first = next(iter(kind(DATA, 64, collate_fn=collate_fn)))
    assert torch.equal(first[0], X[3] if callable(collate_fn) and len(first[0]) == 40 else X[:64])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shuffle": True, "sampler": [1]}, ValueError, "mutually exclusive"),
        ({"batch_sampler": [[1]], "batch_size": 2}, ValueError, "mutually exclusive"),
        ({"prefetch_factor": 0}, ArgumentError, "prefetch_factor is too small"),
        ({"persistent_workers": True}, ValueError, "num_workers > 0"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"num_threads": 0}, ArgumentError, "num_threads is too small"),
        ({"timeout": 1}, ArgumentError, "worker processes"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        penstock.DataLoader(DATA, **arguments)


def test_stats_count_what_was_yielded():
    loader = penstock.DataLoader(DATA, 100)
    assert loader.stats()["batches"] == 0
    batches = list(loader)
    stats = loader.stats()
    assert (stats["batches"], stats["samples"]) == (len(batches), ROWS)
    assert stats["bytes"] == ROWS * (40 * 4 + 8)
    assert stats["samples_per_s"] > 0
    assert 0 <= stats["wait_share"] <= 1
    assert stats["batches_ready"] >= 0


def test_a_loop_that_hardly_waits_is_told_so(monkeypatch):
    monkeypatch.setattr("penstock.report._WAITED_LITTLE", 1.1)
    loader = penstock.DataLoader(DATA, 100)
    list(loader)
    assert re.fullmatch(
        r"11 batches, [\d,]+ samples/s, [\d.]+ GB/s, [\d.]+ batches ready; "
        r"the loop waited \d+% of the time: .+",
        loader.report(),
    )
    assert loader.report().endswith("the loader is not your bottleneck")


def test_a_loop_that_waits_is_told_what_to_do(restore_threads, monkeypatch):
    def advice(loader):
        for _ in loader:
            pass
        return loader.report().rpartition(": ")[2]

    monkeypatch.setattr("penstock.report._WAITED_LITTLE", 0)
    monkeypatch.setattr("penstock._core.num_processors", lambda: 64)
    assert re.fullmatch(r"raise num_threads to \d+", advice(penstock.DataLoader(DATA, 1, num_threads=2)))
    monkeypatch.setattr("penstock._core.num_processors", lambda: 2)
    assert advice(penstock.DataLoader(DATA, 1)).startswith("every processor")
    rows = torch.utils.data.TensorDataset(X)
    assert advice(penstock.DataLoader(rows, 1)).startswith("use num_workers")
    assert advice(penstock.DataLoader(rows, 50, num_workers=1)).startswith("raise num_workers")
    assert penstock.DataLoader(DATA).report() == "no batch yet"


@pytest.mark.parametrize("batches", [11, 3])
def test_a_trace_tells_when_each_batch_was_assembled_and_waited_for(tmp_path, batches):
    walk = iter(penstock.DataLoader(DATA, 100, trace=tmp_path / "trace.json"))
    for _ in range(batches):
        next(walk)
    if batches == 11:
        assert next(walk, None) is None
    del walk
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    for track in ("loop: waits", "core: assembles"):
        spans = {number: [] for number in range(batches)}
        for event in events:
            if event["name"] == track:
                spans[event["id"]].append((event["ph"], event["ts"]))
        for (begin, begun), (end, done) in spans.values():
            assert (begin, end) == ("b", "e")
            assert begun <= done


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_workers": 1},
        {"collate_fn": list},
        {"dataset": torch.utils.data.TensorDataset(X)},
    ],
)
def test_pages_are_dropped_natively_or_not_at_all(arguments):
    with pytest.raises(ArgumentError, match="drop_cache"):
        penstock.DataLoader(**{"dataset": DATA, "drop_cache": True} | arguments)


def test_pages_that_were_read_are_dropped_on_request(tmp_path):
    path = tmp_path / "rows.npy"
    rows = np.random.default_rng(0).integers(0, 255, (16_384, 4_096), np.uint8)
    np.save(path, rows)
    os.sync()
    for drop_cache, least, most in ((False, 0.9, 1.0), (True, 0.0, 0.3)):
        loader = penstock.DataLoader(penstock.ShardDataset(path), 100, drop_cache=drop_cache)
        assert torch.equal(torch.cat(list(loader)), torch.from_numpy(rows))
        assert least <= share_in_cache(path) <= most


@pytest.mark.parametrize(
    "other",
    [
        penstock.TensorDataset(X, Y.int()),
        penstock.TensorDataset(X[:, :39], Y),
        DATA.subset(range(ROWS)[::-1]),
        torch.utils.data.TensorDataset(X, Y),
    ],
)
def test_a_state_of_another_dataset_is_refused(other):
    loader = penstock.DataLoader(DATA, 64, shuffle=True, seed=0)
    next(iter(loader))
    with pytest.raises(ArgumentError, match="another dataset"):
        penstock.DataLoader(other, 64, shuffle=True, seed=0).load_state_dict(loader.state_dict())
    penstock.DataLoader(penstock.TensorDataset(X, Y), 64, shuffle=True, seed=0).load_state_dict(
        loader.state_dict()
    )


def test_a_loader_for_a_device_can_be_copied():
    loader = penstock.DataLoader(DATA, 64, device="cpu", device_transform=penstock.Convert(torch.float64))
    for copied in (copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        assert numbers(copied) == numbers(loader)


def test_a_copy_goes_on_by_itself():
    loader = penstock.DataLoader(DATA, 64, shuffle=True, seed=0)
    next(iter(loader))
    for copied in (copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        assert len(numbers(copied)) == len(loader) - 1


# --- states, of whatever is underneath --------------------------------------------------------------


class Plain(torch.utils.data.Dataset):
    """Not ours; sample 3 cannot be had if `broken`."""

    def __init__(self, broken=False):
        self.broken = broken

    def __len__(self):
        return 10

    def __getitem__(self, i):
        if self.broken and i == 3:
            raise ValueError("sample 3")
        return torch.tensor(i)


OURS = penstock.TensorDataset(torch.arange(10))


class Pairs:
    """A batch sampler of the user's own, over any sampler."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __iter__(self):
        samples = iter(self.sampler)
        yield from zip(samples, samples, strict=True)

    def __len__(self):
        return len(self.sampler) // 2


def shuffled():
    return penstock.ShuffleSampler(10, seed=5)


MAKERS = {
    "a list": lambda: {"batch_size": 4, "sampler": list(range(10))},
    "shuffled": lambda: {"batch_size": 4, "shuffle": True, "seed": 5},
    "shuffled, drop_last": lambda: {"batch_size": 4, "shuffle": True, "seed": 5, "drop_last": True},
    "pairs of a list": lambda: {"batch_sampler": Pairs(list(range(10)))},
    "pairs of ours": lambda: {"batch_sampler": Pairs(shuffled())},
    "batches as samples": lambda: {"batch_size": None, "sampler": penstock.BatchSampler(shuffled(), 4)},
    "one by one": lambda: {"batch_size": None, "sampler": shuffled()},
    "batches": lambda: {"batch_sampler": penstock.BatchSampler(shuffled(), 4, lookahead=2)},
}


class Whole(torch.utils.data.Dataset):
    """Not ours; takes batches as samples."""

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return torch.as_tensor(i)


def loader_of(kind, data):
    options = MAKERS[kind]()
    if options.get("batch_size", 1) is None:
        data = Whole()
    return penstock.DataLoader(data, **options)


@pytest.mark.parametrize("data", [Plain(), OURS], ids=["plain", "ours"])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_state_goes_on_anywhere_in_two_epochs(kind, data):
    def listed(batches):
        return [torch.as_tensor(batch[0] if isinstance(batch, list) else batch).tolist() for batch in batches]

    loader = loader_of(kind, data)
    epochs = [listed(loader) for _ in range(3)]
    for epoch in range(2):
        for count in range(len(epochs[0]) + 1):
            loader = loader_of(kind, data)
            for _ in range(epoch):
                list(loader)
            walk = iter(loader)
            for _ in range(count):
                next(walk)
            if count == len(epochs[0]):
                assert next(walk, None) is None
            resumed = loader_of(kind, data)
            resumed.load_state_dict(json.loads(json.dumps(loader.state_dict())))
            assert resumed.state_dict()["sampler"] == loader.state_dict()["sampler"]
            rest = epochs[epoch][count:] or epochs[epoch + 1]
            assert listed(resumed) == rest, (epoch, count)


def test_what_a_state_skips_may_fail_again():
    loader = penstock.DataLoader(Plain(broken=True), 2, sampler=list(range(10)))
    walk = iter(loader)
    next(walk)
    with pytest.raises(ValueError, match="sample 3"):
        next(walk)
    resumed = penstock.DataLoader(Plain(broken=True), 2, sampler=list(range(10)))
    resumed.load_state_dict(loader.state_dict())
    assert torch.cat(list(resumed)).tolist() == list(range(4, 10))


def test_the_state_is_that_of_the_pass_begun_last():
    loader = penstock.DataLoader(OURS, 1, shuffle=True, seed=0)
    first, second = iter(loader), iter(loader)
    next(first), next(first), next(second)
    state = loader.state_dict()
    expected = next(second)[0]
    resumed = penstock.DataLoader(OURS, 1, shuffle=True, seed=0)
    resumed.load_state_dict(state)
    assert torch.equal(next(iter(resumed))[0], expected)


def test_crops_are_of_the_epoch_their_pass_began_with():
    images = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8)
    crop = penstock.transforms.RandomCrop(8)

    def loader():
        data = penstock.TensorDataset(images, transform={0: crop}, seed=0)
        return penstock.DataLoader(data, 4, sampler=penstock.SequentialSampler(64))

    expected = torch.cat([batch[0] for batch in loader()])
    one = loader()
    walk = iter(one)
    found = [next(walk)]
    other = iter(one)
    next(other), next(other)
    one.set_epoch(7)
    assert torch.equal(torch.cat([batch[0] for batch in (*found, *walk)]), expected)


def list_of_samples(samples):
    return torch.utils.data.default_collate(list(samples))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_set_epoch_reaches_the_dataset_too(num_workers):
    images = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8)

    def epoch(number, **options):
        crop = penstock.transforms.RandomCrop(8)
        data = penstock.TensorDataset(images, transform={0: crop}, seed=0)
        loader = penstock.DataLoader(data, 4, sampler=penstock.SequentialSampler(64), **options)
        loader.set_epoch(number)
        return torch.cat([batch[0] for batch in loader])

    ours = epoch(3)
    assert torch.equal(epoch(3, num_workers=num_workers, collate_fn=list_of_samples), ours)
    assert not torch.equal(epoch(4), ours)


def test_a_stream_that_is_broken_off_before_its_first_batch_begins_that_epoch_again():
    def fails():
        raise KeyboardInterrupt
        yield

    source = iter([fails])
    stream = penstock.StreamDataset(lambda: next(source, lambda: iter(range(10)))(), seed=0)
    loader = penstock.DataLoader(stream, 4)
    loader.set_epoch(3)
    before = loader.state_dict()
    with pytest.raises(KeyboardInterrupt):
        next(iter(loader))
    assert loader.state_dict() == before
    assert before["stream"]["epoch"] == 3


def test_batches_that_come_as_they_are_done_have_no_state():
    loader = penstock.DataLoader(Plain(), 4, num_workers=1, in_order=False)
    with pytest.raises(ArgumentError, match="out of order"):
        loader.state_dict()


@pytest.mark.parametrize("state", [None, 5, []])
def test_a_state_is_a_dict(state):
    with pytest.raises(ArgumentError, match="a state is a dict"):
        penstock.DataLoader(OURS).load_state_dict(state)


@pytest.mark.parametrize("data", [Plain(), OURS], ids=["plain", "ours"])
def test_torchs_random_numbers_are_drawn_as_torchs_loader_draws_them(data):
    def order(kind):
        torch.manual_seed(0)
        batches = list(kind(data, 10, sampler=torch.utils.data.RandomSampler(data)))
        return [torch.as_tensor(batches[0][0] if isinstance(batches[0], list) else batches[0]), torch.rand(1)]

    assert all(map(torch.equal, order(penstock.DataLoader), order(TorchLoader)))


@pytest.mark.parametrize("batch_sampler", [None, penstock.StratifiedBatchSampler([0] * 5 + [1] * 5, 5)])
def test_samples_that_torch_loads_are_counted(batch_sampler):
    options = {"batch_sampler": batch_sampler} if batch_sampler else {"batch_size": 4, "shuffle": True}
    loader = penstock.DataLoader(Plain(), **options)
    list(loader)
    assert loader.stats()["samples"] == 10


def test_ranks_that_find_each_other_late_share_one_order(monkeypatch):
    loaders = [penstock.DataLoader(OURS, 10, shuffle=True) for _ in range(2)]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    seen = []
    for rank, loader in enumerate(loaders):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        seen += torch.cat([batch[0] for batch in loader]).tolist()
    assert sorted(seen) == list(range(10))


def test_a_state_brings_the_seed_that_nobody_asked_for():
    loader = penstock.DataLoader(OURS, 2, shuffle=True)
    walk = iter(loader)
    next(walk)
    resumed = penstock.DataLoader(OURS, 2, shuffle=True)
    resumed.load_state_dict(loader.state_dict())
    assert all(torch.equal(one[0], other[0]) for one, other in zip(resumed, walk, strict=True))
    asked = penstock.DataLoader(OURS, 2, shuffle=True, seed=5)
    with pytest.raises(ArgumentError, match="another seed"):
        asked.load_state_dict(loader.state_dict())


def test_a_trace_needs_a_folder(tmp_path):
    with pytest.raises(ArgumentError, match="folder is not there"):
        penstock.DataLoader(OURS, trace=tmp_path / "no" / "trace.json")


# --- what is let go of --------------------------------------------------------------------------------


@pytest.fixture
def no_collector():
    """What is freed is freed by the last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "loader",
    [
        lambda: penstock.DataLoader(Plain(broken=True), 2),
        lambda: penstock.DataLoader(OURS, batch_sampler=[[1], [10**9], [2], [3]]),
        lambda: penstock.DataLoader(
            penstock.StreamDataset(lambda: map(Plain(broken=True).__getitem__, range(9))), 2
        ),
        lambda: penstock.DataLoader(Plain(broken=True), 2, device="cpu"),
        lambda: penstock.DevicePrefetcher(TorchLoader(Plain(broken=True), 2), "cpu"),
    ],
)
def test_a_pass_that_failed_is_not_kept(loader, no_collector):
    walk = iter(loader())
    next(walk)
    with contextlib.suppress(ValueError, IndexError):
        next(walk)
    kept = weakref.ref(walk)
    del walk
    assert kept() is None


def test_batches_begun_ahead_are_not_kept(no_collector):
    def underway():
        return sum(type(each) is Underway for each in gc.get_objects())

    before = underway()
    batches = penstock.BatchSampler(penstock.SequentialSampler(DATA), 100, lookahead=4)
    walk = iter(TorchLoader(DATA, batch_sampler=batches))
    next(walk)
    assert underway() > before
    del walk
    assert underway() == before


def test_an_order_of_batches_is_not_kept(no_collector):
    order = penstock.StratifiedBatchSampler(np.arange(100) % 3, 5)
    assert order.sampler is order
    assert copy.copy(order).sampler is not order
    kept = weakref.ref(order)
    del order
    assert kept() is None


# --- inside torch's loader ---------------------------------------------------------------------------


def looking_ahead(lookahead=3, size=50):
    return penstock.BatchSampler(penstock.ShuffleSampler(DATA, seed=0), size, lookahead=lookahead)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("lookahead", [1, 3, 100])
def test_batches_looking_ahead_are_the_same(lookahead, num_workers):
    loader = TorchLoader(DATA, batch_sampler=looking_ahead(lookahead), num_workers=num_workers)
    for epoch in range(2):
        assert flat(numbers(loader)) == order_of(epoch)


def test_batches_begun_ahead_are_found(monkeypatch):
    begun = []
    begin = penstock.TensorDataset.begin
    monkeypatch.setattr(
        penstock.TensorDataset,
        "begin",
        lambda self, rows, **how: begun.append(list(rows)) or begin(self, rows, **how),
    )
    sampler = looking_ahead()
    seen = numbers(TorchLoader(DATA, batch_sampler=sampler))
    assert begun == seen[1:], "all but the first, each once"


def test_the_state_counts_what_was_passed_on():
    sampler = looking_ahead()
    walk = iter(TorchLoader(DATA, batch_sampler=sampler))
    for batches in range(1, 5):
        next(walk)
        assert sampler.state_dict()["position"] == 50 * batches


def test_changed_and_wrapped_indices_are_assembled_on_the_spot():
    ours = torch.utils.data.Subset(DATA, range(ROWS))
    assert flat(numbers(TorchLoader(ours, batch_sampler=looking_ahead()))) == order_of(0)

    class Meddler(torch.utils.data.Dataset):
        def __getitems__(self, indices):
            indices[0] = 11
            return DATA.__getitems__(indices)

    batches = numbers(TorchLoader(Meddler(), batch_sampler=looking_ahead()))
    assert all(batch[0] == 11 for batch in batches)
    order = order_of(0)
    assert [batch[1:] for batch in batches] == [order[i + 1 : i + 50] for i in range(0, ROWS, 50)]


def test_two_datasets_may_share_one_lookahead():
    other = penstock.TensorDataset(-X, Y)
    for indices in looking_ahead():
        (x, _), (minus_x, _) = (penstock.collate(data.__getitems__(indices)) for data in (DATA, other))
        assert torch.equal(x, -minus_x)


def test_skipped_batches_are_forgotten():
    batches = list(looking_ahead())
    for k in (0, 5, 3, 20):
        x, _ = penstock.collate(DATA.__getitems__(batches[k]))
        assert np.array_equal((x[:, 0] / 40).long().numpy(), batches[k])
