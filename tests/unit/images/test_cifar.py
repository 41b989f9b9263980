import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from wsi_ncmi.images.datasets import cifar10, cifar100
from wsi_ncmi.images.datasets.files.cifar_python import read_pickle
from wsi_ncmi.images.datasets.interface import DatasetError


def batch(count, classes, seed, key=b"labels"):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    return {b"data": pixels, key: [int(i) % classes for i in range(count)]}


def cifar10_files():
    content = {f"data_batch_{n}": batch(20, 10, n) for n in range(1, 6)}
    content["test_batch"] = batch(10, 10, 9)
    content["batches.meta"] = {b"label_names": [f"class {i}".encode() for i in range(10)]}
    return content


def write_folder(folder, content):
    folder.mkdir(parents=True)
    for name, value in content.items():
        (folder / name).write_bytes(pickle.dumps(value, protocol=4))
    return folder


def write_archive(path, content, prefix="cifar-10-batches-py"):
    with tarfile.open(path, "w:gz") as tar:
        for name, value in content.items():
            data = pickle.dumps(value, protocol=4)
            member = tarfile.TarInfo(f"{prefix}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_folder_and_archive_give_the_same_images(tmp_path):
    content = cifar10_files()
    write_folder(tmp_path / "a" / "cifar-10-batches-py", content)
    archive = write_archive(tmp_path / "cifar-10-python.tar.gz", content)
    folder = cifar10.build(tmp_path / "a", cifar10.Options())
    for path in (archive, tmp_path):
        packed = cifar10.build(path, cifar10.Options())
        assert packed.classes == folder.classes == [f"class {i}" for i in range(10)]
        assert packed.train.ids[21] == "train-00021"
        np.testing.assert_array_equal(packed.train.pixels[21], folder.train.pixels[21])
    # Row 21 is row 1 of the second batch: 1024 values of red, then green, then blue.
    flat = content["data_batch_2"][b"data"][1]
    np.testing.assert_array_equal(folder.train.pixels[21][4, 5], flat[[133, 1157, 2181]])
    assert folder.train.targets[21] == 1
    assert [len(folder.train), len(folder.test)] == [100, 10]


def test_cifar100_has_fine_and_coarse_labels(tmp_path):
    names = {
        b"fine_label_names": [f"fine {i}" for i in range(100)],
        b"coarse_label_names": [f"coarse {i}" for i in range(20)],
    }
    part = batch(100, 100, 0, b"fine_labels")
    part[b"coarse_labels"] = [i % 20 for i in range(100)]
    write_folder(tmp_path / "cifar-100-python", {"train": part, "test": part, "meta": names})
    fine = cifar100.build(tmp_path, cifar100.Options())
    coarse = cifar100.build(tmp_path, cifar100.Options(labels="coarse"))
    assert (fine.classes[57], fine.train.targets[57]) == ("fine 57", 57)
    assert (coarse.classes[17], coarse.train.targets[57]) == ("coarse 17", 17)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_malicious_pickle_is_refused_and_never_run(tmp_path, protocol):
    marker = tmp_path / "was here"
    data = pickle.dumps({"data": Malicious(marker)}, protocol=protocol)
    with pytest.raises(DatasetError, match=r"batch: not a pickle .*asks for \w+\.mkdir"):
        read_pickle(data, "batch")
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["builtins\neval", "os\nsystem", "numpy\nload", "numpy.core.multiarray\nfromfile"]
)
def test_only_what_arrays_need_can_be_named(name):
    with pytest.raises(DatasetError, match="which no array needs"):
        read_pickle(b"c" + name.encode() + b"\n.", "batch")


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"neither cifar-10-python.tar.gz nor .*cs.toronto.edu"):
        cifar10.build(tmp_path, cifar10.Options())
    content = cifar10_files()
    del content["data_batch_3"]
    folder = write_folder(tmp_path / "x", content)
    with pytest.raises(DatasetError, match="no data_batch_3; the data set is at"):
        cifar10.build(folder, cifar10.Options())
    archive = write_archive(tmp_path / "x.tar.gz", content)
    with pytest.raises(DatasetError, match="no data_batch_3 in it"):
        cifar10.build(archive, cifar10.Options())
    archive.write_bytes(archive.read_bytes()[:900])
    with pytest.raises(DatasetError, match="damaged archive"):
        cifar10.build(archive, cifar10.Options())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"data": np.zeros((10, 3071), np.uint8)}, r"uint8 \[10, 3071\], expected uint8"),
        ({b"data": np.zeros((10, 3072), np.float32)}, r"float32 \[10, 3072\]"),
        ({b"labels": [0] * 9}, r"labels are \[9\] for 10 images"),
        ({b"labels": [10] * 10}, "outside 0 to 9"),
    ],
)
def test_a_batch_of_another_shape_is_refused(tmp_path, change, message):
    content = cifar10_files()
    content["test_batch"] = {**content["test_batch"], **change}
    folder = write_folder(tmp_path / "x", content)
    with pytest.raises(DatasetError, match=f"test_batch: .*{message}"):
        cifar10.build(folder, cifar10.Options())


