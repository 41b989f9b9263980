"""Files that are taken for slides and are none: what they are, and what to do."""

from pathlib import Path

from wsi_ncmi.errors import SlideError, UnreachableError
from wsi_ncmi.slides.parts import slide_files

EXPORT = "export it as an OME-TIFF or another pyramidal TIFF (QuPath, bfconvert)"
LISTS = {
    ".ndpis": "lists NDPI files, the channels of a fluorescence slide",
    ".afi": "lists SVS files, the channels of a fluorescence slide",
}

LARGEST_TEXT = 65_536
BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer: fetch the slide by `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer: fetch the slide by `git annex get`",
    b"<!doctype html": "a web page: its download failed, fetch it again",
    b"<html": "a web page: its download failed, fetch it again",
}


def refuse_format(path: Path) -> None:
    """Refuse by name what no reader reads although one may open it.

    Raises:
        SlideError: an Olympus VSI, whose pixels are elsewhere, or a list of other files.
    """
    suffix = path.suffix.lower()
    if suffix in LISTS:
        raise SlideError(f"{path}: {LISTS[suffix]}; fluorescence cannot be used")
    if suffix != ".vsi":
        return
    folder = f"_{path.stem}_"
    if len(slide_files(path)) == 1:
        raise SlideError(
            f"{path}: an Olympus VSI without its pixels: they lie in .ets files in the folder "
            f"{folder} beside it, which cannot be found, and what is left is a photo of the glass "
            f"and its label; copy that folder, too, and {EXPORT}"
        )
    raise SlideError(
        f"{path}: an Olympus VSI, whose pixels (.ets files in {folder}) no reader here decodes: "
        f"{EXPORT}"
    )


def refuse_text(path: Path) -> None:
    """Refuse what stands in the place of a slide that was not fetched.

    Raises:
        UnreachableError: with what the file is: nothing is known of the slide itself.
    """
    if path.stat().st_size > LARGEST_TEXT:
        return
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    for beginning, what in BEGINNINGS.items():
        if start.startswith(beginning):
            raise UnreachableError(f"{path}: it is not the slide but {what}")
