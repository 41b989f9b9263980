"""By which the same bag under several slide_ids is found."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOOKED_AT = 64
"""Rows by which bags that may be equal are found: hashing all of each would slow down packing."""


def sample_digest(features: NDArray[Any]) -> str:
    """Of shape, dtype and some rows of a bag [N, D], evenly spread: equal bags have the same."""
    places = np.linspace(0, len(features) - 1, min(LOOKED_AT, len(features))).astype(int)
    header = f"{features.shape} {features.dtype.str}\n".encode()
    return hashlib.sha256(header + np.ascontiguousarray(features[places]).tobytes()).hexdigest()
