"""One slide, or one bag, under several slide_ids: trained on and tested on, it makes a leak."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.errors import UserError

log = logging.getLogger(__name__)

REMEDY = (
    "they could stand in two parts of a split: keep one row of each set in the sheet, or give "
    "the rows the same patient_id if they are of one patient"
)


def sets_of(keys: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The ids that share a key: (key, slide_id) -> sets of two and more, sorted."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, slide_id in keys:
        if key:
            found[key].append(slide_id)
    return sorted(sorted(set(ids)) for ids in found.values() if len(set(ids)) > 1)


def told_apart(
    sets: Iterable[Sequence[str]], patient_of: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Sets in words: of several patients, which may come apart in a split; and of one patient.

    Args:
        patient_of: slide_id -> patient_id; other slides are in no split.
    """
    several: list[str] = []
    one: list[str] = []
    for ids in sets:
        patients = {s: patient_of[s] for s in ids if s in patient_of}
        shown = ", ".join(f"{s} (patient {p})" for s, p in patients.items())
        if len(patients) > 1:
            (several if len(set(patients.values())) > 1 else one).append(shown)
    return several, one


def leak(what: str, shown: str) -> str:
    """The text of an error about slides of several patients that have something in common.

    Args:
        what: they have in common, such as "the same slide".
        shown: the slides, see `told_apart`.
    """
    return f"{what} under several slide_ids: {shown}: {REMEDY}"


def refuse_twins(
    sets: Iterable[Sequence[str]],
    patient_of: Mapping[str, str],
    what: str,
    error: type[UserError],
) -> None:
    """Log sets of one patient; raise `error` for sets of several.

    Args:
        patient_of: slide_id -> patient_id; other slides are in no split.
        what: the slides have in common.
    """
    several, one = told_apart(sets, patient_of)
    for shown in one:
        log.warning("%s under several slide_ids of one patient: %s", what, shown)
    if several:
        raise error(leak(what, "; ".join(several)))


def patients_of(rows: Iterable[SlideRow]) -> dict[str, str]:
    """slide_id -> patient_id."""
    return {row.slide_id: row.patient_id for row in rows}


def same_files(paths: Mapping[str, str]) -> list[list[str]]:
    """Sets of slides whose files are one: by links of either kind, or by other words for a path.

    Args:
        paths: slide_id -> path or address; slides without one are left out.
    """
    return sets_of((file_key(path), slide_id) for slide_id, path in paths.items() if path)


def file_key(path: str) -> str:
    """What one file has under all of its names, by links and by other words for a path."""
    if is_remote(path):
        return path
    try:
        status = os.stat(path)
    except OSError:  # another check says so
        return os.path.realpath(path)
    return f"{status.st_dev} {status.st_ino}"
