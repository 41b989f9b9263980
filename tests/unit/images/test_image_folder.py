import hashlib
import logging
import zipfile
from io import BytesIO

import numpy as np
import pytest
from made_images import index_of
from PIL import Image

from wsi_ncmi.config import ImageTask
from wsi_ncmi.images.data import load_dataset
from wsi_ncmi.images.datasets import image_folder
from wsi_ncmi.images.datasets.files import stored
from wsi_ncmi.images.datasets.image_folder import Options
from wsi_ncmi.images.datasets.interface import DatasetError
from wsi_ncmi.provenance import digest


def png(value, mode="RGB", size=(6, 5)):
    data = BytesIO()
    Image.new(mode, size, value).save(data, "PNG")
    return data.getvalue()


def layout(parts=("train", "test"), classes=("cat", "dog"), count=4):
    return {
        f"{part}/{name}/{i}.png": png((10 * c, i, 200))
        for part in parts
        for c, name in enumerate(classes)
        for i in range(count)
    }


def write_folder(root, files):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_folder_and_zip_give_the_same_images(tmp_path):
    files = layout()
    folder = image_folder.build(write_folder(tmp_path / "a", files), Options())
    zipped = image_folder.build(write_zip(tmp_path / "a.zip", files), Options())
    for dataset in (folder, zipped):
        assert dataset.classes == ["cat", "dog"]
        assert list(dataset.test.ids) == sorted(n for n in files if n.startswith("test"))
        assert dataset.train.targets.tolist() == [0] * 4 + [1] * 4
        assert dataset.train.pixels[6].shape == (5, 6, 3)
        assert dataset.train.pixels[6][0, 0].tolist() == [10, 2, 200]
        assert dataset.protocol == "official"


def test_a_wrapping_folder_hidden_files_and_macos_leftovers_do_not_matter(tmp_path):
    files = {f"pets/{name}": data for name, data in layout(("train", "val")).items()}
    files |= {"__MACOSX/pets/train/cat/._0.png": b"x", "pets/train/cat/.DS_Store": b"x"}
    dataset = image_folder.build(write_zip(tmp_path / "a.zip", files), Options())
    assert [len(dataset.train), len(dataset.test)] == [8, 8]
    assert dataset.test.ids[0] == "pets/val/cat/0.png"


def test_a_folder_of_classes_needs_a_test_fraction(tmp_path):
    files = {n.removeprefix("train/"): d for n, d in layout(("train",), count=10).items()}
    root = write_folder(tmp_path / "a", files)
    with pytest.raises(DatasetError, match=r"set options\.test_fraction"):
        image_folder.build(root, Options())
    dataset = image_folder.build(root, Options(test_fraction=0.3))
    assert np.bincount(dataset.test.targets).tolist() == [3, 3]
    assert sorted([*dataset.train.ids, *dataset.test.ids]) == sorted(files)
    assert dataset.protocol == "holdout"
    other = image_folder.build(root, Options(test_fraction=0.3, test_seed=1))
    assert list(other.test.ids) != list(dataset.test.ids)
    assert dataset.train.pixels[0][0, 0, 1] == int(dataset.train.ids[0].split("/")[1][0])


def test_the_test_part_wins_over_val_and_it_is_said(tmp_path, caplog):
    root = write_folder(tmp_path / "a", layout(("train", "val", "test")))
    with caplog.at_level(logging.WARNING):
        dataset = image_folder.build(root, Options())
    assert {name.split("/")[0] for name in dataset.test.ids} == {"test"}
    assert "not used: val (the test part is test/)" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no image"),
        ({"train/a.txt": b"x"}, "no image"),
        (layout(("test",)), "test/ without a train/"),
        (layout(("train", "test"), ("cat",)), r"one class \(cat\), expected two"),
        (layout() | {"train/stray.png": png(1, "L")}, "train/stray.png lies in no class's folder"),
        (layout() | {"test/cow/0.png": png(1, "L")}, r"in training none, only in test \['cow'\]"),
        (layout() | {"train/cow/0.png": png(1, "L")}, r"in training \['cow'\], only in test none"),
    ],
)
def test_other_layouts_are_refused(tmp_path, files, message):
    root = tmp_path / "a"
    root.mkdir()
    with pytest.raises(DatasetError, match=message):
        image_folder.build(write_folder(root, files), Options())


