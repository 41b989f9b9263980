import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from wsi_ncmi.errors import SlideError
from wsi_ncmi.tiling.geojson import outlines, rasterise, read_geojson, to_geojson

SQUARE = [[100.0, 100.0], [300.0, 100.0], [300.0, 300.0], [100.0, 300.0], [100.0, 100.0]]

# A polygon with a hole as QuPath 0.5 exports it after its outline was dragged by hand.
EDITED = """
{
  "type": "FeatureCollection",
  "features": [
    {
      "type": "Feature",
      "id": "0f9a1c2e-5d1b-4a53-9a8e-7f0d8c1b2a34",
      "geometry": {
        "type": "Polygon",
        "coordinates": [
          [[120.37, 80], [399.5, 96.02], [410.81, 250.4], [380, 371.66], [140.2, 388],
           [95.75, 240.13], [120.37, 80]],
          [[200, 180.5], [201.25, 240], [260, 239.75], [259.5, 180], [200, 180.5]]
        ]
      },
      "properties": {
        "objectType": "annotation",
        "classification": {"name": "Tissue", "color": [0, 140, 60]},
        "isLocked": true,
        "name": "by hand",
        "measurements": {"Area px^2": 81211.3, "Perimeter px": 1173.2}
      }
    },
    {
      "type": "Feature",
      "id": "PathAnnotationObject",
      "geometry": {
        "type": "Polygon",
        "coordinates": [[[300, 300], [500, 300], [500, 500], [300, 500], [300, 300]]]
      },
      "properties": {
        "objectType": "annotation",
        "classification": {"names": ["Ignore*", "Fold"], "colorRGB": -5242879},
        "plane": {"c": -1, "z": 0, "t": 0}
      }
    }
  ]
}
"""


def write(folder: Path, content: Any) -> Path:
    path = folder / "mask.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def feature(coordinates: Any, kind: str = "Polygon", **properties: Any) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def brute_force(area: shapely.Geometry, shape: tuple[int, int], downsample: float) -> np.ndarray:
    y, x = (np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5) * downsample
    return shapely.contains_xy(area, x, y)


def test_a_polygon_edited_by_hand_in_qupath(tmp_path: Path) -> None:
    area = read_geojson(write(tmp_path, EDITED))
    mask = rasterise(area, (60, 70), 8.0)
    np.testing.assert_array_equal(mask, brute_force(area, (60, 70), 8.0))
    inside, hole, ignored, outside = (30, 20), (26, 28), (43, 45), (5, 10)
    assert [bool(mask[at]) for at in (inside, hole, ignored, outside)] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_comes_back_as_it_was(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((40, 57)) < (0.1, 0.5, 0.9, 0.6)[seed]
    if seed == 3:
        mask[:] = True
    downsample = 15.97
    path = write(tmp_path, to_geojson(outlines(mask, downsample)))
    np.testing.assert_array_equal(rasterise(read_geojson(path), mask.shape, downsample), mask)


def test_outlines_follow_the_edges_of_pixels() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:25] = True
    mask[8:12, 14:20] = False
    area = outlines(mask, 10.0)
    assert area.bounds == (100, 50, 250, 150)
    assert area.area == pytest.approx(100 * mask.sum(), rel=0.01)
    assert len(area.geoms[0].interiors) == 1


def test_what_qupath_needs_is_written() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:6, 2:6] = mask[10:15, 10:20] = True
    content = json.loads(to_geojson(outlines(mask, 4.0)))
    assert content["type"] == "FeatureCollection"
    assert len(content["features"]) == 2
    for one in content["features"]:
        assert one["type"] == "Feature"
        assert one["properties"]["objectType"] == "annotation"
        assert one["properties"]["classification"]["name"] == "Tissue"
        ring = one["geometry"]["coordinates"][0]
        assert ring[0] == ring[-1]
    assert json.loads(to_geojson(outlines(mask & False, 4.0)))["features"] == []


@pytest.mark.parametrize(
    "content",
    [
        {"type": "FeatureCollection", "features": [feature([SQUARE])]},
        [feature([SQUARE])],
        feature([SQUARE]),
        {"type": "Polygon", "coordinates": [SQUARE]},
        {"type": "Polygon", "coordinates": [SQUARE[:-1]]},
        {"type": "Polygon", "coordinates": [[[*point, 0.0] for point in SQUARE]]},
        {"type": "MultiPolygon", "coordinates": [[SQUARE]]},
        {
            "type": "GeometryCollection",
            "geometries": [{"type": "Polygon", "coordinates": [SQUARE]}] * 2,
        },
    ],
    ids=["collection", "list", "feature", "polygon", "open ring", "3-d", "multi", "geometries"],
)
def test_every_form_of_one_square(tmp_path: Path, content: Any) -> None:
    area = read_geojson(write(tmp_path, content))
    assert area.area == pytest.approx(200 * 200)
    assert area.bounds == (100, 100, 300, 300)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "mask.geojson"
    content = feature([SQUARE], classification={"name": "Gewebe: übrig"})
    path.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    assert read_geojson(path).bounds == (100, 100, 300, 300)


