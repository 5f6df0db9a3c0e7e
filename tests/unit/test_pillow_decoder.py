"""Pillow in the core's threads: its pixels for all that the core does not decode itself, and its dangers."""

import gc
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from pictures import by_pillow, from_pillow, photograph, to_jpeg, to_pillow, to_png
from PIL import Image, ImageOps
from processes import start_python

import penstock
from penstock import _core, pillow
from penstock import transforms as T
from penstock.errors import FormatError

PICTURE = to_pillow(photograph(100, 75))
TWO = T.Compose([T.Resize((24, 32)), T.PILToTensor()])
RANDOM = T.Compose([T.RandomResizedCrop(16), T.RandomHorizontalFlip(), T.ToTensor()])


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


FORMS = {
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "1", "P"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "I;16", "F"),
    "GIF": ("P", "L", "1"),
    "PPM": ("RGB", "L", "1"),
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "1", "P", "I;16"),
}
FILES = {
    (form, mode): encoded(PICTURE.convert(mode), form) for form, modes in FORMS.items() for mode in modes
}
UNCHANGED = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4, "CMYK": 4, "I;16": 1, "F": 1}


@pytest.fixture
def without_libraries():
    _core.use_image_libraries(False)
    yield
    _core.use_image_libraries(True)


@pytest.fixture
def opener():
    """Puts another function in Pillow's place."""
    yield _core.set_image_opener
    _core.set_image_opener(pillow.open_image)


@pytest.fixture
def folder(tmp_path):
    """One image of every form that a file's name may tell, all of one class."""
    suffixes = {"WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm", "JPEG": "jpg", "PNG": "png"}
    (tmp_path / "class").mkdir()
    for (form, mode), data in FILES.items():
        if form in suffixes:
            (tmp_path / "class" / f"{form}-{UNCHANGED[mode]}-{mode[0]}.{suffixes[form]}").write_bytes(data)
    return tmp_path


def expected_of(dataset, transform):
    images = []
    for path, _ in dataset.samples:
        with Image.open(path) as image:
            images.append(transform(image.convert("RGB")))
    return torch.stack(images)


# pixels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=" ".join)
@pytest.mark.parametrize("crop", [None, (13, 7, 50, 41)])
def test_pixels_are_pillows(file, crop, without_libraries):
    for mode in ("RGB", "L"):
        expected = by_pillow(FILES[file], mode)
        pixels, warnings, _ = _core.decode_image(FILES[file], mode, crop=crop)
        if crop is not None:
            expected = expected[7:48, 13:63]
        assert warnings == 0
        assert np.array_equal(np.broadcast_to(pixels, expected.shape), expected)
    pixels = _core.decode_image(FILES[file], "unchanged")[0]
    with Image.open(io.BytesIO(FILES[file])) as image:
        channels = UNCHANGED[image.mode]
        assert pixels.shape == (75, 100, channels)
        if image.mode in ("LA", "RGBA", "CMYK"):
            assert np.array_equal(pixels, from_pillow(image))


def test_the_cores_own_decoders_give_the_same(without_libraries):
    for data in (to_jpeg(photograph(40, 30)), to_png(PICTURE.quantize(20), transparency=3), to_png(PICTURE)):
        for mode in ("RGB", "L", "unchanged"):
            _core.use_image_libraries(False)
            by_python = _core.decode_image(data, mode)[0]
            _core.use_image_libraries(True)
            assert np.array_equal(_core.decode_image(data, mode)[0], by_python)


def test_16_bits(without_libraries):
    gray = np.random.default_rng(0).integers(0, 2**16, (9, 8, 1), np.uint16)
    for form in ("PNG", "TIFF"):
        assert np.array_equal(_core.decode_image(encoded(to_pillow(gray), form), bits=16)[0], gray)
    with pytest.raises(FormatError, match="no gray samples of 16 bits"):
        _core.decode_image(FILES["PNG", "RGB"], bits=16)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["WEBP", "JPEG", "PNG"])
