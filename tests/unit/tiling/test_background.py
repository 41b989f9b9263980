"""Brightfield by the picture: what is refused, what is noted, and what is neither."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from made_stained import TILING, row, write_slide
from made_tiles import paint
from numpy.typing import NDArray
from PIL import Image

from wsi_ncmi.slides import open_slide
from wsi_ncmi.tiling.background import glass_note, other_light
from wsi_ncmi.tiling.one_slide import tile_slide
from wsi_ncmi.tools.plan.command import plan_slide

Picture = NDArray[np.uint8]


def glowing(colour: tuple[int, int, int], background: int = 8, cover: float = 0.1) -> Picture:
    """Cells of a colour on a dark, noisy ground."""
    rng = np.random.default_rng(0)
    cells = cv2.resize(rng.random((60, 80)), (320, 240), interpolation=cv2.INTER_CUBIC)
    cells = np.clip((cells - np.quantile(cells, 1 - cover)) * 4, 0, 1)[..., None]
    ground = background + rng.normal(0, 2, (240, 320, 1))
    return np.clip(ground + cells * (np.array(colour) - ground), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        glowing((255, 40, 20)),
        glowing((20, 255, 60), background=20, cover=0.3),
        glowing((230, 230, 230), background=12),
        glowing((40, 40, 255), background=0, cover=0.9),
        glowing((0, 255, 0), background=0)[..., :] * np.array([0, 1, 0], np.uint8),
    ],
    ids=["red", "green", "grey", "covered", "one channel"],
)
def test_what_glows_on_a_dark_ground(picture: Picture) -> None:
    assert other_light(picture)


def with_padding(picture: Picture) -> Picture:
    """Half of it never scanned, and black."""
    return np.concatenate([picture, np.zeros_like(picture)])


TISSUE = paint((320, 240))[60:180, 80:240]
GLASS = np.full((240, 320, 3), (240, 238, 241), np.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        paint((320, 240)),
        TISSUE,
        with_padding(paint((320, 240))),
        with_padding(TISSUE),
        (paint((320, 240)) * 0.4).astype(np.uint8),
        (TISSUE * 0.5).astype(np.uint8),
        (paint((320, 240)) * np.array([0.95, 0.9, 0.75])).astype(np.uint8),
        GLASS,
        np.where(paint((320, 240)) < 220, 40, 235).astype(np.uint8),
        np.zeros((20, 20, 3), np.uint8),
    ],
    ids=[
        *("slide", "tissue alone", "padded", "padded tissue", "dark scan", "dark tissue"),
        *("yellow glass", "glass", "burnt tissue", "nothing scanned"),
    ],
)
def test_brightfield_of_all_kinds(picture: Picture) -> None:
    assert other_light(picture) == ""


def test_crops_of_real_tissue_without_any_glass(shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "tiles" / "lc25000_lung_subset.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith((".jpg", ".jpeg", ".png"))]
        for name in names[::10]:
            image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            assert other_light(np.asarray(image.resize((28, 28)))) == "", name
    assert len(names) > 1000


@pytest.mark.parametrize(
    ("colour", "note"),
    [
        ((240, 238, 241), ""),
        ((226, 225, 222), ""),
        ((185, 185, 186), "its glass is not pale, RGB 185, 185, 186: look at the overlay"),
        ((238, 231, 205), "its glass is not pale, RGB 238, 231, 205: look at the overlay"),
        ((130, 130, 130), "no pale glass is seen"),
        ((235, 200, 120), "no pale glass is seen"),
    ],
)
def test_the_glass_is_noted_where_it_is_not_pale(colour: tuple[int, ...], note: str) -> None:
    picture = np.full((240, 320, 3), colour, np.uint8)
    picture[60:120, 60:180] = (150, 90, 140)
    assert glass_note(picture).startswith(note)
    assert bool(glass_note(picture)) == bool(note)
    assert other_light(picture) == ""


def write(path: Path, image: Picture) -> Path:
    options = {"photometric": "rgb", "compression": "deflate", "tile": (256, 256)}
    scale = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, image, **options, **scale)
    return path


def test_the_run_and_the_plan_refuse_it(tmp_path: Path) -> None:
    image = cv2.resize(glowing((255, 40, 20)), (1280, 960))
    path = write(tmp_path / "a.tif", image)
    outcome = tile_slide(row(path), TILING, tmp_path / "tiles")
    assert outcome.status == "unreadable"
    expected = "a.tif: not a brightfield slide, it has no bright background: half of its picture"
    assert outcome.reason.startswith(expected)
    assert "in the slide sheet's column 'mask'" in outcome.reason
    assert plan_slide(row(path), TILING, quick=False).problem == outcome.reason


def test_a_mask_by_hand_says_that_it_is_brightfield(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", cv2.resize(glowing((255, 40, 20)), (1280, 960)))
    ring = [[0, 0], [600, 0], [600, 600], [0, 600], [0, 0]]
    (tmp_path / "m.geojson").write_text(
        f'{{"type": "Polygon", "coordinates": [{ring}]}}'.replace("'", '"')
    )
    given = replace(row(path), mask=str(tmp_path / "m.geojson"))
    outcome = tile_slide(given, TILING, tmp_path / "tiles")
    assert outcome.status == "ok"
    assert "half of its picture is darker than" in outcome.note


def test_grey_glass_is_a_note_of_the_slide(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif")
    with open_slide(path) as slide:
        image = slide.read_region(0, 0, 0, *slide.dimensions)
    grey = write(tmp_path / "grey.tif", (image * 0.78).astype(np.uint8))
    found = [tile_slide(row(p, "s1"), TILING, tmp_path / p.stem) for p in (path, grey)]
    assert [one.status for one in found] == ["ok", "ok"]
    assert found[0].note == ""
    assert found[1].note == "its glass is not pale, RGB 187, 186, 187: look at the overlay"
