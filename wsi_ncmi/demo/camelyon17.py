"""Synthetic slides in CAMELYON-17's format, with its real names, labels, patients and centres.

Each has its centre's µm/px, and cells of their natural size. Tissue and lesions are `SHRINK` times
smaller than real ones, in µm: a macrometastasis is a third of a millimetre.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from wsi_ncmi.cohorts.camelyon17 import annotated_slides
from wsi_ncmi.cohorts.label_versions import LabelRow
from wsi_ncmi.demo.design import LABELS, TILE_PX, Centre, DemoSlide, design_slide
from wsi_ncmi.errors import ConfigError

Patient = tuple[LabelRow, ...]

SHRINK = 8.0

MPP = {"0": 0.243, "1": 0.243, "2": 0.226, "3": 0.243, "4": 0.25}
"""Centre -> µm/px. 3DHistech Pannoramic Flash II (Canisius-Wilhelmina, Rijnstate, Radboud),
Hamamatsu NanoZoomer-XR (Utrecht), Philips Ultrafast (Hengelo): Litjens et al. 2018, GigaScience,
doi 10.1093/gigascience/giy065, states 0.24, 0.23 and 0.25; files state a digit more."""


def design_camelyon17(
    labels: Sequence[LabelRow], count: int, folder: Path, seed: int
) -> list[DemoSlide]:
    """`count` slides of whole patients (the last may be cut), all centres in turn.

    Of a centre's patients, the one is taken next that brings the chosen labels nearest to the
    proportions of all labels, so that the rare stages are there too.

    Raises:
        ConfigError: more slides are asked for than have labels, or a label is no stage.
    """
    _check(labels, count)
    chosen: list[LabelRow] = []
    for patient in _in_turn(labels, seed):
        chosen += patient[: count - len(chosen)]
        if len(chosen) == count:
            break
    centres = sorted({row[3] for row in labels})
    planned = []
    for slide_id, label, patient_id, name in sorted(chosen):
        centre = Centre(name, centres.index(name), len(centres))
        slide = design_slide(seed, folder, slide_id, patient_id, label, centre)
        planned.append(_as_published(slide))
    return planned


def _as_published(slide: DemoSlide) -> DemoSlide:
    mpp = MPP.get(slide.centre, slide.mpp / SHRINK)
    scale = slide.mpp / mpp / SHRINK
    return replace(
        slide,
        mpp=mpp,
        width=_whole_tiles(round(slide.width * scale)),
        height=_whole_tiles(round(slide.height * scale)),
        lesions_um=tuple(round(um / SHRINK, 2) for um in slide.lesions_um),
        shrink=SHRINK,
        as_published=True,
        is_annotated=slide.slide_id in annotated_slides(),
    )


def _whole_tiles(pixels: int) -> int:
    """A side in pixels, at least one tile, as the nearest number of whole ones."""
    return max(1, round(pixels / TILE_PX)) * TILE_PX


def _check(labels: Sequence[LabelRow], count: int) -> None:
    problems = [
        f"slide {slide_id}: label {label!r}, expected one of {', '.join(LABELS)}"
        for slide_id, label, _, _ in labels
        if label not in LABELS
    ]
    if not 1 <= count <= len(labels):
        problems.append(f"{count} slides asked for, expected 1 to {len(labels)} (those labelled)")
    if problems:
        raise ConfigError(problems)


def _in_turn(labels: Sequence[LabelRow], seed: int) -> list[Patient]:
    """All patients in the order in which they are taken."""
    waiting = _shuffled_patients(labels, seed)
    wanted = Counter(row[1] for row in labels)
    have: Counter[str] = Counter()
    order: list[Patient] = []
    while any(waiting.values()):
        for patients in waiting.values():
            if patients:
                best = min(patients, key=lambda patient: _distance(have, patient, wanted))
                patients.remove(best)
                have.update(row[1] for row in best)
                order.append(best)
    return order


def _shuffled_patients(labels: Sequence[LabelRow], seed: int) -> dict[str, list[Patient]]:
    """Centre -> its patients, each with its slides in the order of their names."""
    slides: defaultdict[tuple[str, str], list[LabelRow]] = defaultdict(list)
    for row in sorted(labels):
        slides[row[3], row[2]].append(row)
    rng = random.Random(f"{seed}/patients")
    waiting: defaultdict[str, list[Patient]] = defaultdict(list)
    for (centre, _), rows in sorted(slides.items()):
        waiting[centre].append(tuple(rows))
    for patients in waiting.values():
        rng.shuffle(patients)
    return dict(waiting)


def _distance(have: Counter[str], patient: Patient, wanted: Mapping[str, int]) -> float:
    """Pearson's χ² of the labels, with the patient's, against the wanted proportions."""
    found = have + Counter(row[1] for row in patient)
    scale = found.total() / sum(wanted.values())
    return sum((found[k] - scale * n) ** 2 / (scale * n) for k, n in wanted.items())
