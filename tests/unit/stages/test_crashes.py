"""A crash in a tiling process is an error of one slide; the others go on."""

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
from wsi_ncmi.tiling import tilefile

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
