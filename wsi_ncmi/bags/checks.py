"""What makes features usable; for bags of any origin."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def problem_of(features: NDArray[Any]) -> str:
    """Why features cannot be used, or nothing."""
    if features.ndim != 2:
        return f"features are {features.shape}, expected [N, D]{_hint(features.shape)}"
    if not features.size:
        return "no instance"
    if features.dtype.kind != "f":
        return f"features are {features.dtype}, expected floating point numbers"
    if not np.isfinite(features).all():
        return "features are not finite"
    return ""


def _hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 1 and shape[0] > 1:
        return ": this is one vector for a whole slide; take the features of its tiles"
    if len(shape) == 3:
        return "; if these are HIPT's regions before pooling, average them over axis 1 first"
    return ""
