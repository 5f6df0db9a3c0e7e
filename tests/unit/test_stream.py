"""StreamDataset: torch's batches of the same items, whatever makes them, in any loader."""

import json
import pickle
import traceback
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import IterableDataset

import penstock
from penstock import ArgumentError, SchemaError, StreamDataset

StatefulDataLoader = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

ROWS = 1_003
X = np.arange(ROWS * 10, dtype=np.float32).reshape(ROWS, 10)
Y = [i % 7 for i in range(ROWS)]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata's
]


def numbers():
    yield from range(ROWS)


def pairs():
    yield from zip(X, Y, strict=True)


def own_split(shard, num_shards):
    yield from range(shard, ROWS, num_shards)


class Plain(IterableDataset):
    """What a user of torch alone would write."""

    def __init__(self, source):
        self.source = source

    def __iter__(self):
        return iter(self.source())


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for each, other in zip(a, b, strict=True):
            assert_same(each, other)
    else:
        assert a == b


def flat(batches):
    return [item for batch in batches for item in batch.tolist()]


def ours(dataset, batch_size=64, **options):
    return penstock.DataLoader(dataset, batch_size, **options)


# --- batches ----------------------------------------------------------------------------------------

SOURCES = {
    "numbers": lambda i: i,
    "floats": lambda i: i / 3,
    "bools": lambda i: i % 3 == 0,
    "numpy rows": lambda i: X[i],
    "numpy columns": lambda i: X.T[:, i],
    "numpy scalars": lambda i: np.int32(i),
    "numpy 0-d": lambda i: np.array(i, np.float16),
    "tensors": lambda i: torch.full((2, 3), i, dtype=torch.int16),
    "transposed tensors": lambda i: torch.arange(i, i + 6.0).view(2, 3).T,
    "0-d tensors": lambda i: torch.tensor(i / 7),
    "bfloat16": lambda i: torch.full((3,), i, dtype=torch.bfloat16),
    "complex": lambda i: torch.full((3,), complex(i, 1)).conj(),
    "negated": lambda i: torch.full((3,), complex(i, 1)).conj().imag,
    "one number, negated": lambda i: torch.full((1,), complex(i, 1)).conj().imag.unsqueeze(1),
    "uint16": lambda i: np.full(3, i, np.uint16),
    "empty rows": lambda i: np.zeros((0, 4)),
    "strings": lambda i: f"item {i}",
    "bytes": lambda i: b"%d" % i,
    "tuples": lambda i: (X[i], i, f"{i}"),
    "lists": lambda i: [X[i], torch.tensor([i])],
    "dicts": lambda i: {"x": X[i], "y": {"deep": (i, 0.5)}, 3: b"z"},
    "no fields": lambda i: (),
    "read-only": lambda i: np.broadcast_to(np.float64(i), (2, 2)),
    "parameters": lambda i: torch.nn.Parameter(torch.full((2,), float(i)), requires_grad=False),
    "large rows": lambda i: np.full(3_000, i, np.float32),
}


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("kind", SOURCES)
def test_batches_are_torchs(kind, drop_last):
    def source():
        return map(SOURCES[kind], range(150))

    theirs = list(TorchLoader(Plain(source), 64, drop_last=drop_last))
    mine = list(ours(StreamDataset(source), drop_last=drop_last))
    assert len(mine) == len(theirs)
    for batch, other in zip(mine, theirs, strict=True):
        assert_same(batch, other)


def test_gradients_are_kept_as_torch_keeps_them():
    weight = torch.ones(3, requires_grad=True)
    batch = next(iter(ours(StreamDataset(lambda: (weight * i for i in range(4))), 4)))
    batch.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [6, 6, 6]


def test_named_tuples_and_subclasses_go_to_torch():
    from collections import OrderedDict, namedtuple

    pair = namedtuple("pair", "x y")
    for make in (lambda i: pair(i, X[i]), lambda i: OrderedDict(a=i, b=X[i])):
        theirs = next(iter(TorchLoader(Plain(lambda make=make: map(make, range(10))), 10)))
        assert_same(next(iter(ours(StreamDataset(lambda make=make: map(make, range(10))), 10))), theirs)


