"""Which tiles lie in an annotated lesion, and how well attention finds them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from wsi_ncmi.tiling.asap import Annotation, in_lesion

POINTS_PER_SIDE = 8


def lesion_tiles(
    annotations: Sequence[Annotation], coords: NDArray[np.integer], size_level0: float
) -> NDArray[np.bool_]:
    """Whether any of 8 x 8 points of a tile lies in a lesion: [N] bool.

    Isolated tumour cells are smaller than a tile, so a tile's centre alone would miss them.

    Args:
        coords: [N, 2] upper left corners in level-0 pixels.
        size_level0: side of a tile in level-0 pixels.
    """
    steps = (np.arange(POINTS_PER_SIDE) + 0.5) / POINTS_PER_SIDE * size_level0
    offsets = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    points = (coords[:, None] + offsets[None]).reshape(-1, 2)
    inside = in_lesion(annotations, points).reshape(len(coords), -1)
    return np.asarray(inside.any(1))


def attention_auroc(attention: NDArray[np.floating], lesion: NDArray[np.bool_]) -> float:
    """AUROC of attention for lesion tiles; NaN where all tiles are alike."""
    if lesion.all() or not lesion.any():
        return float("nan")
    return float(roc_auc_score(lesion, attention))
