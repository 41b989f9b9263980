"""By which the same bag under several slide_ids, or in two cohorts, is found."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.cohorts.twins import sets_of

LOOKED_AT = 64
"""Rows by which bags that may be equal are found: hashing all of each would slow down packing."""


def sample_digest(features: NDArray[Any]) -> str:
    """Of shape, dtype and some rows of a bag [N, D], evenly spread: equal bags have the same."""
    places = np.linspace(0, len(features) - 1, min(LOOKED_AT, len(features))).astype(int)
    header = f"{features.shape} {features.dtype.str}\n".encode()
    return hashlib.sha256(header + np.ascontiguousarray(features[places]).tobytes()).hexdigest()


def equal_bags(slide_ids: Iterable[str], read: Callable[[str], NDArray[Any]]) -> list[list[str]]:
    """Sets of slides whose features are the same, row for row.

    Args:
        read: slide_id -> its features [N, D]; asked once of each, and again of those that may be
            equal.
    """
    found = []
    for ids in sets_of((sample_digest(read(slide_id)), slide_id) for slide_id in slide_ids):
        first = read(ids[0])
        equal = [ids[0], *(s for s in ids[1:] if np.array_equal(read(s), first))]
        if len(equal) > 1:
            found.append(equal)
    return found


def shared_bags(one: BagCache, other: BagCache) -> list[tuple[str, str]]:
    """Slides of two caches whose features are the same, row for row: (of one, of the other)."""
    keys = {sample_digest(one.bags([s])[0]): s for s in one.index.index if one.has(s)}
    found = []
    for slide_id in filter(other.has, other.index.index):
        bag = other.bags([slide_id])[0]
        twin = keys.get(sample_digest(bag))
        if twin is not None and np.array_equal(one.bags([twin])[0], bag):
            found.append((twin, str(slide_id)))
    return found
