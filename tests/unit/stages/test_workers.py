"""A worker's crash is an error of one item; the worker itself goes on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import worker_starts

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import OutputError, SlideError
from wsi_ncmi.machine import cpu_budget
from wsi_ncmi.stages import tiles
from wsi_ncmi.stages.workers import Worker, WorkerDiedError
from wsi_ncmi.tiling import tilefile

TILING = Tiling(mpp=2.0, tile_px=64)


@pytest.fixture
def worker() -> Iterator[Worker[str, str]]:
    with Worker[str, str](worker_starts.calls, "<") as found:
        yield found


def test_it_calls_in_one_other_process(worker: Worker[str, str]) -> None:
    first, second = worker("pid "), worker("pid ")
    assert first == second
    assert first.startswith("<pid ")
    assert int(first.split()[1]) != os.getpid()


@pytest.mark.parametrize(
    ("item", "how"),
    [
        ("SIGSEGV", "signal 11, SIGSEGV"),
        ("SIGKILL", r"signal 9, SIGKILL \(out of memory\?\)"),
        ("exit", "exit code 3"),
    ],
)
def test_a_crash_is_named_and_the_next_call_works(
    worker: Worker[str, str], item: str, how: str
) -> None:
    assert worker("before") == "<before"
    with pytest.raises(WorkerDiedError, match=f"^the process that read it died: {how}$"):
        worker(item)
    assert worker("after") == "<after"


def test_exceptions_arrive_as_they_are(worker: Worker[str, str]) -> None:
    with pytest.raises(OutputError) as caught:
        worker("raise")
    assert str(caught.value) == "the disk is full"
    assert any("in call\n" in note for note in caught.value.__notes__), "where it was raised"
    assert worker("after") == "<after"


def test_what_cannot_start_is_no_items_fault() -> None:
    with (
        Worker[str, str](worker_starts.cannot_start) as worker,
        pytest.raises(SlideError, match="no such model"),
    ):
        worker("item")
    with (
        Worker[str, str](worker_starts.dies_at_the_start) as worker,
        pytest.raises(RuntimeError, match="could not start"),
    ):
        worker("item")


def test_leaving_ends_the_process() -> None:
    with Worker[str, str](worker_starts.calls, "") as worker:
        pid = int(worker("pid ").split()[1])
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


PARENT = """
import os, sys, time
sys.path.append(sys.argv[1])
from worker_starts import slow
from wsi_ncmi.stages.workers import Worker
if __name__ == "__main__":
    with Worker(slow, sys.argv[2]) as worker:
        print(worker("quick"), flush=True)
        worker("slow")
"""


def wait_until(true: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_gone(pid: int) -> bool:
    """Ended, or only its parent has not taken notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_it_finishes_its_item_and_ends_when_its_parent_is_killed(
    tmp_path: Path, root: Path
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(root / "tests"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert wait_until((tmp_path / "begun").exists)
        parent.kill()
        parent.wait()
        assert not (tmp_path / "finished").exists()
        assert wait_until(lambda: is_gone(pid))
    assert (tmp_path / "finished").exists()


@pytest.fixture
def rows(tmp_path: Path) -> list[SlideRow]:
    from conftest import paint

    found = []
    for i, name in enumerate(["a", "kill", "b"]):
        paint(tmp_path / f"{name}.tif", i, coarse=True)
        found.append(SlideRow(name, "l", "p", "c", str(tmp_path / f"{name}.tif")))
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_a_slide_that_kills_is_a_row_and_the_others_are_done(
    rows: list[SlideRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(tiles, "_tiler", worker_starts.deadly)
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


def test_a_slide_that_another_process_has_tiled_is_not_blamed(
    rows: list[SlideRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "_tiler", worker_starts.outrun)
    tiles.run(rows[:1], TILING, tmp_path / "out", tmp_path / "m.tsv", 1)
    assert tilefile.read(tmp_path / "out" / "a.h5").status == "ok"
    assert "a\tok\t" in (tmp_path / "m.tsv").read_text()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_writing_ends_the_run(
    rows: list[SlideRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(tiles, "_tiler", worker_starts.full)
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
    monkeypatch.setattr(tiles, "_tiler", worker_starts.counts)
    with pytest.raises(OutputError) as caught:
        tiles.run(rows, TILING, tmp_path / "out", tmp_path / "m.tsv", 1)
    assert str(caught.value) == "1 1"