def test_a_batch_belongs_to_its_user():
    batches = list(ours(StreamDataset(pairs), 100))
    batches[0][0].fill_(-1)
    assert torch.equal(batches[1][0], torch.from_numpy(X[100:200]))
    assert X[0, 1] == 1


def test_a_collate_fn_gets_lists_of_samples_and_works_in_the_thread():
    import threading

    seen = []

    def collate(samples):
        seen.append(threading.current_thread())
        assert type(samples) is list
        return sum(samples)

    mine = list(ours(StreamDataset(numbers), collate_fn=collate))
    assert mine == [sum(range(i, min(i + 64, ROWS))) for i in range(0, ROWS, 64)]
    assert set(seen) != {threading.main_thread()}
    default = torch.utils.data.default_collate
    assert_same(
        next(iter(ours(StreamDataset(pairs), collate_fn=default))), next(iter(ours(StreamDataset(pairs))))
    )


def test_transforms_are_maps():
    source = StreamDataset(lambda: map(lambda i: torch.tensor(i) * 2, numbers()))  # noqa: C417
    assert flat(ours(source)) == [2 * i for i in range(ROWS)]


@pytest.mark.parametrize("batch_size", [None, 1])
def test_single_samples(batch_size):
    mine = list(ours(StreamDataset(numbers), batch_size))
    assert list(map(int, mine)) == list(range(ROWS))


def test_shapes_may_differ_between_batches_as_in_torch():
    def source():
        return (np.zeros(i) for i in range(5))

    assert [tuple(batch.shape) for batch in ours(StreamDataset(source), 1)] == [(1, i) for i in range(5)]


# --- chunks -----------------------------------------------------------------------------------------


def chunked(seed=0, most=90, tensors=False):
    def source():
        rng = np.random.default_rng(seed)
        i = 0
        while i < ROWS:
            n = int(rng.integers(0, most))
            x = torch.from_numpy(X[i : i + n]) if tensors else X[i : i + n]
            yield {"x": x, "y": (np.arange(i, min(i + n, ROWS)), torch.ones(len(x), 2))}
            i += n

    return source


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 5_000])
def test_chunks_are_cut_anew(batch_size, tensors):
    stream = StreamDataset(chunked(tensors=tensors), batched=True)
    mine = list(ours(stream, batch_size))
    assert torch.equal(torch.cat([batch["x"] for batch in mine]), torch.from_numpy(X))
    assert [len(batch["x"]) for batch in mine[:-1]] == [batch_size] * (len(mine) - 1)
    for batch, other in zip(mine, TorchLoader(stream, batch_size), strict=True):
        assert_same(batch, other)
    for batch, other in zip(mine, ours(stream, batch_size, collate_fn=list), strict=True):
        assert_same(batch, torch.utils.data.default_collate(other))


def test_chunks_that_lie_apart():
    x = np.arange(600.0).reshape(20, 30)
    stream = StreamDataset([x.T[i : i + 7] for i in range(0, 30, 7)], batched=True)
    assert torch.equal(torch.cat(list(ours(stream, 4))), torch.from_numpy(x.T.copy()))
    stream = StreamDataset([torch.from_numpy(x)[::2], torch.from_numpy(x)[1::2, :]], batched=True)
    assert torch.equal(next(iter(ours(stream, 15)))[:10], torch.from_numpy(x)[::2])
    grads = StreamDataset([torch.ones(4, 2, requires_grad=True), torch.zeros(3, 2)], batched=True)
    assert [batch.tolist() for batch in ours(grads, 5)] == [[[1, 1]] * 4 + [[0, 0]], [[0, 0]] * 2]


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        ((np.zeros(3), np.zeros(4)), "3, 4"),
        ([1, 2, 3], "int"),
        (np.float32(3), "float32"),
        (torch.tensor(1), "Tensor of no rows"),
        ("abc", "str"),
        ({}, "dict"),
    ],
)
def test_what_is_no_chunk(chunk, message):
    with pytest.raises(SchemaError, match=message):
        list(ours(StreamDataset([chunk], batched=True)))


