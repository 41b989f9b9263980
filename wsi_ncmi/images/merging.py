"""Classes that are made of finer ones, by `merge_classes` of a task."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset


def merged(dataset: ImageDataset, groups: Mapping[str, Sequence[str]]) -> ImageDataset:
    """The data set with the merged classes first, in their order, and then all others.

    Args:
        groups: a merged class -> the classes that it is made of.

    Raises:
        DatasetError: a class that the data set does not have, a merged class that is called as one
            that stays, or a single class in all.
    """
    if not groups:
        return dataset
    named = {fine: coarse for coarse, of_it in groups.items() for fine in of_it}
    unknown = sorted(set(named) - set(dataset.classes))
    if unknown:
        raise DatasetError(
            f"merge_classes.{named[unknown[0]]}: no class {unknown[0]!r} in the data set: expected "
            f"some of {', '.join(dataset.classes)}"
        )
    classes = [*groups, *(name for name in dataset.classes if name not in named)]
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise DatasetError(
            f"merge_classes.{twice[0]}: the data set has a class of this name that is not merged "
            "into another: choose another name, or list it"
        )
    if len(classes) < 2:
        raise DatasetError(
            f"merge_classes: all {len(dataset.classes)} classes become {classes[0]}: expected two "
            "or more"
        )
    number = np.array([classes.index(named.get(name, name)) for name in dataset.classes])
    train, test = (replace(p, targets=number[p.targets]) for p in (dataset.train, dataset.test))
    return replace(dataset, classes=classes, train=train, test=test)
