"""What an index shows of a data set: class counts, corrupt images, overlap of its parts."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from wsi_ncmi.images.datasets.interface import DatasetError
from wsi_ncmi.images.index.record import Index

PARTS = ("train", "test")
NAMED = 5


def class_counts(index: Index) -> dict[str, dict[str, int]]:
    """Part -> class -> images, the corrupt ones included."""
    counts = index.images.groupby(["part", "target"]).size()
    return {
        part: {name: int(counts.get((part, c), 0)) for c, name in enumerate(index.classes)}
        for part in PARTS
    }


def corrupt(index: Index) -> pd.DataFrame:
    """The images that cannot be decoded: part, id, reason."""
    rows = index.images[index.images["reason"] != ""]
    return rows[["part", "id", "reason"]].reset_index(drop=True)


def overlap(index: Index) -> pd.DataFrame:
    """Images of the test part that are in the training part too, pixel by pixel.

    A row per pair: pixels_sha256, test and train (their ids), test_class and train_class.
    """
    whole = index.images[index.images["reason"] == ""]
    named = whole.assign(**{"class": [index.classes[t] for t in whole["target"]]})
    sides = {part: named[named["part"] == part] for part in PARTS}
    shown = ["pixels_sha256", "id", "class"]
    pairs = sides["test"][shown].merge(sides["train"][shown], on="pixels_sha256")
    names = ["pixels_sha256", "test", "test_class", "train", "train_class"]
    return pairs.set_axis(names, axis=1).sort_values(["test", "train"], ignore_index=True)


def warnings_of(index: Index, policies: Mapping[str, str]) -> list[str]:
    """What a reader of results should know of the images, a sentence each.

    Args:
        policies: `corrupt` and `overlap`, as the task has them.

    Raises:
        DatasetError: there are corrupt or overlapping images, and the task refuses them.
    """
    return [*_counts(index), *_corrupt(index, policies), *_overlap(index, policies)]


def kept(index: Index, policies: Mapping[str, str]) -> pd.DataFrame:
    """The rows that a task uses: without corrupt images, and without dropped training images."""
    rows = index.images[index.images["reason"] == ""]
    if policies["overlap"] != "drop":
        return rows
    tested = rows.loc[rows["part"] == "test", "pixels_sha256"]
    return rows[(rows["part"] == "test") | ~rows["pixels_sha256"].isin(tested)]


def _counts(index: Index) -> list[str]:
    if index.published is None:
        return []
    found = [int((index.images["part"] == part).sum()) for part in PARTS]
    if tuple(found) == tuple(index.published):
        return []
    told = " and ".join(f"{n:,}" for n in index.published)
    return [
        f"the data set has {found[0]:,} training and {found[1]:,} test images, {told} as it was "
        "published: it is a subset, or not whole"
    ]


def _corrupt(index: Index, policies: Mapping[str, str]) -> list[str]:
    rows = corrupt(index)
    if rows.empty:
        return []
    listed = "; ".join(f"{r.id} ({r.reason})" for r in rows.head(NAMED).itertuples())
    found = f"{len(rows)} of {len(index.images)} images are corrupt: {listed}{_more(rows)}"
    if policies["corrupt"] == "refuse":
        raise DatasetError(
            f"{found}: replace or remove them, or leave them out by `corrupt: skip` (all are "
            "listed in corrupt.tsv beside the index)"
        )
    return [f"{found}: they are left out"]


def _overlap(index: Index, policies: Mapping[str, str]) -> list[str]:
    pairs = overlap(index)
    if pairs.empty:
        return []
    tested, trained = pairs["test"].nunique(), pairs["train"].nunique()
    first = pairs.iloc[0]
    found = (
        f"{tested} test images are training images too, pixel by pixel ({trained} of these; first "
        f"{first['test']}, which is {first['train']})"
    )
    if policies["overlap"] == "refuse":
        raise DatasetError(
            f"{found}: remove them from one part, or set `overlap: drop`, which leaves out those "
            "of training, or `overlap: warn` (all are listed in overlap.tsv beside the index)"
        )
    kept = "those of training are left out" if policies["overlap"] == "drop" else "all are used"
    return [f"{found}: {kept}"]


def _more(rows: pd.DataFrame) -> str:
    return f"; and {len(rows) - NAMED} more" if len(rows) > NAMED else ""


def summary(index: Index) -> dict[str, Any]:
    """Of an index, what is read by people: counts, and how many images are corrupt or overlap."""
    pairs = overlap(index)
    return {
        **index.source,
        "digest": index.digest,
        "published": index.published,
        "images": class_counts(index),
        "corrupt": len(corrupt(index)),
        "overlap": {side: int(pairs[side].nunique()) for side in ("test", "train")},
    }
