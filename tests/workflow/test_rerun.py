"""Plan, run, rerun: what changes is computed again, and nothing else."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import fresh_path, paint

SLIDE_RULES = {"tiles", "features", "pack"}


@pytest.fixture(scope="module")
def finished(make_workflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The workflow after one whole run, whose jobs are processes of their own."""
    workflow = make_workflow(tmp_path_factory.mktemp("finished"))
    dataclasses.replace(workflow, path=fresh_path).run()
    return workflow


@pytest.fixture
def copy(finished: Any, tmp_path: Path) -> Callable[..., Any]:
    """A copy of the finished workflow, its times kept, with changes to its configuration."""

    def make(**changes: Any) -> Any:
        folder = tmp_path / "copy"
        shutil.copytree(finished.folder, folder)
        config = {**finished.config, **changes}
        return dataclasses.replace(finished, folder=folder, config=config)

    return make


def test_the_bare_command_plans_the_demo(root: Path, make_workflow: Any, tmp_path: Path) -> None:
    workflow = make_workflow(tmp_path)
    shutil.copytree(root / "config", tmp_path / "config")
    command = [sys.executable, "-m", "snakemake", "-s", str(root / "Snakefile"), "-n"]
    done = workflow.call([*command, "--directory", str(tmp_path)])
    assert done.returncode == 0, done.stderr
    plan = workflow.jobs(done.stdout + done.stderr)
    assert plan["demo_slides"] == 1
    assert plan["tiles"] == plan["features"] == 2
    assert plan["train"] == 3
    assert plan["html_report"] == 1


def test_the_report_stands_and_says_what_failed(finished: Any) -> None:
    page = (finished.results / "report" / "index.html").read_text()
    assert "no reader opens it" in page
    assert "empty" in page
    assert 'href="http://127.0.0.1:8484/#slide=broken"' in page  # the viewer
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://127.0.0.1:", "")
    tiles = pd.concat(pd.read_csv(p, sep="\t") for p in finished.results.glob("tiles/bucket-*.tsv"))
    status = tiles.set_index("slide_id").status
    assert status["empty"] == "no_tissue"
    assert status["broken"] == "unreadable"
    assert (status.drop(["empty", "broken"]) == "ok").all()


def test_every_good_slide_is_tested_once_per_arm(finished: Any) -> None:
    table = pd.read_parquet(finished.results / "runs/grade/evaluation/predictions.parquet")
    test = table[table.part == "test"].merge(
        pd.read_csv(finished.results / "runs/grade/evaluation/runs.tsv", sep="\t")[
            ["run_id", "objective"]
        ],
        on="run_id",
    )
    for _, rows in test.groupby("objective"):
        assert sorted(rows.sample_id) == [f"slide_{i:02d}" for i in range(10)]


def test_a_second_run_plans_nothing(finished: Any) -> None:
    assert finished.plan() == {}


def test_touching_the_sheet_and_saving_the_configuration_plans_nothing(copy: Any) -> None:
    workflow = copy()
    os.utime(workflow.folder / "slides.tsv")
    assert workflow.plan() == {}


def test_one_more_slide_runs_one_bucket_and_the_training_of_its_task(copy: Any) -> None:
    workflow = copy()
    paint(workflow.folder / "more.tif", 77, coarse=False)
    with (workflow.folder / "slides.tsv").open("a") as sheet:
        sheet.write("more\tmore.tif\tfine\tpatient_30\tcentre_0\n")
    plan = workflow.plan()
    assert plan["tiles"] == plan["features"] == plan["pack"] == 1
    assert plan["splits"] == plan["train"] == 1
    bags = workflow.results / "features" / "random_resnet"
    before = {p.name: p.stat().st_mtime_ns for p in bags.glob("*.h5")}
    other = workflow.results / "runs" / "side" / "seed-0.tsv"
    trained = other.stat().st_mtime_ns
    workflow.run()
    after = {p.name: p.stat().st_mtime_ns for p in bags.glob("*.h5")}
    assert set(after) - set(before) == {"more.h5"}
    assert {name: after[name] for name in before} == before
    assert other.stat().st_mtime_ns == trained
    assert workflow.plan() == {}


