"""Any order, on any ranks, stopped and continued anywhere: the samples that one plain walk through it has."""

import functools
import itertools
import json
import math
import pickle
import subprocess
import sys
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.utils.data
from hypothesis import assume, example, given
from hypothesis import strategies as st

import penstock

LENGTHS = (5, 0, 1, 17, 3, 0, 8)  # of the shards
SEEDS = st.sampled_from([0, 1, -1, 2**64 + 5]) | st.integers(0, 2**63)
EPOCHS = st.integers(0, 5)
WORLDS = st.integers(1, 5)
NUMBERS = st.sampled_from([0, 1, 2]) | st.integers(0, 60)
LABELS = st.lists(st.integers(0, 4), max_size=60)
_folder = tempfile.TemporaryDirectory()


@functools.cache
def in_files():
    for i, length in enumerate(LENGTHS):
        np.save(Path(_folder.name) / f"{i}.npy", np.zeros((length, 2), np.float32))
    return penstock.ShardDataset(_folder.name)


@functools.cache
def in_memory(n):
    return penstock.TensorDataset(torch.zeros(n, 2))


# orders, and walks through them ----------------------------------------------------------------------------
#
# Each draws a function from num_replicas=, rank= and drop_last= to a sampler; first those that promise every
# sample of a list once, together with that list.


def sequential(draw, seed):
    n = draw(NUMBERS)
    return functools.partial(penstock.SequentialSampler, n), range(n)


def shuffled(draw, seed):
    n = draw(NUMBERS)
    return functools.partial(penstock.ShuffleSampler, n, seed=seed), range(n)


def distributed(draw, seed):
    n, shuffle = draw(NUMBERS), draw(st.booleans())
    return functools.partial(penstock.DistributedSampler, range(n), shuffle=shuffle, seed=seed), range(n)


def of_a_class(draw, seed):
    labels = draw(st.lists(st.integers(0, 2), min_size=1, max_size=60))
    label, shuffle = draw(st.sampled_from(labels)), draw(st.booleans())
    make = functools.partial(penstock.ClassSampler, labels, label, shuffle=shuffle, seed=seed)
    return make, [i for i, other in enumerate(labels) if other == label]


def in_blocks(draw, seed):
    dataset = in_files() if draw(st.booleans()) else in_memory(draw(NUMBERS))
    block = draw(st.integers(1, 100))
    make = functools.partial(
        penstock.BlockShuffleSampler,
        dataset,
        block_bytes=block,
        window_bytes=block + draw(st.integers(0, 300)),
        seed=seed,
    )
    return make, range(len(dataset))


def weighted(draw, seed):
    weights = draw(st.lists(st.sampled_from([0, 1, 2.5, 1e-3]), min_size=1, max_size=30).filter(any))
    replacement = draw(st.booleans())
    most = 60 if replacement else np.count_nonzero(weights)
    make = functools.partial(
        penstock.WeightedSampler, weights, draw(st.integers(1, most)), replacement, seed=seed
    )
    return make, None


def balanced(draw, seed):
    labels = draw(LABELS.filter(len))
    return functools.partial(
        penstock.BalancedBatchSampler,
        labels,
        draw(st.integers(1, len(set(labels)))),
        draw(st.integers(1, 4)),
        num_batches=draw(st.none() | st.integers(1, 20)),
        seed=seed,
    )


def stratified(draw, seed):
    return functools.partial(
        penstock.StratifiedBatchSampler, draw(LABELS), draw(st.integers(1, 12)), seed=seed
    )


def episodes(draw, seed):
    labels = draw(LABELS.filter(len))
    shots = draw(st.integers(1, min(Counter(labels).values())))
    return functools.partial(
        penstock.EpisodeSampler,
        labels,
        draw(st.integers(1, len(set(labels)))),
        shots,
        min(Counter(labels).values()) - shots,
        draw(st.integers(1, 20)),
        seed=seed,
    )


EACH_ONCE = (sequential, shuffled, distributed, of_a_class, in_blocks)


@st.composite
def sample_orders(draw, kinds=(*EACH_ONCE, weighted)):
    return draw(st.sampled_from(kinds))(draw, draw(SEEDS))


