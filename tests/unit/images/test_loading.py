"""Batches: the same from the device, from this process and from workers, image by image."""

import numpy as np
import pytest
import torch
from made_images import picture, write_zip

from wsi_ncmi.config import ImageTask
from wsi_ncmi.errors import PartError
from wsi_ncmi.images.batch_augmentation import BLOCK
from wsi_ncmi.images.data import open_source
from wsi_ncmi.images.datasets.interface import DatasetError, Images
from wsi_ncmi.images.loading import loader as loading
from wsi_ncmi.images.loading.loader import Loader, is_resident
from wsi_ncmi.training.seeds import derive

CPU = torch.device("cpu")
FLIP = {"name": "HorizontalFlip", "options": {"p": 0.5}}
BATCH_FLIP = {"name": "RandomHorizontalFlip", "options": {"p": 0.5}}
CROP = {"name": "RandomCrop", "options": {"size": [8, 8], "padding": 2}}
ERASE = {"name": "RandomErasing", "options": {"p": 0.5}}
JITTER = {"name": "ColorJitter", "options": {"brightness": 0.2, "hue": 0.1}}
AFFINE = {"name": "RandomAffine", "options": {"degrees": 20.0, "translate": [0.1, 0.1]}}
CHAINS = [[BATCH_FLIP, CROP], [ERASE, JITTER], [AFFINE]]


def task_of(**settings):
    return ImageTask.model_validate({"dataset": "mnist", "path": "x", **settings})


def random_images(count, side=8):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return Images([f"i{n}" for n in range(count)], np.arange(count) % 2, pixels)


def loader_of(images, task, workers=0, stream=None):
    size = np.asarray(images.pixels[0]).shape[:2]

    def seed_of(purpose):
        return derive(0, 0, purpose, stream)

    return Loader(task, {"train": images}, tuple(size), CPU, seed_of, workers)


def drawn(loader, rows, epoch=0):
    """The images of these rows, in batches of five."""
    parts = np.array_split(np.asarray(rows), range(5, len(rows), 5))
    return torch.cat([*loader.batches("train", parts, epoch)])


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("loading", ["device", "workers"])
def test_what_becomes_of_an_image_hangs_on_its_row_and_epoch_alone(chain, loading):
    """Not on the order, nor on its batch, nor on how many images there are."""
    images = random_images(BLOCK + 30)
    task = task_of(batch_augmentation=chain, loading=loading)
    loader = loader_of(images, task)
    rows = np.array([0, 1, 2, 3, BLOCK - 1, BLOCK, BLOCK + 29])
    first = drawn(loader, rows)
    alone = torch.cat([drawn(loader_of(images, task), [row]) for row in rows])
    assert torch.equal(alone, first)
    assert torch.equal(drawn(loader, rows[::-1].copy()).flip(0), first)
    fewer = images.select(np.arange(4))
    assert torch.equal(drawn(loader_of(fewer, task), rows[:4]), first[:4])
    assert not torch.equal(drawn(loader, rows, epoch=1), first)
    assert not torch.equal(drawn(loader_of(images, task, stream="own"), rows), first)
    assert torch.equal(drawn(loader, rows, epoch=0), first)


def test_kornia_gives_the_pixels_of_an_exact_flip_and_crop():
    images = random_images(64)
    rows, pixels = np.arange(64), torch.from_numpy(images.pixels).permute(0, 3, 1, 2)
    found = drawn(loader_of(images, task_of(batch_augmentation=[BATCH_FLIP])), rows)
    flipped = torch.tensor([torch.equal(f, p.flip(2)) for f, p in zip(found, pixels, strict=True)])
    kept = torch.tensor([torch.equal(f, p) for f, p in zip(found, pixels, strict=True)])
    assert (flipped ^ kept).all()
    assert 16 < flipped.sum() < 48
    found = drawn(loader_of(images, task_of(batch_augmentation=[CROP])), rows)
    padded = torch.nn.functional.pad(pixels, (2, 2, 2, 2))
    places = [(y, x) for y in range(5) for x in range(5)]
    for image, source in zip(found, padded, strict=True):
        assert any(torch.equal(image, source[:, y : y + 8, x : x + 8]) for y, x in places)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_crop_gives_the_same_pixels_in_one_pass_as_image_by_image():
    images, rows = random_images(64), np.arange(64)
    one_pass = {**CROP, "options": {**CROP["options"], "cropping_mode": "resample"}}
    tasks = [task_of(batch_augmentation=[crop]) for crop in (CROP, one_pass)]
    one, other = (drawn(loader_of(images, task), rows) for task in tasks)
    assert torch.equal(one, other)


