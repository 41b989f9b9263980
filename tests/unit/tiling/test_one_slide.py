import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_stained import GLASS, TILING, row, write_slide
from PIL import Image

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import UnreachableError
from wsi_ncmi.provenance import fingerprint, sha256_file
from wsi_ncmi.slides import native_tiff, reader
from wsi_ncmi.tiling import one_slide, tilefile
from wsi_ncmi.tiling.one_slide import SlideTiles, tile, tile_paths, tile_slide


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "s1.tif")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "tiles"


def test_tiles_of_a_slide(slide: Path, out: Path) -> None:
    outcome = tile_slide(row(slide), TILING, out)
    assert (outcome.status, outcome.reason, len(outcome)) == ("ok", "", 8)
    found = tilefile.read(out / "s1.h5")
    assert found.coords.tolist() == [[x, y] for y in (512, 768) for x in (512, 768, 1024, 1280)]
    assert (found.tissue_fraction > 0.98).all()
    assert (found.focus > 100).all()
    assert (found.pen == 0).all()
    assert (found.white < 0.02).all()
    assert (found.level, found.read_px, found.tile_size_level0) == (1, 128, 256.0)
    assert (found.tile_px, found.tile_um, found.wanted_mpp) == (128, 128.0, 1.0)
    assert found.mpp == pytest.approx(0.5, rel=1e-4)
    assert found.mpp_source == "tiff resolution tags"
    assert (found.reader, found.width, found.height) == ("native", 2048, 1536)
    assert found.residual == pytest.approx(1.0, rel=1e-4)
    assert found.scale_error_percent == pytest.approx(0.0, abs=0.01)
    assert (found.fingerprint, found.path) == (fingerprint(slide), str(slide))
    assert found.quality_mpp == 2.0


def test_pictures_fit_the_stored_scale(slide: Path, out: Path) -> None:
    tile_slide(row(slide), TILING, out)
    paths = tile_paths(out, "s1")
    factor = tilefile.read(paths.tiles).thumbnail_downsample
    assert factor == pytest.approx(2.048, rel=1e-3)
    with Image.open(paths.thumbnail) as thumbnail, Image.open(paths.overlay) as overlay:
        assert thumbnail.size == overlay.size == (1000, 750)
        inside, outside = (round(x / factor) for x in (600, 400))
        assert np.abs(np.array(thumbnail.getpixel((outside, 300))) - GLASS).max() < 6
        assert thumbnail.getpixel((inside, 300))[1] < 150
        corner = np.array(overlay)[245:255, 370:380].reshape(-1, 3).astype(int)
        assert (np.abs(corner - (30, 90, 220)).max(axis=1) < 60).any()  # a tile's border


def test_overlap_and_size_in_um(slide: Path, out: Path) -> None:
    tiling = Tiling(mpp=1.0, tile_um=100.0, overlap_px=50, min_tissue=0.9)
    assert len(tile_slide(row(slide), tiling, out)) > 30
    found = tilefile.read(out / "s1.h5")
    assert found.stride_level0 == pytest.approx(100, rel=1e-4)
    assert (found.tile_px, found.overlap_px) == (100, 50)
    assert np.unique(np.diff(np.unique(found.coords[:, 0]))).tolist() == [100]