def test_a_ring_that_crosses_itself_is_mended(tmp_path: Path) -> None:
    bow = [[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]
    area = read_geojson(write(tmp_path, feature([bow])))
    assert area.area == pytest.approx(2 * 2500)
    mask = rasterise(area, (10, 10), 10.0)
    assert mask[5, 1]
    assert mask[5, 8]
    assert not mask[1, 5]


@pytest.mark.parametrize(
    "classification",
    [
        "Ignore*",
        {"name": "ignore*: fold"},
        {"names": ["Exclude"]},
        {"name": "EXCLUDED"},
        {"name": "Tumor: Ignore*", "color": [200, 0, 0]},
        {"name": "Tumor: Stroma:Ignore", "colorRGB": -3670016},
        {"names": ["Tumor", "Ignore*"]},
        ["Tumor", "Ignore*"],
        {"name": ["Tumor", "Ignore*"]},
        {"name": "Artefact*"},
        {"name": "Tumor: Background*"},
    ],
    ids=str,
)
def test_ignored_classes_are_cut_out(tmp_path: Path, classification: Any) -> None:
    part = [[200, 0], [400, 0], [400, 400], [200, 400], [200, 0]]
    cut = feature([part], classification=classification)
    area = read_geojson(write(tmp_path, [cut, feature([SQUARE], classification=None)]))
    assert area.bounds == (100, 100, 200, 300)


@pytest.mark.parametrize(
    "classification",
    [
        None,
        "",
        {},
        {"name": None},
        {"names": []},
        "Tissue",
        {"name": "Region*"},
        "Tumor: Region*",
        {"name": "Necrosis"},
        {"name": "Tumor: Positive", "colorRGB": -1},
        "Other",
    ],
    ids=str,
)
def test_every_other_class_is_tissue(tmp_path: Path, classification: Any) -> None:
    area = read_geojson(write(tmp_path, feature([SQUARE], classification=classification)))
    assert area.bounds == (100, 100, 300, 300)


def test_children_of_an_object_are_cut_out_of_it(tmp_path: Path) -> None:
    """QuPath's hierarchy, as `exportObjectsToGeoJson` writes it with children."""
    part = [[200, 0], [400, 0], [400, 400], [200, 400], [200, 0]]
    child = feature([part], classification={"name": "Ignore*"})
    parent = feature([SQUARE], classification={"name": "Tissue"}, childObjects=[child])
    assert read_geojson(write(tmp_path, parent)).bounds == (100, 100, 200, 300)
    assert read_geojson(write(tmp_path, [parent])).bounds == (100, 100, 200, 300)


def test_coordinates_count_from_the_files_origin(tmp_path: Path) -> None:
    area = read_geojson(write(tmp_path, feature([SQUARE])), origin=(6000, 3000))
    assert area.bounds == (6100, 3100, 6300, 3300)
    written = json.loads(to_geojson(area, origin=(6000, 3000)))["features"][0]
    assert sorted(written["geometry"]["coordinates"][0][:-1]) == sorted(SQUARE[:-1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{no json", "cannot be read as GeoJSON"),
        (feature([1.0, 2.0], "Point"), "feature 1 is a Point, expected Polygon or MultiPolygon"),
        (
            [feature([SQUARE]), feature([[0, 0], [1, 1]], "LineString")],
            "feature 2 is a LineString",
        ),
        (feature([[[0, 0], [1, 1]]]), "feature 1: not the coordinates of a Polygon"),
        (feature([[["a", 0], [1, 1], [1, 0]]]), "feature 1: not the coordinates of a Polygon"),
        (feature([[[0, 0], [1e999, 1], [1, 0], [0, 0]]]), "feature 1: coordinates that are not"),
        ({"type": "Feature", "geometry": None, "properties": {}}, "feature 1 is a None"),
        ({"type": "Feature", "geometry": None, "properties": [1]}, "feature 1 is a None"),
        ("[" * 100_000, "cannot be read as GeoJSON"),
        ({"type": "FeatureCollection", "features": []}, "outlines nothing"),
        ([feature([SQUARE], classification="Ignore*")], "outlines nothing"),
        ("7", "no GeoJSON: expected a FeatureCollection"),
    ],
)
def test_what_is_no_area_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SlideError, match=message) as caught:
        read_geojson(path)
    assert "mask.geojson" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"none\.geojson: no such file"):
        read_geojson(tmp_path / "none.geojson")


def test_rasterising_is_exact_and_clips_at_the_borders() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = shapely.MultiPoint(rng.uniform(-60, 360, (12, 2)))
        area = points.convex_hull.symmetric_difference(
            shapely.Point(rng.uniform(0, 300, 2)).buffer(70)
        )
        found = rasterise(area, (43, 31), 7.3)
        np.testing.assert_array_equal(found, brute_force(area, (43, 31), 7.3))
