"""Command `tiles show`: pictures of one slide's tiles, to look at before anything is encoded."""

import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import SlideRow, checked_sheet
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.slides.stream import read_tiles
from wsi_ncmi.stages.tiles import learned_mask
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.geometry import open_as_tiled
from wsi_ncmi.tiling.one_slide import tile_paths, tile_slide
from wsi_ncmi.tiling.overlay import draw_overlay, picture_of, write_png
from wsi_ncmi.tiling.tilefile import TiledSlide

log = logging.getLogger(__name__)

SIDE = 192
GAP = 8
CAPTION = 34
TITLE = 22
FRAME = (190, 190, 190)
COLUMNS = 6
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
FONT_PX = 10
MEASURED = ("pen", "white", "black", "fold")
LEAST_SHOWN = 0.01
UNDECODABLE = (255, 200, 200)


@dataclass(frozen=True)
class Pictures:
    """Where the pictures are."""

    overlay: Path
    sample: Path


def row_of(asked: str, sheet: str, mpp: float | None) -> SlideRow:
    """The row of a slide by its path or slide_id, or one with the path alone.

    Args:
        asked: a slide, a tile file, or a slide_id of the sheet.
        sheet: slide sheet of a configuration; empty: there is none.
        mpp: µm/px, before what the sheet gives.

    Raises:
        ConfigError: the sheet is wrong.
    """
    row = None if asked.endswith(".h5") or not sheet else _listed(asked, Path(sheet))
    row = row or SlideRow(Path(asked).stem, "", "", "", asked)
    return row if mpp is None else replace(row, mpp=mpp)


def _listed(asked: str, sheet: Path) -> SlideRow | None:
    if not sheet.is_file():
        log.warning("%s: no such slide sheet: its mpp, mask and tissue.* are not used", sheet)
        return None
    rows = checked_sheet(sheet, need_path=False)
    by_path = [row for row in rows if row.path and _place(row.path) == _place(asked)]
    found = by_path or [row for row in rows if row.path and row.slide_id == asked]
    if not found:
        log.warning("%s: neither a path nor a slide_id of %s", asked, sheet)
    return found[0] if found else None


def _place(path: str) -> str:
    return path if is_remote(path) else str(Path(path).resolve())


def run(row: SlideRow, tiling: Tiling, out: Path, count: int, seed: int) -> Pictures:
    """Write `<slide>.overlay.png` and `<slide>.tiles.png`, and print what they show.

    Args:
        row: its path is a slide, which is tiled now by `tiling` and the row's mpp, mask and
            tissue; or a tile file, which is shown as it is.
        out: folder of the two pictures.
        count: tiles of the sample, drawn by `seed`; the same tiles each time.

    Raises:
        SlideError: the slide or the tile file cannot be read, or there is no tile.
    """
    slide = Path(row.path)
    if slide.suffix == ".h5":
        tiles, overlay = _stored(slide), _stored_overlay(slide)
    else:
        tiles, overlay = _tile(row, tiling)
    pictures = Pictures(out / f"{tiles.slide_id}.overlay.png", out / f"{tiles.slide_id}.tiles.png")
    given = tiles.mpp if tiles.mpp_source.startswith("sheet") else None
    with open_as_tiled(_path_of(tiles, slide), tiles, given) as opened:
        write_png(pictures.overlay, _plain_overlay(opened, tiles) if overlay is None else overlay)
        print(
            f"{pictures.overlay}: {len(tiles)} tiles of {tiles.tile_um:g} µm {tiles.note}".strip()
        )
        if not len(tiles):
            raise SlideError(f"{slide}: {tiles.reason}")
        if tiles.bounds_x or tiles.bounds_y:
            corner = (tiles.bounds_x, tiles.bounds_y)
            print(f"places are level-0 pixels; QuPath counts from {corner}: subtract it there")
        chosen = sample(len(tiles), count, seed)
        write_png(pictures.sample, contact_sheet(opened, tiles, chosen))
    print(f"{pictures.sample}: {len(chosen)} of them")
    return pictures


def _stored(path: Path) -> TiledSlide:
    found = tilefile.read(path)
    if not isinstance(found, TiledSlide):
        raise SlideError(f"{path}: {found.reason}")
    return found


