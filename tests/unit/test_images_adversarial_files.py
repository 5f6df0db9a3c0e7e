"""Folders of images that nobody would make on purpose: links, pipes, odd names, and files that change."""

import os
import pickle
import socket
import threading

import numpy as np
import pytest
import torch
from pictures import photograph, to_jpeg, to_pillow, to_png
from processes import start_python

import penstock
from penstock import _core
from penstock import transforms as T
from penstock.errors import FormatError, MissingFileError, PenstockError, ShardError

pytestmark = pytest.mark.skipif(
    not (_core.BUILD["jpeg"] and _core.BUILD["png"]), reason="needs a build with libjpeg-turbo and libspng"
)

SMALL = T.Compose([T.Resize((8, 9)), T.ToTensor()])
PIXELS = T.PILToTensor()
JPEG = to_jpeg(photograph(30, 20), quality=90)
PNG = to_png(to_pillow(photograph(30, 20, seed=1)))


@pytest.fixture
def root(tmp_path):
    """Two classes of three images of 30 x 20."""
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "images" / name / f"{number}.jpg").write_bytes(JPEG)
    return tmp_path / "images"


def long_ago(root):
    """So that a file system's clock can tell what happens next from what was."""
    for at, _, _ in os.walk(root, followlinks=True):
        os.utime(at, (1e9, 1e9))


def names_of(dataset):
    return [os.path.relpath(path, dataset.root) for path, _ in dataset.samples]


# links and what is no file ----------------------------------------------------------------------------------


