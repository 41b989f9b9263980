"""The workflow on slides at addresses, fetched and dropped within a budget."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import paint
from made_s3 import BUCKET, Proxy, busy, cut, moto_address, s3, short, wrong

from wsi_ncmi.cohorts.sheet import bucket_of

__all__ = ["moto_address", "s3"]

BUCKETS = 4
KEY = "CAMELYON17/images/{}.tif"
BAGS = [f"results/small/features/random_resnet/bucket-{b}.tsv" for b in range(BUCKETS)]
SHEET = "slide_id\tpath\tlabel\tpatient_id\tcentre\tsha256"


def stored(s3: Proxy, folder: Path, count: int) -> dict[str, int]:
    """Sheet and MD5 list of `count` small slides on the server, and one that is not there; their
    sizes."""
    lines, sums, sizes = [SHEET], [], {}
    for i in range(count):
        name, drawn = f"slide_{i:02d}", folder / "drawn.tif"
        paint(drawn, i, coarse=i % 2 == 1)
        sums.append(f"{s3.put(KEY.format(name), drawn.read_bytes())}  images/{name}.tif")
        sizes[name] = drawn.stat().st_size
        drawn.unlink()
    for i, name in enumerate([*sizes, "gone"]):
        label = ("fine", "coarse")[i % 2]
        where = f"s3://{BUCKET}/{KEY.format(name)}"
        lines.append(f"{name}\t{where}\t{label}\tpatient_{i:02d}\tcentre_{i % 3}\t")
    (folder / "slides.tsv").write_text("\n".join(lines) + "\n")
    (folder / "checksums.md5").write_text("\n".join(sums) + "\n")
    return sizes


@pytest.fixture
def fetching(make_workflow: Any, s3: Proxy, tmp_path: Path) -> Callable[[int], Any]:
    """A workflow over slides at addresses, with room for half of them at a time."""

    def make(count: int) -> Any:
        workflow = make_workflow(tmp_path)
        for path in [*tmp_path.glob("*.tif"), *tmp_path.glob("*.svs")]:
            path.unlink()
        sizes = stored(s3, tmp_path, count)
        share = max(
            sum(size for name, size in sizes.items() if bucket_of(name, BUCKETS) == bucket)
            for bucket in range(BUCKETS)
        )
        assert 2 * share < sum(sizes.values())
        # More tries than a test has faults: all of them may meet the same slide.
        fetch = {"endpoint": s3.endpoint, "part_mb": 1, "tries": 5, "checksums": "checksums.md5"}
        fetch |= {"keep_slides": False, "disk_gb": 2 * share / 1e9}
        workflow.config["slides"]["fetch"] = fetch
        workflow.config["buckets"] = BUCKETS
        del workflow.config["tasks"]["side"]
        return workflow

    return make


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """Bytes of the slides below a folder, as often as they can be counted."""
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(sum(map(bytes_of, folder.rglob("*.tif*"))))
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def asked(s3: Proxy) -> int:
    """Requests for slides' bytes since the last call."""
    parts = len(s3.parts)
    s3.seen.clear()
    return parts


def states(workflow: Any) -> "pd.Series[str]":
    tables = (pd.read_csv(p, sep="\t") for p in workflow.results.glob("tiles/bucket-*.tsv"))
    return pd.concat(tables).set_index("slide_id").status


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
