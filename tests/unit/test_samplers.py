"""Samplers under the standard loaders, their epochs, ranks and states, classes, and what they refuse."""

import copy
import functools
import itertools
import json
import pickle
import subprocess
import sys
import textwrap
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data
from processes import start_python
from torch.utils.data import DataLoader

import penstock
from penstock import ArgumentError, SchemaError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
ROWS = 60
LABELS = np.arange(ROWS) * 7 % 5
DATA = penstock.TensorDataset(torch.arange(ROWS), torch.from_numpy(LABELS))
NAN = float("nan")
HALF: Any = 2.5  # what a type checker would not let through
INT64: Any = np.int64

SAMPLERS = {
    "sequential": functools.partial(penstock.SequentialSampler, DATA),
    "shuffle": functools.partial(penstock.ShuffleSampler, DATA, seed=1),
    "distributed": functools.partial(penstock.DistributedSampler, DATA, 1, 0),
    "class": functools.partial(penstock.ClassSampler, LABELS, 2),
    "blocks": functools.partial(
        penstock.BlockShuffleSampler, DATA, block_bytes=3 * 16, window_bytes=12 * 16, seed=2
    ),
    "weighted": functools.partial(penstock.WeightedSampler, LABELS, 33),
    "without replacement": functools.partial(penstock.WeightedSampler, LABELS, 21, replacement=False),
}
BATCH_SAMPLERS = {
    "batches": lambda: penstock.BatchSampler(penstock.ShuffleSampler(DATA), 7),
    "short batches left out": lambda: penstock.BatchSampler(penstock.ShuffleSampler(DATA), 7, drop_last=True),
    "batches of a dataset": lambda: penstock.BatchSampler(DATA, 7),
    "balanced": functools.partial(penstock.BalancedBatchSampler, LABELS, 2, 3),
    "stratified": functools.partial(penstock.StratifiedBatchSampler, LABELS, 7),
    "episodes": functools.partial(penstock.EpisodeSampler, LABELS, 3, 2, 1, num_episodes=9),
    "lengths": functools.partial(penstock.LengthBatchSampler, LABELS, 7),
}
ALL = {**SAMPLERS, **BATCH_SAMPLERS}
COUNTING = [name for name in ALL if name not in ("sequential", "distributed", "batches of a dataset")]


def plain(items):
    return [np.asarray(item).tolist() for item in items]


def epochs_of(sampler, count):
    return [plain(sampler) for _epoch in range(count)]


def loader_of(name, sampler, workers=0, kind=DataLoader):
    how = {"batch_sampler": sampler} if name in BATCH_SAMPLERS else {"sampler": sampler, "batch_size": 7}
    return kind(
        DATA,
        **how,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        collate_fn=penstock.collate,
    )


def loaded(loader):
    """The numbers of the samples in each batch."""
    batches = []
    for rows, labels in loader:
        assert labels.tolist() == LABELS[rows.numpy()].tolist()
        batches.append(rows.tolist())
    return batches


def rows_of(label):
    return [row for row in range(ROWS) if LABELS[row] == label]


def in_batches(name, items):
    if name in BATCH_SAMPLERS:
        return items
    return [items[i : i + 7] for i in range(0, len(items), 7)]


# under a loader --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ALL)
def test_in_the_standard_loader(name, workers):
    loader = loader_of(name, ALL[name](), workers)
    first, second = epochs_of(ALL[name](), 2)
    assert loaded(loader) == in_batches(name, first)
    assert loaded(loader) == in_batches(name, second)
    assert len(loader) == len(in_batches(name, first))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ALL)
def test_an_epoch_that_is_set_is_that_of_the_loader(name, workers):
    sampler, reference = ALL[name](), ALL[name]()
    sampler.set_epoch(5)
    reference.set_epoch(5)
    assert loaded(loader_of(name, sampler, workers)) == in_batches(name, plain(reference))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ALL)
def test_a_loaded_state_goes_on_in_the_loader(name, workers):
    stopped, fresh = ALL[name](), ALL[name]()
    under_way = iter(stopped)
    list(itertools.islice(under_way, 3))
    fresh.load_state_dict(stopped.state_dict())
    assert loaded(loader_of(name, fresh, workers)) == in_batches(name, plain(under_way))


@pytest.mark.parametrize("name", ALL)
def test_a_state_from_a_loop_without_workers_is_exact(name):
    stopped, fresh = ALL[name](), ALL[name]()
    batches = iter(loader_of(name, stopped))
    next(batches)
    fresh.load_state_dict(stopped.state_dict())
    assert loaded(loader_of(name, fresh)) == loaded(batches)


