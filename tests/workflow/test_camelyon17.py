"""config/camelyon17.yaml plans all 500 slides from a label file alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest

SHEET = ("sheet", "camelyon17", "--version", "challenge", "--reason", "why", "--labels")
STAGES = ("negative", "negative", "negative", "itc", "micro", "macro")


@pytest.fixture
def workflow(make_workflow: Any, root: Path, tmp_path: Path) -> Any:
    made = make_workflow(tmp_path)
    shutil.copytree(root / "config", tmp_path / "config")
    names = [f"patient_{p:03d}_node_{n}" for p in range(100) for n in range(5)]
    lines = [f"{name}.tif,{STAGES[i % len(STAGES)]}" for i, name in enumerate(names)]
    (tmp_path / "stages.csv").write_text("\n".join(["patient,stage", *lines]) + "\n")
    return made


def test_the_dry_run_plans_every_slide(workflow: Any) -> None:
    done = workflow.call(workflow.stage(*SHEET, "stages.csv", "--out", "config/camelyon17.tsv"))
    assert done.returncode == 0, done.stderr
    assert "500 slides" in done.stdout
    command = [*workflow.command("--dry-run")[:-1], "config/camelyon17.yaml"]
    done = workflow.call(command)
    assert done.returncode == 0, done.stdout + done.stderr
    plan = workflow.jobs(done.stdout + done.stderr)
    assert plan["tiles"] == plan["features"] == 16
    assert plan["train"] == 10
    assert plan["splits"] == plan["evaluate"] == plan["attention"] == 2


def test_a_command_that_fails_says_why_without_a_traceback(workflow: Any) -> None:
    done = workflow.call(workflow.stage(*SHEET, "missing.csv", "--out", "x.tsv"))
    assert done.returncode == 1
    assert "missing.csv: no such label file" in done.stderr
    assert "Traceback" not in done.stderr