@st.composite
def batch_orders(draw):
    return draw(st.sampled_from([balanced, stratified, episodes]))(draw, draw(SEEDS))


def one_by_one(sampler):
    return ([sample] for sample in sampler)


def in_our_batches(sampler, size):
    return (batch.tolist() for batch in penstock.BatchSampler(sampler, size))


def in_torchs_batches(sampler, size):
    return iter(torch.utils.data.BatchSampler(sampler, size, drop_last=False))


def batch_by_batch(sampler):
    return ([tuple(batch.tolist())] for batch in sampler)


@st.composite
def walks(draw):
    """How to make a sampler, and how to walk through it, in steps of some items: samples, or a batch."""
    if draw(st.booleans()):
        return draw(batch_orders()), batch_by_batch
    size = draw(st.integers(1, 9))
    ways = [
        one_by_one,
        functools.partial(in_our_batches, size=size),
        functools.partial(in_torchs_batches, size=size),
    ]
    return draw(sample_orders())[0], draw(st.sampled_from(ways))


def ranks_of(make, world, **options):
    return [make(num_replicas=world, rank=rank, **options) for rank in range(world)]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def epoch_of(sampler, epoch, steps=one_by_one):
    sampler.set_epoch(epoch)
    return flat(steps(sampler))


def interleaved(ranks):
    return flat(zip(*ranks, strict=True))


