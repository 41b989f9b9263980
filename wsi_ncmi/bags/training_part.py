"""Training parts with few or wrong labels, for studies of what a loss makes of them.

Validation and test parts stay as they are. What is kept or changed is nested: of a larger number of
patients the smaller one is a part, and so are the wrong labels of a smaller share.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from wsi_ncmi.errors import SplitError
from wsi_ncmi.provenance import digest


def with_few(splits: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """Splits whose training parts have at most `most` patients of each class.

    A patient with slides of several classes counts in each of them by itself.

    Args:
        splits: columns fold, part, patient_id and label among others.
        seed: decides which patients, with the fold and the class.
    """
    dropped: list[int] = []
    training = splits[splits["part"] == "train"]
    for (fold, label), rows in training.groupby(["fold", "label"]):
        patients = _shuffled(rows["patient_id"].unique(), seed, "few", fold, label)
        dropped += rows.index[~rows["patient_id"].isin(patients[:most])].tolist()
    return splits.drop(index=dropped).reset_index(drop=True)


def with_wrong_labels(
    splits: pd.DataFrame, share: float, classes: Sequence[str], seed: int
) -> pd.DataFrame:
    """Splits in which a share of the training samples has another class's label.

    Of each class in each fold as many samples, to the nearest whole number; which class they get
    is drawn evenly from the others.

    Raises:
        SplitError: a class loses all of its training samples and gets none.
    """
    changed = splits.copy()
    training = splits[splits["part"] == "train"]
    for (fold, label), rows in training.groupby(["fold", "label"]):
        samples = _shuffled(rows["sample_id"].unique(), seed, "wrong", fold, label)
        others = [name for name in classes if name != label]
        for sample in samples[: round(share * len(samples))]:
            wrong = others[_number(seed, "label", fold, label, sample) % len(others)]
            changed.loc[rows.index[rows["sample_id"] == sample], "label"] = wrong
    _check_classes(changed, classes, share)
    return changed


def _check_classes(splits: pd.DataFrame, classes: Sequence[str], share: float) -> None:
    for fold, rows in splits[splits["part"] == "train"].groupby("fold"):
        absent = sorted(set(classes) - set(rows["label"]))
        if absent:
            raise SplitError(
                f"protocol.label_noise: {share} leaves no training sample of class "
                f"{', '.join(absent)} in fold {fold}: lower it"
            )


def _shuffled(names: Sequence[str], *purpose: object) -> list[str]:
    """In an order that the purpose and the names alone decide."""
    rng = np.random.default_rng(_number(*purpose))
    ordered = sorted(names)
    return [ordered[i] for i in rng.permutation(len(ordered))]


def _number(*purpose: object) -> int:
    return int(digest([str(part) for part in purpose])[:15], 16)
