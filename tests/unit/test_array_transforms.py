"""Transforms of images that are rows of arrays: what the core takes on, and what it leaves to Python."""

import logging
import os
import pickle
import warnings

import numpy as np
import pytest
import torch

import penstock
from penstock import transforms as T

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
AUGMENT = T.Compose(
    [T.RandomCrop(12), T.RandomHorizontalFlip(), T.ToDtype(torch.float32, scale=True), T.Normalize(MEAN, STD)]
)
IMAGES = torch.randint(0, 256, (30, 3, 16, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(30) % 4


def doubled(row):
    return row * 2


@pytest.fixture
def folder(tmp_path):
    for name, rows in (("image", IMAGES), ("label", LABELS)):
        (tmp_path / name).mkdir()
        for number, part in enumerate(rows.tensor_split(4 if name == "image" else 2)):
            np.save(tmp_path / name / f"{number}.npy", part.numpy())
    return tmp_path


@pytest.fixture
def dataset(folder):
    """Images and labels, the images augmented by the core."""
    source = {"image": folder / "image", "label": folder / "label"}
    return penstock.ShardDataset(source, transform={"image": AUGMENT}, seed=3)


def in_epoch(dataset, epoch=2):
    dataset.set_epoch(epoch)
    return dataset.gather(range(len(dataset)))


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name])


# --- by the core -------------------------------------------------------------------------------------------


def test_samples_batches_and_schema_agree(dataset):
    batch = in_epoch(dataset)
    assert dataset.explain() == "ShardDataset: images are transformed by the core"
    assert dataset.transform is None
    assert batch["image"].shape == (30, 3, 12, 12)
    assert torch.equal(batch["label"], LABELS)
    assert [field.shape for field in dataset.schema] == [(3, 12, 12), ()]
    assert dataset.schema[0].dtype == torch.float32
    assert torch.equal(dataset[7]["image"], batch["image"][7])
    assert torch.equal(dataset.__getitems__([7, 3])[1]["image"], batch["image"][3])
    assert list(dataset.targets) == LABELS.tolist()
    out = {name: torch.empty_like(field) for name, field in batch.items()}
    assert_equal(dataset.gather(range(30), out=out), batch)


def test_an_epoch_and_a_seed_decide_what_is_drawn(folder, dataset):
    first = in_epoch(dataset, 1)["image"]
    assert torch.equal(in_epoch(dataset, 1)["image"], first)
    assert not torch.equal(in_epoch(dataset, 2)["image"], first)
    source = {"image": folder / "image", "label": folder / "label"}
    other = penstock.ShardDataset(source, transform={"image": AUGMENT}, seed=4)
    assert not torch.equal(in_epoch(other, 1)["image"], first)


def test_without_an_epoch_torchs_random_numbers_decide(dataset):
    first = dataset.gather([0] * 8)["image"]
    assert not torch.equal(dataset.gather([0] * 8)["image"], first)
    torch.manual_seed(1)
    again = dataset.gather(range(8))["image"]
    torch.manual_seed(1)
    assert torch.equal(dataset.gather(range(8))["image"], again)


def test_pickles_subsets_and_sums_draw_alike(dataset):
    batch = in_epoch(dataset)
    copy = pickle.loads(pickle.dumps(dataset))
    assert_equal(copy.gather(range(30)), batch)
    subset = pickle.loads(pickle.dumps(dataset.subset([9, 2])))
    assert torch.equal(subset[1]["image"], batch["image"][2])
    both = pickle.loads(pickle.dumps(dataset + dataset))
    both.set_epoch(2)
    assert len(both) == 60
    assert torch.equal(both.gather(range(30))["image"], batch["image"])
    assert both.gather([31])["image"].shape == (1, 3, 12, 12)
    assert len(dataset.by_class()[3]) == 7


def test_sums_of_other_transforms_are_refused(folder, dataset):
    source = {"image": folder / "image", "label": folder / "label"}
    crop = T.Compose([T.CenterCrop(12), T.ToDtype(torch.float32, scale=True), T.Normalize(MEAN, STD)])
    other = penstock.ShardDataset(source, transform={"image": crop})
    with pytest.raises(penstock.SchemaError, match="disagree in what is done to their images"):
        dataset + other
    with pytest.raises(penstock.SchemaError, match="different kinds"):
        dataset + penstock.ShardDataset(source)


