"""From the command line to what is shown: folders, slides, predictions, attention."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_slides import BY_NAME, write_slide
from made_view import SLIDE, TILING, browsing

from wsi_ncmi import cli
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.errors import UserError
from wsi_ncmi.files.table import write_records, write_table
from wsi_ncmi.predictions.attention import (
    SlideAttention,
    attention_path,
    read_attention,
    write_attention,
)
from wsi_ncmi.stages.tiles import TileOutcome
from wsi_ncmi.tiling.one_slide import tile_slide
from wsi_ncmi.tools.predict import output
from wsi_ncmi.tools.predict.output import Prediction
from wsi_ncmi.tools.view import page, single
from wsi_ncmi.tools.view.app import Settings
from wsi_ncmi.tools.view.export import export
from wsi_ncmi.tools.view.given import Given, source_of
from wsi_ncmi.tools.view.results import Asked, Results
from wsi_ncmi.tools.view.source import Source

ARM = ("abmil", "ncmi")
CLASSES = ["negative", "macro"]
BUILT = b'<html data-source="server">'


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "new.tif", BY_NAME["jpeg_420"])


@pytest.fixture
def predicted(tmp_path: Path, slide: Path) -> Path:
    """What `predict --slides` writes: one slide that was scored, one that was refused."""
    out = tmp_path / "predictions"
    row = SlideRow("new", "", "", "", str(slide), 0.5)
    tiles: Any = tile_slide(row, TILING, out / "tiles")
    write_records(out / "tiles" / "slides.tsv", TileOutcome, [TileOutcome.of(tiles)])
    probabilities = {"negative": 0.25, "macro": 0.75}
    scored = Prediction(
        "new", output.OK, "", len(tiles), "macro", ["macro"], probabilities, unusual=["pale"]
    )
    refused = Prediction("bad", output.REFUSED, "it is of another encoder")
    model = {"task": "stage", "aggregator": ARM[0], "objective": ARM[1], "classes": CLASSES}
    output.write(out, output.document(model, {}, ["a note"], [scored, refused]))
    write_table(out / "slides.tsv", ["slide_id", "path", "mpp", "mask"], [["new", slide, 0.5, ""]])
    weights = np.full(len(tiles), 1 / len(tiles), np.float32)
    attention = SlideAttention("new", tiles.coords, {"/".join(ARM): weights})
    path = attention_path(out / "attention", "new")
    path.parent.mkdir()
    write_attention(path, attention)
    return out


def shown(*given: Any, **options: Any) -> Source:
    return source_of(Given(*map(str, given), **options))[0]


def test_a_slide_by_itself(slide: Path) -> None:
    with browsing(shown(slide, mpp=0.5)) as client:
        overview = client.get("data/overview.json").json()
        assert (overview["kind"], overview["name"], overview["tasks"]) == ("slide", "new.tif", [])
        (row,) = client.get("data/slides.json").json()["slides"]
        assert (row["id"], row["has_tiles"], row["has_pictures"]) == ("new", False, True)
        assert client.get("slides/new/info.json").json()["mask"] is None
        assert client.get("slides/new/grid.safetensors").status_code == 404


def test_a_name_that_is_no_id(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a slide, näher.tif", BY_NAME["jpeg_420"])
    with browsing(shown(path)) as client:
        assert client.get("slides/slide/tiles/0/0_0.jpg").status_code == 200


def test_what_predict_wrote(predicted: Path) -> None:
    with browsing(shown(predicted)) as client:
        overview = client.get("data/overview.json").json()
        assert (overview["kind"], overview["notes"]) == ("predictions", ["a note"])
        (task,) = overview["tasks"]
        assert (task["name"], task["classes"], task["default_arm"]) == (
            "stage",
            CLASSES,
            "abmil/ncmi",
        )
        assert task["arms"][0]["has_attention"]
        new, bad = client.get("data/slides.json").json()["slides"]
        assert (new["status"], new["source"], new["has_tiles"]) == ("ok", "predictions", True)
        assert (bad["status"], bad["reason"]) == ("refused", "it is of another encoder")
        assert not bad["has_pictures"]
        found = client.get("data/predictions/stage/abmil/ncmi.json").json()["slides"]
        assert list(found) == ["new"]
        assert found["new"]["probabilities"] == [0.25, 0.75]
        assert (found["new"]["prediction_set"], found["new"]["unusual"]) == (["macro"], ["pale"])
        assert (found["new"]["correct"], found["new"]["part"]) == (None, "new")
        assert client.get("slides/new/attention/stage/abmil/ncmi.safetensors").status_code == 200
        assert client.get("slides/new/grid.safetensors").status_code == 200
        assert client.get("slides/bad/info.json").status_code == 404


def test_bags_that_were_predicted(predicted: Path) -> None:
    """Without slides and tiles there is the table."""
    (predicted / "slides.tsv").unlink()
    shutil.rmtree(predicted / "tiles")
    with browsing(shown(predicted)) as client:
        new = client.get("data/slides.json").json()["slides"][0]
        assert (new["has_pictures"], new["has_tiles"]) == (False, False)
        assert "no pictures" in client.get("slides/new/info.json").json()["error"]


def test_results_with_predictions_beside_them(results: Path, predicted: Path) -> None:
    with browsing(shown(results, predictions=predicted)) as client:
        overview = client.get("data/overview.json").json()
        (task,) = overview["tasks"]
        assert len(task["arms"]) == 4
        assert overview["notes"] == ["predictions: a note"]
        rows = {row["id"]: row for row in client.get("data/slides.json").json()["slides"]}
        assert (rows[SLIDE]["source"], rows["new"]["source"]) == ("results", "predictions")
        found = client.get("data/predictions/stage/abmil/ncmi.json").json()["slides"]
        assert (found[SLIDE]["part"], found["new"]["part"]) == ("test", "new")
        for name in (SLIDE, "new"):
            assert client.get(f"slides/{name}/tiles/0/0_0.jpg").status_code == 200


def predict_as(name: str, predicted: Path) -> None:
    """Give the predicted slide another id."""
    for path in (predicted / "predictions.json", predicted / "slides.tsv"):
        path.write_text(
            path.read_text().replace('"new"', f'"{name}"').replace("new\t", f"{name}\t")
        )
    manifest = predicted / "tiles" / "slides.tsv"
    manifest.write_text(manifest.read_text().replace("new\t", f"{name}\t", 1))
    for path in [path for path in predicted.rglob("new.*") if path.is_file()]:
        path.rename(path.with_name(path.name.replace("new", name)))


def test_another_slide_of_the_same_id_has_a_row_of_its_own(
    results: Path, predicted: Path, tmp_path: Path
) -> None:
    """And its own pixels, tiles and attention; the cohort's slide stays what it was."""
    predict_as(SLIDE, predicted)
    sheet = predicted / "slides.tsv"
    other = write_slide(tmp_path / "other.tif", BY_NAME["lzw"])
    sheet.write_text(sheet.read_text().replace(str(tmp_path / "new.tif"), str(other)))
    apart = f"{SLIDE}.predicted"
    with browsing(shown(results, predictions=predicted)) as client:
        rows = {row["id"]: row for row in client.get("data/slides.json").json()["slides"]}
        assert (rows[SLIDE]["source"], rows[apart]["source"]) == ("results", "predictions")
        found = client.get("data/predictions/stage/abmil/ncmi.json").json()["slides"]
        assert (found[SLIDE]["part"], found[apart]["part"]) == ("test", "new")
        assert found[apart]["probabilities"] == [0.25, 0.75]
        for layer in ("grid.safetensors", "attention/stage/abmil/ncmi.safetensors", "info.json"):
            assert client.get(f"slides/{apart}/{layer}").status_code == 200
        tiles = [client.get(f"slides/{name}/tiles/0/0_0.jpg").content for name in (SLIDE, apart)]
        assert tiles[0] != tiles[1]
    source = shown(results, predictions=predicted)
    export(source, {"index.html": BUILT}, Settings(), tmp_path / "out", [apart])
    assert (tmp_path / "out" / "slides" / apart / "info.json.js").is_file()


