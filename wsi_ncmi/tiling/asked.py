"""What decides the tiles of a slide, for the digests of the tiling and of the workflow's plan.

Light: the Snakefile imports it in every job.
"""

from collections.abc import Callable
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
    own = tiling.model_copy(update={"tissue": tissue_options(row, tiling)})
    weights = own.tissue.weights if own.tissue.method == "model" else None
    return {
        "tiling": own.model_dump(mode="json", exclude={"tissue": {"weights"}}),
        "mpp": row.mpp,
        "mask": identify(row.mask, "mask") if row.mask else "",
        "weights": identify(weights, "tissue.weights") if weights else "",
    }


def tissue_options(row: SlideRow, tiling: Tiling) -> Tissue:
    """`tiling.tissue` for one slide; SlideError where the row's own values do not fit."""
    try:
        return row.tissue_options(tiling.tissue)
    except ConfigError as error:
        raise SlideError("; ".join(error.problems)) from error
