"""Damaged bags of every layout, seeded: each is refused with a reason, or is read; none raises."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from wsi_ncmi.bags.foreign.discover import FoundBag, recognise
from wsi_ncmi.bags.foreign.importers import open_source
from wsi_ncmi.bags.foreign.layouts import LAYOUTS, read_h5
from wsi_ncmi.bags.foreign.packed import PackedFile
from wsi_ncmi.bags.foreign.repack import Inspected, inspect
from wsi_ncmi.bags.store import Bag, bag_counts, read_bag, verify_bag, write_bag
from wsi_ncmi.errors import BagError, UserError
from wsi_ncmi.files import hdf5, hdf5_process, patience
from wsi_ncmi.files.hdf5 import open_hdf5
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.tilefile import UnreadableSlide
from wsi_ncmi.tools.bags import info, sheet, verify

FEATURES = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32)
COORDS = np.arange(12).reshape(6, 2)
DAMAGES = 30


def write_h5(name: str, path: Path) -> None:
    with h5py.File(path, "w") as file:
        file[name] = FEATURES
        file["coords"] = COORDS
        file.attrs["unit"] = "um"


def write_pt(path: Path) -> None:
    torch.save(torch.from_numpy(FEATURES), path)
    np.savez(path.with_name(f"{path.stem}.index"), COORDS)


def write_npy(path: Path) -> None:
    np.save(path, FEATURES)


def write_own(path: Path) -> None:
    parts = (COORDS.astype(np.int32), np.ones(6, np.float16), np.zeros((0, 2), np.int32))
    write_bag(path, Bag(FEATURES, *parts, np.zeros((0, 6, 16)), {}, {"digest": "d"}))


WRITERS: dict[str, Callable[[Path], None]] = {
    "clam_h5": partial(write_h5, "features"),
    "trident": partial(write_h5, "features"),
    "stamp": partial(write_h5, "feats"),
    "clam_pt": write_pt,
    "hipt": write_pt,
    "slideflow": write_pt,
    "torchmil": write_npy,
    "wsi_ncmi": write_own,
}


def damaged(raw: bytes, rng: np.random.Generator, kind: int) -> bytes:
    """Cut off, some bytes changed, or a stretch of zeros."""
    content = bytearray(raw)
    start = int(rng.integers(len(content)))
    if kind == 0:
        return bytes(content[:start])
    if kind == 1:
        for place in rng.integers(len(content), size=rng.integers(1, 20)):
            content[place] = rng.integers(256)
        return bytes(content)
    stop = min(len(content), start + int(rng.integers(1, 200)))
    content[start:stop] = bytes(stop - start)
    return bytes(content)


def endless(raw: bytes) -> bytes:
    """One bit flipped: the length of the last text in HDF5's heap of texts leads into zeros.

    HDF5 then reads objects of no length one after the other, for ever.
    """
    content, at = bytearray(raw), raw.index(b"GCOL") + 16
    while int.from_bytes(raw[at : at + 2], "little"):
        last, length = at, int.from_bytes(raw[at + 8 : at + 16], "little")
        at += 16 + -(-length // 8) * 8
    content[last + 9] ^= 1
    return bytes(content)


def write_packed_file(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"], file["offsets"] = FEATURES, [0, 6]
        file.create_dataset("slide_id", data=["s"], dtype=h5py.string_dtype())
        file.attrs["made_by"] = "someone"


def write_tiles(path: Path) -> None:
    tilefile.write(path, UnreadableSlide(slide_id="s", reason="why"))


READERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "verify": (write_own, lambda path: verify.run(path.parent, manifests=False)),
    "info": (write_own, info.run),
    "recognise": (partial(write_h5, "features"), recognise),
    "clam": (partial(write_h5, "features"), lambda path: LAYOUTS["clam_h5"].read(path, None)),
    "read_h5": (partial(write_h5, "feats"), read_h5),
    "own": (write_own, read_bag),
    "counts": (write_own, bag_counts),
    "packed": (write_packed_file, PackedFile),
    "sheet": (write_packed_file, lambda path: sheet.sheet(path, path.with_suffix(".tsv"))),
    "folder": (partial(write_h5, "features"), lambda path: open_source(path.parent, "h5", ["s"])),
    "tiles": (write_tiles, tilefile.read),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_hdf5_never_returns_from(
    tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, read = READERS[reader]
    path = tmp_path / "s.h5"
    write(path)
    path.write_bytes(endless(path.read_bytes()))
    monkeypatch.setattr(hdf5_process, "PROCESSOR_SECONDS", 0.2)
    if reader == "verify":
        assert read(path) == 1
        assert "HDF5 comes to no end in it: the file is damaged" in capsys.readouterr().out
        return
    with pytest.raises(UserError, match="HDF5 comes to no end in it: the file is damaged"):
        read(path)


def test_an_endless_file_costs_the_limit_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.h5"
    write_own(path)
    whole = path.read_bytes()
    path.write_bytes(endless(whole))
    monkeypatch.setattr(hdf5_process, "PROCESSOR_SECONDS", 0.2)
    assert verify_bag(path)[0].startswith("cannot be read as a bag (HDF5 comes to no end")
    process = hdf5_process.HDF5._process
    assert verify_bag(path)[0].startswith("cannot be read as a bag (HDF5 comes to no end")
    assert hdf5_process.HDF5._process is process is None  # not even asked again
    path.write_bytes(whole)
    assert verify_bag(path) == []


def test_the_reading_process_may_be_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory, say: that is nothing about the bag."""
    monkeypatch.setattr(patience.time, "sleep", lambda _: None)
    path = tmp_path / "s.h5"
    write_own(path)
    assert verify_bag(path) == []
    hdf5_process.HDF5._process.kill()
    assert verify_bag(path) == []


