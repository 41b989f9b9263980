"""The pages of a TIFF, once it is sure that no library will choke on them.

Slide libraries take a file's tags at their word: a page that follows itself, a level two thousand
million pixels wide or a tile of four gigabytes let them hang, or end the process without an
exception. So what cannot be true is found here, before they open the file.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import tifffile

from wsi_ncmi.errors import SlideError
from wsi_ncmi.files.reach import unreachable_cause

MOST_PAGES = 10_000
MAX_LENGTH = 2**21
"""Pixels of a side; a metre at 0.5 µm/px."""

MAX_TILE_PIXELS = 2**26
DESCRIBING = (270, 271, 65434, 65451)
"""Tags of the first page that say what the slide is: description, maker, and Hamamatsu's filter and
wavelength. tifffile keeps a value that was read, and complains about one of a closed file."""

DAMAGED = "the file is damaged, fetch it again"

ROUNDED_PX, ROUNDED = 2, 0.01
"""How far a level's sides may be from its image's shape."""

# What tifffile raises for one or another damaged byte.
UNREADABLE = (
    tifffile.TiffFileError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    struct.error,
)


def tiff_pages(path: str) -> list[tifffile.TiffPage]:
    """The pages of a local file in their order, each before its SubIFDs; none where it is no TIFF.

    Raises:
        SlideError: its tags cannot be true.
    """
    if not _is_tiff(path):
        return []
    try:
        with tifffile.TiffFile(path) as tiff:
            _check_chain(tiff)
            tops = [tiff.pages[i].aspage() for i in range(len(tiff.pages))]
            pages = [page for top in tops for page in (top, *_sub_pages(top))]
            for code in DESCRIBING:
                pages[0].tags.valueof(code)
            size = tiff.filehandle.size
    except (struct.error, IndexError) as error:
        size = Path(path).stat().st_size
        raise SlideError(
            f"its TIFF tags lie beyond the end of the file ({size} bytes): it is cut off, "
            "fetch it again"
        ) from error
    except UNREADABLE as error:
        if unreachable_cause(error):
            raise  # it is not the tags that are wrong
        raise SlideError(f"its TIFF tags cannot be read ({error}): {DAMAGED}") from error
    for page in pages:
        try:
            problem = _problem(page, size)
        except UNREADABLE as error:  # a number that is several, or none
            problem = f"has tags that cannot be read ({error})"
        if problem:
            raise SlideError(f"page {page.index} {problem}: {DAMAGED}")
    return pages


def _sub_pages(top: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    if top.pages is None:
        return []
    if len(top.pages) > MOST_PAGES:
        raise ValueError(f"{len(top.pages)} SubIFDs")
    return [page.aspage() for page in top.pages]


def is_top(page: tifffile.TiffPage) -> bool:
    """Whether a page stands in the file's own chain, and is no SubIFD of another."""
    return len(page.treeindex) == 1


def first_pyramid(pages: Sequence[tifffile.TiffPage]) -> list[tifffile.TiffPage]:
    """The tiled pages that are the first image and its levels, the largest first.

    Its levels are its SubIFDs, or the reduced pages of its shape that follow it, up to the next
    image. Labels, overviews and other acquisitions are none.

    Args:
        pages: see `tiff_pages`.
    """
    tiled = [page for page in pages if page.is_tiled]
    top = next((page for page in tiled if is_top(page)), None)
    if top is None:
        return []
    levels = [top]
    after = tiled[tiled.index(top) + 1 :]
    below = [page for page in after if not is_top(page) and page.treeindex[0] == top.treeindex[0]]
    for page in below or after:
        if is_top(page) and not page.is_reduced:
            break
        if page.imagewidth < levels[-1].imagewidth and _same_shape(page, top):
            levels.append(page)
    return levels


