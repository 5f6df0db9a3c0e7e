"""Samples: a true sequence of ordinary samples for whoever looks, a whole batch for whoever collates."""

import collections.abc
import pickle

import numpy as np
import pytest
import torch
from reference import assert_same
from torch.utils.data import ConcatDataset, DataLoader, Subset, default_collate, random_split

import penstock

ROWS = [25, 3, 3, 0, -2]
FIELDS = {"tensor": "image", "tuple": ("image", "label"), "dict": None}
TYPES = {"tensor": torch.Tensor, "tuple": tuple, "dict": dict}


@pytest.fixture(params=FIELDS)
def kind(request):
    return request.param


@pytest.fixture
def dataset(kind, make_pair):
    images, labels = make_pair()
    return penstock.ShardDataset({"image": images.paths, "label": labels.paths}, fields=FIELDS[kind])


@pytest.fixture
def samples(dataset):
    return dataset.__getitems__(ROWS)


@pytest.fixture
def plain(dataset):
    """The same samples, taken one by one."""
    return [dataset[i] for i in ROWS]


def unmarked(sample):
    """A sample, or a list of them, as of the ordinary types: Samples may give subclasses."""
    if isinstance(sample, torch.Tensor):
        return sample.as_subclass(torch.Tensor)
    if isinstance(sample, dict):
        return {name: unmarked(tensor) for name, tensor in sample.items()}
    return [unmarked(each) for each in sample]


# a sequence ------------------------------------------------------------------------------------------------


def test_samples_are_a_sequence(samples, plain):
    assert isinstance(samples, penstock.Samples)
    assert isinstance(samples, collections.abc.Sequence)
    assert len(samples) == 5
    assert repr(samples)
    for listed in (list(samples), [samples[i] for i in range(5)], [samples[i - 5] for i in range(5)]):
        assert_same(unmarked(listed), plain)
    assert_same(unmarked(reversed(samples)), plain[::-1])


def test_slices_of_samples_hold_samples(samples, plain):
    for part in (slice(1, 3), slice(None, None, -1), slice(3, 99), slice(-2, None), slice(4, 2)):
        assert len(samples[part]) == len(plain[part])
        assert_same(unmarked(samples[part]), plain[part])


@pytest.mark.parametrize("i", [5, -6, 10**30])
def test_a_sample_outside_is_an_index_error(samples, i):
    with pytest.raises(IndexError):
        samples[i]


def test_samples_are_ordinary_samples(samples, plain, kind):
    for sample, other in zip(samples, plain, strict=True):
        assert isinstance(sample, TYPES[kind])
        assert type(other) is TYPES[kind]
        if kind == "tuple":
            image, label = sample
        elif kind == "dict":
            assert list(sample) == ["image", "label"]
            image, label = sample["image"], sample["label"]
        else:
            image, label = sample, torch.tensor(0)
        assert isinstance(image, torch.Tensor)
        assert type(image + 1) is torch.Tensor
        assert type(torch.stack([image, image])) is torch.Tensor
        assert isinstance(image.numpy(), np.ndarray)
        assert label.ndim == 0
        int(label)


def test_changing_a_sample_changes_no_other(samples, plain, kind):
    if kind == "tensor":
        samples[1].zero_()
        assert_same(unmarked(samples[2]), plain[2])
        assert_same(unmarked(samples)[2:], plain[2:])


def test_samples_and_single_samples_can_be_pickled(samples, plain):
    assert_same(unmarked(pickle.loads(pickle.dumps(samples))), plain)
    assert_same(unmarked(pickle.loads(pickle.dumps(samples[1]))), plain[1])


def test_samples_of_no_rows(dataset):
    assert list(dataset.__getitems__([])) == []


# collating -------------------------------------------------------------------------------------------------


def assert_same_batch(batch, plain):
    """What torch's default collate makes of plain samples: the same containers, the same bytes."""
    expected = default_collate(plain)
    assert type(batch) is type(expected)
    assert_same(batch, expected)


@pytest.mark.parametrize(
    "collate", [default_collate, penstock.collate, penstock.Collate()], ids=["torch", "ours", "made"]
)
def test_every_collate_gives_what_torch_gives_of_plain_samples(samples, plain, collate):
    assert_same_batch(collate(samples), plain)
    assert_same_batch(collate(samples), plain)


@pytest.mark.parametrize("collate", [default_collate, penstock.collate], ids=["torch", "ours"])
def test_parts_of_samples_can_be_collated(samples, plain, collate):
    assert_same_batch(collate(samples[1:4]), plain[1:4])
    assert_same_batch(collate(list(samples)), plain)
    assert_same_batch(collate([samples[4], samples[0]]), [plain[4], plain[0]])
    assert_same_batch(collate([sample for sample in samples if True]), plain)


def test_samples_can_be_collated_beside_other_things(samples, plain):
    batch = default_collate([(sample, i, "name") for i, sample in enumerate(samples)])
    expected = default_collate([(sample, i, "name") for i, sample in enumerate(plain)])
    assert_same_batch(batch[0], plain)
    assert_same(batch[1], expected[1])
    assert batch[2] == expected[2]


