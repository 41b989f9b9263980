"""A slide's tiles without a slide: whatever a test does not ask for has a plain value."""

from typing import Any

import numpy as np

from wsi_ncmi.tiling.tilefile import DTYPES, TiledSlide

GEOMETRY: dict[str, Any] = {
    "reader": "native",
    "mpp": 0.5,
    "mpp_source": "sheet",
    "width": 4096,
    "height": 4096,
    "wanted_mpp": 0.5,
    "tile_px": 256,
    "tile_um": 128.0,
    "overlap_px": 0,
    "level": 0,
    "level_downsample": 1.0,
    "stored_level": 0,
    "read_px": 256,
    "residual": 1.0,
    "tile_size_level0": 256.0,
    "stride_level0": 256.0,
    "scale_error_percent": 0.0,
    "quality_mpp": 2.0,
    "thumbnail_downsample": 16.0,
    "mask_source": "otsu_saturation",
    "mask_mpp": 8.0,
    "unreadable_fraction": 0.0,
}


def tiled_slide(slide_id: str = "a", **values: Any) -> TiledSlide:
    """Tiles of 256 px at level 0, as many as the longest array that is given; none by default."""
    count = max((len(value) for name, value in values.items() if name in DTYPES), default=0)
    blank = {
        name: np.zeros((count, 2) if name == "coords" else (count,), dtype)
        for name, dtype in DTYPES.items()
    }
    return TiledSlide(slide_id=slide_id, **{**GEOMETRY, **blank, **values})
