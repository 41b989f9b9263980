"""A second cohort through the workflow: what is made of it, and that it trains nothing."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import add_slide, paint

HEAD = "slide_id\tpath\tlabel\tpatient_id\tcentre"
OWN = {"external_tiles", "external_features", "external_pack"}


def add_cohort(workflow: Any, name: str, first: int, count: int = 8) -> None:
    """Slides of its own, one of them empty; as the task `grade` has them."""
    folder = workflow.folder / name
    folder.mkdir()
    lines = [HEAD]
    for i in range(first, first + count):
        row = (f"{name}_{i}", ("fine", "coarse")[i % 2], f"{name}_{i // 2 * 2 + i % 2}", name)
        lines.append(add_slide(folder, *row, seed=i))
    paint(folder / "empty.tif", 99 + first, coarse=False, tissue=False)
    lines.append(f"empty_{name}\tempty.tif\tfine\t{name}_empty\t{name}")
    (folder / "slides.tsv").write_text("\n".join(lines) + "\n")
    workflow.config["external"] = {
        **workflow.config.get("external", {}),
        name: {"slides": {"sheet": f"{name}/slides.tsv"}},
    }


@pytest.fixture(scope="module")
def finished(make_workflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    workflow = make_workflow(tmp_path_factory.mktemp("external"))
    del workflow.config["tasks"]["side"]
    workflow.config["ignore_labels"] = ["left", "right"]
    workflow.config["attention"] = {"slides": 0}
    workflow.config["evaluation"] = {"bootstrap": 100}
    add_cohort(workflow, "north", 200)  # its empty slide is pixel by pixel that of the cohort
    workflow.run()
    return workflow


@pytest.fixture
def copy(finished: Any, tmp_path: Path) -> Callable[..., Any]:
    """A copy of the finished workflow, its times kept."""

    def make() -> Any:
        shutil.copytree(finished.folder, tmp_path / "copy")
        config = {**finished.config, "external": dict(finished.config["external"])}
        return dataclasses.replace(finished, folder=tmp_path / "copy", config=config)

    return make


def test_it_is_made_scored_and_reported(finished: Any) -> None:
    root = finished.results / "external/north"
    tiles = pd.concat(pd.read_csv(p, sep="\t") for p in root.glob("tiles/bucket-*.tsv"))
    assert tiles["status"].value_counts().to_dict() == {"ok": 8, "no_tissue": 1}
    out = finished.results / "runs/grade/external/north"
    scored = pd.read_parquet(out / "predictions.parquet")
    assert scored.groupby("run_id")["sample_id"].nunique().eq(8).all()
    assert scored["run_id"].nunique() == 4  # two arms in two folds
    missing = pd.read_csv(out / "missing.tsv", sep="\t")
    assert missing["slide_id"].tolist() == ["empty_north"]
    page = (finished.results / "report/index.html").read_text()
    assert "External validation: north" in page
    assert "On the external cohort north (8 samples of 8 patients)" in page


def test_nothing_runs_again_by_itself(finished: Any) -> None:
    os.utime(finished.folder / "north/slides.tsv")
    assert finished.plan() == {}


def test_a_label_of_it_runs_its_statistics_alone(copy: Any) -> None:
    workflow = copy()
    sheet = workflow.folder / "north/slides.tsv"
    sheet.write_text(sheet.read_text().replace("north_200.tif\tfine", "north_200.tif\tcoarse"))
    assert workflow.plan() == {"external": 1, "html_report": 1, "all": 1}


def test_another_cohort_trains_nothing(copy: Any) -> None:
    workflow = copy()
    add_cohort(workflow, "south", 300)
    plan = workflow.plan()
    assert set(plan) == {*OWN, "external", "html_report", "all"}
    assert plan["external"] == 1


def test_training_again_scores_again_and_tiles_nothing(copy: Any) -> None:
    workflow = copy()
    task = workflow.config["tasks"]["grade"]
    workflow.config["tasks"] = {"grade": {**task, "training": {**task["training"], "epochs": 4}}}
    plan = workflow.plan()
    assert plan["train"] == plan["external"] == 1
    assert not OWN & set(plan)


def test_slides_at_addresses_are_fetched_for_it_alone(copy: Any) -> None:
    workflow = copy()
    folder = workflow.folder / "east"
    folder.mkdir()
    labels = enumerate(("fine", "coarse"))
    lines = [f"e{i}\ts3://bucket/e{i}.tif\t{label}\te{i}\teast" for i, label in labels]
    (folder / "slides.tsv").write_text("\n".join([HEAD, *lines]) + "\n")
    fetch = {"disk_gb": 1, "keep_slides": False}
    workflow.config["external"]["east"] = {"slides": {"sheet": "east/slides.tsv", "fetch": fetch}}
    plan = workflow.plan()
    assert plan["external_fetch"] == plan["external_tiles"] == plan["external_features"]
    assert "fetch" not in plan


@pytest.mark.slow
def test_bags_are_imported_for_every_encoder_of_a_task(make_workflow: Any, tmp_path: Path) -> None:
    workflow = make_workflow(tmp_path)
    rng = np.random.default_rng(0)
    for cohort in ("own", "north"):
        rows = ["slide_id\tlabel\tpatient_id\tcentre"]
        for encoder in ("one", "two"):
            (tmp_path / cohort / encoder).mkdir(parents=True)
        for i in range(20):
            rows.append(f"{cohort}{i}\t{('fine', 'coarse')[i % 2]}\t{cohort}p{i}\t{cohort}")
            for encoder, dim in (("one", 8), ("two", 4)):
                with h5py.File(tmp_path / cohort / encoder / f"{cohort}{i}.h5", "w") as file:
                    file["features"] = rng.normal(i % 2, 1, (5, dim)).astype(np.float16)
                    file["coords"] = np.zeros((5, 2), np.int32)
        (tmp_path / f"{cohort}.tsv").write_text("\n".join(rows) + "\n")

    def given(cohort: str) -> dict[str, Any]:
        others = {"two": {"path": f"{cohort}/two", "format": "h5"}}
        where = {"path": f"{cohort}/one", "format": "h5", "sheet": f"{cohort}.tsv"}
        return {**where, "others": others}

    grade = {**workflow.config["tasks"]["grade"], "objectives": {"cross_entropy": {}}}
    config = {
        "cohort": "small",
        "bags": {**given("own"), "name": "one"},
        "external": {"north": {"bags": given("north")}},
        "tasks": {"grade": grade, "again": {**grade, "encoder": "two"}},
        "evaluation": {"bootstrap": 100, "centre_probe": False},
    }
    workflow = dataclasses.replace(workflow, config=config)
    workflow.run()
    page = (workflow.results / "report/index.html").read_text()
    assert "External validation: north, task again" in page
    assert workflow.plan() == {}
