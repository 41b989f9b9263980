"""Fixtures that all tests share: where things are, and a small cohort of real TIFFs."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
sys.path.append(str(ROOT / "tests"))  # tests import made_slides and robustness.damage
MPP = 2.0
SIDE = 640


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors run fastest on one thread, and tests may run beside each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real slides, bags and images that stand beside the project, where they do."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is not there: real data are tested only where it is")
    return SHARED_DATA


def fresh_path() -> str:
    """PATH of commands that are processes of their own from the start."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="session")
def preloaded_path() -> Iterator[Callable[[], str]]:
    """PATH of commands that import nothing large: of `preloaded.py`, which the first one starts."""
    with ExitStack() as stack:

        @cache
        def folder() -> Path:
            from preloaded import preloaded

            return stack.enter_context(preloaded())

        linux = sys.platform.startswith("linux")  # elsewhere libraries do not survive a fork
        yield lambda: f"{folder()}{os.pathsep}{fresh_path()}" if linux else fresh_path()


@dataclass(frozen=True)
class Workflow:
    """Snakemake on the repository's Snakefile, in a folder of its own.

    Attributes:
        path: gives PATH of its commands, where `python` is that of Snakemake and of its jobs.
    """

    root: Path
    folder: Path
    config: dict[str, Any]
    path: Callable[[], str] = fresh_path

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.config["cohort"]

    def command(self, *arguments: str) -> list[str]:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config))
        command = ["python", "-m", "snakemake", "-s", str(self.root / "Snakefile")]
        # Targets first: --configfile takes all names that follow it.
        command += [*arguments, "--directory", str(self.folder), "--cores", "2"]
        return [*command, "--configfile", "config.yaml"]

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.call(self.command(*arguments))

    def call(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )

    @property
    def killable(self) -> dict[str, str]:
        """As `environment`, without the preloaded processes: all jobs are in a run's own group."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path}

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": self.path()}

    def stage(self, *arguments: str) -> list[str]:
        """The command of a stage, as rules call it."""
        return ["python", "-m", "wsi_ncmi.cli", *arguments]

    def run(self, *arguments: str) -> str:
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def plan(self, *arguments: str) -> dict[str, int]:
        """Rule -> number of jobs that would run; empty when nothing would."""
        return self.jobs(self.run("--dry-run", *arguments))

    def jobs(self, text: str) -> dict[str, int]:
        """Rule -> number of jobs in what a dry run printed."""
        if "Nothing to be done" in text:
            return {}
        table = text.split("Job stats:")[1].split("total")[0]
        return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


def paint(path: Path, seed: int, *, coarse: bool, tissue: bool = True) -> None:
    """A slide: a purple square on white, its texture fine or coarse."""
    rng = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE, 3), 243, np.uint8)
    if tissue:
        cell = 16 if coarse else 4
        size = 384 // cell
        noise = rng.integers(0, 90, (size, size, 1)).repeat(cell, 0).repeat(cell, 1)
        image[128:512, 128:512] = np.array([190, 120, 190]) - noise * np.array([1.0, 0.6, 0.5])
    options: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "tile": (256, 256)}
    resolution = (1e4 / MPP, 1e4 / MPP)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, subifds=0, resolution=resolution, resolutionunit="CENTIMETER", **options)


def add_slide(folder: Path, name: str, label: str, patient: str, centre: str, seed: int) -> str:
    """Write a slide and return its line of the sheet."""
    paint(folder / f"{name}.tif", seed, coarse=label in ("coarse", "right"))
    return f"{name}\t{name}.tif\t{label}\t{patient}\t{centre}"


@pytest.fixture(scope="session")
def make_workflow(root: Path, preloaded_path: Callable[[], str]) -> Any:
    """A workflow over twenty slides in two tasks, an empty slide and a broken file.

    Its commands are preloaded, those of `dataclasses.replace(workflow, path=fresh_path)` are not.
    """

    def make(folder: Path) -> Workflow:
        lines = ["slide_id\tpath\tlabel\tpatient_id\tcentre"]
        for i in range(20):
            labels = ("fine", "coarse") if i < 10 else ("left", "right")
            row = (f"slide_{i:02d}", labels[i % 2], f"patient_{i:02d}", f"centre_{i % 3}")
            lines.append(add_slide(folder, *row, seed=i))
        paint(folder / "empty.tif", 99, coarse=False, tissue=False)
        (folder / "broken.svs").write_text("this is no slide")
        lines.append("empty\tempty.tif\tfine\tpatient_00\tcentre_0")
        lines.append("broken\tbroken.svs\tcoarse\tpatient_01\tcentre_1")
        (folder / "slides.tsv").write_text("\n".join(lines) + "\n")
        return Workflow(root, folder, _config(), preloaded_path)

    return make


def _config() -> dict[str, Any]:
    task = {
        "protocol": {"kind": "kfold", "folds": 2, "validation_fraction": 0.3},
        "standardise": True,
        "aggregators": {"abmil": {"options": {"hidden_dim": 16, "attention_dim": 8}}},
        "training": {"epochs": 3, "batch_size": 4, "learning_rate": 1e-2},
        "seeds": [0],
    }
    return {
        "cohort": "small",
        "buckets": 2,
        "slides": {"sheet": "slides.tsv"},
        "tiling": {"mpp": MPP, "tile_px": 64},
        "extraction": {
            "encoder": "random_resnet",
            "options": {"architecture": "test_resnet", "stages": [1], "input_px": 32},
            "batch_size": 16,
            "any_scale": True,
        },
        "tasks": {
            "grade": {"classes": ["fine", "coarse"], **task},
            "side": {"classes": ["left", "right"], **task},
        },
        "attention": {"slides": 2, "tiles": 4},
        "evaluation": {"bootstrap": 200},
    }
