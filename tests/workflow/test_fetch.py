"""The workflow on slides at addresses, fetched and dropped within a budget."""

import json
import os
import signal
import subprocess
import time
from typing import Any

import pytest
from conftest import paint
from made_fetching import BAGS, BUCKETS, KEY, asked, fetching, states, watched
from made_s3 import BUCKET, Proxy, busy, cut, moto_address, s3, short, wrong

__all__ = ["fetching", "moto_address", "s3"]


def test_a_bucket_waits_for_the_one_before_it(fetching: Any) -> None:
    workflow = fetching(8)
    done = workflow.snakemake(*BAGS, "--dry-run")
    assert done.returncode == 0, done.stderr
    plan = workflow.jobs(done.stdout + done.stderr)
    assert plan == {"fetch": 4, "tiles": 4, "features": 4}
    blocks = [block.split("output:")[0] for block in done.stdout.split("rule fetch:")[1:]]
    assert sum("input:" in block for block in blocks) == 2  # buckets 2 and 3 wait for 0 and 1
    assert sum("bucket-0.tsv" in block for block in blocks) == 1


@pytest.mark.slow
def test_slides_come_and_go_to_the_report(fetching: Any, s3: Proxy) -> None:
    workflow = fetching(10)
    s3.faults = [cut, busy, short, wrong]
    budget = workflow.config["slides"]["fetch"]["disk_gb"] * 1e9
    slides = workflow.results / "slides"
    with watched(slides) as used:
        workflow.run()
    assert 0 < max(used) <= budget
    assert list(slides.rglob("*.tif*")) == []
    assert asked(s3) >= 10 + 3
    assert len(list(workflow.results.glob("features/random_resnet/slide_*.h5"))) == 10
    found = states(workflow)
    assert (found.drop("gone") == "ok").all()
    page = (workflow.results / "report" / "index.html").read_text()
    assert f"s3://{BUCKET}/{KEY.format('gone')}: no such object" in page
    # The most attended tiles are read by ranges, where the slides are.
    summary = json.loads((workflow.results / "runs/grade/attention/summary.json").read_text())
    assert not any("could not be reached" in text for text in summary)
    strips = list((workflow.results / "runs/grade/attention/tiles").glob("*.png"))
    assert len(strips) == len(
        list((workflow.results / "runs/grade/attention/heatmaps").glob("*.png"))
    )
    # The slide that was not there is tried again, alone.
    workflow.run(*BAGS)
    assert asked(s3) == 0
    assert (states(workflow).drop("gone") == "ok").all()
    assert "not fetched again" not in page
    # It comes; nothing more is to be done then.
    drawn = workflow.folder / "drawn.tif"
    paint(drawn, 99, coarse=False)
    s3.put(KEY.format("gone"), drawn.read_bytes())
    workflow.run()
    assert asked(s3) >= 1
    assert (states(workflow) == "ok").all()
    assert workflow.plan() == {}
    # Slides that are gone from their address too are a normal state.
    s3.faults = [busy] * 10_000
    workflow.run("results/small/runs/grade/attention/summary.json", "--forcerun", "attention")
    summary = json.loads((workflow.results / "runs/grade/attention/summary.json").read_text())
    assert any("could not be reached" in text for text in summary)


@pytest.mark.slow
def test_a_killed_run_goes_on_within_the_budget(fetching: Any, s3: Proxy) -> None:
    workflow = fetching(10)
    budget = workflow.config["slides"]["fetch"]["disk_gb"] * 1e9
    slides = workflow.results / "slides"
    process = subprocess.Popen(
        workflow.command(*BAGS),
        cwd=workflow.folder,
        env=workflow.killable,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    bags = workflow.results / "features" / "random_resnet"
    while process.poll() is None and not list(bags.glob("slide_*.h5")):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(slides.rglob("*.tif"))
    # In other buckets now: what lies there is none of theirs.
    workflow.config["buckets"] = 2 * BUCKETS
    with watched(slides) as used:
        workflow.run("results/small/cache/random_resnet/index.tsv", "--unlock")
        workflow.run("results/small/cache/random_resnet/index.tsv")
    assert max(used) <= budget
    assert (states(workflow).drop("gone") == "ok").all()
    assert list(slides.rglob("*.tif*")) == []
