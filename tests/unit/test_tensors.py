"""TensorDataset: what torch's own of that name gives, in any layout, gathered natively."""

import pickle

import numpy as np
import pytest
import torch
from reference import ALL_DTYPES, assert_same, random_tensor
from torch.utils.data import DataLoader

import penstock

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")

ROWS = [4, 0, -1, 4, -5]


def assert_same_dataset(*tensors):
    ours, theirs = penstock.TensorDataset(*tensors), torch.utils.data.TensorDataset(*tensors)
    assert len(ours) == len(theirs)
    for i in (0, 3, -1):
        assert type(ours[i]) is tuple
        assert_same(ours[i], theirs[i])
    expected = [torch.stack(rows) for rows in zip(*(theirs[i] for i in ROWS), strict=True)]
    assert_same(ours.gather(ROWS), expected)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_tensors_of_every_dtype(dtype):
    assert_same_dataset(random_tensor((5, 2, 4), dtype))


LAYOUTS = {
    "scalars": lambda x: x[:, 0, 0],
    "transposed": lambda x: x.transpose(0, 1),
    "transposed rows": lambda x: x.transpose(1, 2),
    "every second row": lambda x: x[::2],
    "every second column": lambda x: x[:, :, ::2],
    "from the middle": lambda x: x[3:, 2:, 1:],
    "one row for all": lambda x: x[:1].expand(9, -1, -1),
    "windows that overlap": lambda x: x.reshape(-1).unfold(0, 8, 3),
    "channels last": lambda x: x.reshape(12, 5, 2, 3).contiguous(memory_format=torch.channels_last),
    "rows without elements": lambda x: x[:, :0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.complex128], ids=str)
def test_tensors_of_every_layout(layout, dtype):
    assert_same_dataset(LAYOUTS[layout](random_tensor((12, 5, 6), dtype)))


def test_conjugate_and_negative_views():
    x = torch.randn(6, 3, dtype=torch.complex64)
    dataset = penstock.TensorDataset(x.conj(), x.conj().imag)
    assert_same(dataset.gather([5, 0]), [x.conj().resolve_conj()[[5, 0]], -x.imag[[5, 0]]])


def test_several_tensors_of_mixed_kinds():
    images, scores = random_tensor((7, 3, 4), torch.uint8), random_tensor((4, 7), torch.bfloat16).t()
    assert_same_dataset(images, scores, torch.arange(7))
    dataset = penstock.TensorDataset(images, scores, torch.arange(7))
    assert len(dataset.fields) == 3
    assert [field.shape for field in dataset.schema] == [(3, 4), (4,), ()]


def test_the_last_tensor_has_the_targets_when_it_is_integer_and_flat():
    labels = torch.arange(7, dtype=torch.int32)
    targets = penstock.TensorDataset(torch.zeros(7, 3), labels).targets
    assert (targets.dtype, targets.tolist()) == (np.int64, list(range(7)))
    for tensors in ((labels, torch.zeros(7)), (labels, torch.zeros(7, 1, dtype=torch.int64))):
        with pytest.raises((AttributeError, penstock.SchemaError)):
            _ = penstock.TensorDataset(*tensors).targets


@pytest.mark.parametrize(
    "index",
    [slice(1, 4), slice(None, None, -2), [3, 0, -1], np.array([2, 2]), torch.tensor([4, -5]), range(2), []],
    ids=str,
)
def test_several_rows_at_once(index):
    x, y = random_tensor((5, 3)), torch.arange(5)
    dataset = penstock.TensorDataset(x, y)
    for each, rows in (
        (dataset, np.arange(5)),
        (dataset.subset([4, 2, 0, 1, 1]), np.array([4, 2, 0, 1, 1])),
        (dataset + dataset, np.arange(10) % 5),
    ):
        chosen = torch.from_numpy(rows[index].copy()).long()
        assert type(each[index]) is tuple
        assert_same(each[index], (x[chosen], y[chosen]))
    assert_same(dataset[torch.tensor(3)], (x[3], y[3]))
    assert_same(dataset[np.array(3)], (x[3], y[3]))


@pytest.mark.parametrize(
    "index", ["1", 1.0, None, [0.5], ["a"], [True], torch.tensor([True] * 5), (1, 2)], ids=str
)
def test_what_is_no_number_is_refused(index):
    with pytest.raises(penstock.SchemaError):
        penstock.TensorDataset(torch.arange(5))[index]