def test_orientation(form, orientation, without_libraries):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PICTURE, form, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(_core.decode_image(data)[0], from_pillow(image))
        upright = from_pillow(ImageOps.exif_transpose(image))
    assert np.array_equal(_core.decode_image(data, orientation=True)[0], upright)


def test_alpha_is_resized_as_pillow_does():
    data = encoded(to_pillow(photograph(60, 40, 4)), "TIFF")
    pipeline = _core.ImagePipeline(mode="unchanged", channels=4, dtype="uint8", channels_last=True)
    capsule, _, _ = pipeline.run(data, resize=(17, 23))
    with Image.open(io.BytesIO(data)) as image:
        expected = from_pillow(image.resize((17, 23), Image.Resampling.BILINEAR))
    assert np.array_equal(torch.from_dlpack(capsule)[0].numpy(), expected)


# batches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_of_every_form(folder, threads):
    dataset = penstock.ImageFolder(folder, TWO)
    assert "by the core" in dataset.explain()
    expected = expected_of(dataset, TWO)
    before = penstock.get_num_threads()
    try:
        penstock.set_num_threads(threads)
        assert torch.equal(dataset.gather(range(len(dataset)))[0], expected)
        loader = penstock.DataLoader(dataset, 4, num_threads=threads)
        assert torch.equal(torch.cat([images for images, _ in loader]), expected)
    finally:
        penstock.set_num_threads(before)
    assert dataset.header_sizes()[0].tolist() == [[100, 75]] * len(dataset)


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers(folder, context):
    dataset = penstock.ImageFolder(folder, RANDOM)
    dataset.set_epoch(2)
    expected = dataset.gather(range(len(dataset)))[0]
    stock = torch.utils.data.DataLoader(dataset, 5, num_workers=1, multiprocessing_context=context)
    assert torch.equal(torch.cat([images for images, _ in stock]), expected)


def test_the_same_without_libraries(folder, without_libraries):
    dataset = penstock.ImageFolder(folder, RANDOM)
    dataset.set_epoch(1)
    got = dataset.gather(range(len(dataset)))[0]
    _core.use_image_libraries(True)
    assert torch.equal(dataset.gather(range(len(dataset)))[0], got)


# bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=" ".join)
def test_truncated(file, without_libraries):
    """Pillow's decoders want all of it, but for what lies behind the pixels."""
    data = FILES[file]
    for end in (0, 1, 5, 16, 30, len(data) // 2, len(data) * 3 // 4):
        with pytest.raises(FormatError):
            _core.decode_image(data[:end])


@pytest.mark.parametrize("file", FILES, ids=" ".join)
def test_any_bytes_changed(file, without_libraries):
    """Either pixels or a FormatError."""
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(FILES[file])
        at = random.integers(0, min(len(data), 300 if random.random() < 0.7 else len(data)))
        data[at] = random.integers(0, 256)
        try:
            pixels, _, _ = _core.decode_image(bytes(data), max_pixels=100_000)
        except FormatError:
            continue
        assert pixels.size > 0


@pytest.mark.parametrize(
    ("data", "match"), [(b"BM......", "Pillow cannot"), (b"GIF89a....", "Pillow cannot")]
)
def test_broken_headers(data, match):
    with pytest.raises(FormatError, match=match):
        _core.decode_image(data)


def test_too_many_pixels():
    header = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0
    )
    for data, size in ((header, "60000 x 60000"), (b"P6\n60000 60000\n255\n", "60000 x 60000")):
        with pytest.raises(FormatError, match=f"too large.*found {size}"):
            _core.decode_image(data)
    with pytest.raises(FormatError, match="needed 7499 pixels or fewer, found 100 x 75"):
        _core.decode_image(FILES["BMP", "RGB"], max_pixels=7_499)


