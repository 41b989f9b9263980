"""Mean features of slides, a slide at a time: the packed cache may be larger than the memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_ncmi.bags.cache import BagCache, read_index


def slide_means(folder: Path, slide_ids: Sequence[str]) -> NDArray[np.float32]:
    """The mean feature of each slide [n, D], of slides with a bag.

    Args:
        folder: of the packed cache.
    """
    cache = BagCache(folder, resident=False)
    found = np.empty((len(slide_ids), cache.dim), np.float32)
    for row, slide_id in zip(found, slide_ids, strict=True):
        cache.features[cache.rows(slide_id)].mean(axis=0, dtype=np.float32, out=row)
    return found


def without_twins(slides: pd.DataFrame, index: Path) -> pd.DataFrame:
    """The rows of slides, by slide_id, of which no earlier one has the same bag."""
    first = slides["slide_id"].map(read_index(index)["same_as"])
    return slides[~first.where(first != "", slides["slide_id"]).duplicated()]
