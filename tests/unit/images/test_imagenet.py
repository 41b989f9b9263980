import io
import tarfile

import numpy as np
import pytest
from made_images import (
    TRUE,
    WNIDS,
    devkit,
    imagenet_train,
    imagenet_val,
    picture,
    tar_bytes,
    write_folder,
)
from PIL import Image

from wsi_ncmi.images.datasets import imagenet, webdataset
from wsi_ncmi.images.datasets.interface import DatasetError

OPTIONS = imagenet.Options()


def train_folder():
    return {
        f"train/{wnid}/{name}": data
        for wnid, images in imagenet_train().items()
        for name, data in images.items()
    }


def train_tar():
    inner = {f"{wnid}.tar": tar_bytes(images) for wnid, images in imagenet_train().items()}
    return {"ILSVRC2012_img_train.tar": tar_bytes(inner)}


def val_flat():
    return {f"val/{name}": data for name, data in imagenet_val().items()}


def val_tar():
    return {"ILSVRC2012_img_val.tar": tar_bytes(imagenet_val())}


def val_classes():
    images = zip(imagenet_val().items(), TRUE, strict=True)
    return {f"val/{WNIDS[target]}/{name}": data for (name, data), target in images}


def packed_devkit():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in devkit().items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return {"ILSVRC2012_devkit_t12.tar.gz": data.getvalue()}


LAYOUTS = {
    "folders and devkit": (train_folder, val_flat, devkit),
    "published tars": (train_tar, val_tar, packed_devkit),
    "tar and class folders": (train_tar, val_classes, devkit),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_labelled_images(tmp_path, layout):
    files = {name: data for part in LAYOUTS[layout] for name, data in part().items()}
    found = imagenet.build(write_folder(tmp_path, files), OPTIONS)
    assert found.classes == [
        "n01440764 tench",
        "n01443537 goldfish",
        "n02102040 English springer",
    ]
    assert found.train.targets.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert found.train.ids[4] == "train/n01443537/n01443537_1.JPEG"
    true = dict(zip(imagenet_val(), TRUE, strict=True))
    names = [name.rpartition("/")[2] for name in found.test.ids]
    assert sorted(names) == list(imagenet_val())
    assert found.test.targets.tolist() == [true[name] for name in names]
    expected = np.asarray(Image.open(io.BytesIO(picture(11, 16, "JPEG"))))
    np.testing.assert_array_equal(found.train.pixels[4], expected)
    for row, name in enumerate(names):
        expected = np.asarray(Image.open(io.BytesIO(imagenet_val()[name])))
        np.testing.assert_array_equal(found.test.pixels[row], expected)


def test_class_folders_need_no_devkit(tmp_path):
    found = imagenet.build(write_folder(tmp_path, train_folder() | val_classes()), OPTIONS)
    assert found.classes == list(WNIDS)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (lambda: train_folder() | val_flat(), "need the devkit's labels: put ILSVRC2012_devkit"),
        (lambda: train_folder() | devkit(), r"no val/ and no ILSVRC2012_img_val.tar"),
        (lambda: val_flat() | devkit(), r"no train/<wnid>/, no ILSVRC2012_img_train.tar"),
        (
            lambda: train_folder() | devkit() | {"val/ILSVRC2012_val_00000007.JPEG": b""},
            "must end in a number from 1 to 6",
        ),
        (
            lambda: train_folder() | {"val/n09999999/a.JPEG": b""},
            "class n09999999 is none of the",
        ),
        (
            lambda: {"ILSVRC2012_img_train.tar": tar_bytes({"n01440764.tar": b"x" * 2000})},
            "n01440764.tar in it is no tar",
        ),
        (
            lambda: {n: data[:-15_000] for n, data in train_tar().items()},
            "n02102040.tar in it is no tar|no whole plain tar .*cut short",
        ),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(tmp_path, files, message):
    with pytest.raises(DatasetError, match=message):
        imagenet.build(write_folder(tmp_path, files()), OPTIONS)


def shard(folder, name, samples):
    """By the package itself."""
    from webdataset import TarWriter

    folder.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(folder / name)) as writer:
        for key, target, data in samples:
            writer.write({"__key__": key, "jpg": data, "cls": target, "json": {"label": target}})


def write_shards(folder):
    samples = [(f"{i:06d}", i % 3, picture(i, 16, "JPEG")) for i in range(8)]
    shard(folder, "in1k-train-0000.tar", samples[:5])
    shard(folder, "in1k-train-0001.tar", samples[5:])
    shard(
        folder,
        "in1k-val-0000.tar",
        [("v0", 2, samples[0][2]), ("v1", 0, samples[1][2]), ("v2", 1, samples[2][2])],
    )
    return folder


def test_shards_give_what_the_webdataset_package_reads_from_them(tmp_path):
    from webdataset import WebDataset

    folder = write_shards(tmp_path / "shards")
    found = webdataset.build(folder, webdataset.Options())
    urls = [str(folder / f"in1k-train-000{i}.tar") for i in (0, 1)]
    expected = [*WebDataset(urls, shardshuffle=False)]
    assert len(found.train) == len(expected) == 8
    for row, sample in enumerate(expected):
        assert found.train.ids[row].endswith(f"/{sample['__key__']}")
        assert found.train.targets[row] == int(sample["cls"])
        assert found.train.pixels.raw(row) == sample["jpg"]
    assert found.test.targets.tolist() == [2, 0, 1]
    named = imagenet.build(write_folder(folder, devkit()), OPTIONS)
    assert named.classes[1] == "n01443537 goldfish"
    assert named.train.targets.tolist() == found.train.targets.tolist()


def test_a_sample_that_is_not_whole_is_named(tmp_path):
    folder = write_shards(tmp_path)
    shard = {"a.jpg": picture(0), "a.cls": b"one", "b.jpg": picture(1)}
    (folder / "in1k-train-0001.tar").write_bytes(tar_bytes(shard))
    with pytest.raises(DatasetError, match=r"in1k-train-0001.tar/a: class 'one' in <key>.cls"):
        webdataset.build(folder, webdataset.Options())
    with pytest.raises(DatasetError, match=r"no \*.tar with 'test' in its name"):
        webdataset.build(folder, webdataset.Options(test="test"))