def test_chunks_that_were_never_written(tmp_path: Path) -> None:
    """HDF5 gives zeros for them, which would be features."""
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        features = file.create_dataset("features", (100, 4), np.float32, chunks=(10, 4))
        features[:55] = 1
    with pytest.raises(BagError, match=r"s\.h5: .*`features` was not written to its end"):
        read_h5(path)


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (3, 4)}, {"chunks": (3, 2)}, {"compression": "gzip"}]
)
def test_arrays_as_hdf5_gives_them(
    tmp_path: Path, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain ones are read without HDF5, also behind a user block and in the other byte order."""
    monkeypatch.setattr(hdf5, "BLOCK_BYTES", 40)
    path = tmp_path / "s.h5"
    arrays = {
        "f2": np.arange(28, dtype=">f2").reshape(7, 4),
        "i8": np.arange(28).reshape(7, 4),
        "b": np.arange(28).reshape(7, 4) % 3 == 0,
        "none": np.zeros((0, 4), np.float32),
    }
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **(options if array.size else {}))
        file["scalar"] = 5
    with open_hdf5(path) as found:
        for name, array in arrays.items():
            for part in (slice(None), slice(2, 6), slice(3, 3), slice(5, 99)):
                assert np.array_equal(found[name][part], array[part]), (name, part)
                assert found[name][part].dtype == array.dtype
        assert found["scalar"][()] == 5
        assert (found["f2"].plain_rows is None) == (options not in ({}, {"chunks": (3, 4)}))


def test_every_layout_is_tried() -> None:
    assert set(WRITERS) == set(LAYOUTS)


@pytest.mark.parametrize("layout", WRITERS)
def test_damaged_files(tmp_path: Path, layout: str) -> None:
    path = tmp_path / f"s{LAYOUTS[layout].suffix}"
    WRITERS[layout](path)
    raw, rng = path.read_bytes(), np.random.default_rng(len(layout))
    found = FoundBag("s", path.name, partial(LAYOUTS[layout].read, path, 0.5))
    assert isinstance(inspect(found), Inspected)
    refused = 0
    for i in range(DAMAGES):
        path.write_bytes(damaged(raw, rng, i % 3))
        outcome = inspect(found)
        if isinstance(outcome, Inspected):
            assert outcome.shape[0] > 0
        else:
            refused += 1
            assert outcome.reason
        if isinstance(outcome, Inspected) and layout == "wsi_ncmi":
            assert np.array_equal(found.read().features, FEATURES)  # by its checksum
        with suppress(BagError):
            assert recognise(path) in {*LAYOUTS, "packed", ""}
        if path.suffix == ".h5":
            assert isinstance(verify_bag(path), list)
    assert 0 < refused < DAMAGES