# --- every item once --------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("source", [numbers, own_split, list(range(ROWS)), lambda i, n: range(i, ROWS, n)])
@pytest.mark.parametrize("loader", [TorchLoader, penstock.DataLoader])
def test_every_item_comes_once(loader, source, num_workers):
    stream = StreamDataset(source, shuffle_buffer=20)
    assert sorted(flat(loader(stream, 50, num_workers=num_workers))) == list(range(ROWS))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_a_stream(world, batched, monkeypatch):
    seen = []
    source = [np.arange(i, min(i + 10, ROWS)) for i in range(0, ROWS, 10)] if batched else numbers
    for rank in range(world):
        monkeypatch.setattr("penstock.datasets.stream_sources.rank_of", lambda rank=rank: (rank, world))
        stream = StreamDataset(source, batched=batched)
        for num_workers in (0, 2) if rank == 0 else (0,):
            share = flat(ours(stream, 50, num_workers=num_workers))
            assert num_workers == 0 or sorted(share) == sorted(flat(ours(stream, 50)))
        seen += share
    assert sorted(seen) == list(range(ROWS))


def test_persistent_workers_hear_of_the_epoch():
    stream = StreamDataset(numbers, shuffle_buffer=50, seed=1)
    loader = TorchLoader(stream, 50, num_workers=1, persistent_workers=True)
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append(flat(loader))
    assert orders[0] == orders[2] != orders[1]


# --- shuffle ----------------------------------------------------------------------------------------


def test_a_shuffle_is_a_function_of_seed_and_epoch():
    def orders(seed, epochs=2):
        loader = ours(StreamDataset(numbers, shuffle_buffer=100, seed=seed))
        return [flat(loader) for _ in range(epochs)]

    assert orders(0) == orders(0)
    first, second = orders(0)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert orders(1)[0] != first
    stream = StreamDataset(numbers, shuffle_buffer=100, seed=0)
    stream.set_epoch(1)
    assert flat(TorchLoader(stream, 10)) == second
    loader = ours(StreamDataset(numbers, shuffle_buffer=100, seed=0))
    loader.set_epoch(1)
    assert flat(loader) == second


def test_torchs_seed_decides_when_none_is_given():
    def order(seed):
        torch.manual_seed(seed)
        return flat(ours(StreamDataset(numbers, shuffle_buffer=100)))

    assert order(1) == order(1) != order(2)


def test_the_quality_of_a_shuffle_is_as_stated():
    size, count = 50, 20_000
    order = np.array(list(StreamDataset(range(count), shuffle_buffer=size, seed=0)))
    late = np.argsort(order) - np.arange(count)
    assert late.min() >= -(size - 1)
    steady = late[: count - 20 * size]
    assert abs(steady.mean()) < 3  # as early as late, on average
    waited = steady + size - 1  # since it came into the buffer
    assert np.mean(waited > 2 * size) == pytest.approx(np.exp(-2), rel=0.1)
    whole = np.array([list(StreamDataset(range(5), shuffle_buffer=9, seed=seed)) for seed in range(3_000)])
    for place in range(5):
        assert np.bincount(whole[:, place], minlength=5) / 3_000 == pytest.approx(0.2, abs=0.04)


# --- filter -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [lambda i: i % 7, lambda i: np.int16(i % 7), lambda i: torch.tensor(i % 7)])
def test_filter_keeps_one_class(label):
    stream = StreamDataset(lambda: ((i, label(i)) for i in range(ROWS)), shuffle_buffer=10)
    assert sorted(flat(batch[0] for batch in ours(stream.filter(3)))) == list(range(3, ROWS, 7))
    both = stream.filter({3, 5}).filter([5, 6])
    assert sorted(flat(batch[0] for batch in ours(both))) == list(range(5, ROWS, 7))
    assert list(stream.filter(9)) == []
    assert len(list(stream)) == ROWS