@pytest.mark.parametrize("name", BATCH_SAMPLERS)
def test_a_batch_is_an_array_of_ints(name):
    sampler = BATCH_SAMPLERS[name]()
    assert isinstance(sampler, torch.utils.data.BatchSampler)
    batches = list(sampler)
    assert len(sampler) == len(batches)
    for batch in batches:
        assert isinstance(batch, np.ndarray)
        assert batch.dtype == np.int64
        assert batch.shape in ((sampler.batch_size,), (ROWS % 7,))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sample_is_an_int(name):
    sampler = SAMPLERS[name]()
    assert isinstance(sampler, torch.utils.data.Sampler)
    samples = list(sampler)
    assert len(sampler) == len(samples)
    assert {type(sample) for sample in samples} == {int}


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    "samples",
    [torch.utils.data.SequentialSampler(DATA), range(ROWS), list(range(ROWS)), DATA, ROWS],
    ids=lambda samples: type(samples).__name__,
)
def test_batches_of_anything_that_gives_ints(samples, drop_last):
    ours = penstock.BatchSampler(samples, 7, drop_last)
    theirs = torch.utils.data.BatchSampler(range(ROWS), 7, drop_last)
    assert plain(ours) == list(theirs)
    assert plain(ours) == list(theirs)
    assert len(ours) == len(theirs)
    ours.set_epoch(3)


def test_batches_of_a_sampler_that_is_not_ours_have_no_state():
    sampler = penstock.BatchSampler(torch.utils.data.SequentialSampler(DATA), 7)
    for name in ("state_dict", "load_state_dict"):
        assert not hasattr(sampler, name), "StatefulDataLoader then counts batches itself"
        with pytest.raises(AttributeError, match=f"SequentialSampler has no {name}"):
            getattr(sampler, name)


def test_a_state_goes_on_with_another_batch_size():
    stopped, fresh = (penstock.BatchSampler(penstock.ShuffleSampler(ROWS), size) for size in (7, 9))
    under_way = iter(stopped)
    next(under_way)
    fresh.load_state_dict(stopped.state_dict())
    assert np.concatenate(list(fresh)).tolist() == np.concatenate(list(under_way)).tolist()


# ranks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 2, 5, 6, 7, 20, 21])
def test_a_distributed_sampler_has_the_numbers_of_torchs(n, world, drop_last):
    for rank in range(world):
        ours = penstock.DistributedSampler(range(n), world, rank, drop_last=drop_last)
        theirs = torch.utils.data.DistributedSampler(range(n), world, rank, drop_last=drop_last)
        assert isinstance(ours, torch.utils.data.DistributedSampler)
        for name in ("num_samples", "total_size", "num_replicas", "rank", "drop_last", "shuffle", "epoch"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert len(ours) == len(theirs) == len(list(ours))


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_distributed_sampler_that_does_not_shuffle_is_torchs(drop_last):
    options = {"num_replicas": 3, "rank": 1, "shuffle": False, "drop_last": drop_last}
    ours = penstock.DistributedSampler(DATA, **options)
    assert list(ours) == list(torch.utils.data.DistributedSampler(DATA, **options))


def test_a_distributed_sampler_outside_torch_distributed_fails_as_torchs():
    with pytest.raises((RuntimeError, ValueError)) as theirs:
        torch.utils.data.DistributedSampler(DATA)
    with pytest.raises(theirs.type) as ours:
        penstock.DistributedSampler(DATA)
    assert str(ours.value) == str(theirs.value)


def test_ranks_are_those_of_torch_distributed(tmp_path):
    script = textwrap.dedent("""
        import json, sys
        import torch.distributed
        import penstock

        rank, folder = int(sys.argv[1]), sys.argv[2]
        early = penstock.ShuffleSampler(11), penstock.StratifiedBatchSampler([0, 1] * 6, 2)
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2
        )
        late = penstock.ShuffleSampler(11), penstock.DistributedSampler(range(11))
        samples = [[int(sample) for item in sampler for sample in
                    (item if hasattr(item, "tolist") else [item])] for sampler in (*early, *late)]
        lengths = [len(sampler) for sampler in (*early, *late)]
        with open(f"{folder}/{rank}.json", "w") as file:
            json.dump([samples, lengths], file)
        torch.distributed.destroy_process_group()
    """)
    processes = [subprocess.Popen([sys.executable, "-c", script, str(i), str(tmp_path)]) for i in range(2)]
    assert [process.wait(timeout=100) for process in processes] == [0, 0]
    first, second = (json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2))
    assert first[1] == second[1] == [6, 3, 6, 6]
    for n, one, other in zip([11, 12, 11, 11], first[0], second[0], strict=True):
        assert len(one) == len(other) == 6
        assert set(one) | set(other) == set(range(n))


# epochs and states -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COUNTING)
def test_epochs_count_up_in_one_process(name):
    counted = epochs_of(ALL[name](), 3)
    sampler = ALL[name]()
    for epoch in (2, 0, 1):
        sampler.set_epoch(epoch)
        assert plain(sampler) == counted[epoch]
    assert plain(sampler) == counted[2]
    assert len({str(items) for items in counted}) == 3


