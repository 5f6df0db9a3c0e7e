"""Under the standard DataLoader, with its own names and defaults."""

import contextlib

import pytest
import torch
from reference import assert_same, write
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
ROWS = 103


@pytest.fixture
def x(make_shards):
    """Rows whose first element is their number."""
    shards = make_shards(lengths=(50, 0, 3, 50))
    for i, part in enumerate(shards.parts):
        part[:, 0] = torch.arange(len(part)) + (0, 0, 50, 53)[i]
        write("npy", shards.paths[i].with_suffix(""), part)
    return shards


@pytest.fixture
def dataset(x, tmp_path):
    """Tuples (row, number)."""
    for path, part in zip(x.paths, x.parts, strict=True):
        torch.save((part, part[:, 0].long()), path.with_suffix(".pt"))
    return penstock.ShardDataset(str(x.folder / "*.pt"))


@pytest.fixture
def theirs(x):
    rows = x.rows
    return TensorDataset(rows, rows[:, 0].long())


def assert_same_epoch(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert type(one) is type(other)
        assert_same(one, other)


def numbers(batches):
    return [i for _rows, labels in batches for i in labels.tolist()]


@pytest.mark.parametrize("batch_size", [1, 4, 10, 103, 104, 1000])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_are_those_of_torchs_tensor_dataset(dataset, theirs, batch_size, drop_last):
    options = {"batch_size": batch_size, "drop_last": drop_last}
    assert_same_epoch(DataLoader(dataset, **options), DataLoader(theirs, **options))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_seeded_shuffle_is_that_of_torchs_tensor_dataset(dataset, theirs, workers):
    def loader(of):
        generator = torch.Generator().manual_seed(5)
        context = "fork" if workers else None
        return DataLoader(
            of, 10, shuffle=True, generator=generator, num_workers=workers, multiprocessing_context=context
        )

    ours, others = loader(dataset), loader(theirs)
    for _epoch in range(2):
        assert_same_epoch(ours, others)


def test_the_global_seed_gives_the_order_of_torchs_tensor_dataset(dataset, theirs):
    torch.manual_seed(7)
    ours = list(DataLoader(dataset, 10, shuffle=True))
    torch.manual_seed(7)
    assert_same_epoch(ours, DataLoader(theirs, 10, shuffle=True))


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_give_every_sample_once(dataset, method, persistent):
    dataset.gather([0])  # used before it is shared
    loader = DataLoader(
        dataset,
        10,
        shuffle=True,
        num_workers=2,
        multiprocessing_context=method,
        persistent_workers=persistent,
    )
    for _epoch in range(2 if persistent else 1):
        batches = list(loader)
        assert sorted(numbers(batches)) == list(range(ROWS))
        for rows, labels in batches:
            assert rows[:, 0].tolist() == labels.tolist()
        assert_same(batches[0], dataset.gather(batches[0][1]))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_sample_exactly_once(dataset, batch_size, workers):
    context = "fork" if workers else None
    loader = DataLoader(
        dataset, batch_size, shuffle=True, num_workers=workers, multiprocessing_context=context
    )
    assert sorted(numbers(loader)) == list(range(ROWS))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("collate", [None, penstock.collate, default_collate])
def test_every_collate_function_gives_the_same(dataset, theirs, workers, collate):
    context = "fork" if workers else None
    loader = DataLoader(dataset, 10, num_workers=workers, multiprocessing_context=context, collate_fn=collate)
    assert_same_epoch(loader, DataLoader(theirs, 10))


def as_list(samples):
    return list(samples)


def as_is(samples):
    return samples


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("collate", [as_list, as_is])
def test_samples_may_leave_a_worker_uncollated(dataset, workers, collate):
    context = "fork" if workers else None
    loader = DataLoader(dataset, 10, num_workers=workers, multiprocessing_context=context, collate_fn=collate)
    batches = list(loader)
    assert [len(samples) for samples in batches] == [10] * 10 + [3]
    assert [int(label) for samples in batches for _row, label in samples] == list(range(ROWS))
    for samples in batches:
        assert_same(default_collate(list(samples)), dataset.gather([int(label) for _row, label in samples]))


@pytest.mark.parametrize("workers", [0, 2])
def test_kept_batches_of_an_epoch_do_not_change(dataset, theirs, workers):
    context = "fork" if workers else None
    loader = DataLoader(dataset, 2, num_workers=workers, multiprocessing_context=context)
    for _epoch in range(2):
        kept = list(loader)
        list(loader)
        assert_same_epoch(kept, DataLoader(theirs, 2))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("collate", [None, penstock.collate, penstock.Collate(pin_memory=True)])
def test_pin_memory_with_and_without_an_accelerator(dataset, theirs, workers, collate):
    has_one = torch.accelerator.is_available()
    said = contextlib.nullcontext() if has_one else pytest.warns(UserWarning, match="pin_memory")
    context = "fork" if workers else None
    with said:
        loader = DataLoader(
            dataset,
            10,
            pin_memory=True,
            num_workers=workers,
            multiprocessing_context=context,
            collate_fn=collate,
        )
        batches = list(loader)
    assert_same_epoch(batches, DataLoader(theirs, 10))
    assert all(rows.is_pinned() == has_one for rows, _labels in batches)


def test_collate_pins_only_where_there_is_an_accelerator(dataset, theirs):
    batches = list(DataLoader(dataset, 10, collate_fn=penstock.Collate(pin_memory=True)))
    assert_same_epoch(batches, DataLoader(theirs, 10))
    assert all(rows.is_pinned() == torch.accelerator.is_available() for rows, _labels in batches)


def test_samplers_of_torch(dataset, theirs):
    def samplers(of):
        yield SequentialSampler(of)
        yield RandomSampler(of, replacement=True, num_samples=50, generator=torch.Generator().manual_seed(1))
        yield WeightedRandomSampler(torch.ones(ROWS), 40, generator=torch.Generator().manual_seed(1))
        yield [5, 5, 0, 102]

    for one, other in zip(samplers(dataset), samplers(theirs), strict=True):
        assert_same_epoch(DataLoader(dataset, 8, sampler=one), DataLoader(theirs, 8, sampler=other))


@pytest.mark.parametrize("workers", [0, 2])
def test_batch_samplers(dataset, theirs, workers):
    context = "fork" if workers else None
    options = {"num_workers": workers, "multiprocessing_context": context}
    for batches in (BatchSampler(range(ROWS), 9, drop_last=True), [[0], [102, 1, 1], [5, 4, 3, 2]]):
        assert_same_epoch(
            DataLoader(dataset, batch_sampler=batches, **options), DataLoader(theirs, batch_sampler=batches)
        )


def test_a_batch_sampler_of_tensors_and_arrays(dataset, theirs):
    tensors = list(torch.randperm(ROWS).split(10))
    ours = list(DataLoader(dataset, batch_sampler=tensors))
    assert_same_epoch(ours, DataLoader(theirs, batch_sampler=[indices.tolist() for indices in tensors]))
    arrays = [indices.numpy() for indices in tensors]
    assert_same_epoch(DataLoader(dataset, batch_sampler=arrays), ours)


@pytest.mark.parametrize("workers", [0, 2])
def test_without_a_batch_size_samples_come_one_by_one(dataset, theirs, workers):
    context = "fork" if workers else None
    options = {"batch_size": None, "num_workers": workers, "multiprocessing_context": context}
    ours, others = list(DataLoader(dataset, **options)), list(DataLoader(theirs, batch_size=None))
    assert len(ours) == ROWS
    assert_same(ours, others)


def test_the_default_loader_of_tensors_and_dicts(x, tmp_path):
    rows = x.rows
    for batch, expected in zip(DataLoader(x.open(), 10), rows.split(10), strict=True):
        assert_same(batch, expected)
    named = penstock.ShardDataset({"row": x.paths, "again": x.paths})
    for batch, expected in zip(DataLoader(named, 10), rows.split(10), strict=True):
        assert type(batch) is dict
        assert_same(batch, {"row": expected, "again": expected})


def test_a_transform_is_applied_to_every_sample(x):
    dataset = x.open(transform=torch.nn.Identity())
    assert_same(torch.cat(list(DataLoader(dataset, 10))), x.rows)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_keeps_its_class_on_the_way_to_the_loop(dataset, workers):
    context = "fork" if workers else None
    loader = DataLoader(
        dataset, batch_sampler=[[0], [ROWS]], num_workers=workers, multiprocessing_context=context
    )
    batches = iter(loader)
    next(batches)
    with pytest.raises(IndexError, match=str(ROWS)):
        next(batches)
    if workers:
        batches._shutdown_workers()  # else torch waits for them ten seconds: the exception holds the iterator
    assert_same(next(iter(DataLoader(dataset, 2))), dataset.gather([0, 1]))


def test_a_loader_that_is_left_early_leaves_the_dataset_usable(dataset, theirs):
    for _ in range(5):
        for _batch in DataLoader(dataset, 4, num_workers=2, multiprocessing_context="fork"):
            break
    assert_same_epoch(DataLoader(dataset, 10), DataLoader(theirs, 10))
