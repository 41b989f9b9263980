"""The same bag under several slide_ids."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.cohorts.twins import REMEDY, told_apart
from wsi_ncmi.errors import BagError

log = logging.getLogger(__name__)

LOOKED_AT = 64
"""Rows by which bags that may be equal are found: hashing all of each would slow down packing."""


def sample_digest(features: NDArray[Any]) -> str:
    """Of shape, dtype and some rows of a bag [N, D], evenly spread: equal bags have the same."""
    places = np.linspace(0, len(features) - 1, min(LOOKED_AT, len(features))).astype(int)
    header = f"{features.shape} {features.dtype.str}\n".encode()
    return hashlib.sha256(header + np.ascontiguousarray(features[places]).tobytes()).hexdigest()


def refuse_twins(sets: Iterable[Sequence[str]], patient_of: Mapping[str, str], what: str) -> None:
    """Note sets of one patient; raise BagError for sets of several.

    Args:
        patient_of: slide_id -> patient_id; other slides are in no split.
        what: the slides have in common.
    """
    several, one = told_apart(sets, patient_of)
    for shown in one:
        log.warning("%s under several slide_ids of one patient: %s", what, shown)
    if several:
        raise BagError(f"{what} under several slide_ids: {'; '.join(several)}: {REMEDY}")
