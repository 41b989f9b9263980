"""What can be wrong with a split: leaks between its parts, and parts that lack something."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from wsi_ncmi.cohorts.sheet import PARTS
from wsi_ncmi.tools.splits.layouts import Placed, Split

ERROR, WARNING = "error", "warning"
NEEDED = ("train", "test")
"""Without these nothing is trained or tested; without validation something else must choose."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with a split.

    Attributes:
        fold: in which; None: with all of them together.
        level: `error`: the results are not what they are taken for; `warning`: look at it.
        fault: what is wrong, in the same words for every fold.
        parts: where, such as "train and test".
        count: how many slides, patients, sets of bags or classes.
        of: among how many.
        example: the first of them.
    """

    split: str
    fold: int | None
    level: str
    fault: str
    parts: str
    count: int
    of: int
    example: str


def findings(split: Split, twins: Sequence[Sequence[str]]) -> list[Finding]:
    """Everything wrong with a split.

    Args:
        split: with patients and labels as far as they are known.
        twins: sets of slide_ids that are one bag.
    """
    found: list[Finding] = list(_unknown(split))
    classes = sorted({row.label for row in split.rows} - {""})
    by_fold = defaultdict(list)
    for row in split.rows:
        by_fold[row.fold].append(row)
    for fold, rows in sorted(by_fold.items()):
        found += _of_fold(split.name, fold, rows, twins)
        found += _classes(split.name, fold, rows, classes)
    return found + list(_across(split.name, by_fold))


def _unknown(split: Split) -> Iterator[Finding]:
    slides = {row.slide_id: row for row in split.rows}
    for what in ("patient_id", "label"):
        lacking = sorted(name for name, row in slides.items() if not getattr(row, what))
        if lacking:
            fault = f"{what.removesuffix('_id')} not known, so not examined"
            count, total = len(lacking), len(slides)
            yield Finding(split.name, None, WARNING, fault, "", count, total, lacking[0])
    patients = [row.patient_id for row in slides.values()]
    if _counted(patients):
        fault = "patients are numbered, one for each slide: patients with several are not known"
        count = len(patients)
        yield Finding(split.name, None, WARNING, fault, "", count, count, patients[0])


def _counted(patients: Sequence[str]) -> bool:
    """Whether they are one word with numbers from 0 or 1 upwards, each once."""
    found = [re.fullmatch(r"(\D*)0*(\d+)", patient) for patient in patients]
    if len(patients) < 2 or not all(found):
        return False
    numbers = sorted(int(one[2]) for one in found if one)
    words = {one[1] for one in found if one}
    return len(words) == 1 and numbers in ([*range(len(numbers))], [*range(1, len(numbers) + 1)])


def _of_fold(
    split: str, fold: int, rows: Sequence[Placed], twins: Sequence[Sequence[str]]
) -> Iterator[Finding]:
    slides = {part: {r.slide_id for r in rows if r.part == part} for part in PARTS}
    for part in PARTS:
        if not slides[part]:
            level = ERROR if part in NEEDED else WARNING
            yield Finding(split, fold, level, "no slide in a part", part, 0, len(rows), "")
    same = bool(slides["val"]) and slides["val"] == slides["test"]
    if same:
        count, first = len(slides["test"]), min(slides["test"])
        fault = "validation and test part are the same"
        yield Finding(split, fold, ERROR, fault, "val and test", count, count, first)
    distinct = [pair for pair in combinations(PARTS, 2) if not (same and pair == ("val", "test"))]
    yield from _twice(split, fold, rows)
    of_patient = {row.slide_id: row.patient_id for row in rows if row.patient_id}
    patients = {part: {of_patient[s] for s in slides[part] if s in of_patient} for part in PARTS}
    for pair in distinct:
        for what, ids in (("slide", slides), ("patient", patients)):
            both = sorted(ids[pair[0]] & ids[pair[1]])
            if both:
                total = len(set().union(*ids.values()))
                yield Finding(split, fold, ERROR, f"{what} in two parts", " and ".join(pair),
                              len(both), total, both[0])  # fmt: skip
    yield from _twins(split, fold, slides, twins)


def _twice(split: str, fold: int, rows: Iterable[Placed]) -> Iterator[Finding]:
    for part in PARTS:
        own = [row.slide_id for row in rows if row.part == part]
        twice = sorted({name for name in own if own.count(name) > 1}) if _repeats(own) else []
        if twice:
            fault = "slide twice in a part"
            yield Finding(split, fold, ERROR, fault, part, len(twice), len(set(own)), twice[0])


def _repeats(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


def _twins(
    split: str, fold: int, slides: Mapping[str, set[str]], twins: Sequence[Sequence[str]]
) -> Iterator[Finding]:
    """Bags under several names: across parts a leak, within one counted several times."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for names in twins:
        where = {part: sorted(set(names) & slides[part]) for part in PARTS}
        shown = " = ".join(names)
        for one, other in combinations(PARTS, 2):
            if set(where[one]) - set(where[other]) and set(where[other]) - set(where[one]):
                found[ERROR, f"{one} and {other}"].append(shown)
        for part in PARTS:
            if len(where[part]) > 1:
                found[WARNING, part].append(shown)
    words = {ERROR: "same bag under two names in two parts", WARNING: "same bag under two names"}
    for (level, parts), sets in found.items():
        yield Finding(split, fold, level, words[level], parts, len(sets), len(twins), sets[0])


def _classes(
    split: str, fold: int, rows: Sequence[Placed], classes: Sequence[str]
) -> Iterator[Finding]:
    for part in PARTS:
        own = {row.label for row in rows if row.part == part}
        absent = [name for name in classes if name not in own]
        if own - {""} and absent:
            level = ERROR if part in NEEDED else WARNING
            count, total = len(absent), len(classes)
            yield Finding(split, fold, level, "class missing", part, count, total, absent[0])


def _across(split: str, by_fold: Mapping[int, Sequence[Placed]]) -> Iterator[Finding]:
    tests = [{r.slide_id for r in rows if r.part == "test"} for rows in by_fold.values()]
    if len(tests) < 2 or not all(tests):
        return
    everything = {row.slide_id for rows in by_fold.values() for row in rows}
    tested = set().union(*tests)
    if all(test == tests[0] for test in tests):
        fault = "one test part for all folds: they are repetitions, not a cross-validation"
        yield Finding(split, None, WARNING, fault, "test", len(tested), len(everything), "")
        return
    often = sorted(s for s in tested if sum(s in test for test in tests) > 1)
    if often:
        fault = "slide tested in several folds: they are not a cross-validation"
        yield Finding(split, None, WARNING, fault, "test", len(often), len(tested), often[0])
    never = sorted(everything - tested)
    if never:
        fault = "slide tested in no fold"
        yield Finding(split, None, WARNING, fault, "", len(never), len(everything), never[0])