def dealt(order, world, drop_last, start=0):
    """What the ranks get between them, of an order from some position on."""
    left = order[start:]
    if drop_last:
        return left[: len(left) // world * world]
    return left + list(itertools.islice(itertools.cycle(order), -len(left) % world))


def through_json(state):
    return json.loads(json.dumps(state))


# every sample once, on any number of ranks -----------------------------------------------------------------


@given(sample_orders(EACH_ONCE), WORLDS, st.booleans(), EPOCHS)
def test_ranks_together_have_every_sample_once(order, world, drop_last, epoch):
    make, samples = order
    found = flat(epoch_of(sampler, epoch) for sampler in ranks_of(make, world, drop_last=drop_last))
    extra, missing = Counter(found) - Counter(samples), Counter(samples) - Counter(found)
    assert extra.total() <= (0 if drop_last else world - 1)
    assert missing.total() <= (world - 1 if drop_last else 0)


@given(walks(), WORLDS, st.booleans(), EPOCHS)
def test_ranks_share_one_order(walk, world, drop_last, epoch):
    make, steps = walk
    order = epoch_of(make(num_replicas=1, rank=0, drop_last=drop_last), epoch, steps)
    samplers = ranks_of(make, world, drop_last=drop_last)
    ranks = [epoch_of(sampler, epoch, steps) for sampler in samplers]
    assert interleaved(ranks) == dealt(order, world, drop_last)
    assert [len(sampler) for sampler in samplers] == [len(items) for items in ranks]


@given(sample_orders(), WORLDS, st.integers(1, 9), st.booleans(), st.booleans(), EPOCHS)
def test_batches_of_all_ranks_are_a_batch_of_the_one_order(order, world, size, drop_last, drop_batch, epoch):
    make, _ = order
    everything = dealt(epoch_of(make(num_replicas=1, rank=0), epoch), world, drop_last)
    samplers = ranks_of(make, world, drop_last=drop_last)
    batches = [penstock.BatchSampler(sampler, size, drop_batch) for sampler in samplers]
    ranks = [epoch_of(sampler, epoch, batch_by_batch) for sampler in batches]
    together = size * world
    if drop_batch:
        everything = everything[: len(everything) // together * together]
    expected = [everything[i : i + together] for i in range(0, len(everything), together)]
    assert [interleaved(parts) for parts in zip(*ranks, strict=True)] == expected
    assert {len(sampler) for sampler in batches} == {len(expected)}


@given(LABELS, st.integers(1, 12), st.booleans(), SEEDS, EPOCHS)
def test_stratified_batches_have_every_sample_once(labels, size, drop_last, seed, epoch):
    sampler = penstock.StratifiedBatchSampler(labels, size, drop_last, seed=seed)
    batches = epoch_of(sampler, epoch, batch_by_batch)
    sizes = [size] * (len(labels) // size)
    if len(labels) % size and not drop_last:
        sizes.append(len(labels) % size)
    assert [len(batch) for batch in batches] == sizes
    samples = flat(batches)
    assert len(set(samples)) == len(samples) == sum(sizes)
    assert set(samples) <= set(range(len(labels)))


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 6), SEEDS)
def test_a_window_of_a_block_shuffle_holds_whole_blocks(block, blocks_per_window, windows, seed):
    window = block * blocks_per_window
    sampler = penstock.BlockShuffleSampler(
        in_memory(window * windows), block_bytes=8 * block, window_bytes=8 * window, seed=seed
    )
    order = list(sampler)
    for first in range(0, len(order), window):
        blocks = Counter(sample // block for sample in order[first : first + window])
        assert set(blocks.values()) == {block}


# stopped and continued -------------------------------------------------------------------------------------


@given(walks(), WORLDS, WORLDS, st.booleans(), EPOCHS, st.integers(0, 40))
def test_a_state_goes_on_with_any_number_of_ranks(walk, old, new, drop_last, epoch, taken):
    make, steps = walk
    order = epoch_of(make(num_replicas=1, rank=0, drop_last=drop_last), epoch, steps)
    seen, states = [], []
    for sampler in ranks_of(make, old, drop_last=drop_last):
        sampler.set_epoch(epoch)
        under_way = steps(sampler)
        seen.append(flat(itertools.islice(under_way, taken)))
        states.append(through_json(sampler.state_dict()))
    begun, everything = interleaved(seen), dealt(order, old, drop_last)
    assert begun == everything[: len(begun)]
    assert all(state == states[0] for state in states)
    position = states[0]["position"]
    if taken > 0:
        assert position == (len(order) if begun == everything else len(begun))
    rest = []
    for sampler in ranks_of(make, new, drop_last=drop_last):
        sampler.load_state_dict(states[0])
        rest.append(epoch_of(sampler, epoch, steps))
    assert interleaved(rest) == dealt(order, new, drop_last, position)


@given(walks(), st.integers(0, 2), st.integers(0, 40))
def test_a_state_goes_on_with_its_epoch_and_then_the_next(walk, epochs, taken):
    make, steps = walk
    plain, stopped, fresh = (make(num_replicas=1, rank=0) for _ in range(3))
    expected = [list(steps(plain)) for _ in range(epochs + 2)]
    for _ in range(epochs):
        list(steps(stopped))
    under_way = steps(stopped)
    assert list(itertools.islice(under_way, taken)) == expected[epochs][:taken]
    fresh.load_state_dict(through_json(stopped.state_dict()))
    if rest := expected[epochs][taken:]:
        assert list(steps(fresh)) == rest
    assert list(steps(fresh)) == expected[epochs + 1]


@pytest.mark.parametrize("taken", [8_191, 8_192, 8_193, 19_999])
@pytest.mark.parametrize("world", [1, 3])
def test_a_state_is_exact_at_any_sample_of_a_long_epoch(taken, world):
    sampler, fresh = (penstock.ShuffleSampler(60_000, num_replicas=world, rank=0) for _ in range(2))
    samples = iter(sampler)
    for _ in range(taken):
        next(samples)
    state = sampler.state_dict()
    assert state["position"] == taken * world
    fresh.load_state_dict(state)
    assert list(fresh) == list(samples)


# seeds and epochs ------------------------------------------------------------------------------------------

MANY = np.arange(1_000) % 7
LARGE = {
    "shuffle": functools.partial(penstock.ShuffleSampler, 1_000),
    "distributed": functools.partial(penstock.DistributedSampler, range(1_000), 1, 0),
    "class": functools.partial(penstock.ClassSampler, MANY, 3),
    "blocks": functools.partial(
        penstock.BlockShuffleSampler, in_memory(1_000), block_bytes=40, window_bytes=400
    ),
    "weighted": functools.partial(penstock.WeightedSampler, MANY, 1_000),
    "without replacement": functools.partial(penstock.WeightedSampler, MANY, 500, False),
    "balanced": functools.partial(penstock.BalancedBatchSampler, MANY, 3, 2),
    "stratified": functools.partial(penstock.StratifiedBatchSampler, MANY, 30),
    "episodes": functools.partial(penstock.EpisodeSampler, MANY, 3, 2, 1),
}


def samples_of(sampler):
    return np.concatenate([np.atleast_1d(item) for item in sampler]).tolist()


@pytest.mark.parametrize("name", LARGE)
def test_every_seed_and_every_epoch_has_its_order(name):
    def order(seed, epoch):
        sampler = LARGE[name](seed=seed)
        sampler.set_epoch(epoch)
        return samples_of(sampler)

    assert order(3, 1) == order(3, 1)
    orders = [order(seed, epoch) for seed in (0, 1, 2**32, -1) for epoch in (0, 1, 2)]
    assert len({tuple(samples) for samples in orders}) == len(orders)


def test_another_process_has_the_same_orders():
    samplers = {name: make(seed=11) for name, make in LARGE.items()}
    script = """if True:
        import json, pickle, sys
        import numpy as np
        samplers = pickle.load(sys.stdin.buffer)
        print(json.dumps({
            name: [np.concatenate([np.atleast_1d(item) for item in sampler]).tolist() for _epoch in range(2)]
            for name, sampler in samplers.items()
        }))"""
    finished = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(samplers), capture_output=True, timeout=100
    )
    assert (finished.returncode, finished.stderr) == (0, b"")
    for name, orders in json.loads(finished.stdout).items():
        assert orders == [samples_of(samplers[name]) for _epoch in range(2)], name


# classes ---------------------------------------------------------------------------------------------------


def by_label(labels):
    classes = {}
    for i, label in enumerate(labels):
        classes.setdefault(label, []).append(i)
    return dict(sorted(classes.items()))


def assert_is_index_of(index, labels):
    expected = by_label(labels)
    assert list(index) == list(expected)
    assert len(index) == len(expected)
    assert {label: index[label].tolist() for label in index} == expected
    assert index.counts.tolist() == [len(samples) for samples in expected.values()]
    assert index.num_samples == len(labels)
    for samples in index.values():
        assert samples.dtype == np.int64
        assert not samples.flags.writeable


INTS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", ">i2", ">i8"]


@st.composite
def int_arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(INTS)))
    lowest, highest = int(np.iinfo(dtype).min), min(int(np.iinfo(dtype).max), 2**63 - 1)
    numbers = draw(st.sampled_from([(lowest, highest), (max(lowest, -3), 3), (highest - 2, highest)]))
    return np.array(draw(st.lists(st.integers(*numbers), max_size=60)), dtype)


