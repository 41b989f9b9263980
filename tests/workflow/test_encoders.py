"""Two encoders of slides that are fetched and dropped: once for both, whatever is killed."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from made_fetching import BUCKETS, asked, fetching, states, watched
from made_s3 import Proxy, moto_address, s3

__all__ = ["fetching", "moto_address", "s3"]

SECOND = "second"
FIRST = "random_resnet"
INDEXES = [f"results/small/cache/{encoder}/index.tsv" for encoder in (FIRST, SECOND)]
SEEDS = [f"results/small/runs/{task}/seed-0.tsv" for task in ("grade", "again")]


def add_second(workflow: Any) -> None:
    """Another encoder, and a task on it."""
    first = workflow.config["extraction"]
    first["others"] = {SECOND: {"options": {**first["options"], "seed": 1}}}
    tasks = workflow.config["tasks"]
    tasks["again"] = {**tasks["grade"], "encoder": SECOND}


def bags(workflow: Any, encoder: str) -> dict[str, int]:
    """Slide -> when its bag was written."""
    found = workflow.results.glob(f"features/{encoder}/slide_*.h5")
    return {path.stem: path.stat().st_mtime_ns for path in found}


def copies(workflow: Any) -> list[Path]:
    return list((workflow.results / "slides").rglob("*.tif*"))


@pytest.mark.slow
def test_one_fetch_serves_both(fetching: Any, s3: Proxy) -> None:
    workflow = fetching(10)
    add_second(workflow)
    budget = workflow.config["slides"]["fetch"]["disk_gb"] * 1e9
    with watched(workflow.results / "slides") as used:
        workflow.run(*INDEXES)
    assert 0 < max(used) <= budget
    assert copies(workflow) == []
    assert asked(s3) == 10
    assert len(bags(workflow, FIRST)) == len(bags(workflow, SECOND)) == 10
    # The slide that was not there is tried again by both, and no other slide is fetched.
    plan = workflow.plan(*INDEXES)
    assert plan == {"fetch": 1, "tiles": 1, "features": 2, "pack": 2}
    workflow.run(*INDEXES)
    assert asked(s3) == 0
    assert (states(workflow).drop("gone") == "ok").all()


@pytest.mark.slow
def test_an_encoder_that_is_added_fetches_again_and_nothing_else_is_made(
    fetching: Any, s3: Proxy
) -> None:
    workflow = fetching(10)
    sheet = workflow.folder / "slides.tsv"
    there = [line for line in sheet.read_text().splitlines() if not line.startswith("gone")]
    sheet.write_text("\n".join(there) + "\n")
    workflow.run(SEEDS[0])
    assert asked(s3) == 10
    before, tiles = bags(workflow, FIRST), made_tiles(workflow)
    trained = (workflow.folder / SEEDS[0]).stat().st_mtime_ns
    add_second(workflow)
    plan = workflow.plan(*SEEDS)  # jobs of buckets start together, and keep what is finished
    assert (plan["fetch"], plan["features"], plan["train"]) == (BUCKETS, 2 * BUCKETS, 1)
    workflow.run(*SEEDS)
    assert asked(s3) == 10
    assert copies(workflow) == []
    assert bags(workflow, FIRST) == before
    assert made_tiles(workflow) == tiles
    assert set(bags(workflow, SECOND)) == set(before)
    assert workflow.plan(*SEEDS) == {}
    assert trained == (workflow.folder / SEEDS[0]).stat().st_mtime_ns
    # It is left out again: nothing is fetched, made or trained.
    del workflow.config["tasks"]["again"], workflow.config["extraction"]["others"]
    assert "train" not in workflow.plan(SEEDS[0])
    workflow.run(SEEDS[0])
    assert asked(s3) == 0
    assert bags(workflow, FIRST) == before


def made_tiles(workflow: Any) -> dict[str, int]:
    found = workflow.results.glob("tiles/slide_*.h5")
    return {path.stem: path.stat().st_mtime_ns for path in found}


@pytest.mark.slow
def test_a_kill_between_the_encoders_fetches_nothing_twice(fetching: Any, s3: Proxy) -> None:
    workflow = fetching(10)
    add_second(workflow)
    command = workflow.command(*INDEXES)
    command[command.index("--cores") + 1] = "1"  # one encoder after the other
    process = subprocess.Popen(
        command,
        cwd=workflow.folder,
        env=workflow.killable,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not half_done(workflow):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (bucket,) = half_done(workflow)
    assert copies(workflow), "the other encoder is still to read them"
    before = {encoder: bags(workflow, encoder) for encoder in (FIRST, SECOND)}
    workflow.run(*INDEXES, "--unlock")
    workflow.run(*INDEXES)
    assert asked(s3) == 10
    assert copies(workflow) == []
    for encoder, known in before.items():
        after = bags(workflow, encoder)
        assert len(after) == 10
        assert {name: after[name] for name in known} == known
    assert (states(workflow).drop("gone") == "ok").all(), bucket


def half_done(workflow: Any) -> set[str]:
    """Buckets of which one encoder has made the bags."""
    first, second = (
        {path.name for path in workflow.results.glob(f"features/{encoder}/bucket-*.tsv")}
        for encoder in (FIRST, SECOND)
    )
    return first ^ second