def test_a_class_may_be_a_link(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(PNG)
    (root / "bee").symlink_to(tmp_path / "elsewhere")
    (root / "bee again").symlink_to("bee")
    dataset = penstock.ImageFolder(root, SMALL)
    assert dataset.classes == ["bee", "bee again", "cat", "dog"]
    assert names_of(dataset)[:2] == ["bee/a.png", "bee again/a.png"]
    assert torch.equal(dataset[0][0], dataset[1][0])


def test_a_link_to_a_folder_above_ends(root):
    (root / "cat" / "up").symlink_to("..")
    dataset = penstock.ImageFolder(root, SMALL)
    assert {name.split("/")[-1] for name in names_of(dataset)} == {"0.jpg", "1.jpg", "2.jpg"}
    assert dataset.gather([len(dataset) - 1])[0].shape == (1, 3, 8, 9)


def test_images_may_be_links(root, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (root / "cat" / "link.png").symlink_to(tmp_path / "a.png")
    dataset = penstock.ImageFolder(root, PIXELS)
    assert torch.equal(dataset[3][0], torch.from_numpy(photograph(30, 20, seed=1)).permute(2, 0, 1))


@pytest.mark.parametrize("target", ["nowhere.jpg", "loop.jpg"], ids=["dangling", "to itself"])
def test_a_link_that_leads_nowhere_is_named_or_left_out(root, target):
    (root / "cat" / "loop.jpg").symlink_to(target)
    dataset = penstock.ImageFolder(root, SMALL)
    with pytest.raises(ShardError, match=r"loop\.jpg: row 3\b"):
        dataset.gather(range(5))
    with pytest.warns(UserWarning, match=r"loop\.jpg"):
        assert len(penstock.ImageFolder(root, SMALL, on_error="skip")) == 6
    replaced = penstock.ImageFolder(root, SMALL, on_error="replace").gather(range(7))[0]
    assert replaced.shape == (7, 3, 8, 9)


def open_and_say(path, on_error):
    """Opens a folder in a process of its own, which may not hang; what came."""
    script = """
    import sys, warnings
    import penstock
    from penstock import transforms as T
    warnings.simplefilter("ignore")
    transform = T.Compose([T.Resize(8), T.CenterCrop(8), T.ToTensor()])
    try:
        dataset = penstock.ImageFolder(sys.argv[1], transform, on_error=sys.argv[2])
        print(len(dataset), tuple(dataset.gather(range(len(dataset)))[0].shape))
    except penstock.PenstockError as error:
        print(type(error).__name__, error.path)
    """
    process = start_python("", script, path, on_error)
    try:
        printed, complaint = process.communicate(timeout=30)
    except Exception:
        process.kill()
        process.communicate()
        pytest.fail("the process hangs")
    assert (process.returncode, complaint) == (0, "")
    return printed.strip()


@pytest.mark.parametrize("kind", ["pipe", "socket", "/dev/zero", "/dev/null"])
def test_what_is_no_regular_file_is_refused_at_once(root, kind):
    path = root / "cat" / "x.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # its address may not be long
        try:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(path.name)
        finally:
            os.chdir(here)
    else:
        path.symlink_to(kind)
    assert open_and_say(root, "raise") in (f"ShardError {path}", f"FormatError {path}")
    assert open_and_say(root, "skip") == "6 (6, 3, 8, 8)"


# names ------------------------------------------------------------------------------------------------------

ODD_NAMES = [
    b"caf\xe9.jpg", b"\xff\xfe.jpg", "Größe.jpg".encode(), "日本語.jpg".encode(), b"new\nline.jpg", b" .jpg",
    b"-rf.jpg", b"%s%n{0}.jpg", b"[bold]red.jpg", b"a" * 251 + b".jpg", b"quote'\".jpg", b"..jpg",
    b"\x01.JPG",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_names_of_any_bytes(root, name):
    """Of a file and of a class: found, read, pickled, and named when it is broken."""
    folder = os.fsencode(root) + b"/c" + name.removesuffix(b".jpg")[1:]
    os.mkdir(folder)
    path = folder + b"/" + name
    with open(path, "wb") as file:
        file.write(PNG)
    dataset = penstock.ImageFolder(root, PIXELS)
    (row,) = [k for k, (each, _) in enumerate(dataset.samples) if os.fsencode(each) == path]
    assert os.fsdecode(os.path.basename(folder)) in dataset.classes
    expected = torch.from_numpy(photograph(30, 20, seed=1)).permute(2, 0, 1)
    assert torch.equal(dataset[row][0], expected)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.samples == dataset.samples
    assert torch.equal(again[row][0], expected)
    listed = penstock.ImageDataset([os.fsdecode(path)], transform=PIXELS)
    assert torch.equal(listed[0], expected)
    with open(path, "wb") as file:
        file.write(b"no image")
    with pytest.raises(FormatError) as caught:
        dataset.gather([row])
    assert os.fsencode(caught.value.path) == path
    assert pickle.loads(pickle.dumps(caught.value)).path == caught.value.path
    with pytest.warns(UserWarning, match="1 of 7 images are left out"):
        skipping = penstock.ImageFolder(root, PIXELS, on_error="skip", allow_empty=True)
    assert [os.fsencode(each) for each, _ in skipping.skipped] == [path]


def test_labels_by_names_that_are_not_utf8(tmp_path):
    for name in (b"caf\xe9.jpg", b"tea.jpg"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(JPEG)
    labels = {os.fsdecode(b"caf\xe9.jpg"): 1, "tea": 0}
    dataset = penstock.ImageDataset(tmp_path, labels, SMALL)
    assert dataset.targets.tolist() == [1, 0]


def test_ten_thousand_classes(tmp_path):
    (tmp_path / "one.png").write_bytes(PNG)
    root = tmp_path / "images"
    for number in range(10_000):
        folder = f"{root}/n{number:05}"
        os.makedirs(folder)
        os.link(tmp_path / "one.png", f"{folder}/a.png")
    long_ago(root)
    for _ in range(2):
        dataset = penstock.ImageFolder(root, SMALL, index=tmp_path / "index")
        assert (len(dataset), len(dataset.classes), dataset.class_to_idx["n09999"]) == (10_000, 10_000, 9_999)
        assert (dataset.targets == np.arange(10_000)).all()
        assert dataset.gather([9_999, 0])[1].tolist() == [9_999, 0]


# files that change ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(31, 20), (29, 20), (60, 40), (1, 1)], ids=str)
def test_replaced_by_another_size_where_all_must_be_of_one(root, size):
    """Between the headers, which decide how large a sample is, and the pixels."""
    dataset = penstock.ImageFolder(root, PIXELS)
    expected = dataset.gather([0, 2])[0]
    path = root / "cat" / "1.jpg"
    path.write_bytes(to_jpeg(photograph(*size)))
    for _ in range(2):
        with pytest.raises(PenstockError, match=r"1\.jpg: row 1\b"):
            dataset.gather([0, 1, 2])
        with pytest.raises(PenstockError, match=r"1\.jpg: row 1\b"):
            dataset[1]
    assert torch.equal(dataset.gather([0, 2])[0], expected)


@pytest.mark.parametrize("size", [(31, 20), (7, 90)], ids=str)
def test_replaced_by_another_size_where_that_does_not_matter(root, size):
    dataset = penstock.ImageFolder(root, SMALL)
    (root / "cat" / "1.jpg").write_bytes(to_jpeg(photograph(*size)))
    assert torch.equal(dataset.gather([1])[0], penstock.ImageFolder(root, SMALL).gather([1])[0])


def test_a_jpeg_may_become_a_png_and_grow(root):
    """What a file is, its bytes say; and what follows the image is no part of it."""
    dataset = penstock.ImageFolder(root, PIXELS)
    before = dataset.gather([0])[0]
    for path, data in ((root / "cat" / "0.jpg", JPEG), (root / "cat" / "1.jpg", PNG)):
        path.write_bytes(data + b"\0" * 100_000)
    after = dataset.gather([0, 1])[0]
    assert torch.equal(after[:1], before)
    assert torch.equal(after[1], torch.from_numpy(photograph(30, 20, seed=1)).permute(2, 0, 1))


@pytest.mark.parametrize("way", ["in place", "by another file"])
def test_files_that_change_while_they_are_read(root, way, restore_threads):
    """Each batch is of whole images, or says which file is broken; never anything else."""
    penstock.set_num_threads(2)
    whole = [to_jpeg(photograph(30, 20, seed=seed), quality=95) for seed in range(2)]
    path = root / "cat" / "0.jpg"
    known = []
    dataset = penstock.ImageFolder(root, PIXELS, jpeg_warnings="error")
    for data in whole:
        path.write_bytes(data)
        known.append(dataset[0][0])
    contents = [*whole, whole[0][: len(whole[0]) // 2], b"", b"no image"]
    done = threading.Event()

    def change():
        number = 0
        while not done.is_set():
            data = contents[number % len(contents)]
            number += 1
            if way == "in place":
                path.write_bytes(data)
            else:
                path.with_suffix(".new").write_bytes(data)
                path.with_suffix(".new").replace(path)

    thread = threading.Thread(target=change)
    thread.start()
    read, refused = 0, 0
    try:
        while read < 20 or refused < 20:
            try:
                image = dataset.gather([3, 0, 4])[0][1]
            except (FormatError, ShardError) as error:
                refused += error.path == str(path)
                continue
            read += 1
            assert way == "in place" or any(torch.equal(image, each) for each in known)
    finally:
        done.set()
        thread.join()


def test_a_folder_that_is_gone(root):
    dataset = penstock.ImageFolder(root, SMALL)
    sent = pickle.dumps(dataset)
    root.rename(root.with_name("moved"))
    for each in (dataset, pickle.loads(sent)):
        assert len(each) == 6
        with pytest.raises(ShardError, match=r"0\.jpg: row 0\b"):
            each.gather([0])
    with pytest.raises(MissingFileError, match="images"):
        penstock.ImageFolder(root, SMALL)


@pytest.mark.parametrize("source", ["images", "./images", "images/../images", "images/.", "~/images"])
def test_a_relative_root_is_meant_from_where_it_was_opened(root, monkeypatch, source):
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("HOME", str(root.parent))
    dataset = penstock.ImageFolder(source, SMALL)
    monkeypatch.chdir("/")
    assert dataset.gather(range(6))[0].shape == (6, 3, 8, 9)


@pytest.mark.parametrize("end", ["/", "//", "/./"])
@pytest.mark.parametrize("with_index", [False, True])
def test_a_root_may_end_with_a_slash(root, tmp_path, end, with_index):
    dataset = penstock.ImageFolder(f"{root}{end}", SMALL, index=tmp_path / "index" if with_index else None)
    assert dataset.classes == ["cat", "dog"]
    assert [path for path, _ in dataset.samples] == [
        os.path.join(f"{root}{end}", name) for name in names_of(penstock.ImageFolder(root, SMALL))
    ]
    assert dataset.gather(range(6))[0].shape == (6, 3, 8, 9)
    flat = penstock.ImageDataset(f"{root}/cat{end}", transform=SMALL)
    assert flat.gather(range(3)).shape == (3, 3, 8, 9)


# index= -----------------------------------------------------------------------------------------------------


def both(root, index):
    """With the index, and without: the same."""
    dataset = penstock.ImageFolder(root, SMALL, index=index)
    assert dataset.samples == penstock.ImageFolder(root, SMALL).samples
    return names_of(dataset)


@pytest.fixture
def index(root, tmp_path):
    """Of the root, which has a class that is a link and one with folders in it."""
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "l.jpg").write_bytes(JPEG)
    (root / "link").symlink_to(tmp_path / "linked")
    (root / "dog" / "in" / "deep").mkdir(parents=True)
    (root / "dog" / "in" / "deep" / "d.jpg").write_bytes(JPEG)
    long_ago(root)
    both(root, tmp_path / "index")
    return tmp_path / "index"


def test_an_index_hears_of_changes_in_every_folder(root, index, tmp_path):
    (root / "dog" / "in" / "deep" / "new.jpg").write_bytes(JPEG)
    assert "dog/in/deep/new.jpg" in both(root, index)
    long_ago(root)
    both(root, index)
    (tmp_path / "linked" / "new.jpg").write_bytes(JPEG)
    assert "link/new.jpg" in both(root, index)
    long_ago(root)
    both(root, index)
    (root / "dog" / "in" / "deep" / "new.jpg").rename(root / "cat" / "moved.jpg")
    assert "cat/moved.jpg" in both(root, index)
    long_ago(root)
    both(root, index)
    (root / "cat").rename(root / "lion")
    assert penstock.ImageFolder(root, SMALL, index=index).classes == ["dog", "link", "lion"]


def test_an_index_hears_of_a_link_that_leads_elsewhere(root, index, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "o.jpg").write_bytes(JPEG)
    (root / "link").unlink()
    (root / "link").symlink_to(tmp_path / "other")
    assert "link/o.jpg" in both(root, index)


def test_an_index_hears_of_what_lies_behind_a_link_to_a_link(root, index, tmp_path):
    """The folder of classes stays as it is: what changes is the way from there."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.jpg").write_bytes(JPEG)
        os.utime(tmp_path / name, (1e9, 1e9))
    (tmp_path / "way").symlink_to("first")
    (root / "link").unlink()
    (root / "link").symlink_to(tmp_path / "way")
    assert "link/first.jpg" in both(root, index)
    long_ago(root)
    both(root, index)
    os.utime(tmp_path / "second", (1e9 + 5, 1e9 + 5))
    (tmp_path / "way").unlink()
    (tmp_path / "way").symlink_to("second")
    assert "link/second.jpg" in both(root, index)


def test_an_index_does_not_keep_contents(root, index):
    """A file of the same name is read as it is now; one that is gone is found missing with its folder."""
    (root / "cat" / "0.jpg").write_bytes(PNG)
    long_ago(root)
    dataset = penstock.ImageFolder(root, PIXELS, index=index)
    assert torch.equal(dataset[0][0], torch.from_numpy(photograph(30, 20, seed=1)).permute(2, 0, 1))
    (root / "cat" / "0.jpg").unlink()
    assert "cat/0.jpg" not in both(root, index)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
@pytest.mark.filterwarnings("ignore:.*index:UserWarning")
def test_a_damaged_index_is_made_anew(root, index, damage):
    data = index.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0xFF
    index.write_bytes({"empty": b"", "cut": data[:-9], "flipped": bytes(flipped)}[damage])
    assert "dog/in/deep/d.jpg" in both(root, index)
    assert index.read_bytes() == data


def test_what_is_no_index_is_not_written_over(root, index):
    index.write_bytes(b"hello, world")
    with pytest.raises(PenstockError, match="index"):
        penstock.ImageFolder(root, SMALL, index=index)
    assert index.read_bytes() == b"hello, world"


def test_an_index_that_cannot_be_kept(root, tmp_path):
    for path in (tmp_path / "nowhere" / "index", tmp_path / "images"):
        with pytest.raises(PenstockError, match=path.name):
            penstock.ImageFolder(root, SMALL, index=path)


def test_an_index_in_the_root_itself(root):
    for _ in range(2):
        dataset = penstock.ImageFolder(root, SMALL, index=root / "index")
        assert len(dataset) == 6


# files that are too large -----------------------------------------------------------------------------------


@pytest.fixture
def huge(root):
    """A file that is larger than any memory, and takes no room on the disk."""
    path = root / "cat" / "huge.jpg"
    with open(path, "wb") as file:
        try:
            file.truncate(1 << 40)
        except OSError:
            pytest.skip("this file system has no such files")
    return path


@pytest.mark.parametrize("options", [{}, {"mode": "unchanged"}, {"apply_exif_orientation": True}], ids=str)
def test_a_file_too_large_for_an_image_is_refused_before_memory_is_taken(root, huge, options):
    dataset = penstock.ImageFolder(root, SMALL, **options)
    (row,) = (row for row, (path, _) in enumerate(dataset.samples) if path == str(huge))
    with pytest.raises(FormatError, match=rf"{1 << 40} bytes") as refused:
        dataset.gather([row])
    assert refused.value.path == str(huge)
    assert refused.value.expected == f"{89_478_485 * 16 + (64 << 20)} bytes or fewer"
    assert refused.value.hint is not None
    assert "max_pixels" in refused.value.hint


@pytest.mark.parametrize("mode", ["RGB", "unchanged"])
@pytest.mark.filterwarnings("ignore:.*left out:UserWarning")
def test_a_file_too_large_for_an_image_is_left_out(root, huge, mode):
    dataset = penstock.ImageFolder(root, SMALL, on_error="skip", mode=mode)
    assert [path for path, _ in dataset.skipped] == [str(huge)]
    assert len(dataset) == 6
    assert dataset.gather(range(6))[0].shape == (6, 3, 8, 9)