@given(int_arrays())
def test_a_class_index_of_any_ints_is_a_dict_of_lists(labels):
    assert_is_index_of(penstock.ClassIndex(labels), labels.tolist())
    assert_is_index_of(penstock.ClassIndex(labels[::2]), labels[::2].tolist())
    assert_is_index_of(penstock.ClassIndex(labels.tolist()), labels.tolist())
    assert_is_index_of(penstock.ClassIndex(tuple(labels)), labels.tolist())
    if labels.dtype.isnative:
        assert_is_index_of(penstock.ClassIndex(torch.from_numpy(labels)), labels.tolist())


@given(st.lists(st.booleans(), max_size=20))
def test_a_class_index_of_bools_is_a_dict_of_lists(labels):
    for kind in (list, np.array, torch.tensor):
        assert_is_index_of(penstock.ClassIndex(kind(labels) if labels else []), labels)


@given(st.lists(st.text("abü0𝄞 ", max_size=3), max_size=30))
def test_a_class_index_of_strings_is_a_dict_of_lists(labels):
    for given_as in (labels, tuple(labels), np.array(labels, object), np.array(labels, np.str_)):
        assert_is_index_of(penstock.ClassIndex(given_as), labels)


@given(int_arrays() | st.lists(st.text("abc", max_size=2), max_size=30))
def test_a_class_index_survives_pickling(labels):
    index = penstock.ClassIndex(labels)
    again = pickle.loads(pickle.dumps(index))
    assert again == index
    assert again.fingerprint == index.fingerprint
    assert_is_index_of(again, labels if isinstance(labels, list) else labels.tolist())


