"""Bags are made again when anything that decides them changes, and only then."""

import dataclasses
import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import paint

from wsi_ncmi.bags.cache import BagCache, read_index
from wsi_ncmi.bags.foreign.importers import StoreSource
from wsi_ncmi.bags.packing import write_cache
from wsi_ncmi.bags.store import read_bag, verify_bag
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Extraction, Tiling
from wsi_ncmi.config.making import SECTIONS, Making, recorded
from wsi_ncmi.errors import OutputError, UnreachableError
from wsi_ncmi.extraction import share
from wsi_ncmi.files import patience
from wsi_ncmi.provenance import STAGE_VERSIONS
from wsi_ncmi.slides import native_tiff
from wsi_ncmi.stages import features, pack
from wsi_ncmi.tiling import one_slide, tilefile

OPTIONS: dict[str, Any] = {"architecture": "test_resnet", "stages": [1], "input_px": 32}
EXTRACTION = Extraction(
    encoder="random_resnet", options=OPTIONS, batch_size=16, any_scale=True, autocast="none"
)
TILING = Tiling(mpp=2.0, tile_px=64)


@dataclasses.dataclass
class Cohort:
    """Two slides and the folders of their tiles and bags."""

    folder: Path
    rows: list[SlideRow]

    @property
    def bags(self) -> Path:
        return self.folder / "bags"

    def tile(self, tiling: Tiling = TILING) -> dict[str, int]:
        """Tile all; slide -> time of its tile file."""
        out = self.folder / "tiles"
        for row in self.rows:  # in this process: it is the digests that are looked at
            one_slide.tile_slide(row, tiling, out)
        return {row.slide_id: (out / f"{row.slide_id}.h5").stat().st_mtime_ns for row in self.rows}

    def extract(self, extraction: Extraction = EXTRACTION) -> dict[str, int]:
        """Encode all; slide -> time of its bag."""
        manifest = self.bags / "bucket-0.tsv"
        features.run(self.rows, extraction, self.folder / "tiles", self.bags, manifest, 1)
        return {path.stem: path.stat().st_mtime_ns for path in self.bags.glob("*.h5")}

    def lines(self) -> dict[str, list[str]]:
        """Slide -> its cells in the manifest."""
        lines = (self.bags / "bucket-0.tsv").read_text().splitlines()[1:]
        return {line.split("\t")[0]: line.split("\t") for line in lines}


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    rows = []
    for i, name in enumerate(["a", "b"]):
        paint(tmp_path / f"{name}.tif", i, coarse=False)
        rows.append(SlideRow(name, "label", "patient", "centre", str(tmp_path / f"{name}.tif")))
    return Cohort(tmp_path, rows)


@pytest.fixture
def done(cohort: Cohort) -> Cohort:
    """All tiled and encoded."""
    cohort.tile()
    cohort.extract()
    return cohort


def test_nothing_is_written_where_nothing_changed(done: Cohort) -> None:
    manifest = done.bags / "bucket-0.tsv"
    before = done.tile(), done.extract(), manifest.stat().st_mtime_ns
    assert (done.tile(), done.extract(), manifest.stat().st_mtime_ns) == before
    assert [verify_bag(path) for path in sorted(done.bags.glob("*.h5"))] == [[], []]


TILINGS = [
    {"tile_px": 96},
    {"mpp": 4.0},
    {"overlap_px": 16},
    {"min_tissue": 0.9},
]
EXTRACTIONS = [
    {"options": {**OPTIONS, "seed": 1}},
    {"options": {**OPTIONS, "input_px": 64}},
    {"batch_size": 8},
    {"dtype": "float32"},
    {"autocast": "bf16"},
    {"max_white": 0.99},
]


@pytest.mark.parametrize("change", TILINGS, ids=str)
def test_other_geometry_makes_tiles_and_bags_again(done: Cohort, change: dict[str, Any]) -> None:
    before, digests = (done.tile(), done.extract()), done.lines()
    tiling = TILING.model_copy(update=change)
    after = done.tile(tiling), done.extract()
    assert all(after[k][name] > before[k][name] for k in (0, 1) for name in "ab")
    assert all(done.lines()[name][6] != digests[name][6] for name in "ab")
    found = tilefile.read(done.folder / "tiles" / "a.h5")
    assert read_bag(done.bags / "a.h5").coords.tolist() == found.coords.tolist()


