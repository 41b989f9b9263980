"""Stages in child processes of a process that has imported all they need: cheap to kill."""

import ctypes
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 60.0
POLL = 0.002
BATCH_SECONDS = 0.02
SLOW_SECONDS = 0.5  # a second process imports PyTorch before it joins
WRITES = ".writes"
MANIFEST = "bucket-0.tsv"
TILING = {"mpp": 2.0, "tile_px": 64}
EXTRACTION = {
    "encoder": "random_resnet",
    "options": {"architecture": "test_resnet", "stages": [1], "input_px": 32},
    "batch_size": 4,
    "any_scale": True,
}


def adopt_orphans() -> None:
    """Grandchildren whose parent is killed become children of this process, which can wait."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@dataclass(frozen=True)
class Run:
    """A stage on slides, into a folder.

    Attributes:
        stage: "tiles" or "features", the latter of the tile files in `tiles`.
        workers: processes that it starts for itself.
        watched: every finished bag and tile file becomes a line in the folder's `.writes`, and a
            batch takes some time, so that runs on one folder meet.
    """

    stage: str
    slides: tuple[Path, ...]
    tiles: Path
    out: Path
    workers: int = 1
    watched: bool = False

    def __call__(self) -> None:
        from wsi_ncmi.cohorts.sheet import SlideRow
        from wsi_ncmi.config import Extraction, Tiling
        from wsi_ncmi.stages import features, tiles

        rows = [
            SlideRow(path.stem, "label", "patient", "centre", str(path)) for path in self.slides
        ]
        manifest = self.out / MANIFEST
        if self.watched:
            watch(BATCH_SECONDS if self.workers == 1 else SLOW_SECONDS)
        if self.stage == "tiles":
            tiles.run(rows, Tiling(**TILING), self.out, manifest, self.workers)
        else:
            extraction = Extraction(**EXTRACTION)
            features.run(rows, extraction, self.tiles, self.out, manifest, 1, self.workers)


def watch(seconds: float) -> None:
    """From now on, in this process and in tiling processes that it starts; see `Run`."""
    from wsi_ncmi.extraction import share
    from wsi_ncmi.extraction.encode import BatchEncoder
    from wsi_ncmi.stages import tiles

    encode = BatchEncoder.__call__

    def slowly(self: Any, parts: Any) -> Any:
        time.sleep(seconds)
        return encode(self, parts)

    BatchEncoder.__call__ = slowly
    share.write_bag = _logged(share.write_bag)
    tiles.tile_one = logged_tile


def logged_tile(*arguments: Any) -> Any:
    """In a tiling process, which was spawned and knows of no change here."""
    from wsi_ncmi.stages import tiles
    from wsi_ncmi.tiling import tilefile

    if not hasattr(tilefile.write, "logged"):
        tilefile.write = _logged(tilefile.write)
        tilefile.write.logged = True  # type: ignore[attr-defined]
    return tiles.tile_one(*arguments)


def _logged(write: Callable[..., None]) -> Callable[..., None]:
    def logged(path: Path, content: Any) -> None:
        write(path, content)
        descriptor = os.open(path.parent / WRITES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{path.stem}\n".encode())
        os.close(descriptor)

    return logged


def fork(work: Callable[[], None], log: Path) -> int:
    """A child in a process group of its own; it exits with 1 if `work` raises."""
    pid = os.fork()
    if pid:
        with suppress(OSError):  # here as well as there: whoever comes first
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        faulthandler.dump_traceback_later(PATIENCE / 2)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int, seconds: float) -> int | None:
    """A child's exit code; None: it runs on after these seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL)


def emptied(group: int) -> bool:
    """Whether all processes of a group end by themselves; they are killed if not."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            found, _ = os.waitpid(-group, os.WNOHANG)
        except ChildProcessError:
            return True
        if time.monotonic() > deadline:
            os.killpg(group, signal.SIGKILL)
            return False
        if not found:
            time.sleep(POLL)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative name, except the log of writes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != WRITES)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def differences(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Names of files that are missing, too many, or of other bytes."""
    return sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
