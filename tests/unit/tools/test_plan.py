"""Command `plan`: what it says before any work is what the work then finds."""

import csv
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import huggingface_hub
import numpy as np
import pytest
import tifffile

from wsi_ncmi import cli
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Attention, Extraction, Tiling
from wsi_ncmi.tiling.asap import Annotation, write_asap
from wsi_ncmi.tiling.one_slide import tile_slide
from wsi_ncmi.tools.plan import command as slide_plan
from wsi_ncmi.tools.plan import table as plan_table
from wsi_ncmi.tools.plan.command import Options, plan_slide
from wsi_ncmi.tools.plan.fetching import fetch_lines
from wsi_ncmi.tools.plan.storage import storage_of
from wsi_ncmi.tools.plan.table import duration, size

TILING = Tiling(mpp=1.0, tile_px=128)
GLASS = (240, 239, 241)


def write_slide(
    path: Path,
    *,
    mpp: float | None = 0.5,
    tissue: bool = True,
    levels: int = 2,
    compression: str = "deflate",
) -> str:
    """2048 x 1536 with tissue in x 512-1536, y 512-1024."""
    image = np.full((1536, 2048, 3), GLASS, np.uint8)
    if tissue:
        noise = np.random.default_rng(0).normal(0, 20, (512, 1024, 1))
        image[512:1024, 512:1536] = np.clip(np.array((176, 104, 168)) + noise, 0, 255)
    options = {"photometric": "rgb", "compression": compression, "tile": (256, 256)}
    if mpp is not None:
        options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            shape = (2048 // 2**level, 1536 // 2**level)
            part = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
            tiff.write(part, subfiletype=int(level > 0), **options)
    return str(path)


def row(path: str, slide_id: str = "s", **values: object) -> SlideRow:
    return SlideRow(slide_id, "a", "p", "c", path, **values)


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """A good slide and one of every fault."""
    write_slide(tmp_path / "good.tif")
    write_slide(tmp_path / "silent.tif", mpp=None)
    write_slide(tmp_path / "coarse.tif", mpp=4.0)
    write_slide(tmp_path / "glass.tif", tissue=False)
    (tmp_path / "broken.svs").write_text("this is no slide")
    lines = ["slide_id\tpath\tlabel\tpatient_id\tcentre"]
    for name in ("good.tif", "silent.tif", "coarse.tif", "glass.tif", "broken.svs", "gone.svs"):
        lines.append(f"{name.split('.')[0]}\t{name}\ta\tp\tc")
    path = tmp_path / "slides.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def config(folder: Path, text: str = "") -> str:
    path = folder / "my.yaml"
    path.write_text(f"tiling: {{mpp: 1.0, tile_px: 128}}\n{text}")
    return str(path)


def run(*arguments: str) -> int:
    try:
        cli.main(["plan", *arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {line["slide_id"]: line for line in csv.DictReader(file, delimiter="\t")}


def test_every_fault_is_a_row(
    sheet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extraction = "extraction: {encoder: virchow2, any_scale: true, dtype: float32}"
    out = tmp_path / "plan.tsv"
    arguments = [str(sheet), "--config", config(tmp_path, extraction), "--out", str(out)]
    assert run(*arguments, "--rate", "4", "--threads", "2") == 1
    rows = table(out)
    assert list(rows) == ["good", "silent", "coarse", "glass", "broken", "gone"]
    good = rows["good"]
    assert (good["problem"], good["mpp"], good["mpp_source"]) == (
        "",
        "0.5",
        "tiff resolution tags",
    )
    assert (good["level"], good["read_px"], good["tiles"], good["seconds"]) == (
        "1",
        "128",
        "8",
        "2",
    )
    assert (good["width"], good["height"]) == ("2048", "1536")
    assert int(good["bytes"]) == 8 * (2560 * 4 + 10)
    problems = {
        "silent": "silent.tif: the file states no µm/px: give it in the slide sheet's column 'mpp'",
        "coarse": "the slide has 4 µm/px, coarser than the wanted 1: raise tiling.mpp",
        "glass": "no tile holds enough tissue",
        "broken": "broken.svs: no reader opens it",
        "gone": "gone.svs: no such file",
    }
    for name, problem in problems.items():
        assert rows[name]["problem"].startswith(problem), name
    assert rows["coarse"]["mpp"] == "4"
    printed = capsys.readouterr().out
    assert "6 slide(s), 5 with a problem, 0 with a note, about 8 tiles" in printed
    assert "time: ≈2 s at 4 tiles/s (--rate)" in printed
    assert "disk: 82 kB of bags (2560 features of virchow2)" in printed


BOTH = """\
extraction:
  encoder: virchow2
  any_scale: true
  weights: w.pth
  others:
    uni: {encoder: uni, any_scale: true, weights: w.pth}
"""


def test_several_encoders_have_their_own_time_and_disk(
    sheet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet.write_text("\n".join(sheet.read_text().splitlines()[:2]) + "\n")
    arguments = [str(sheet), "--config", config(tmp_path, BOTH), "--out", str(tmp_path / "p.tsv")]
    assert run(*arguments, "--rate", "4", "--rate", "uni=2") == 0
    printed = capsys.readouterr().out
    assert "time of virchow2: ≈2 s at 4 tiles/s (--rate)" in printed
    assert "time of uni: ≈4 s at 2 tiles/s (--rate)" in printed
    assert "time of all encoders: ≈6 s" in printed
    assert "disk of virchow2: 41 kB of bags (2560 features of virchow2)" in printed
    assert "disk of uni: 16.5 kB of bags (1024 features of uni)" in printed
    assert "disk of these encoders: 57.5 kB of bags" in printed
    good = table(tmp_path / "p.tsv")["good"]
    assert (float(good["seconds"]), int(good["bytes"])) == (6, 8 * 2 * (2560 + 1024) + 160)
    assert run(*arguments, "--rate", "uni=2") == 0  # the other's is measured
    printed = capsys.readouterr().out
    assert "time of virchow2: ≈" in printed
    assert "for reading alone (measured" in printed
    assert run(*arguments, "--rate", "unni=2") == 1
    assert "no encoder is named unni, expected one of virchow2, uni" in capsys.readouterr().err


def test_a_gated_encoder_without_a_login_is_a_problem(
    sheet: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sheet.write_text("\n".join(sheet.read_text().splitlines()[:2]) + "\n")
    gated = BOTH.replace("weights: w.pth}", "}").replace(", }", "}")
    arguments = [str(sheet), "--config", config(tmp_path, gated), "--rate", "4"]
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert run(*arguments) == 1
    printed = capsys.readouterr().out
    assert "problem: UNI is gated, and there is no login: ask for access on" in printed
    assert "or give the file as extraction.others.uni.weights" in printed
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_")
    assert run(*arguments) == 0


def test_slides_that_are_fetched_for_an_encoder_are_counted(tmp_path: Path) -> None:
    rows = [row(f"s3://bucket/{name}.tif", name) for name in "abc"] + [row("d.tif", "d")]
    for name in ("x/a", "x/b", "y/a"):
        bag = tmp_path / f"{name}.h5"
        bag.parent.mkdir(exist_ok=True)
        bag.touch()
    assert list(fetch_lines(rows, tmp_path, ["x", "y"])) == [
        "fetch: 2 of 3 slide(s) at addresses lack a bag (1 of x, 2 of y); each is fetched once for "
        "all encoders"
    ]
    assert list(fetch_lines(rows[:1], tmp_path, ["x", "y"])) == []


def test_no_problem_ends_with_0(sheet: Path, tmp_path: Path) -> None:
    lines = sheet.read_text().splitlines()[:2]
    sheet.write_text("\n".join(lines) + "\n")
    assert run(str(sheet), "--config", config(tmp_path), "--dim", "8") == 0
    given = config(tmp_path, f"slides: {{sheet: {sheet}}}")
    assert run("--config", given, "--dim", "8") == 0


def test_slides_of_a_second_cohort_follow_with_their_own_sum(
    sheet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "north").mkdir()
    write_slide(tmp_path / "north/n.tif")
    head = sheet.read_text().splitlines()[0]
    north = tmp_path / "north.tsv"
    north.write_text(f"{head}\nn\tnorth/n.tif\ta\tq\tc\ngone\tnorth/gone.tif\ta\tq\tc\n")
    sheet.write_text("\n".join(sheet.read_text().splitlines()[:2]) + "\n")
    external = f"external: {{north: {{slides: {{sheet: {north}}}}}}}"
    given = config(tmp_path, f"slides: {{sheet: {sheet}}}\n{external}")
    out = tmp_path / "plan.tsv"
    assert run("--config", given, "--dim", "8", "--out", str(out)) == 1  # for a slide of the second
    assert "\nexternal cohort north:\n" in capsys.readouterr().out
    assert list(table(out)) == ["good"]
    found = table(tmp_path / "plan-north.tsv")
    assert int(found["n"]["tiles"]) > 0
    assert "no such file" in found["gone"]["problem"]
    assert run(str(north), "--config", given, "--dim", "8") == 1  # a sheet by itself
    assert "external cohort" not in capsys.readouterr().out
    shutil.copy(tmp_path / "good.tif", tmp_path / "north/gone.tif")
    capsys.readouterr()
    assert run("--config", given, "--dim", "8", "--json") == 1
    plans = json.loads(capsys.readouterr().out)["external"]["north"]["plans"]
    assert plans[1]["problem"] == "it is slide good of the cohort itself"


TASKS = """\
tasks:
  one:
    classes: [a, b]
    protocol: {kind: kfold, folds: 5}
    objectives:
      cross_entropy: {}
      ncmi: {training: {learning_rate: 0.004}}
    aggregators: {abmil: {}, clam: {part: clam_sb, training: {preset: clam_sb}}}
    training: {epochs: 20, batch_size: 16}
"""


def test_trainings_have_their_steps_and_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """850 bags of two classes: 544 train in a fold of five with a fifth for validation."""
    lines = ["slide_id\tlabel\tpatient_id\tcentre"]
    lines += [f"s{i}\t{'abc'[i % 3]}\tp{i}\tc" for i in range(1275)]
    (tmp_path / "bags.tsv").write_text("\n".join(lines) + "\n")
    bags = f"bags: {{path: x, format: h5, sheet: {tmp_path / 'bags.tsv'}}}\n"
    named = f"cohort: c\n{bags}ignore_labels: [c]\n{TASKS}"
    assert run("--config", config(tmp_path, named)) == 0
    printed = capsys.readouterr().out.splitlines()
    at = printed.index("task one: about 544 training samples a fold")
    steps = "680 steps (20 epochs, batch size 16)"
    assert printed[at + 1] == f"  abmil + cross_entropy: {steps}, learning rate 0.001 (auto)"
    assert printed[at + 2] == f"  abmil + ncmi: {steps}, learning rate 0.004"
    assert printed[at + 3].endswith("learning rate 0.0001")  # the recipe's own


def test_the_estimate_is_what_tiling_finds(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tif", levels=4)
    planned = plan_slide(row(path), TILING, quick=False)
    outcome = tile_slide(row(path), TILING, tmp_path / "tiles")
    assert planned.tiles == len(outcome) == 8
    assert planned.reader == outcome.reader
    assert planned.tiles_from == "tissue at 8 µm/px"


def test_a_sheet_that_contradicts_the_file(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tif")
    given = row(path, mpp=0.25)
    planned, outcome = plan_slide(given, TILING, quick=False), tile_slide(given, TILING, tmp_path)
    assert planned.problem == (
        "the sheet says 0.25 µm/px, the file 0.5 (tiff resolution tags), 2 times as little; the "
        "sheet's is used: correct it or leave it out"
    )
    assert (planned.mpp, outcome.mpp, planned.tiles) == (0.25, 0.25, len(outcome))
    assert outcome.note == planned.problem
    coarse = plan_slide(row(path, mpp=5.0), TILING, quick=False)
    assert "about 10 times as much" in coarse.problem
    assert coarse.problem.endswith("set tiling.upsample: true")
    assert tile_slide(row(path, mpp=5.0), TILING, tmp_path).reason == coarse.problem


def test_quick_looks_for_no_tissue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_slide(tmp_path / "s.tif")

    def refuse(*arguments: object) -> None:
        raise AssertionError("a pixel was read")

    monkeypatch.setattr(slide_plan.Slide, "thumbnail", refuse)
    planned = plan_slide(row(path), TILING, quick=True)
    assert (planned.tiles, planned.tiles_from, planned.problem) == (8 * 6, "area, at most", "")


def test_the_sheet_overrides_the_mask_and_the_scale(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tif", mpp=None)
    fine = plan_slide(row(path, mpp=0.25), TILING, quick=False)
    assert (fine.mpp, fine.mpp_source, fine.read_px) == (0.25, "sheet", 256)
    square = [[0, 0], [1024, 0], [1024, 512], [0, 512], [0, 0]]
    text = str({"type": "Polygon", "coordinates": [square]}).replace("'", '"')
    (tmp_path / "mask.geojson").write_text(text)
    masked = row(path, mpp=0.5, mask=str(tmp_path / "mask.geojson"))
    assert plan_slide(masked, TILING, quick=False).tiles == 8
    bad = row(path, mpp=0.5, tissue=(("method", "model"),))
    assert "model needs weights" in plan_slide(bad, TILING, quick=False).problem


def test_a_slide_smaller_than_a_tile(tmp_path: Path) -> None:
    path, tiling = write_slide(tmp_path / "s.tif"), Tiling(mpp=1.0, tile_px=1000)
    planned = plan_slide(row(path), tiling, quick=False)
    outcome = tile_slide(row(path), tiling, tmp_path)
    assert planned.problem == (
        "the slide is smaller than a tile: 2048 x 1536 px at 0.5 µm/px = 1024 x 768 µm, a tile's "
        "side is 2000 px = 1000 µm: lower tiling.tile_px, or correct the sheet's mpp"
    )
    assert outcome.reason == planned.problem
    assert (planned.tiles, outcome.status) == (0, "no_tissue")
    assert plan_slide(row(path), tiling, quick=True).problem == planned.problem
    fits = plan_slide(row(path), Tiling(mpp=1.0, tile_px=768, min_tissue=0.1), quick=False)
    assert (fits.tiles, fits.problem) == (1, "")


def test_odd_annotations_and_masks_are_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_slide(tmp_path / "s.tif")
    tissue = np.array([[512.0, 512], [1536, 512], [1536, 1024]])
    write_asap([Annotation(tissue), Annotation(tissue, ("roi",))], tmp_path / "roi.xml")
    write_asap([Annotation(tissue + 2000)], tmp_path / "other.xml")
    write_asap([Annotation(tissue)], tmp_path / "fine.xml")
    (tmp_path / "bad.xml").write_text("no XML")
    wide = [[[512, 512], [2560, 512], [2560, 1024], [512, 1024], [512, 512]]]
    mask = {"type": "Polygon", "coordinates": wide}
    (tmp_path / "wide.geojson").write_text(json.dumps(mask))
    lines = ["slide_id\tpath\tlabel\tpatient_id\tcentre\tannotation\tmask"]
    for name in ("roi", "other", "fine", "bad", "gone"):
        lines.append(f"{name}\t{path}\ta\tp\tc\t{name}.xml\t")
    lines.append(f"wide\t{path}\ta\tp\tc\t\twide.geojson")
    for number in range(1, len(lines)):  # a slide stands in one row only
        copy = tmp_path / f"s{number}.tif"
        copy.write_bytes(Path(path).read_bytes())
        lines[number] = lines[number].replace(path, copy.name)
    (tmp_path / "slides.tsv").write_text("\n".join(lines) + "\n")
    arguments = [str(tmp_path / "slides.tsv"), "--config", config(tmp_path), "--dim", "8"]
    assert run(*arguments, "--out", str(tmp_path / "plan.tsv"), "--rate", "9") == 0
    notes = {name: row["note"] for name, row in table(tmp_path / "plan.tsv").items()}
    starts = {
        "roi": "group 'roi': 1 annotation(s) neither count as lesion",
        "other": "1 of 1 lesions do not lie on the slide of 2048 x 1536 px",
        "bad": "bad.xml: cannot be read as XML",
        "gone": "gone.xml: no such file",
        "wide": "mask wide.geojson: 25% of its area does not lie on the 2048 x 1536 px",
    }
    assert notes.pop("fine") == ""
    assert notes.keys() == starts.keys()
    for name, start in starts.items():
        assert notes[name].startswith(start), notes[name]
    printed = capsys.readouterr().out
    assert "6 slide(s), 0 with a problem, 5 with a note, about" in printed
    assert "note on bad: bad.xml: cannot be read as XML" in printed
    grouped = config(tmp_path, "attention: {excluded_groups: [roi]}")
    run(str(tmp_path / "slides.tsv"), "--config", grouped, "--dim", "8", "--rate", "9")
    assert "group 'roi'" not in capsys.readouterr().out


def test_an_implausible_size_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_ncmi.tiling.survey.LARGEST_MM2", 5000.0)
    path = write_slide(tmp_path / "s.tif", mpp=None)
    tiling = Tiling(mpp=50.0, tile_px=16)
    problem = plan_slide(row(path, mpp=50.0), tiling, quick=True).problem
    assert "2048 x 1536 px at 50 µm/px = 102 x 77 mm: no glass slide" in problem


def test_reading_is_measured_on_the_first_usable_slide(
    sheet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")  # the good one last
    run(str(sheet), "--config", config(tmp_path), "--dim", "8")
    printed = capsys.readouterr().out
    assert "for reading alone (measured, tiles/s: native ≈" in printed


def test_each_slide_has_the_rate_of_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["slide_id\tpath\tlabel\tpatient_id\tcentre"]
    for name, compression in (("a", "deflate"), ("j", "jpeg2000"), ("k", "jpeg2000")):
        write_slide(tmp_path / f"{name}.tif", compression=compression)
        lines.append(f"{name}\t{name}.tif\ta\tp\tc")
    (tmp_path / "slides.tsv").write_text("\n".join(lines) + "\n")
    asked = []

    def read(limit: float, row: SlideRow, *more: Any) -> tuple[int, float]:
        asked.append((row.slide_id, limit))
        return {"a": (2469, 2.0), "j": (1, 0.75), "k": (2, 0.25)}[row.slide_id]

    monkeypatch.setattr(slide_plan, "_read_for", read)
    monkeypatch.setattr(plan_table, "has_gpu", lambda: False)
    out = tmp_path / "plan.tsv"
    path = config(tmp_path, f"results: {tmp_path}/not/yet\n")
    arguments = [str(tmp_path / "slides.tsv"), "--config", path, "--dim", "8"]
    assert run(*arguments, "--out", str(out)) == 0
    rows = table(out)
    assert rows["a"]["reader"] == "native" != rows["j"]["reader"]
    assert asked == [("a", 1.0), ("j", 1.0), ("k", 0.25)]
    assert [rows[name]["seconds"] for name in "ajk"] == ["0.00648", "2.67", "2.67"]
    printed = capsys.readouterr().out
    assert "≈2.7 s" in printed
    assert "time: ≈5.3 s for reading alone (measured, tiles/s: native ≈1200, " in printed
    assert "encoding on the processor will take longer than reading" in printed
    assert f"are free in {tmp_path}\n" in printed
    monkeypatch.setattr(plan_table, "has_gpu", lambda: True)
    run(*arguments)
    assert "will take longer" not in capsys.readouterr().out


def test_measuring_ends_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_slide(tmp_path / "s.tif")
    tiling = Tiling(mpp=0.5, tile_px=16)
    plan, options = (
        plan_slide(row(path), tiling, quick=True),
        Options(quick=True, threads=2),
    )
    blocks = []
    real = slide_plan.read_tiles

    def counted(*arguments: Any, **options: Any) -> Any:
        for block in real(*arguments, **options):
            blocks.append(len(block.indices))
            yield block

    monkeypatch.setattr(slide_plan, "read_tiles", counted)
    count, seconds = slide_plan._read_for(0.0, row(path), plan, tiling, options)
    assert blocks == [count]
    assert seconds > 0
    assert (
        slide_plan._read_for(60.0, row(path), plan, tiling, options)[0] == sum(blocks[1:]) == 4096
    )
    tissue = slide_plan._read_for(60.0, row(path), plan, TILING, Options())
    assert tissue[0] == 8


def test_nothing_to_measure(
    sheet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    assert run(str(sheet), "--config", config(tmp_path), "--dim", "8") == 1
    assert "time: not known (no slide to measure reading on)" in capsys.readouterr().out


def test_no_sheet_and_a_wrong_sheet(
    sheet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--config", config(tmp_path)) == 1
    assert "no sheet: name one, or give slides.sheet" in capsys.readouterr().err
    sheet.write_text(sheet.read_text().replace("\tcentre", "\tsite"))
    assert run(str(sheet), "--config", config(tmp_path)) == 1
    assert "column 'centre' is missing" in capsys.readouterr().err


def test_torch_stays_out_for_published_encoders(sheet: Path, tmp_path: Path, root: Path) -> None:
    path = config(tmp_path, "extraction: {encoder: uni, any_scale: true}")
    code = f"""
import sys
from wsi_ncmi import cli
try:
    cli.main(["plan", {str(sheet)!r}, "--config", {path!r}])
except SystemExit:
    pass
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


# --- the encoder ---------------------------------------------------------------------------------


def test_width_of_features() -> None:
    tiling = Tiling(mpp=2.0, tile_px=128)
    assert storage_of(Extraction(encoder="random_resnet"), tiling, None).dim == 384
    augmentation = {"transforms": [{"name": "HorizontalFlip"}], "copies": 2}
    extraction = Extraction(
        encoder="vit_tiny_patch16_224", dtype="float16", augmentation=augmentation
    )
    found = storage_of(extraction, Tiling(), None)
    assert (found.dim, found.bytes_per_tile, found.problem) == (192, 192 * 2 * 3 + 10, "")
    given = storage_of(Extraction(encoder="hf-hub:someone/some"), Tiling(), 512)
    assert (given.dim, given.bytes_per_tile) == (512, 1034)
    unknown = storage_of(Extraction(encoder="hf-hub:someone/some"), Tiling(), None)
    assert (unknown.dim, unknown.problem) == (None, "")
    assert unknown.note.endswith("give the number of its features by --dim")


def test_an_encoder_that_does_not_fit() -> None:
    uni = storage_of(Extraction(encoder="uni"), Tiling(mpp=2.0), None)
    assert uni.dim == 1024
    assert uni.problem.startswith("encoder uni is meant for 0.5 µm/px")
    assert (
        storage_of(Extraction(encoder="uni", any_scale=True), Tiling(mpp=2.0), None).problem == ""
    )
    assert storage_of(Extraction(encoder="uni"), Tiling(), None).problem == ""
    wrong = storage_of(Extraction(encoder="resnet5000"), Tiling(), None)
    assert wrong.problem.startswith("extraction.encoder resnet5000 cannot be made")


def test_numbers_as_people_say_them() -> None:
    assert [duration(s) for s in (None, 3, 89, 300, 7200)] == [
        "–",
        "≈3 s",
        "≈89 s",
        "≈5 min",
        "≈2 h",
    ]
    assert [duration(s) for s in (0.04951, 4.4e6)] == ["≈0.05 s", "≈1200 h"]
    sizes = [size(n) for n in (None, 12, 999.6e3, 4.2e6, 5e12, 7e15)]
    assert sizes == ["–", "12 B", "1000 kB", "4.2 MB", "5 TB", "7000 TB"]


def twins_sheet(folder: Path, patients: str) -> str:
    """A slide, its copy, a link to it, and another slide."""
    write_slide(folder / "a.tif")
    shutil.copy(folder / "a.tif", folder / "copy.tif")
    (folder / "link.tif").unlink(missing_ok=True)
    (folder / "link.tif").symlink_to("a.tif")
    write_slide(folder / "other.tif", mpp=0.4)
    lines = ["slide_id\tpath\tlabel\tpatient_id\tcentre"]
    for name, patient in zip(("a", "copy", "link", "other"), patients, strict=True):
        lines.append(f"{name}\t{name}.tif\tx\t{patient}\tc")
    (folder / "slides.tsv").write_text("\n".join(lines) + "\n")
    return str(folder / "slides.tsv")


def test_one_slide_under_several_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, out = twins_sheet(tmp_path, "1223"), tmp_path / "plan.tsv"
    assert run(sheet, "--config", config(tmp_path), "--out", str(out), "--quick") == 1
    with out.open() as file:
        problems = {row["slide_id"]: row["problem"] for row in csv.DictReader(file, delimiter="\t")}
    expected = (
        "the same slide under several slide_ids: a (patient 1), copy (patient 2), link (patient 2)"
        ": they could stand in two parts of a split: keep one row of each set in the sheet, or "
        "give the rows the same patient_id if they are of one patient"
    )
    assert problems == {"a": expected, "copy": expected, "link": expected, "other": ""}
    capsys.readouterr()
    assert run(twins_sheet(tmp_path, "1113"), "--config", config(tmp_path), "--quick") == 0
    assert capsys.readouterr().out.startswith(
        "the same slide under several slide_ids of one patient: "
        "a (patient 1), copy (patient 1), link (patient 1)\n"
    )


def test_a_finished_slide_that_is_gone_is_no_problem(tmp_path: Path) -> None:
    path = Path(write_slide(tmp_path / "s1.tif"))
    given, tiles = SlideRow("s1", "", "", "", str(path)), tmp_path / "tiles"
    made = tile_slide(given, TILING, tiles)
    path.unlink()
    gone = plan_slide(given, TILING, quick=False)
    assert (gone.problem, gone.tiles) == ("s1.tif: no such file", None)
    planned = plan_slide(given, TILING, quick=False, tiles=tiles)
    assert (planned.problem, planned.tiles, planned.mpp) == ("", len(made), made.mpp)
    assert planned.note == "s1.tif: no such file: its finished tiles stand"
    other = Tiling(mpp=1.0, tile_px=64)
    assert plan_slide(given, other, quick=False, tiles=tiles).problem == gone.problem


def test_a_slide_that_hangs_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    over = threading.Event()
    monkeypatch.setattr(slide_plan, "open_slide", lambda *_, **__: over.wait(600))
    rows = [SlideRow("s1", "", "p", "c", str(tmp_path / "s1.tif"))]
    storage, options = storage_of(Extraction(), TILING, 8), Options(slide_minutes=0.1 / 60)
    planned = slide_plan.plan_slides(rows, TILING, Attention(), [storage], options, tmp_path)
    slide_plan.show(planned, None, as_json=False)
    status = int(planned.has_problem)
    over.set()
    assert status == 1
    assert "s1.tif: not read within" in capsys.readouterr().out
