"""A run that is killed loses nothing and leaves nothing: its rerun gives the same bytes."""

import dataclasses
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import fresh_path

WAIT_SECONDS = 120


def wait_for(folder: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until `count` bags stand in a folder and the process still runs."""
    deadline = time.monotonic() + WAIT_SECONDS
    while len(list(folder.glob("*.h5"))) < count:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "no bag was written"
        time.sleep(0.002)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.h5"))}


@pytest.fixture(scope="module")
def workflow(make_workflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = make_workflow(tmp_path_factory.mktemp("killed"))
    # A larger network, so that there is time to kill it between two bags.
    made.config["extraction"]["options"] = {"architecture": "resnet18", "input_px": 64}
    return made


@pytest.fixture(scope="module")
def whole(make_workflow: Any, workflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The bags of a run that nobody interrupted."""
    other = make_workflow(tmp_path_factory.mktemp("whole"))
    other.config.update(workflow.config)
    other.run("results/small/cache/random_resnet/index.tsv")
    return contents(other.results / "features" / "random_resnet")


def test_kill_9_during_extraction(workflow: Any, whole: dict[str, bytes]) -> None:
    target = "results/small/cache/random_resnet/index.tsv"
    killed = dataclasses.replace(workflow, path=fresh_path)  # its jobs are of its group
    bags = workflow.results / "features" / "random_resnet"
    process = subprocess.Popen(
        killed.command(target),
        cwd=workflow.folder,
        env=killed.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(bags, 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    survived = contents(bags)
    assert 3 <= len(survived) < len(whole)
    kept = {name: (bags / name).stat().st_mtime_ns for name in survived}
    workflow.run("--unlock")
    workflow.run(target)
    assert contents(bags) == whole
    assert {name: (bags / name).stat().st_mtime_ns for name in kept} == kept
    assert not list(workflow.folder.rglob("*.part"))


def test_a_half_written_bag_is_never_taken_for_whole(
    workflow: Any, whole: dict[str, bytes]
) -> None:
    bags = workflow.results / "features" / "random_resnet"
    victim = bags / "slide_04.h5"
    victim.write_bytes(whole["slide_04.h5"][: len(whole["slide_04.h5"]) // 2])
    workflow.run("results/small/cache/random_resnet/index.tsv", "--forcerun", "features")
    assert contents(bags) == whole


def test_a_slide_that_vanishes_is_a_row_with_a_reason(workflow: Any) -> None:
    (workflow.folder / "slide_05.tif").rename(workflow.folder / "away.tif")
    manifest = workflow.folder / "manifest.tsv"
    arguments = ["tiles", "--sheet", "slides.tsv", "--options", "{mpp: 2.0, tile_px: 64}"]
    arguments += ["--out", "elsewhere", "--manifest", str(manifest)]
    done = workflow.call(workflow.stage(*arguments))
    (workflow.folder / "away.tif").rename(workflow.folder / "slide_05.tif")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split("\t")[:2] for line in manifest.read_text().splitlines())
    assert rows["slide_05"] == "unreachable"
    assert rows["slide_06"] == "ok"
