"""Runs stages in children that are killed, limited or measured; prints what became of them.

`python stage_server.py FOLDER` reads requests from its input, a JSON object a line, and answers
each with one. It imports torch and timm once, runs none of it, and forks: a child starts at once.
"""

import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
# Before numpy is loaded: a library's threads would not survive the fork.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

from robustness.stage_kills import killing
from robustness.stage_limits import full_disk, peak_memory, run_into, write_limited
from robustness.stage_runs import PATIENCE, Run, adopt_orphans, emptied, ended, fork

SLIDES = 8


class Server:
    """A cohort of small slides, one of them empty and one broken, and what is done with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slides = paint_cohort(folder)
        self.tiles = folder / "tiles"
        self._do(Run("tiles", self.slides, self.tiles, self.tiles))

    def _do(self, run: Run) -> None:
        log = self.folder / "log"
        pid = fork(run, log)
        if ended(pid, PATIENCE) != 0 or not emptied(pid):
            raise RuntimeError(log.read_text())

    def kill(self, stage: str, kills: int, seed: int, workers: int, together: int) -> Any:
        folder = self.folder / "kill"
        run = Run(stage, self.slides, self.tiles, folder, workers)
        return killing(folder, run, kills, seed, together)

    def fill(self, stage: str, limits: list[int]) -> Any:
        """A stage whose files may have this many bytes; see `full_disk`."""
        run = Run(stage, self.slides, self.tiles, self.folder / "full")
        return [full_disk(run, limit) for limit in limits]

    def run_into(self, stage: str, out: str) -> Any:
        """A stage into a folder; see `run_into`."""
        return run_into(Run(stage, self.slides, self.tiles, Path(out)), self.folder / "clean")

    def fill_one(self, kind: str, limits: list[int]) -> Any:
        """The writer of one bag or tile file under limits; see `write_limited`."""
        folder = self.folder / "one"
        folder.mkdir(exist_ok=True)
        return [write_limited(kind, folder, limit) for limit in limits]

    def measure(self, slides: list[int]) -> Any:
        """The peak memory in bytes of extractions over so many slides; see `peak_memory`."""
        return [peak_memory(self.folder / "memory", self.slides[0], n) for n in slides]

    def answer(self, request: dict[str, Any]) -> Any:
        try:
            return getattr(self, request.pop("do"))(**request)
        except Exception:  # the test prints it
            return {"crash": traceback.format_exc()}


def _paint(path: Path, seed: int, tissue: bool = True) -> Path:
    """A slide of 320 x 320 at 2 µm/px with tissue in its middle."""
    import numpy as np
    import tifffile

    image = np.full((320, 320, 3), 243, np.uint8)
    if tissue:
        noise = np.random.default_rng(seed).integers(0, 90, (48, 48, 1)).repeat(4, 0).repeat(4, 1)
        image[64:256, 64:256] = np.array([190, 120, 190]) - noise * np.array([1.0, 0.6, 0.5])
    options: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "tile": (128, 128)}
    options |= {"resolution": (5000, 5000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, image, **options)
    return path


def paint_cohort(folder: Path) -> tuple[Path, ...]:
    """Small slides, one of them empty, and one that is none."""
    good = [_paint(folder / f"slide_{seed:02d}.tif", seed) for seed in range(SLIDES)]
    (folder / "broken.svs").write_text("this is no slide")
    return (*good, _paint(folder / "empty.tif", 99, tissue=False), folder / "broken.svs")


def main(folder: Path) -> None:
    import timm  # noqa: F401
    import torch

    from wsi_ncmi.encoders import random_resnet  # noqa: F401
    from wsi_ncmi.stages import features, tiles  # noqa: F401

    adopt_orphans()
    torch.set_num_threads(1)
    server = Server(folder)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(server.answer(json.loads(line))), flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