def test_a_loader_goes_by_its_samplers_epoch_and_resumes(dataset):
    def loader():
        return penstock.DataLoader(dataset, batch_size=7, shuffle=True, seed=1)

    twice = loader()
    whole = [batch["image"] for _ in range(2) for batch in twice]
    assert not torch.equal(torch.cat(whole[:5]), torch.cat(whole[5:]))
    half = loader()
    batches = iter(half)
    seen = [next(batches)["image"] for _ in range(2)]
    rest = loader()
    rest.load_state_dict(half.state_dict())
    seen += [batch["image"] for batch in rest]
    assert torch.equal(torch.cat(seen), torch.cat(whole[:5]))


def test_in_a_spawned_worker(dataset):
    dataset.set_epoch(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = torch.utils.data.DataLoader(dataset, 8, num_workers=1, multiprocessing_context="spawn")
        images = torch.cat([batch["image"] for batch in loader])
    assert torch.equal(images, in_epoch(dataset)["image"])


def test_tensors_in_a_spawned_worker():
    dataset = penstock.TensorDataset(IMAGES, LABELS, transform={0: AUGMENT}, seed=3)
    dataset.set_epoch(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = torch.utils.data.DataLoader(dataset, 8, num_workers=1, multiprocessing_context="spawn")
        images = torch.cat([images for images, _ in loader])
    assert torch.equal(images, in_epoch(dataset)[0])


def test_a_sample_that_is_one_image_needs_no_mapping(folder):
    lone = penstock.ShardDataset(folder / "image", transform=AUGMENT, seed=3)
    assert "by the core" in lone.explain()
    named = penstock.ShardDataset({"image": folder / "image"}, transform={"image": AUGMENT}, seed=3)
    assert torch.equal(in_epoch(lone), in_epoch(named)["image"])


def test_fields_with_the_same_steps_are_cut_alike():
    crop = [T.RandomCrop((9, 11)), T.RandomHorizontalFlip()]
    masks = IMAGES[:, 0].contiguous()
    both = {0: T.Compose([*crop, T.ToDtype(torch.float32)]), 1: T.Compose(crop)}
    images, cut = in_epoch(penstock.TensorDataset(IMAGES, masks, transform=both))
    assert cut.dtype == torch.uint8
    assert torch.equal(images[:, 0], cut.float())


def test_channels_last_are_found_by_the_shape():
    stored = IMAGES.permute(0, 2, 3, 1).contiguous()
    expected = in_epoch(penstock.TensorDataset(IMAGES, transform={0: AUGMENT}))[0]
    assert torch.equal(in_epoch(penstock.TensorDataset(stored, transform={0: AUGMENT}))[0], expected)
    last = T.ImageRows(AUGMENT, channels_last=True)
    assert torch.equal(
        in_epoch(penstock.TensorDataset(stored, transform={0: last}))[0], expected.permute(0, 2, 3, 1)
    )


def test_rows_of_two_dimensions():
    gray = IMAGES[:, 0].contiguous()
    flat = penstock.TensorDataset(gray, transform={0: T.Compose([T.CenterCrop(8)])})
    assert torch.equal(flat.gather(range(30))[0], gray[:, 4:12, 6:14])
    digits = T.Compose([T.ToTensor(), T.Normalize([0.5], [0.5])])
    shown = penstock.TensorDataset(gray, transform={0: digits})
    assert "by the core" in shown.explain()
    assert torch.equal(shown.gather(range(30))[0], (gray[:, None].float().div(255) - 0.5) / 0.5)
    steps = T.Compose([T.CenterCrop(8), T.ToDtype(torch.float32, scale=True), T.Normalize(0.13, (0.31,))])
    normalised = penstock.TensorDataset(gray, transform={0: steps})
    assert "by the core" in normalised.explain()
    assert torch.equal(normalised.gather(range(30))[0], torch.stack([steps(row) for row in gray]))


def torchvisions(name, **attributes):
    """An object as torchvision's v2 would have it, as far as one can tell without torchvision."""
    it = type(name, (), {"__module__": "torchvision.transforms.v2._some"})()
    vars(it).update(attributes)
    return it


def test_torchvisions_are_taken_on_too():
    crop = torchvisions("RandomCrop", size=[12, 12], padding=None, pad_if_needed=False)
    parts = [
        torchvisions("ToImage"),
        crop,
        torchvisions("RandomHorizontalFlip", p=0.5),
        torchvisions("ToDtype", dtype=torch.float32, scale=True),
        torchvisions("Normalize", mean=MEAN, std=STD),
    ]
    dataset = penstock.TensorDataset(IMAGES, transform={0: torchvisions("Compose", transforms=parts)})
    assert torch.equal(
        in_epoch(dataset)[0], in_epoch(penstock.TensorDataset(IMAGES, transform={0: AUGMENT}))[0]
    )


@pytest.mark.parametrize(
    ("shape", "transforms", "why"),
    [
        ((3, 9, 9), [torchvisions("PILToTensor")], "PILToTensor: the row is a tensor already"),
        ((3, 9, 9), [T.ToTensor(), T.ToTensor()], "ToTensor: the row is a tensor already"),
        ((3, 9, 9), [T.Grayscale()], "Grayscale: it comes after"),
        (
            (9, 9),
            [T.ToDtype(torch.float32), T.Normalize([1, 1], [1, 1])],
            "Normalize: mean and std are not 1",
        ),
        ((9, 9, 9), [T.CenterCrop(5)], "1 to 4 channels, not 9"),
    ],
)
def test_what_the_core_does_not_take_on_of_rows(shape, transforms, why):
    rows = torch.zeros(4, *shape, dtype=torch.uint8)
    assert why in penstock.TensorDataset(rows, transform={0: T.Compose(transforms)}).explain()


# --- in Python ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "why"),
    [
        (doubled, "its transform is none of images"),
        (T.Compose([T.CenterCrop(8), doubled]), "doubled is not one that the core knows"),
        (T.Compose([T.Resize((8, 8))]), 'allow it by ImageRows(..., resize="fast")'),
        (T.ImageRows(T.Compose([T.CenterCrop(8), doubled])), "doubled is not one that the core knows"),
    ],
)
def test_what_the_core_does_not_know_is_said_and_called(caplog, transform, why):
    with caplog.at_level(logging.WARNING, "penstock"):
        dataset = penstock.TensorDataset(IMAGES, LABELS, transform={0: transform})
    assert why in dataset.explain()
    assert caplog.messages == [dataset.explain()]
    images, labels = pickle.loads(pickle.dumps(dataset)).gather([4, 5])
    assert torch.equal(labels, LABELS[4:6])
    assert torch.equal(images[1], transform(IMAGES[5]))
    assert torch.equal(dataset[5][0], images[1])


def test_some_fields_by_the_core_and_some_in_python(folder):
    source = {"image": folder / "image", "label": folder / "label"}
    transform = {"image": AUGMENT, "label": doubled}
    dataset = penstock.ShardDataset(source, transform=transform, seed=3)
    alone = penstock.ShardDataset(source, transform={"image": AUGMENT}, seed=3)
    assert "'label'" in dataset.explain()
    batch = in_epoch(dataset)
    assert torch.equal(batch["image"], in_epoch(alone)["image"])
    assert torch.equal(batch["label"], 2 * LABELS)
    assert len(dataset + dataset) == 60


def test_a_transform_of_samples_stays_one(caplog):
    with caplog.at_level(logging.WARNING, "penstock"):
        dataset = penstock.TensorDataset(IMAGES, LABELS, transform=lambda sample: sample[1])
    assert dataset.gather([3, 1]).tolist() == [3, 1]
    assert not caplog.records
    assert "a function" in dataset.explain()
    assert "no transform" in penstock.TensorDataset(IMAGES).explain()


def test_a_python_transform_sees_channels_first_only_where_it_is_one_of_images():
    stored = IMAGES.permute(0, 2, 3, 1).contiguous()
    shapes = []

    def seen(row):
        shapes.append(tuple(row.shape))
        return row

    for transform in (seen, T.Compose([T.CenterCrop(16), seen])):
        penstock.TensorDataset(stored, transform={0: transform}).gather([0])
    assert shapes == [(16, 20, 3), (3, 16, 16)]


def test_rows_that_are_no_images_are_left_to_python():
    normalize = T.Normalize(MEAN, STD)
    dataset = penstock.TensorDataset(IMAGES.float(), transform={0: normalize})
    assert "float32 (3, 16, 20), no uint8 images" in dataset.explain()
    assert torch.equal(dataset[0][0], normalize(IMAGES[0].float()))


# --- refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "transform", [{"x": AUGMENT}, {2: AUGMENT}, {-1: AUGMENT}, {0: AUGMENT, "0": AUGMENT}]
)
def test_transforms_of_no_field(transform):
    with pytest.raises(penstock.SchemaError, match="transform= names what is no field"):
        penstock.TensorDataset(IMAGES, LABELS, transform=transform)


