"""Classes that are WordNet synsets, as of ImageNet and its relatives."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.images.datasets.interface import DatasetError


def class_names(wnids: Sequence[str], words: Mapping[str, str]) -> list[str]:
    """`n01443537 goldfish`: the synset and its first word; two synsets may share their words."""
    return [f"{w} {words[w].split(',')[0].strip()}" if w in words else w for w in wnids]


def read_words(text: str) -> dict[str, str]:
    """Synset -> its words, from lines of both with a tab between (`words.txt`)."""
    rows = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    return {wnid.strip(): words.strip() for wnid, words in rows}


def targets_of(labels: Sequence[str], wnids: Sequence[str], where: str) -> NDArray[np.int64]:
    """Indices of the labels' synsets.

    Args:
        where: which part they are of, for the error.

    Raises:
        DatasetError: a label that is not among `wnids`.
    """
    index = {wnid: number for number, wnid in enumerate(wnids)}
    unknown = sorted(set(labels) - set(index))
    if unknown:
        raise DatasetError(
            f"{where}: class {unknown[0]} is none of the {len(wnids)} known ones (of a data set: "
            f"those with training images); {len(unknown)} class(es) are like it: complete the "
            "training part, or take these images out"
        )
    return np.array([index[label] for label in labels], np.int64)