def _same_shape(page: tifffile.TiffPage, top: tifffile.TiffPage) -> bool:
    """Sides of a level are rounded, up or down and to whole pixels."""
    width = page.imagelength * top.imagewidth / top.imagelength
    height = page.imagewidth * top.imagelength / top.imagewidth
    off = min(abs(page.imagewidth - width), abs(page.imagelength - height))
    return off <= max(ROUNDED_PX, ROUNDED * min(page.imagewidth, page.imagelength))


def _is_tiff(path: str) -> bool:
    with open(path, "rb") as file:
        start = file.read(4)
    if not start:
        raise SlideError(f"the file is empty: {DAMAGED}")
    return start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _check_chain(tiff: tifffile.TiffFile) -> None:
    """Pages form a chain by offsets; one that returns to itself has no end."""
    form, file = tiff.tiff, tiff.filehandle
    offset, seen = tiff.pages.first.offset, set[int]()
    while offset:
        if offset in seen or len(seen) > MOST_PAGES:
            raise ValueError("a page is followed by an earlier one")
        seen.add(offset)
        file.seek(offset)
        (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
        file.seek(offset + form.tagnosize + tags * form.tagsize)
        content = file.read(form.offsetsize)
        if len(content) < form.offsetsize:
            return  # it ends without saying so; the readers do not mind
        (offset,) = struct.unpack(form.offsetformat, content)


def _problem(page: tifffile.TiffPage, file_size: int) -> str:
    width, length = page.imagewidth, page.imagelength
    if not 0 < width <= MAX_LENGTH or not 0 < length <= MAX_LENGTH:
        return f"declares {width} x {length} pixels, expected up to {MAX_LENGTH}"
    if page.is_tiled:
        across, down = page.tilewidth, page.tilelength
        if across < 1 or down < 1 or across * down > MAX_TILE_PIXELS:
            return f"declares tiles of {across} x {down} pixels"
        tiles = -(-width // across) * -(-length // down)
        planes = page.samplesperpixel if page.planarconfig == 2 else 1
        if {len(page.dataoffsets), len(page.databytecounts)} != {tiles * planes}:
            return f"lists {len(page.dataoffsets)} tiles, its size needs {tiles * planes}"
    else:
        strips = -(-length // min(page.rowsperstrip, length)) if page.rowsperstrip else 0
        if len(page.dataoffsets) < strips:
            return f"lists {len(page.dataoffsets)} strips, its size needs {strips}"
    largest = max(page.databytecounts, default=0)
    if largest > file_size:
        return f"has a tile or strip of {largest} bytes in a file of {file_size}"
    return ""


def check_frames(path: str, pages: Sequence[tifffile.TiffPage]) -> None:
    """Compare what JPEG streams say of their size with their page.

    tiffslide decodes them at their own word, which may be thousands of times the memory.

    Raises:
        SlideError: a stream is larger than its tile or strip.
    """
    with open(path, "rb") as file:
        for page in pages:
            if page.compression != tifffile.COMPRESSION.JPEG:
                continue
            expected = _segment_size(page)
            for i, offset in enumerate(page.dataoffsets):
                file.seek(offset)
                height, width = _frame_size(file.read(HEAD))
                if height > expected[0] or width > expected[1]:
                    raise SlideError(
                        f"page {page.index}, tile or strip {i}: a JPEG of {width} x {height} "
                        f"pixels, expected {expected[1]} x {expected[0]}: {DAMAGED}"
                    )


HEAD = 4096


def _segment_size(page: tifffile.TiffPage) -> tuple[int, int]:
    """Most rows and columns of a tile or strip; codecs round up to whole blocks."""
    if page.is_tiled:
        return page.tilelength + 16, page.tilewidth + 16
    return min(page.rowsperstrip, page.imagelength) + 16, page.imagewidth + 16


def _frame_size(stream: bytes) -> tuple[int, int]:
    """(height, width) by a JPEG stream's frame header; (0, 0) where none is found."""
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        kind, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4])
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(stream[at + 5 : at + 7])
            return height, int.from_bytes(stream[at + 7 : at + 9])
        at += 2 + length
    return 0, 0
