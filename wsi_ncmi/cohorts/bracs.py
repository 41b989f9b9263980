"""BRACS' slide sheet: seven lesions of the breast, with the official split.

Layout of the data set: `<split>/Group_<BT, AT or MT>/Type_<lesion>/BRACS_<number>.svs`, split one
of train, val and test (www.bracs.icar.cnr.it). Or a table with the columns `slide_id`, `split` and
`label`, a lesion's name or its number 0 to 6 in the order of `LESIONS`. Which slides share a
patient is in neither: each slide is taken for a patient of its own.
"""

from pathlib import Path

from wsi_ncmi.cohorts.folder import slides_below
from wsi_ncmi.cohorts.sheet import PARTS, SlideRow
from wsi_ncmi.cohorts.table import columns_of
from wsi_ncmi.errors import ConfigError

LESIONS = ("N", "PB", "UDH", "FEA", "ADH", "DCIS", "IC")
CENTRE = "bracs"
TYPE = "Type_"


def rows_of_folder(images: str) -> list[SlideRow]:
    """Rows of the slide sheet from the folders in which the slides lie.

    Raises:
        ConfigError: every slide that lies in another folder, together.
    """
    problems, rows = [], []
    for path in slides_below(images):
        label = next((f.removeprefix(TYPE) for f in path.parts if f.startswith(TYPE)), "")
        split = next((folder for folder in reversed(path.parts) if folder in PARTS), "")
        if label in LESIONS and split:
            rows.append(_row(path.stem, label, split, str(path)))
        else:
            problems.append(
                f"{path}: expected a folder such as train/Group_BT/Type_N above it, with one of "
                f"{', '.join(PARTS)} and one of {', '.join(LESIONS)}"
            )
    if problems:
        raise ConfigError(problems)
    return rows


def rows_of_table(table: Path, images: str) -> list[SlideRow]:
    """Rows of the slide sheet from a table of the split.

    Args:
        images: folder of the slides, in any folders below it; "": they are not there, and the sheet
            has no paths.

    Raises:
        ConfigError: every row that is wrong and every slide that is missing, together.
    """
    paths = {path.stem: str(path) for path in slides_below(images)} if images else {}
    problems, rows = [], []
    for line, record in columns_of(table, ("slide_id", "split", "label")):
        name, split, label = record["slide_id"], record["split"], record["label"]
        label = LESIONS[int(label)] if label in map(str, range(len(LESIONS))) else label
        if split not in PARTS or label not in LESIONS:
            problems.append(
                f"{table} row {line}: split {split!r} and label {label!r} of {name}, expected one "
                f"of {', '.join(PARTS)} and one of {', '.join(LESIONS)} or their number"
            )
        elif images and name not in paths:
            problems.append(f"{images}: no slide {name} in it")
        else:
            rows.append(_row(name, label, split, paths.get(name, "")))
    if problems:
        raise ConfigError(problems)
    return rows


def _row(name: str, label: str, split: str, path: str) -> SlideRow:
    return SlideRow(name, label, name, CENTRE, path, split=split)