def write_binary(folder, records, names):
    folder.mkdir(parents=True)
    for name, rows in records.items():
        (folder / name).write_bytes(rows.astype(np.uint8).tobytes())
    for name, classes in names.items():
        (folder / name).write_text("\n".join(classes) + "\n\n")  # as published
    return folder


def packed(folder, archive):
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive


def test_the_binary_version_gives_the_images_of_the_python_one(tmp_path):
    content = cifar10_files()
    python = cifar10.build(write_folder(tmp_path / "py", content), cifar10.Options())
    rows = {
        name: np.column_stack([content[name][b"labels"], content[name][b"data"]])
        for name in (*cifar10.PYTHON.train, "test_batch")
    }
    names = [f"class {i}" for i in range(10)]
    folder = write_binary(
        tmp_path / "cifar-10-batches-bin",
        {f"{name}.bin": values for name, values in rows.items()},
        {"batches.meta.txt": names},
    )
    archive = packed(folder, tmp_path / "any-name.tar.gz")
    for path in (folder, tmp_path, archive):
        binary = cifar10.build(path, cifar10.Options())
        assert binary.classes == names
        for part in ("train", "test"):
            own, other = getattr(binary, part), getattr(python, part)
            assert list(own.ids) == list(other.ids)
            np.testing.assert_array_equal(own.targets, other.targets)
            np.testing.assert_array_equal(own.pixels, other.pixels)


def test_a_binary_record_of_cifar100_begins_with_the_coarse_label(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 3072))
    rows = np.column_stack([np.arange(100) // 5, np.arange(100), pixels])
    names = {
        "fine_label_names.txt": [f"fine {i}" for i in range(100)],
        "coarse_label_names.txt": [f"coarse {i}" for i in range(20)],
    }
    folder = write_binary(
        tmp_path / "cifar-100-binary", {"train.bin": rows, "test.bin": rows}, names
    )
    packed(folder, tmp_path / "cifar-100-binary.tar.gz")
    for path in (folder, tmp_path / "cifar-100-binary.tar.gz"):
        fine = cifar100.build(path, cifar100.Options())
        coarse = cifar100.build(path, cifar100.Options(labels="coarse"))
        assert fine.train.targets.tolist() == list(range(100))
        assert coarse.train.targets.tolist() == [i // 5 for i in range(100)]
        assert (fine.classes[57], coarse.classes[11]) == ("fine 57", "coarse 11")
        np.testing.assert_array_equal(fine.train.pixels[3][4, 5], pixels[3, [133, 1157, 2181]])
    (folder / "test.bin").write_bytes(b"x" * 3075)
    with pytest.raises(DatasetError, match=r"test.bin: 3075 bytes, expected a multiple of 3074"):
        cifar100.build(folder, cifar100.Options())
