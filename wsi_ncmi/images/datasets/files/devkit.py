"""ImageNet's devkit: which synset each validation image is of (ILSVRC2012_devkit_t12)."""

import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from wsi_ncmi.images.datasets.interface import DatasetError

FOLDER = "ILSVRC2012_devkit_t12"
META = "data/meta.mat"
TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"


@dataclass(frozen=True)
class Devkit:
    """The classes and the validation part's labels.

    Attributes:
        words: synset -> its words, of the classes.
        validation: the synset of each validation image, in the order of the images' numbers.
        files: what it was read from.
    """

    words: dict[str, str]
    validation: list[str]
    files: tuple[Path, ...]


def read_devkit(path: Path) -> Devkit | None:
    """The devkit in a folder: unpacked, its `data/` alone, or its tar.gz; None: not there.

    Raises:
        DatasetError: it is damaged, or labels have no synset.
    """
    for folder in (path / FOLDER, path):
        if (folder / META).is_file() and (folder / TRUTH).is_file():
            files = (folder / META, folder / TRUTH)
            return _made(files[0].read_bytes(), files[1].read_text(), files)
    archive = path / f"{FOLDER}.tar.gz"
    if not archive.is_file():
        return None
    try:
        with tarfile.open(archive) as tar:
            meta, truth = (_member(tar, name) for name in (META, TRUTH))
    except (tarfile.TarError, OSError, EOFError, KeyError) as error:
        raise DatasetError(f"{archive}: damaged devkit ({error}): fetch it again") from None
    return _made(meta, truth.decode(), (archive,))


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(f"{FOLDER}/{name}")
    return file.read() if file else b""


def _made(meta: bytes, truth: str, files: tuple[Path, ...]) -> Devkit:
    synsets = _synsets(meta, files[0])
    words = dict(synsets.values())
    numbers = [line.strip() for line in truth.splitlines() if line.strip()]
    unknown = [number for number in numbers if number not in synsets]
    if unknown:
        raise DatasetError(
            f"{files[-1]}: {len(unknown)} labels have no synset in {META} (first {unknown[0]!r}): "
            "fetch the devkit again"
        )
    return Devkit(words, [synsets[number][0] for number in numbers], files)


def _synsets(meta: bytes, where: Path) -> dict[str, tuple[str, str]]:
    """ILSVRC2012_ID as text -> (synset, its words), of synsets without children: the classes."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        rows: Any = loadmat(BytesIO(meta), squeeze_me=True)["synsets"]
        leaves = [row for row in rows if int(row["num_children"]) == 0]
        return {str(int(r["ILSVRC2012_ID"])): (str(r["WNID"]), str(r["words"])) for r in leaves}
    except (MatReadError, KeyError, ValueError, TypeError, IndexError, OSError) as error:
        raise DatasetError(f"{where}: {META} cannot be read ({error}): fetch it again") from None
