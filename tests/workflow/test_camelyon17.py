"""CAMELYON-17 is planned from a label file alone, with its slides or with published features."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
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
    assert plan["fetch"] == plan["tiles"] == 16
    assert (plan["features"], plan["pack"]) == (32, 2)  # ResNet-50 and UNI
    assert plan["train"] == 20
    assert plan["splits"] == plan["evaluate"] == plan["attention"] == 4
    # Without UNI, as the file says it.
    without = "extraction: {others: {uni: null}}\ntasks: {loco-uni: null, p1-uni: null}\n"
    (workflow.folder / "no-uni.yaml").write_text(without)
    done = workflow.call([*command, "no-uni.yaml"])
    assert done.returncode == 0, done.stdout + done.stderr
    plan = workflow.jobs(done.stdout + done.stderr)
    assert (plan["features"], plan["pack"], plan["train"]) == (16, 1, 10)


@pytest.mark.slow
def test_a_dozen_slides_come_through_a_network_that_fails(
    workflow: Any, root: Path, tmp_path: Path
) -> None:
    """`make camelyon17-small` in small: two patients of each centre, to the packed bags."""
    patients = [20 * centre + patient for centre in range(5) for patient in (1, 2)]
    names = [f"patient_{patient:03d}_node_0" for patient in patients]
    rows = [f"{name}.tif,{STAGES[i % len(STAGES)]}" for i, name in enumerate(names)]
    # Annotated, as patient_041_node_0 is.
    rows += ["patient_004_node_4.tif,macro", "patient_099_node_4.tif,micro"]
    (tmp_path / "dozen.csv").write_text("\n".join(["patient,stage", *rows]) + "\n")
    bucket, out = tmp_path / "CAMELYON17", tmp_path / "camelyon17-small"
    demo = ["camelyon17", "demo", "--labels", "dozen.csv", "--slides", "12", "--out", str(bucket)]
    done = workflow.call(workflow.stage(*demo, "--threads", "2"))
    assert done.returncode == 0, done.stderr
    script = [
        sys.executable,
        str(root / "tests" / "camelyon17" / "small.py"),
        "--cores",
        "2",
        "--room",
        "0.6",
    ]
    script += ["--room", "0.6", "--bucket", str(bucket), "--out", str(out)]
    encoders = ("random_resnet", "random_resnet_1")
    for encoder in encoders:
        script += ["--target", str(out / "cache" / encoder / "index.tsv")]
    done = subprocess.run(
        script, cwd=tmp_path, env=workflow.killable, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((out / "fetch.json").read_text())
    assert found["slides"] == 12
    assert found["bags"] == dict.fromkeys(encoders, 12)
    assert found["killed_half_way"]
    assert 0 < found["most_bytes_on_disk"] <= found["disk_budget_bytes"] < found["slides_bytes"]
    assert (found["faults_met"]["short"], found["faults_met"]["wrong"]) == (1, 1)
    sheet = (out / "slides.tsv").read_text()
    assert sheet.count("s3://camelyon-dataset/CAMELYON17/annotations/") == 3


def test_published_features_are_enough(workflow: Any, tmp_path: Path) -> None:
    done = workflow.call(workflow.stage(*SHEET, "stages.csv", "--out", "config/camelyon17.tsv"))
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "feats.h5", "w") as file:
        for i in range(500):
            group = file.create_group(f"patient_{i // 5:03d}_node_{i % 5}")
            group["feat"] = np.full((1, 8), i, np.float16)
            group["coords"] = np.zeros((1, 2), np.int64)
            group.attrs["label"] = ("negative", "itc", "micro", "macro").index(
                STAGES[i % len(STAGES)]
            )
    where = ["--sheet", "config/camelyon17.tsv", "--out", "camelyon17-ssl-vit-s16.h5"]
    done = workflow.call(workflow.stage("bags", "import", "feats.h5", "--layout", "aem", *where))
    assert done.returncode == 0, done.stderr
    told = "0 is negative, 1 is itc, 2 is micro, 3 is macro; 0 slide(s) differ"
    assert told in done.stdout
    for name, seeds in (("camelyon17-bags", 10), ("camelyon17-p1", 5)):
        done = workflow.call([*workflow.command("--dry-run")[:-1], f"config/{name}.yaml"])
        assert done.returncode == 0, done.stdout + done.stderr
        plan = workflow.jobs(done.stdout + done.stderr)
        assert (plan["import_bags"], plan["train"]) == (1, seeds)
        assert "tiles" not in plan


def test_a_command_that_fails_says_why_without_a_traceback(workflow: Any) -> None:
    done = workflow.call(workflow.stage(*SHEET, "missing.csv", "--out", "x.tsv"))
    assert done.returncode == 1
    assert "missing.csv: no such label file" in done.stderr
    assert "Traceback" not in done.stderr
