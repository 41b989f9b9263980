"""`--sdm apptainer`: the image that jobs run in."""

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import fresh_path
from workflow.test_search import CONFIG, write_bags


@pytest.fixture
def workflow(make_workflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    program = tmp_path / "programs" / "apptainer"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo apptainer version 1.3.4\n')
    program.chmod(0o755)
    workflow = make_workflow(tmp_path)
    workflow.config.clear()
    workflow.config.update(CONFIG)
    write_bags(tmp_path)
    monkeypatch.setattr(type(workflow), "environment", {**os.environ, "PATH": _path(program)})
    return workflow


def _path(program: Path) -> str:
    return f"{program.parent}{os.pathsep}{fresh_path()}"


def test_an_image_that_is_not_there(workflow: Any, tmp_path: Path) -> None:
    done = workflow.snakemake("--dry-run", "--sdm", "apptainer")
    assert done.returncode == 1
    assert "wsi-ncmi.sif: no such container image: build it" in done.stdout + done.stderr
    (tmp_path / "wsi-ncmi.sif").touch()
    assert workflow.plan("--sdm", "apptainer")["import_bags"] == 1


def test_the_address_of_an_image(workflow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "docker://registry.example/wsi-ncmi:1"
    monkeypatch.setattr(
        type(workflow), "environment", {**workflow.environment, "WSI_NCMI_IMAGE": address}
    )
    said = workflow.run("--dry-run", "--sdm", "apptainer")
    assert f"Singularity image {address} will be pulled" in said
