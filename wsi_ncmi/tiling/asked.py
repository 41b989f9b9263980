"""What decides the tiles of a slide, for the digests of the tiling and of the workflow's plan.

Light: the Snakefile imports it in every job.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling, Tissue
from wsi_ncmi.errors import ConfigError, SlideError

Identify = Callable[[str, str], Any]
"""(path, what it is: "mask" or "tissue.weights") -> the identity of a file's content."""


def deciding(row: SlideRow, tiling: Tiling, identify: Identify) -> dict[str, Any]:
    """All but the slide's bytes that decides its tiles.

    Args:
        identify: of the files that the mask is made from: by a checksum where tiles are made, by
            size and time where a thousand slides are planned.

    Raises:
        SlideError: such a file is missing, or the slide's own options do not go together.
    """
    tissue = tissue_options(row, tiling)
    weights = tissue.weights if tissue.method == "model" else None
    return {
        "tiling": _stated(tiling, tissue),
        "mpp": row.mpp,
        "mask": identify(row.mask, "mask") if row.mask else "",
        "weights": identify(weights, "tissue.weights") if weights else "",
    }


@lru_cache(maxsize=64)
def _stated(tiling: Tiling, tissue: Tissue) -> dict[str, Any]:
    """What a digest says of the options; nearly all slides of a cohort share one, in memory too."""
    own = tiling.model_copy(update={"tissue": tissue})
    return own.model_dump(mode="json", exclude={"tissue": {"weights"}})


def tissue_options(row: SlideRow, tiling: Tiling) -> Tissue:
    """`tiling.tissue` for one slide; SlideError where the row's own values do not fit."""
    try:
        return row.tissue_options(tiling.tissue)
    except ConfigError as error:
        raise SlideError("; ".join(error.problems)) from error
