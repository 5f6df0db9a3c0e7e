"""Batches of like length are those of a slow and obvious reference, on any ranks, stopped anywhere."""

import itertools
import json
import pickle
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

import penstock

MASK = 2**64 - 1
SEEDS = st.sampled_from([0, -1, 2**64 + 5]) | st.integers(0, 2**63)
EPOCHS = st.integers(0, 5)
WORLDS = st.integers(1, 5)


@dataclass(frozen=True)
class Case:
    """The arguments of a sampler."""

    lengths: list[int]
    batch_size: int | None = None
    max_tokens: int | None = None
    pad_to_multiple: int | None = None
    bucket_spread: float = 0.1
    shuffle: bool = True
    longest_first: bool = False
    drop_last: bool = False
    seed: int = 0

    def ranks(self, world) -> list[Any]:
        return [
            penstock.LengthBatchSampler(**asdict(self), num_replicas=world, rank=rank)
            for rank in range(world)
        ]

    def padded(self, length):
        multiple = self.pad_to_multiple or 1
        return max(1, -(-length // multiple) * multiple)

    def padded_batch(self, batch):
        return len(batch) * max(self.padded(self.lengths[sample]) for sample in batch)


@st.composite
def cases(draw):
    length = st.integers(0, draw(st.sampled_from([0, 1, 12, 10_000])))
    lengths = draw(st.lists(length, max_size=80))
    multiple = draw(st.sampled_from([None, 1, 8]))
    longest = Case(lengths, pad_to_multiple=multiple).padded(max(lengths, default=0))
    limits = draw(st.sampled_from(["rows", "tokens", "both"]))
    return Case(
        lengths,
        draw(st.integers(1, 9)) if limits != "tokens" else None,
        draw(st.integers(longest, 6 * longest)) if limits != "rows" else None,
        multiple,
        draw(st.sampled_from([0, 0.1, 0.5, 1])),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(SEEDS),
    )


# the reference ---------------------------------------------------------------------------------------------


def mix(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def derived(key, number):
    return mix(mix(key + 0x9E3779B97F4A7C15 & MASK) ^ number)


def shuffled(items, key, number):
    order = penstock._core.Permutation(len(items), key, number).take(0, len(items))
    return [items[i] for i in order.tolist()]


def buckets_of(case, world):
    """Buckets of samples, longest first, with the rows of their batches; and what is left."""
    left = sorted(range(len(case.lengths)), key=lambda sample: (case.lengths[sample], sample), reverse=True)
    buckets = []
    while left:
        longest = case.padded(case.lengths[left[0]])
        rows = min(case.batch_size or MASK, (case.max_tokens or MASK) // longest, len(case.lengths))
        turn = rows * world
        if len(left) < turn:
            break
        alike = [
            sample
            for sample in left
            if case.padded(case.lengths[sample]) >= (1 - case.bucket_spread) * longest
        ]
        turns = max(len(alike) // turn, 2 if world == 1 else 1)
        if not case.shuffle or (case.longest_first and not buckets):
            turns = 1
        size = min(turns, len(left) // turn) * turn
        buckets.append((left[:size], rows))
        left = left[size:]
    return buckets, left


def reference(case, world, epoch):
    """The turns of an epoch: for each its bucket, and a batch for each rank."""
    key = derived(case.seed & MASK, epoch)
    buckets, rest = buckets_of(case, world)
    turns = []
    for number, (samples, rows) in enumerate(buckets):
        samples = shuffled(samples, derived(key, 1), number) if case.shuffle else samples
        batches = [samples[i : i + rows] for i in range(0, len(samples), rows)]
        turns += [(number, batches[i : i + world]) for i in range(0, len(batches), world)]
    if case.shuffle:
        fixed = turns[: int(case.longest_first)]
        turns = fixed + shuffled(turns[len(fixed) :], key, 0)
    if rest and not case.drop_last:
        rest = shuffled(rest, derived(key, 1), len(buckets)) if case.shuffle else rest
        parts = [part.tolist() for part in np.array_split(rest, world)]
        turns.append((len(buckets), [part or [rest[i % len(rest)]] for i, part in enumerate(parts)]))
    return turns


# the sampler -----------------------------------------------------------------------------------------------


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    return [batch.tolist() for batch in sampler]


def in_turn(ranks):
    return list(itertools.chain.from_iterable(zip(*ranks, strict=True)))


@given(cases(), WORLDS, EPOCHS)
@example(Case([3, 1, 2], batch_size=2), 4, 0)
@example(Case([], batch_size=2), 2, 0)
@example(Case([0] * 20, max_tokens=7), 1, 0)
def test_batches_are_those_of_the_reference(case, world, epoch):
    ranks = [epoch_of(sampler, epoch) for sampler in case.ranks(world)]
    assert [list(turn) for turn in zip(*ranks, strict=True)] == [
        batches for _, batches in reference(case, world, epoch)
    ]
    assert {len(sampler) for sampler in case.ranks(world)} == {len(ranks[0])}


@given(cases(), WORLDS, EPOCHS)
def test_every_sample_comes_once_in_batches_within_the_limits(case, world, epoch):
    ranks = [epoch_of(sampler, epoch) for sampler in case.ranks(world)]
    batches = in_turn(ranks)
    seen = Counter(itertools.chain.from_iterable(batches))
    often = Counter(range(len(case.lengths)))
    assert (seen - often).total() <= (0 if case.drop_last else world - 1)
    if not case.drop_last:
        assert not often - seen
    for batch in batches:
        assert len(batch) <= (case.batch_size or len(batch))
        assert case.padded_batch(batch) <= (case.max_tokens or case.padded_batch(batch))
    if case.longest_first and batches:
        first = itertools.chain.from_iterable(batches[:world])
        assert max(case.lengths[sample] for sample in first) == max(case.lengths)


@given(cases(), WORLDS, WORLDS, EPOCHS, st.integers(0, 20))
def test_a_state_goes_on_on_any_number_of_ranks(case, old, new, epoch, taken):
    order = in_turn([epoch_of(sampler, epoch) for sampler in case.ranks(old)])
    states = []
    for sampler in case.ranks(old):
        sampler.set_epoch(epoch)
        list(itertools.islice(iter(sampler), taken))
        states.append(json.loads(json.dumps(sampler.state_dict())))
    assert all(state == states[0] for state in states)
    begun = min(taken * old, len(order))
    assert states[0]["position"] == begun
    samplers = [pickle.loads(pickle.dumps(sampler)) for sampler in case.ranks(new)]
    for sampler in samplers:
        length = len(sampler)
        sampler.load_state_dict(states[0])
        assert len(sampler) == length
    ranks = [epoch_of(pickle.loads(pickle.dumps(sampler)), epoch) for sampler in samplers]
    if begun == 0:  # nothing to go on with: these ranks begin it themselves
        assert in_turn(ranks) == in_turn([epoch_of(sampler, epoch) for sampler in case.ranks(new)])
        return
    left = order[begun:]
    left += list(itertools.islice(itertools.cycle(order), -len(left) % new))
    assert in_turn(ranks) == (left[: len(order[begun:]) // new * new] if case.drop_last else left)
    for sampler in samplers:
        list(sampler)
    following = [epoch_of(sampler, epoch + 1) for sampler in samplers]
    assert following == [epoch_of(sampler, epoch + 1) for sampler in case.ranks(new)]


@given(cases(), st.integers(0, 2), st.integers(0, 20))
def test_a_state_goes_on_with_its_epoch_and_then_the_next(case, epochs, taken):
    (plain,), (stopped,), (fresh,) = (case.ranks(1) for _ in range(3))
    expected = [[batch.tolist() for batch in plain] for _ in range(epochs + 2)]
    assert len({len(batches) for batches in expected}) == 1
    for _ in range(epochs):
        list(stopped)
    under_way = iter(stopped)
    list(itertools.islice(under_way, taken))
    fresh.load_state_dict(stopped.state_dict())
    if rest := expected[epochs][taken:]:
        assert [batch.tolist() for batch in fresh] == rest
    assert [batch.tolist() for batch in fresh] == expected[epochs + 1]
