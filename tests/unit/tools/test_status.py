"""Command `status`: what a pipeline's files say of it."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from wsi_ncmi import cli
from wsi_ncmi.tools.status.jobs import QUIET_SECONDS, jobs, last_line
from wsi_ncmi.tools.status.stages import seconds_left

CONFIG: dict[str, Any] = {
    "cohort": "c",
    "slides": {"sheet": "s.tsv"},
    "extraction": {"encoder": "random_resnet"},
    "tasks": {
        "xy": {"classes": ["x", "y"], "protocol": {"folds": 2}, "seeds": [0, 1]},
    },
}
NOW = 1_000_000.0


def write(path: Path, text: str, at: float = NOW) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six slides: two tiled in a finished bucket, one in an unfinished one, one unreadable."""
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(yaml.safe_dump(CONFIG))
    cells = {"slide_id": [*"abcdef"], "label": [*"xyxyxy"], "patient_id": [*"abcdef"]}
    paths = [f"{name}.tif" for name in "abcdef"]
    pd.DataFrame({**cells, "centre": "1", "path": paths}).to_csv("s.tsv", sep="\t", index=False)
    for path in paths:
        write(Path(path), "")
    root = tmp_path / "results/c"
    rows = "slide_id\tstatus\treason\na\tok\t\nb\tno_tissue\tblank\nc\tunreadable\tcut off\n"
    write(root / "tiles/bucket-0.tsv", rows)
    for name, at in (("a", NOW), ("b", NOW), ("c", NOW), ("d", NOW + 60), ("gone", NOW)):
        write(root / f"tiles/{name}.h5", "12345", at)
    for number, status in enumerate(("ok", "ok", "failed")):
        write(root / f"runs/xy/m{number}/run.json", json.dumps({"status": status}))
    write(root / "runs/xy/m3/run.json", '{"status": "o')  # being written
    write(root / "logs/tiles/bucket-0.log", "2026-01-02 03:04:05,678 INFO tiled\n")
    write(root / "benchmarks/tiles/bucket-0.tsv", "s\n1\n", NOW + 1)
    return root


def status(capsys: Any, *arguments: str) -> tuple[int, Any]:
    try:
        code = cli.main(["status", "--config", "c.yaml", *arguments]) or 0
    except SystemExit as ended:
        code = ended.code
    return code, capsys.readouterr().out


def test_slides_models_and_what_is_left(root: Path, capsys: Any) -> None:
    code, text = status(capsys, "--json")
    found = json.loads(text)
    steps = {one["stage"]: one for one in found["stages"]}
    counts = {n: [s[k] for k in ("total", "done", "failed", "left")] for n, s in steps.items()}
    assert counts == {
        "tiles": [6, 3, 1, 2],  # a and b by the manifest, d by its file
        "features": [6, 0, 0, 6],
        "train": [8, 2, 1, 5],  # one aggregator, two objectives, two folds, two seeds
        "evaluate": [1, 0, 0, 1],
        "report": [1, 0, 0, 1],
    }
    assert steps["tiles"]["reasons"] == {"unreadable": 1}
    assert steps["train"]["reasons"] == {"diverged": 1}
    assert (found["state"], found["jobs"], code) == ("stopped", [], 0)
    assert found["disk"]["tiles"] == sum(f.stat().st_size for f in (root / "tiles").iterdir())


def test_a_failed_job_is_shown_with_its_log_and_error(root: Path, capsys: Any) -> None:
    log = root / "logs/train/xy/seed-0.log"
    write(log, "2026-01-02 03:04:05,678 ERROR the disk is full\n")
    code, text = status(capsys)
    assert code == 1
    assert "failed  train/xy/seed-0" in text
    assert "ERROR the disk is full" in text
    assert "results/c/logs/train/xy/seed-0.log" in text


def test_a_job_that_writes_is_running(root: Path, capsys: Any) -> None:
    log = root / "logs/train/xy/seed-0.log"
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-02 03:04:05,678 INFO epoch 3/20\n")
    found = json.loads(status(capsys, "--json")[1])
    assert found["state"] == "running"
    assert [(one["name"], one["state"], one["last"]) for one in found["jobs"]] == [
        ("train/xy/seed-0", "running", "INFO epoch 3/20")
    ]


def test_a_job_is_done_when_its_benchmark_is_newer_than_its_log(root: Path) -> None:
    log, benchmark = (
        root / f"{n}/tiles/bucket-1.{e}" for n, e in (("logs", "log"), ("benchmarks", "tsv"))
    )
    write(log, "INFO\n", NOW)
    states = []
    for at in (None, NOW - 1, NOW + 1):  # none, of an earlier run, of this one
        if at is not None:
            write(benchmark, "s\n", at)
        states.append([one.state for one in jobs(root, now=NOW + QUIET_SECONDS + 1)][1])
    assert states == ["quiet", "quiet", "done"]


def test_the_last_line_of_a_long_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("x" * 10_000 + "\n2026-01-02 03:04:05,678 INFO the end\n\n")
    assert last_line(path) == "INFO the end"
    path.write_text("")
    assert last_line(path) == ""
    path.write_text("no time\n")
    assert last_line(path) == "no time"


def test_the_pace_of_a_stage() -> None:
    times = [NOW + 10 * n for n in range(11)]
    assert seconds_left(times, 4, NOW + 100) == pytest.approx(40)
    assert seconds_left(times, 4, NOW + 150) == pytest.approx(60)  # it has become slower
    assert seconds_left(times, 4, NOW + 10_000) == pytest.approx(40)  # it was stopped
    assert seconds_left(times, 0) == 0
    assert seconds_left(times[:1], 4) is None


def test_nothing_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(yaml.safe_dump({**CONFIG, "slides": None, "demo": {}}))
    code, text = status(capsys)
    assert code == 0
    assert "results/c: stopped" in text
    assert "nothing yet" in text


def test_a_second_cohort_has_steps_of_its_own(root: Path, capsys: Any) -> None:
    north = {"slide_id": [*"ABC"], "label": ["x", "y", "x"], "patient_id": [*"ABC"]}
    paths = [f"{name}.tif" for name in "ABC"]
    pd.DataFrame({**north, "centre": "2", "path": paths}).to_csv("n.tsv", sep="\t", index=False)
    raw = {**CONFIG, "external": {"north": {"slides": {"sheet": "n.tsv"}}}}
    raw["tasks"] = {**raw["tasks"], "other": {"classes": ["x", "z"]}}
    raw["tasks"]["third"] = {"classes": ["u", "v"]}
    Path("c.yaml").write_text(yaml.safe_dump(raw))
    write(root / "external/north/tiles/A.h5", "1")
    write(root / "runs/xy/external/north/summary.json", "{}")
    stages = json.loads(status(capsys, "--json")[1])["stages"]
    counts = {(s["stage"], s["of"]): (s["total"], s["done"]) for s in stages}
    assert counts["tiles", "north"] == (3, 1)
    assert counts["features", "north, random_resnet"] == (3, 0)
    assert counts["external", "north"] == (2, 1)  # none of its slides is of the third task
    assert counts["tiles", ""] == (6, 3)