def test_a_finished_slide_is_not_opened_again(
    slide: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tile_slide(row(slide), TILING, out)
    opened = []
    real = one_slide.open_slide
    monkeypatch.setattr(one_slide, "open_slide", lambda *a, **k: opened.append(a) or real(*a, **k))
    moved = slide.rename(slide.with_name("moved.tif"))
    assert tile_slide(row(moved), TILING, out).digest == first.digest
    assert opened == []
    changes: list[tuple[SlideRow, Tiling]] = [
        (row(moved, mpp=0.5), TILING),
        (row(moved), Tiling(mpp=1.0, tile_px=64)),
    ]
    for count, (changed, tiling) in enumerate(changes, start=1):
        assert tile_slide(changed, tiling, out).digest != first.digest
        assert len(opened) == count
    tile_paths(out, "s1").overlay.unlink()
    tile_slide(*changes[-1], out)
    assert len(opened) == 3


def test_a_damaged_tile_file_is_made_again(slide: Path, out: Path) -> None:
    first = tile_slide(row(slide), TILING, out)
    path = out / "s1.h5"
    path.write_bytes(path.read_bytes()[:500])
    assert tile_slide(row(slide), TILING, out).digest == first.digest
    assert len(tilefile.read(path)) == 8


def test_a_slide_that_breaks_leaves_nothing_good_behind(slide: Path, out: Path) -> None:
    tile_slide(row(slide), TILING, out)
    slide.write_bytes(b"no slide any more" * 100)
    outcome = tile_slide(row(slide), TILING, out)
    assert outcome.status == "unreadable"
    assert outcome.reason.startswith("s1.tif: no reader opens it (openslide: ")
    found = tilefile.read(out / "s1.h5")
    assert found.status == "unreadable"
    assert not tile_paths(out, "s1").overlay.exists()
    # And once it is whole again, it is tiled again.
    write_slide(slide)
    assert tile_slide(row(slide), TILING, out).status == "ok"


def test_checksum_of_the_sheet(slide: Path, out: Path) -> None:
    good = sha256_file(slide)
    assert tile_slide(row(slide, sha256=good.upper()), TILING, out).status == "ok"
    outcome = tile_slide(row(slide, sha256="0" * 64), TILING, out)
    assert outcome.status == "unreadable"
    assert f"sha256 is {good}, the sheet says 0000" in outcome.reason


def test_unexpected_errors_are_the_slides_own(
    slide: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(one_slide, "survey", fail)
    outcome = tile_slide(row(slide), TILING, out)
    assert (outcome.status, outcome.reason) == (
        "unreadable",
        "s1.tif: ZeroDivisionError: of all things",
    )


def test_a_disk_that_fails_is_not_the_slides_fault(
    slide: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(one_slide, "write_jpeg", full)
    with pytest.raises(OSError, match="No space left"):
        tile_slide(row(slide), TILING, out)
    assert not (out / "s1.h5").exists()


# --- what cannot be reached --------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def absent(path: Path) -> None:
    path.rename(path.with_suffix(".away"))


def pointer(path: Path) -> None:
    path.with_suffix(".away").write_bytes(path.read_bytes())
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")


@pytest.mark.parametrize("lose", [absent, pointer])
def test_a_finished_slide_that_is_gone_stands(
    slide: Path, out: Path, lose: Callable[[Path], None]
) -> None:
    first = tile_slide(row(slide), TILING, out)
    before = contents(out)
    lose(slide)
    found = tile_slide(row(slide), TILING, out)
    assert (found.status, found.digest, len(found)) == ("ok", first.digest, len(first))
    assert contents(out) == before
    assert one_slide.finished_tiles(row(slide), TILING, out).digest == first.digest
    slide.with_suffix(".away").rename(slide)
    assert tile_slide(row(slide), TILING, out).digest == first.digest
    assert contents(out) == before


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ETIMEDOUT])
def test_a_failing_disk_takes_nothing_along(
    slide: Path, out: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    first = tile_slide(row(slide), TILING, out)
    before = contents(out)

    def fail(*_: object) -> str:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(reader, "fingerprint", fail)
    wanted = SlideTiles(row(slide), TILING, out)
    assert tile(wanted).digest == first.digest
    assert wanted.sight.unseen == f"s1.tif: cannot be reached: {os.strerror(code)}"
    assert contents(out) == before
    # Another slide, which nobody has seen yet, is a row and is tried again.
    new = tile_slide(row(slide, "new"), TILING, out)
    assert (new.status, new.reason) == ("unreachable", wanted.sight.unseen)
    monkeypatch.undo()
    assert tile_slide(row(slide, "new"), TILING, out).status == "ok"
    assert not list(out.glob("*.unreachable"))


def test_a_disk_that_fails_while_a_slide_is_read_is_no_damage(
    slide: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(native_tiff.os, "pread", fail)
    found = tile_slide(row(slide), TILING, out)
    assert found.status == "unreachable"
    assert found.reason == "the slide's file: cannot be reached: Input/output error"
    assert not (out / "s1.h5").exists()


def test_other_settings_of_a_slide_that_is_gone(slide: Path, out: Path) -> None:
    first = tile_slide(row(slide), TILING, out)
    before = contents(out)
    absent(slide)
    other = Tiling(mpp=1.0, tile_px=64)
    found = tile_slide(row(slide), other, out)
    assert (found.status, found.reason) == ("unreachable", "s1.tif: no such file")
    # The finished tiles stand, and are not taken for those that are asked for.
    assert {name: contents(out)[name] for name in before} == before
    with pytest.raises(UnreachableError, match=r"^s1\.tif: no such file$"):
        tilefile.read_noted(out / "s1.h5")
    assert tile_slide(row(slide), TILING, out).digest == first.digest
    assert tilefile.read_noted(out / "s1.h5").digest == first.digest


def test_a_mask_that_is_gone(slide: Path, out: Path) -> None:
    mask = slide.with_name("m.geojson")
    tile_slide(row(slide), TILING, out)
    mask.write_text(tile_paths(out, "s1").mask.read_text())
    # A slide that was tiled without it is not current.
    nowhere = row(slide, mask=str(mask.with_name("no")))
    assert tile_slide(nowhere, TILING, out).status == "unreachable"
    first = tile_slide(row(slide, mask=str(mask)), TILING, out)
    assert first.mask_sha256 == sha256_file(mask)
    absent(mask)
    assert tile_slide(row(slide, mask=str(mask)), TILING, out).digest == first.digest
    absent(slide)
    assert tile_slide(row(slide, mask=str(mask)), TILING, out).digest == first.digest


def test_a_tile_file_that_cannot_be_read_now_is_not_made_again(
    slide: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile_slide(row(slide), TILING, out)
    before = contents(out)

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(tilefile, "open_hdf5", fail)
    found = tile_slide(row(slide), TILING, out)
    assert found.status == "unreachable"
    assert "s1.h5: cannot be reached: Input/output error" in found.reason
    monkeypatch.undo()
    assert tile_slide(row(slide), TILING, out).status == "ok"
    assert contents(out) == before