def test_the_same_slide_predicted_twice_keeps_both_predictions(
    results: Path, predicted: Path, tmp_path: Path
) -> None:
    """The fixture's slide has the bytes of the cohort's first one."""
    predict_as(SLIDE, predicted)
    apart = f"{SLIDE}.predicted"
    found = shown(results, predictions=predicted).predictions("stage", "abmil/ncmi")
    assert found is not None
    assert (found["slides"][SLIDE]["part"], found["slides"][apart]["part"]) == ("test", "new")
    document = json.loads((predicted / "predictions.json").read_text())
    document["model"]["task"] = "other"  # the cohort says nothing of it: one row
    (predicted / "predictions.json").write_text(json.dumps(document))
    source = shown(results, predictions=predicted)
    assert apart not in {row["id"] for row in source.slides()}
    found = source.predictions("other", "abmil/ncmi")
    assert found is not None
    assert found["slides"][SLIDE]["predicted"] == "macro"


def test_an_id_that_is_taken_is_refused(slide: Path, predicted: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    other = write_slide(tmp_path / "elsewhere" / "new.tif", BY_NAME["lzw"])
    assert {row["id"] for row in shown(other, predictions=predicted).slides()} == {
        "new",
        "new.predicted",
        "bad",
    }
    document = json.loads((predicted / "predictions.json").read_text())
    document["slides"].append({**document["slides"][0], "slide_id": "new.predicted"})
    (predicted / "predictions.json").write_text(json.dumps(document))
    assert "both have slide new, but the row" in refusal(other, predictions=predicted)
    assert shown(slide, predictions=predicted)  # the same slide needs no other id


def test_a_slide_with_its_predictions(slide: Path, predicted: Path) -> None:
    with browsing(shown(slide, predictions=predicted)) as client:
        rows = {row["id"]: row for row in client.get("data/slides.json").json()["slides"]}
        assert rows["new"]["has_tiles"]
        assert rows["new"]["tiles"] > 0
        assert client.get("slides/new/grid.safetensors").status_code == 200
        assert client.get("slides/new/attention/stage/abmil/ncmi.safetensors").status_code == 200


def test_a_slide_with_a_file_of_attention(slide: Path, predicted: Path, tmp_path: Path) -> None:
    file = predicted / "attention" / "new.h5"
    with browsing(shown(slide, attention=[file], mpp=0.5)) as client:
        (task,) = client.get("data/overview.json").json()["tasks"]
        assert (task["name"], task["arms"][0]["id"]) == ("attention", "abmil/ncmi")
        found = client.get("data/predictions/attention/abmil/ncmi.json").json()
        assert found["slides"]["new"]["attention"]
        assert found["slides"]["new"]["predicted"] is None
        path = "slides/new/attention/attention/abmil/ncmi.safetensors"
        assert client.get(path).status_code == 200
    other = write_slide(tmp_path / "other.tif", BY_NAME["jpeg_420"])
    with pytest.raises(UserError, match=r"of slide new, which other\.tif has not"):
        shown(other, attention=[file])


def test_attention_of_other_tiles_is_refused(
    results: Path, slide: Path, predicted: Path, tmp_path: Path
) -> None:
    """Of another slide of the same id, or of another tiling, it would be painted anywhere."""
    stored = read_attention(attention_path(predicted / "attention", "new"))
    count = len(stored.coords)
    file = tmp_path / "attention.h5"
    fewer = {arm: weights[1:] for arm, weights in stored.weights.items()}
    write_attention(file, SlideAttention("new", stored.coords[1:], fewer))
    said = refusal(predicted, attention=[file])
    assert f"{file}: not of this slide new ({slide})" in said
    assert f"found {count - 1} tiles, of which {count - 1} are in the slide's grid" in said
    assert f"expected its {count}." in said
    write_attention(file, SlideAttention("new", stored.coords + 7, stored.weights))
    assert f"found {count} tiles, of which 0 are" in refusal(predicted, attention=[file])
    backwards = {arm: weights[::-1] for arm, weights in stored.weights.items()}
    write_attention(file, SlideAttention("new", stored.coords[::-1], backwards))
    assert shown(predicted, attention=[file])
    write_attention(file, SlideAttention("new", stored.coords + 5000, stored.weights))
    said = refusal(slide, attention=[file], mpp=0.5)
    assert f"found {count} tiles, of which {count} lie outside, expected all within" in said


def test_a_configuration_says_where_the_sheet_is(results: Path, tmp_path: Path) -> None:
    """And which annotations are lesions, and the question."""
    cohort = tmp_path / "results" / "demo"
    shutil.copytree(results, cohort)
    sheet = tmp_path / "sheet.tsv"
    shutil.move(cohort / "slides" / "slides.tsv", sheet)
    with browsing(shown(cohort)) as client:
        assert not client.get("data/slides.json").json()["slides"][0]["has_annotation"]
        found = client.get("slides/slide_00/info.json")
        assert found.json()["mpp_source"].startswith("sheet")  # by the tile file
    config = {"results": str(cohort.parent), "cohort": "demo", "question": "Is it so?"}
    config |= {"slides": {"sheet": str(sheet)}}
    config |= {"attention": {"lesion_groups": ["normal"], "excluded_groups": ["metastases"]}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    source, settings = source_of(Given("", [path]))
    with browsing(source, settings=settings) as client:
        assert client.get("data/overview.json").json()["question"] == "Is it so?"
        assert client.get("data/slides.json").json()["slides"][0]["has_annotation"]
        shapes = client.get("slides/slide_00/annotations.json").json()["features"]
        assert [one["properties"]["is_lesion"] for one in shapes] == [False, True]


def refusal(*given: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        shown(*given, **options)
    return str(caught.value)


def test_what_cannot_be_shown(results: Path, slide: Path, tmp_path: Path) -> None:
    assert "no such folder or slide" in refusal(tmp_path / "nothing")
    assert "name what is to be shown" in refusal("")
    assert "name one of its cohorts: demo" in refusal(results.parent)
    assert "--mpp is of a slide" in refusal(results, mpp=0.5)
    assert "no such file" in refusal(slide, predictions=tmp_path / "nothing")
    (tmp_path / "predictions.json").write_text(json.dumps({"format": "other", "version": 1}))
    assert "format 'other', version 1" in refusal(tmp_path)
    images = tmp_path / "images"
    run = images / "runs" / "digits" / "a" / "run.json"
    run.parent.mkdir(parents=True)
    run.write_text(json.dumps({"bags_digest": ""}))
    assert "its tasks are of images" in refusal(images)


@pytest.mark.parametrize("content", [b"text", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"II*\0\x08"])
def test_a_file_that_is_no_slide(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.tif"
    path.write_bytes(content)
    said = refusal(path)
    assert said.startswith(f"not a slide that can be shown: {path}: ")
    assert "results/<cohort>, a folder that wsi-ncmi predict wrote, a slide" in said


def test_a_slide_that_cannot_be_reached(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "`wsi-ncmi view --remote` reads it" in refusal("s3://bucket/new.tif")
    monkeypatch.setattr(single, "OPEN_SECONDS", 0.05)
    released = threading.Event()
    monkeypatch.setattr(single, "open_shown", lambda *_: released.wait(10))
    assert "not opened within 0.05 s" in refusal(slide)
    released.set()


def test_without_a_built_page(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(page.read_page, "__defaults__", (tmp_path,))
    with pytest.raises(SystemExit):
        cli.main(["view", str(results)])
    assert "run `make viewer`" in capsys.readouterr().err


def test_annotations_at_addresses_are_not_fetched(results: Path, tmp_path: Path) -> None:
    """Only where it is asked for does a request leave the machine."""
    text = (results / "slides" / "slides.tsv").read_text()
    sheet = tmp_path / "sheet.tsv"
    annotation = str(results / "slides" / f"{SLIDE}.xml")
    assert annotation in text
    sheet.write_text(text.replace(annotation, "s3://bucket/a.xml"))
    for remote in (False, True):
        source = Results(results, Asked(sheet, remote=remote))
        row = next(row for row in source.slides() if row["id"] == SLIDE)
        place = source.place(SLIDE)
        assert row["has_annotation"] == remote
        assert place is not None
        assert place.annotation == ("s3://bucket/a.xml" if remote else "")


def test_a_patients_prediction_stands_at_each_of_its_slides(predicted: Path) -> None:
    document = json.loads((predicted / "predictions.json").read_text())
    document["slides"][0] |= {"slide_id": "p1", "slides": ["new", "second"], "tiles": 999}
    (predicted / "predictions.json").write_text(json.dumps(document))
    source = shown(predicted)
    rows = {row["id"]: row for row in source.slides()}
    assert set(rows) == {"new", "second", "bad"}
    assert rows["new"]["tiles"] not in (None, 999)
    found = source.predictions("stage", "/".join(ARM))
    assert found is not None
    slides = found["slides"]
    assert slides["second"]["predicted"] == slides["new"]["predicted"] == "macro"
    assert slides["new"]["attention"] is True
    assert slides["second"]["attention"] is False
