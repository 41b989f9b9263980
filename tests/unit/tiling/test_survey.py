import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling, Tissue
from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.tiling.asked import deciding
from wsi_ncmi.tiling.geojson import rasterise, read_geojson
from wsi_ncmi.tiling.mask_source import mask_on
from wsi_ncmi.tiling.one_slide import checksum_of
from wsi_ncmi.tiling.overlay import UNREADABLE
from wsi_ncmi.tiling.survey import Survey, survey
from wsi_ncmi.tiling.tissue import MaskOf

WritePyramid = Callable[..., Path]
TILING = Tiling(mpp=2.0, tile_px=64)
SIZE = 2048


def row(path: Path, **values: Any) -> SlideRow:
    return SlideRow("s1", "a", "p", "c", str(path), **values)


def stained_tissue(height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3]: two stains in varying amounts."""
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.1, 1.3, (height // 8, width // 8, 2)).repeat(8, 0).repeat(8, 1)
    density = amounts @ np.array([[0.65, 0.70, 0.29], [0.17, 0.95, 0.26]])
    # Moved off the grid of JPEG's blocks, which would cost no bytes.
    return np.roll(np.rint(240 * np.exp(-density)).astype(np.uint8), (3, 3), (0, 1))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """uint8 [2048, 2048, 3]: tissue in x 512-1536, y 512-1024 on noisy glass."""
    glass = np.random.default_rng(1).normal(240, 1.5, (SIZE, SIZE, 3))
    found = np.clip(glass, 0, 255).astype(np.uint8)
    found[512:1024, 512:1536] = stained_tissue(512, 1024)
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> Path:
    """The image as a pyramid of three levels at 0.5 µm/px, written once."""
    path = tmp_path_factory.mktemp("survey") / "slide.tif"
    options = {"photometric": "rgb", "compression": "jpeg", "tile": (256, 256)}
    options |= {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for factor in (1, 4, 16):
            small = cv2.resize(
                image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA
            )
            tiff.write(small, subfiletype=int(factor > 1), **options)
    return path


def surveyed(
    path: Path, tiling: Tiling = TILING, mask_of: MaskOf | None = None, **values: Any
) -> Survey:
    with open_slide(path) as slide:
        return survey(slide, row(path, **values), tiling, mask_of)


def write_mask(folder: Path, *, right: float = 1024.0, name: str = "m.geojson") -> Path:
    """Outlines x 512 to `right`, y 512-1024."""
    ring = [[512, 512], [right, 512], [right, 1024], [512, 1024], [512, 512]]
    path = folder / name
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    return path


def test_all_that_is_found(path: Path) -> None:
    found = surveyed(path)
    tiles = found.tiles
    assert (tiles.status, tiles.reason, tiles.note, len(tiles)) == ("ok", "", "", 8)
    assert (tiles.mask_source, tiles.unreadable_fraction) == ("otsu_saturation", 0)
    for name in ("focus", "pen", "white", "black", "fold"):
        values = getattr(tiles, name)
        assert values.shape == (8,)
        assert np.isfinite(values).all()
    assert (tiles.focus > 0).all()
    assert tiles.stain_vectors is not None
    np.testing.assert_allclose(tiles.stain_vectors[0], [0.65, 0.70, 0.29], atol=0.15)
    assert (tiles.stain_maxima > 0.5).all()
    assert tiles.lab_std is not None
    assert tiles.lab_mean.shape == tiles.lab_std.shape == (3,)
    assert found.thumbnail.shape == found.overlay.shape
    assert tiles.mask_bytes_agreement is None  # four native tiles tell nothing


def test_outlines_are_the_mask_in_level_0_pixels(path: Path, tmp_path: Path) -> None:
    written = tmp_path / "out.geojson"
    written.write_text(surveyed(path).outlines)
    area = read_geojson(written)
    np.testing.assert_allclose(area.bounds, (512, 512, 1536, 1024), atol=40)
    with open_slide(path) as slide:
        thumbnail = slide.thumbnail(8.0)
        mask = mask_on(thumbnail, slide, row(path), Tissue()).pixels
        downsample = thumbnail.mpp / slide.mpp
    np.testing.assert_array_equal(rasterise(area, mask.shape, downsample), mask)


def test_a_mask_by_hand_replaces_the_method(path: Path, tmp_path: Path) -> None:
    found = surveyed(path, mask=str(write_mask(tmp_path)))
    assert found.tiles.coords.tolist() == [[x, y] for y in (512, 768) for x in (512, 768)]
    assert found.tiles.mask_source == "geojson"
    # What was exported can be imported: the same tiles again.
    again = tmp_path / "again.geojson"
    again.write_text(found.outlines)
    np.testing.assert_array_equal(surveyed(path, mask=str(again)).tiles.coords, found.tiles.coords)


def test_a_bad_mask_is_named(path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.geojson"
    bad.write_text("{}")
    with pytest.raises(SlideError, match=r"bad\.geojson: feature 1 is a None"):
        surveyed(path, mask=str(bad))


def test_the_rows_own_options(path: Path) -> None:
    blind = surveyed(path, tissue=(("method", "hsv"), ("hsv_saturation", 1.0)))
    assert (blind.tiles.status, blind.tiles.mask_source) == ("no_tissue", "hsv")
    assert "0.0% of the slide is tissue" in blind.tiles.reason
    assert json.loads(blind.outlines)["features"] == []
    with pytest.raises(SlideError, match=r"slide s1: tissue: .*method: model needs weights"):
        surveyed(path, tissue=(("method", "model"),))


def test_the_model_is_asked_for_its_mask(path: Path) -> None:
    def left_half(rgb: np.ndarray, mpp: float, options: Tissue) -> np.ndarray:
        assert options.weights == "w.pt"
        mask = np.zeros(rgb.shape[:2], bool)
        mask[:, : mask.shape[1] // 2] = True
        return mask

    options = (("method", "model"), ("weights", "w.pt"))
    found = surveyed(path, mask_of=left_half, tissue=options)
    assert found.tiles.mask_source == "model"
    assert len(found.tiles) == 4 * 8


def damage(slide: Slide, rows: slice) -> None:
    """Make level-0 rows of a slide undecodable."""
    read = slide.read_readable

    def damaged(x: int, y: int, level: int, width: int, height: int) -> tuple[Any, Any]:
        pixels, readable = read(x, y, level, width, height)
        at = y + np.arange(height) * slide.level_downsamples[level]
        lost = (at >= rows.start) & (at < rows.stop)
        pixels[lost], readable[lost] = 255, False
        return pixels, readable

    slide.read_readable = damaged  # type: ignore[method-assign]


def test_what_cannot_be_decoded_is_not_glass(path: Path) -> None:
    with open_slide(path) as slide:
        damage(slide, slice(1536, 2048))
        found = survey(slide, row(path), TILING)
    tiles = found.tiles
    lost = tiles.coords[:, 1] >= 1536
    assert lost.sum() == 16  # tiles of glass, tried because nobody knows
    assert (~lost).sum() == 8
    assert tiles.unreadable_fraction == pytest.approx(0.25)
    for name in ("focus", "pen", "white", "black", "fold"):
        np.testing.assert_array_equal(np.isnan(getattr(tiles, name)), lost)
    red = (np.abs(found.overlay.astype(int) - UNREADABLE).max(axis=2) < 5).mean()
    assert red == pytest.approx(0.25, abs=0.05)
    with open_slide(path) as slide:
        damage(slide, slice(0, 1100))
        with pytest.raises(SlideError, match="54% of its overview cannot be decoded"):
            survey(slide, row(path), TILING)


def test_an_implausible_size_is_refused(write_pyramid: WritePyramid) -> None:
    path = write_pyramid(np.full((256, 512, 3), 240, np.uint8), levels=1)
    with open_slide(path, mpp=50.0) as slide:
        slide.level_dimensions = [(400_000, 300_000)]
        with pytest.raises(SlideError) as caught:
            survey(slide, row(path), TILING)
    expected = "declares 400000 x 300000 px at 50 µm/px = 20000 x 15000 mm: no glass slide"
    assert expected in str(caught.value)


def test_the_overview_of_a_huge_slide_is_coarser(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert surveyed(path).tiles.mask_mpp == pytest.approx(8, rel=0.01)
    monkeypatch.setattr("wsi_ncmi.tiling.survey.OVERVIEW_PIXELS", 64 * 64)
    tiles = surveyed(path).tiles
    assert tiles.mask_mpp == pytest.approx(16, rel=0.01)
    assert len(tiles) == 8


def test_bytes_disagree_with_a_mask_on_the_wrong_place(
    write_pyramid: WritePyramid, image: np.ndarray, tmp_path: Path
) -> None:
    path = write_pyramid(image, levels=1, compression="jpeg", mpp=2.0)
    good = surveyed(path).tiles
    assert good.mask_bytes_agreement == 1
    assert good.note == ""
    bad = surveyed(path, mask=str(write_mask(tmp_path, right=700.0))).tiles
    assert bad.bytes_only == pytest.approx(24 / 256, abs=0.02)
    assert "is no tissue by the mask, but its bytes say there is some" in bad.note


def test_what_decides_the_content(path: Path, tmp_path: Path) -> None:
    mask = write_mask(tmp_path)
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"one")
    model = (("method", "model"), ("weights", str(weights)))
    rows = {
        "plain": row(path),
        "mpp": row(path, mpp=0.3),
        "options": row(path, tissue=(("min_area_um2", 10.0),)),
        "mask": row(path, mask=str(mask)),
        "model": row(path, tissue=model),
    }
    found = {name: deciding(one, TILING, checksum_of) for name, one in rows.items()}
    assert all(a != b for i, a in enumerate(found.values()) for b in list(found.values())[:i])
    # A file that moves stays the same, one that changes does not.
    moved = mask.rename(tmp_path / "moved.geojson")
    assert deciding(row(path, mask=str(moved)), TILING, checksum_of) == found["mask"]
    write_mask(tmp_path, right=600.0, name="moved.geojson")
    assert deciding(row(path, mask=str(moved)), TILING, checksum_of) != found["mask"]
    weights.write_bytes(b"another")
    assert deciding(rows["model"], TILING, checksum_of) != found["model"]
    assert deciding(row(path), Tiling(mpp=2.0, tile_px=32), checksum_of) != found["plain"]
    with pytest.raises(SlideError, match=r"mask none\.geojson: no such file"):
        deciding(row(path, mask="none.geojson"), TILING, checksum_of)
    with pytest.raises(SlideError, match="method: model needs weights"):
        deciding(row(path, tissue=(("method", "model"),)), TILING, checksum_of)
