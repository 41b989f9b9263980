"""Finding the bags below a path, and recognising whose they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wsi_ncmi.bags.foreign.aem import AemFile
from wsi_ncmi.bags.foreign.layouts import LAYOUTS, MANY_SLIDES, ForeignBag, h5_kind
from wsi_ncmi.bags.foreign.packed import PackedFile
from wsi_ncmi.bags.foreign.tensors import load_tensor
from wsi_ncmi.errors import BagError

# Where the tools put one file per slide below the folder that a user names.
SUBFOLDERS = {
    "clam_h5": "h5_files",
    "clam_pt": "pt_files",
    "trident": "features_*",
    "torchmil": "features/features_*",
}
HIPT_WIDTH = 192
TRIED = 20
"""Files that are looked at to tell a folder's layout: the first may be damaged."""


@dataclass(frozen=True)
class FoundBag:
    """One bag that is there: whose, from where, and how to read it (again)."""

    slide_id: str
    file: str
    read: Callable[[], ForeignBag]


def recognise(path: Path) -> str:
    """The layout of one file: a name of `LAYOUTS` or `MANY_SLIDES`, or "" for none.

    Raises:
        BagError: it cannot be read.
    """
    if path.suffix in (".h5", ".hdf5"):
        return h5_kind(path)
    if path.suffix != ".pt":
        return "torchmil" if path.suffix == ".npy" else ""
    beside = [f"{path.stem}.index.npz", f"{path.stem}.index.npy", "bags_config.json"]
    if any(path.with_name(name).is_file() for name in beside):
        return "slideflow"
    features = load_tensor(path)
    regions = features.ndim == 3 or features.shape[-1:] == (HIPT_WIDTH,)
    return "hipt" if regions else "clam_pt"


def layout_of(path: Path) -> str:
    """The layout of a file, or of a folder by the first of its files that can be read.

    Raises:
        BagError: there is none, or the folder holds files of several kinds.
    """
    if path.is_file():
        found = recognise(path)
        if found in MANY_SLIDES:
            return found
        raise BagError(
            f"{path}: not a file of many slides ({', '.join(MANY_SLIDES)}): give the folder that "
            "holds one file per slide"
        )
    folder = _base(path, list(SUBFOLDERS.values()))
    # slideflow's index beside a tensor is a .npy too.
    kinds = {suffix: _files(folder, suffix) for suffix in (".h5", ".pt")}
    kinds = {k: f for k, f in kinds.items() if f} or {".npy": _files(folder, ".npy")}
    if len(kinds) > 1:
        raise BagError(
            f"{folder}: holds {' and '.join(kinds)} files: say which by --layout, or name a folder"
        )
    (files,) = kinds.values()
    reasons = []
    for file in files[:TRIED]:
        try:
            found = recognise(file)
        except BagError as error:
            reasons.append(str(error))
            continue
        if found in LAYOUTS:
            return found
        reasons.append(
            f"{file.name}: holds many slides (layout {found}): name the file, not its folder"
            if found in MANY_SLIDES
            else f"{file.name}: no features of any layout"
        )
    detail = f": {'; '.join(reasons[:3])}" if reasons else ""
    raise BagError(f"{path}: no bags that can be read{detail} (layouts: {', '.join(LAYOUTS)})")


def open_many(path: Path, layout: str) -> PackedFile | AemFile:
    """A file that holds many slides.

    Args:
        layout: a name of `MANY_SLIDES`.

    Raises:
        BagError: it is none of this layout, or cannot be read.
    """
    if not path.is_file():
        raise BagError(f"{path}: the layout {layout} is one file that holds many slides: name it")
    return PackedFile(path) if layout == "packed" else AemFile(path)


def found_bags(
    source: Path | PackedFile | AemFile, layout: str, mpp: Mapping[str, float | None] | None = None
) -> list[FoundBag]:
    """All bags of a file with many slides, or of a folder with one file per slide.

    Args:
        layout: a name of `LAYOUTS` if `source` is a folder.
        mpp: slide_id -> µm per level-0 pixel, which turn STAMP's coordinates into pixels.

    Raises:
        BagError: there are none.
    """
    if not isinstance(source, Path):
        name = source.path.name
        return [FoundBag(s, f"{name}:{s}", partial(source.read, s)) for s in source.slide_ids]
    read, known = LAYOUTS[layout].read, mpp or {}
    return [
        FoundBag(f.stem, str(f.relative_to(source)), partial(read, f, known.get(f.stem)))
        for f in bag_files(source, layout)
    ]


def bag_files(path: Path, layout: str) -> list[Path]:
    """The files of a layout below a folder, sorted; STAMP's may lie in folders of their own.

    Raises:
        BagError: there are none, or several feature folders of TRIDENT or torchmil.
    """
    if not path.is_dir():
        raise BagError(f"{path}: no such folder; the layout {layout} has one file per slide")
    patterns = [SUBFOLDERS[layout]] if layout in SUBFOLDERS else []
    files = _files(_base(path, patterns), LAYOUTS[layout].suffix)
    if not files:
        raise BagError(f"{path}: no *{LAYOUTS[layout].suffix} below it (layout {layout})")
    return files


def _base(path: Path, patterns: list[str]) -> Path:
    for pattern in patterns:
        folders = sorted(folder for folder in path.glob(pattern) if folder.is_dir())
        if len(folders) > 1:
            names = ", ".join(folder.name for folder in folders)
            raise BagError(f"{path}: several folders of features: name one of {names}")
        if folders:
            return folders[0]
    return path


def _files(folder: Path, suffix: str) -> list[Path]:
    # Hidden files are left by interrupted writers (.part) and by file systems (._ of macOS).
    return sorted(p for p in folder.rglob(f"*{suffix}") if p.is_file() and p.name[0] != ".")
