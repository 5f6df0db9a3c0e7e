"""penstock.transforms by themselves, and which transforms the core takes on."""

import numpy as np
import pytest
import torch
from pictures import photograph, to_pillow
from PIL import Image, ImageOps

from penstock import transforms as T
from penstock.datasets.lowering import NotLowered, lowered
from penstock.errors import ArgumentError, SchemaError

IMAGE = to_pillow(photograph(50, 40))
PIXELS = T.PILToTensor()(IMAGE)
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


# called in Python ------------------------------------------------------------------------------------------


def test_pixels():
    assert PIXELS.shape == (3, 40, 50)
    assert PIXELS.dtype == torch.uint8
    assert tuple(PIXELS[:, 7, 9].tolist()) == IMAGE.getpixel((9, 7))
    assert torch.equal(T.ToTensor()(IMAGE), PIXELS.to(torch.float32) / 255)
    assert torch.equal(T.ToDtype(torch.float32)(PIXELS), PIXELS.to(torch.float32))
    assert T.ToDtype(torch.bfloat16, scale=True)(PIXELS).dtype == torch.bfloat16
    assert T.Grayscale()(IMAGE).mode == "L"
    assert T.Grayscale(3)(IMAGE).mode == "RGB"
    for channels in (1, 3):
        gray = T.PILToTensor()(T.Grayscale(channels)(IMAGE))
        assert torch.equal(T.Grayscale(channels)(PIXELS), gray)


def test_arrays_become_tensors_as_by_torchvision():
    array = np.asarray(IMAGE)
    assert torch.equal(T.ToTensor()(array), T.ToTensor()(IMAGE))
    assert torch.equal(T.ToTensor()(array[::-1]), T.ToTensor()(ImageOps.flip(IMAGE)))
    assert torch.equal(T.ToTensor()(array[..., 0]), T.ToTensor()(IMAGE)[:1])
    doubles = array / 7
    assert torch.equal(T.ToTensor()(doubles), torch.from_numpy(doubles.transpose(2, 0, 1)))


def test_modes_of_other_bits():
    white = IMAGE.convert("1")
    expected = T.ToTensor()(white.convert("L"))
    assert set(expected.unique().tolist()) == {0, 1}
    assert torch.equal(T.ToTensor()(white), expected)
    assert torch.equal(T.PILToTensor()(white), T.PILToTensor()(white.convert("L")))
    wide = np.arange(6, dtype=np.uint16).reshape(2, 3) * 13000
    for image in (Image.fromarray(wide), Image.frombytes("I;16B", (3, 2), wide.astype(">u2").tobytes())):
        assert torch.equal(T.PILToTensor()(image)[0], torch.from_numpy(wide))
        assert torch.equal(T.ToTensor()(image)[0], torch.from_numpy(wide.astype(np.float32)) / 65535)
    floats = Image.fromarray(wide.astype(np.float32))
    assert torch.equal(T.ToTensor()(floats)[0], torch.from_numpy(wide.astype(np.float32)))


def test_normalize():
    normalised = T.Normalize(MEAN, STD)(T.ToTensor()(IMAGE))
    assert torch.equal(normalised[1], (PIXELS[1].to(torch.float32) / 255 - 0.4) / 0.3)
    with pytest.raises(SchemaError, match="only floats"):
        T.Normalize(MEAN, STD)(PIXELS)
    assert torch.equal(T.Normalize(0.4, 0.3)(T.ToTensor()(IMAGE))[1], normalised[1])
    assert torch.equal(T.Normalize(torch.tensor(MEAN), np.array(STD))(T.ToTensor()(IMAGE)), normalised)


def test_normalize_without_channels():
    gray = T.ToTensor()(IMAGE.convert("L"))
    assert torch.equal(T.Normalize([0.4], [0.3])(gray[0]), T.Normalize([0.4], [0.3])(gray)[0])
    with pytest.raises(SchemaError, match="one channel; found 3 means"):
        T.Normalize(MEAN, STD)(gray[0])