def _tile(row: SlideRow, tiling: Tiling) -> tuple[TiledSlide, NDArray[np.uint8]]:
    with tempfile.TemporaryDirectory() as folder:
        found = tile_slide(row, tiling, Path(folder), learned_mask)
        if not isinstance(found, TiledSlide):
            hint = ", or by --mpp" if found.reason.endswith("column 'mpp'") else ""
            raise SlideError(f"{row.path}: {found.reason}{hint}")
        return found, _read_picture(tile_paths(Path(folder), row.slide_id).overlay)


def _stored_overlay(tiles: Path) -> NDArray[np.uint8] | None:
    path = tile_paths(tiles.parent, tiles.stem).overlay
    return _read_picture(path) if path.is_file() else None


def _read_picture(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _path_of(tiles: TiledSlide, asked: Path) -> str:
    if asked.suffix != ".h5" or Path(tiles.path).is_file() or "://" in tiles.path:
        return tiles.path
    raise SlideError(
        f"{asked}: its slide {tiles.path} is not there any more: give the slide itself"
    )


def _plain_overlay(slide: Slide, tiles: TiledSlide) -> NDArray[np.uint8]:
    """The tiles alone, where the overlay with the tissue's outline is gone."""
    thumbnail = slide.thumbnail(max(8.0, slide.mpp))
    picture, downsample = picture_of(slide, thumbnail.pixels, thumbnail.mpp)
    nothing = np.zeros(picture.shape[:2], bool)
    size = tiles.tile_size_level0
    return draw_overlay(picture, nothing, nothing, tiles.coords, size, downsample)


def sample(total: int, count: int, seed: int) -> NDArray[np.int64]:
    """Which tiles are shown: a random choice, in the order of the grid."""
    chosen = np.random.default_rng(seed).choice(total, min(total, count), replace=False)
    return np.sort(chosen)


def contact_sheet(slide: Slide, tiles: TiledSlide, chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Tiles in rows with their measures below them, uint8 `[h, w, 3]`.

    A tile whose pixels cannot be decoded is a red square.
    """
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    size = (GAP + columns * (SIDE + GAP), TITLE + GAP + rows * (SIDE + CAPTION + GAP))
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.truetype(FONT, FONT_PX)
    title = f"{tiles.slide_id}: {len(chosen)} of {len(tiles)} tiles of {tiles.tile_um:g} µm"
    draw.text((GAP, GAP), title, "black", font)
    pixels = _pixels(slide, tiles, chosen)
    for place, tile in enumerate(chosen):
        x = GAP + place % columns * (SIDE + GAP)
        y = TITLE + GAP + place // columns * (SIDE + CAPTION + GAP)
        canvas.paste(pixels[place], (x, y))
        draw.rectangle((x - 1, y - 1, x + SIDE, y + SIDE), outline=FRAME)
        draw.text((x, y + SIDE + 2), caption(tiles, int(tile)), "black", font)
    return np.asarray(canvas)


def _pixels(slide: Slide, tiles: TiledSlide, chosen: NDArray[np.int64]) -> list[Image.Image]:
    shown = [Image.new("RGB", (SIDE, SIDE), UNDECODABLE) for _ in chosen]
    coords, level, side = tiles.coords[chosen], tiles.level, tiles.read_px
    for block in read_tiles(slide, coords, level, side):
        for pixels, index in zip(block.pixels, block.indices, strict=True):
            if int(index) not in block.invalid:
                image = Image.fromarray(pixels)
                shown[index] = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return shown


def caption(tiles: TiledSlide, tile: int) -> str:
    """Place and tissue, then the measures of quality."""
    x, y = tiles.coords[tile]
    focus = float(tiles.focus[tile])
    measures = ["not decodable" if np.isnan(focus) else f"focus {focus:.0f}"]
    measures += [
        f"{name} {value:.0%}"
        for name in MEASURED
        if (value := float(getattr(tiles, name)[tile])) >= LEAST_SHOWN
    ]
    return f"{x}, {y}   tissue {tiles.tissue_fraction[tile]:.0%}\n{'  '.join(measures)}"
