"""Whether a slide still has the levels that its tiles were laid on."""

from dataclasses import replace

from wsi_ncmi.address import is_remote
from wsi_ncmi.errors import SlideError, UnreachableError
from wsi_ncmi.slides.reader import Slide, open_slide
from wsi_ncmi.tiling.tilefile import TiledSlide

TOLERANCE = 1e-4
"""Of a downsample; a level that is not the same one differs by far more."""


def open_as_tiled(path: str, tiles: TiledSlide, mpp: float | None) -> Slide:
    """A slide by the reader that tiled it: halved levels are no other reader's.

    Args:
        mpp: the sheet's µm/px.

    Raises:
        SlideError: it cannot be opened, or has other levels now.
    """
    slide = open_slide(path, reader=tiles.reader, mpp=mpp)  # type: ignore[arg-type]
    try:
        check_geometry(slide, tiles)
    except SlideError:
        slide.close()
        raise
    return slide


def open_to_show(path: str, tiles: TiledSlide, mpp: float | None) -> Slide:
    """As `open_as_tiled`; a slide that was tiled from a copy, which is gone, is read at its address
    by what reads there.

    Raises:
        UnreachableError: it cannot be reached, or its levels cannot be read at the address.
        SlideError: as above.
    """
    if not is_remote(path):
        return open_as_tiled(path, tiles, mpp)
    try:
        return open_as_tiled(path, replace(tiles, reader="auto"), mpp)
    except UnreachableError:
        raise
    except SlideError as error:
        raise UnreachableError(f"its copy is gone, and at its address: {error}") from error


def check_geometry(slide: Slide, tiles: TiledSlide) -> None:
    """Compare an open slide with its tile file: tiles of another level would have another scale.

    Raises:
        SlideError: level 0 has another size, or the level that is read another downsample.
    """
    recorded = f"level {tiles.level} at downsample {tiles.level_downsample:.5g}"
    recorded += f" of {tiles.width} x {tiles.height} px"
    has_level = tiles.level < slide.level_count
    found = slide.level_downsamples[tiles.level] if has_level else float("nan")
    same_size = slide.dimensions == (tiles.width, tiles.height)
    if same_size and abs(found / tiles.level_downsample - 1) <= TOLERANCE:
        return
    levels = ", ".join(f"{downsample:.5g}" for downsample in slide.level_downsamples)
    width, height = slide.dimensions
    raise SlideError(
        f"{slide.path}: tiled on {recorded}, found {width} x {height} px with levels at "
        f"downsamples {levels}: restore the slide's files, or run the tiling again"
    )
