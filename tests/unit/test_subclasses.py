"""Classes that users derive from datasets: their samples are what their own methods make, in any process."""

import copy
import operator
import pickle

import numpy as np
import pytest
import torch
import torch.utils.data
from pictures import photograph, to_jpeg
from reference import assert_same
from torch.utils.data import default_collate

import penstock
from penstock import transforms as T
from penstock.splits import subset_of

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
ROWS = 8


class More:
    """Samples to whose first number, or each of whose numbers by name, something is added."""

    def __init__(self, more, *arguments, **options):
        super().__init__(*arguments, **options)
        self.more = more

    def __getitem__(self, i):
        sample = super().__getitem__(i)
        if isinstance(sample, dict):
            return {name: value + self.more for name, value in sample.items()}
        return (sample[0] + self.more, *sample[1:]) if isinstance(sample, tuple) else sample + self.more


class Shards(More, penstock.ShardDataset):
    pass


class Files(More, penstock.FileDataset):
    pass


class Tensors(More, penstock.TensorDataset):
    pass


class Ragged(More, penstock.RaggedDataset):
    pass


class Folder(More, penstock.ImageFolder):
    pass


class Images(More, penstock.ImageDataset):
    pass


class Tokens(More, penstock.TokenDataset):
    pass


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eight rows of every kind."""
    root = tmp_path_factory.mktemp("rows")
    for folder in ("shards", "files", "tokens", "images/a", "images/b"):
        (root / folder).mkdir(parents=True)
    rows = np.arange(24, dtype=np.float32).reshape(ROWS, 3)
    for i in range(ROWS):
        np.save(root / "files" / f"{i}.npy", rows[i])
        (root / "images" / "ab"[i // 4] / f"{i}.jpg").write_bytes(to_jpeg(photograph(9, 7, seed=i)))
    np.save(root / "shards" / "0.npy", rows[:5])
    np.save(root / "shards" / "1.npy", rows[5:])
    np.arange(33, dtype=np.uint16).tofile(root / "tokens" / "0.bin")
    return root


def tenfold(x):
    return 10 * x


def as_floats(image):
    return torch.from_numpy(np.array(image, np.float32))


FLOATS = torch.arange(24, dtype=torch.float32).reshape(ROWS, 3)
SEQUENCES = [torch.arange(float(i)) for i in range(1, ROWS + 1)]
MAKERS = {
    "shards": lambda root: Shards(1000, root / "shards"),
    "fields": lambda root: Shards(1000, {"x": root / "shards", "y": root / "shards"}),
    "transformed": lambda root: Shards(1000, root / "shards", transform=tenfold),
    "files": lambda root: Files(1000, root / "files", labels=range(ROWS)),
    "cached files": lambda root: Files(1000, root / "files", cache="memory"),
    "tensors": lambda root: Tensors(1000, FLOATS, torch.arange(ROWS)),
    "transformed tensors": lambda root: Tensors(1000, FLOATS, transform={0: tenfold}),
    "ragged": lambda root: Ragged(1000, SEQUENCES),
    "folder": lambda root: Folder(1000, root / "images", T.ToTensor()),
    "folder in Python": lambda root: Folder(1000, root / "images", as_floats, float),
    "images": lambda root: Images(1000, root / "images", range(ROWS), T.ToTensor()),
    "tokens": lambda root: Tokens(1000, root / "tokens", block_size=4, dtype="uint16"),
}


@pytest.fixture(params=MAKERS)
def dataset(root, request):
    return MAKERS[request.param](root)


def batches(samples, size=4):
    return [penstock.collate(samples[i : i + size]) for i in range(0, len(samples), size)]


def test_the_samples_are_changed(dataset):
    base = type(dataset).__mro__[2]
    for i in (0, 5, -1):
        plain = base.__getitem__(dataset, i)
        changed = dataset[i]
        while isinstance(plain, (tuple, dict)):
            key = 0 if isinstance(plain, tuple) else "y"
            plain, changed = plain[key], changed[key]
        assert torch.equal(changed, plain + 1000)


LOADERS = {
    "torch's": lambda each: torch.utils.data.DataLoader(each, 4, collate_fn=penstock.collate),
    "ours": lambda each: penstock.DataLoader(each, 4),
    "ours, ahead": lambda each: torch.utils.data.DataLoader(
        each,
        batch_sampler=penstock.BatchSampler(penstock.SequentialSampler(each), 4, lookahead=2),
        collate_fn=penstock.collate,
    ),
    "ours, with workers": lambda each: penstock.DataLoader(
        each, 4, num_workers=1, multiprocessing_context="fork"
    ),
}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_every_loader_gives_them(dataset, loader):
    assert len(dataset) == ROWS
    assert_same(list(loader(dataset)), batches([dataset[i] for i in range(ROWS)]))


def test_torchs_collate_gives_them(dataset):
    (batch,) = torch.utils.data.DataLoader(dataset, 1, sampler=[3])
    assert_same(batch, default_collate([dataset[3]]))


INDICES = [5, 0, -1, 5]
PARTS = {
    "our subset": lambda dataset: dataset.subset(INDICES),
    "nested": lambda dataset: dataset.subset([5, -1, 0]).subset([0, 2, 1, 0]),
    "torch's subset": lambda dataset: torch.utils.data.Subset(dataset, INDICES),
    "torch's of ours": lambda dataset: torch.utils.data.Subset(dataset.subset([7, 0, 5]), [2, 1, 0, 2]),
    "of a sum": lambda dataset: subset_of(dataset + dataset, np.array([5, 8, -1, 13])),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_parts_give_them(dataset, part, loader):
    part = part(dataset)
    expected = [dataset[i] for i in INDICES]
    assert_same([part[i] for i in range(4)], expected)
    assert_same(list(loader(part)), batches(expected))
    with pytest.raises(IndexError):
        part[4]


def test_splits_give_them(dataset):
    for split in (penstock.random_split, torch.utils.data.random_split):
        for part in split(dataset, [4, 4]):
            expected = [dataset[int(i)] for i in part.indices]
            assert_same(list(penstock.DataLoader(part, 4)), batches(expected))


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_sums_give_them(dataset, loader):
    expected = [dataset[i] for i in range(ROWS)]
    both = dataset + dataset
    assert_same(both[ROWS + 3], expected[3])
    assert_same(list(loader(both)), batches(expected + expected))


def test_a_sum_with_the_class_it_is_derived_from(root):
    plain, changed = penstock.ShardDataset(root / "shards"), Shards(1000, root / "shards")
    for both, expected in ((plain + changed, [0, 1000]), (changed + plain, [1000, 0])):
        (batch,) = penstock.DataLoader(both, 2 * ROWS)
        assert_same(batch, torch.cat([FLOATS + more for more in expected]))


def test_classes_give_them():
    dataset = Tensors(1000, FLOATS, torch.arange(ROWS) % 2)
    for label, loader in penstock.class_loaders(dataset, ROWS).items():
        ((rows, labels),) = loader
        assert_same(rows, FLOATS[label::2] + 1000)
        assert labels.tolist() == [label] * 4


def test_what_the_files_hold_is_as_it_was(dataset):
    expected = default_collate([type(dataset).__mro__[2].__getitem__(dataset, 3)])
    for batch in (dataset.gather([3]), dataset.subset([1, 3]).gather([1]), dataset.begin([3]).batch()):
        if isinstance(dataset, Ragged):
            assert_same(batch[0], expected)
        elif dataset.transform is None:
            assert_same(batch, expected)
    assert dataset.schema == dataset.subset(range(ROWS)).schema


# what is overridden ----------------------------------------------------------------------------------------


def test_several_at_once_are_changed_once():
    dataset = Tensors(1000, FLOATS)
    for batch in (dataset[[5, 2]], dataset.subset([0, 5, 2])[1:], (dataset + dataset)[[13, 2]]):
        assert_same(batch, (FLOATS[[5, 2]] + 1000,))


class WithPaths(penstock.ImageFolder):
    """The well-known recipe."""

    def __getitem__(self, i):
        image, target = super().__getitem__(i)
        return image, target, self.samples[i][0]


def test_images_with_their_paths(root):
    dataset = WithPaths(root / "images", T.ToTensor())
    images, targets, paths = next(iter(penstock.DataLoader(dataset, ROWS)))
    assert list(paths) == [path for path, _ in dataset.samples]
    assert_same([images, targets], dataset.gather(range(ROWS)))
    assert "__getitem__" in dataset.explain()
    assert "__getitem__" in penstock.DataLoader(dataset, 2)._advice()


class InBatches(penstock.TensorDataset):
    asked: list[int]

    def __getitem__(self, i):
        return super().__getitem__(i)[0] + 1

    def __getitems__(self, indices):
        self.asked = [*indices]
        return [x + 1 for (x,) in super().__getitems__(indices)]


class OnTop(InBatches):
    def __getitem__(self, i):
        return 10 * super().__getitem__(i)


class OnlyBatches(penstock.TensorDataset):
    def __getitems__(self, indices):
        return [(2 * x,) for (x,) in super().__getitems__(indices)]


@pytest.mark.parametrize(
    ("cls", "expected"), [(InBatches, FLOATS + 1), (OnTop, 10 * (FLOATS + 1))], ids=["batches", "on top"]
)
def test_the_latest_of_several_methods_counts(cls, expected):
    dataset = cls(FLOATS)
    for loader in (penstock.DataLoader, torch.utils.data.DataLoader):
        for each in (dataset, dataset.subset(range(ROWS))):
            (batch,) = loader(each, ROWS)
            assert_same(batch, expected)
    assert hasattr(dataset, "asked") == (cls is InBatches)


def test_a_method_for_batches_alone():
    for each in (OnlyBatches(FLOATS), OnlyBatches(FLOATS).subset(range(ROWS))):
        ((batch,),) = penstock.DataLoader(each, ROWS)
        assert_same(batch, 2 * FLOATS)


class Numbered(penstock.Subset):
    def __getitem__(self, i):
        return (i, *super().__getitem__(i))


def test_a_class_derived_from_a_subset():
    part = Numbered(Tensors(1000, FLOATS), [3, 1])
    for each in (part, pickle.loads(pickle.dumps(part))):
        ((numbers, rows),) = penstock.DataLoader(each, 2)
        assert numbers.tolist() == [0, 1]
        assert_same(rows, FLOATS[[3, 1]] + 1000)


class Documented(penstock.TensorDataset):
    """Changes nothing about samples."""

    def mean(self):
        return self.tensors[0].mean()


def test_other_methods_leave_loading_native():
    for dataset in (
        Documented(FLOATS),
        Documented(FLOATS).subset([1, 2]),
        Documented(FLOATS) + Documented(FLOATS),
    ):
        assert penstock.DataLoader(dataset, 2)._is_native()
        assert isinstance(dataset.__getitems__([0, 1]), penstock.Samples)


def test_they_are_not_packed_as_if_nothing_were_changed(root, tmp_path):
    for dataset in (Shards(1000, root / "shards"), Shards(1000, root / "shards").subset([1])):
        with pytest.raises(penstock.SchemaError, match="__getitem__ of its own"):
            penstock.pack(dataset, tmp_path / "pack")


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_a_part_has_its_own_of_what_a_subclass_says_of_each_sample(kind):
    dataset = Documented(FLOATS)
    dataset.ids, dataset.samples = kind(range(10, 10 + ROWS)), {"a": "mapping"}
    dataset.paths = kind(range(3))  # of shards
    part = dataset.subset([3, 1])
    assert list(part.ids) == [13, 11]
    assert part.samples is dataset.samples
    assert part.paths is dataset.paths


# other processes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_is_of_the_same_class_and_has_its_attributes(dataset, copied):
    dataset.seen = ["something"]
    expected = batches([dataset[i] for i in range(ROWS)])
    for original in (dataset, copied(dataset)):
        again = copied(original)
        assert type(again) is type(dataset)
        assert (again.more, again.seen) == (1000, ["something"])
        assert_same(list(penstock.DataLoader(again, 4)), expected)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
@pytest.mark.parametrize("made", [lambda each: each.subset([3, 1]), lambda each: each + each])
def test_parts_and_sums_are_copied_with_what_was_set(root, copied, made):
    dataset = made(penstock.ShardDataset(root / "shards", transform=tenfold))
    dataset.note = "kept"
    again = copied(copied(dataset))
    assert (again.note, again.transform) == ("kept", tenfold)
    assert_same(again.gather([1, 0]), dataset.gather([1, 0]))
    dataset.transform = operator.neg
    again = copied(copied(dataset))
    assert_same(again.gather([1, 0]), dataset.gather([1, 0]))


@pytest.mark.parametrize("name", ["fields", "cached files", "tensors", "ragged", "folder in Python"])
def test_spawned_workers_give_the_same(root, name):
    dataset = MAKERS[name](root)
    loader = penstock.DataLoader(dataset, 4, num_workers=1, multiprocessing_context="spawn")
    assert_same(list(loader), batches([dataset[i] for i in range(ROWS)]))


def test_a_transform_that_was_set_later_is_pickled(dataset):
    dataset.transform = type(dataset).__name__.__add__
    assert pickle.loads(pickle.dumps(dataset)).transform("") == type(dataset).__name__


def test_a_dataset_that_holds_parts_of_itself_can_be_pickled():
    dataset = Tensors(1000, FLOATS)
    dataset.part = dataset.subset([5, 2])
    again = pickle.loads(pickle.dumps(dataset))
    assert again.part.dataset is again
    assert_same(list(again.part), [dataset[5], dataset[2]])
