"""The splits of a task, as its models were trained on them."""

from pathlib import Path

import pandas as pd

from wsi_ncmi.files.frame import read_frame


def read_splits(path: Path) -> pd.DataFrame:
    """A task's `splits.tsv`: a row per fold and slide (or image).

    Columns: fold (a number), part (train, val or test), sample_id, slide_id, patient_id, centre,
    label.
    """
    return read_frame(path, {"fold": int})


def with_bags(splits: pd.DataFrame, index: Path) -> pd.DataFrame:
    """The rows whose slides have a bag.

    Args:
        index: of the packed cache.
    """
    status = read_frame(index)
    return splits[splits.slide_id.isin(status.slide_id[status.status == "ok"])]