@pytest.mark.parametrize("world", [1, 2])
def test_epochs_of_several_ranks_do_not_count(world):
    shuffle = penstock.ShuffleSampler(ROWS, num_replicas=world, rank=0)
    assert (plain(shuffle) == plain(shuffle)) == (world > 1)
    distributed = penstock.DistributedSampler(DATA, world, 0)
    first = plain(distributed)
    assert plain(distributed) == first
    distributed.set_epoch(1)
    assert distributed.epoch == 1
    assert plain(distributed) != first


@pytest.mark.parametrize("name", ALL)
def test_a_state_is_plain(name):
    state = ALL[name]().state_dict()
    assert {type(value) for value in state.values()} <= {int, str}
    assert json.loads(json.dumps(state)) == state
    assert (state["epoch"], state["position"]) == (0, 0)


@pytest.mark.parametrize("name", ALL)
def test_setting_the_epoch_of_a_loaded_state_keeps_its_position(name):
    stopped, fresh = ALL[name](), ALL[name]()
    stopped.set_epoch(4)
    under_way = iter(stopped)
    list(itertools.islice(under_way, 2))
    state, rest = stopped.state_dict(), plain(under_way)
    for epochs in ([], [4], [4, 4]):
        fresh.load_state_dict(state)
        for epoch in epochs:
            fresh.set_epoch(epoch)
        assert fresh.state_dict() == state
        assert plain(fresh) == rest
    fresh.load_state_dict(state)
    fresh.set_epoch(5)
    stopped.set_epoch(5)
    assert plain(fresh) == plain(stopped)


@pytest.mark.parametrize("name", ALL)
def test_setting_the_epoch_again_begins_it_again(name):
    sampler = ALL[name]()
    sampler.set_epoch(3)
    samples = plain(sampler)
    sampler.set_epoch(3)
    assert plain(sampler) == samples
    sampler.set_epoch(3)
    next(iter(sampler))
    sampler.set_epoch(3)
    assert plain(sampler) == samples


@pytest.mark.parametrize("name", COUNTING)
def test_a_state_from_the_end_goes_on_with_the_next_epoch(name):
    counted = epochs_of(ALL[name](), 3)
    sampler, fresh = ALL[name](), ALL[name]()
    list(sampler)
    fresh.load_state_dict(sampler.state_dict())
    assert epochs_of(fresh, 2) == counted[1:]


@pytest.mark.parametrize("name", ALL)
def test_of_an_epoch_that_has_ended_nothing_is_left(name):
    sampler, fresh, reference = ALL[name](), ALL[name](), ALL[name]()
    list(sampler)
    fresh.load_state_dict(sampler.state_dict())
    fresh.set_epoch(0)
    assert plain(fresh) == []
    fresh.set_epoch(1)
    reference.set_epoch(1)
    assert plain(fresh) == plain(reference)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))], ids=["deepcopy", "pickle"]
)
def test_a_copy_goes_on_where_the_sampler_is(name, again):
    sampler, reference = ALL[name](), ALL[name]()
    first, second = epochs_of(reference, 2)
    assert epochs_of(again(sampler), 2) == [first, second]
    under_way = iter(sampler)
    list(itertools.islice(under_way, 2))
    assert epochs_of(again(sampler), 2) == [first[2:], second]
    assert plain(under_way) == first[2:]
    sampler.set_epoch(0)
    assert plain(again(sampler)) == first


@pytest.mark.parametrize("name", ALL)
def test_two_iterators_do_not_disturb_each_other(name):
    first, second = epochs_of(ALL[name](), 2)
    sampler = ALL[name]()
    one = iter(sampler)
    begun = plain(itertools.islice(one, 2))
    other = iter(sampler)
    in_turns = [(np.asarray(a).tolist(), np.asarray(b).tolist()) for a, b in zip(one, other, strict=False)]
    assert begun + [a for a, _ in in_turns] == first
    assert [b for _, b in in_turns] == second[: len(in_turns)]