def test_another_learning_rate_reads_no_slide(copy: Any, finished: Any) -> None:
    grade = finished.config["tasks"]["grade"]
    changed = {**grade, "training": {**grade["training"], "learning_rate": 2e-3}}
    plan = copy(tasks={**finished.config["tasks"], "grade": changed}).plan()
    assert not SLIDE_RULES & set(plan)
    assert plan["train"] == 1
    assert "splits" not in plan


def test_another_seed_trains_only_that_seed(copy: Any, finished: Any) -> None:
    grade = {**finished.config["tasks"]["grade"], "seeds": [0, 1]}
    plan = copy(tasks={**finished.config["tasks"], "grade": grade}).plan()
    assert plan["train"] == 1
    assert not SLIDE_RULES & set(plan)


def test_another_tile_size_reads_every_slide_again(copy: Any) -> None:
    plan = copy(tiling={"mpp": 2.0, "tile_px": 96}).plan()
    assert plan["tiles"] == plan["features"] == 2
    assert plan["train"] == 2


def test_a_replaced_slide_is_read_again_and_its_task_trained(copy: Any) -> None:
    workflow = copy()
    paint(workflow.folder / "slide_00.tif", 77, coarse=False)
    plan = workflow.plan()
    assert plan["tiles"] == plan["features"] == 1
    assert plan["train"] == 1
    bag = workflow.results / "features/random_resnet/slide_00.h5"
    old = bag.read_bytes()
    workflow.run("results/small/cache/random_resnet/index.tsv")
    assert bag.read_bytes() != old


def with_another_encoder(workflow: Any) -> Any:
    """The same with another encoder, and a task on it."""
    first = workflow.config["extraction"]
    others = {"second": {"options": {**first["options"], "seed": 1}}}
    tasks = workflow.config["tasks"]
    config = {**workflow.config, "extraction": {**first, "others": others}}
    config["tasks"] = {**tasks, "again": {**tasks["grade"], "encoder": "second"}}
    return dataclasses.replace(workflow, config=config)


@pytest.mark.slow
def test_another_encoder_makes_its_bags_and_its_task_alone(copy: Any) -> None:
    alone = copy()
    workflow = with_another_encoder(alone)
    assert workflow.plan() == {
        "features": 2,
        "pack": 1,
        "splits": 1,
        "train": 1,
        "evaluate": 1,
        "attention": 1,
        "html_report": 1,
        "all": 1,
    }
    bags = workflow.results / "features"
    before = {path: path.stat().st_mtime_ns for path in bags.glob("random_resnet/*.h5")}
    workflow.run()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(bags.glob("second/*.h5"))) == len(before) == 20
    assert workflow.plan() == {}
    page = (workflow.results / "report" / "index.html").read_text()
    assert "Trained on the features of second." in page
    assert "What made the features of random_resnet." in page
    assert "features, second" in page  # in what it took
    run = next((workflow.results / "runs" / "again").glob("*/run.json"))
    assert '"encoder": "second"' in run.read_text()
    # It is left out again: what it made lies there, and nothing but the report is written.
    assert alone.plan() == {"html_report": 1, "all": 1}


def made(workflow: Any) -> dict[str, Any]:
    """Tile files, bags and bags' manifests, by name."""
    folders = [workflow.results / "tiles", workflow.results / "features" / "random_resnet"]
    files = [*folders[0].glob("*.h5"), *folders[1].glob("*.h5")]
    found = {str(f.relative_to(workflow.results)): f.stat().st_mtime_ns for f in files}
    manifests = {f.name: f.read_text() for f in folders[1].glob("bucket-*.tsv")}
    return {**found, **manifests}


def tile_rows(workflow: Any) -> pd.DataFrame:
    tables = workflow.results.glob("tiles/bucket-*.tsv")
    found = pd.concat(pd.read_csv(p, sep="\t", keep_default_na=False) for p in tables)
    return found.set_index("slide_id")


