import numpy as np
import pytest
from made_images import index_of

from wsi_ncmi.config import ImageTask
from wsi_ncmi.images.data import load_dataset, open_source, partition, split_table
from wsi_ncmi.images.datasets.interface import DatasetError
from wsi_ncmi.images.merging import merged

FASHION = {"tops": ["shirt", "t-shirt", "coat", "pullover"], "shoes": ["sneaker", "sandal"]}


def task(path, groups, **settings):
    return ImageTask(dataset="fashion_mnist", path=str(path), merge_classes=groups, **settings)


def test_merged_classes_come_first_and_the_others_stay(idx_folder, tmp_path):
    found = task(idx_folder, FASHION)
    fine = open_source(found)
    coarse = load_dataset(found, index_of(found, tmp_path / "index")).dataset
    assert coarse.classes == ["tops", "shoes", "trouser", "dress", "bag", "ankle boot"]
    expected = {fine_name: name for name, listed in FASHION.items() for fine_name in listed}
    for part in ("train", "test"):
        before, after = getattr(fine, part), getattr(coarse, part)
        assert list(after.ids) == list(before.ids)
        names = [fine.classes[target] for target in before.targets]
        assert [coarse.classes[t] for t in after.targets] == [expected.get(n, n) for n in names]


def test_subsets_are_balanced_by_the_merged_classes(idx_folder, tmp_path):
    rest = ["trouser", "dress", "bag", "ankle boot"]
    found = task(idx_folder, {**FASHION, "rest": rest}, train_samples=30, validation_fraction=0.2)
    loaded = load_dataset(found, index_of(found, tmp_path / "index")).dataset
    parts = partition(loaded, found)
    assert np.bincount(parts["train"].targets).tolist() == [8, 8, 8]
    table = split_table(parts, loaded.classes)
    assert set(table["label"]) == {"tops", "shoes", "rest"}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"tops": ["shirt", "Coat"]},
            r"merge_classes.tops: no class 'Coat' in the data set: .*bag",
        ),
        ({"bag": ["shirt", "coat"]}, "merge_classes.bag: the data set has a class of this name"),
    ],
)
def test_classes_that_cannot_be_merged_are_named(idx_folder, groups, message):
    with pytest.raises(DatasetError, match=message):
        merged(open_source(task(idx_folder, {})), groups)


def test_a_single_class_is_none(idx_folder):
    whole = open_source(task(idx_folder, {}))
    with pytest.raises(DatasetError, match="all 10 classes become all: expected two or more"):
        merged(whole, {"all": whole.classes})


def test_a_class_in_two_merged_ones_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="merge_classes lists 'coat' more than once"):
        task("nowhere", {"tops": ["coat"], "warm": ["coat", "dress"]})
