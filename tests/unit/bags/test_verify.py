"""`verify_bag` finds every kind of damage; the checksum covers names, shapes, dtypes and bytes."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsi_ncmi.bags import checksum
from wsi_ncmi.bags.checksum import data_sha256
from wsi_ncmi.bags.store import Bag, read_bag, stated_digest, verify_bag, write_bag
from wsi_ncmi.errors import BagError

MakeBag = Callable[..., Bag]
DATASETS = ("features", "coords", "tissue_fraction", "invalid_coords", "augmented")


@pytest.fixture
def path(tmp_path: Path, make_bag: MakeBag) -> Path:
    path = tmp_path / "s1.h5"
    write_bag(path, make_bag(rows=40, copies=2))
    return path


def stored(path: Path) -> str:
    with h5py.File(path) as file:
        return str(file.attrs["data_sha256"])


def test_a_good_bag_has_no_problem(path: Path) -> None:
    assert verify_bag(path) == []
    assert len(read_bag(path, check=True).features) == 40


def test_the_checksum_by_hand(path: Path) -> None:
    """Computed again from the file without the package."""
    hasher = hashlib.sha256()
    with h5py.File(path) as file:
        for name in sorted(DATASETS):
            data = file[name][()]
            hasher.update(f"{name} {data.shape} {data.dtype.str}\n".encode() + data.tobytes())
    assert stored(path) == hasher.hexdigest()


def test_blocks_change_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "BLOCK_BYTES", 100)
    with h5py.File(path) as file:
        assert data_sha256(file) == stored(path)
        parts = list(checksum.blocks(file["features"]))
    assert len(parts) > 3
    assert sum(len(part) for part in parts) == 40


def test_the_checksum_sees_names_shapes_dtypes_and_bytes() -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    changed = [{"a": a.T.copy()}, {"a": a.astype(np.float64)}, {"a": a + 1}, {"b": a}, {}]
    found = {data_sha256(datasets) for datasets in [{"a": a}, *changed, {"a": a, "b": a[:0]}]}
    assert len(found) == len(changed) + 2


@pytest.mark.parametrize("name", DATASETS)
def test_a_flipped_byte_anywhere_in_the_data(path: Path, name: str) -> None:
    with h5py.File(path) as file:
        offset, size = file[name].id.get_offset(), file[name].id.get_storage_size()
    raw = bytearray(path.read_bytes())
    raw[offset + size // 2] ^= 1
    path.write_bytes(bytes(raw))
    assert any("do not match their checksum" in problem for problem in verify_bag(path))
    assert stated_digest(path) == "d1"  # which does not read the data
    assert len(read_bag(path).features) == 40
    with pytest.raises(BagError, match=r"do not match their checksum.*snakemake -R features"):
        read_bag(path, check=True)


def edit(path: Path, kind: str) -> None:
    with h5py.File(path, "r+") as file:
        if kind == "not finite":
            file["features"][3, 2] = np.nan
            file.attrs["data_sha256"] = data_sha256(file)
        elif kind == "no digest":
            del file.attrs["digest"]
        elif kind == "no checksum":
            del file.attrs["data_sha256"]
        elif kind == "incomplete":
            file.attrs["complete"] = False
        elif kind == "version 1":
            file.attrs["format_version"] = 1
        elif kind == "short":
            part = file["coords"][:-1]
            del file["coords"]
            file["coords"] = part
        elif kind == "group":
            file.create_group("more")
        elif kind == "more":
            file["more"] = np.zeros(3)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("not finite", "features holds values that are not finite"),
        ("no digest", "it has no digest"),
        ("no checksum", "the data do not match their checksum (data_sha256 None"),
        ("incomplete", "is not complete"),
        ("version 1", "format version 1, expected 2"),
        ("short", "coords is (39, 2), expected (40, 2) for 40 features"),
        ("group", "cannot be read as a bag"),
        ("more", "unknown datasets ['more']"),
    ],
)
def test_what_is_wrong_is_said(path: Path, kind: str, expected: str) -> None:
    edit(path, kind)
    found = verify_bag(path)
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize("keep", [0, 10, 1000, 2500])
def test_cut_off_files(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    assert [p[:23] for p in verify_bag(path)] == ["cannot be read as a bag"]


def test_several_problems_are_all_said(path: Path) -> None:
    edit(path, "no digest")
    with h5py.File(path, "r+") as file:
        file["augmented"][1, 0, 0] = np.inf
    assert [p.split(" (")[0] for p in verify_bag(path)] == [
        "augmented holds values that are not finite",
        "it has no digest",
        "the data do not match their checksum",
    ]