@pytest.mark.parametrize(
    "sampler",
    [
        penstock.StratifiedBatchSampler(LABELS, INT64(4)),
        penstock.BalancedBatchSampler(LABELS, INT64(2), INT64(2), num_batches=INT64(3)),
        penstock.EpisodeSampler(LABELS, INT64(2), INT64(2), INT64(1), INT64(3)),
        penstock.LengthBatchSampler(LABELS, INT64(2), INT64(9), pad_to_multiple=INT64(4)),
        penstock.ShuffleSampler(ROWS, seed=INT64(4), num_replicas=INT64(2), rank=INT64(1)),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_state_is_plain_where_the_arguments_were_numpys(sampler):
    json.dumps(sampler.state_dict())


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["shuffle", "distributed", "weighted", "batches", "stratified", "lengths"])
def test_a_stateful_loader_goes_on_in_the_middle_of_an_epoch(name, workers):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    loader, fresh = (loader_of(name, ALL[name](), workers, stateful) for _ in range(2))
    batches = iter(loader)
    seen = loaded(itertools.islice(batches, 2))
    state = pickle.loads(pickle.dumps(loader.state_dict()))
    fresh.load_state_dict(state)
    rest = loaded(fresh)
    assert rest == loaded(batches)
    first, second = (in_batches(name, items) for items in epochs_of(ALL[name](), 2))
    assert seen + rest == first
    assert loaded(fresh) == second


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("name", ["shuffle", "distributed", "batches", "stratified"])
def test_a_stateful_loader_goes_on_with_the_next_epoch(name):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    loader, fresh = (loader_of(name, ALL[name](), kind=stateful) for _ in range(2))
    loaded(loader)
    fresh.load_state_dict(loader.state_dict())
    assert loaded(fresh) == in_batches(name, epochs_of(ALL[name](), 2)[1])


# classes ---------------------------------------------------------------------------------------------------


def test_the_samples_of_each_class_as_datasets():
    classes = DATA.by_class()
    assert list(classes) == [0, 1, 2, 3, 4]
    assert len(classes) == 5
    for label, subset in classes.items():
        assert isinstance(subset, penstock.Subset)
        assert subset.indices.tolist() == rows_of(label)
        rows, labels = subset.gather(range(len(subset)))
        assert rows.tolist() == subset.indices.tolist()
        assert set(labels.tolist()) == {label}
    assert 5 not in classes
    assert classes.get(5) is None
    with pytest.raises(KeyError):
        classes[5]
    assert "5 classes" in repr(classes)


@pytest.mark.parametrize(
    "targets",
    [["dog", "cat"] * 30, np.array(["dog", "cat"] * 30), penstock.ClassIndex(["dog", "cat"] * 30)],
    ids=["list", "array", "index"],
)
def test_classes_with_names(targets):
    classes = DATA.by_class(targets)
    assert list(classes) == ["cat", "dog"]
    assert classes["dog"].indices.tolist() == list(range(0, ROWS, 2))
    loaders = penstock.class_loaders(DATA, 30, targets=targets)
    assert list(loaders) == ["cat", "dog"]
    assert next(iter(loaders["cat"]))[0].tolist() == list(range(1, ROWS, 2))


def test_classes_of_a_subset_are_numbered_in_the_subset():
    subset = DATA.subset(range(ROWS - 1, -1, -1))
    for label, samples in subset.by_class().items():
        assert samples.gather(range(len(samples)))[0].tolist() == rows_of(label)[::-1]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_for_every_class(shuffle, drop_last):
    loaders = penstock.class_loaders(DATA, 5, shuffle, drop_last=drop_last, seed=3)
    assert list(loaders) == [0, 1, 2, 3, 4]
    for label, loader in loaders.items():
        samples = rows_of(label)
        assert isinstance(loader, DataLoader)
        assert len(loader.dataset) == len(samples) == 12
        first, second = loaded(loader), loaded(loader)
        sizes = [5, 5] if drop_last else [5, 5, 2]
        assert [len(batch) for batch in first] == sizes
        assert len(loader) == len(sizes)
        assert (first == second) == (not shuffle)
        for batches in (first, second):
            together = list(itertools.chain(*batches))
            assert set(together) <= set(samples)
            assert len(set(together)) == sum(sizes)
            assert (together == sorted(together)) == (not shuffle)
    again = penstock.class_loaders(DATA, 5, shuffle, drop_last=drop_last, seed=3)
    assert {label: loaded(loader) for label, loader in again.items()} == {
        label: loaded(loader) for label, loader in loaders_begun_anew(loaders).items()
    }


def loaders_begun_anew(loaders):
    for loader in loaders.values():
        loader.batch_sampler.set_epoch(0)
    return loaders


def test_class_loaders_have_a_state():
    loader, fresh = (penstock.class_loaders(DATA, 5, shuffle=True)[3] for _ in range(2))
    batches = iter(loader)
    next(batches)
    fresh.batch_sampler.load_state_dict(loader.batch_sampler.state_dict())
    assert loaded(fresh) == loaded(batches)


def test_two_classes_are_shuffled_in_two_ways():
    loaders = penstock.class_loaders(DATA, 12, shuffle=True)
    orders = {tuple(row // 5 for row in next(iter(loader))[0].tolist()) for loader in loaders.values()}
    assert len(orders) == 5


def test_a_thousand_class_loaders():
    labels = torch.arange(3_000) % 1_000
    dataset = penstock.TensorDataset(torch.arange(3_000), labels)
    loaders = penstock.class_loaders(dataset, 3, shuffle=True)
    assert list(loaders) == list(range(1_000))
    for label, loader in loaders.items():
        ((rows, classes),) = loader
        assert sorted(rows.tolist()) == [label, label + 1_000, label + 2_000]
        assert classes.tolist() == [label] * 3


@pytest.mark.parametrize("shuffle", [False, True])
def test_class_loaders_of_a_dataset_that_is_not_ours(shuffle):
    dataset = torch.utils.data.TensorDataset(torch.arange(ROWS), torch.from_numpy(LABELS))
    loaders = penstock.class_loaders(dataset, 4, shuffle, targets=LABELS)
    for label, loader in loaders.items():
        assert sorted(itertools.chain(*loaded(loader))) == rows_of(label)


def test_parts_of_our_datasets_are_ours_and_of_others_torchs():
    other = torch.utils.data.TensorDataset(torch.arange(ROWS))
    for dataset, kind in ((DATA, penstock.Subset), (other, torch.utils.data.Subset)):
        parts = penstock.random_split(dataset, [0.5, 0.25, 0.25], seed=1)
        assert [len(part) for part in parts] == [30, 15, 15]
        for part in (*parts, *itertools.chain(*penstock.kfold(dataset, 3, seed=1))):
            assert type(part) is kind
            assert [part[i][0].item() for i in range(len(part))] == list(part.indices)


@pytest.mark.parametrize("lengths", [[6, 4], [0.7, 0.3], [0.25, 0.25, 0.5], [0, 10], [1.0]], ids=str)
def test_parts_by_a_generator_are_torchs(lengths):
    for dataset in (TEN, penstock.TensorDataset(torch.arange(10))):
        ours, theirs = (
            split(dataset, lengths, generator=torch.Generator().manual_seed(42))
            for split in (penstock.random_split, torch.utils.data.random_split)
        )
        assert [list(part.indices) for part in ours] == [part.indices for part in theirs]
        assert [len(part) for part in ours] == [len(part) for part in theirs]


def test_parts_may_be_stratified_by_the_datasets_own_labels():
    for split in (penstock.random_split, penstock.kfold):
        how = [0.8, 0.2] if split is penstock.random_split else 5
        ours, given = split(DATA, how, True, 3), split(DATA, how, LABELS, 3)
        if split is penstock.kfold:
            ours, given = itertools.chain(*ours), itertools.chain(*given)
        for part, other in zip(ours, given, strict=True):
            assert part.indices.tolist() == other.indices.tolist()
            assert np.ptp(np.bincount(part.targets, minlength=5)) <= 1


def test_labels_come_from_a_dataset():
    index = penstock.ClassIndex(DATA)
    assert index == penstock.ClassIndex(LABELS)
    assert penstock.ClassIndex.of(index) is index
    assert index != penstock.ClassIndex(LABELS[::-1])
    assert (index == LABELS.tolist()) is False
    assert "60 samples, 5 classes" in repr(index)


# bad input -------------------------------------------------------------------------------------------------

FEW = [0, 0, 0, 1, 1, 1, 2]
TEN = range(10)
BAD = {
    "a class that is not there": (lambda: penstock.ClassSampler(FEW, 3), ArgumentError, "class 3.*0, 1, 2"),
    "a class of no samples": (lambda: penstock.ClassSampler([], 0), ArgumentError, "class 0"),
    "a name that is not there": (lambda: penstock.ClassSampler(["a"], "b"), ArgumentError, "class 'b'.*'a'"),
    "float labels": (lambda: penstock.ClassIndex([0.0, 1.0]), SchemaError, r"float64.*to\(torch.int64\)"),
    "NaN labels": (lambda: penstock.ClassIndex([NAN]), SchemaError, "float64"),
    "float labels as a tensor": (lambda: penstock.ClassIndex(torch.zeros(3)), SchemaError, "float32"),
    "complex labels": (lambda: penstock.ClassIndex([1j]), SchemaError, "complex128"),
    "labels in two dimensions": (lambda: penstock.ClassIndex([[0, 1]]), SchemaError, r"\(1, 2\)"),
    "no labels in two dimensions": (
        lambda: penstock.ClassIndex(np.zeros((2, 0), np.uint64)),
        SchemaError,
        r"\(2, 0\)",
    ),
    "one label": (lambda: penstock.ClassIndex(3), SchemaError, "one dimension"),
    "labels that are nothing": (lambda: penstock.ClassIndex(None), SchemaError, "one dimension"),
    "labels that are objects": (lambda: penstock.ClassIndex([None, "a"]), SchemaError, "object"),
    "labels beyond int64": (lambda: penstock.ClassIndex([2**63]), SchemaError, "uint64"),
    "labels for other samples": (lambda: DATA.by_class([0, 1]), ArgumentError, "60 labels.*2"),
    "labels for other loaders": (
        lambda: penstock.class_loaders(DATA, targets=[0, 1]),
        ArgumentError,
        "60 labels.*2",
    ),
    "labels for other parts": (
        lambda: penstock.random_split(TEN, [5, 5], [0, 1]),
        ArgumentError,
        "10 labels.*2",
    ),
    "groups for other parts": (
        lambda: penstock.kfold(TEN, 2, groups=[0, 1]),
        ArgumentError,
        "10 groups.*2",
    ),
    "float labels for parts": (lambda: penstock.kfold(TEN, 2, [0.5] * 10), SchemaError, "float64"),
    "no batch size": (
        lambda: penstock.BatchSampler(TEN, 0),
        ArgumentError,
        "batch_size is too small.*found 0",
    ),
    "half a batch size": (
        lambda: penstock.BatchSampler(TEN, HALF),
        SchemaError,
        "batch_size is no whole number.*2.5",
    ),
    "no batch size of a class": (
        lambda: penstock.class_loaders(DATA, 0),
        ArgumentError,
        "batch_size is too small.*found 0",
    ),
    "no stratified batch size": (
        lambda: penstock.StratifiedBatchSampler(FEW, 0),
        ArgumentError,
        "batch_size.*1 or more",
    ),
    "fewer classes than P": (lambda: penstock.BalancedBatchSampler(FEW, 4, 1), ArgumentError, "4, found 3"),
    "no classes in a batch": (
        lambda: penstock.BalancedBatchSampler(FEW, 0, 1),
        ArgumentError,
        "classes_per_batch",
    ),
    "no samples of a class": (
        lambda: penstock.BalancedBatchSampler(FEW, 1, 0),
        ArgumentError,
        "samples_per_class",
    ),
    "no batches": (
        lambda: penstock.BalancedBatchSampler(FEW, 1, 1, num_batches=0),
        ArgumentError,
        "num_batches",
    ),
    "a batch too large": (lambda: penstock.BalancedBatchSampler(FEW, 2, 2**50), ArgumentError, "too large"),
    "balance of nothing": (lambda: penstock.BalancedBatchSampler([], 1, 1), ArgumentError, "1, found 0"),
    "a class too small": (
        lambda: penstock.EpisodeSampler(FEW, 2, 1, 1),
        ArgumentError,
        "class 2 has too few.*2, found 1",
    ),
    "fewer classes than ways": (lambda: penstock.EpisodeSampler(FEW, 4, 1), ArgumentError, "4, found 3"),
    "no ways": (lambda: penstock.EpisodeSampler(FEW, 0, 1), ArgumentError, "n_way"),
    "no shots": (lambda: penstock.EpisodeSampler(FEW, 1, 0), ArgumentError, "n_shot"),
    "negative queries": (lambda: penstock.EpisodeSampler(FEW, 1, 1, -1), ArgumentError, "n_query"),
    "no episodes": (
        lambda: penstock.EpisodeSampler(FEW, 1, 1, num_episodes=0),
        ArgumentError,
        "num_episodes",
    ),
    "NaN weights": (lambda: penstock.WeightedSampler([1, NAN], 2), ArgumentError, "weight 1 .*nan"),
    "negative weights": (lambda: penstock.WeightedSampler([-1, 2], 2), ArgumentError, "weight 0 .*-1"),
    "infinite weights": (
        lambda: penstock.WeightedSampler([1, float("inf")], 2),
        ArgumentError,
        "weight 1 .*inf",
    ),
    "weights of zero": (lambda: penstock.WeightedSampler([0, 0], 2), ArgumentError, "all weights are zero"),
    "no weights": (lambda: penstock.WeightedSampler([], 2), ArgumentError, "no weights"),
    "weights in two dimensions": (
        lambda: penstock.WeightedSampler(torch.ones(2, 3), 2),
        SchemaError,
        r"\(2, 3\)",
    ),
    "weights that are strings": (lambda: penstock.WeightedSampler(["1"], 2), SchemaError, "<U1"),
    "no draws": (
        lambda: penstock.WeightedSampler([1, 2], 0),
        ArgumentError,
        "num_samples is too small.*found 0",
    ),
    "half a draw": (
        lambda: penstock.WeightedSampler([1, 2], HALF),
        SchemaError,
        "num_samples is no whole number.*2.5",
    ),
    "more draws than samples": (
        lambda: penstock.WeightedSampler([1, 2, 0], 3, replacement=False),
        ArgumentError,
        "3 weights above zero, found 2",
    ),
    "lengths that do not sum": (
        lambda: penstock.random_split(TEN, [5, 4]),
        ArgumentError,
        "needed 10.*found 9",
    ),
    "a generator and what torch does not know": (
        lambda: penstock.random_split(TEN, [5, 5], seed=0, generator=torch.Generator()),
        ArgumentError,
        "seed=",
    ),
    "a generator and classes": (
        lambda: penstock.random_split(TEN, [5, 5], [0, 1] * 5, generator=torch.Generator()),
        ArgumentError,
        "stratify=",
    ),
    "fractions that do not sum": (lambda: penstock.random_split(TEN, [0.5, 0.4]), ArgumentError, "found 0.9"),
    "fractions of samples": (lambda: penstock.random_split(TEN, [2.5, 7.5]), ArgumentError, "needed 10"),
    "no lengths": (lambda: penstock.random_split(TEN, []), ArgumentError, "found 0"),
    "a negative length": (lambda: penstock.random_split(TEN, [11, -1]), ArgumentError, r"\[11, -1\]"),
    "a length of NaN": (lambda: penstock.random_split(TEN, [NAN, 1]), ArgumentError, "nan"),
    "one fold": (lambda: penstock.kfold(TEN, 1), ArgumentError, "2 to 10, found 1"),
    "more folds than samples": (lambda: penstock.kfold(TEN, 11), ArgumentError, "2 to 10, found 11"),
    "fewer groups than folds": (lambda: penstock.kfold(TEN, 2, groups=[0] * 10), ArgumentError, "no group"),
    "a rank past the last": (
        lambda: penstock.ShuffleSampler(10, num_replicas=2, rank=2),
        ArgumentError,
        "0 to 1 of 2 replicas, found 2",
    ),
    "a negative rank": (
        lambda: penstock.DistributedSampler(TEN, 2, -1),
        ArgumentError,
        "0 to 1 of 2 replicas, found -1",
    ),
    "a rank of nobody": (
        lambda: penstock.SequentialSampler(10, num_replicas=0, rank=0),
        ArgumentError,
        "num_replicas is too small.*found 0",
    ),
    "a negative number of samples": (lambda: penstock.ShuffleSampler(-1), ArgumentError, "-1"),
    "a negative epoch": (lambda: penstock.ShuffleSampler(10).set_epoch(-1), ArgumentError, "-1"),
    "blocks of nothing": (
        lambda: penstock.BlockShuffleSampler(DATA, block_bytes=0),
        ArgumentError,
        "block.*found 0",
    ),
    "blocks larger than a window": (
        lambda: penstock.BlockShuffleSampler(DATA, block_bytes=8, window_bytes=4),
        ArgumentError,
        "1 to 4 bytes, found 8",
    ),
    "blocks of another dataset": (lambda: penstock.BlockShuffleSampler(TEN), SchemaError, "range"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    use, error, message = BAD[case]
    with pytest.raises(error, match=message) as caught:
        use()
    assert isinstance(caught.value, ValueError if error is ArgumentError else TypeError)


def test_no_labels_are_named_as_such():
    unlabelled = penstock.TensorDataset(torch.zeros(10, 2))
    for use in (unlabelled.by_class, lambda: penstock.class_loaders(unlabelled)):
        with pytest.raises(AttributeError, match="no class labels"):
            use()


def two_shards(first):
    tensors = torch.zeros(first), torch.zeros(10 - first)
    return penstock.ConcatDataset([penstock.TensorDataset(tensor) for tensor in tensors])


balanced = functools.partial(penstock.BalancedBatchSampler, LABELS)
blocks = functools.partial(penstock.BlockShuffleSampler, DATA, window_bytes=64, block_bytes=16)
episodes = functools.partial(penstock.EpisodeSampler, LABELS, 2)
lengths = functools.partial(penstock.LengthBatchSampler, LABELS)
STALE = {
    "another sampler": (penstock.ShuffleSampler(9), penstock.SequentialSampler(9), "sampler"),
    "another seed": (penstock.ShuffleSampler(9), penstock.ShuffleSampler(9, seed=1), "seed"),
    "another length": (penstock.ShuffleSampler(9), penstock.ShuffleSampler(8), "length.*8, found 9"),
    "another shuffle": (
        penstock.DistributedSampler(TEN, 1, 0),
        penstock.DistributedSampler(TEN, 1, 0, shuffle=False),
        "shuffle",
    ),
    "another class": (penstock.ClassSampler(FEW, 0), penstock.ClassSampler(FEW, 1), "samples"),
    "a class shuffled": (
        penstock.ClassSampler(FEW, 0),
        penstock.ClassSampler(FEW, 0, shuffle=False),
        "shuffle",
    ),
    "other blocks": (blocks(), blocks(block_bytes=32), "block samples"),
    "other windows": (blocks(), blocks(window_bytes=128), "window samples"),
    "other shards": (
        penstock.BlockShuffleSampler(two_shards(3)),
        penstock.BlockShuffleSampler(two_shards(4)),
        "shards",
    ),
    "other weights": (
        penstock.WeightedSampler([1, 2], 9),
        penstock.WeightedSampler([1, 3], 9),
        "weights",
    ),
    "another replacement": (
        penstock.WeightedSampler([1, 2], 2),
        penstock.WeightedSampler([1, 2], 2, replacement=False),
        "replacement",
    ),
    "other classes per batch": (balanced(2, 2), balanced(3, 2, num_batches=15), "classes per batch"),
    "other samples per class": (balanced(2, 2), balanced(2, 3, num_batches=15), "samples per class"),
    "another number of batches": (balanced(2, 2), balanced(2, 2, num_batches=3), "length"),
    "other labels to balance": (
        balanced(2, 2),
        penstock.BalancedBatchSampler(LABELS[::-1], 2, 2),
        "targets",
    ),
    "other labels to stratify": (
        penstock.StratifiedBatchSampler(LABELS, 7),
        penstock.StratifiedBatchSampler(LABELS[::-1], 7),
        "targets",
    ),
    "another stratified batch size": (
        penstock.StratifiedBatchSampler(FEW, 4),
        penstock.StratifiedBatchSampler(FEW, 6),
        "batch size.*6, found 4",
    ),
    "other lengths": (lengths(4), penstock.LengthBatchSampler(LABELS[::-1], 4), "lengths"),
    "other rows of a padded batch": (lengths(4), lengths(5), "batch size.*5, found 4"),
    "other tokens of a padded batch": (lengths(4, 8), lengths(4, 9), "max tokens"),
    "another padding": (lengths(4), lengths(4, pad_to_multiple=2), "pad to multiple"),
    "another spread of buckets": (lengths(4), lengths(4, bucket_spread=0), "bucket spread.*0.0, found 0.1"),
    "sorted batches": (lengths(4), lengths(4, shuffle=False), "shuffle"),
    "longest first": (lengths(4), lengths(4, longest_first=True), "longest first"),
    "other shots": (episodes(1, 1), episodes(2, 1), "n shot"),
    "other queries": (episodes(1, 1), episodes(1, 2), "n query"),
    "an empty state": ({}, penstock.ShuffleSampler(9), "another sampler.*found none"),
}


@pytest.mark.parametrize("case", STALE)
def test_a_state_of_another_order_is_refused(case):
    old, new, message = STALE[case]
    before = new.state_dict()
    with pytest.raises(ArgumentError, match=message):
        new.load_state_dict(old if isinstance(old, dict) else old.state_dict())
    assert new.state_dict() == before


@pytest.mark.parametrize("number", [-1, 1.5, "3", None, NAN, [0]], ids=repr)
@pytest.mark.parametrize("key", ["epoch", "position"])
def test_a_state_of_no_numbers_is_refused(key, number):
    sampler = penstock.ShuffleSampler(9)
    with pytest.raises(ArgumentError, match=f"the state's {key}"):
        sampler.load_state_dict({**sampler.state_dict(), key: number})


@pytest.mark.parametrize("key", ["sampler", "epoch", "position", "length", "seed"])
def test_a_state_without_all_its_keys_is_refused(key):
    sampler = penstock.ShuffleSampler(9)
    state = sampler.state_dict()
    del state[key]
    with pytest.raises(ArgumentError, match=key):
        sampler.load_state_dict(state)


def test_a_state_past_the_end_is_refused():
    sampler = penstock.ShuffleSampler(9)
    with pytest.raises(ArgumentError, match=r"past the end.*9, found 10"):
        sampler.load_state_dict({**sampler.state_dict(), "position": 10})


def test_labels_of_several_kinds_are_refused():
    with pytest.raises(SchemaError, match="whole numbers or strings"):
        penstock.ClassIndex([1, "a"])
    assert list(penstock.ClassIndex(np.array([2, 1, 2], object))) == [1, 2]


def test_a_batch_sampler_over_batches_is_refused():
    with pytest.raises(SchemaError, match="makes batches already"):
        penstock.BatchSampler(penstock.StratifiedBatchSampler([0, 1], 1), 2)


def test_an_ended_epoch_loaded_after_the_next_was_asked_for_changes_nothing():
    sampler = penstock.DistributedSampler(range(10), 1, 0)
    list(sampler)
    state = sampler.state_dict()
    fresh = penstock.DistributedSampler(range(10), 1, 0)
    fresh.set_epoch(1)
    fresh.load_state_dict(state)
    sampler.set_epoch(1)
    assert list(fresh) == list(sampler) != []


def test_a_shuffle_of_a_million_million_samples_takes_no_memory():
    tracemalloc.start()
    sampler = penstock.ShuffleSampler(10**12, seed=1)
    batches = penstock.BatchSampler(sampler, 1024)
    walk = iter(batches)
    seen = [next(walk) for _ in range(3)]
    sampler.load_state_dict({**sampler.state_dict(), "position": 10**12 - 1500})
    seen += [*iter(batches)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(batch) for batch in seen] == [1024, 1024, 1024, 1024, 476]
    assert len(set(np.concatenate(seen).tolist())) == 3 * 1024 + 1500
    assert peak < 1 << 20


def test_labels_that_change_while_they_are_counted_do_no_harm():
    process = start_python(
        "",
        """
        import sys, threading
        import numpy as np
        import penstock

        sys.setswitchinterval(1e-5)
        labels = np.zeros(1_000_000, np.int64)
        is_done = threading.Event()

        def write():
            while not is_done.is_set():
                labels[1000:] = 1 << 40
                labels[1000:] = 0

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(20):
                index = penstock.ClassIndex(labels)
                assert index.counts.sum() == len(labels)
        finally:
            is_done.set()
            writer.join()
        print("ok")
        """,
    )
    printed, complaint = process.communicate(60)
    assert (printed, process.returncode) == ("ok\n", 0), complaint
