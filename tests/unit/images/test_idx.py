import gzip
import re

import numpy as np
import pytest

from wsi_ncmi.images.datasets import fashion_mnist, mnist
from wsi_ncmi.images.datasets.files.idx import read_idx
from wsi_ncmi.images.datasets.interface import DatasetError


def test_gzipped_and_plain_files_give_the_same_grey_images_with_three_channels(idx_folder):
    zipped = mnist.build(idx_folder, mnist.Options())
    for path in idx_folder.glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    plain = mnist.build(idx_folder, mnist.Options())
    assert [len(zipped.train), len(zipped.test)] == [120, 60]
    assert zipped.train.ids[7] == "train-00007"
    assert zipped.protocol == "official"
    image = zipped.train.pixels[7]
    assert image.shape == (8, 8, 3)
    assert image.dtype == np.uint8
    raw = (idx_folder / "train-images-idx3-ubyte").read_bytes()
    expected = np.frombuffer(raw[16 + 7 * 64 : 16 + 8 * 64], np.uint8).reshape(8, 8)
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], expected)
    np.testing.assert_array_equal(plain.train.pixels[7], image)
    np.testing.assert_array_equal(plain.train.targets, zipped.train.targets)
    assert zipped.train.targets.dtype == np.int64


def test_files_in_raw_are_found(idx_folder):
    raw = idx_folder / "raw"
    raw.mkdir()
    for path in list(idx_folder.glob("*.gz")):
        path.rename(raw / path.name)
    assert len(fashion_mnist.build(idx_folder, fashion_mnist.Options()).test) == 60


def test_a_missing_file_is_named_with_its_source(idx_folder):
    (idx_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DatasetError, match=r"no t10k-labels-idx1-ubyte .*zalandoresearch"):
        fashion_mnist.build(idx_folder, fashion_mnist.Options())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:-1], r"5 bytes of values, expected 6 for shape \[2, 3\]"),
        (lambda b: b + b"x", "7 bytes of values, expected 6"),
        (lambda b: b[:2] + b"\x0d" + b[3:], "magic number 00000d02, expected 00000802"),
        (lambda b: b[:7], "7 bytes are too few for an IDX file"),
        (lambda b: gzip.compress(b)[:-6], "damaged gzip file"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, idx_bytes, damage, message):
    path = tmp_path / "images"
    path.write_bytes(damage(idx_bytes(np.arange(6).reshape(2, 3))))
    with pytest.raises(DatasetError, match=f"{re.escape(str(path))}: .*{message}"):
        read_idx(path, 2)


def test_labels_must_fit_their_images_and_classes(idx_folder, idx_bytes):
    labels = idx_folder / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(idx_bytes(np.zeros(59)))
    with pytest.raises(DatasetError, match=r"59 labels, but t10k-images-idx3-ubyte.gz holds 60"):
        mnist.build(idx_folder, mnist.Options())
    labels.write_bytes(idx_bytes(np.full(60, 10)))
    with pytest.raises(DatasetError, match="label 10, expected 0 to 9"):
        mnist.build(idx_folder, mnist.Options())


def test_a_class_without_test_images_is_named(idx_folder, idx_bytes):
    (idx_folder / "t10k-labels-idx1-ubyte.gz").write_bytes(idx_bytes(np.arange(60) % 9))
    with pytest.raises(DatasetError, match="the test part has no image of class ankle boot"):
        fashion_mnist.build(idx_folder, fashion_mnist.Options())


def test_the_real_fashion_mnist(shared_data):
    dataset = fashion_mnist.build(shared_data / "images" / "fashion-mnist", fashion_mnist.Options())
    assert np.bincount(dataset.train.targets).tolist() == [6000] * 10
    assert np.bincount(dataset.test.targets).tolist() == [1000] * 10
    assert dataset.classes[dataset.test.targets[0]] == "ankle boot"
