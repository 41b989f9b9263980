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
from wsi_ncmi.bags.foreign.layouts import LAYOUTS
from wsi_ncmi.bags.foreign.repack import Inspected, inspect
from wsi_ncmi.bags.store import Bag, verify_bag, write_bag
from wsi_ncmi.errors import BagError

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
