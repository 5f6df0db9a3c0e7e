"""The core's image functions: bad input is refused by name, and options do what they say."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from pictures import (
    RULE,
    by_pillow,
    chunk,
    photograph,
    to_jpeg,
    to_pillow,
    to_png,
    write_png,
)
from PIL import Image, ImageOps

import penstock
from penstock import _core
from penstock.errors import ArgumentError, FormatError, SchemaError

pytestmark = pytest.mark.skipif(
    not (_core.BUILD["jpeg"] and _core.BUILD["png"]), reason="needs a build with libjpeg-turbo and libspng"
)

PICTURE = photograph(100, 75)
FILES = {
    "baseline": to_jpeg(PICTURE, quality=90),
    "progressive": to_jpeg(PICTURE, quality=90, progressive=True),
    "restarts": to_jpeg(PICTURE, quality=90, restart_marker_blocks=5),
    "png": to_png(to_pillow(PICTURE)),
    "interlaced": write_png(PICTURE, interlaced=True),
    "palette": to_png(to_pillow(PICTURE).quantize(200)),
}
JPEGS = ("baseline", "progressive", "restarts")


@pytest.fixture(params=FILES)
def file(request):
    return FILES[request.param]


def frame_header(data):
    """Where the JPEG's SOF marker is."""
    return next(at for at in range(len(data)) if data[at : at + 2] in (b"\xff\xc0", b"\xff\xc2"))


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def as_tensor(capsule):
    return torch.from_dlpack(capsule)[0]


# bad input -------------------------------------------------------------------------------------------------