@pytest.mark.parametrize("pixels", [1, 64 * 7, 1 << 20])
def test_batches_augmented_together_are_those_augmented_alone(monkeypatch, pixels):
    images, task = random_images(23), task_of(batch_augmentation=[BATCH_FLIP, CROP])
    parts = np.split(np.random.default_rng(1).permutation(23), [5, 10, 11, 20])
    expected = [*loader_of(images, task).batches("train", parts, 0)]
    monkeypatch.setattr(loading, "AUGMENTED_PIXELS", pixels)
    found = [*loader_of(images, task).batches("train", parts, 0)]
    assert [len(batch) for batch in found] == [5, 5, 1, 9, 3]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
        assert one.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("chain", [[], [BATCH_FLIP, CROP]])
def test_the_device_gives_the_batches_of_the_workers(chain):
    images, rows = random_images(23), np.random.default_rng(1).permutation(23)
    tasks = [task_of(loading=way, batch_augmentation=chain) for way in ("device", "workers")]
    one, other = (drawn(loader_of(images, task), rows) for task in tasks)
    assert torch.equal(one, other)
    assert one.dtype == torch.uint8


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(tmp_path, workers):
    files = {
        f"{part}/{c}/{i}.png": picture(i)
        for part in ("train", "test")
        for c in "ab"
        for i in range(9)
    }
    folder = ImageTask.model_validate(
        {
            "dataset": "image_folder",
            "path": str(write_zip(tmp_path / "a.zip", files)),
            "augmentation": [FLIP],
            "batch_augmentation": [CROP],
        }
    )
    images = open_source(folder).train
    rows = np.random.default_rng(1).permutation(18)
    alone, helped = (drawn(loader_of(images, folder, n), rows) for n in (0, workers))
    assert torch.equal(alone, helped)
    assert not torch.equal(alone, drawn(loader_of(images, task_of()), rows))


def test_a_worker_names_the_image_that_it_cannot_decode(tmp_path):
    files = {f"{part}/{c}/0.png": picture(1) for part in ("train", "test") for c in "ab"}
    files["train/b/0.png"] = files["train/b/0.png"][:60]
    task = task_of(
        dataset="image_folder", path=str(write_zip(tmp_path / "a.zip", files)), loading="workers"
    )
    loader = loader_of(open_source(task).train, task, workers=1)
    with pytest.raises(DatasetError, match=r"a.zip: train/b/0.png: the image cannot be read"):
        drawn(loader, [0, 1])


def test_small_sets_stay_on_the_device_unless_augmented_image_by_image(monkeypatch):
    parts = {"train": random_images(10)}
    assert is_resident(task_of(), parts, (8, 8))
    assert is_resident(task_of(batch_augmentation=[CROP]), parts, (8, 8))
    assert not is_resident(task_of(augmentation=[FLIP]), parts, (8, 8))
    assert not is_resident(task_of(loading="workers"), parts, (8, 8))
    monkeypatch.setattr(loading, "RESIDENT_BYTES", 10 * 8 * 8 * 3 - 1)
    assert not is_resident(task_of(), parts, (8, 8))
    assert is_resident(task_of(loading="device"), parts, (8, 8))


def test_images_on_the_device_are_decoded_once_for_all_models(monkeypatch):
    images, task = random_images(6), task_of()
    first = loader_of(images, task)
    drawn(first, [0, 1])
    monkeypatch.setattr(loading, "pixels_on", None)
    other = Loader(task, first.parts, (8, 8), CPU, first.seed_of, 0, first.held)
    assert torch.equal(drawn(other, [5]), drawn(first, [5]))


def test_image_by_image_and_on_the_device_do_not_go_together():
    with pytest.raises(ValueError, match="move its transforms to batch_augmentation"):
        task_of(loading="device", augmentation=[FLIP])


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (FLIP, "'HorizontalFlip' is not a transform of kornia.augmentation"),
        ({"name": "RandomCrop", "options": {"sice": 3}}, "RandomCrop: .*sice"),
        ({**CROP, "options": {"size": [8, 8], "same_on_batch": True}}, "leave it out"),
        ({"name": "RandomMixUpV2"}, "is not a transform of kornia.augmentation"),
    ],
)
def test_what_kornia_does_not_know_is_refused(transform, message):
    with pytest.raises(PartError, match=message):
        loader_of(random_images(4), task_of(batch_augmentation=[transform]))


def test_a_crop_of_another_size_is_named():
    crop = {"name": "RandomCrop", "options": {"size": [4, 6]}}
    with pytest.raises(DatasetError, match="makes images of 4 x 6 pixels, expected 8 x 8"):
        drawn(loader_of(random_images(4), task_of(batch_augmentation=[crop])), [0, 1])
