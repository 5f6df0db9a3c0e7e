"""Images in every kind of process and loader: what is random, what is resumed, what is broken off."""

import copy
import multiprocessing
import os
import pickle
import signal
import threading
import time

import pytest
import torch
from pictures import photograph, to_jpeg
from processes import start_python
from reference import assert_same
from stress.test_processes import in_a_fork
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler

import penstock
from penstock import _core
from penstock import transforms as T
from penstock.errors import FormatError, ShardError

pytestmark = [
    pytest.mark.skipif(
        not (_core.BUILD["jpeg"] and _core.BUILD["png"]),
        reason="needs a build with libjpeg-turbo and libspng",
    ),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

RANDOM = T.Compose([T.RandomResizedCrop(8), T.RandomHorizontalFlip(), T.ToTensor()])
IMAGES = 24


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory):
    """24 images of three classes, all different."""
    root = tmp_path_factory.mktemp("images")
    for number in range(IMAGES):
        path = root / f"class {number % 3}" / f"{number:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(to_jpeg(photograph(40, 30, seed=number)))
    return root


@pytest.fixture
def dataset(shared_root):
    return penstock.ImageFolder(shared_root, RANDOM, seed=4)


def pixels(loader):
    return torch.cat([images for images, _ in loader])


# worker processes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_crop_as_the_loop_would(dataset, method):
    dataset.set_epoch(5)
    expected = dataset.gather(range(IMAGES))[0]
    loader = DataLoader(dataset, 5, num_workers=2, multiprocessing_context=method)
    assert torch.equal(pixels(loader), expected)


def test_workers_draw_other_numbers_each_epoch_and_each_from_the_other(shared_root, tmp_path):
    """Without set_epoch: torch's, which each worker has of its own; and again the same from the same seed."""
    dataset = penstock.ImageDataset([shared_root / "class 0" / "00.jpg"] * 4, transform=RANDOM)
    loader = DataLoader(dataset, 2, num_workers=2, multiprocessing_context="fork")
    torch.manual_seed(1)
    first, second = torch.cat(list(loader)), torch.cat(list(loader))
    assert len({tuple(image.flatten().tolist()) for image in [*first, *second]}) == 8
    torch.manual_seed(1)
    assert torch.equal(torch.cat(list(loader)), first)


def test_an_epoch_is_heard_of_by_workers_that_are_made_for_it(dataset):
    loader = DataLoader(dataset, 8, num_workers=1, multiprocessing_context="fork")
    got = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        got.append(pixels(loader))
    assert torch.equal(got[0], got[2])
    assert not torch.equal(got[0], got[1])