def test_pillows_own_limit_is_not_in_the_way(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert _core.decode_image(FILES["BMP", "RGB"])[0].shape == (75, 100, 3)


def test_formats_that_run_programs_are_not_opened():
    with pytest.raises(FormatError, match=r"not an image that can be decoded.*Pillow"):
        _core.decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def test_without_pillow(opener):
    opener(lambda *_: None)
    with pytest.raises(FormatError, match="found BMP"):
        _core.decode_image(FILES["BMP", "RGB"])
    if _core.BUILD["png"]:
        assert _core.decode_image(to_png(PICTURE))[0].shape == (75, 100, 3)


# what Python raises ----------------------------------------------------------------------------------------


def raising(error):
    def decode(*_):
        raise error

    return lambda *_: (100, 75, 3, False, 1, decode)


def test_what_pillow_raises_names_the_file(folder, opener):
    dataset = penstock.ImageFolder(folder, TWO, on_error="raise")
    row = next(i for i, (path, _) in enumerate(dataset.samples) if path.endswith("bmp"))
    opener(raising(ValueError("it is blue")))
    for ask in (lambda: dataset.gather([row]), lambda: list(penstock.DataLoader(dataset, 8))):
        with pytest.raises(FormatError, match=r"\.bmp: row \d+: Pillow cannot decode it: it is blue"):
            ask()
    opener(raising(KeyError()))
    with pytest.raises(FormatError, match="KeyError"):
        dataset.gather([row])
    opener(raising(MemoryError()))
    with pytest.raises(MemoryError):
        dataset.gather([row])


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("on_error", ["raise", "replace"])
def test_what_is_not_the_images_fault(folder, opener, raised, on_error):
    dataset = penstock.ImageFolder(folder, TWO, on_error=on_error)
    row = next(i for i, (path, _) in enumerate(dataset.samples) if path.endswith("bmp"))
    opener(raising(raised()))
    with pytest.raises(raised):
        dataset.gather([row])
    pending = _core.Pending(dataset.table.core, np.array([row]))
    for _ in range(2):
        with pytest.raises(raised):
            pending.wait()
    assert dataset.skipped == []


@pytest.mark.parametrize("given", [(0, 75, 3), (100, 10**9, 3), (100, 75, 4)])
def test_an_opener_that_lies(opener, given):
    opener(lambda *_: (*given, False, 1, lambda *_: bytes(100 * 75)))
    with pytest.raises(FormatError):
        _core.decode_image(FILES["BMP", "RGB"], "unchanged")


# threads ---------------------------------------------------------------------------------------------------


class Slow:
    """An opener that tells when a thread is inside, and lets none out before it may."""

    def __init__(self):
        self.inside, self.may_leave, self.threads = threading.Event(), threading.Event(), set()

    def __call__(self, *arguments):
        self.threads.add(threading.get_ident())
        self.inside.set()
        assert self.may_leave.wait(30)
        return pillow.open_image(*arguments)


def test_a_dropped_batch_that_its_own_thread_collects(folder, opener):
    """Garbage that ends in a decoder's Python code must not wait for that decoder."""
    dataset = penstock.ImageFolder(folder, TWO)
    rows = np.array([i for i, (path, _) in enumerate(dataset.samples) if path.endswith("bmp")][:1])
    slow = Slow()
    cycle = [_core.Pending(dataset.table.core, rows)]
    cycle.append(cycle)

    def collecting(*arguments):
        slow(*arguments)
        gc.collect()
        collected.set()

    collected = threading.Event()
    opener(collecting)
    cycle[0].submit()
    assert slow.inside.wait(30)
    del cycle
    slow.may_leave.set()
    assert collected.wait(30)
    assert threading.get_ident() not in slow.threads
    opener(pillow.open_image)
    assert dataset.gather(rows)[0].shape == (1, 3, 24, 32)


def test_a_batch_is_called_off_while_it_is_decoded(folder, opener):
    dataset = penstock.ImageFolder(folder, TWO)
    slow = Slow()
    opener(slow)
    pending = _core.Pending(dataset.table.core, np.arange(len(dataset)))
    pending.submit()
    assert slow.inside.wait(30)
    threading.Timer(0.05, slow.may_leave.set).start()
    del pending


def test_a_fork_while_threads_decode(folder, opener):
    """The child makes its batches itself."""
    dataset = penstock.ImageFolder(folder, TWO)
    expected = dataset.gather(range(len(dataset)))[0].numpy()  # torch's own threads do not survive a fork
    slow = Slow()
    opener(slow)
    pending = _core.Pending(dataset.table.core, np.arange(len(dataset)))
    pending.submit()
    assert slow.inside.wait(30)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            _core.set_image_opener(pillow.open_image)
            same = np.array_equal(torch.from_dlpack(pending.take()[0]).numpy(), expected)
            _core.close_image_opener()
            status = 0 if same else 2
        finally:
            os._exit(status)
    slow.may_leave.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(torch.from_dlpack(pending.take()[0]).numpy(), expected)


# the end of a process --------------------------------------------------------------------------------------

PROGRAM = """
import atexit, sys, threading, time
class Late:
    pass
atexit.register(lambda: Late.run() if hasattr(Late, "run") else None)  # runs after penstock's own
import numpy as np
import penstock
from penstock import transforms as T
dataset = penstock.ImageFolder(sys.argv[1], T.Compose([T.Resize(24), T.CenterCrop(24), T.ToTensor()]))
rows = np.tile(np.arange(len(dataset)), 20)
penstock._core.use_image_libraries(False)
penstock.set_num_threads(4)
"""

ENDS = {
    "a loader is half way": "batches = iter(penstock.DataLoader(dataset, 8, sampler=rows)); next(batches)",
    "a batch is half way": "p = [penstock._core.Pending(dataset.table.core, rows) for _ in range(5)]\n"
    "for each in p: each.submit()\ntime.sleep(0.05)",
    "a daemon thread decodes": "def forever():\n  try:\n    while True: dataset.table.core.gather(rows)\n"
    "  except penstock.errors.ShardError: pass\n"
    "threading.Thread(target=forever, daemon=True).start(); time.sleep(0.2)",
    "an exit handler decodes": "atexit.register(lambda: dataset.gather(rows))",
    "a late exit handler decodes": "def late():\n  try: dataset.gather(rows)\n"
    "  except penstock.errors.ShardError as error: print(error)\nLate.run = late",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_process_ends_while(folder, end):
    command = [sys.executable, "-c", PROGRAM + ENDS[end], str(folder)]  # which imports penstock when it does
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stderr) == (0, "")
    assert ("Python is about to end" in process.stdout) == ("late" in end)


def test_ctrl_c_while_images_are_decoded(folder):
    script = """
    try:
        print("ready", flush=True)
        while True:
            dataset.gather(rows)
    except KeyboardInterrupt:
        print(dataset.gather([0])[0].shape[0])
    """
    process = start_python(PROGRAM, script, folder)
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=20)
        assert (process.returncode, printed, complaint) == (0, "1\n", "")
    finally:
        process.kill()


def test_once_it_is_closed():
    process = start_python(
        "import io, sys, penstock\nfrom PIL import Image\n",
        """
        file = io.BytesIO()
        Image.new("RGB", (5, 5)).save(file, "BMP")
        penstock._core.close_image_opener()
        try:
            penstock._core.decode_image(file.getvalue())
        except penstock.errors.ShardError as error:
            print(error)
        """,
    )
    printed, complaint = process.communicate(timeout=60)
    assert "Pillow cannot decode any more images" in printed, complaint


def test_the_config_says_who_decodes(monkeypatch):
    assert f"others: Pillow {Image.__version__}" in penstock.show_config()
    monkeypatch.setitem(_core.BUILD, "jpeg", "")
    assert f"jpeg: Pillow {Image.__version__}" in penstock.show_config()
