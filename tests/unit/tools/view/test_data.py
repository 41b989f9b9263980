"""What the page is told: the cohort, its slides, predictions and overlays, against the files."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_results import ARMS, CLASSES, make_rows
from made_view import ABSENT, LESION, SLIDE, browsing
from PIL import Image
from safetensors.numpy import load
from scipy.special import softmax
from starlette.testclient import TestClient

from wsi_ncmi.predictions.read import read_parquet, scores_of
from wsi_ncmi.tiling.tilefile import read_tiled


def read(client: TestClient, path: str) -> Any:
    found = client.get(path)
    assert found.status_code == 200, found.text
    return found.json()


def rows_of(client: TestClient) -> dict[str, Any]:
    return {row["id"]: row for row in read(client, "data/slides.json")["slides"]}


def test_the_overview(client: TestClient) -> None:
    found = read(client, "data/overview.json")
    assert (found["version"], found["name"], found["kind"]) == (1, "demo", "results")
    (task,) = found["tasks"]
    assert (task["name"], task["classes"]) == ("stage", CLASSES)
    assert [arm["id"] for arm in task["arms"]] == ["/".join(arm) for arm in ARMS]
    assert task["arms"][1]["title"] == "ABMIL, NCMI"
    assert [arm["has_attention"] for arm in task["arms"]] == [True, True, False, False]
    assert task["default_arm"] == "abmil/cross_entropy"
    assert found["report"] is None
    assert found["notes"] == []


def test_slides_are_those_of_the_sheet(client: TestClient) -> None:
    found = rows_of(client)
    assert list(found) == [row.slide_id for row in make_rows()]
    first = found[SLIDE]
    assert first["labels"] == {"stage": first["label"]}
    assert (first["status"], first["source"]) == ("ok", "results")
    assert first["thumbnail"]
    assert first["has_annotation"]
    assert first["has_tiles"]
    assert not found["slide_03"]["thumbnail"]
    assert not found["slide_03"]["has_pictures"]


def test_bad_slides_say_why(client: TestClient) -> None:
    found = rows_of(client)
    assert found["slide_19"]["status"] == "unreadable"
    assert found["slide_19"]["reason"] == "cannot be read: not a TIFF file"
    assert found["slide_19"]["mpp"] is None
    assert found["slide_07"]["status"] == "no_tissue"


def test_predictions_are_means_over_seeds(client: TestClient, results: Path) -> None:
    found = read(client, "data/predictions/stage/abmil/ncmi.json")
    scores = []
    for path in sorted(results.glob("runs/stage/abmil-ncmi-*/predictions.parquet")):
        table = read_parquet(path)
        at = table["sample_id"].to_pylist()
        if SLIDE in at:
            scores.append(scores_of(table)[at.index(SLIDE)])
    expected = softmax(np.array(scores, np.float64), 1).mean(0)
    assert len(scores) == 3
    one = found["slides"][SLIDE]
    np.testing.assert_allclose(one["probabilities"], expected, atol=1e-6)
    assert one["predicted"] == CLASSES[int(expected.argmax())]
    label = next(row.label for row in make_rows() if row.slide_id == SLIDE)
    assert one["correct"] == (one["predicted"] == label)
    assert one["attention_auroc"] == 0.87
    assert one["attention"]
    assert not found["slides"]["slide_01"]["attention"]
    assert "slide_19" not in found["slides"]


def test_no_such_arm(client: TestClient) -> None:
    for path in ("stage/abmil/other", "stage/clam_sb/ncmi", "other/abmil/ncmi"):
        found = client.get(f"data/predictions/{path}.json")
        assert found.status_code == 404
        assert "has no arm" in found.json()["error"]


def test_the_grid_is_the_tile_file(client: TestClient, results: Path) -> None:
    found = load(client.get(f"slides/{SLIDE}/grid.safetensors").content)
    tiles = read_tiled(results / "tiles" / f"{SLIDE}.h5")
    assert len(tiles) > 10
    assert found["coords"].dtype == np.int32
    np.testing.assert_array_equal(found["coords"], tiles.coords)
    for name in ("tissue_fraction", "focus", "pen", "white", "black", "fold"):
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], getattr(tiles, name).astype(np.float32))


def metadata(content: bytes) -> Any:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


def test_the_grid_states_its_geometry(client: TestClient) -> None:
    stated = metadata(client.get(f"slides/{SLIDE}/grid.safetensors").content)
    assert float(stated["mpp"]) == 0.5
    assert float(stated["tile_size_level0"]) == 128
    assert (int(stated["width"]), int(stated["height"])) == (1100, 900)


def test_attention_is_the_file_of_attention(client: TestClient) -> None:
    grid = load(client.get(f"slides/{SLIDE}/grid.safetensors").content)
    for arm, rises in (("cross_entropy", True), ("ncmi", False)):
        path = f"slides/{SLIDE}/attention/stage/abmil/{arm}.safetensors"
        found = load(client.get(path).content)
        np.testing.assert_array_equal(found["coords"], grid["coords"])
        assert found["attention"].sum() == pytest.approx(1, abs=1e-5)
        assert (np.diff(found["attention"]) > 0).all() == rises


def test_attention_states_the_size_of_its_tiles(client: TestClient) -> None:
    path = f"slides/{SLIDE}/attention/stage/abmil/ncmi.safetensors"
    stated = metadata(client.get(path).content)
    assert stated == {"task": "stage", "arm": "abmil/ncmi", "tile_size_level0": "128.0"}


def test_no_attention_is_said(client: TestClient) -> None:
    for place in ("stage/mean/ncmi", "other/abmil/ncmi"):
        found = client.get(f"slides/{SLIDE}/attention/{place}.safetensors")
        assert found.status_code == 404
        assert "no attention of" in found.json()["error"]


def test_annotations_are_geojson_in_level_0_pixels(client: TestClient) -> None:
    found = read(client, f"slides/{SLIDE}/annotations.json")
    lesion, normal = found["features"]
    assert lesion["geometry"]["coordinates"] == [[[*map(float, p)] for p in [*LESION, LESION[0]]]]
    assert lesion["properties"]["name"] == "first"
    assert lesion["properties"]["group"] == "metastases"
    assert lesion["properties"]["is_lesion"]
    assert not normal["properties"]["is_lesion"]
    assert client.get("slides/slide_01/annotations.json").status_code == 404


def test_the_mask_covers_the_tiles(client: TestClient, results: Path) -> None:
    found = client.get(f"slides/{SLIDE}/mask.png")
    downsample = float(found.headers["x-downsample"])
    assert read(client, f"slides/{SLIDE}/info.json")["mask"] == {
        "downsample": pytest.approx(downsample)
    }
    picture = np.asarray(Image.open(io.BytesIO(found.content)))
    assert set(np.unique(picture[..., 3])) == {0, 255}  # the page tints it by its opacity
    mask = picture[..., 3] > 0
    assert mask.shape == (round(900 / downsample), round(1100 / downsample))
    tiles = read_tiled(results / "tiles" / f"{SLIDE}.h5")
    centres = ((tiles.coords[tiles.tissue_fraction > 0.9] + 64) / downsample).astype(int)
    assert mask[centres[:, 1], centres[:, 0]].mean() > 0.8


def test_a_run_that_goes_on_is_followed(results: Path, tmp_path: Path) -> None:
    """A manifest that comes, and a seed that ends, are seen at the next request."""
    cohort = tmp_path / "demo"
    shutil.copytree(results, cohort)
    kept = {path: path.read_bytes() for path in sorted(cohort.glob("runs/stage/seed-*.tsv"))}
    tiled = cohort / "tiles" / "bucket-0.tsv"
    manifest = tiled.read_bytes()
    for path in [*kept, tiled]:
        path.unlink()
    with browsing(cohort) as client:
        before = read(client, "data/overview.json")
        assert before["tasks"][0]["arms"] == []
        assert before["notes"] == ["not trained yet: stage"]
        names = pd.read_csv(io.BytesIO(manifest), sep="\t")["slide_id"]
        waiting = rows_of(client)
        tiled.write_bytes(manifest)
        for path, content in kept.items():
            path.write_bytes(content)
        assert len(read(client, "data/overview.json")["tasks"][0]["arms"]) == len(ARMS)
        after = rows_of(client)
    assert {waiting[name]["width"] for name in names} == {None}
    assert 2400 in {after[name]["width"] for name in names}


def test_bags_without_slides(results: Path, tmp_path: Path) -> None:
    """Of imported bags the table works; slides say that there are no pictures."""
    cohort = tmp_path / "bags"
    for name in ("cache", "runs"):
        shutil.copytree(results / name, cohort / name)
    with browsing(cohort) as client:
        found = rows_of(client)
        assert found[SLIDE]["labels"]["stage"] in CLASSES
        assert found[SLIDE]["status"] == "ok"
        assert not found[SLIDE]["has_pictures"]
        assert read(client, "data/predictions/stage/abmil/ncmi.json")["slides"][SLIDE]
        info = client.get(f"slides/{SLIDE}/info.json")
        assert info.status_code == 404
        assert "there are no pictures of it" in info.json()["error"]
        assert any("no slide sheet" in n for n in read(client, "data/overview.json")["notes"])


def test_a_slide_that_is_not_there(client: TestClient) -> None:
    found = client.get(f"slides/{ABSENT}/info.json")
    assert found.status_code == 410
    assert "gone.tif: no such file" in found.json()["error"]
