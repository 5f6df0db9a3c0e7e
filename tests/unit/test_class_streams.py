"""by_class: one pass over a stream, a loader for each class."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader as TorchLoader

import penstock
from penstock import ArgumentError, PenstockError, SchemaError, StreamDataset

COUNT, CLASSES = 3_000, 6


class Source:
    """Pairs of a number and its class, and how often they were made."""

    def __init__(self, count=COUNT, classes=CLASSES):
        self.labels = np.random.default_rng(0).integers(0, classes, count).tolist()
        self.made = 0

    def __call__(self):
        for pair in enumerate(self.labels):
            self.made += 1
            yield pair

    def of(self, label):
        return [i for i, each in enumerate(self.labels) if each == label]


@pytest.fixture
def source():
    return Source()


def in_turn(loaders):
    """What each class yields, a batch of each at a time."""
    walks = {label: iter(loader) for label, loader in loaders.items()}
    seen = {label: [] for label in loaders}
    while walks:
        for label, walk in list(walks.items()):
            batch = next(walk, None)
            if batch is None:
                del walks[label]
            else:
                assert batch[1].tolist() == [label] * len(batch[1])
                seen[label] += batch[0].tolist()
    return seen


def loaders_of(streams, batch_size=32, kind=penstock.DataLoader, **options):
    return {label: kind(stream, batch_size, **options) for label, stream in streams.items()}


def stop_threads():
    """Wait until the threads that were told to stop have."""
    gc.collect()
    end = time.monotonic() + 10
    while any(thread.name.startswith("penstock") for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("kind", [penstock.DataLoader, TorchLoader])
@pytest.mark.parametrize("batched", [False, True])
def test_each_class_gets_its_samples_in_order_from_one_pass(source, kind, batched):
    stream = StreamDataset(source)
    if batched:
        pairs = list(source())
        source.made = 0
        chunks = [tuple(map(np.array, zip(*pairs[i : i + 50], strict=True))) for i in range(0, COUNT, 50)]
        stream = StreamDataset(chunks, batched=True)
    streams = stream.by_class(range(1, CLASSES))
    assert len(streams) == CLASSES - 1
    assert list(streams) == list(range(1, CLASSES))
    for turn in range(1, 3):
        seen = in_turn(loaders_of(streams, kind=kind))
        assert seen == {label: source.of(label) for label in streams}
        assert batched or source.made == turn * COUNT
        assert streams.skipped == turn * len(source.of(0))
    assert set(streams.dropped.values()) == {0}
    del seen
    stop_threads()


def test_classes_one_after_another_where_the_buffer_holds_them(source):
    streams = StreamDataset(source).by_class(range(CLASSES), buffer=COUNT)
    for _ in range(2):
        seen = {label: list(stream) for label, stream in streams.items()}
        assert {label: [i for i, _ in seen[label]] for label in streams} == {
            label: source.of(label) for label in streams
        }
    assert source.made == 2 * COUNT


def test_consumers_in_threads_of_their_own(source):
    streams = StreamDataset(source).by_class(range(CLASSES), buffer=5)
    seen = {}

    def consume(label):
        seen[label] = [int(i) for batch in penstock.DataLoader(streams[label], 7) for i in batch[0]]

    threads = [threading.Thread(target=consume, args=(label,)) for label in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {label: source.of(label) for label in streams}
    assert source.made == COUNT


def test_a_full_buffer_drops_and_counts(source):
    streams = StreamDataset(source).by_class(range(CLASSES), buffer=100, on_full="drop")
    seen = [i for i, _ in streams[2]]
    assert seen[:100] == source.of(2)[:100]
    assert len(seen) + streams.dropped[2] == len(source.of(2))
    rest = [i for i, _ in streams[3]]
    assert rest == source.of(3)[:100]
    assert streams.dropped[3] == len(source.of(3)) - 100


def test_a_full_buffer_is_an_error(source):
    streams = StreamDataset(source).by_class(range(CLASSES), buffer=100, on_full="error")
    walks = {label: iter(stream) for label, stream in streams.items()}
    with pytest.raises(PenstockError, match=r"the consumer of class [^3] stands still"):
        list(walks[3])


def test_memory_is_bounded_while_one_class_stands_still():
    source = Source(100_000, 2)
    streams = StreamDataset(source).by_class([0, 1], buffer=10)
    walk = iter(streams[0])
    next(walk)
    time.sleep(0.05)
    assert source.made < 10_000
    del walk, streams
    stop_threads()


def test_a_thread_that_would_wait_for_itself_is_told(source):
    streams = StreamDataset(source).by_class([0, 1], buffer=10)
    walks = [iter(streams[0]), iter(streams[1])]
    next(walks[1])
    with pytest.raises(PenstockError, match="waits for class 0 is the one that should take class 1"):
        list(walks[0])
    assert next(walks[1]) is not None  # what lay ready
    with pytest.raises(PenstockError, match="waits for class 0"):
        list(walks[1])


def test_a_class_that_nobody_begins_is_warned_of(source, monkeypatch):
    monkeypatch.setattr("penstock.datasets.class_streams._PATIENCE_S", 0.1)
    streams = StreamDataset(source).by_class([0, 1], buffer=10)
    caught = []
    done = threading.Event()

    def warn(message, *arguments, **options):
        caught.append(str(message))
        done.set()

    monkeypatch.setattr("penstock.datasets.class_streams.warnings.warn", warn)
    thread = threading.Thread(target=lambda: list(streams[0]))
    thread.start()
    assert done.wait(10)
    rest = list(streams[1])
    thread.join()
    assert "class 1 has 10 samples ready" in caught[0]
    assert [i for i, _ in rest] == source.of(1)


def test_one_who_breaks_off_holds_up_nobody(source):
    streams = StreamDataset(source).by_class(range(2), buffer=200)
    for _ in penstock.DataLoader(streams[0], 4):
        break
    assert [i for i, _ in streams[1]] == source.of(1)
    assert in_turn(loaders_of(streams, 4)) == {label: source.of(label) for label in streams}


@pytest.mark.parametrize("after", [0, 1_500])
def test_a_failing_source_fails_every_class_after_what_came(source, after):
    def failing():
        for n, pair in enumerate(source()):
            if n == after:
                raise KeyError("half-way")
            yield pair

    streams = StreamDataset(failing).by_class(range(CLASSES), buffer=COUNT)
    for label in streams:
        walk = iter(streams[label])
        wanted = [i for i in source.of(label) if i < after]
        assert [i for i, _ in itertools.islice(walk, len(wanted))] == wanted
        with pytest.raises(KeyError, match="half-way"):
            next(walk)


def test_labels_of_every_kind():
    for label in (lambda i: f"c{i % 3}", lambda i: torch.tensor(i % 3), lambda i: np.int8(i % 3)):
        stream = StreamDataset(lambda label=label: ({"y": label(i), "x": i} for i in range(30)))
        wanted = "c1" if isinstance(label(1), str) else 1
        assert [each["x"] for each in stream.by_class([wanted])[wanted]] == list(range(1, 30, 3))
    stream = StreamDataset(lambda: ((i % 2, i) for i in range(10)))
    assert [x for _, x in stream.by_class([1], target=0)[1]] == [1, 3, 5, 7, 9]
    with pytest.raises(SchemaError, match="target="):
        list(StreamDataset([1, 2]).by_class([1])[1])


def test_bad_arguments(source):
    stream = StreamDataset(source)
    for options in ({"classes": []}, {"classes": [1], "buffer": 0}, {"classes": [1], "on_full": "wait"}):
        with pytest.raises(ArgumentError):
            stream.by_class(**options)
    streams = stream.by_class([1])
    with pytest.raises(KeyError):
        streams[2]
    assert "buffer=1024" in repr(streams)
    assert repr(streams[1]) == "ClassStream(1)"
    with pytest.raises(TypeError):
        len(penstock.DataLoader(streams[1]))


def test_worker_processes_are_refused(source, monkeypatch):
    monkeypatch.setattr("penstock.datasets.class_streams.get_worker_info", object)
    with pytest.raises(ArgumentError, match=r"filter\(\)"):
        iter(StreamDataset(source).by_class([1])[1])


def test_state_counts_batches(source):
    def loader():
        return penstock.DataLoader(StreamDataset(source).by_class([1])[1], 10)

    begun = loader()
    walk = iter(begun)
    for _ in range(3):
        next(walk)
    state = begun.state_dict()
    rest = [x.tolist() for x, _ in walk]
    fresh = loader()
    fresh.load_state_dict(state)
    assert [x.tolist() for x, _ in fresh] == rest


def test_a_shuffle_within_classes_is_reproducible(source):
    def order():
        streams = StreamDataset(source, shuffle_buffer=200, seed=3).by_class(range(CLASSES))
        return in_turn(loaders_of(streams))

    first = order()
    assert first == order()
    assert first[1] != source.of(1) == sorted(first[1])