@pytest.mark.parametrize("inplace", [False, True])
def test_normalize_in_place(inplace):
    floats = T.ToTensor()(IMAGE)
    before = floats.clone()
    result = T.Normalize(MEAN, STD, inplace=inplace)(floats)
    assert torch.equal(result, T.Normalize(MEAN, STD)(before))
    assert torch.equal(floats, result if inplace else before)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (T.Resize((20, 30)), IMAGE.resize((30, 20), Image.Resampling.BILINEAR)),
        (T.Resize(20, "bicubic"), IMAGE.resize((25, 20), Image.Resampling.BICUBIC)),
        (T.Resize([20]), IMAGE.resize((25, 20), Image.Resampling.BILINEAR)),
        (T.Resize((20, 30), Image.Resampling.BICUBIC), IMAGE.resize((30, 20), Image.Resampling.BICUBIC)),  # type: ignore[arg-type]
        (T.Resize((20, 30), antialias=False), IMAGE.resize((30, 20), Image.Resampling.BILINEAR)),
        (T.Resize(30, max_size=35), IMAGE.resize((35, 28), Image.Resampling.BILINEAR)),
        (T.CenterCrop(20), IMAGE.crop((15, 10, 35, 30))),
        (T.CenterCrop((50, 41)), ImageOps.expand(IMAGE, (0, 5, 0, 5)).crop((4, 0, 45, 50))),
        (T.Pad((1, 2, 3, 4), fill=9), ImageOps.expand(IMAGE, (1, 2, 3, 4), (9, 9, 9))),
        (T.RandomHorizontalFlip(1), ImageOps.mirror(IMAGE)),
        (T.RandomVerticalFlip(1), ImageOps.flip(IMAGE)),
        (T.RandomVerticalFlip(0), IMAGE),
        (T.RandomCrop((40, 50)), IMAGE),
    ],
    ids=lambda value: "" if isinstance(value, Image.Image) else repr(value),
)
def test_by_pillow(transform, expected):
    """Of a Pillow image and, where that is not another resize, of a tensor."""
    assert torch.equal(T.PILToTensor()(transform(IMAGE)), T.PILToTensor()(expected))
    if not isinstance(transform, T.Resize):
        assert torch.equal(transform(PIXELS), T.PILToTensor()(expected))


@pytest.mark.parametrize("antialias", [True, None, False])
def test_antialiasing_of_tensors(antialias):
    floats = T.ToTensor()(IMAGE)
    expected = torch.nn.functional.interpolate(
        floats[None], (20, 30), mode="bilinear", antialias=antialias is not False
    )[0]
    assert torch.equal(T.Resize((20, 30), antialias=antialias)(floats), expected)
    whole = T.RandomResizedCrop((20, 30), (1, 1), (1.25, 1.25), antialias=antialias)
    assert torch.equal(whole(floats), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "HSV", "I;16", "F", "tensor", "bfloat16"])
@pytest.mark.parametrize("padding_mode", ["constant", "edge", "reflect", "symmetric"])
def test_borders(padding_mode, mode):
    """As numpy makes them."""
    is_tensor = mode in ("tensor", "bfloat16")
    image = IMAGE.convert("L").convert("I").convert("I;16") if mode == "I;16" else IMAGE
    if is_tensor:
        image = PIXELS.permute(1, 2, 0) if mode == "tensor" else PIXELS.permute(1, 2, 0).to(torch.bfloat16)
    elif image.mode != mode:
        image = image.convert(mode)
    pixels = image.float().numpy() if is_tensor else np.asarray(image)
    expected = np.pad(pixels, [(3, 5), (2, 4), (0, 0)][: pixels.ndim], padding_mode)
    padded = T.Pad((2, 3, 4, 5), padding_mode=padding_mode)(image.permute(2, 0, 1) if is_tensor else image)
    if is_tensor:
        assert padded.dtype == image.dtype
        padded = padded.permute(1, 2, 0).float()
    else:
        assert padded.mode == mode
        assert padded.getpalette() == image.getpalette()
    assert np.array_equal(np.asarray(padded), expected)


