"""Which level of a pyramid is read."""

from collections.abc import Sequence

LEVEL_TOLERANCE = 0.01
"""A level counts as fine enough up to 1 % coarser than wanted: 1.99988 is a 2."""


def coarsest_level_for(
    level_downsamples: Sequence[float], slide_mpp: float, wanted_mpp: float
) -> int:
    """The coarsest level that is not coarser than `wanted_mpp`, or level 0."""
    limit = wanted_mpp * (1 + LEVEL_TOLERANCE) / slide_mpp
    fine = [i for i, downsample in enumerate(level_downsamples) if downsample <= limit]
    return max(fine, key=lambda i: level_downsamples[i], default=0)
