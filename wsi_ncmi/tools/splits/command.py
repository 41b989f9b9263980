"""Command `splits audit`: what is wrong with split files, in words and as a table."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from wsi_ncmi.errors import UserError, some
from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.files.table import write_records
from wsi_ncmi.tools.splits.faults import ERROR, Finding, findings
from wsi_ncmi.tools.splits.known import Sheet, completed, read_sheet, twins
from wsi_ncmi.tools.splits.layouts import Split, read_splits


def run(
    files: Sequence[Path],
    sheet: Path | None,
    bags: Path | None,
    patient: str | None,
    classes: str | None,
    out: Path | None,
    *,
    strict: bool,
) -> int:
    """Audit every split of some files and folders, and print what is wrong.

    Args:
        sheet: table of slides with their patients and labels.
        bags: of the slides, which are compared.
        patient: regular expression whose first group is the patient in a slide's name.
        classes: comma-separated labels; slides of others are left out.
        out: TSV or, by its ending, JSON of all findings, one for each fold.
        strict: whether warnings count as errors.

    Returns:
        1 if there is an error or a file cannot be read; else 0.

    Raises:
        UserError: the sheet or the pattern cannot be used, or no slide has one of the classes.
    """
    known = read_sheet(sheet) if sheet is not None else Sheet()
    pattern = _compiled(patient)
    splits, problems = read_splits(files)
    found: list[Finding] = []
    for split in splits:
        whole, source = completed(split, known, pattern)
        kept = whole if classes is None else _of_classes(whole, classes)
        own = findings(kept, twins(kept, known, bags))
        _print(kept, len(whole.rows) - len(kept.rows), source, own)
        found += own
    for text in problems:
        print(f"error    {text}")
    if out is not None:
        _write(out, found)
    failed = any(one.level == ERROR or strict for one in found)
    return 1 if failed or problems else 0


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    try:
        found = None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise UserError(f"--patient {pattern}: is no regular expression: {error}") from None
    if found is not None and not found.groups:
        raise UserError(f"--patient {pattern}: has no group: put the patient in brackets")
    return found


def _of_classes(split: Split, classes: str) -> Split:
    wanted = [name.strip() for name in classes.split(",")]
    rows = tuple(row for row in split.rows if row.label in wanted)
    if not rows:
        labels = sorted({row.label for row in split.rows} - {""})
        shown = some(labels) if labels else "none: name a table of them by --sheet"
        raise UserError(
            f"{split.name}: no slide has one of the labels {', '.join(wanted)}; found {shown}"
        )
    return replace(split, rows=rows)


def _print(split: Split, left_out: int, source: str, found: Sequence[Finding]) -> None:
    slides = {row.slide_id: row for row in split.rows}
    patients = {row.patient_id for row in slides.values()} - {""}
    labels = sorted({row.label for row in slides.values()} - {""})
    folds = len(split.folds)
    print(f"{split.name}: {folds} fold{'s' if folds > 1 else ''} (layout {split.layout})")
    whose = f"{len(patients)} patients (by {source})" if patients else "patients not known"
    print(f"  {len(slides)} slides, {whose}, labels {', '.join(labels) or 'not known'}")
    if left_out:
        print(f"  left out: {left_out} lines with slides of other labels or without one")
    for line in _lines(found, folds):
        print(f"  {line}")
    if not found:
        print("  nothing wrong was found")


def _lines(found: Sequence[Finding], folds: int) -> Iterator[str]:
    """A line for each fault and its parts, over all folds; errors first."""
    alike: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for one in found:
        alike[one.level, one.fault, one.parts].append(one)
    for (level, fault, parts), own in sorted(alike.items()):
        counts = sorted({one.count for one in own})
        count = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        first, example = own[0], f", such as {own[0].example}" if own[0].example else ""
        where = f" ({parts})" if parts else ""
        if first.fold is not None and folds > 1:
            if len(own) == folds:
                where += " in every fold"
            else:
                where += f" in fold {some([str(one.fold) for one in own], 10)}"
        amount = f": {count} of {first.of}" if first.count else ""
        yield f"{level:<8} {fault}{where}{amount}{example}"


def _write(path: Path, found: Sequence[Finding]) -> None:
    if path.suffix == ".json":
        write_text(path, json.dumps([asdict(one) for one in found], indent=2) + "\n")
    else:
        write_records(path, Finding, found)
