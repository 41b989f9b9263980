"""Stage `fetch`: the slides of a bucket, its room on the disk, kills."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_s3 import BUCKET, Proxy, moto_address, s3, slow

from wsi_ncmi.cohorts.sheet import SlideRow, write_sheet
from wsi_ncmi.config import Fetch, Tiling
from wsi_ncmi.errors import UserError
from wsi_ncmi.fetch.places import localised, readable, reasons
from wsi_ncmi.stages import fetch as stage
from wsi_ncmi.tiling.finished import Finished

__all__ = ["moto_address", "s3"]

BODY = np.random.default_rng(1).bytes(3_400_000)
ROW = SlideRow("a", "x", "p", "c", f"s3://{BUCKET}/images/a.ome.tif")


def settings(s3: Proxy, **keys: Any) -> Fetch:
    return Fetch.model_validate({"endpoint": s3.endpoint, "part_mb": 1, "tries": 2, **keys})


def written(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def parts_in(journal: Path) -> int:
    """Parts that are noted after the first line, which says what is fetched."""
    return journal.read_text().count("\n") - 1 if journal.is_file() else 0


def test_a_bucket_comes_and_goes(s3: Proxy, tmp_path: Path) -> None:
    md5 = s3.put("images/a.ome.tif", BODY)
    (tmp_path / "sums").write_text(f"{md5}  images/a.ome.tif\n")
    local = SlideRow("b", "x", "q", "c", str(tmp_path / "b.tif"))
    gone = replace(ROW, slide_id="gone", path=f"s3://{BUCKET}/images/gone.tif")
    rows, folder, manifest = [gone, local, ROW], tmp_path / "slides", tmp_path / "slides.tsv"
    used = settings(s3, checksums=str(tmp_path / "sums"))
    stage.run(rows, used, folder, manifest)
    assert (folder / "a.ome.tif").read_bytes() == BODY
    first, second = written(manifest)
    assert first == {
        "slide_id": "a",
        "status": "fetched",
        "reason": "",
        "bytes": "3400000",
        "checked": "md5",
    }
    assert (second["slide_id"], second["status"]) == ("gone", "unreachable")
    assert "images/gone.tif: no such object" in second["reason"]
    assert list(reasons(manifest)) == ["gone"]
    paths = [row.path for row in localised(rows, folder)]
    assert paths == [str(folder / "gone.tif"), local.path, str(folder / "a.ome.tif")]
    s3.seen.clear()
    stage.run(rows, used, folder, manifest)
    assert s3.parts == []  # what is there is kept
    (folder / "other.tif").write_bytes(b"of another bucket")
    stage.drop(rows, folder)
    assert [p.name for p in folder.iterdir()] == ["other.tif"]


def test_slides_beyond_their_room_are_not_begun(s3: Proxy, tmp_path: Path) -> None:
    s3.put("images/a.ome.tif", BODY)
    tight = settings(s3, keep_slides=False, disk_gb=0.006)
    with pytest.raises(UserError, match=r"1 slides of one bucket take 0\.0034 GB, and its share"):
        stage.run([ROW], tight, tmp_path / "slides", tmp_path / "slides.tsv")
    assert s3.parts == []
    enough = settings(s3, keep_slides=False, disk_gb=0.006, buckets_at_once=1)
    stage.run([ROW], enough, tmp_path / "slides", tmp_path / "slides.tsv")
    assert (tmp_path / "slides" / "a.ome.tif").is_file()


def test_a_killed_fetch_goes_on(s3: Proxy, tmp_path: Path) -> None:
    s3.put("images/a.ome.tif", BODY)
    s3.faults = [slow] * 4
    write_sheet([ROW], tmp_path / "sheet.tsv")
    used = settings(s3, connections=1)
    options = ["--sheet", "sheet.tsv", "--options", used.model_dump_json(), "--slides", "slides"]
    command = [sys.executable, "-m", "wsi_ncmi.cli", "fetch", *options, "--manifest", "m.tsv"]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    journal = tmp_path / "slides" / ".a.ome.tif.parts"
    while process.poll() is None and not (
        journal.is_file() and journal.read_text().count("\n") > 2
    ):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "slides" / "a.ome.tif").exists()
    done = parts_in(journal)
    assert 2 <= done < 4
    s3.seen.clear()
    s3.faults = []
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert len(set(s3.parts)) == 4 - done  # what was asked for before the kill may still be counted
    assert (tmp_path / "slides" / "a.ome.tif").read_bytes() == BODY


def test_finished_slides_are_not_fetched_again(s3: Proxy, tmp_path: Path) -> None:
    """Nor is anything asked about them; what is unfinished, or asked for otherwise, is fetched."""
    rows = [replace(ROW, slide_id=name, path=f"s3://{BUCKET}/images/{name}.tif") for name in "abcd"]
    for name in "abcd":
        s3.put(f"images/{name}.tif", BODY)
    folders = tmp_path / "tiles", tmp_path / "bags"
    for name in ("tiles/a", "tiles/b", "tiles/c", "bags/a", "bags/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.h5").touch()
    states = ["a\tok", "b\tno_tissue", "c\tok", "d\tunreachable"]
    (tmp_path / "made.tsv").write_text("\n".join(["slide_id\tstatus", *states]) + "\n")
    finished = Finished(tmp_path / "record.json", Tiling(), "resnet", *folders)
    stage.drop(rows, tmp_path / "slides", finished, tmp_path / "made.tsv")
    (tmp_path / "bags" / "c.h5").unlink()

    def fetched(finished: Finished) -> list[str]:
        stage.run(rows, settings(s3), tmp_path / "slides", tmp_path / "m.tsv", [finished])
        found = written(tmp_path / "m.tsv")
        assert all("its bag is finished" in r["reason"] for r in found if r["status"] == "finished")
        stage.drop(rows, tmp_path / "slides")
        return [row["slide_id"] for row in found if row["status"] == "fetched"]

    assert fetched(finished) == ["c", "d"]
    assert len(s3.parts) == 2 * 4
    assert fetched(replace(finished, encoding="uni")) == list("abcd")
    assert fetched(replace(finished, tiling=Tiling(tile_px=512))) == list("abcd")
    rows[0] = replace(rows[0], mpp=0.3)
    assert fetched(finished) == ["a", "c", "d"]


def encoder(folder: Path, name: str) -> Finished:
    (folder / "tiles").mkdir(exist_ok=True)
    (folder / name).mkdir(exist_ok=True)
    record = folder / "finished" / name / "bucket-0.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    return Finished(record, Tiling(), name, folder / "tiles", folder / name)


def test_copies_wait_for_every_encoder_and_are_fetched_for_those_that_lack_them(
    s3: Proxy, tmp_path: Path
) -> None:
    rows = [replace(ROW, slide_id=name, path=f"s3://{BUCKET}/images/{name}.tif") for name in "ab"]
    for name in "ab":
        s3.put(f"images/{name}.tif", BODY)
    first, second = (encoder(tmp_path, name) for name in ("resnet", "uni"))
    lane, manifest = tmp_path / "slides" / "lane-0-of-1", tmp_path / "m.tsv"

    def fetched() -> list[str]:
        s3.seen.clear()
        stage.run(rows, settings(s3), lane, manifest, [first, second])
        return [row["slide_id"] for row in written(manifest) if row["status"] == "fetched"]

    def ends(one: Finished, *bags: str) -> list[str]:
        states = [f"{row.slide_id}\t{'ok' if row.slide_id in bags else 'failed'}" for row in rows]
        (tmp_path / "made.tsv").write_text("\n".join(["slide_id\tstatus", *states]) + "\n")
        for name in bags:
            (one.bags / f"{name}.h5").touch()
            (one.tiles / f"{name}.h5").touch()
        stage.drop(rows, lane, one, tmp_path / "made.tsv")
        return sorted(path.name for path in lane.glob("*.tif"))

    assert fetched() == ["a", "b"]
    assert ends(second, "a") == ["a.tif", "b.tif"]
    assert ends(second, "a") == ["a.tif", "b.tif"]  # its job was killed after that, and ran again
    assert ends(first, "a", "b") == []
    assert list(lane.iterdir()) == []
    # One encoder lacks a bag: that slide alone is fetched, and still for both jobs.
    assert fetched() == ["b"]
    assert len(s3.parts) == 4
    assert ends(first, "a", "b") == ["b.tif"]
    assert ends(second, "a", "b") == []
    assert fetched() == []
    assert s3.seen == []


def test_an_encoder_that_was_waited_for_and_left_out_holds_nothing(
    s3: Proxy, tmp_path: Path
) -> None:
    s3.put("images/a.ome.tif", BODY)
    first, second = (encoder(tmp_path, name) for name in ("resnet", "uni"))
    lane, manifest = tmp_path / "slides" / "lane-0-of-1", tmp_path / "m.tsv"
    made = tmp_path / "made.tsv"
    made.write_text("slide_id\tstatus\na\tok\n")
    stage.run([ROW], settings(s3), lane, manifest, [first, second])
    stage.drop([ROW], lane, first, made)
    assert (lane / "a.ome.tif").is_file()
    stage.run([ROW], settings(s3), lane, manifest, [first])
    stage.drop([ROW], lane, first, made)
    assert list(lane.iterdir()) == []


def test_a_lane_holds_the_slides_of_one_bucket(s3: Proxy, tmp_path: Path) -> None:
    """What killed runs left there, or in lanes of another number, counts to nobody's share."""
    s3.put("images/a.ome.tif", BODY)
    lane = tmp_path / "slides" / "lane-1-of-2"
    other, kept = tmp_path / "slides" / "lane-0-of-2", tmp_path / "slides" / "mine"
    for folder in (lane, other, kept, tmp_path / "slides" / "lane-2-of-3"):
        folder.mkdir(parents=True)
        (folder / "b.tif").touch()
        (folder / ".b.tif.fetching").touch()
    stage.run([ROW], settings(s3), lane, tmp_path / "m.tsv")
    assert [path.name for path in lane.iterdir()] == ["a.ome.tif"]
    assert sorted(path.name for path in (tmp_path / "slides").iterdir()) == [
        "lane-0-of-2",
        "lane-1-of-2",
        "mine",
    ]
    assert len(list(other.iterdir())) == len(list(kept.iterdir())) == 2


def test_what_reads_slides_later_reads_what_is_there(s3: Proxy, tmp_path: Path) -> None:
    here, gone = ROW, replace(ROW, slide_id="gone", annotation="s3://other/a.xml")
    (tmp_path / "a.ome.tif").touch()
    local = SlideRow("b", "x", "q", "c", "b.tif")
    used = settings(s3, mirrors={"s3://other": "/mirror"})
    found = readable([here, gone, local], tmp_path, used)
    at = f"{s3.endpoint}/{BUCKET}/images/a.ome.tif"
    assert [row.path for row in found] == [str(tmp_path / "a.ome.tif"), at, "b.tif"]
    assert [row.annotation for row in found] == ["", "/mirror/a.xml", ""]
