"""In what sense a computed order is a shuffle: what a true one passes with |z| < 5, ours passes.

Of every statistic mean and variance are known for orders drawn from all n! alike, exactly or to O(1 / n), and
it is counted over so many epochs that a bias of a fraction of a percent shows. Seeds are fixed: a test passes
always or never.
"""

import itertools
import math

import numpy as np
import pytest

import penstock
from penstock import _core

ELEMENTS = 2_000_000  # that a statistic looks at, about
SIZES = (8, 9, 15, 16, 31, 64, 65, 100, 257, 1000, 4096, 4097)
MEDIUM = (257, 1000, 4096, 4097, 65_537, 1_000_000)
LARGE = (10**7, 2**33 - 1, 2**33 + 1, 10**12, 2**62)
POSITIONS = 100_000  # of a large order


def require(z):
    """`z` is a standard normal variable of a true shuffle."""
    assert abs(z) < 5, f"{z:.1f} standard deviations off"


def orders(size, epochs=None, seed=0):
    """(epochs, size): the orders of epochs 0, 1, ..., whole."""
    epochs = epochs or min(ELEMENTS // size, 200_000)
    out = np.empty((epochs, size), np.int64)
    for epoch in range(epochs):
        out[epoch] = _core.Permutation(size, seed, epoch).take(0, size, 1)
    return out


def z_of_chi_square(chi_square, freedom):
    """By Wilson and Hilferty's cube root: good from a few degrees of freedom on."""
    spread = 2 / (9 * freedom)
    return (np.cbrt(chi_square / freedom) - (1 - spread)) / math.sqrt(spread)


def z_of_counts(counts, expected):
    """Counts of independent draws; where all are of one of two kinds a chi-square is too skewed."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    if len(counts) == 2:
        total = expected.sum()
        return (counts[0] - expected[0]) / math.sqrt(expected[0] * expected[1] / total)
    return z_of_chi_square(((counts - expected) ** 2 / expected).sum(), len(counts) - 1)


def z_of_table(elements, of_position=None, of_element=None):
    """(kind of position, kind of element), counted over epochs. `of_...`: the kind of each, 0, 1, ...

    Rows and columns of one epoch's table have fixed sums: hence (n - 1) / n.
    """
    epochs, size = elements.shape
    of_position = np.arange(size) if of_position is None else of_position
    of_element = np.arange(size) if of_element is None else of_element
    rows, columns = np.bincount(of_position), np.bincount(of_element)
    cells = (of_position * len(columns) + of_element[elements]).ravel()
    counts = np.bincount(cells, minlength=len(rows) * len(columns)).reshape(len(rows), len(columns))
    expected = epochs / size * rows[:, None] * columns
    chi_square = ((counts - expected) ** 2 / expected).sum() * (size - 1) / size
    return z_of_chi_square(chi_square, (len(rows) - 1) * (len(columns) - 1))


def high_part(size, kinds=16):
    return np.arange(size) * kinds // size


def low_part(size, kinds=16):
    return np.arange(size) % kinds


# --- one position, one element ------------------------------------------------------------------------------


def ranks_of(elements):
    """Each epoch's order as a number below n!: how many later elements are smaller, as mixed-radix digits."""
    size = elements.shape[1]
    ranks = np.zeros(len(elements), np.int64)
    for i in range(size):
        ranks = ranks * (size - i) + (elements[:, i + 1 :] < elements[:, i : i + 1]).sum(axis=1)
    return ranks


@pytest.mark.parametrize("size", range(2, 10))
def test_every_order_comes_as_often_as_any_other(size):
    epochs = 300_000 if size < 8 else 1_200_000
    counts = np.bincount(ranks_of(orders(size, epochs)), minlength=math.factorial(size))
    require(z_of_counts(counts, np.full(len(counts), epochs / len(counts))))


@pytest.mark.parametrize("size", SIZES)
def test_every_element_comes_at_every_position(size):
    elements = orders(size)
    require(z_of_table(elements))


@pytest.mark.parametrize("size", MEDIUM)
def test_parts_of_positions_say_nothing_about_parts_of_elements(size):
    elements = orders(size)
    for of_position, of_element in itertools.product((high_part(size), low_part(size)), repeat=2):
        require(z_of_table(elements, of_position, of_element))


@pytest.mark.parametrize("size", [2, 3, 8, 9, 64, 65, *MEDIUM])
def test_position_and_element_do_not_correlate(size):
    elements = orders(size) - (size - 1) / 2
    positions = np.arange(size) - (size - 1) / 2
    correlations = elements @ positions / (positions @ positions)  # mean 0, variance 1 / (size - 1)
    require(correlations.sum() * math.sqrt((size - 1) / len(elements)))


# --- neighbours ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [*SIZES, 65_537, 1_000_000])
def test_the_step_from_an_element_to_the_next_is_any(size):
    elements = orders(size)
    epochs = len(elements)
    steps = np.diff(elements, axis=1) % size
    counts = np.bincount(steps.ravel(), minlength=size)
    assert counts[0] == 0
    chi_square = ((counts[1:] - epochs) ** 2).sum() / epochs
    # Counts of d and -d hang together. Eigenvalues of their covariance: 1 and 1 + 2 / (size - 1).
    own_opposite = (size + 1) % 2  # size / 2
    pairs = (size - 1 - own_opposite) // 2
    even, odd = pairs + own_opposite - 1, 1 + 2 / (size - 1)
    mean, variance = even + pairs * odd, 2 * (even + pairs * odd**2) + (size - 1) / epochs
    require((chi_square - mean) / math.sqrt(variance))


@pytest.mark.parametrize("size", MEDIUM)
@pytest.mark.parametrize("lag", [1, 2, 7, 1024])
def test_elements_some_positions_apart_do_not_correlate(size, lag):
    if lag >= size:
        pytest.skip("longer than the order")
    elements = orders(size) - (size - 1) / 2
    pairs = size - lag
    variance = (size**2 - 1) / 12
    products = np.einsum("ei,ei->", elements[:, :-lag], elements[:, lag:]) / variance
    epochs = len(elements)
    require((products + epochs * pairs / (size - 1)) / math.sqrt(epochs * pairs))


@pytest.mark.parametrize("size", [8, 9, 64, 65, *MEDIUM])
def test_runs_up_and_down_are_as_many_as_they_should_be(size):
    elements = orders(size)
    rises = np.diff(elements, axis=1) > 0
    runs = len(elements) + (rises[:, 1:] != rises[:, :-1]).sum()
    mean, variance = (2 * size - 1) / 3, (16 * size - 29) / 90
    require((runs - len(elements) * mean) / math.sqrt(len(elements) * variance))


@pytest.mark.parametrize("size", [8, 64, *MEDIUM])
def test_four_neighbours_are_in_any_order(size):
    groups = orders(size)[:, : size // 4 * 4].reshape(-1, 4)
    pairs = list(itertools.combinations(range(4), 2))
    codes = sum((groups[:, i] < groups[:, j]).astype(np.int64) << k for k, (i, j) in enumerate(pairs))
    counts = np.bincount(codes, minlength=64)
    assert np.count_nonzero(counts) == 24
    require(z_of_counts(counts[counts > 0], np.full(24, len(groups) / 24)))


# --- the whole of an order ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 8, 9, 16, 31, 64, 65, 100, 257, 1000, 4096])
def test_fixed_points_are_as_many_as_they_should_be(size):
    elements = orders(size)
    fixed = (elements == np.arange(size)).sum(axis=1)
    epochs = len(fixed)
    require((fixed.sum() - epochs) / math.sqrt(epochs))  # mean 1, variance 1, as a Poisson variable
    require((((fixed - 1) ** 2).sum() - epochs) / math.sqrt(3 * epochs))
    none = [sum((-1) ** j / math.factorial(j) for j in range(n + 1)) for n in range(30)]  # of n elements
    chances = [none[min(size - k, 29)] / math.factorial(k) for k in range(5)]
    counts = np.bincount(np.minimum(fixed, 5), minlength=6)
    require(z_of_counts(counts, epochs * np.array([*chances, 1 - sum(chances)])))


def num_cycles(elements):
    """Of each epoch's order, seen as a permutation."""
    epochs, size = elements.shape
    jump = elements + np.arange(epochs)[:, None] * size
    lowest = jump.copy()  # of the elements that 1, 2, 4, ... jumps lead through
    for _ in range(size.bit_length()):
        lowest = np.minimum(lowest, lowest.ravel()[jump])
        jump = jump.ravel()[jump]
    return (lowest.ravel() == np.arange(epochs * size)).reshape(epochs, size).sum(axis=1)


@pytest.mark.parametrize("size", [*range(7, 42), 56, 64, 65, 100, 257, 1000, 4096])
def test_cycles_are_as_many_as_they_should_be(size):
    cycles = num_cycles(orders(size, min(2000, ELEMENTS // size)))
    mean = sum(1 / k for k in range(1, size + 1))
    variance = mean - sum(1 / k**2 for k in range(1, size + 1))
    require((cycles.sum() - len(cycles) * mean) / math.sqrt(len(cycles) * variance))


@pytest.mark.parametrize("size", [*range(2, 42), 56, 64, 65, 100, 257, 1000, 4096])
def test_even_and_odd_permutations_come_alike(size):
    odd = (size - num_cycles(orders(size, min(2000, ELEMENTS // size)))) % 2
    require((odd.sum() - len(odd) / 2) / math.sqrt(len(odd) / 4))


# --- large orders -------------------------------------------------------------------------------------------


def z_of_sample(kinds, sizes):
    """Kinds of different elements; `sizes`: of how many elements each kind is."""
    total = int(sum(sizes))
    counts = np.bincount(kinds, minlength=len(sizes))
    expected = len(kinds) * (np.array(sizes, float) / total)
    finite = (total - 1) / (total - len(kinds))
    chi_square = ((counts - expected) ** 2 / expected).sum() * finite
    return z_of_chi_square(chi_square, len(sizes) - 1)


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("step", [1, 2, 3, 64, None], ids=str)
def test_elements_of_a_large_order_are_spread_evenly(size, step):
    step = step or (size - 1) // POSITIONS  # from one end to the other
    elements = _core.Permutation(size, 1, 2).take(0, POSITIONS, step)
    width = -(-size // 1000)
    full, rest = divmod(size, width)
    require(z_of_sample(elements // width, [width] * full + [rest] * (rest > 0)))
    for modulus in (3, 1000, 1024):
        sizes = [size // modulus + (k < size % modulus) for k in range(modulus)]
        require(z_of_sample(elements % modulus, sizes))
    odd = (elements % 2).sum()
    chance = size // 2 / size
    require((odd - POSITIONS * chance) / math.sqrt(POSITIONS * chance * (1 - chance)))


@pytest.mark.parametrize("size", LARGE)
def test_elements_of_a_large_order_do_not_correlate_with_their_positions(size):
    for first in (0, size // 2, size - POSITIONS):
        elements = _core.Permutation(size, 3, 4).take(first, POSITIONS, 1)
        correlation = np.corrcoef(np.arange(POSITIONS), elements)[0, 1]
        require(correlation * math.sqrt(POSITIONS - 1))
        for lag in (1, 2, 7, 1024):
            correlation = np.corrcoef(elements[:-lag], elements[lag:])[0, 1]
            require(correlation * math.sqrt(POSITIONS - lag))


@pytest.mark.parametrize("size", [10**7, 2**33 - 1, 10**12])
def test_positions_that_differ_in_one_bit_have_unrelated_elements(size):
    """A digit of a position is what the first round hashes: where only the other one differs, it shows."""
    order = _core.Permutation(size, 5, 6)
    width = -(-size // 32)
    for bit in range((size - POSITIONS).bit_length() - 1):
        positions = np.arange(POSITIONS)
        without = (positions >> bit) % 2 == 0
        one = order.take(0, POSITIONS, 1)[without]
        other = order.take(1 << bit, POSITIONS, 1)[without]
        for kinds in (one // width, one % 32):
            for other_kinds in (other // width, other % 32):
                counts = np.bincount(kinds * 32 + other_kinds, minlength=1024)
                require(z_of_counts(counts, np.full(1024, len(one) / 1024)))


# --- one order and the next ---------------------------------------------------------------------------------


def next_key(way):
    """(seed, epoch) of the k-th order, for ways of counting orders up."""
    return {
        "epochs": lambda k: (7, k),
        "seeds": lambda k: (k, 7),
        "both": lambda k: (k, k),
        "seeds up, epochs down": lambda k: (k, 1_000_000 - k),
        "high bits of seeds": lambda k: (k << 40, 0),
        "high bits of epochs": lambda k: (0, k << 40),
        "large seeds": lambda k: (2**64 - 1 - k, 2**63),
    }[way]


WAYS = ["epochs", "seeds", "both", "seeds up, epochs down", "high bits of seeds", "high bits of epochs"]
WAYS += ["large seeds"]


@pytest.mark.parametrize("way", WAYS)
def test_an_order_says_nothing_about_the_next(way):
    key = next_key(way)
    size, epochs = 64, 50_000
    elements = np.stack([_core.Permutation(size, *key(k)).take(0, size, 1) for k in range(epochs)])
    require(z_of_table(elements))
    cells = elements[:-1] * size + elements[1:]
    counts = np.bincount(cells.ravel(), minlength=size**2)
    expected = (epochs - 1) / size
    chi_square = ((counts - expected) ** 2 / expected).sum() * (size - 1) / size
    require(z_of_chi_square(chi_square, (size - 1) ** 2))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1000, 100_000])
def test_an_order_does_not_correlate_with_the_next(way, size):
    key = next_key(way)
    epochs = 2_000_000 // size
    elements = np.stack([_core.Permutation(size, *key(k)).take(0, size, 1) for k in range(epochs)])
    elements = elements - (size - 1) / 2
    products = np.einsum("ei,ei->", elements[:-1], elements[1:]) / ((size**2 - 1) / 12)
    require(products / math.sqrt((epochs - 1) * size * size / (size - 1)))


# --- through the sampler ------------------------------------------------------------------------------------


def test_a_sampler_takes_the_order_of_its_seed_and_epoch():
    for size, seed, epoch in ((10, 1, 2), (1000, 2**64 - 1, 0), (20_000, 3, 10**9)):
        sampler = penstock.ShuffleSampler(size, seed=seed)
        sampler.set_epoch(epoch)
        assert list(sampler) == _core.Permutation(size, seed, epoch).take(0, size, 1).tolist()


def test_a_sampler_shuffles_epoch_after_epoch():
    sampler = penstock.ShuffleSampler(9, seed=8)
    elements = np.array([list(sampler) for _ in range(50_000)])
    require(z_of_table(elements))
    counts = np.bincount((elements[:-1] * 9 + elements[1:]).ravel(), minlength=81)
    expected = (len(elements) - 1) / 9
    require(z_of_chi_square(((counts - expected) ** 2 / expected).sum() * 8 / 9, 64))


def test_a_rank_gets_every_sample_as_often_as_any_other():
    world, size, epochs = 4, 64, 5000
    ranks = [
        penstock.ShuffleSampler(size, seed=9, num_replicas=world, rank=rank, drop_last=True)
        for rank in range(world)
    ]
    elements = np.empty((epochs, size), np.int64)
    for epoch in range(epochs):
        for rank, sampler in enumerate(ranks):
            sampler.set_epoch(epoch)
            elements[epoch, rank::world] = list(sampler)
    assert (np.sort(elements, axis=1) == np.arange(size)).all()
    require(z_of_table(elements, np.arange(size) % world))
