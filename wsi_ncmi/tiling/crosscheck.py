"""A second opinion on a tissue mask, without decoding: native tiles with tissue take more bytes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.slides.reader import CompressedSizes
from wsi_ncmi.tiling.tissue.otsu_saturation import otsu

LEAST_RATIO = 2.0
"""Of the bytes of the two groups; less are not two groups: a slide that tissue fills."""

LEAST_TILES = 20
MOSTLY = 0.9
"""A native tile is tissue (or none) by the mask if this much of it is; borders are left out."""

CLEAR = 0.05
"""Fraction of the native tiles about which they disagree that is worth a look. It is below 0.02 on
slides whose masks are good."""


class Agreement(NamedTuple):
    """Fractions of a slide's native tiles; they sum to 1.

    Attributes:
        agreed: mask and bytes do not contradict each other.
        mask_only: tissue by the mask, in few bytes (blur, tinted glass).
        bytes_only: no tissue by the mask, in many bytes (tissue left out, ink).
    """

    agreed: float
    mask_only: float
    bytes_only: float

    @property
    def note(self) -> str:
        """A sentence where they disagree clearly, else nothing."""
        if self.mask_only > CLEAR:
            return (
                f"{self.mask_only:.0%} of the slide is tissue by the mask, but its bytes say glass "
                "or blur: look at the overlay"
            )
        if self.bytes_only > CLEAR:
            return (
                f"{self.bytes_only:.0%} of the slide is no tissue by the mask, but its bytes say "
                "there is some: look at the overlay"
            )
        return ""


def compare_with_bytes(
    mask: NDArray[np.bool_], native: CompressedSizes, level_size: tuple[int, int]
) -> Agreement | None:
    """How far a mask agrees with the bytes of the native tiles of a level.

    Args:
        mask: bool `[h, w]` of the whole slide.
        native: bytes of each native tile; level_size: (width, height) of the level in pixels.

    Returns:
        None where the bytes do not fall into two groups.
    """
    full = many_bytes(native.sizes)
    if full is None:
        return None
    share = _tissue_share(mask, native, level_size)
    mask_only = float(((share >= MOSTLY) & ~full).mean())
    bytes_only = float(((share <= 1 - MOSTLY) & full).mean())
    return Agreement(1 - mask_only - bytes_only, mask_only, bytes_only)


def many_bytes(sizes: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Native tiles that take many bytes, by Otsu; None: there are no two groups.

    On the square root: on the bytes themselves fat falls to the glass, on their logarithm scanned
    glass falls to the tissue where the rest was never scanned and takes next to nothing.
    """
    stored = np.sqrt(sizes[sizes > 0])
    if len(stored) < LEAST_TILES or np.ptp(stored) == 0:
        return None
    low, spread = stored.min(), np.ptp(stored)
    threshold = low + otsu((stored - low) / spread) * spread
    few, many = stored[stored <= threshold], stored[stored > threshold]
    if not len(few) or not len(many) or (many**2).mean() < LEAST_RATIO * (few**2).mean():
        return None
    return sizes > threshold**2


def _tissue_share(
    mask: NDArray[np.bool_], native: CompressedSizes, level_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Share of each native tile that is tissue, to whole mask pixels: float64 `[rows, columns]`."""
    ends = []
    for cells, tile, length, pixels in zip(
        native.sizes.shape, native.tile[::-1], level_size[::-1], mask.shape, strict=True
    ):
        edges = np.minimum(np.arange(cells + 1) * tile / length, 1) * pixels
        ends.append(np.rint(edges).astype(np.int64))
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    table[1:, 1:] = mask.cumsum(0, dtype=np.int64).cumsum(1)
    tissue = np.diff(np.diff(table[np.ix_(*ends)], axis=0), axis=1)
    area = np.outer(*(np.diff(end) for end in ends))
    # A native tile of less than half a mask pixel has no area: neither tissue nor glass.
    return np.where(area > 0, tissue / np.maximum(area, 1), 0.5)