@pytest.mark.parametrize("fill", [9, [9], (1, 2, 3), None])
def test_colors_of_borders(fill):
    color = {1: (9, 9, 9), 3: (1, 2, 3)}[len(fill)] if isinstance(fill, (list, tuple)) else (fill or 0,) * 3
    expected = ImageOps.expand(IMAGE, (1, 2, 3, 4), color)
    padded = T.Pad((1, 2, 3, 4), fill)
    assert np.array_equal(padded(IMAGE), expected)
    assert torch.equal(padded(PIXELS), T.PILToTensor()(expected))
    whole = T.RandomCrop((46, 54), (1, 2, 3, 4), fill=fill)
    assert np.array_equal(whole(IMAGE), expected)
    plan = [T.Pad(1, fill), T.ToTensor()]
    if fill == (1, 2, 3):
        with pytest.raises(NotLowered, match="not of one gray"):
            lowered(T.Compose(plan), "exact")
    else:
        assert lowered(T.Compose(plan), "exact").fill == color[0]


def test_borders_without_channels_and_of_floats():
    gray = PIXELS[0]
    assert torch.equal(T.Pad(2, 7)(gray), torch.nn.functional.pad(gray, (2, 2, 2, 2), value=7))
    floats = T.ToTensor()(IMAGE)
    assert torch.equal(T.Pad(2, 0.5)(floats), torch.nn.functional.pad(floats, (2, 2, 2, 2), value=0.5))


def test_borders_of_random_crops():
    whole = T.RandomCrop((46, 58), (4, 3), padding_mode="reflect")(IMAGE)
    assert np.array_equal(whole, T.Pad((4, 3), padding_mode="reflect")(IMAGE))
    wider = T.RandomCrop((40, 70), pad_if_needed=True, padding_mode="edge")(PIXELS)
    assert torch.equal(wider[..., :1].expand(-1, -1, 2), wider[..., :2]) or torch.equal(
        wider[..., -1:].expand(-1, -1, 2), wider[..., -2:]
    )


def test_random_crops():
    torch.manual_seed(0)
    crops = {bytes(T.RandomCrop(39)(IMAGE).tobytes()) for _ in range(100)}
    assert len(crops) == 24
    assert T.RandomCrop((60, 60), padding=(5, 10))(IMAGE).size == (60, 60)
    assert T.RandomCrop((60, 70), pad_if_needed=True)(PIXELS).shape == (3, 60, 70)
    assert T.RandomResizedCrop((24, 32))(IMAGE).size == (32, 24)
    assert T.RandomResizedCrop(24)(PIXELS).shape == (3, 24, 24)
    with pytest.raises(ArgumentError, match=r"smaller than the random crop.*60 x 60.*found 50 x 40"):
        T.RandomCrop(60)(IMAGE)


@pytest.mark.parametrize(
    "make",
    [
        lambda: T.Resize(20, "nearest"),  # type: ignore[arg-type]
        lambda: T.Resize(20, max_size=20),
        lambda: T.Resize((20, 20), max_size=30),
        lambda: T.Resize((20, 0)),
        lambda: T.CenterCrop((1, 2, 3)),
        lambda: T.Pad(-1),
        lambda: T.Pad((1, 2, 3)),
        lambda: T.Pad(1, padding_mode="wrap"),  # type: ignore[arg-type]
        lambda: T.RandomCrop(5, padding_mode="replicate"),  # type: ignore[arg-type]
        lambda: T.RandomCrop(5, padding=-1),
        lambda: T.RandomHorizontalFlip(1.5),
        lambda: T.RandomResizedCrop(20, scale=(1, 0.5)),
        lambda: T.RandomResizedCrop(20, ratio=(0, 1)),
        lambda: T.Grayscale(2),
        lambda: T.Normalize([0.5], [0]),
        lambda: T.Normalize([0.5], [0.5, 0.5]),
        lambda: T.ToDtype(torch.int64),
        lambda: T.ToDtype("float32"),  # type: ignore[arg-type]
        lambda: T.ColorJitter(-0.1),
        lambda: T.ColorJitter((0.5, 0.4)),
        lambda: T.ColorJitter(contrast=(-0.1, 1)),
        lambda: T.ColorJitter(saturation=float("nan")),
        lambda: T.ColorJitter(saturation=(1, float("inf"))),
        lambda: T.ColorJitter(hue=0.6),
        lambda: T.ColorJitter(hue=-0.1),
        lambda: T.ColorJitter(hue=(-0.6, 0)),
        lambda: T.RandomGrayscale(2),
        lambda: T.RandomApply([], -1),
    ],
)
def test_arguments_that_cannot_be(make):
    with pytest.raises(ArgumentError):
        make()


