"""A workflow over slides at addresses of a local S3 server, with room for half of them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import paint
from made_s3 import BUCKET, Proxy

from wsi_ncmi.cohorts.sheet import bucket_of

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