def test_filter_finds_labels_by_name_and_position():
    stream = StreamDataset(lambda: ({"a": i, "class": f"c{i % 2}", "b": i % 3} for i in range(12)))
    assert [each["a"] for each in stream.filter("c1")] == [1, 3, 5, 7, 9, 11]
    assert [each["a"] for each in stream.filter(2, target="b")] == [2, 5, 8, 11]
    assert len(list(StreamDataset(lambda: ((i % 2, "x") for i in range(10))).filter(1, target=0))) == 5
    for bad in ("c", 7):
        with pytest.raises(SchemaError, match="target="):
            list(stream.filter(2, target=bad))
    with pytest.raises(SchemaError, match="target="):
        list(StreamDataset(numbers).filter(2))
    with pytest.raises(SchemaError, match="one number"):
        list(StreamDataset([(1, np.zeros(3))]).filter(2))


@pytest.mark.parametrize("tensors", [False, True])
def test_filter_of_chunks(tensors):
    def source():
        for i in range(0, 100, 9):
            rows = np.arange(i, min(i + 9, 100))
            yield (rows, torch.from_numpy(rows % 4) if tensors else rows % 4)

    stream = StreamDataset(source, batched=True).filter(1)
    assert flat(batch[0] for batch in ours(stream, 7)) == list(range(1, 100, 4))
    assert flat(batch[0] for batch in TorchLoader(stream, 7)) == list(range(1, 100, 4))


# --- length -----------------------------------------------------------------------------------------


def test_length():
    with pytest.raises(TypeError, match="length="):
        len(StreamDataset(numbers))
    with pytest.raises(TypeError):
        len(ours(StreamDataset(numbers)))
    stream = StreamDataset(numbers, length=ROWS)
    assert len(stream) == ROWS
    assert len(ours(stream, 50)) == 21
    assert len(ours(stream, 50, drop_last=True)) == 20
    assert len(list(ours(stream, 50))) == 21
    with pytest.raises(TypeError):
        len(stream.filter(2))


def test_a_wrong_length_is_warned_of_once():
    for said, words in ((ROWS - 100, "have come so far"), (ROWS - 1, "came"), (ROWS + 5, "came")):
        with pytest.warns(UserWarning, match=words) as caught:
            assert len(flat(ours(StreamDataset(numbers, length=said)))) == ROWS
        assert len(caught) == 1


def test_nothing_is_warned_of():
    with pytest.warns(UserWarning, match="yielded nothing"):
        assert list(ours(StreamDataset(list))) == []
    spent = iter(range(3))
    stream = ours(StreamDataset(lambda: spent))
    assert flat(stream) == [0, 1, 2]
    with pytest.warns(UserWarning, match="new iterable"):
        assert list(stream) == []
    assert list(ours(StreamDataset(list, length=0))) == []


# --- bad sources ------------------------------------------------------------------------------------


def test_a_generator_is_refused_with_what_to_write():
    with pytest.raises(
        SchemaError, match=r"Write StreamDataset\(numbers\), not StreamDataset\(numbers\(\)\)"
    ):
        StreamDataset(numbers())
    with pytest.raises(SchemaError, match="once only"):
        StreamDataset(zip([1], [2], strict=True))
    with pytest.raises(SchemaError, match="no source"):
        StreamDataset(7)
    with pytest.raises(SchemaError, match="needs path"):
        StreamDataset(lambda path: [path])
    with pytest.raises(SchemaError, match="made nothing to iterate over; found a int"):
        list(StreamDataset(lambda: 7))
    for options in ({"shuffle_buffer": -1}, {"length": -1}):
        with pytest.raises(ArgumentError):
            StreamDataset(numbers, **options)


class OwnError(Exception):
    def __init__(self, one, two):
        super().__init__(one, two)


def failing():
    yield from range(100)
    raise OwnError("why", 7)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_an_exception_keeps_its_type_and_traceback(device):
    walk = iter(ours(StreamDataset(failing), 30, device=device))
    assert flat(next(walk) for _ in range(3)) == list(range(90))
    with pytest.raises(OwnError) as caught:
        next(walk)
    assert caught.value.args == ("why", 7)
    assert "failing" in {frame.name for frame in traceback.extract_tb(caught.tb)}
    assert list(walk) == []


def test_a_source_that_exits():
    def source():
        yield 1
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        list(ours(StreamDataset(source), 1))


