"""The order in which an epoch visits its training samples."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray


def epoch_order(
    targets: NDArray[np.int64], sampling: Literal["shuffled", "balanced"], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows [n] of an epoch: each once, or classes equally often with replacement."""
    if sampling == "shuffled":
        return rng.permutation(len(targets))
    weight = 1 / np.bincount(targets)[targets]
    return rng.choice(len(targets), len(targets), p=weight / weight.sum())
