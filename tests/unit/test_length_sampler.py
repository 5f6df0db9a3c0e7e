"""LengthBatchSampler: under the loaders, what it saves, and what it refuses."""

import itertools
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data

import penstock
from penstock import ArgumentError, LengthBatchSampler, SchemaError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
LENGTHS = np.random.default_rng(0).integers(0, 40, 200)
DATA = penstock.TensorDataset(torch.arange(len(LENGTHS)), torch.from_numpy(LENGTHS))
LOADERS = {"torch": torch.utils.data.DataLoader, "penstock": penstock.DataLoader}
HALF: Any = 2.5  # what a type checker would not let through


def log_normal(count, spread=0.8):
    return np.random.default_rng(1).lognormal(5, spread, count).astype(np.int64)


def padding(lengths, batches):
    """Which part of the padded batches is padding."""
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / padded


def plain(batches):
    return [batch.tolist() for batch in batches]


def rows_of(loader):
    return [rows.tolist() for rows, _ in loader]


# what it is for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"batch_size": 32}, {"max_tokens": 16_384}], ids=str)
def test_a_fifth_of_the_padding_of_random_batches_is_left_at_most(limits):
    lengths = log_normal(20_000)
    ours = list(LengthBatchSampler(lengths, **limits))
    size = limits.get("batch_size") or len(lengths) // len(ours)
    random = list(penstock.BatchSampler(penstock.ShuffleSampler(len(lengths)), size))
    assert padding(lengths, ours) <= padding(lengths, random) / 5


def test_a_narrower_bucket_pads_less():
    lengths = log_normal(20_000)
    shares = [
        padding(lengths, list(LengthBatchSampler(lengths, 16, bucket_spread=s))) for s in (0, 0.1, 0.3, 1)
    ]
    assert shares == sorted(shares)
    assert shares[-1] > 0.5


def test_samples_meet_others_in_every_epoch():
    sampler = LengthBatchSampler(log_normal(1_000), 10)
    epochs = [{tuple(sorted(batch)) for batch in sampler} for _ in range(2)]
    assert len(epochs[0] & epochs[1]) < 10


@pytest.mark.parametrize("world", [2, 3, 8])
def test_ranks_have_batches_of_one_bucket_at_every_turn(world):
    lengths = log_normal(20_000, 0.3)
    ranks = [
        list(LengthBatchSampler(lengths, max_tokens=2_000, num_replicas=world, rank=rank, seed=3))
        for rank in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    alike = 0
    for batches in itertools.islice(zip(*ranks, strict=True), len(ranks[0]) - 1):
        assert len({len(batch) for batch in batches}) == 1
        together = lengths[np.concatenate(batches)]
        alike += together.min() >= 0.9 * together.max()
    assert alike > 0.9 * (len(ranks[0]) - 1)
    assert sorted(np.concatenate(list(itertools.chain.from_iterable(ranks)))) == list(range(len(lengths)))


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_longest_come_first_on_request(shuffle):
    lengths = log_normal(500)
    sampler = LengthBatchSampler(lengths, 8, shuffle=shuffle, longest_first=True)
    firsts = [next(iter(sampler)) for _ in range(5)]
    for first in firsts:
        assert sorted(lengths[first]) == sorted(lengths)[-8:]
    epoch = [lengths[batch].max() for batch in sampler]
    assert (epoch == sorted(epoch, reverse=True)) == (not shuffle)


def test_a_budget_counts_what_is_padded():
    sampler = LengthBatchSampler([9, 9, 9, 8, 8], max_tokens=32, pad_to_multiple=8, shuffle=False)
    assert plain(sampler) == [[2, 1], [0, 4], [3]]
    assert sampler.batch_size is None


# in a loader -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", LOADERS)
def test_in_a_loader(kind, workers):
    sampler, reference = (LengthBatchSampler(LENGTHS, max_tokens=160, seed=1) for _ in range(2))
    context = "fork" if workers else None
    loader = LOADERS[kind](DATA, batch_sampler=sampler, num_workers=workers, multiprocessing_context=context)
    for _ in range(2):
        assert rows_of(loader) == plain(reference)
        assert len(loader) == len(reference)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_state_of_a_loader(workers):
    def make():
        return penstock.DataLoader(
            DATA,
            batch_sampler=LengthBatchSampler(LENGTHS, max_tokens=160, seed=1),
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )

    loader, fresh = make(), make()
    batches = iter(loader)
    begun = rows_of(itertools.islice(batches, 3))
    fresh.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    rest = rows_of(fresh)
    assert rest == rows_of(batches)
    expected = LengthBatchSampler(LENGTHS, max_tokens=160, seed=1)
    assert begun + rest == plain(expected)
    assert rows_of(fresh) == plain(expected)


# what lengths may be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lengths",
    [
        LENGTHS.tolist(),
        torch.from_numpy(LENGTHS),
        torch.from_numpy(LENGTHS.astype(np.uint8)),
        LENGTHS.astype(np.uint64),
        LENGTHS.repeat(2)[::2],
        SimpleNamespace(lengths=LENGTHS),
    ],
    ids=["list", "tensor", "bytes", "uint64", "strided", "dataset"],
)
def test_lengths_of_any_kind(lengths):
    assert plain(LengthBatchSampler(lengths, 7)) == plain(LengthBatchSampler(LENGTHS, 7))


