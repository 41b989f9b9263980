"""`wsi-ncmi predict --slides`: tiled, encoded and scored in one go; heatmaps, tiles for QuPath."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from conftest import paint
from made_predictions import make_results
from made_tiled import tiled_slide
from PIL import Image
from shapely.geometry import shape

from wsi_ncmi import cli
from wsi_ncmi.bags.store import read_attributes, read_bag
from wsi_ncmi.cohorts.sheet import OPTIONAL, REQUIRED
from wsi_ncmi.cohorts.sheet import write_sheet as write_slide_sheet
from wsi_ncmi.config import Demo
from wsi_ncmi.config.files import sections_of
from wsi_ncmi.config.making import SECTIONS, Making
from wsi_ncmi.demo.cohort import design_cohort, sheet_rows
from wsi_ncmi.encoders import build_encoder
from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.errors import ConfigError, UserError
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.predictions.attention import read_attention
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.tilefile import TiledSlide
from wsi_ncmi.tools.predict.bags import SEEN, find, unusual
from wsi_ncmi.tools.predict.bundle import read_bundle, write_bundle
from wsi_ncmi.tools.predict.choice import Asked
from wsi_ncmi.tools.predict.command import run_slides
from wsi_ncmi.tools.predict.pictures import ATTENDED, attended, draw
from wsi_ncmi.tools.predict.ranges import measures, outside, ranges_of
from wsi_ncmi.tools.predict.records import read_model
from wsi_ncmi.tools.predict.sections import sections_for
from wsi_ncmi.tools.predict.slides import check_files, make_bags, rows_of, write_sheet

CONFIG = {
    "cohort": "c",
    "tiling": {"mpp": 2.0, "tile_px": 64},
    "extraction": {
        "encoder": "random_resnet",
        "options": {"architecture": "test_resnet", "stages": [1], "input_px": 32},
        "batch_size": 16,
        "any_scale": True,
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of models of 64 features, and slides: one painted, one torn."""
    folder = tmp_path_factory.mktemp("slides")
    make_results(folder / "results", times=8, aggregators=("abmil",))
    paint(folder / "new.tif", 1, coarse=False)
    (folder / "torn.svs").write_bytes(b"this is no slide")
    (folder / "sheet.tsv").write_text("slide_id\tpath\tmpp\nnew\tnew.tif\t\ntorn\ttorn.svs\t2\n")
    (folder / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


def predict(made: Path, out: Path, *slides: str, more: Sequence[str] = ()) -> dict:
    where = [
        *more,
        "--from",
        str(made / "results"),
        "--config",
        str(made / "c.yaml"),
        "--out",
        str(out),
    ]
    with pytest.raises(SystemExit):  # a slide is refused
        cli.main(["predict", *where, "--slides", *slides])
    found: dict = json.loads((out / "predictions.json").read_text())
    return {slide["slide_id"]: slide for slide in found["slides"]}


@pytest.fixture(scope="module")
def results_of_encoder(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What becomes of the slides; the results get the facts of their encoder and tile files."""
    out = tmp_path_factory.mktemp("first")
    rows = rows_of([str(made / "sheet.tsv")])
    make_bags(rows, sections_of([made / "c.yaml"]), out, 1)
    facts = json.loads((out / "features" / "slides.json").read_text())
    (made / "results/cache/e/encoder.json").write_text(json.dumps(facts))
    (made / "results/tiles").mkdir()
    for bag in (made / "results/features/e").glob("*.h5"):
        shutil.copy(out / "features/new.h5", bag)
        tilefile.write(made / "results/tiles" / bag.name, looking(focus=1.0, tiles=2))
    return out


def test_slides_are_scored_in_one_go(made: Path, results_of_encoder: Path) -> None:
    out = results_of_encoder
    bag = out / "features/new.h5"
    before = bag.stat().st_mtime_ns
    found = predict(made, out, str(made / "sheet.tsv"))
    assert bag.stat().st_mtime_ns == before  # what is finished is not made again
    assert found["torn"]["status"] == "refused"
    assert "no reader opens it" in found["torn"]["reason"]
    new = found["new"]
    assert (new["status"], new["tiles"]) == ("ok", len(read_bag(bag).features))
    assert sum(new["probabilities"].values()) == pytest.approx(1)
    assert [path.name for path in (out / "heatmaps").iterdir()] == ["new.png"]
    assert np.asarray(Image.open(out / "heatmaps/new.png")).std() > 5
    by_bag = ["--from", str(made / "results"), "--bags", str(bag), "--out", str(out / "bags")]
    cli.main(["predict", *by_bag])
    (same,) = json.loads((out / "bags/predictions.json").read_text())["slides"]
    assert [text.split(",")[0].split(" is ")[0] for text in new["unusual"][:2]] == [
        "its tissue",
        "its focus",
    ]  # which are known of a slide, and not of its bag
    assert {**same, "unusual": 0} == {**new, "unusual": 0}
    assert new["attention"] == ["attention/new.h5"]
    attention = read_attention(out / "attention/new.h5")
    np.testing.assert_array_equal(attention.coords, read_bag(bag).coords)
    (weights,) = attention.weights.values()
    assert [*attention.weights] == ["abmil/cross_entropy"]
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    shown = json.loads((out / "attended/new.geojson").read_text())["features"]
    (x, y), *_ = shown[0]["geometry"]["coordinates"][0]
    assert attention.coords[weights.argmax()].tolist() == [x, y]
    assert (out / "bags/attention/new.h5").read_bytes() == (out / "attention/new.h5").read_bytes()


def test_what_was_attended_for_other_models_goes(
    made: Path, results_of_encoder: Path, tmp_path: Path
) -> None:
    """A slide that is refused now has no file of an earlier prediction."""
    (tmp_path / "attention").mkdir()
    for name in ("torn", "of-another-command"):
        (tmp_path / f"attention/{name}.h5").write_text("earlier")
    shutil.copytree(results_of_encoder / "features", tmp_path / "features")
    shutil.copytree(results_of_encoder / "tiles", tmp_path / "tiles")
    found = predict(made, tmp_path, str(made / "sheet.tsv"))
    assert found["torn"]["attention"] == []
    names = {path.name for path in (tmp_path / "attention").iterdir()}
    assert names == {"new.h5", "of-another-command.h5"}


def test_the_end_says_where_to_look(
    made: Path, results_of_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in the JSON, and no line of progress where nothing is encoded."""
    out = results_of_encoder
    predict(made, out, str(made / "sheet.tsv"))
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"heatmaps: {out}/heatmaps",
        f"look at them: wsi-ncmi view {out}",
    ]
    predict(made, out, str(made / "torn.svs"), more=["--json"])
    said = capsys.readouterr()
    assert json.loads(said.out)["slides"][0]["slide_id"] == "torn"
    assert "tile/s" not in said.err
    predict(made, out, str(made / "torn.svs"))
    assert "heatmaps" not in capsys.readouterr().out


def test_a_sheet_says_whose_slides_are_whose(tmp_path: Path) -> None:
    sheet = tmp_path / "s.tsv"
    sheet.write_text("slide_id\tpath\tpatient_id\na\ta.svs\tp\nb\tb.svs\t\n")
    assert [row.patient_id for row in rows_of([str(sheet), "c.tif"])] == ["p", "", ""]


def test_a_viewer_is_told_where_the_slides_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.tsv").write_text("slide_id\tpath\tmpp\tmask\na\tx/a.svs\t0.25\tm.geojson\n")
    rows = rows_of(["s.tsv", "b.tif", "https://h/c.tif"])
    write_sheet(rows, tmp_path / "out/slides.tsv")
    table = read_frame(tmp_path / "out/slides.tsv")
    assert table.to_dict("list") == {
        "slide_id": ["a", "b", "c"],
        "path": [f"{tmp_path}/x/a.svs", f"{tmp_path}/b.tif", "https://h/c.tif"],
        "mpp": ["0.25", "", ""],
        "mask": [f"{tmp_path}/m.geojson", "", ""],
    }
    assert rows_of([str(tmp_path / "out/slides.tsv")])[0].path == f"{tmp_path}/x/a.svs"


def test_attended_tiles_are_where_qupath_counts_from(made: Path, results_of_encoder: Path) -> None:
    predict(made, results_of_encoder, str(made / "sheet.tsv"))
    path = results_of_encoder / "attended/new.geojson"
    shapes = json.loads(path.read_text())["features"]
    corners = {tuple(c) for c in read_bag(results_of_encoder / "features/new.h5").coords.tolist()}
    assert len(shapes) == min(ATTENDED, len(corners))
    weights = [one["properties"]["measurements"]["attention"] for one in shapes]
    assert weights == sorted(weights, reverse=True)
    for one in shapes:
        box = shape(one["geometry"]).bounds
        assert box[:2] in corners
        assert (box[2] - box[0], box[3] - box[1]) == (64, 64)


def test_a_slide_of_the_training_is_known_by_its_file(
    made: Path, results_of_encoder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(made / "results", tmp_path / "copy"))
    bag = results_of_encoder / "features/new.h5"
    own = read_attributes(bag)["slide_fingerprint"]
    manifest = copy / "tiles/bucket-0.tsv"
    for slide_id, said in (("s07", True), ("of-another-task", False)):
        manifest.write_text(f"slide_id\tfingerprint\n{slide_id}\t{own}\n")
        (place,) = find([bag])
        assert (SEEN in unusual(place.read(), None, read_model(copy, Asked()))) is said


def test_slides_that_look_otherwise(tmp_path: Path) -> None:
    """Four slides with a focus of 1 to 4; a torn tile file and one without tiles count nothing."""
    paths = [tmp_path / f"{name}.h5" for name in "abcdef"]
    for number, path in enumerate(paths[:4], 1):
        tilefile.write(path, looking(focus=float(number), tiles=number))
    tilefile.write(paths[4], tiled_slide("e"))
    paths[5].write_bytes(b"torn")
    ranges = ranges_of(paths)
    assert ranges["focus"] == (1.0, 4.0, 4)
    cell = (128 * 0.5 / 1000) ** 2
    assert ranges["tissue"] == pytest.approx((cell, 4 * cell, 4))
    assert outside(measures(looking(focus=2.0, tiles=3)), ranges) == []
    far = replace(looking(focus=9.0, tiles=3), lab_mean=np.array([0.0, 0.0, 5.0]))
    assert outside(measures(far), ranges) == [
        "its focus is 9, outside of the 1 to 4 of 4 slides of the training",
        "its stain beta is 5, outside of the 0 to 0 of 4 slides of the training",
    ]
    assert ranges_of(paths[:3]) == {}


def looking(focus: float, tiles: int) -> TiledSlide:
    """A slide of so many tiles, 128 px of 0.5 µm apart."""
    half = np.ones(tiles, np.float16)
    return tiled_slide(
        "a",
        mpp=0.5,
        stride_level0=128.0,
        lab_mean=np.zeros(3),
        coords=np.zeros((tiles, 2), np.int32),
        focus=np.full(tiles, focus, np.float32),
        **dict.fromkeys(("tissue_fraction", "pen", "white", "black", "fold"), half),
    )


def test_qupath_counts_from_the_corner_of_what_was_scanned(tmp_path: Path) -> None:
    tiles = tiled_slide("a", bounds_x=100, bounds_y=200)
    tilefile.write(tmp_path / "tiles/a.h5", tiles)
    (tmp_path / "tiles/thumbnails").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "tiles/thumbnails/a.jpg")
    coords = np.array([[1000, 2000], [1100, 2000]], np.int32)
    draw("a", coords, np.array([0.7, 0.3]), tmp_path, tmp_path / "out")
    (first, *_) = json.loads((tmp_path / "out/attended/a.geojson").read_text())["features"]
    assert first["geometry"]["coordinates"][0][0] == [900, 1800]


