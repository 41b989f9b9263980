"""The stage `demo`: write the synthetic slides and, last, their sheet."""

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


def run(demo: Demo, folder: Path, threads: int) -> None:
    """Write the embedded cohort to `folder` by `threads` processes; finished slides are kept."""
    _write(design_cohort(demo, folder), folder, threads)


def run_camelyon17(
    label_rows: Sequence[LabelRow], count: int, folder: Path, seed: int, threads: int
) -> None:
    """Write `count` synthetic slides under CAMELYON-17's names.

    Args:
        label_rows: (slide_id, label, patient_id, centre) of every slide to choose from.

    Raises:
        ConfigError: more slides are asked for than have labels, or a label is no stage.
    """
    _write(design_camelyon17(label_rows, count, folder, seed), folder, threads)


def _write(slides: Sequence[DemoSlide], folder: Path, threads: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Forking a process that may hold OpenCV's or a BLAS's threads can lock up its children.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=threads, mp_context=context) as pool:
        written = sum(pool.map(write_slide, slides))
    write_sheet(sheet_rows(slides, relative=True), folder / SHEET)
    print(f"{folder}: {written} of {len(slides)} slides written, the others stood there already")