@st.composite
def balanced_batches(draw):
    labels = draw(LABELS.filter(len))
    ways, shots = draw(st.integers(1, len(set(labels)))), draw(st.integers(1, 5))
    sampler = penstock.BalancedBatchSampler(
        labels, ways, shots, num_batches=draw(st.integers(1, 30)), seed=draw(SEEDS)
    )
    sampler.set_epoch(draw(EPOCHS))
    return np.array(labels), [batch.reshape(ways, shots) for batch in sampler]


@given(balanced_batches())
def test_a_balanced_batch_has_some_samples_of_some_classes(drawn):
    labels, batches = drawn
    for batch in batches:
        classes = labels[batch]
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0])) == len(batch)
        for samples, label in zip(batch.tolist(), classes[:, 0], strict=True):
            times = [samples.count(sample) for sample in np.flatnonzero(labels == label)]
            assert max(times) == 1 or max(times) - min(times) <= 1


@given(balanced_batches())
def test_no_class_comes_twice_in_a_round_of_balanced_batches(drawn):
    labels, batches = drawn
    per_round = len(set(labels)) // len(batches[0])
    for first in range(0, len(batches), per_round):
        classes = flat(labels[batch[:, 0]] for batch in batches[first : first + per_round])
        assert len(set(classes)) == len(classes)


@given(balanced_batches())
def test_no_sample_of_a_balanced_batch_comes_again_before_its_class_is_through(drawn):
    labels, batches = drawn
    ways, shots = batches[0].shape
    per_round = len(set(labels)) // ways
    for label, count in Counter(labels).items():
        per_walk = count // shots * per_round
        for first in range(0, len(batches), max(1, per_walk)):
            walk = batches[first : first + per_walk]
            samples = flat(batch[labels[batch[:, 0]] == label].ravel() for batch in walk)
            assert len(set(samples)) == len(samples)


@given(LABELS.filter(len), st.integers(1, 12), SEEDS, EPOCHS)
def test_a_stratified_batch_has_every_class_in_its_share(labels, size, seed, epoch):
    sampler = penstock.StratifiedBatchSampler(labels, size, seed=seed)
    batches = epoch_of(sampler, epoch, batch_by_batch)
    full = len(labels) // size
    for label, count in Counter(labels).items():
        for batch in batches:
            bound = 1 + Fraction(1, full) if len(batch) == size else 1
            found = sum(labels[sample] == label for sample in batch)
            assert abs(found - Fraction(len(batch) * count, len(labels))) <= bound
        if count < len(batches):
            assert sum(any(labels[sample] == label for sample in batch) for batch in batches) == count


@given(st.data())
def test_an_episode_has_different_samples_of_different_classes(data):
    sampler = episodes(data.draw, data.draw(SEEDS))()
    labels = np.concatenate([np.full(len(sampler.index[label]), label) for label in sampler.index])
    labels = labels[np.argsort(np.concatenate([*sampler.index.values()]))]
    for episode in sampler:
        assert len(set(episode)) == len(episode)
        classes = labels[episode.reshape(sampler.n_way, sampler.n_shot + sampler.n_query)]
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0])) == sampler.n_way


# weights ---------------------------------------------------------------------------------------------------

WEIGHTS = {
    "equal": [1.0] * 50,
    "1 to 20": list(range(1, 21)),
    "some zero": [0, 3, 0, 0, 1, 2, 0],
    "one": [0, 0, 7],
    "power law": [1 / rank for rank in range(1, 300)],
    "one heavy": [1.0] * 99 + [1_000.0],
    "tiny and huge": [1e-320, 1e300, 1e300, 3e300, 0],
}


def assert_likely(counts, chances):
    """Pearson's chi-square is within six standard deviations of its mean."""
    counts, chances = np.asarray(counts, float), np.asarray(chances, float)
    expected = counts.sum() * chances / chances.sum()
    assert not counts[chances == 0].any()
    often = expected > 5
    assert counts[~often].sum() <= 3 * expected[~often].sum() + 20
    degrees = max(1, np.count_nonzero(often) - 1)
    chi_square = ((counts[often] - expected[often]) ** 2 / expected[often]).sum()
    assert chi_square < degrees + 6 * math.sqrt(2 * degrees) + 6


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_draws_come_as_often_as_their_weights_say(name, seed):
    weights = WEIGHTS[name]
    batches = penstock.BatchSampler(penstock.WeightedSampler(weights, 50_000, seed=seed), 10_000)
    for _epoch in range(2):
        draws = np.concatenate(list(batches))
        assert len(draws) == 50_000
        assert_likely(np.bincount(draws, minlength=len(weights)), np.array(weights) / max(weights))


