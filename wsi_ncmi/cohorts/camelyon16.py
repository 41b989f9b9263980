"""CAMELYON-16's slide sheet: normal and tumour slides of two hospitals, and the test part.

Layout of the public bucket: `images/normal_001.tif` …, `images/tumor_001.tif` …,
`images/test_001.tif` …. The labels of the test part are `reference.csv` of the challenge: name,
`Tumor` or `Normal`, histology, size of the metastasis, without a header.

The first training set (100 normal, 70 tumour) is Radboud's, the second (60 and 40) Utrecht's
(camelyon16.grand-challenge.org/Data); tumor_111 is normal_086 under another name (its README), and
so of the first. The hospital of a test slide is not published, nor is any slide's patient.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from wsi_ncmi.address import is_remote, no_such
from wsi_ncmi.cohorts.folder import annotation_of, slides_folder
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.errors import ConfigError

BUCKET = "s3://camelyon-dataset/CAMELYON16"
LABELS = ("normal", "tumor")
TRAINING = {"normal": 160, "tumor": 111}
OF_RADBOUD = {"normal": 100, "tumor": 70}
RENAMED = "tumor_111"
WITHDRAWN = ("normal_086", "test_049")
"""No files of the data set any more; the registry of known defects excludes their rows."""
TEST_NAME = re.compile(r"^test_\d{3}$")


def sheet_rows(reference: Path, images: str) -> list[SlideRow]:
    """Rows of the slide sheet, the training part first.

    Args:
        reference: the labels of the test part.
        images: local folder that holds the slides (or `images/`, with `annotations/` beside it), or
            the bucket's address.

    Raises:
        ConfigError: rows of the reference that are wrong, or slides that the folder lacks.
    """
    found = [*_training(), *_tested(reference)]
    if is_remote(images):
        root = images.rstrip("/")
        return [_row(name, label, f"{root}/images/{name}.tif", "") for name, label in found]
    folder = slides_folder(images)
    paths = {name: folder / f"{name}.tif" for name, _ in found}
    missing = [p for n, p in paths.items() if n not in WITHDRAWN and not p.is_file()]
    if missing:
        raise ConfigError([f"{path}: no such slide" for path in missing])
    return [_row(n, label, str(paths[n]), annotation_of(paths[n])) for n, label in found]


def _training() -> Iterator[tuple[str, str]]:
    for label, count in TRAINING.items():
        yield from ((f"{label}_{number:03d}", label) for number in range(1, count + 1))


def _tested(reference: Path) -> list[tuple[str, str]]:
    if not reference.is_file():
        raise ConfigError([no_such(str(reference), "label file")])
    lines = list(csv.reader(reference.read_text("utf-8-sig").splitlines()))
    found, problems = [], []
    for line, cells in enumerate(lines, 1):
        name, label = ([*(cell.strip().lower() for cell in cells), "", ""])[:2]
        name = name.removesuffix(".tif")
        if TEST_NAME.match(name) and label in LABELS:
            found.append((name, label))
        elif line > 1 or TEST_NAME.match(name):  # the first line may be a header
            problems.append(
                f"{reference} row {line}: {','.join(cells)!r}, expected test_001,Tumor or "
                "test_001,Normal and so on"
            )
    twice = sorted({name for name, _ in found if sum(n == name for n, _ in found) > 1})
    problems += [f"{reference}: slide {name} stands twice" for name in twice]
    if not found and not problems:
        problems.append(f"{reference}: no rows of test slides")
    if problems:
        raise ConfigError(problems)
    return sorted(found)


def _row(name: str, label: str, path: str, annotation: str) -> SlideRow:
    kind, number = name.split("_")
    centre = "undisclosed"
    if kind in OF_RADBOUD:
        first = int(number) <= OF_RADBOUD[kind] or name == RENAMED
        centre = "radboud" if first else "utrecht"
    split = "test" if kind == "test" else "train"
    return SlideRow(name, label, name, centre, path, annotation=annotation, split=split)
