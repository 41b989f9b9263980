"""Synthetic slides under CAMELYON-17's names, with its real labels, patients and centres."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_ncmi.cohorts.label_versions import LabelRow
from wsi_ncmi.demo.design import LABELS, Centre, DemoSlide, design_slide
from wsi_ncmi.errors import ConfigError

Patient = tuple[LabelRow, ...]


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
        planned.append(design_slide(seed, folder, slide_id, patient_id, label, centre))
    return planned


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