CHANGES = {
    "shape": (
        [np.zeros(3)] * 5 + [np.zeros(4)],
        5,
        r"ndarray of float64, \(3,\)",
        r"ndarray of float64, \(4,\)",
    ),
    "dtype": ([torch.zeros(3)] * 5 + [torch.zeros(3).int()], 5, "torch.float32", "torch.int32"),
    "kind": ([np.zeros(3)] * 5 + [[0.0]], 5, "ndarray", "list"),
    "number": ([1] * 5 + [0.5], 5, "int", "float"),
    "length": ([(1, 2)] * 5 + [(1, 2, 3)], 5, "tuple, 2", "tuple, 3"),
    "keys": ([{"a": 1}] * 5 + [{"b": 1}], 5, "'a'", "'b'"),
    "nothing": ([np.zeros(3)] * 5 + [None], 5, "ndarray", "NoneType"),
    "next batch": ([np.zeros(3)] * 8 + [np.zeros(3, np.float32)], 8, "float64", "float32"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_half_way_says_which_item_what_before_and_what_now(change):
    items, row, before, now = CHANGES[change]
    with pytest.raises(
        SchemaError, match=f"row {row}: .*needed as before, .*{before}.*found .*{now}"
    ) as caught:
        list(ours(StreamDataset(items), 8))
    assert caught.value.row == row


def test_a_change_inside_a_field_or_a_chunk():
    items = [{"a": (1, np.zeros(3))}] * 4 + [{"a": (1, np.zeros(2))}]
    with pytest.raises(SchemaError, match=r"field 'a\.1', row 4"):
        list(ours(StreamDataset(items), 8))
    chunks = [np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((3, 4))]
    with pytest.raises(SchemaError, match="row 6"):
        list(ours(StreamDataset(chunks, batched=True), 9))


def test_what_cannot_be_a_tensor():
    for item in (object(), None, np.array(["a"]), np.array([object()])):
        with pytest.raises(SchemaError, match=r"row 0: default_collate.*collate_fn"):
            list(ours(StreamDataset([item]), 8))
    with pytest.raises((RuntimeError, ValueError), match=r"[Oo]verflow"):
        list(ours(StreamDataset([2**70]), 8))


# --- state ------------------------------------------------------------------------------------------


class Counter:
    """A source with a state of its own, and a count of what it was asked for."""

    def __init__(self, chunk=None):
        self.chunk = chunk
        self.at = self.made = 0

    def __iter__(self):
        while self.at < ROWS:
            here = self.at
            self.at += self.chunk or 1
            self.made += 1
            yield np.arange(here, min(self.at, ROWS)) if self.chunk else here

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


STREAMS = {
    "by count": lambda: StreamDataset(numbers),
    "shuffled": lambda: StreamDataset(numbers, shuffle_buffer=30, seed=5),
    "filtered": lambda: StreamDataset(lambda: ((i, i % 2) for i in range(2 * ROWS))).filter(1),
    "chunks": lambda: StreamDataset([np.arange(i, i + 13) for i in range(0, ROWS, 13)], batched=True),
    "exact": lambda: StreamDataset(Counter),
    "exact chunks": lambda: StreamDataset(lambda: Counter(13), batched=True),
    "shuffled chunks": lambda: StreamDataset(lambda: Counter(13), batched=True, shuffle_buffer=30, seed=5),
}


def first_of(batches):
    return [(batch[0] if isinstance(batch, list) else batch).tolist() for batch in batches]


@pytest.mark.parametrize("loader", [penstock.DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_state_goes_on_with_the_very_next_batch(kind, loader):
    for batches in (0, 1, 7):
        begun = loader(STREAMS[kind](), 50)
        walk = iter(begun)
        for _ in range(batches):
            next(walk)
        state = json.loads(json.dumps(begun.state_dict()))
        rest = first_of(walk)
        fresh = loader(STREAMS[kind](), 50)
        fresh.load_state_dict(state)
        assert first_of(fresh) == rest
        assert len(rest) > 10
        if loader is penstock.DataLoader:
            assert first_of(fresh) == first_of(begun)


def test_an_exact_state_makes_nothing_again():
    counters = [Counter(), Counter()]
    begun, fresh = (penstock.DataLoader(StreamDataset(lambda c=c: c), 50) for c in counters)
    walk = iter(begun)
    for _ in range(15):
        next(walk)
    fresh.load_state_dict(begun.state_dict())
    assert flat(fresh) == list(range(750, ROWS))
    assert counters[1].made == ROWS - 750


def test_a_state_at_the_end_goes_on_with_the_next_epoch():
    loader = ours(StreamDataset(numbers, shuffle_buffer=30, seed=5))
    assert len(flat(loader)) == ROWS
    state = loader.state_dict()
    fresh = ours(StreamDataset(numbers, shuffle_buffer=30, seed=5))
    fresh.load_state_dict(state)
    assert first_of(fresh) == first_of(loader)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_torchdatas_workers_resume_too(num_workers):
    def loader():
        return StatefulDataLoader(StreamDataset(numbers), 50, num_workers=num_workers)

    begun = loader()
    walk = iter(begun)
    for _ in range(3):
        next(walk)
    state = begun.state_dict()
    rest = first_of(walk)
    fresh = loader()
    fresh.load_state_dict(state)
    assert first_of(fresh) == rest


def test_states_that_do_not_fit():
    stream = StreamDataset(numbers)
    for state in (None, {}, {"epoch": -1, "items": 0, "shards": 1}, {"epoch": 0, "items": True, "shards": 1}):
        with pytest.raises(ArgumentError, match="no state"):
            stream.load_state_dict(state)
    stream.load_state_dict({"epoch": 0, "items": 5, "shards": 4})
    with pytest.raises(ArgumentError, match="ranks and workers"):
        iter(stream)
    stream.load_state_dict({"epoch": 0, "items": 5, "shards": 1, "source": {"at": 5}})
    with pytest.raises(ArgumentError, match="takes none"):
        next(iter(stream))
    with pytest.raises(ArgumentError, match="no state"):
        ours(stream).load_state_dict({"sampler": None, "batches": 3, "dataset": None})


def test_set_epoch_drops_the_state_of_another():
    stream = StreamDataset(numbers)
    stream.load_state_dict({"epoch": 2, "items": 5, "shards": 1})
    stream.set_epoch(2)
    assert len(list(stream)) == ROWS - 5
    stream.load_state_dict({"epoch": 2, "items": 5, "shards": 1})
    stream.set_epoch(3)
    assert len(list(stream)) == ROWS


def test_a_stream_pickles_where_it_is():
    stream = StreamDataset(numbers)
    walk = iter(stream)
    assert [next(walk) for _ in range(3)] == [0, 1, 2]
    again = pickle.loads(pickle.dumps(stream))
    assert next(iter(again)) == 3
    assert "numbers" in repr(stream)


# --- what a loader says -----------------------------------------------------------------------------


def test_stats_device_and_trace(tmp_path):
    moved = []
    trace = tmp_path / "trace.json"
    loader = ours(
        StreamDataset(pairs), 100, device="cpu", device_transform=lambda b: moved.append(b) or b, trace=trace
    )
    assert sum(len(x) for x, _ in loader) == ROWS
    stats = loader.stats()
    assert (stats["batches"], stats["samples"], stats["bytes"]) == (11, ROWS, ROWS * 48)
    assert len(moved) == 11
    assert len(json.loads(trace.read_text())["traceEvents"]) == 44
    assert "11 batches" in loader.report()


def test_a_subclass_with_an_iter_of_its_own():
    class Doubled(StreamDataset):
        def __iter__(self):
            return (2 * item for item in super().__iter__())

    assert flat(ours(Doubled(numbers))) == [2 * i for i in range(ROWS)]


def test_no_warning_without_cause():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(flat(ours(StreamDataset(numbers, length=ROWS)))) == ROWS


def test_a_collate_that_is_asked_for_is_used():
    stream = penstock.StreamDataset([torch.ones(1), torch.ones(3)])
    ours, theirs = (
        kind(stream, 2, collate_fn=penstock.Collate()) for kind in (penstock.DataLoader, TorchLoader)
    )
    (batch,), (expected,) = ours, theirs
    assert all(map(torch.equal, batch, expected))
    with pytest.raises(SchemaError, match=r"penstock.Collate\(\) pads"):
        next(iter(penstock.DataLoader(stream, 2)))


# --- chunks of subclasses --------------------------------------------------------------------------------


class Named(torch.Tensor):
    pass


def chunk_of(kind, tmp_path, first, count):
    array = np.arange(first, first + count, dtype=np.float32)
    if kind == "memmap":
        np.save(tmp_path / f"{first}.npy", array)
        return np.load(tmp_path / f"{first}.npy", mmap_mode="r")
    return {
        "array": lambda: array,
        "own": lambda: torch.from_numpy(array).as_subclass(Named),
        "matrix": lambda: np.asmatrix(array).T,
    }[kind]()


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("options", [{}, {"shuffle_buffer": 3, "seed": 0}], ids=["in order", "shuffled"])
@pytest.mark.parametrize(
    "kinds", [("memmap",) * 3, ("own",) * 3, ("matrix",) * 3, ("array", "memmap", "array")]
)
def test_chunks_may_be_of_subclasses(tmp_path, kinds, options):
    chunks = [
        {"x": chunk_of(kind, tmp_path, first, 7), "y": (np.arange(first, first + 7),)}
        for kind, first in zip(kinds, (0, 7, 14), strict=True)
    ]
    batches = list(penstock.DataLoader(StreamDataset(chunks, batched=True, **options), batch_size=5))
    assert [type(batch["x"]) for batch in batches] == [torch.Tensor] * 5
    rows = torch.cat([batch["x"] for batch in batches]).flatten()
    assert sorted(rows.tolist()) == list(map(float, range(21)))
    assert rows.tolist() == torch.cat([batch["y"][0] for batch in batches]).tolist()
    samples = [sample["x"] for sample in StreamDataset(chunks, batched=True)]
    assert not any(isinstance(sample, (np.memmap, np.matrix, Named)) for sample in samples)


def test_masked_chunks_are_refused_for_their_mask_would_be_lost():
    chunks = [np.ma.masked_array(np.zeros(4), mask=[0, 1, 0, 0])]
    with pytest.raises(penstock.SchemaError, match="MaskedArray"):
        next(iter(StreamDataset(chunks, batched=True)))


# --- floats that happen to be whole ----------------------------------------------------------------------


def scores(values, batch_size):
    stream = StreamDataset([{"score": value} for value in values])
    return [batch["score"] for batch in penstock.DataLoader(stream, batch_size=batch_size)]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 6])
def test_whole_numbers_among_floats_are_floats(batch_size):
    values = [0.5, 1, -(2**40), 2**70, 1, 2.5]
    batches = scores(values, batch_size)
    assert [batch.dtype for batch in batches] == [torch.float64] * len(batches)
    assert torch.cat(batches).tolist() == list(map(float, values))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    ("values", "row", "said"),
    [
        ([1, 2, 0.5], 2, r"as before, int, found float"),
        ([0.5, 1, True], 2, r"as before, float, found bool"),
        ([0.5, np.float32(1), 1], 1, r"as before, float, found float32"),
    ],
)
def test_but_not_the_other_way_round_nor_bools(values, row, said, batch_size):
    with pytest.raises(SchemaError, match=said) as caught:
        scores(values, batch_size)
    assert caught.value.row == row
    assert caught.value.field == "score"


def test_where_floats_are_wanted_an_int_is_not_what_is_wrong():
    with pytest.raises(SchemaError, match="as before, float, found str") as caught:
        scores([0.5, 1, "x"], 3)
    assert caught.value.row == 2


def test_an_int_beyond_every_float_is_no_float():
    with pytest.raises((OverflowError, RuntimeError)):
        scores([0.5, 10**400], 2)


@pytest.mark.parametrize("length", [None, 0, 3])
def test_a_stream_is_true_whatever_its_length(length):
    assert StreamDataset(numbers, length=length)
    assert all(StreamDataset(pairs, length=length).by_class(range(7)).values())
