"""The plan of the synthetic cohort: patients, centres, labels and defects.

All drawn from the seed, in blocks of slides and by each slide's own name, so that a cohort that
grows keeps the slides it has. Only the standard library: the Snakefile imports this to plan.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Demo
from wsi_ncmi.demo.design import Centre, Defect, DemoSlide, design_slide

SHEET = "slides.tsv"
SLIDES_PER_PATIENT = 3

# Six blocks of ten slides: 24 negative, 10 itc, 12 micro, 14 macro. Every block has every label,
# so that a small cohort has them too. Milder than CAMELYON-17 (64, 7, 12 and 17 %).
_COMMON = ("negative",) * 4 + ("itc",) * 2 + ("micro",) * 2 + ("macro",) * 2
_FEWER_ITC = ("negative",) * 4 + ("itc",) + ("micro",) * 2 + ("macro",) * 3
BLOCKS = (_COMMON, _COMMON, _FEWER_ITC, _COMMON, _COMMON, _FEWER_ITC)


def design_cohort(demo: Demo, folder: Path) -> list[DemoSlide]:
    """The slides with tissue, then one without tissue and one file that cannot be read.

    Args:
        demo: how many slides and centres, and the seed.
        folder: where the slides are written.
    """
    planned = []
    for index, label in enumerate(_labels(demo.seed, demo.slides, demo.centres)):
        patient = index // SLIDES_PER_PATIENT
        number = patient % demo.centres
        centre = Centre(f"centre_{number}", number, demo.centres)
        names = (f"demo_{index:03d}", f"patient_{patient:02d}")
        planned.append(design_slide(demo.seed, folder, *names, label, centre))
    return [*planned, *_defective(planned)]


def _defective(planned: Sequence[DemoSlide]) -> list[DemoSlide]:
    """They belong to the first two patients, who have good slides as well."""
    first, second = planned[0], planned[SLIDES_PER_PATIENT]
    return [
        _defect(first, "demo_blank", "negative", "no_tissue"),
        _defect(second, "demo_broken", "macro", "unreadable"),
    ]


def _defect(slide: DemoSlide, slide_id: str, label: str, defect: Defect) -> DemoSlide:
    return replace(
        slide,
        slide_id=slide_id,
        label=label,
        defect=defect,
        seed=f"{slide.seed}/{defect}",
        lesions_um=(),
        pen="",
        blurred=False,
    )


def sheet_rows(slides: Sequence[DemoSlide], *, relative: bool = False) -> list[SlideRow]:
    """Rows of the slide sheet; with `relative`, paths are relative to the slides' folder.

    µm/px is left to the files, which state it.
    """
    return [
        SlideRow(
            slide_id=slide.slide_id,
            label=slide.label,
            patient_id=slide.patient_id,
            centre=slide.centre,
            path=_text(slide, slide.path, relative),
            annotation=_text(slide, slide.annotation, relative) if slide.annotation else "",
        )
        for slide in slides
    ]


def _text(slide: DemoSlide, path: Path, relative: bool) -> str:
    return str(path.relative_to(slide.folder) if relative else path)


@lru_cache
def _labels(seed: int, slides: int, centres: int) -> tuple[str, ...]:
    """A label per slide: of 200 shuffles of each block, the one that tells least by centre.

    Kept, since it takes most of the time of planning the demo, which a process may do often.
    """
    rng = random.Random(f"{seed}/labels")
    labels: list[str] = []
    counts: Counter[tuple[int, str]] = Counter()
    while len(labels) < slides:
        block = BLOCKS[len(labels) // len(_COMMON) % len(BLOCKS)]
        shuffles = [rng.sample(block, len(block)) for _ in range(200)]
        best = min(shuffles, key=lambda s: _imbalance(counts, _by_centre(s, len(labels), centres)))
        counts.update(_by_centre(best, len(labels), centres))
        labels += best
    return tuple(labels[:slides])


def _by_centre(labels: Sequence[str], start: int, centres: int) -> Counter[tuple[int, str]]:
    patients = [(start + offset) // SLIDES_PER_PATIENT for offset in range(len(labels))]
    return Counter((p % centres, label) for p, label in zip(patients, labels, strict=True))


def _imbalance(before: Counter[tuple[int, str]], added: Counter[tuple[int, str]]) -> float:
    """Pearson's χ² of the centre × label table."""
    table = before + added
    total = table.total()
    by_centre: Counter[int] = Counter()
    by_label: Counter[str] = Counter()
    for (centre, label), count in table.items():
        by_centre[centre] += count
        by_label[label] += count
    expected = {(c, b): by_centre[c] * by_label[b] / total for c in by_centre for b in by_label}
    return sum((table[key] - value) ** 2 / value for key, value in expected.items())
