import zipfile

import numpy as np
import pytest
from made_images import picture, tiny_imagenet, write_folder, write_zip

from wsi_ncmi.images.datasets import tiny_imagenet as dataset
from wsi_ncmi.images.datasets.interface import DatasetError

OPTIONS = dataset.Options()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_folder_and_zip_give_the_same_labelled_images(tmp_path, method):
    root = write_folder(tmp_path / "a", tiny_imagenet())
    folder = dataset.build(root / "tiny-imagenet-200", OPTIONS)
    packed = dataset.build(write_zip(tmp_path / "tiny.zip", tiny_imagenet(), method), OPTIONS)
    assert folder.classes == packed.classes
    assert folder.classes == [
        "n01440764 tench",
        "n01443537 goldfish",
        "n02102040 English springer",
    ]
    for found in (folder, packed):
        assert found.train.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        # val_0, 14, 16, 2, 7, 9: by name, and by the annotations of 0, 2 | 7, 9 | 14, 16.
        assert [name.rpartition("_")[2] for name in found.test.ids] == [
            f"{n}.JPEG" for n in (0, 14, 16, 2, 7, 9)
        ]
        assert found.test.targets.tolist() == [0, 2, 2, 0, 1, 1]
        assert found.train.pixels[0].shape == (64, 64, 3)
    for part in ("train", "test"):
        for one, other in zip(
            getattr(folder, part).pixels, getattr(packed, part).pixels, strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert packed.files == (tmp_path / "tiny.zip",)


def test_an_image_without_a_label_is_named(tmp_path):
    files = tiny_imagenet() | {"tiny-imagenet-200/val/images/val_99.JPEG": picture(1)}
    root = write_folder(tmp_path, files)
    with pytest.raises(DatasetError, match=r"1 validation images have no line .*val_99.JPEG"):
        dataset.build(root, OPTIONS)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"no val/val_annotations.txt; expected tiny-imagenet"):
        dataset.build(write_folder(tmp_path, {"train/a/images/b.JPEG": b""}), OPTIONS)