@pytest.mark.slow
def test_slides_that_are_put_away_keep_what_is_finished(copy: Any) -> None:
    workflow = copy()
    away = [workflow.folder / f"{name}.tif" for name in ("slide_00", "slide_01", "empty")]
    for path in away:
        path.rename(path.with_suffix(".away"))
    before = made(workflow)
    assert workflow.plan() == {}
    bags = [f"results/small/features/random_resnet/bucket-{b}.tsv" for b in (0, 1)]
    workflow.run(*bags, "--forcerun", "tiles")
    assert made(workflow) == before
    rows = tile_rows(workflow)
    assert list(rows.loc[["slide_00", "slide_01", "empty"], "status"]) == ["ok", "ok", "no_tissue"]
    assert rows.unreachable["slide_00"] == "slide_00.tif: no such file"
    assert rows.unreachable["slide_02"] == ""
    assert workflow.plan(*bags) == {}
    # Heatmaps are drawn without the slides.
    folder = workflow.results / "runs/grade/attention"
    workflow.run("results/small/runs/grade/attention/summary.json", "--forcerun", "attention")
    drawn = {path.name for path in (folder / "heatmaps").glob("*.png")}
    strips = {path.name for path in (folder / "tiles").glob("*.png")}
    assert {name.split("--")[0] for name in drawn - strips} == {"slide_00", "slide_01"}
    # And back again.
    for path in away:
        path.with_suffix(".away").rename(path)
    assert workflow.plan(*bags) == {}
    assert made(workflow) == before


def test_an_address_that_cannot_be_reached_is_tried_again(copy: Any) -> None:
    workflow = copy()
    sheet = workflow.folder / "slides.tsv"
    known = sheet.read_text()
    sheet.write_text(f"{known}far\tmemory://nowhere/far.tif\t\tpatient_30\tcentre_0\n")
    index = "results/small/cache/random_resnet/index.tsv"
    workflow.run(index)
    row = tile_rows(workflow).loc["far"]
    assert (row.status, row.reason) == ("unreachable", "far.tif: no such file")
    plan = workflow.plan()
    assert plan["tiles"] == plan["features"] == plan["pack"] == 1
    paint(workflow.folder / "far.tif", 78, coarse=False)
    sheet.write_text(f"{known}far\tfar.tif\t\tpatient_30\tcentre_0\n")
    workflow.run(index)
    assert tile_rows(workflow).status["far"] == "ok"
    assert (workflow.results / "features/random_resnet/far.h5").is_file()
    assert workflow.plan(index) == {}


def test_a_slide_that_is_not_finished_must_be_there(copy: Any) -> None:
    workflow = copy()
    (workflow.folder / "slide_00.tif").unlink()
    (workflow.results / "features/random_resnet/slide_00.h5").unlink()
    done = workflow.snakemake("--dry-run")
    assert done.returncode == 1
    assert "path slide_00.tif: no such file" in done.stdout + done.stderr


def test_an_imported_cohort_needs_no_slides(copy: Any) -> None:
    workflow = copy()
    sheet = (workflow.folder / "slides.tsv").read_text().splitlines()
    kept = [line.split("\t") for line in sheet]
    (workflow.folder / "bags.tsv").write_text(
        "\n".join("\t".join([*row[:1], *row[2:]]) for row in kept) + "\n"
    )
    bags = {k: workflow.config[k] for k in ("tasks", "evaluation", "buckets")}
    folder = str(workflow.results / "features" / "random_resnet")
    config = {
        "cohort": "imported",
        "bags": {"path": folder, "format": "h5", "sheet": "bags.tsv"},
        **bags,
    }
    imported = dataclasses.replace(workflow, config=config)
    plan = imported.plan()
    assert plan["import_bags"] == 1
    assert not {"tiles", "features", "attention"} & set(plan)
    imported.run()
    page = (imported.results / "report" / "index.html").read_text()
    assert "broken.h5: no such file" in page
    assert imported.plan() == {}
    os.utime(workflow.results / "features/random_resnet/slide_00.h5")
    plan = imported.plan()
    assert plan["import_bags"] == plan["train"] == 1


def test_the_snakemake_report_holds_figures_and_captions(copy: Any) -> None:
    workflow = copy()
    workflow.run("--report", "report.html")
    page = (workflow.folder / "report.html").read_text()
    assert "macro_f1.png" in page
    assert "bootstrap" in page.lower() or "resampl" in page.lower()
