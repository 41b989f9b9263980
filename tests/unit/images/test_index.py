"""The index of a data set: what it says, what it reuses, and what a task makes of it."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from made_images import index_of, picture, tiny_imagenet, write_folder, write_zip

from wsi_ncmi.config import ImageTask
from wsi_ncmi.images.data import load_dataset, open_source
from wsi_ncmi.images.datasets.files.stored import StoredPixels
from wsi_ncmi.images.datasets.interface import DatasetError
from wsi_ncmi.images.index.record import read_index
from wsi_ncmi.stages import image_index, images


def task_of(path, **changes):
    return ImageTask.model_validate({"dataset": "image_folder", "path": str(path), **changes})


def files(damaged=(), copied=()):
    """Two classes: six training and two test images; some damaged, some test images in both."""
    found = {}
    for c, name in enumerate(("cat", "dog")):
        found |= {f"train/{name}/{i}.png": picture(10 * c + i) for i in range(6)}
        found |= {f"test/{name}/{i}.png": picture(100 + 10 * c + i) for i in range(2)}
    found |= {name: found[name][:60] for name in damaged}
    return found | {train: found[test] for train, test in copied}


def test_an_index_holds_what_reading_the_data_set_shows(tmp_path):
    task = task_of(write_folder(tmp_path / "a", files()))
    found, direct = load_dataset(task, index_of(task, tmp_path / "i")).dataset, open_source(task)
    assert (found.classes, found.protocol) == (direct.classes, direct.protocol)
    for part in ("train", "test"):
        one, other = getattr(found, part), getattr(direct, part)
        assert list(one.ids) == list(other.ids)
        assert one.targets.tolist() == other.targets.tolist()
        for row in range(len(one)):
            np.testing.assert_array_equal(one.pixels[row], other.pixels[row])
    index = read_index(tmp_path / "i")
    assert set(index.images["height"]) == {8}
    assert index.images["pixels_sha256"].is_unique
    summary = json.loads((tmp_path / "i" / "summary.json").read_text())
    assert summary["images"] == {"train": {"cat": 6, "dog": 6}, "test": {"cat": 2, "dog": 2}}
    assert (summary["corrupt"], summary["overlap"]) == (0, {"test": 0, "train": 0})


@pytest.mark.parametrize("dataset", ["image_folder", "tiny_imagenet", "mnist"])
def test_jobs_neither_look_for_files_nor_decode(tmp_path, dataset, idx_folder, monkeypatch):
    paths = {
        "image_folder": write_zip(tmp_path / "a.zip", files()),
        "tiny_imagenet": write_zip(tmp_path / "t.zip", tiny_imagenet()),
        "mnist": idx_folder,
    }
    task = task_of(paths[dataset], dataset=dataset)
    folder = index_of(task, tmp_path / "i")
    monkeypatch.setattr(StoredPixels, "decode", None)
    if dataset != "mnist":  # an array is read as a whole
        monkeypatch.setattr("wsi_ncmi.images.data.open_source", None)
    found, whole = load_dataset(task, folder).dataset, read_index(folder).images
    assert [*found.train.ids, *found.test.ids] == whole["id"].tolist()


def test_what_is_corrupt_is_listed_and_refused_or_left_out(tmp_path, caplog):
    damaged = ["train/cat/3.png", "test/dog/1.png"]
    task = task_of(write_folder(tmp_path / "a", files(damaged)))
    folder = index_of(task, tmp_path / "i")
    listed = pd.read_csv(folder / "corrupt.tsv", sep="\t")
    assert listed["id"].tolist() == damaged
    assert listed["reason"].str.startswith("the image cannot be read").all()
    with pytest.raises(DatasetError, match=r"2 of 16 images are corrupt: train/cat/3.png .*skip"):
        load_dataset(task, folder)
    found = load_dataset(task_of(task.path, corrupt="skip"), folder)
    assert [len(found.dataset.train), len(found.dataset.test)] == [11, 3]
    assert not {*found.dataset.train.ids, *found.dataset.test.ids} & set(damaged)
    (sentence,) = found.warnings
    assert sentence.startswith("2 of 16 images are corrupt: train/cat/3.png")
    assert sentence in caplog.text


def test_the_same_pixels_in_both_parts_are_found_in_whatever_file(tmp_path):
    import io

    from PIL import Image

    content = files(copied=[("train/dog/5.png", "test/cat/0.png")])
    bmp = io.BytesIO()
    Image.open(io.BytesIO(content["test/dog/1.png"])).save(bmp, "BMP")
    content["train/dog/copy.bmp"] = bmp.getvalue()
    task = task_of(write_folder(tmp_path / "a", content))
    folder = index_of(task, tmp_path / "i")
    rows = pd.read_csv(folder / "overlap.tsv", sep="\t")
    assert rows[["test", "test_class", "train", "train_class"]].to_numpy().tolist() == [
        ["test/cat/0.png", "cat", "train/dog/5.png", "dog"],
        ["test/dog/1.png", "dog", "train/dog/copy.bmp", "dog"],
    ]
    (sentence,) = load_dataset(task, folder).warnings
    assert sentence.startswith("2 test images are training images too")
    with pytest.raises(DatasetError, match=r"2 test images .* set `overlap: drop`"):
        load_dataset(task_of(task.path, overlap="refuse"), folder)
    kept = load_dataset(task_of(task.path, overlap="drop"), folder).dataset
    assert len(kept.test) == 4
    assert set(rows["train"]) & set(kept.train.ids) == set()
    assert len(kept.train) == 11


def test_warnings_reach_the_folder_of_the_task(tmp_path):
    content = files(copied=[("train/dog/5.png", "test/cat/0.png")])
    task = task_of(write_folder(tmp_path / "a", content), validation_fraction=0.2)
    images.run_splits(task, index_of(task, tmp_path / "i"), tmp_path / "t" / "splits.tsv")
    noted = json.loads((tmp_path / "t" / "data_set.json").read_text())
    assert "1 test images are training images too" in noted["warnings"][0]


def test_a_changed_file_is_noticed_before_anything_is_trained(tmp_path):
    task = task_of(write_folder(tmp_path / "a", files()))
    folder = index_of(task, tmp_path / "i")
    changed = tmp_path / "a" / "train/cat/1.png"
    changed.write_bytes(picture(777))
    with pytest.raises(DatasetError, match=r"cat/1.png: the file has changed .* 1 of 16 files"):
        load_dataset(task, folder)
    changed.unlink()
    with pytest.raises(DatasetError, match=r"cat/1.png: the file cannot be seen"):
        load_dataset(task, folder)


def test_only_changed_files_are_read_again(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "a", files())
    task = task_of(root)
    before = load_dataset(task, index_of(task, tmp_path / "i"))
    read = []
    original = StoredPixels.raw

    def recorded(self, index):
        read.append(self.members[index].name)
        return original(self, index)

    monkeypatch.setattr(StoredPixels, "raw", recorded)
    (root / "train/cat/1.png").write_bytes(picture(777))
    os.utime(root / "train/dog/1.png", ns=(1, 1))  # touched: read, and the same
    after = load_dataset(task, index_of(task, tmp_path / "i"))
    assert read == ["train/cat/1.png", "train/dog/1.png"]
    assert after.files_digest != before.files_digest
    (root / "train/cat/1.png").write_bytes(files()["train/cat/1.png"])
    again = load_dataset(task, index_of(task, tmp_path / "i"))
    assert again.files_digest == before.files_digest


def test_threads_change_nothing(tmp_path):
    task = task_of(write_zip(tmp_path / "a.zip", files(["train/cat/3.png"])))
    for threads in (1, 4):
        image_index.run(task, tmp_path / str(threads) / "summary.json", threads)
    one, four = (read_index(tmp_path / n) for n in ("1", "4"))
    pd.testing.assert_frame_equal(one.images, four.images)
    assert one.digest == four.digest


def test_an_index_that_is_missing_damaged_or_of_another_set_is_refused(tmp_path):
    task = task_of(write_folder(tmp_path / "a", files()))
    with pytest.raises(DatasetError, match="no index of the data set: make it by `wsi-ncmi images"):
        load_dataset(task, tmp_path / "i")
    folder = index_of(task, tmp_path / "i")
    other = task_of(task.path, options={"test_seed": 1})
    with pytest.raises(DatasetError, match="test_seed"):
        load_dataset(other, folder)
    (folder / "images.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="damaged index"):
        load_dataset(task, folder)


def test_a_subset_of_a_published_set_is_said(tmp_path, idx_folder):
    task = task_of(idx_folder, dataset="mnist")
    (sentence,) = load_dataset(task, index_of(task, tmp_path / "i")).warnings
    assert "120 training and 60 test images, 60,000 and 10,000 as it was published" in sentence
