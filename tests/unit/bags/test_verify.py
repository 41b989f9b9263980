"""`verify_bag` finds every kind of damage; the checksum covers names, shapes, dtypes and bytes."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from wsi_ncmi.bags import checksum
from wsi_ncmi.bags.checksum import data_sha256
from wsi_ncmi.bags.store import (
    Bag,
    bag_counts,
    read_bag,
    stated_digest,
    verify_bag,
    write_bag,
)
from wsi_ncmi.errors import BagError, UnreachableBagError
from wsi_ncmi.files import patience

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


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def test_the_checksum_by_hand(path: Path) -> None:
    """Computed again from the file without the package."""
    hasher = hashlib.sha256()
    with h5py.File(path) as file:
        of_file = {k: plain(v) for k, v in file.attrs.items() if k != "data_sha256"}
        of_coords = {k: plain(v) for k, v in file["coords"].attrs.items()}
        attributes = json.dumps({"": of_file, "coords": of_coords}, sort_keys=True)
        hasher.update(attributes.encode() + b"\n")
        for name in sorted(DATASETS):
            data = file[name][()]
            hasher.update(f"{name} {data.shape} {data.dtype.str}\n".encode() + data.tobytes())
    assert stored(path) == hasher.hexdigest()


def test_blocks_change_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(path) as file:
        expected = data_sha256(dict(file))
        monkeypatch.setattr(checksum, "BLOCK_BYTES", 100)
        assert data_sha256(file) == expected
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


def sign(file: h5py.File) -> None:
    of_file = {name: value for name, value in file.attrs.items() if name != "data_sha256"}
    attributes = {"": of_file, **{name: dict(data.attrs) for name, data in file.items()}}
    file.attrs["data_sha256"] = data_sha256(file, attributes)


def edit(path: Path, kind: str) -> None:
    with h5py.File(path, "r+") as file:
        if kind == "not finite":
            file["features"][3, 2] = np.nan
            sign(file)
        elif kind == "no digest":
            del file.attrs["digest"]
            sign(file)
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
        ("version 1", "format version 1, expected 3"),
        ("short", "coords is (39, 2), expected (40, 2) for 40 features"),
        ("group", "unknown datasets ['more']"),
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


@pytest.mark.parametrize("owner", ["", "coords"])
def test_an_attribute_that_changed(path: Path, owner: str) -> None:
    """What the rows mean stands in attributes: the encoder, and how large a tile is."""
    name, other = {"": ("encoder", "tinx"), "coords": ("patch_size", 257)}[owner]
    with h5py.File(path, "r+") as file:
        item = file[owner] if owner else file
        item.attrs.modify(name, other)
    assert [p[:39] for p in verify_bag(path)] == ["the data do not match their checksum (da"[:39]]
    with pytest.raises(BagError, match="do not match their checksum"):
        read_bag(path, check=True)


def as_version_2(path: Path) -> None:
    """A bag as it was written before attributes stood under the checksum."""
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2
        file.attrs["data_sha256"] = data_sha256(file)


def test_bags_of_version_2_are_read_and_stay_current(path: Path) -> None:
    as_version_2(path)
    assert verify_bag(path) == []
    assert stated_digest(path) == "d1"
    assert len(read_bag(path, check=True).features) == 40


def test_a_new_bag_cannot_pass_for_one_of_version_2(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2
        file.attrs.modify("encoder", "tinx")
    assert "do not match their checksum" in verify_bag(path)[0]


def unreachable(path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> list[float]:
    """Opening fails so many times, as on a network disk; the pauses that were made."""
    real, left, pauses = Path.open, [times], list[float]()

    def lost(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == path and left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", lost)
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
    return pauses


def test_a_bag_that_cannot_be_opened_for_a_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = unreachable(path, monkeypatch, 2)
    assert len(read_bag(path, check=True).features) == 40
    assert pauses == [0.1, 0.4]


def test_a_bag_that_cannot_be_reached_is_not_a_damaged_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its stage would encode the slide again, and remove the bag if it cannot."""
    unreachable(path, monkeypatch, 100)
    for read in (read_bag, verify_bag, stated_digest, bag_counts):
        with pytest.raises(UnreachableBagError, match=r"s1\.h5: cannot be reached now.*Stale file"):
            read(path)