def test_what_is_broken_is_said_by_a_worker(shared_root, tmp_path):
    path = tmp_path / "class" / "broken.jpg"
    path.parent.mkdir()
    path.write_bytes(b"no image")
    dataset = penstock.ImageFolder(tmp_path, RANDOM)
    loader = DataLoader(dataset, 1, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(FormatError, match=r"class/broken\.jpg: row 0"):
        list(loader)


def test_forks_while_other_threads_decode(dataset):
    dataset.set_epoch(1)
    expected = dataset.gather(range(IMAGES))[0]
    done = threading.Event()

    def decode():
        while not done.is_set():
            dataset.gather(range(IMAGES))

    threads = [threading.Thread(target=decode) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            in_a_fork(lambda: assert_same(dataset.gather(range(IMAGES))[0], expected))
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_threads_that_gather_at_once_get_the_same(dataset):
    dataset.set_epoch(1)
    expected = dataset.gather(range(IMAGES))[0]
    wrong = []

    def gather(first):
        rows = [(first + k) % IMAGES for k in range(IMAGES)]
        for _ in range(5):
            if not torch.equal(dataset.gather(rows)[0], expected[rows]):
                wrong.append(first)

    threads = [threading.Thread(target=gather, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def opened_in_another_process(dataset, pipe):
    dataset.set_epoch(2)
    pipe.send((dataset.samples, dataset.gather([3])[0].tolist(), dataset.skipped))
    pipe.close()


def test_sent_to_a_spawned_process(dataset):
    ours, its_end = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=opened_in_another_process, args=(dataset, its_end)
    )
    process.start()
    its_end.close()
    samples, image, skipped = ours.recv()
    process.join()
    dataset.set_epoch(2)
    assert (samples, skipped) == (dataset.samples, [])
    assert image == dataset.gather([3])[0].tolist()


# copies and parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_is_on_its_own(dataset, copied):
    dataset.set_epoch(1)
    before = dataset.gather(range(IMAGES))[0]
    other = copied(dataset)
    assert torch.equal(other.gather(range(IMAGES))[0], before)
    other.set_epoch(2)
    assert torch.equal(dataset.gather(range(IMAGES))[0], before)
    assert not torch.equal(other.gather(range(IMAGES))[0], before)


def test_a_part_hears_of_the_epoch_of_the_whole(dataset):
    """As with torch's Subset, which asks the dataset."""
    parts = [dataset.subset([5, 6]), *penstock.random_split(dataset, [0.5, 0.5], seed=0)]
    stock = Subset(dataset, [5, 6])
    for epoch in (3, 4):
        dataset.set_epoch(epoch)
        expected = dataset.gather(range(IMAGES))[0]
        assert torch.equal(pixels(DataLoader(stock, 2)), expected[[5, 6]])
        assert torch.equal(parts[0].gather([0, 1])[0], expected[[5, 6]])
        for part in parts[1:]:
            assert sorted(part.gather(range(len(part)))[0].sum(dim=(1, 2, 3)).tolist()) == sorted(
                image.sum().item() for image in expected if any(torch.equal(image, x) for x, _ in part)
            )


def test_a_split_keeps_classes_and_loads_ahead(dataset):
    train, test = penstock.random_split(dataset, [18, 6], stratify=dataset.targets, seed=1)
    assert train.classes == test.classes == dataset.classes
    assert sorted(test.targets.tolist()) == [0, 0, 1, 1, 2, 2]
    loader = penstock.DataLoader(train, 5, shuffle=True, seed=2)
    targets = torch.cat([labels for _, labels in loader])
    assert sorted(targets.tolist()) == sorted(train.targets.tolist())


def test_a_sample_that_is_drawn_twice_in_an_epoch_is_cropped_alike(dataset):
    """What is random goes by seed, epoch and sample, not by the place in the epoch."""
    dataset.set_epoch(0)
    torch.manual_seed(0)
    weights = [1.0] + [0.0] * (IMAGES - 1)
    loader = penstock.DataLoader(dataset, 8, sampler=WeightedRandomSampler(weights, 8), seed=0)
    ((images, _),) = loader
    assert len({tuple(image.flatten().tolist()) for image in images}) == 1


# resumed and broken off ----------------------------------------------------------------------------------


@pytest.mark.parametrize("on_error", ["raise", "replace"])
@pytest.mark.parametrize("part", [False, True])
def test_resumed_in_the_middle_of_any_epoch(shared_root, part, on_error):
    def loader():
        dataset = penstock.ImageFolder(shared_root, RANDOM, seed=9, on_error=on_error)
        if part:
            dataset = penstock.random_split(dataset, [16, 8], seed=3)[0]
        return penstock.DataLoader(dataset, 3, shuffle=True, seed=1)

    whole = loader()
    epochs = [list(whole) for _ in range(3)]
    for epoch, batches in enumerate(epochs):
        for taken in range(1, len(batches)):
            begun = loader()
            for _ in range(epoch):
                list(begun)
            walk = iter(begun)
            for _ in range(taken):
                next(walk)
            resumed = loader()
            resumed.load_state_dict(pickle.loads(pickle.dumps(begun.state_dict())))
            rest = list(resumed)
            assert len(rest) == len(batches) - taken
            for (images, targets), (again, again_targets) in zip(batches[taken:], rest, strict=True):
                assert torch.equal(images, again)
                assert torch.equal(targets, again_targets)


def test_a_broken_image_comes_in_its_turn_and_the_epoch_goes_on(shared_root, tmp_path):
    names = [shared_root / f"class {number % 3}" / f"{number:02}.jpg" for number in range(6)]
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    dataset = penstock.ImageDataset([*names[:2], tmp_path / "broken.jpg", *names[2:]], transform=RANDOM)
    walk, seen = iter(penstock.DataLoader(dataset, 1, seed=0)), []
    for place in range(7):
        try:
            seen.append(len(next(walk)))
        except FormatError as error:
            seen.append(os.path.basename(error.path))
        assert len(seen) == place + 1
    assert seen == [1, 1, "broken.jpg", 1, 1, 1, 1]
    with pytest.raises(StopIteration):
        next(walk)


def test_files_that_vanish_in_an_epoch_are_named(shared_root, tmp_path):
    for number in range(6):
        os.link(shared_root / f"class {number % 3}" / f"{number:02}.jpg", tmp_path / f"{number}.jpg")
    dataset = penstock.ImageDataset(tmp_path, transform=RANDOM)
    walk = iter(penstock.DataLoader(dataset, 1, prefetch_factor=1, seed=0))
    next(walk)
    (tmp_path / "5.jpg").unlink()
    with pytest.raises(ShardError, match=r"5\.jpg: row 5\b"):
        list(walk)


def test_ctrl_c_while_images_are_decoded(tmp_path):
    """The process ends as Python does, long before 30 seconds of work are done."""
    (tmp_path / "large.jpg").write_bytes(to_jpeg(photograph(1500, 1000)))
    script = """
    import sys
    import penstock
    from penstock import transforms as T
    penstock.set_num_threads(2)
    transform = T.Compose([T.Resize((64, 64)), T.ToTensor()])
    dataset = penstock.ImageDataset([sys.argv[1]] * 2_000, transform=transform)
    loader = penstock.DataLoader(dataset, 50)
    print("go", flush=True)
    list(loader)
    print("done")
    """
    process = start_python("", script, tmp_path / "large.jpg")
    try:
        assert process.stdout.readline() == "go\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=40)
    finally:
        process.kill()
    assert printed == ""
    assert process.returncode == -signal.SIGINT
    assert complaint.rstrip().endswith("KeyboardInterrupt")
