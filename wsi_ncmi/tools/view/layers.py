"""What lies over a slide: tiles and their measures, attention, tissue, annotations."""

import cv2
import numpy as np
from safetensors.numpy import save

from wsi_ncmi.config.cohort import Attention
from wsi_ncmi.config.tiling import Tissue
from wsi_ncmi.errors import UserError
from wsi_ncmi.predictions.attention import read_attention
from wsi_ncmi.tiling.asap import UNGROUPED, Annotation, read_asap
from wsi_ncmi.tiling.geojson import rasterise, read_geojson
from wsi_ncmi.tiling.lesions import is_lesion
from wsi_ncmi.tiling.one_slide import tile_paths
from wsi_ncmi.tiling.tilefile import TiledSlide, read_tiled
from wsi_ncmi.tools.view.source import Json, SlidePlace

MEASURES = ("tissue_fraction", "focus", "pen", "white", "black", "fold")
STATED = (
    "tile_size_level0",
    "stride_level0",
    "mpp",
    "wanted_mpp",
    "tile_px",
    "tile_um",
    "level",
    "read_px",
    "width",
    "height",
    "reader",
    "mask_source",
)
TISSUE = (60, 140, 0, 255)
"""Blue, green, red and opacity."""

MASK_PX = 2048
"""Longest side of the tissue mask's picture."""

COLOURS = {True: "#d62728", False: "#2ca02c", None: "#7f7f7f"}


class AbsentLayerError(UserError):
    """A slide has none of it."""


def tiles_of(place: SlidePlace) -> TiledSlide:
    """The tile file of a slide.

    Raises:
        AbsentLayerError: it has none. SlideError: it cannot be read, or the slide cannot.
    """
    if place.tiles is None:
        raise AbsentLayerError(f"slide {place.slide_id} has no tile file")
    return read_tiled(tile_paths(place.tiles, place.tiled_as or place.slide_id).tiles)


def grid(place: SlidePlace) -> bytes:
    """Coordinates int32 `[N, 2]`, measures float32 `[N]` as safetensors; raises as `tiles_of`."""
    tiles = tiles_of(place)
    arrays = {"coords": np.ascontiguousarray(tiles.coords, np.int32)}
    arrays |= {name: np.asarray(getattr(tiles, name), np.float32) for name in MEASURES}
    return save(arrays, {name: str(getattr(tiles, name)) for name in STATED})


def attention(place: SlidePlace, task: str, arm: str) -> bytes:
    """Weights float32 `[N]` and coordinates int32 `[N, 2]` as safetensors.

    Their size stands in its metadata, where the slide has a tile file.

    Raises:
        AbsentLayerError: there is no attention of this arm on the slide.
        UserError: the file is damaged.
    """
    path = place.attention.get(task)
    if path is None or not path.is_file():
        raise AbsentLayerError(f"slide {place.slide_id}: no attention of task {task}")
    found = read_attention(path)
    if arm not in found.weights:
        raise AbsentLayerError(f"slide {place.slide_id}: no attention of {arm} in task {task}")
    weights = np.ascontiguousarray(found.weights[arm], np.float32)
    coords = np.ascontiguousarray(found.coords, np.int32)
    stated = {"task": task, "arm": arm}
    if place.tiles is not None:
        stated["tile_size_level0"] = str(tiles_of(place).tile_size_level0)
    return save({"attention": weights, "coords": coords}, stated)


def mask_downsample(tiles: TiledSlide) -> float:
    """Level-0 pixels per pixel of the mask's picture."""
    return max(1.0, tiles.mask_mpp / tiles.mpp, max(tiles.width, tiles.height) / MASK_PX)


def mask(place: SlidePlace, tissue: Tissue) -> tuple[bytes, float]:
    """The tissue mask as PNG, opaque where there is tissue and clear elsewhere, and its downsample.

    Raises:
        AbsentLayerError: there is none. SlideError: it cannot be read.
    """
    tiles = tiles_of(place)
    assert place.tiles is not None
    path = tile_paths(place.tiles, place.tiled_as or place.slide_id).mask
    if not path.is_file():
        raise AbsentLayerError(f"slide {place.slide_id} has no tissue mask")
    scanned = (tiles.bounds_x, tiles.bounds_y)
    origin = scanned if tissue.mask_origin == "bounds" else (0, 0)
    downsample = mask_downsample(tiles)
    shape = max(1, round(tiles.height / downsample)), max(1, round(tiles.width / downsample))
    pixels = rasterise(read_geojson(path, origin), shape, downsample)
    painted = np.zeros((*shape, 4), np.uint8)
    painted[pixels] = TISSUE
    _, png = cv2.imencode(".png", painted)
    return png.tobytes(), downsample


def annotations(place: SlidePlace, groups: Attention) -> Json:
    """The annotated areas as GeoJSON in level-0 pixels.

    Raises:
        AbsentLayerError: there is none. SlideError: the file cannot be used.
    """
    if not place.annotation:
        raise AbsentLayerError(f"slide {place.slide_id} has no annotation")
    shapes = [one for one in read_asap(place.annotation) if one.is_area and len(one.points) > 2]
    return {
        "type": "FeatureCollection",
        "features": [_feature(one, is_lesion(one, groups)) for one in shapes],
    }


def _feature(one: Annotation, lesion: bool | None) -> Json:
    ring = [[round(x, 2), round(y, 2)] for x, y in one.points.tolist()]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {
            "name": one.name,
            "group": one.groups[0] if one.groups else UNGROUPED,
            "colour": COLOURS[lesion],
            "is_lesion": lesion is True,
        },
    }
