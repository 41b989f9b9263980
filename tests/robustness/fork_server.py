"""Tiles damaged slides, each in a process of its own with limits; prints what became of them.

`python fork_server.py FOLDER SEEDS [CASE]`: all cases of so many seeds, or one; a JSON object per
line. A script, so that nothing but what tiling needs is in the memory of the processes.
"""

import json
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import cv2
from robustness.damage import Case, cases, originals

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling, Tissue
from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.stream import read_tiles
from wsi_ncmi.tiling import one_slide, tilefile

ADDRESS_SPACE = 2 * 2**30
SECONDS = 30
PROCESSES = 2
NOBODY = 65_534
SLIDE = Path("slide.svs")
TILING = Tiling(mpp=0.5, tile_px=64, min_tissue=0.1, tissue=Tissue(thumbnail_mpp=4.0))


def tile(case: Case) -> dict[str, Any]:
    """Tile a slide as the workflow does, then read every tile that was found."""
    row = SlideRow("slide", "label", "patient", "centre", str(SLIDE))
    if case.later is not None:
        _then(sys.modules[__name__] if case.while_streaming else one_slide, case.later)
    outcome = one_slide.tile_slide(row, TILING, Path("out"))
    if isinstance(outcome, tilefile.UnreachableSlide):
        left = "unreachable" if not Path("out/slide.h5").exists() else "there"
        nothing = {"tiles": 0, "file_tiles": 0, "reader": ""}
        return {"status": "unreachable", "reason": outcome.reason, "file_status": left} | nothing
    found = tilefile.read(Path("out/slide.h5"))
    counts = [len(one) if isinstance(one, tilefile.TiledSlide) else 0 for one in (outcome, found)]
    report = {"status": outcome.status, "reason": outcome.reason, "tiles": counts[0]}
    report |= {"file_status": found.status, "file_tiles": counts[1]}
    report |= {"reader": getattr(found, "reader", "")}
    if found.status == "ok" and (case.later is None or case.while_streaming):
        report |= read_back(found)
    return report


def _then(module: Any, later: Callable[[Path], None]) -> None:
    """Let a module's `open_slide` be followed by what happens to the file."""
    before = module.open_slide

    def opened(*arguments: Any, **options: Any) -> Any:
        slide = before(*arguments, **options)
        later(SLIDE)
        return slide

    module.open_slide = opened


def read_back(found: tilefile.TiledSlide) -> dict[str, Any]:
    """Counts of the tiles that can be read and of those that cannot."""
    rows, invalid = [], {}
    with open_slide(SLIDE) as slide:
        for block in read_tiles(slide, found.coords, found.level, found.read_px, threads=2):
            rows += block.indices.tolist()
            invalid |= block.invalid
    return {"rows": sorted(rows), "invalid": {str(row): why for row, why in invalid.items()}}


def child(case: Case, folder: Path) -> None:
    """Do the case's work within its limits; its report is a file."""
    os.chdir(folder)
    case.write(SLIDE)
    Path("out").mkdir(mode=0o777)
    with Path("report.json").open("w") as report, Path("log").open("w") as log:
        os.dup2(log.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        signal.alarm(SECONDS)
        if case.nobody and os.geteuid() == 0:
            for path in (Path(), Path("out")):
                path.chmod(0o777)
            os.setuid(NOBODY)
        try:
            json.dump(tile(case), report)
        except BaseException:  # the parent prints it
            json.dump({"error": traceback.format_exc()}, report)


def start(case: Case, folder: Path) -> int:
    """Fork; returns the child's id."""
    folder.mkdir()
    pid = os.fork()
    if pid == 0:
        try:
            child(case, folder)
        finally:
            os._exit(0)
    return pid


def finish(running: dict[int, tuple[Case, Path, float]]) -> None:
    """Wait for one of the processes and print what is known of it."""
    pid, status, usage = os.wait4(-1, 0)
    case, folder, began = running.pop(pid)
    text = (folder / "report.json").read_text() if (folder / "report.json").is_file() else ""
    report = {
        "case": case.name,
        "exit": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "megabytes": usage.ru_maxrss / 1024,
        "left": sorted(str(p.relative_to(folder)) for p in folder.rglob("*.part*")),
        "report": json.loads(text) if text else {},
    }
    print(json.dumps(report), flush=True)
    if report["exit"] == 0 and len(sys.argv) < 4:
        shutil.rmtree(folder)


def main(folder: Path, seeds: int, name: str = "") -> None:
    cv2.setNumThreads(1)
    size = int(re.findall(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])
    assert size * 1024 < ADDRESS_SPACE / 2, f"the limit is not for the slides: {size} kB"
    chosen = [c for c in cases(originals(folder), range(seeds)) if name in ("", c.name)]
    running: dict[int, tuple[Case, Path, float]] = {}
    for i, case in enumerate(chosen):
        if len(running) == PROCESSES:
            finish(running)
        case_folder = folder / f"{i:03d}"
        running[start(case, case_folder)] = (case, case_folder, time.monotonic())
    while running:
        finish(running)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
