"""A crash in a tiling process is an error of one slide; the others go on."""

import threading
from pathlib import Path

import pytest
import worker_starts
from conftest import paint

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import OutputError
from wsi_ncmi.machine import cpu_budget
from wsi_ncmi.processes import how_it_died
from wsi_ncmi.stages import tiles
from wsi_ncmi.tiling import one_slide, tilefile

TILING = Tiling(mpp=2.0, tile_px=64)


@pytest.mark.parametrize(
    ("exitcode", "how"),
    [
        (-11, "signal 11, SIGSEGV"),
        (-9, "signal 9, SIGKILL (out of memory?)"),
        (3, "exit code 3"),
    ],
)
def test_how_a_process_died(exitcode: int, how: str) -> None:
    assert how_it_died(exitcode) == how


@pytest.fixture
def rows(tmp_path: Path) -> list[SlideRow]:
    found = []
    for i, name in enumerate(["a", "kill", "b"]):
        paint(tmp_path / f"{name}.tif", i, coarse=True)
        found.append(SlideRow(name, "l", "p", "c", str(tmp_path / f"{name}.tif")))
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_a_slide_that_kills_is_a_row_and_the_others_are_done(
    rows: list[SlideRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(tiles, "tile_one", worker_starts.deadly)
    out = tmp_path / "out"
    tiles.run(rows, TILING, out, tmp_path / "m.tsv", threads)
    lines = [line.split("\t")[:3] for line in (tmp_path / "m.tsv").read_text().splitlines()[1:]]
    died = "the process that read it died: signal 11, SIGSEGV"
    good, bad = ["ok", ""], ["unreadable", died]
    assert lines == [["a", *good], ["b", *good], ["kill", *bad]]
    assert tilefile.read(out / "kill.h5").reason == died
    # And it is tried again.
    monkeypatch.undo()
    tiles.run(rows, TILING, out, tmp_path / "m.tsv", threads)
    assert tilefile.read(out / "kill.h5").status == "ok"


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_writing_ends_the_run(
    rows: list[SlideRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(tiles, "tile_one", worker_starts.full)
    with pytest.raises(OutputError, match="the disk is full"):
        tiles.run(rows, TILING, tmp_path / "out", tmp_path / "m.tsv", threads)
    assert not (tmp_path / "m.tsv").exists()


@pytest.mark.skipif(cpu_budget() < 2, reason="one core: nothing could be too many")
def test_a_tiling_process_keeps_to_one_core(
    rows: list[SlideRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV and BLAS start a thread a core unless they are told not to."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(tiles, "tile_one", worker_starts.counts)
    with pytest.raises(OutputError) as caught:
        tiles.run(rows, TILING, tmp_path / "out", tmp_path / "m.tsv", 1)
    assert str(caught.value) == "1 1"


def test_a_slide_that_hangs_is_a_row_and_the_others_are_done(
    rows: list[SlideRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, manifest = tmp_path / "out", tmp_path / "m.tsv"
    tiles.run([rows[1]], TILING, out, manifest, 1)
    finished = (out / "kill.h5").read_bytes()
    monkeypatch.setattr(tiles, "tile_one", worker_starts.hangs)
    other = Tiling(mpp=2.0, tile_px=96)
    tiles.run(rows, other, out, manifest, 2, slide_minutes=8 / 60)
    lines = {line.split("\t")[0]: line.split("\t") for line in manifest.read_text().splitlines()}
    assert [lines[name][1] for name in ("a", "b", "kill")] == ["ok", "ok", "unreachable"]
    assert lines["kill"][2].startswith("kill.tif: not read within 0.133333 minutes (slide_minutes)")
    assert (out / "kill.h5").read_bytes() == finished
    monkeypatch.undo()
    tiles.run(rows, other, out, manifest, 1)
    assert "unreachable\t" not in manifest.read_text().split("\n", 1)[1]


def test_a_disk_that_does_not_answer_holds_up_no_bucket(
    rows: list[SlideRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, manifest = tmp_path / "out", tmp_path / "m.tsv"
    tiles.run(rows, TILING, out, manifest, 1)
    before = {path.name: path.read_bytes() for path in out.glob("*.h5")}
    over = threading.Event()
    monkeypatch.setattr(one_slide, "slide_fingerprint", lambda path: over.wait(600))
    tiles.run(rows, TILING, out, manifest, 1, slide_minutes=0.1 / 60)
    over.set()
    assert manifest.read_text().count("\tunreachable\t") == 3 + 1  # and the column
    assert {path.name: path.read_bytes() for path in out.glob("*.h5")} == before
