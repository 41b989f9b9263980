"""The splits of a task, as its models were trained on them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wsi_ncmi.files.atomic import write_json
from wsi_ncmi.files.frame import read_frame

SHOWN_FOLDS = 10
NOTED = "data_set.json"


def read_splits(path: Path) -> pd.DataFrame:
    """A task's `splits.tsv`: a row per fold and slide (or image).

    Columns: fold (a number), repeat (of the partition, 0 where the file has a single one), part
    (train, val or test), sample_id, slide_id, patient_id, centre, label.
    """
    found = read_frame(path, {"fold": int})
    return found.assign(repeat=found["repeat"].astype(int) if "repeat" in found else 0)


def absent_from_validation(splits: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """A sentence for each class that the validation part of some fold lacks."""
    val = splits[splits.part == "val"]
    present = set(zip(val.fold, val.label, strict=True))
    folds = sorted(int(fold) for fold in splits.fold.unique())
    found = []
    for name in classes:
        lacking = [str(fold) for fold in folds if (fold, name) not in present]
        more = ", …" if len(lacking) > SHOWN_FOLDS else ""
        if lacking:
            found.append(
                f"class {name} is missing from the validation part of {len(lacking)} of "
                f"{len(folds)} fold(s) ({', '.join(lacking[:SHOWN_FOLDS])}{more}): there it has no "
                "say in the choice of an epoch or a setting, nor in the fitted temperature"
            )
    return found


def with_bags(splits: pd.DataFrame, index: Path) -> pd.DataFrame:
    """The rows whose slides have a bag.

    Args:
        index: of the packed cache.
    """
    status = read_frame(index)
    return splits[splits.slide_id.isin(status.slide_id[status.status == "ok"])]


def note_warnings(task_dir: Path, warnings: Sequence[str]) -> None:
    """Keep beside a task's splits what a reader of its results should know of its data."""
    write_json(task_dir / NOTED, {"warnings": list(warnings)})


def noted_warnings(task_dir: Path) -> list[str]:
    """What was noted; nothing for a task on bags."""
    path = task_dir / NOTED
    found: list[str] = json.loads(path.read_text())["warnings"] if path.is_file() else []
    return found
