"""Decoded, cropped, resized and flipped pixels are Pillow's, what becomes of them is torch's: to the bit."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pictures import (
    FILTERS,
    RULE,
    by_pillow,
    from_pillow,
    photograph,
    to_jpeg,
    to_pillow,
    to_png,
    write_png,
)
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from penstock import _core

SAMPLINGS = sorted((Path(__file__).parents[1] / "data" / "images").glob("sampling_*.jpg"))
MODES = ("RGB", "L", "unchanged")
INSTRUCTIONS = ("portable", "sse4", "avx2", "avx512")
SIDES = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100]) | st.integers(1, 200)
SEEDS = st.integers(0, 2**32 - 1)
DATA = st.data()


@pytest.fixture(scope="module", params=INSTRUCTIONS)
def instructions(request):
    try:
        _core.resize_pixels(np.zeros((1, 1, 1), np.uint8), 1, 1, instructions=request.param)
    except ValueError as error:
        pytest.skip(str(error))
    return request.param


def draw_rect(draw, width, height):
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return left, top, draw(st.integers(1, width - left)), draw(st.integers(1, height - top))


def part(pixels, rect):
    left, top, width, height = rect
    return pixels[top : top + height, left : left + width]


def draw_pixels(draw, channels):
    pixels = photograph(draw(SIDES), draw(SIDES), channels, draw(SEEDS))
    return np.where(pixels > 128, 255, 0).astype(np.uint8) if draw(st.booleans()) else pixels


def draw_jpeg(draw):
    pixels = draw_pixels(draw, draw(st.sampled_from([1, 3, 3, 3, 4])))
    options = {"quality": draw(st.sampled_from([1, 50, 75, 90, 100])), "progressive": draw(st.booleans())}
    if pixels.shape[2] == 3:
        options["subsampling"] = draw(st.integers(0, 2))
    if draw(st.booleans()):
        options["restart_marker_blocks"] = draw(st.integers(1, 20))
    return to_jpeg(pixels, **options)


def draw_png(draw):
    kind = draw(st.sampled_from(["plain", "bits", "palette", "ours"]))
    if kind == "plain":
        return to_png(to_pillow(draw_pixels(draw, draw(st.integers(1, 4)))))
    if kind == "bits":
        return to_png(to_pillow(draw_pixels(draw, 1)).convert("1"))
    if kind == "palette":
        colors = draw(st.sampled_from([2, 3, 4, 16, 17, 256]))
        options = {"transparency": draw(st.sampled_from([1, b"\0\x80\xff"]))} if draw(st.booleans()) else {}
        return to_png(to_pillow(draw_pixels(draw, 3)).quantize(colors), **options)
    pixels = draw_pixels(draw, draw(st.integers(1, 4)))
    if draw(st.booleans()):
        pixels = np.clip(pixels.astype(int) * 257 - draw(st.integers(0, 300)), 0, 65_535).astype(np.uint16)
    return write_png(pixels, interlaced=draw(st.booleans()))


def expected(data, mode):
    """What decode_image documents, by Pillow; always three channels for RGB."""
    if mode != "unchanged":
        return by_pillow(data, mode)
    with Image.open(io.BytesIO(data)) as image:
        palette_mode = "RGBA" if "transparency" in image.info else "RGB"
        mode = {"P": palette_mode, "1": "L", "I;16": "L"}.get(image.mode, image.mode)
    pixels = by_pillow(data, mode)
    is_gray_alpha = mode == "RGBA" and _core.image_info(data, "unchanged")[3] == 2
    return pixels[..., [0, 3]] if is_gray_alpha else pixels  # 16 bits of gray and alpha


def check_decoding(data, mode, rect):
    pixels, num_warnings, first_warning = _core.decode_image(data, mode)
    want = expected(data, mode)
    assert pixels.shape[2] in ((1, 3) if mode == "RGB" else (want.shape[2],))
    np.testing.assert_array_equal(np.broadcast_to(pixels, want.shape), want)
    assert (num_warnings, first_warning) == (0, "")
    np.testing.assert_array_equal(_core.decode_image(data, mode, crop=rect)[0], part(pixels, rect))


@given(DATA)
def test_jpeg(data):
    file = draw_jpeg(data.draw)
    _, width, height, _, _ = _core.image_info(file)
    check_decoding(file, data.draw(st.sampled_from(MODES)), draw_rect(data.draw, width, height))


@given(DATA)
def test_png(data):
    file = draw_png(data.draw)
    _, width, height, _, _ = _core.image_info(file)
    check_decoding(file, data.draw(st.sampled_from(MODES)), draw_rect(data.draw, width, height))


@pytest.mark.parametrize("path", SAMPLINGS, ids=lambda path: path.stem)
def test_every_part_of_every_sampling(path):
    file = path.read_bytes()
    whole = by_pillow(file)
    pixels, num_warnings, _ = _core.decode_image(file)
    np.testing.assert_array_equal(pixels, whole)
    assert num_warnings == 0
    height, width, _ = whole.shape
    for left in range(0, width, 3):
        for top in range(0, height, 7):
            rect = (left, top, min(1 + 5 * top, width - left), min(1 + left // 2, height - top))
            np.testing.assert_array_equal(_core.decode_image(file, crop=rect)[0], part(whole, rect))


@pytest.mark.parametrize("size", [(1, 1), (4_000, 3_000), (65_500, 3), (3, 65_500)])
@pytest.mark.parametrize("progressive", [False, True])
def test_smallest_and_large(size, progressive):
    pixels = np.resize(photograph(97, 89), (size[1], size[0], 3))
    file = to_jpeg(pixels, progressive=progressive, quality=80)
    whole = by_pillow(file)
    np.testing.assert_array_equal(_core.decode_image(file)[0], whole)
    pipeline = _core.ImagePipeline(dtype="uint8", channels_last=True, rule=RULE)
    want = Image.fromarray(whole).resize((50, 40), FILTERS["bilinear"])
    np.testing.assert_array_equal(run(pipeline, file, resize=(50, 40)), from_pillow(want))


@pytest.mark.parametrize("number", [0, 1])
def test_photographs(number):
    """Two real ones, at the sizes and parts that a training run asks for."""
    file = to_jpeg(load_sample_images().images[number], quality=90)
    whole = Image.fromarray(by_pillow(file))
    pipeline = _core.ImagePipeline(dtype="uint8", channels_last=True, rule=RULE)
    for left, top, width, height in [
        (0, 0, 640, 427),
        (17, 33, 300, 390),
        (201, 5, 411, 129),
        (639, 426, 1, 1),
    ]:
        want = whole.crop((left, top, left + width, top + height)).resize((224, 224), FILTERS["bilinear"])
        got = run(pipeline, file, crop=(left, top, width, height), resize=(224, 224))
        np.testing.assert_array_equal(got, from_pillow(want))


@given(data=DATA)
def test_resize(data, instructions):
    draw = data.draw
    channels = draw(st.sampled_from([1, 3, 4]))
    pixels = draw_pixels(draw, channels)
    height, width, _ = pixels.shape
    image = to_pillow(pixels)
    if channels == 4:  # without the detour over premultiplied colors
        image = Image.frombytes("CMYK", image.size, pixels.tobytes())
    size = (draw(SIDES | st.just(width)), draw(SIDES | st.just(height)))
    box = draw_box(draw, width, height) if draw(st.booleans()) else None
    name = draw(st.sampled_from(sorted(FILTERS)))
    want = from_pillow(image.resize(size, FILTERS[name], box))
    options = {"box": box, "filter": name, "rule": RULE, "instructions": instructions}
    np.testing.assert_array_equal(_core.resize_pixels(pixels, *size, **options), want)
    window = draw_rect(draw, *size)
    windowed = _core.resize_pixels(pixels, *size, window=window, **options)
    np.testing.assert_array_equal(windowed, part(want, window))


def draw_box(draw, width, height):
    numbers = [
        float(np.float32(draw(st.floats(0, side, width=32)))) for side in (width, width, height, height)
    ]
    left, right, top, bottom = sorted(numbers[:2]) + sorted(numbers[2:])
    assume(right - left > 1e-3 and bottom - top > 1e-3)
    return left, top, right, bottom


@pytest.mark.skipif(RULE == "11", reason="Pillow 11 lets the low byte of 16 bits start again past 65,535")
@given(DATA)
def test_resize_of_16_bits(data):
    draw = data.draw
    shape = (draw(SIDES), draw(SIDES), 1)
    pixels = np.random.default_rng(draw(SEEDS)).integers(0, 65_536, shape, np.uint16)
    size = (draw(SIDES), draw(SIDES))
    name = draw(st.sampled_from(sorted(FILTERS)))
    want = to_pillow(pixels).resize(size, FILTERS[name])
    np.testing.assert_array_equal(
        _core.resize_pixels(pixels, *size, filter=name, rule=RULE), from_pillow(want)
    )


# the whole way ---------------------------------------------------------------------------------------------


def run(pipeline, file, **plan):
    """One sample, as numpy has it."""
    capsule, num_warnings, _ = pipeline.run(file, **plan)
    assert num_warnings == 0
    return torch.from_dlpack(capsule)[0].numpy()


@given(DATA)
def test_pipeline_is_pillow_step_by_step(data):
    draw = data.draw
    file = draw_jpeg(draw) if draw(st.booleans()) else draw_png(draw)
    orientation = draw(st.integers(1, 8))
    image = Image.fromarray(by_pillow(file))
    image.getexif()[0x0112] = orientation
    file = to_png(image, exif=image.getexif())
    upright = ImageOps.exif_transpose(image)
    crop = draw_rect(draw, *upright.size)
    size = (draw(SIDES), draw(SIDES))
    window = draw_rect(draw, *size)
    flips = draw(st.booleans()), draw(st.booleans())
    name = draw(st.sampled_from(sorted(FILTERS)))
    left, top, width, height = crop
    resized = upright.crop((left, top, left + width, top + height)).resize(size, FILTERS[name])
    want = part(from_pillow(resized), window)
    want = want[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
    pipeline = _core.ImagePipeline(
        dtype="uint8", channels_last=True, filter=name, rule=RULE, orientation=True
    )
    plan = {"crop": crop, "resize": size, "window": window}
    got = run(pipeline, file, **plan, flip_horizontally=flips[0], flip_vertically=flips[1])
    np.testing.assert_array_equal(got, want)


@given(DATA)
def test_alpha_is_resized_as_pillow_does(data):
    draw = data.draw
    channels = draw(st.sampled_from([2, 4]))
    image = to_pillow(draw_pixels(draw, channels))
    size = draw(st.sampled_from([image.size, (7, 9), (50, 40)]))
    pipeline = _core.ImagePipeline(
        mode="unchanged", channels=channels, dtype="uint8", channels_last=True, rule=RULE
    )
    want = from_pillow(image.resize(size, FILTERS["bilinear"]))
    np.testing.assert_array_equal(run(pipeline, to_png(image), resize=size), want)


@given(DATA)
def test_pipeline_finishes_as_torch_does(data):
    draw = data.draw
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.uint8]))
    is_float = dtype != torch.uint8
    channels = draw(st.sampled_from([1, 3]))
    scale = draw(st.booleans())
    numbers = st.lists(st.floats(2**-10, 300, width=32), min_size=channels, max_size=channels)
    mean, std = (draw(numbers), draw(numbers)) if is_float and draw(st.booleans()) else ([], [])
    pixels = draw_pixels(draw, channels)
    flip, channels_last = draw(st.booleans()), draw(st.booleans())
    pipeline = _core.ImagePipeline(
        mode="RGB" if channels == 3 else "L",
        channels=channels,
        dtype=str(dtype).removeprefix("torch."),
        scale=scale,
        mean=mean,
        std=std,
        channels_last=channels_last,
    )
    capsule, _, _ = pipeline.run(to_png(to_pillow(pixels)), flip_horizontally=flip)
    got = torch.from_dlpack(capsule)[0]
    want = torch.from_numpy(pixels[:, :: -1 if flip else 1].copy()).permute(2, 0, 1)
    if is_float:
        want = want.float()
        want = want / 255 if scale else want
        if mean:
            want = (want - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    got = got.permute(2, 0, 1) if channels_last else got
    torch.testing.assert_close(got, want.to(dtype), rtol=0, atol=0)


@pytest.mark.skipif(not _core.BUILD["png"], reason="Pillow has no colors of 16 bits")
@given(DATA)
def test_16_bits_all_the_way(data):
    draw = data.draw
    channels = draw(st.integers(1, 4))
    shape = (draw(SIDES), draw(SIDES), channels)
    pixels = np.random.default_rng(draw(SEEDS)).integers(0, 65_536, shape, np.uint16)
    file = write_png(pixels, interlaced=draw(st.booleans()))
    rect = draw_rect(draw, shape[1], shape[0])
    decoded, _, _ = _core.decode_image(file, "unchanged", 16, crop=rect)
    np.testing.assert_array_equal(decoded, part(pixels, rect))
    pipeline = _core.ImagePipeline(mode="unchanged", channels=channels, bits=16)
    want = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / 65_535
    np.testing.assert_array_equal(run(pipeline, file), want.numpy())