def test_truncated_anywhere(file):
    size = (
        file.index(b"IEND") - 8 if b"IEND" in file else len(file)
    )  # what lies behind PNG's pixels is not needed
    ends = {size * i // 50 for i in range(50)} | set(range(40)) | {size - 1, size - 2}
    for end in sorted(ends):
        with pytest.raises(FormatError):
            _core.decode_image(file[:end])


@pytest.mark.parametrize("name", JPEGS)
def test_truncated_and_closed_is_counted(name):
    """Half a JPEG with an end marker, which would be gray below, is noticed by libjpeg."""
    file = FILES[name][: len(FILES[name]) // 2] + b"\xff\xd9"
    pixels, num_warnings, first_warning = _core.decode_image(file)
    assert pixels.shape == PICTURE.shape
    assert num_warnings > 0
    assert first_warning
    with pytest.raises(FormatError, match="libjpeg's warning"):
        _core.decode_image(file, warnings="error")
    assert _core.decode_image(file, warnings="ignore")[1:] == (0, "")


def test_a_progressive_jpeg_that_is_closed_between_two_scans():
    """To libjpeg it is whole. (It smooths what is missing, and not every version does it alike.)"""
    file = FILES["progressive"]
    scans = [at for at in range(len(file)) if file[at : at + 2] == b"\xff\xda"]
    for start in scans[1:]:
        pixels, num_warnings, first_warning = _core.decode_image(file[:start] + b"\xff\xd9")
        assert pixels.shape == PICTURE.shape
        assert num_warnings > 0
        assert "lacks scans" in first_warning
    assert _core.decode_image(file)[1] == 0


def test_zeroed_blocks(file):
    """Nothing crashes, and whatever decodes has the size of the image."""
    for length in (1, 16, 64):
        for start in range(0, len(file) - length, max(1, len(file) // 50)):
            try:
                pixels, _, _ = _core.decode_image(patched(file, start, bytes(length)))
            except FormatError:
                continue
            assert pixels.ndim == 3
            assert pixels.size > 0


def test_any_byte_of_a_header_changed(file):
    for at in range(min(len(file), 700)):
        for value in (0, 255, file[at] ^ 1, file[at] ^ 128):
            try:
                _core.decode_image(patched(file, at, bytes([value])), max_pixels=100_000)
            except FormatError:
                continue


def test_png_checksums_are_checked():
    file = FILES["png"]
    at = file.index(b"IDAT") + 100
    with pytest.raises(FormatError):
        _core.decode_image(patched(file, at, bytes([file[at] ^ 1])))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file"),
        (b"RIFF\0\0\0\0WEBP", "WebP"),
        (b"\xff\x0a......", "JPEG XL"),
        (b"\xff\xd8", "begin with"),
        (b"hello, world", "hello"),
    ],
)
def test_not_an_image(data, found):
    with pytest.raises(FormatError, match="needed JPEG or PNG") as caught:
        _core.decode_image(data)
    assert found in str(caught.value)


def test_kinds_of_jpeg_that_are_refused_by_name():
    file = FILES["baseline"]
    at = frame_header(file)
    with pytest.raises(FormatError, match=r"(precision|found) 12"):
        _core.decode_image(patched(file, at + 4, b"\x0c"))
    with pytest.raises(FormatError, match="found arithmetic coding"):
        _core.decode_image(patched(file, at + 1, b"\xc9"))
    with pytest.raises(FormatError, match="SOF type 0xc3"):  # lossless
        _core.decode_image(patched(file, at + 1, b"\xc3"))


def test_two_components_are_refused():
    file = FILES["baseline"]
    at = frame_header(file)
    sof = struct.pack(">HBHHB", 14, 8, 75, 100, 2) + b"\x01\x11\x00\x02\x11\x00"
    file = file[: at + 2] + sof + file[at + 2 + 17 :]
    at = file.index(b"\xff\xda")
    sos = struct.pack(">HB", 10, 2) + b"\x01\x00\x02\x11\x00\x3f\x00"
    with pytest.raises(FormatError, match="1, 3 or 4 components, found 2"):
        _core.decode_image(file[: at + 2] + sos + file[at + 2 + 12 :])


def test_too_many_pixels():
    """A header alone is enough to refuse: nothing of that size is allocated."""
    file = FILES["baseline"]
    large = patched(file, frame_header(file) + 5, struct.pack(">HH", 65_500, 65_500))
    with pytest.raises(FormatError, match="89478485 pixels or fewer, found 65500 x 65500"):
        _core.decode_image(large)
    png = FILES["png"]
    for side in (65_500, 2**31 - 1):
        ihdr = struct.pack(">II", side, side) + png[24:29]
        with pytest.raises(FormatError, match=r"too large|overflow"):
            _core.decode_image(png[:8] + chunk(b"IHDR", ihdr) + png[33:])
    with pytest.raises(FormatError, match="needed 7499 pixels or fewer, found 100 x 75"):
        _core.decode_image(file, max_pixels=7_499)
    assert _core.decode_image(file, max_pixels=7_500)[0].shape == PICTURE.shape


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP"])
def test_text_that_inflates_without_end(name):
    """A few KB of text or profile that would become 50 MB are refused; they are not even asked for."""
    extra = chunk(name, b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    with pytest.raises(FormatError, match="limits"):
        _core.decode_image(write_png(PICTURE, extra=extra))


def test_a_jpeg_of_too_many_scans():
    """Each scan is a walk over the whole image, for a dozen bytes: 2,000 of them are an attack."""
    file = FILES["progressive"]
    start = file.rindex(b"\xff\xda")
    scan = file[start:-2]
    with pytest.raises(FormatError, match="more than 500 scans"):
        _core.decode_image(file[:-2] + scan * 2_000 + b"\xff\xd9")


# options ---------------------------------------------------------------------------------------------------


def test_info(file):
    form = "jpeg" if file in [FILES[name] for name in JPEGS] else "png"
    assert _core.image_info(file) == (form, 100, 75, 3, 1)
    assert _core.image_info(file, "L") == (form, 100, 75, 1, 1)


def test_16_bits_are_asked_for_and_not_there(file):
    with pytest.raises(FormatError, match="needed 16 bits a sample, found 8"):
        _core.decode_image(file, bits=16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation):
    image = to_pillow(PICTURE)
    image.getexif()[0x0112] = orientation
    for file in (to_png(image, exif=image.getexif()), to_jpeg(PICTURE, exif=image.getexif())):
        with Image.open(io.BytesIO(file)) as stored:
            upright = ImageOps.exif_transpose(stored)
        assert _core.image_info(file, orientation=True)[1:3] == upright.size
        assert _core.image_info(file, orientation=True)[4] == orientation
        assert _core.image_info(file)[4] == 1
        pixels, _, _ = _core.decode_image(file, orientation=True)
        np.testing.assert_array_equal(pixels, np.asarray(upright))
        crop, _, _ = _core.decode_image(file, orientation=True, crop=(11, 20, 40, 30))
        np.testing.assert_array_equal(crop, pixels[20:50, 11:51])
        np.testing.assert_array_equal(_core.decode_image(file)[0], by_pillow(file))


@pytest.mark.parametrize("size", [0, 5, 6, 7, 13, 25, 26])
def test_exif_that_is_cut_short_tells_nothing(size):
    exif = struct.pack("<2sHIH HHIHH", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0)[: max(0, size)]
    assert _core.image_info(to_jpeg(PICTURE, exif=b"Exif\0\0" + exif), orientation=True)[4] in (1, 6)


def test_fast_is_near_to_exact():
    """At most 8 levels off on average on this noisy picture, and the same where nothing shrinks."""
    file = to_jpeg(photograph(500, 375), quality=90)
    exact = _core.ImagePipeline(dtype="uint8", rule=RULE)
    fast = _core.ImagePipeline(dtype="uint8", rule=RULE, decode="fast")
    for crop, size in [(None, (60, 40)), ((3, 5, 301, 250), (100, 100)), ((13, 7, 441, 333), (50, 40))]:
        a, b = (as_tensor(each.run(file, crop=crop, resize=size)[0]).float() for each in (exact, fast))
        assert 0 < (a - b).abs().mean() < 8
    a, b = (as_tensor(each.run(file, resize=(300, 200))[0]) for each in (exact, fast))
    assert torch.equal(a, b)


def test_gray_becomes_three_channels():
    file = to_jpeg(photograph(20, 10, 1))
    pipeline = _core.ImagePipeline(dtype="uint8")
    got = as_tensor(pipeline.run(file)[0])
    np.testing.assert_array_equal(got.permute(1, 2, 0).numpy(), by_pillow(file))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dtype": "int64"}, "cannot become that dtype"),
        ({"dtype": "uint16"}, "cannot become that dtype"),
        ({"bits": 16, "dtype": "uint8"}, "cannot become that dtype"),
        ({"dtype": "uint8", "mean": [0.5] * 3, "std": [0.5] * 3}, "only floats"),
        ({"mean": [0.5]}, "do not fit the channels"),
        ({"mean": [0.5] * 3, "std": [0.5, 0.0, 0.5]}, "must be positive"),
        ({"mean": [0.5] * 3, "std": [0.5, float("nan"), 0.5]}, "must be positive"),
        ({"mode": "HSV"}, "needed unchanged, L, RGB, found HSV"),
        ({"filter": "lanczos"}, "needed bilinear, bicubic"),
        ({"rule": "9"}, "needed 11, 12, 13"),
        ({"decode": "slow"}, "needed exact, fast"),
        ({"warnings": "print"}, "needed count, error, ignore"),
        ({"bits": 12}, "8 or 16 bits"),
        ({"max_pixels": 0}, "1 or more"),
    ],
)
def test_options_that_cannot_be(options, match):
    with pytest.raises(ArgumentError, match=match):
        _core.ImagePipeline(**options)


@pytest.mark.parametrize("channels", [0, 5, -1])
def test_channels_that_cannot_be(channels):
    with pytest.raises(ArgumentError, match="1 to 4"):
        _core.ImagePipeline(channels=channels)


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        ({"crop": (0, 0, 101, 75)}, "a part of 100 x 75, found 101 x 75 at 0, 0"),
        ({"crop": (-1, 0, 5, 5)}, "not inside"),
        ({"crop": (0, 0, 0, 5)}, "empty"),
        ({"crop": (2**31 - 1, 0, 2**31 - 1, 5)}, "not inside"),
        ({"resize": (0, 5)}, "a width and a height of 1 or more"),
        ({"resize": (5, 5), "window": (3, 0, 3, 5)}, "a part of 5 x 5"),
        ({"window": (0, 0, 101, 5)}, "a part of 100 x 75"),
    ],
)
def test_plans_that_do_not_fit(plan, match):
    with pytest.raises(ArgumentError, match=match):
        _core.ImagePipeline().run(FILES["png"], **plan)


def test_another_number_of_channels():
    pipeline = _core.ImagePipeline(mode="unchanged", channels=3)
    with pytest.raises(SchemaError, match="needed 3, found 4"):
        pipeline.run(to_png(to_pillow(photograph(10, 10, 4))))


@pytest.mark.parametrize("shape", [(5, 5), (0, 5, 3), (5, 5, 5)])
def test_resize_of_no_pixels(shape):
    with pytest.raises(SchemaError, match="no pixels"):
        _core.resize_pixels(np.zeros(shape, np.uint8), 3, 3)


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, 6, 5), (-1, 0, 3, 3), (0, float("nan"), 3, 3)])
def test_resize_of_a_box_that_is_not_inside(box):
    with pytest.raises(ArgumentError, match="empty or not inside"):
        _core.resize_pixels(np.zeros((5, 5, 3), np.uint8), 3, 3, box=box)


def test_config_names_the_libraries():
    text = penstock.show_config()
    assert f"jpeg: {_core.BUILD['jpeg']}" in text
    assert f"png: {_core.BUILD['png']}" in text
