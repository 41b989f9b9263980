"""The same data under several slide_ids: trained on and tested on, they make a leak."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.errors import BagError

log = logging.getLogger(__name__)

LOOKED_AT = 64
"""Rows by which bags that may be equal are found: hashing all of each would slow down packing."""


def sample_digest(features: NDArray[Any]) -> str:
    """Of shape, dtype and some rows of a bag [N, D], evenly spread: equal bags have the same."""
    places = np.linspace(0, len(features) - 1, min(LOOKED_AT, len(features))).astype(int)
    header = f"{features.shape} {features.dtype.str}\n".encode()
    return hashlib.sha256(header + np.ascontiguousarray(features[places]).tobytes()).hexdigest()


def sets_of(keys: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The ids that share a key: (key, slide_id) -> sets of two and more, sorted."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, slide_id in keys:
        if key:
            found[key].append(slide_id)
    return sorted(sorted(ids) for ids in found.values() if len(set(ids)) > 1)


def refuse_twins(sets: Sequence[Sequence[str]], patient_of: Mapping[str, str], what: str) -> None:
    """Note sets of one patient; raise BagError for sets of several, which may come apart.

    Args:
        patient_of: slide_id -> patient_id; other slides are in no split.
        what: the slides have in common.
    """
    problems = []
    for ids in sets:
        patients = {s: patient_of[s] for s in ids if s in patient_of}
        shown = ", ".join(f"{s} (patient {p})" for s, p in patients.items())
        if len(set(patients.values())) > 1:
            problems.append(shown)
        elif len(patients) > 1:
            log.warning("%s under several slide_ids of one patient: %s", what, shown)
    if problems:
        raise BagError(f"{what} under several slide_ids: {'; '.join(problems)}: {REMEDY}")


REMEDY = (
    "they could stand in two parts of a split: keep one row of each set in the sheet, or give "
    "the rows the same patient_id if they are of one patient"
)
