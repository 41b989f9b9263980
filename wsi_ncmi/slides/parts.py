"""The files that a slide consists of: some formats keep a slide in several.

Light: planning asks it of every slide.
"""

import configparser
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from wsi_ncmi.slides.dicom_header import series_of

ALONE = (
    *(".svs", ".tif", ".tiff", ".btf", ".tf2", ".tf8", ".ndpi", ".qptiff", ".bif", ".scn"),
    *(".svslide", ".czi", ".jpg", ".jpeg", ".png", ".xml", ".json", ".tsv", ".txt", ".zip", ".ini"),
)
"""Suffixes of no DICOM file, so that it is not looked into."""

MIRAX_DATA, MIRAX_INDEX = "DATAFILE", "HIERARCHICAL"
HAMAMATSU_FILES = ("imagefile", "mapfile", "optimisationfile", "macroimage")

IMAGE_DESCRIPTION = 270
MOST_TAGS = 512
CLASSIC_TIFF, BIG_TIFF = ("I", "H", "HHII"), ("Q", "Q", "HHQQ")
"""Forms of an offset, of the number of tags, and of a tag: its code, type, length and value."""


def slide_files(path: Path) -> list[Path]:
    """All files that the readers open for a slide: the named one first, the others sorted.

    What a slide lists and what is not there is in the list as well. Most formats have one file.
    """
    if not path.is_file():
        return [path]
    found = _kind(path)(path)
    others = {other for other in found if other != path}
    return [path, *sorted(others)]


def missing_files(path: Path) -> list[Path]:
    """Files that a slide lists beside the named one, and that are not there."""
    return [file for file in slide_files(path)[1:] if not file.is_file()]


def named_by_content(path: Path) -> bool:
    """Whether the files' names say nothing of what is in them: those of a DICOM series."""
    return _kind(path) is _dicom


def _kind(path: Path) -> Callable[[Path], Iterable[Path]]:
    name = path.name.lower()
    if ".ome." in name:
        return _ome
    return BY_SUFFIX.get(path.suffix.lower(), _one if name.endswith(ALONE) else _dicom)


def _one(path: Path) -> Iterable[Path]:
    return ()


def _dicom(path: Path) -> Iterable[Path]:
    """The files of the same series in its folder: a level each, or some frames of one."""
    series = _known_series(path)
    if not series:
        return
    for other in path.parent.iterdir():
        is_other = other.name.lower().endswith(ALONE) or not other.is_file()
        if not is_other and _known_series(other) == series:
            yield other


def _known_series(path: Path) -> str:
    status = path.stat()
    return _series(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=65_536)
def _series(path: Path, size: int, time: int) -> str:
    """Kept: a folder is looked through for every slide in it. Size and time stand for content."""
    return series_of(path)


def _mirax(path: Path) -> Iterable[Path]:
    """name.mrxs beside the folder `name`, whose Slidedat.ini lists the rest."""
    folder = path.with_suffix("")
    yield folder / "Slidedat.ini"
    listed = _ini(folder / "Slidedat.ini")
    index = listed.get(MIRAX_INDEX, "indexfile", fallback="")
    if index:
        yield folder / index
    if listed.has_section(MIRAX_DATA):
        for key, value in listed.items(MIRAX_DATA):
            if key.startswith("file_") and key != "file_count" and value:
                yield folder / value


def _hamamatsu(path: Path) -> Iterable[Path]:
    """VMS and VMU: a text file that lists its images."""
    listed = _ini(path)
    for section in listed.sections():
        for key, value in listed.items(section):
            if key.startswith(HAMAMATSU_FILES) and value:
                yield path.parent / value


def _olympus(path: Path) -> Iterable[Path]:
    """name.vsi beside the folder `_name_`, whose .ets files hold the pixels."""
    return (path.parent / f"_{path.stem}_").glob("**/*.ets")


def _ini(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters="=")
    try:
        parser.read_string(path.read_bytes().decode("utf-8-sig", "replace"))
    except (OSError, configparser.Error):
        parser.clear()  # the reader will say what is wrong with it
    return parser


def _ome(path: Path) -> Iterable[Path]:
    """OME-TIFF: its OME-XML may name other files that hold some of the planes."""
    try:
        root = ElementTree.fromstring(_description(path))
    except (OSError, struct.error, ElementTree.ParseError):
        return
    for element in root.iter():
        for name in (element.get("FileName"), element.get("MetadataFile")):
            if name:
                yield path.parent / Path(name).name


def _description(path: Path) -> bytes:
    """ImageDescription of a TIFF's first page; b"" where there is none."""
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None:
            return b""
        is_big = struct.unpack_from(f"{order}H", head, 2) == (43,)
        place, count, tag = BIG_TIFF if is_big else CLASSIC_TIFF
        file.seek(struct.unpack_from(order + place, head, 8 if is_big else 4)[0])
        tags = file.read(struct.calcsize(count) + MOST_TAGS * struct.calcsize(order + tag))
        (number,) = struct.unpack_from(order + count, tags)
        for entry in range(min(number, MOST_TAGS)):
            at = struct.calcsize(count) + entry * struct.calcsize(order + tag)
            code, _, length, start = struct.unpack_from(order + tag, tags, at)
            if code == IMAGE_DESCRIPTION:
                file.seek(start)
                return file.read(length).rstrip(b"\0")
    return b""


BY_SUFFIX: dict[str, Callable[[Path], Iterable[Path]]] = {
    ".mrxs": _mirax,
    ".vms": _hamamatsu,
    ".vmu": _hamamatsu,
    ".vsi": _olympus,
}
