import numpy as np
import pytest

from wsi_ncmi.config import ImageTask
from wsi_ncmi.errors import PartError
from wsi_ncmi.images.data import (
    balanced,
    open_source,
    partition,
    split_table,
    to_square,
)
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images


def made(targets, prefix="train", pixels=None):
    targets = np.asarray(targets, np.int64)
    if pixels is None:
        pixels = np.zeros((len(targets), 4, 4, 3), np.uint8)
        pixels[:, 0, 0, 0] = np.arange(len(targets))
    return Images([f"{prefix}-{i}" for i in range(len(targets))], targets, pixels)


def dataset(train, test=(0, 1, 2)):
    return ImageDataset(list("abc"), made(train), made(test, "test"), ())


def task(**settings):
    return ImageTask(dataset="mnist", path="x", **settings)


def test_a_selection_of_a_selection_shows_the_right_pixels():
    chosen = made(range(10)).select(np.array([8, 2, 5])).select(np.array([2, 0]))
    assert list(chosen.ids) == ["train-5", "train-8"]
    assert [chosen.pixels[i][0, 0, 0] for i in range(2)] == [5, 8]
    assert chosen.targets.tolist() == [5, 8]


def test_a_balanced_subset_has_every_class_equally_and_grows_with_its_count():
    data = dataset([0] * 50 + [1] * 9 + [2] * 20)
    small, large = balanced(data, "train", 6, 3), balanced(data, "train", 14, 3)
    assert np.bincount(small.targets).tolist() == [2, 2, 2]
    assert np.bincount(large.targets).tolist() == [5, 5, 4]
    assert set(small.ids) < set(large.ids)
    assert list(balanced(data, "train", 6, 3).ids) == list(small.ids)
    assert list(balanced(data, "train", 6, 4).ids) != list(small.ids)
    assert balanced(data, "train", None, 0) is data.train


@pytest.mark.parametrize(
    ("count", "found"), [(30, "10 images of each of 3 .* and b has 9"), (2, "0 images")]
)
def test_too_few_images_of_a_class_are_refused(count, found):
    with pytest.raises(DatasetError, match=f"train_samples {count} needs {found}"):
        balanced(dataset([0] * 50 + [1] * 9 + [2] * 20), "train", count, 0)


def test_validation_is_stratified_and_comes_from_training_alone():
    data = dataset([0] * 60 + [1] * 30 + [2] * 10)
    parts = partition(data, task(validation_fraction=0.1))
    assert {p: np.bincount(parts[p].targets).tolist() for p in parts} == {
        "train": [54, 27, 9],
        "val": [6, 3, 1],
        "test": [1, 1, 1],
    }
    assert sorted([*parts["train"].ids, *parts["val"].ids]) == sorted(data.train.ids)
    again = partition(data, task(validation_fraction=0.1))
    other = partition(data, task(validation_fraction=0.1, subset_seed=1))
    assert list(again["val"].ids) == list(parts["val"].ids) != list(other["val"].ids)


def test_validation_without_an_image_of_a_class_is_refused():
    with pytest.raises(DatasetError, match=r"validation_fraction 0.1 of 21 images cannot be taken"):
        partition(dataset([0] * 10 + [1] * 10 + [2]), task())


def test_the_split_table_has_a_row_for_every_image():
    data = dataset([0] * 10 + [1] * 10 + [2] * 10)
    table = split_table(partition(data, task(validation_fraction=0.2)), data.classes)
    assert table.groupby("part").size().to_dict() == {"test": 3, "train": 24, "val": 6}
    row = table.set_index("sample_id").loc["test-1"]
    assert row[["fold", "part", "patient_id", "slide_id", "centre", "label"]].tolist() == [
        0,
        "test",
        "test-1",
        "test-1",
        "-",
        "b",
    ]
    assert table.sample_id.is_unique


def test_to_square_cuts_the_centre_and_resizes():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    assert (to_square(image, 5) == 200).all()
    assert to_square(image, 5).shape == (5, 5, 3)
    assert to_square(image, None) is image
    assert to_square(image[:, :10], 10) is not None
    with pytest.raises(ValueError, match="differ in number"):
        Images(["a"], np.zeros(2, np.int64), image[None])


def test_unknown_data_sets_and_options_are_refused(idx_folder):
    with pytest.raises(
        PartError, match="unknown dataset 'svhn': expected one of characters, cifar10"
    ):
        open_source(task().model_copy(update={"dataset": "svhn"}))
    with pytest.raises(PartError, match="mnist: unknown option 'size'"):
        open_source(task(options={"size": 3}))
    with pytest.raises(PartError, match="test_fraction must be in \\(0, 1\\)"):
        open_source(ImageTask(dataset="image_folder", path="x", options={"test_fraction": 1.5}))