@given(st.lists(st.sampled_from([0, 1e-3, 1, 50]), min_size=1, max_size=40).filter(any), SEEDS, st.data())
def test_draws_without_replacement_are_different(weights, seed, data):
    count = data.draw(st.integers(1, np.count_nonzero(weights)))
    draws = list(penstock.WeightedSampler(weights, count, replacement=False, seed=seed))
    assert len(set(draws)) == len(draws) == count
    assert all(weights[draw] > 0 for draw in draws)


def chance_of(draws, weights):
    """Of drawing these one after the other, each among those that are left."""
    left, chance = sum(weights), 1.0
    for draw in draws:
        chance *= weights[draw] / left
        left -= weights[draw]
    return chance


@pytest.mark.parametrize(
    ("weights", "count"),
    [([1, 2, 3, 4, 0], 2), ([5, 1, 1, 1], 3), ([1, 1, 1], 3), ([0.1, 9, 0.5], 1)],
    ids=str,
)
def test_draws_without_replacement_are_those_of_drawing_in_sequence(weights, count):
    sampler = penstock.WeightedSampler(weights, count, replacement=False, seed=5)
    found = Counter(tuple(sampler) for _epoch in range(10_000))
    possible = [
        draws for draws in itertools.permutations(range(len(weights)), count) if chance_of(draws, weights) > 0
    ]
    assert set(found) <= set(possible)
    assert_likely([found[draws] for draws in possible], [chance_of(draws, weights) for draws in possible])


# parts -----------------------------------------------------------------------------------------------------


@st.composite
def labels_and_lengths(draw, most_parts=6):
    labels = draw(LABELS)
    cuts = sorted(draw(st.lists(st.integers(0, len(labels)), max_size=most_parts - 1)))
    return labels, np.diff([0, *cuts, len(labels)]).tolist()


def samples_in(parts):
    return [list(part.indices) for part in parts]


@given(labels_and_lengths(), SEEDS, st.booleans())
def test_parts_have_every_sample_once_and_the_lengths_asked_for(case, seed, stratify):
    labels, lengths = case
    parts = penstock.random_split(range(len(labels)), lengths, labels if stratify else None, seed)
    assert [len(part) for part in parts] == lengths
    assert sorted(flat(samples_in(parts))) == list(range(len(labels)))
    assert samples_in(parts) == [sorted(samples) for samples in samples_in(parts)]
    again = penstock.random_split(range(len(labels)), lengths, labels if stratify else None, seed)
    assert samples_in(parts) == samples_in(again)


@pytest.mark.filterwarnings("ignore:Length of split:UserWarning")
@given(NUMBERS, st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any))
@example(1, [9, 1])
@example(10, [1, 1, 1])
def test_fractions_make_the_lengths_that_torch_makes(total, shares):
    fractions = [share / sum(shares) for share in shares]
    assume(sum(fractions) <= 1)
    ours = penstock.random_split(range(total), fractions)
    theirs = torch.utils.data.random_split(range(total), fractions)
    assert [len(part) for part in ours] == [len(part) for part in theirs]


def furthest(parts, labels, shares):
    """The largest difference between the samples of a class in a part and the part's share of them."""
    return max(
        abs(sum(labels[sample] == label for sample in samples) - count * share)
        for label, count in Counter(labels).items()
        for samples, share in zip(samples_in(parts), shares, strict=True)
    )


@given(labels_and_lengths(), SEEDS)
@example(([0] * 55 + [1] * 45, [50, 10, 10, 10, 10, 10]), 0)
@example(([0] * 50 + [1] * 50, [50] + [1] * 50), 0)
def test_a_stratified_part_has_its_share_of_every_class(case, seed):
    labels, lengths = case
    assume(labels)
    parts = penstock.random_split(range(len(labels)), lengths, labels, seed)
    shares = [Fraction(length, len(labels)) for length in lengths]
    assert furthest(parts, labels, shares) <= (1 if len(lengths) <= 2 else 2)