@pytest.mark.parametrize("change", EXTRACTIONS, ids=str)
def test_other_weights_and_options_make_bags_again(done: Cohort, change: dict[str, Any]) -> None:
    tiles_before, before = done.tile(), done.extract()
    after = done.extract(EXTRACTION.model_copy(update=change))
    assert all(after[name] > before[name] for name in "ab")
    assert done.tile() == tiles_before


@pytest.mark.parametrize("stage", ["tiles", "features"])
def test_another_version_of_the_code_makes_them_again(
    done: Cohort, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = done.tile(), done.extract()
    monkeypatch.setitem(STAGE_VERSIONS, stage, STAGE_VERSIONS[stage] + 1)
    after = done.tile(), done.extract()
    assert all((after[0][n] > before[0][n]) == (stage == "tiles") for n in "ab")
    assert all(after[1][name] > before[1][name] for name in "ab")


def test_a_replaced_slide_is_made_again_and_the_other_is_not(done: Cohort) -> None:
    before, old = (done.tile(), done.extract()), read_bag(done.bags / "a.h5")
    paint(done.folder / "a.tif", 77, coarse=False)
    after = done.tile(), done.extract()
    for k in (0, 1):
        assert after[k]["a"] > before[k]["a"]
        assert after[k]["b"] == before[k]["b"]
    assert read_bag(done.bags / "a.h5").features.tobytes() != old.features.tobytes()


def test_a_slide_replaced_between_the_stages_is_refused(cohort: Cohort) -> None:
    cohort.tile()
    paint(cohort.folder / "a.tif", 77, coarse=False)
    assert set(cohort.extract()) == {"b"}
    assert "replaced since it was tiled" in cohort.lines()["a"][2]


def test_a_slide_that_breaks_takes_its_bag_along(done: Cohort) -> None:
    (done.folder / "a.tif").write_text("this is no slide any more")
    done.tile()
    assert set(done.extract()) == {"b"}
    status, reason = done.lines()["a"][1:3]
    assert status == "failed"
    assert reason.startswith("unreadable: a.tif: no reader opens it")


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def junk(path: Path) -> None:
    path.write_bytes(b"junk" * 1000)


@pytest.mark.parametrize("damage", [remove, cut, junk])
def test_a_bag_that_is_gone_or_damaged_is_made_again_alike(
    done: Cohort, damage: Callable[[Path], None]
) -> None:
    before, whole = done.extract(), (done.bags / "a.h5").read_bytes()
    damage(done.bags / "a.h5")
    after = done.extract()
    assert (done.bags / "a.h5").read_bytes() == whole
    assert after["b"] == before["b"]


def test_a_write_that_fails_ends_the_run_and_keeps_what_is_done(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort.tile()
    real = share.write_bag

    def full(path: Path, bag: Any) -> None:
        if path.stem == "b":
            raise OutputError(f"{path}: cannot be written: No space left on device")
        real(path, bag)

    monkeypatch.setattr(share, "write_bag", full)
    with pytest.raises(OutputError, match=r"b\.h5: cannot be written"):
        cohort.extract()
    assert {path.name for path in cohort.bags.iterdir()} == {"a.h5"}
    kept = (cohort.bags / "a.h5").stat().st_mtime_ns
    monkeypatch.undo()
    assert cohort.extract()["a"] == kept
    assert [line[1] for line in cohort.lines().values()] == ["ok", "ok"]


def test_a_finished_bag_that_cannot_be_reached(
    done: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither made again nor given up, and stays in the cache."""
    lost, cache = done.bags / "a.h5", done.folder / "cache"
    manifest = done.bags / "bucket-0.tsv"
    digest, before = done.lines()["a"][6], lost.read_bytes()
    write_cache(StoreSource(done.bags, [manifest]), cache)
    packed = BagCache(cache).read(["a"])
    real = Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == lost:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(patience, "PAUSES", ())
    with monkeypatch.context() as lose:
        lose.setattr(Path, "open", refuse)
        done.extract()
        line = done.lines()["a"]
        assert (line[1], line[6]) == ("unreachable", digest)
        assert "cannot be reached now" in line[2]
        index = write_cache(StoreSource(done.bags, [manifest]), cache)
    assert lost.read_bytes() == before
    assert [(row.status, row.digest) for row in index if row.slide_id == "a"] == [("ok", digest)]
    assert np.array_equal(BagCache(cache).read(["a"]), packed)
    done.extract()
    assert done.lines()["a"][1:3] == ["ok", ""]
    assert lost.read_bytes() == before


def manifest(cohort: Cohort) -> str:
    return (cohort.bags / "bucket-0.tsv").read_text()


def test_slides_that_are_put_away_keep_their_bags(done: Cohort) -> None:
    before, told = done.extract(), manifest(done)
    for row in done.rows:
        Path(row.path).unlink()
    done.tile()
    assert done.extract() == before
    assert manifest(done) == told


def test_a_slide_that_cannot_be_seen_keeps_its_bag_of_other_settings(done: Cohort) -> None:
    before = done.extract()
    (done.folder / "a.tif").unlink()
    done.tile(TILING.model_copy(update={"tile_px": 96}))
    after = done.extract()
    assert after["a"] == before["a"]
    assert after["b"] > before["b"]
    assert done.lines()["a"][1:3] == ["unreachable", "a.tif: no such file"]
    # With the old settings it is current again.
    done.tile()
    assert done.extract()["a"] == before["a"]
    assert done.lines()["a"][1] == "ok"


def test_a_fingerprint_that_cannot_be_read_says_nothing_against_a_bag(
    done: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = done.extract()

    def fail(path: str) -> str:
        raise UnreachableError(f"{path}: cannot be reached: Stale file handle")

    monkeypatch.setattr(share, "slide_fingerprint", fail)
    assert done.extract() == before
    assert [line[1] for line in done.lines().values()] == ["ok", "ok"]


def test_a_slide_that_is_lost_while_it_is_encoded_is_tried_again(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort.tile()
    real = native_tiff.os.pread
    lost = Path(cohort.rows[0].path).stat().st_ino

    def fail(descriptor: int, *place: int) -> bytes:
        if os.fstat(descriptor).st_ino == lost:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, *place)

    monkeypatch.setattr(native_tiff.os, "pread", fail)
    assert set(cohort.extract()) == {"b"}
    assert cohort.lines()["a"][1] == "unreachable"
    assert "Input/output error" in cohort.lines()["a"][2]
    monkeypatch.undo()
    assert set(cohort.extract()) == {"a", "b"}


def test_a_slide_that_hangs_while_it_is_encoded_is_left_behind(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort.tile()
    real, over = native_tiff.os.pread, threading.Event()
    hanging = Path(cohort.rows[0].path).stat().st_ino

    def hang(descriptor: int, *place: int) -> bytes:
        if os.fstat(descriptor).st_ino == hanging:
            over.wait(600)
        return real(descriptor, *place)

    monkeypatch.setattr(native_tiff.os, "pread", hang)
    tiles, table = cohort.folder / "tiles", cohort.bags / "bucket-0.tsv"
    features.run(cohort.rows, EXTRACTION, tiles, cohort.bags, table, 1, slide_minutes=5 / 60)
    over.set()
    assert [line[1] for line in cohort.lines().values()] == ["unreachable", "ok"]
    assert "a.tif: not read within" in cohort.lines()["a"][2]
    monkeypatch.undo()
    cohort.extract()
    assert [line[1] for line in cohort.lines().values()] == ["ok", "ok"]


def test_how_bags_were_made_is_recorded_beside_them(done: Cohort) -> None:
    manifests, cache = [done.bags / "bucket-0.tsv"], done.folder / "cache"
    pack.run_store(done.bags, manifests, None, cache, Making(tiling=TILING, extraction=EXTRACTION))
    made = recorded(json.loads((cache / SECTIONS).read_text()), "here")
    assert (made.tiling, made.extraction) == (TILING, EXTRACTION)
    pack.run_store(done.bags, manifests, None, cache)
    assert not (cache / SECTIONS).exists()  # it would be of other bags


def test_a_packed_bag_of_other_settings_is_not_used_for_a_slide_that_is_gone(done: Cohort) -> None:
    manifests, cache = [done.bags / "bucket-0.tsv"], done.folder / "cache"
    pack.run_store(done.bags, manifests, None, cache)
    (done.folder / "a.tif").unlink()
    done.tile(TILING.model_copy(update={"tile_px": 96}))
    done.extract()
    pack.run_store(done.bags, manifests, None, cache)
    index = read_index(cache / "index.tsv")
    assert list(index.status) == ["unreachable", "ok"]
    assert index.digest["a"] == ""