def test_a_shape_that_does_not_say_where_channels_are():
    rows = IMAGES[:, :, :, :4].contiguous()
    with pytest.raises(penstock.ArgumentError, match="first or last"):
        penstock.TensorDataset(rows, transform={0: AUGMENT})
    crop = T.Compose([T.CenterCrop(3)])
    for layout, shape in (("CHW", (3, 3, 3)), ("HWC", (4, 3, 3))):
        dataset = penstock.TensorDataset(rows, transform={0: T.ImageRows(crop, layout=layout)})
        assert dataset.schema[0].shape == shape


@pytest.mark.parametrize("options", [{"layout": "WHC"}, {"resize": "nearest"}])
def test_image_rows_of_unknown_options(options):
    with pytest.raises(penstock.ArgumentError, match="no such layout or resize"):
        T.ImageRows(AUGMENT, **options)


def test_a_crop_that_no_row_has_room_for():
    with pytest.raises(penstock.ArgumentError, match="smaller than the random crop"):
        penstock.TensorDataset(IMAGES, transform={0: T.Compose([T.RandomCrop(17)])})


def test_means_of_other_channels_go_to_python():
    dataset = penstock.TensorDataset(IMAGES[:, :2].contiguous(), transform={0: AUGMENT})
    assert "mean and std are not 2 numbers" in dataset.explain()


