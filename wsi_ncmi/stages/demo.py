"""The stage `demo`: write the synthetic slides and, last, their sheet."""

import hashlib
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from wsi_ncmi.cohorts.label_versions import LabelRow
from wsi_ncmi.cohorts.sheet import write_sheet
from wsi_ncmi.config import Demo
from wsi_ncmi.demo.camelyon17 import design_camelyon17
from wsi_ncmi.demo.cohort import SHEET, design_cohort, sheet_rows
from wsi_ncmi.demo.design import DemoSlide
from wsi_ncmi.demo.slide import write_slide
from wsi_ncmi.files.atomic import write_text


def run(demo: Demo, folder: Path, threads: int) -> None:
    """Write the embedded cohort to `folder` by `threads` processes; finished slides are kept."""
    _write(design_cohort(demo, folder), folder, threads)


def run_camelyon17(
    label_rows: Sequence[LabelRow], count: int, folder: Path, seed: int, threads: int
) -> None:
    """Write `count` synthetic slides as CAMELYON-17's bucket has them.

    In `folder` are `images/`, `annotations/`, and last `checksums.md5`, as md5sum writes it, and
    `stages.csv`, the labels of the slides that are there.

    Args:
        label_rows: (slide_id, label, patient_id, centre) of every slide to choose from.

    Raises:
        ConfigError: more slides are asked for than have labels, or a label is no stage.
    """
    slides = design_camelyon17(label_rows, count, folder, seed)
    _write(slides, folder, threads)
    files = [path for one in slides for path in (one.annotation, one.path) if path]
    lines = [f"{_md5(path)}  {path.relative_to(folder)}" for path in sorted(files)]
    write_text(folder / "checksums.md5", "\n".join(lines) + "\n")
    stages = [f"{slide.path.name},{slide.label}" for slide in slides]
    write_text(folder / "stages.csv", "\n".join(["patient,stage", *stages]) + "\n")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _write(slides: Sequence[DemoSlide], folder: Path, threads: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Forking a process that may hold OpenCV's or a BLAS's threads can lock up its children.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=threads, mp_context=context) as pool:
        written = sum(pool.map(write_slide, slides))
    write_sheet(sheet_rows(slides, relative=True), folder / SHEET)
    print(f"{folder}: {written} of {len(slides)} slides written, the others stood there already")