@given(LABELS, st.integers(2, 10), SEEDS, st.booleans())
def test_every_sample_is_in_the_validation_part_of_one_fold(labels, k, seed, stratify):
    assume(k <= len(labels))
    folds = penstock.kfold(range(len(labels)), k, labels if stratify else None, seed)
    assert len(folds) == k
    everything = list(range(len(labels)))
    assert sorted(flat(samples_in(validation for _, validation in folds))) == everything
    for training, validation in folds:
        assert sorted([*training.indices, *validation.indices]) == everything
    sizes = [len(validation) for _, validation in folds]
    assert max(sizes) - min(sizes) <= 1


@given(LABELS, st.integers(2, 10), SEEDS)
@example([0, 0, 1, 1, 1, 1], 5, 5)
def test_a_stratified_fold_has_its_share_of_every_class(labels, k, seed):
    assume(k <= len(labels))
    parts = [validation for _, validation in penstock.kfold(range(len(labels)), k, labels, seed)]
    assert furthest(parts, labels, [Fraction(1, k)] * k) < 1


@given(labels_and_lengths(), st.data(), SEEDS, st.booleans())
def test_groups_are_not_torn_apart(case, data, seed, stratify):
    labels, lengths = case
    groups = data.draw(st.lists(st.integers(-3, 12), min_size=len(labels), max_size=len(labels)))
    try:
        parts = penstock.random_split(
            range(len(labels)), lengths, labels if stratify else None, seed, groups=groups
        )
    except penstock.ArgumentError as error:
        assert "no group" in error.problem  # noqa: PT017
        return
    assert sorted(flat(samples_in(parts))) == list(range(len(labels)))
    groups_in = [{groups[sample] for sample in samples} for samples in samples_in(parts)]
    assert len(flat(groups_in)) == len(set(groups))


@given(labels_and_lengths(), SEEDS)
def test_groups_of_one_sample_are_no_hindrance_to_the_lengths(case, seed):
    labels, lengths = case
    parts = penstock.random_split(range(len(labels)), lengths, seed=seed, groups=range(len(labels)))
    assert [len(part) for part in parts] == lengths


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.integers(2, 6), st.data(), SEEDS)
def test_folds_of_groups_are_not_empty_where_there_are_groups_enough(groups, k, data, seed):
    assume(k <= len(set(groups)))
    class_of = data.draw(st.none() | st.lists(st.integers(0, 3), min_size=13, max_size=13))
    labels = None if class_of is None else [class_of[group] for group in groups]
    folds = penstock.kfold(range(len(groups)), k, labels, seed, groups=groups)
    assert all(len(validation) > 0 for _, validation in folds)
    for training, validation in folds:
        assert not {groups[i] for i in training.indices} & {groups[i] for i in validation.indices}


@pytest.mark.parametrize(
    ("groups", "labels", "k"),
    [([0] * 5 + [1] * 5, [0] * 5 + [1] * 5, 2), ([0] * 6 + [1, 2], None, 3)],
    ids=["each its own class", "large and small"],
)
def test_as_many_groups_as_folds_are_one_a_fold(groups, labels, k):
    folds = penstock.kfold(range(len(groups)), k, labels, seed=0, groups=groups)
    found = [{groups[i] for i in validation.indices} for _, validation in folds]
    assert sorted(map(list, found)) == [[group] for group in sorted(set(groups))]


def test_without_a_seed_that_of_torch_decides():
    def cut():
        halves = penstock.random_split(range(100), [0.5, 0.5])
        folds = penstock.kfold(range(100), 4)
        return samples_in(halves), samples_in(validation for _, validation in folds)

    torch.manual_seed(3)
    first, other = cut(), cut()
    torch.manual_seed(3)
    assert cut() == first
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_two_seeds_make_other_parts():
    cuts = [samples_in(penstock.random_split(range(100), [0.5, 0.5], seed=seed)) for seed in range(10)]
    assert len({tuple(first) for first, _ in cuts}) == 10