def test_lengths_may_change_afterwards():
    lengths = LENGTHS.copy()
    sampler = LengthBatchSampler(lengths, 7)
    lengths[:] = 0
    assert plain(sampler) == plain(LengthBatchSampler(LENGTHS, 7))


def test_sequences_of_no_length():
    assert [len(batch) for batch in LengthBatchSampler([0] * 10, max_tokens=4)] == [4, 4, 2]
    assert plain(LengthBatchSampler([0, 0, 3], 2, shuffle=False)) == [[2, 1], [0]]
    assert plain(LengthBatchSampler([], 2)) == []


BAD = {
    "no limit": (lambda: LengthBatchSampler([1]), ArgumentError, "needed batch_size or max_tokens"),
    "no batch size": (lambda: LengthBatchSampler([1], 0), ArgumentError, "batch_size is too small.*found 0"),
    "half a batch size": (lambda: LengthBatchSampler([1], HALF), SchemaError, "batch_size.*2.5"),
    "no tokens": (lambda: LengthBatchSampler([], max_tokens=0), ArgumentError, "max_tokens.*found 0"),
    "a huge batch size": (lambda: LengthBatchSampler([1], 2**60), ArgumentError, r"batch_size.*2\*\*52"),
    "no multiple": (lambda: LengthBatchSampler([1], 1, pad_to_multiple=0), ArgumentError, "pad_to_multiple"),
    "a longer sequence": (
        lambda: LengthBatchSampler([3, 900, 5], max_tokens=512),
        ArgumentError,
        "row 1: the longest sequence.*needed max_tokens of 900 or more, found 512. Raise",
    ),
    "a longer sequence when padded": (
        lambda: LengthBatchSampler([513], max_tokens=520, pad_to_multiple=512),
        ArgumentError,
        "row 0: .*1024 or more, found 520",
    ),
    "a negative length": (
        lambda: LengthBatchSampler([3, 2, -1], 2),
        ArgumentError,
        "row 2: a length is negative.*found -1",
    ),
    "a length beyond all bounds": (
        lambda: LengthBatchSampler([2**62], 2),
        ArgumentError,
        r"row 0: .*2\*\*52",
    ),
    "a length beyond int64": (lambda: LengthBatchSampler([2**63], 2), SchemaError, "uint64"),
    "float lengths": (lambda: LengthBatchSampler([1.0], 2), SchemaError, "float64"),
    "float lengths as a tensor": (lambda: LengthBatchSampler(torch.ones(2), 2), SchemaError, "float32"),
    "bools": (lambda: LengthBatchSampler([True], 2), SchemaError, "bool"),
    "strings": (lambda: LengthBatchSampler(["1"], 2), SchemaError, "<U1"),
    "two dimensions": (lambda: LengthBatchSampler([[1]], 2), SchemaError, r"\(1, 1\)"),
    "one length": (lambda: LengthBatchSampler(5, 2), SchemaError, "no lengths.*found 5"),
    "an array of one length": (lambda: LengthBatchSampler(np.array(5), 2), SchemaError, r"shape \(\)"),
    "a dataset without lengths": (lambda: LengthBatchSampler(DATA, 2), SchemaError, "no lengths.*Dataset"),
    "nothing": (lambda: LengthBatchSampler(None, 2), SchemaError, "no lengths.*None"),
    "a negative spread": (lambda: LengthBatchSampler([1], 2, bucket_spread=-0.1), ArgumentError, "0 to 1"),
    "a spread of NaN": (
        lambda: LengthBatchSampler([1], 2, bucket_spread=float("nan")),
        ArgumentError,
        "bucket_spread.*nan",
    ),
    "a rank past the last": (
        lambda: LengthBatchSampler([1], 2, num_replicas=2, rank=2),
        ArgumentError,
        "0 to 1 of 2 replicas",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    use, error, message = BAD[case]
    with pytest.raises(error, match=message):
        use()


def test_the_sample_that_is_too_long_is_named():
    with pytest.raises(ArgumentError) as caught:
        LengthBatchSampler([3, 900, 5, 900], max_tokens=512)
    assert caught.value.row == 1


@pytest.mark.parametrize("ranks", [None, 0, -1, 1.5, True, 2**40, "2"], ids=repr)
def test_a_state_of_no_ranks_is_refused(ranks):
    sampler = LengthBatchSampler(LENGTHS, 7)
    before = sampler.state_dict()
    with pytest.raises(ArgumentError, match="ranks"):
        sampler.load_state_dict({**before, "ranks": ranks})
    with pytest.raises(ArgumentError, match="ranks"):
        sampler.load_state_dict({key: value for key, value in before.items() if key != "ranks"})
    assert sampler.state_dict() == before


def test_a_state_past_the_end_of_its_own_ranks_is_refused():
    sampler = LengthBatchSampler([1] * 10, 2)
    state = {**sampler.state_dict(), "ranks": 3}
    sampler.load_state_dict({**state, "position": 6})
    with pytest.raises(ArgumentError, match=r"past the end.*6, found 7"):
        sampler.load_state_dict({**state, "position": 7})