@pytest.mark.parametrize("loader", [DataLoader, penstock.DataLoader])
@pytest.mark.parametrize("lookahead", [0, 3])
def test_batches_by_a_sampler_of_batches(loader, lookahead):
    x, y = random_tensor((25, 3)), torch.arange(25)
    ours, theirs = penstock.TensorDataset(x, y), torch.utils.data.TensorDataset(x, y)
    sampler = penstock.BatchSampler(penstock.ShuffleSampler(25, seed=3), 4, lookahead=lookahead)
    order = [batch.tolist() for batch in penstock.BatchSampler(penstock.ShuffleSampler(25, seed=3), 4)]
    assert_same(
        list(loader(ours, batch_size=None, sampler=sampler)),
        list(DataLoader(theirs, batch_size=None, sampler=order)),
    )


def test_a_part_does_not_hand_out_the_whole_tensors():
    dataset = penstock.TensorDataset(torch.arange(7))
    for part in (dataset.subset([1]), (dataset + dataset).subset([1])):
        for name in ("tensors", "datasets"):
            with pytest.raises(AttributeError, match=name):
                getattr(part, name)


def test_changes_of_the_tensor_are_seen_as_with_torch():
    tensor = torch.zeros(5, 3)
    dataset = penstock.TensorDataset(tensor)
    tensor[2] = 7
    assert dataset[2][0].tolist() == [7, 7, 7]


def test_samples_and_batches_are_copies():
    tensor = torch.zeros(5, 3)
    dataset = penstock.TensorDataset(tensor)
    dataset[2][0].fill_(7)
    dataset.gather([1, 2])[0].fill_(7)
    assert (tensor == 0).all()


def test_the_tensors_live_as_long_as_the_dataset():
    dataset = penstock.TensorDataset(torch.arange(100_000).reshape(-1, 10))
    for _ in range(10):
        torch.full((100_000,), 7)
    assert_same(dataset.gather(range(10_000)), [torch.arange(100_000).reshape(-1, 10)])


def test_parameters_and_tensors_that_require_grad():
    parameter = torch.nn.Parameter(torch.ones(5, 3))
    (batch,) = penstock.TensorDataset(parameter).gather([0, 1])
    assert_same(batch, torch.ones(2, 3))
    assert not batch.requires_grad


@pytest.mark.parametrize(
    "tensors",
    [
        (),
        (torch.zeros(3), torch.zeros(4)),
        (torch.tensor(3.0),),
        (torch.zeros(3, device="meta"),),
        (torch.eye(3).to_sparse(),),
        ([1, 2, 3],),
        (np.zeros(3),),
    ],
    ids=str,
)
def test_what_is_no_dataset_is_refused(tensors):
    with pytest.raises(penstock.SchemaError):
        penstock.TensorDataset(*tensors)


@pytest.mark.parametrize("indices", [[5], [-6], [0, 2**40]])
def test_an_index_outside(indices):
    with pytest.raises(IndexError):
        penstock.TensorDataset(torch.zeros(5)).gather(indices)


def test_subsets_sums_and_pickles():
    x, y = random_tensor((6, 3)), torch.arange(6)
    dataset = penstock.TensorDataset(x, y)
    both = dataset.subset([5, 1]) + dataset
    order = [5, 1, *range(6)]
    assert isinstance(both, penstock.Dataset)
    assert both.targets.tolist() == order
    for each in (both, pickle.loads(pickle.dumps(both))):
        assert_same(each.gather(range(8)), [x[order], y[order]])


def test_a_tensor_dataset_and_shards_can_be_added(tmp_path):
    x, y = random_tensor((6, 3)), torch.arange(6)
    torch.save((x, y), tmp_path / "x.pt")
    both = penstock.ShardDataset(tmp_path / "x.pt") + penstock.TensorDataset(x, y)
    assert len(both) == 12
    assert_same(both.gather([0, 11]), [x[[0, 5]], y[[0, 5]]])


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_stock_loader_gives_what_it_gives_of_torchs_own(shuffle):
    x, y = random_tensor((103, 3)), torch.arange(103)
    options = {"batch_size": 10, "shuffle": shuffle}
    ours = DataLoader(penstock.TensorDataset(x, y), generator=torch.Generator().manual_seed(3), **options)
    theirs = DataLoader(
        torch.utils.data.TensorDataset(x, y), generator=torch.Generator().manual_seed(3), **options
    )
    for one, other in zip(ours, theirs, strict=True):
        assert type(one) is type(other)
        assert_same(one, other)