def test_what_is_no_folder_and_no_zip_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such folder, zip or tar"):
        image_folder.build(tmp_path / "none", Options())
    (tmp_path / "a.zip").write_bytes(b"PK nothing")
    with pytest.raises(DatasetError, match="no zip and no whole plain tar"):
        image_folder.build(tmp_path / "a.zip", Options())


def test_an_unreadable_image_is_named_when_it_is_read(tmp_path):
    files = layout() | {"train/cat/0.png": png((1, 2, 3))[:40], "train/dog/0.png": b"no image"}
    for path in (write_folder(tmp_path / "a", files), write_zip(tmp_path / "a.zip", files)):
        train = image_folder.build(path, Options()).train
        for row, name in ((0, "train/cat/0.png"), (4, "train/dog/0.png")):
            with pytest.raises(DatasetError, match=f"{name}: the image cannot be read"):
                train.pixels[row]
        assert train.pixels[1][0, 0].tolist() == [0, 1, 200]


def test_sixteen_bits_are_refused_rather_than_clipped(tmp_path):
    files = layout() | {"train/cat/0.png": png(40_000, "I;16")}
    train = image_folder.build(write_folder(tmp_path / "a", files), Options()).train
    with pytest.raises(
        DatasetError, match=r"train/cat/0.png: pixels of mode I;16, expected 8 bits"
    ):
        train.pixels[0]


def test_a_grey_image_has_three_equal_channels(tmp_path):
    files = layout() | {"train/cat/0.png": png(77, "L")}
    train = image_folder.build(write_folder(tmp_path / "a", files), Options()).train
    assert (train.pixels[0] == 77).all()
    assert train.pixels[0].shape == (5, 6, 3)


def test_images_are_decoded_once_while_there_is_room(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "a", layout())
    monkeypatch.setattr(stored, "KEPT_BYTES", 100)  # one image of 90 bytes
    train = image_folder.build(root, Options()).train
    first = [train.pixels[0], train.pixels[1]]
    assert train.pixels[0] is first[0]
    assert train.pixels[1] is not first[1]


def task_of(root):
    return ImageTask(dataset="image_folder", path=str(root))


def digest_of(root, folder):
    return load_dataset(task_of(root), index_of(task_of(root), folder)).files_digest


def test_the_digest_is_of_names_and_bytes_and_not_of_the_place(tmp_path):
    files = layout()
    one, two = (write_folder(tmp_path / name, files) for name in ("one", "two"))
    assert digest_of(one, tmp_path / "a") == digest_of(two, tmp_path / "b")
    data = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert digest_of(one, tmp_path / "a") == digest([[name, data[name]] for name in sorted(data)])
    (two / "train/cat/0.png").write_bytes(png((9, 9, 9)))
    assert digest_of(two, tmp_path / "b") != digest_of(one, tmp_path / "a")


def test_other_files_beside_the_images_decide_nothing(tmp_path):
    root = write_folder(tmp_path / "a", layout(("train", "test")))
    before = digest_of(root, tmp_path / "i")
    others = {"README.md": b"x", "train/cat/.DS_Store": b"x", "extra/cat/0.png": png((1, 2, 3))}
    write_folder(root, others)
    assert digest_of(root, tmp_path / "i") == before


def test_linked_folders_are_followed(tmp_path):
    stored = write_folder(tmp_path / "stored", layout(("train", "test")))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(stored / "train")
    (tmp_path / "data" / "test").symlink_to(stored / "test")
    linked = image_folder.build(tmp_path / "data", Options())
    assert [len(linked.train), len(linked.test)] == [8, 8]
    direct = image_folder.build(stored, Options())
    assert list(linked.train.ids) == list(direct.train.ids)
    digests = [digest_of(path, tmp_path / path.name) for path in (tmp_path / "data", stored)]
    assert digests[0] == digests[1]


def test_the_real_cifar10_jpegs(shared_data):
    path = shared_data / "images" / "cifar10_jpeg_subset.zip"
    dataset = image_folder.build(path, Options())
    assert dataset.classes[:2] == ["airplane", "automobile"]
    assert np.bincount(dataset.train.targets).tolist() == [1000] * 10
    assert dataset.test.pixels[4999].shape == (32, 32, 3)