@pytest.mark.parametrize("rows", [20, 8192])  # small enough to be read, large enough to be mapped
def test_a_file_that_is_cut_is_a_shard_error(tmp_path, rows):
    np.save(tmp_path / "rows.npy", np.ones((rows, 3, 16, 20), np.uint8))
    dataset = penstock.ShardDataset(tmp_path / "rows.npy", transform=AUGMENT)
    dataset.gather([0, rows - 1])
    os.truncate(tmp_path / "rows.npy", 4096)
    with pytest.raises(penstock.ShardError, match="rows"):
        dataset.gather([0, rows - 1] * 40)


def test_no_rows_and_no_pixels():
    none = penstock.TensorDataset(IMAGES[:0], transform={0: AUGMENT})
    assert none.gather([])[0].shape == (0, 3, 12, 12)
    with pytest.raises(penstock.SchemaError, match="these rows are no images"):
        penstock.TensorDataset(IMAGES[:, :, :0], transform={0: T.Compose([T.CenterCrop(5)])})


def test_what_is_drawn_at_random_is_not_packed(dataset, tmp_path):
    with pytest.raises(penstock.SchemaError, match="with a transform cannot be packed"):
        penstock.pack(dataset, tmp_path / "packed")
    middle = penstock.TensorDataset(IMAGES, transform={0: T.Compose([T.CenterCrop(8)])})
    penstock.pack(middle, tmp_path / "packed")
    packed = penstock.ShardDataset(tmp_path / "packed")
    assert torch.equal(packed.gather([3])[0], IMAGES[3:4, :, 4:12, 6:14])