def test_a_name_is_no_dtype():
    with pytest.raises(ArgumentError, match=r"needed torch\.float32, .*found 'float32'"):
        T.ToDtype("float32")


def test_repr():
    assert repr(T.Compose([T.Resize(5)])) == (
        "Compose(transforms=[Resize(size=5, interpolation='bilinear', max_size=None, antialias=True)])"
    )


# taken on by the core --------------------------------------------------------------------------------------


def like_torchvision(name, module="transforms.transforms", **attributes):
    """An object as torchvision would have it, as far as one can tell without torchvision."""
    kind = type(name, (), {"__module__": f"torchvision.{module}"})
    it = kind()
    vars(it).update(attributes)
    return it


class Bilinear:
    value = "bilinear"


def test_torchvisions_are_known_by_name():
    ours = T.Compose(
        [
            T.RandomResizedCrop((20, 30), (0.2, 0.9), (0.5, 2), "bilinear"),
            T.RandomHorizontalFlip(0.3),
            T.RandomCrop((10, 11), (1, 2, 3, 4), True, 5),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ]
    )
    first = like_torchvision(
        "RandomResizedCrop", size=(20, 30), scale=(0.2, 0.9), ratio=(0.5, 2), interpolation=Bilinear()
    )
    flip = like_torchvision("RandomHorizontalFlip", p=0.3)
    rest = {"size": (10, 11), "pad_if_needed": True, "fill": 5, "padding_mode": "constant"}
    crop = like_torchvision("RandomCrop", padding=(1, 2, 3, 4), **rest)
    normalize = like_torchvision("Normalize", mean=MEAN, std=STD)
    v1 = [first, flip, crop, like_torchvision("ToTensor"), normalize]
    assert lowered(like_torchvision("Compose", transforms=v1), "exact") == lowered(ours, "exact")
    v2 = "transforms.v2._geometry"
    second = like_torchvision("RandomCrop", v2, padding=[1, 3, 2, 4], **rest)  # left, right, top, bottom
    to_floats = [
        like_torchvision("ToImage", v2),
        like_torchvision("ToDtype", v2, dtype=torch.float32, scale=True),
    ]
    parts = [first, flip, second, *to_floats, normalize]
    assert lowered(like_torchvision("Compose", v2, transforms=parts), "exact") == lowered(ours, "exact")


def test_one_mean_for_all_channels():
    plan = lowered(T.Compose([T.CenterCrop(5), T.ToTensor(), T.Normalize([0.5], [0.25])]), "exact")
    assert (plan.mean, plan.std) == ([0.5] * 3, [0.25] * 3)
    for normalize in (T.Normalize(0.5, 0.25), like_torchvision("Normalize", mean=0.5, std=0.25)):
        assert lowered(T.Compose([T.CenterCrop(5), T.ToTensor(), normalize]), "exact") == plan


@pytest.mark.parametrize("antialias", [True, None, False])
def test_images_are_resized_with_antialiasing(antialias):
    """As Pillow does it in any case."""
    plain = lowered(T.Compose([T.Resize(5), T.ToTensor()]), "exact")
    assert lowered(T.Compose([T.Resize(5, antialias=antialias), T.ToTensor()]), "exact") == plain
    crop = lowered(T.Compose([T.RandomResizedCrop(5, antialias=antialias), T.ToTensor()]), "exact")
    assert crop == lowered(T.Compose([T.RandomResizedCrop(5), T.ToTensor()]), "exact")


class Own(T.CenterCrop):
    pass


CROP, TENSOR, NORMAL = T.CenterCrop(5), T.ToTensor(), T.Normalize(MEAN, STD)


