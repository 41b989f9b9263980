from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsi_ncmi.bags.store import Bag, cast_features, read_bag, stated_digest, write_bag
from wsi_ncmi.errors import BagError

MakeBag = Callable[..., Bag]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "features" / "s1.h5"


@pytest.mark.parametrize("copies", [0, 2])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_round_trip(path: Path, make_bag: MakeBag, dtype: type, copies: int) -> None:
    bag = make_bag(copies=copies)
    bag = replace(bag, features=bag.features.astype(dtype), augmented=bag.augmented.astype(dtype))
    write_bag(path, bag)
    found = read_bag(path)
    for name in ("features", "coords", "tissue_fraction", "invalid_coords", "augmented"):
        expected = getattr(bag, name)
        assert np.array_equal(getattr(found, name), expected), name
        assert getattr(found, name).dtype == expected.dtype, name
    assert found.coords_attributes == {"patch_size": 256, "patch_level": 1}
    assert found.attributes["encoder"] == "tiny"
    assert found.attributes["complete"]
    assert [p.name for p in path.parent.iterdir()] == ["s1.h5"]


def test_the_bytes_are_plain(path: Path, make_bag: MakeBag) -> None:
    """Contiguous and uncompressed: training reads them at the disk's speed."""
    bag = make_bag()
    write_bag(path, bag)
    with h5py.File(path) as file:
        features = file["features"]
        assert features.chunks is None
        assert features.compression is None
        offset = features.id.get_offset()
    raw = path.read_bytes()[offset : offset + bag.features.nbytes]
    assert raw == bag.features.tobytes()


def test_the_same_bag_has_the_same_bytes(tmp_path: Path, make_bag: MakeBag) -> None:
    for name in ("a.h5", "b.h5"):
        write_bag(tmp_path / name, make_bag(copies=1))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_casting() -> None:
    values = np.array([[0.1, -65504.0, 1e-8]], np.float32)
    assert cast_features(values, "float16").dtype == np.float16
    assert np.array_equal(cast_features(values, "float32"), values)


def test_overflow_names_the_remedy() -> None:
    values = np.array([[1.0, -70_000.0]], np.float32)
    with pytest.raises(BagError) as error:
        cast_features(values, "float16")
    assert str(error.value) == (
        "a feature of size 7e+04 does not fit into float16: set extraction.dtype to float32"
    )
    assert np.array_equal(cast_features(values, "float32"), values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_values_that_are_not_finite(value: float, dtype: str) -> None:
    with pytest.raises(BagError, match="returned values that are not finite"):
        cast_features(np.array([[1.0, value]], np.float32), dtype)


def test_a_failed_write_leaves_what_was_there(
    path: Path, make_bag: MakeBag, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bag(path, make_bag())
    before = path.read_bytes()
    real = h5py.Group.create_dataset

    def weak_disk(group: h5py.Group, name: str, data: np.ndarray) -> h5py.Dataset:
        return real(group, name, data=data + (name == "coords"))

    monkeypatch.setattr(h5py.Group, "create_dataset", weak_disk)
    with pytest.raises(BagError, match=r"s1\.h5: what was written .*checksum.*: check the disk"):
        write_bag(path, make_bag(seed=1))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["s1.h5"]


def damaged(path: Path, make_bag: MakeBag, kind: str) -> None:
    write_bag(path, make_bag(rows=200))
    if kind in ("truncated", "garbage", "empty"):
        raw = path.read_bytes()
        content = {"truncated": raw[: len(raw) // 2], "garbage": b"x" * 500, "empty": b""}
        path.write_bytes(content[kind])
        return
    with h5py.File(path, "r+") as file:
        if kind == "incomplete":
            file.attrs["complete"] = False
        elif kind == "unfinished":
            del file.attrs["complete"]
        elif kind == "version":
            file.attrs["format_version"] = 1
        else:
            del file[kind]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("truncated", "cannot be read as a bag"),
        ("garbage", "cannot be read as a bag"),
        ("empty", "cannot be read as a bag"),
        ("incomplete", "is not complete: remove it and run `snakemake -R features`"),
        ("unfinished", "is not complete: remove it and run `snakemake -R features`"),
        ("version", "format version 1, expected 3 (of another wsi-ncmi): remove it"),
        ("features", "datasets ['features'] are missing"),
        ("coords", "datasets ['coords'] are missing"),
    ],
)
def test_half_written_files_are_refused(
    path: Path, make_bag: MakeBag, kind: str, text: str
) -> None:
    damaged(path, make_bag, kind)
    with pytest.raises(BagError) as error:
        read_bag(path)
    assert str(error.value).startswith(f"{path}: ")
    assert text in str(error.value)
    if kind != "coords":  # a look at the digest does not read all datasets
        assert stated_digest(path) != "d1"


def test_a_missing_file_is_refused(path: Path) -> None:
    with pytest.raises(BagError, match=r"s1\.h5: no such file"):
        read_bag(path)
    assert stated_digest(path) != "d1"


@pytest.mark.parametrize("name", ["coords", "tissue_fraction"])
def test_parts_that_do_not_fit_together(path: Path, make_bag: MakeBag, name: str) -> None:
    write_bag(path, make_bag())
    with h5py.File(path, "r+") as file:
        short = file[name][:-1]
        del file[name]
        file.create_dataset(name, data=short)
    with pytest.raises(BagError, match=rf"s1\.h5: {name} is \(4.*for 5 features"):
        read_bag(path)


def test_bags_that_do_not_fit_together_are_not_written(path: Path, make_bag: MakeBag) -> None:
    bag = make_bag()
    with pytest.raises(BagError, match="coords is"):
        write_bag(path, replace(bag, coords=bag.coords[:-1]))
    assert not path.exists()


def test_current_means_complete_and_of_this_digest(path: Path, make_bag: MakeBag) -> None:
    write_bag(path, make_bag())
    assert stated_digest(path) == "d1"
    assert stated_digest(path) != "d2"
