"""Making an index: every image is read, decoded and hashed, save those of unchanged files."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from wsi_ncmi.images.datasets.files.members import WHOLE, Member
from wsi_ncmi.images.datasets.files.stored import StoredPixels, UndecodableError
from wsi_ncmi.images.datasets.interface import ImageDataset, Images
from wsi_ncmi.images.index.record import COLUMNS, FILE_COLUMNS, Index
from wsi_ncmi.images.index.state import file_states
from wsi_ncmi.provenance import sha256_file

log = logging.getLogger(__name__)

REPORTS = 10


class Seen(NamedTuple):
    """What reading an image showed.

    Attributes:
        file_sha256: of the image's own file; "" where it lies in an archive.
    """

    height: int
    width: int
    pixels_sha256: str
    reason: str
    file_sha256: str = ""


def make_index(
    dataset: ImageDataset,
    root: Path,
    source: dict[str, Any],
    previous: Index | None,
    threads: int,
) -> Index:
    """Index a data set. What is corrupt is a row with its reason.

    Args:
        root: the data set's path.
        source: its name and options.
        previous: an earlier index, from which files of the same size and time are taken over.
        threads: that read and decode.
    """
    names = [_relative(file, root) for file in dataset.files]
    states = file_states(root, names, threads)
    known = _known_files(previous, states)
    rows: list[tuple[Any, ...]] = []
    hashes = {name: sha for name, (sha, _) in known.items()}
    with ThreadPoolExecutor(threads) as pool:
        for part in ("train", "test"):
            images = getattr(dataset, part)
            places = _places(images)
            seen = _seen_part(images, places, _known_images(previous, known), pool)
            for row, (place, one) in enumerate(zip(places, seen, strict=True)):
                if one.file_sha256:
                    hashes[place.file] = one.file_sha256
                target = int(images.targets[row])
                rows.append((part, images.ids[row], target, *one[:4], *place[1:]))
    missing = [name for name in names if name not in hashes]
    with ThreadPoolExecutor(threads) as pool:
        hashes |= zip(missing, pool.map(lambda n: sha256_file(root / n), missing), strict=True)
    stored = all(isinstance(part.pixels, StoredPixels) for part in (dataset.train, dataset.test))
    files = [(name, *states[name], hashes[name]) for name in names]
    return Index(
        dataset.classes,
        dataset.protocol,
        dataset.published,
        stored,
        source,
        pd.DataFrame(rows, columns=list(COLUMNS)),
        pd.DataFrame(files, columns=list(FILE_COLUMNS)),
    )


def _relative(file: Path, root: Path) -> str:
    """The file's name below the root, and none for the root itself, an archive."""
    return "" if file == root else file.relative_to(root).as_posix()


def _places(images: Images) -> Sequence[Member]:
    """Where each image lies; images of an array have no place of their own."""
    if isinstance(images.pixels, StoredPixels):
        return images.pixels.members
    return [Member(name, "", WHOLE) for name in images.ids]


def _known_files(
    previous: Index | None, states: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[str, tuple[int, int]]]:
    """File -> its SHA-256 and state, of those that are as they were."""
    if previous is None:
        return {}
    rows = previous.files[list(FILE_COLUMNS)].itertuples(index=False, name=None)
    found = {name: (sha, (size, mtime)) for name, size, mtime, sha in rows}
    return {name: entry for name, entry in found.items() if states.get(name) == entry[1]}


def _known_images(
    previous: Index | None, files: Mapping[str, Any]
) -> dict[Member, tuple[int, int, str, str]]:
    """Place -> what was seen there, of images that lie in unchanged files."""
    if previous is None or not previous.stored:
        return {}
    columns = ["height", "width", "pixels_sha256", "reason"]
    rows = previous.images[previous.images["file"].isin(files)]
    seen = rows[columns].itertuples(index=False, name=None)
    return dict(zip(previous.members(rows), seen, strict=True))


def _seen_part(
    images: Images,
    places: Sequence[Member],
    known: Mapping[Member, tuple[int, int, str, str]],
    pool: ThreadPoolExecutor,
) -> Iterator[Seen]:
    count, step = len(images), max(1, len(images) // REPORTS)
    log.info("%d images, %d of them known", count, sum(place in known for place in places))

    def look(row: int) -> Seen:
        place = places[row]
        return Seen(*known[place]) if place in known else _look(images, row, place)

    # Blocks, so that no million tasks wait at once.
    for start in range(0, count, step):
        yield from pool.map(look, range(start, min(start + step, count)))
        if count >= 10_000:
            log.info("%d of %d images", min(start + step, count), count)


def _look(images: Images, row: int, place: Member) -> Seen:
    pixels = images.pixels
    if not isinstance(pixels, StoredPixels):
        return _hashed(np.ascontiguousarray(pixels[row]))
    file_sha256 = ""
    try:
        data = pixels.raw(row)
        if place.size == WHOLE:
            file_sha256 = hashlib.sha256(data).hexdigest()
        return _hashed(pixels.decode(row, data), file_sha256)
    except UndecodableError as error:
        return Seen(0, 0, "", error.reason, file_sha256)


def _hashed(image: np.ndarray, file_sha256: str = "") -> Seen:
    height, width = (*image.shape, 1)[:2]  # of a vector or of tokens their number, and 1
    found = hashlib.sha256(f"{height}x{width}:".encode())
    found.update(np.ascontiguousarray(image).data)
    return Seen(height, width, found.hexdigest()[:32], "", file_sha256)