def test_our_collate_is_torchs_for_anything_else():
    pairs = [(torch.ones(2), 1), (torch.zeros(2), 2)]
    assert_same(penstock.collate(pairs), default_collate(pairs))
    assert_same(
        penstock.collate([{"a": 1.0}, {"a": 2.0}]), {"a": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    )


def test_the_default_collate_takes_the_native_path(samples, monkeypatch):
    """Single rows are stacked nowhere: torch.stack is not called."""
    monkeypatch.setattr(torch, "stack", None)
    default_collate(samples)


def test_a_batch_is_not_changed_by_what_is_done_to_its_samples_later(samples, plain, kind):
    first = samples[0]
    batch = default_collate(samples)
    (first if kind == "tensor" else first["image"] if kind == "dict" else first[0]).zero_()
    assert_same_batch(batch, plain)


def test_what_a_collate_function_does_to_samples_shows_in_their_batch(samples, plain, kind):
    """As with a list, which is what torch would give it."""
    for each in (samples, plain):
        for sample in list(each)[:2]:
            (sample if kind == "tensor" else sample["image"] if kind == "dict" else sample[0]).add_(1)
    assert_same_batch(default_collate(samples), plain)


def test_a_field_put_into_a_dict_sample_shows_in_the_batch():
    dataset = penstock.TensorDataset(torch.arange(6.0).view(3, 2))
    samples = dataset.__getitems__([0, 2])
    assert samples[0] is samples[0]
    assert samples[-1] is samples[1]


def test_a_second_batch_is_another(samples, plain, kind):
    one = default_collate(samples)
    (one if kind == "tensor" else one["image"] if kind == "dict" else one[0]).zero_()
    assert_same_batch(default_collate(samples), plain)


def test_importing_us_does_not_change_how_torch_collates_other_things():
    class Mine(dict):
        pass

    batch = default_collate([Mine(a=torch.zeros(2)), Mine(a=torch.ones(2))])
    assert type(batch) is Mine
    assert type(default_collate([(1, 2), (3, 4)])) is list
    assert type(default_collate([torch.zeros(2)])) is torch.Tensor


# with torch's own combinations -----------------------------------------------------------------------------


def epoch(dataset, **options):
    return list(DataLoader(dataset, batch_size=4, **options))


def epoch_by_hand(samples):
    return [default_collate(samples[i : i + 4]) for i in range(0, len(samples), 4)]


def test_torchs_subset(dataset):
    subset = Subset(dataset, ROWS)
    assert_same(epoch(subset), epoch_by_hand([dataset[i] for i in ROWS]))
    assert_same(epoch(Subset(subset, [2, 0])), epoch_by_hand([dataset[3], dataset[25]]))


def test_torchs_random_split(dataset):
    parts = random_split(dataset, [20, 6], generator=torch.Generator().manual_seed(0))
    assert sorted(parts[0].indices + parts[1].indices) == list(range(26))
    for part in parts:
        assert_same(epoch(part), epoch_by_hand([dataset[i] for i in part.indices]))


def test_torchs_concat_dataset(dataset):
    both = ConcatDataset([dataset, dataset])
    assert len(both) == 52
    assert_same(epoch(both), epoch_by_hand([dataset[i % 26] for i in range(52)]))


def test_our_subset_and_sum_in_torchs(dataset):
    both = dataset.subset(ROWS) + dataset
    expected = [dataset[i] for i in [*ROWS, *range(26)]]
    assert_same(epoch(both), epoch_by_hand(expected))
    assert_same(epoch(Subset(both, [30, 0, 7])), epoch_by_hand([expected[i] for i in (30, 0, 7)]))


def test_a_collate_function_of_the_user(dataset, kind):
    def images_doubled(samples):
        if kind == "dict":
            samples = [sample["image"] for sample in samples]
        elif kind == "tuple":
            samples = [image for image, _label in samples]
        return torch.stack([image * 2 for image in samples])

    images = images_doubled(list(dataset))
    assert_same(torch.cat(epoch(dataset, collate_fn=images_doubled)), images)


# --- as a list -----------------------------------------------------------------------------------------


LISTED = penstock.TensorDataset(torch.arange(20.0).view(5, 4), torch.tensor([3, 1, 4, 1, 5]))
CHANGES = {
    "sort": lambda each: each.sort(key=lambda sample: int(sample[1])),
    "sort backwards": lambda each: each.sort(key=lambda sample: int(sample[1]), reverse=True),
    "reverse": lambda each: each.reverse(),
    "append": lambda each: each.append(each[0]),
    "insert": lambda each: each.insert(1, each[3]),
    "pop": lambda each: each.pop(),
    "del": lambda each: each.__delitem__(slice(0, 2)),
    "set": lambda each: each.__setitem__(2, (torch.ones(4), torch.tensor(9))),
    "extend": lambda each: each.extend(list(each)[:2]),
}


@pytest.mark.parametrize(
    "collate_fn", [penstock.collate, torch.utils.data.default_collate, penstock.Collate()]
)
@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_samples_change_as_a_list_does(change, looked_at, collate_fn):
    samples, plain = LISTED.__getitems__([0, 1, 2, 3, 4]), [LISTED[i] for i in range(5)]
    if looked_at:
        samples[1][0][:] = 7
        plain[1][0][:] = 7
    for each in (samples, plain):
        CHANGES[change](each)
    assert len(samples) == len(plain)
    for ours, theirs in zip(samples, plain, strict=True):
        assert all(map(torch.equal, ours, theirs))
    expected = torch.utils.data.default_collate(plain)
    assert all(map(torch.equal, collate_fn(samples), expected))
    assert all(map(torch.equal, collate_fn(list(samples)), expected))


def test_samples_and_lists_add_up():
    samples = LISTED.__getitems__([0, 1])
    plain = list(samples)
    for both in (samples + samples, plain + samples, samples + plain):
        assert type(both) is list
        assert [int(label) for _, label in both] == [3, 1, 3, 1]