def test_the_order_and_the_shape_of_attended_tiles() -> None:
    corners, attention = np.array([[0, 0], [10, 20]]), np.array([0.2, 0.8])
    first, second = attended(corners, attention, 10.0)["features"]
    assert first["geometry"]["coordinates"][0][2] == [20, 30]
    assert first["properties"]["measurements"] == {"attention": 0.8, "rank": 1}
    assert second["properties"]["name"] == "attended 2"


def test_a_configuration_that_is_not_the_trainings(
    made: Path, results_of_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**CONFIG, "tiling": {"mpp": 1.0, "tile_px": 64}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(other))
    new = ["--slides", str(made / "new.tif"), "--config", str(tmp_path / "c.yaml")]
    with pytest.raises(SystemExit):
        cli.main(["predict", "--from", str(made / "results"), "--out", str(tmp_path / "out"), *new])
    assert "tiling.mpp is 1.0, expected 2.0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_of_several_encoders_the_one_of_the_models_is_taken(
    made: Path, results_of_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder is named `e`; the first encoder of the configuration is another one."""
    own = CONFIG["extraction"]
    other = {**own, "name": "first", "options": {**own["options"], "seed": 5}}

    def predicted(others: dict) -> None:
        config = {**CONFIG, "extraction": {**other, "others": others}}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        new = ["--slides", str(made / "new.tif"), "--config", str(tmp_path / "c.yaml")]
        out = tmp_path / "out"
        cli.main(["predict", "--from", str(made / "results"), "--out", str(out), *new])

    with pytest.raises(SystemExit):
        predicted({"f": {"stain": "macenko"}})
    assert "its encoders are first, f, expected e" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    predicted({"e": {"options": own["options"]}})
    (slide,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["slides"]
    assert slide["status"] == "ok"


def test_what_is_wrong_with_sheets_is_told_together(tmp_path: Path) -> None:
    sheet = tmp_path / "s.tsv"
    sheet.write_text("slide_id\tpath\tmpp\na\ta.svs\t900\na\t\t\nb c\tb.svs\tx\n")
    with pytest.raises(ConfigError) as error:
        rows_of([str(sheet), str(tmp_path / "none.tsv")])
    assert [problem.replace(str(tmp_path), "") for problem in error.value.problems] == [
        "/s.tsv, line 2: mpp 900: expected µm/px of 0.05 to 50.0",
        "/s.tsv, line 3: no path",
        "/s.tsv, line 4: mpp x: expected µm/px of 0.05 to 50.0",
        "/none.tsv: no such sheet of slides",
        "slide_id a stands there twice: give a sheet with other names",
        "slide_id 'b c': letters, digits, ., _ and - only: give a sheet",
    ]
    sheet.write_text("slide_id\ttissue.size\na\t1\n")
    with pytest.raises(ConfigError, match=r"no column path(.|\n)*tissue.size is not known here"):
        rows_of([str(sheet)])
    sheet.write_text("slide_id\tpath\ttissue.method\na\ta.svs\tmagic\n")
    with pytest.raises(ConfigError, match=r"line 2: tissue.method 'magic': Input should be"):
        rows_of([str(sheet)])
    with pytest.raises(ConfigError) as error:
        rows_of([str(tmp_path)])
    (problem,) = error.value.problems
    assert problem.startswith(f"{tmp_path}: is a folder, not a slide: give slides ({tmp_path}/*")


def test_the_sheet_of_the_demo(tmp_path: Path) -> None:
    rows = sheet_rows(design_cohort(Demo(slides=10), tmp_path))
    write_slide_sheet(rows, tmp_path / "slides.tsv")
    found = rows_of([str(tmp_path / "slides.tsv")])
    assert [(one.slide_id, one.path, one.mpp) for one in found] == [
        (one.slide_id, one.path, one.mpp) for one in rows
    ]


def test_columns_of_slide_sheets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What decides the tiles counts, excluded slides are left out, and labels are ignored."""
    columns = dict.fromkeys((*REQUIRED, *OPTIONAL, "tissue.method", "label.other"), "")
    values = {"slide_id": "a", "path": "a.svs", "split": "test", "label.other": "x"}
    one = {**columns, **values, "tissue.method": "hsv"}
    other = {**columns, **values, "slide_id": "b", "exclude": "pen"}
    lines = [columns, one.values(), other.values()]
    (tmp_path / "s.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    with caplog.at_level("INFO"):
        (row,) = rows_of([str(tmp_path / "s.tsv")])
    assert (row.slide_id, row.tissue, row.label) == ("a", (("method", "hsv"),), "")
    assert "slide b: left out, its sheet excludes it: pen" in caplog.text
    lines = [columns, other.values()]
    (tmp_path / "s.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    with pytest.raises(ConfigError, match="its sheet excludes every slide"):
        rows_of([str(tmp_path / "s.tsv")])


def test_missing_files_are_told_together_before_any_work(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the paths that were given, once; finished slides may be gone."""
    slides = [str(made / "new.tif"), f"{tmp_path}/x/gone.svs", f"{tmp_path}/y/lost.svs"]
    out = tmp_path / "out"
    with pytest.raises(SystemExit):
        cli.main(["predict", "--from", "none", "--out", str(out), "--slides", *slides])
    said = capsys.readouterr().err
    for path in slides[1:]:
        assert said.count(f"{path}: no such file") == 1
    assert "new.tif" not in said
    assert not out.exists()
    (out / "features").mkdir(parents=True)
    (out / "features/gone.h5").touch()
    check_files(rows_of(slides[:2]), out)


def test_slides_by_their_names(tmp_path: Path) -> None:
    rows = rows_of([str(tmp_path / "a.b.svs"), "s3://bucket/c.tif"])
    assert [(row.slide_id, row.path) for row in rows] == [
        ("a.b", str(tmp_path / "a.b.svs")),
        ("c", "s3://bucket/c.tif"),
    ]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "give --bags or --slides, one of them"),
        (["--bags", "b", "--slides", "s.svs"], "give --bags or --slides, one of them"),
        (["--bags", "b", "--config", "c.yaml"], "--config and --weights are for --slides"),
    ],
)
def test_bags_or_slides(
    made: Path, options: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["predict", "--from", str(made / "results"), "--out", "out", *options])
    assert text in capsys.readouterr().err


def test_models_of_imported_bags_need_bags(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made / "results", tmp_path / "copy"))
    facts = copy / "cache/e/encoder.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "weights_sha256": ""}))
    config, out = [made / "c.yaml"], tmp_path / "out"
    with pytest.raises(UserError, match=r"trained on imported bags, .*: give --bags"):
        run_slides(copy, [str(made / "new.tif")], config, None, out, Asked(), 0.9, 1)


@pytest.fixture
def recording(made: Path, results_of_encoder: Path, tmp_path: Path) -> Path:
    """The results with the record of how their bags were made."""
    copy = Path(shutil.copytree(made / "results", tmp_path / "results"))
    sections = sections_of([made / "c.yaml"])
    making = Making(tiling=sections.tiling, extraction=sections.extraction)
    (copy / "cache/e" / SECTIONS).write_text(json.dumps(making.record()))
    return copy


def test_the_records_say_how_slides_are_tiled_and_encoded(
    made: Path, recording: Path, tmp_path: Path
) -> None:
    """As by the configuration: the same bag, the same predictions; from the file too."""
    found = {}
    for name, config in (("config", ["--config", str(made / "c.yaml")]), ("records", [])):
        out = tmp_path / name
        new = ["--slides", str(made / "new.tif"), "--out", str(out), *config]
        cli.main(["predict", "--from", str(recording), *new])
        found[name] = (out / "predictions.json").read_bytes()
    assert found["config"] == found["records"]
    exported = tmp_path / "model.zip"
    cli.main(["export", "--from", str(recording), "--out", str(exported)])
    shutil.rmtree(recording)
    out = tmp_path / "records"  # what is finished there is not made again
    new = ["--slides", str(made / "new.tif"), "--out", str(out)]
    cli.main(["predict", "--from", str(exported), *new])
    assert (out / "predictions.json").read_bytes() == found["config"]


def test_results_without_the_record_say_so(
    made: Path, results_of_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of an earlier version, and what was exported of them."""
    out = ["--out", str(tmp_path / "out"), "--slides", str(made / "new.tif")]
    with pytest.raises(SystemExit):
        cli.main(["predict", "--from", str(made / "results"), *out])
    assert "do not say how slides were tiled and encoded: give --config" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    zipped = tmp_path / "model.zip"
    cli.main(["export", "--from", str(made / "results"), "--out", str(zipped)])
    assert read_bundle(zipped).sections == {}
    with pytest.raises(SystemExit):
        cli.main(["predict", "--from", str(zipped), *out])
    assert "give --config" in capsys.readouterr().err


def test_weights_are_the_trainings(recording: Path, tmp_path: Path) -> None:
    """By the digest of what the encoder holds, wherever the file lies."""
    path = recording / "cache/e" / SECTIONS
    record = json.loads(path.read_text())
    record["extraction"] |= {"encoder": "test_resnet.r160_in1k", "weights": "/nowhere/own.pt"}
    record["extraction"]["options"] = {}
    path.write_text(json.dumps(record))
    encoder = build_network(tmp_path / "own.pt", seed=1), build_network(tmp_path / "x.pt", seed=2)
    facts = recording / "cache/e/encoder.json"
    own = {**json.loads(facts.read_text()), "weights_sha256": encoder[0].weights_sha256}
    facts.write_text(json.dumps(own))
    model = read_model(recording, Asked())
    with pytest.raises(UserError, match=r"/nowhere/own.pt: no such file, .*: give --weights"):
        sections_for(model, [])
    with pytest.raises(UserError, match=r"x\.pt: holds the weights [0-9a-f]{12}, expected"):
        sections_for(model, [], tmp_path / "x.pt")
    found = sections_for(model, [], tmp_path / "own.pt")
    assert found.extraction.weights == str(tmp_path / "own.pt")
    write_bundle(model, tmp_path / "model.zip")
    exported = read_bundle(tmp_path / "model.zip")
    assert exported.sections["extraction"]["weights"] == "own.pt"
    assert "nowhere" not in json.dumps(exported.sections)


def build_network(path: Path, seed: int) -> Encoder:
    """An encoder with random weights, which are written to the file."""
    torch.manual_seed(seed)
    network = timm.create_model("test_resnet.r160_in1k", pretrained=False, num_classes=0)
    torch.save(network.state_dict(), path)
    return build_encoder("test_resnet.r160_in1k", {}, str(path))