@pytest.mark.parametrize(
    ("transforms", "match"),
    [
        ([Own(5), TENSOR], "Own is not one that the core knows"),
        ([len], "len is not one"),
        ([lambda image: image], "<lambda> is not one"),
        ([like_torchvision("ColorJitter")], "ColorJitter: .*brightness"),
        ([TENSOR, T.ColorJitter(0.1)], "ColorJitter: torch changes a tensor's colors otherwise"),
        ([TENSOR, T.RandomGrayscale()], "RandomGrayscale: torch changes"),
        ([T.ColorJitter(0.1), CROP, TENSOR], "CenterCrop: it comes after a change of colors"),
        ([T.RandomGrayscale(), T.Resize(5), TENSOR], "Resize: it comes after a change"),
        ([T.ColorJitter(0.1), T.RandomCrop(5, padding=1), TENSOR], "RandomCrop: it comes after a change"),
        ([T.ColorJitter(0.1), T.Grayscale(), TENSOR], "Grayscale: it comes after a resize or a change"),
        ([T.RandomApply([CROP]), TENSOR], "RandomApply: it is of something else than one ColorJitter"),
        ([T.RandomApply([T.ColorJitter(), CROP]), TENSOR], "RandomApply: it is of something else"),
        ([like_torchvision("Resize")], "Resize: .*size"),
        ([CROP], "gives a Pillow image"),
        ([CROP, TENSOR, TENSOR], "ToTensor: it comes twice"),
        ([TENSOR, T.Resize(5)], "Resize: torch resizes a tensor otherwise"),
        ([T.PILToTensor(), T.Resize(5)], "Resize: torch resizes a tensor otherwise"),
        ([T.Resize(9), T.Resize(5), TENSOR], "Resize: it comes after another resize"),
        ([T.RandomHorizontalFlip(), T.Resize(5), TENSOR], "after another resize, a flip"),
        ([CROP, T.Resize(5), TENSOR], "a border"),
        ([T.Resize(9), T.Grayscale(), TENSOR], "Grayscale: it comes after a resize"),
        ([TENSOR, NORMAL, T.Pad(1)], "Pad: its border comes after"),
        ([TENSOR, T.Pad(1, fill=3)], "Pad: its border comes after"),
        ([T.Pad(1, fill=3), CROP, TENSOR], "borders are of different colors"),
        ([T.PILToTensor(), NORMAL], "Normalize: it is not for float32"),
        ([TENSOR, NORMAL, NORMAL], "Normalize: it is not for float32 just once"),
        ([TENSOR, T.ToDtype(torch.float16), NORMAL], "Normalize: it is not for float32"),
        ([TENSOR, T.Normalize([0.5] * 2, [0.5] * 2)], "not 3 numbers"),
        ([T.Grayscale(), TENSOR, NORMAL], "not 1 numbers"),
        (
            [T.Resize(5), like_torchvision("Pad", padding=1, fill=(1, 2, 3), padding_mode="constant")],
            "one gray",
        ),
        ([like_torchvision("Pad", padding=1, fill=0, padding_mode="reflect")], "its border is reflect"),
        ([T.Pad(1, padding_mode="edge"), TENSOR], "its border is edge"),
        ([T.RandomCrop(5, 1, padding_mode="symmetric"), TENSOR], "its border is symmetric"),
        (
            [like_torchvision("Resize", size=5, max_size=None, interpolation="nearest")],
            "neither bilinear nor",
        ),
        ([like_torchvision("ToDtype", dtype={}, scale=True)], "ToDtype: from this"),
        ([like_torchvision("ToImage"), like_torchvision("ToDtype", dtype=torch.half, scale=True)], "half"),
    ],
)
def test_what_the_core_does_not_take_on(transforms, match):
    with pytest.raises(NotLowered, match=match):
        lowered(T.Compose(transforms), "exact")


def test_fast_may_resize_a_tensor():
    plan = lowered(torch.nn.Sequential(*map(as_module, [T.PILToTensor(), T.Resize(5), CROP])), "fast")
    assert [step[0] for step in plan.steps] == ["resize shorter", "center crop"]
    assert plan.dtype == torch.uint8


def as_module(transform):
    """As torchvision's are: modules."""
    kind = type(
        type(transform).__name__, (torch.nn.Module,), {"__module__": "torchvision.transforms.transforms"}
    )
    module = kind()
    vars(module).update(vars(transform))
    return module
