"""Everything wrong with a configuration and its sheet is said at once, before any job."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def workflow(make_workflow: Any, tmp_path: Path) -> Any:
    return make_workflow(tmp_path)


def refusal(workflow: Any) -> str:
    done = workflow.snakemake()
    assert done.returncode != 0
    assert not (workflow.folder / "results").exists()
    return done.stdout + done.stderr


def test_problems_of_configuration_are_reported_together(workflow: Any) -> None:
    workflow.config["tilling"] = {}
    workflow.config["buckets"] = "many"
    workflow.config["tasks"]["grade"]["seeds"] = [0.5]
    text = refusal(workflow)
    assert "3 problem(s)" in text
    assert "tilling: unknown key" in text
    assert "buckets: Input should be a valid integer" in text
    assert "tasks.grade.seeds.0" in text


def test_problems_of_parts_and_sheet_are_reported_together(workflow: Any) -> None:
    workflow.config["tasks"]["grade"]["aggregators"] = {"abmill": {}}
    workflow.config["tasks"]["side"]["objectives"] = {
        "cross_entropy": {},
        "ncmi": {"options": {"tau": 0.2}},
    }
    workflow.config["extraction"]["weights"] = "missing.pth"
    sheet = workflow.folder / "slides.tsv"
    sheet.write_text(
        sheet.read_text()
        + "slide_00\tslide_00.tif\tfine\tpatient_00\tcentre_0\n"
        + "gone\tgone.tif\tfine\tpatient_40\tcentre_0\n"
        + "typo\tslide_01.tif\tfien\tpatient_41\tcentre_0\n"
    )
    text = refusal(workflow)
    assert "unknown aggregator 'abmill', expected one of abmil, acmil, aem, " in text
    assert "tasks.side.objectives.ncmi.options" in text
    assert "unknown option 'tau', expected one of" in text
    assert "extraction.weights: missing.pth: no such file" in text
    assert "slide_id 'slide_00' stands in rows 2, 24" in text
    assert "slides.tsv row 25: path gone.tif: no such file" in text
    assert "1 slide(s) have an unknown label: 'fien' of 1 (first: typo)" in text


def test_an_empty_source_is_refused(workflow: Any) -> None:
    del workflow.config["slides"]
    assert "give exactly one of demo, slides, bags, images: found none" in refusal(workflow)
