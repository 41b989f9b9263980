"""The slide sheet: one row per slide, checked whole before anything runs."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from wsi_ncmi.address import expanded, is_remote, no_such
from wsi_ncmi.bounds import PLAUSIBLE_MPP
from wsi_ncmi.config import SAFE_NAME, Tissue
from wsi_ncmi.config.base import problems_of
from wsi_ncmi.errors import AbsentError, ConfigError, TableError, UnreachableError
from wsi_ncmi.files.reach import file_status
from wsi_ncmi.files.table import write_table
from wsi_ncmi.files.user_table import read_user_table

REQUIRED = ("slide_id", "label", "patient_id", "centre")
OPTIONAL = (
    "path",
    "mpp",
    "sha256",
    "annotation",
    "mask",
    "split",
    "exclude",
    "label_source",
)
PARTS = ("train", "val", "test")
TISSUE = "tissue."
LABEL = "label."
SHOWN_LABELS = 10
OVERRIDES: dict[str, TypeAdapter[Any]] = {
    f"{TISSUE}{key}": TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
    for key, field in Tissue.model_fields.items()
}
"""Column -> what checks its cells: the keys of `tiling.tissue`, for one slide."""


@dataclass(frozen=True)
class SlideRow:
    """One slide: `label` may be empty (unlabelled), `mpp` in µm/px overrides the file's.

    Attributes:
        mask: GeoJSON file that is the tissue mask; empty: the mask is made from the slide.
        tissue: (key of `tiling.tissue`, its value for this slide), in the order of the columns.
        split: its part in the data set's official split: train, val or test.
        exclude: why it is used for nothing; empty: it is used.
        label_source: of which label set `label` is, and why that one.
        labels: (name of another label set, the slide's label in it), in the order of the columns.
    """

    slide_id: str
    label: str
    patient_id: str
    centre: str
    path: str = ""
    mpp: float | None = None
    sha256: str = ""
    annotation: str = ""
    mask: str = ""
    tissue: tuple[tuple[str, Any], ...] = ()
    split: str = ""
    exclude: str = ""
    label_source: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))  # `asdict` copies every cell

    def short(self, text: str) -> str:
        """An error's text on one line, with the file's name for its path.

        The path is the user's own: a manifest must not change when slides move.
        """
        named = text.replace(self.path, Path(self.path).name) if self.path else text
        return " ".join(named.split())

    def tissue_options(self, common: Tissue) -> Tissue:
        """The configuration's section with this slide's own values.

        Raises:
            ConfigError: the values do not go together.
        """
        if not self.tissue:
            return common
        try:
            return Tissue.model_validate({**common.model_dump(), **dict(self.tissue)})
        except ValidationError as error:
            found = problems_of(error)
            raise ConfigError(
                [f"slide {self.slide_id}: tissue: {text}" for text in found]
            ) from None


def read_sheet(
    path: Path, *, need_path: bool, is_finished: Callable[[str], bool] = lambda slide_id: False
) -> tuple[list[SlideRow], list[str]]:
    """Rows of a sheet in its order, the excluded ones too, and every problem with them.

    Args:
        path: TSV with a header. Relative paths in it are relative to the sheet's folder.
        need_path: whether slides are read (False for bags that exist already).
        is_finished: slide_id -> whether there are results for which its files were needed: these
            may be gone.
    """
    if not path.is_file():
        return [], [no_such(str(path), "slide sheet")]
    try:
        table = read_user_table(path)
    except TableError as error:
        return [], error.problems
    required = (*REQUIRED, "path") if need_path else REQUIRED
    missing = [name for name in required if name not in table.columns]
    known = (*REQUIRED, *OPTIONAL, *OVERRIDES)
    unknown = [n for n in table.columns if n not in known and not n.startswith(LABEL)]
    problems = [f"{path}: column {name!r} is missing" for name in missing]
    problems += [
        f"{path}: unknown column {name!r}, expected {', '.join(REQUIRED + OPTIONAL)}"
        ", tissue.<a key of tiling.tissue> or label.<name of another label set>"
        for name in unknown
    ]
    if problems:
        return [], problems
    rows: list[SlideRow] = []
    for line, record in table.rows:
        found = _row_problems(record, path, need_path, is_finished)
        problems += [f"{path} row {line}: {problem}" for problem in found]
        if not found:
            rows.append(_row(record, path.parent))
    problems += _duplicates(table.rows, path)
    if not table.rows:
        problems.append(f"{path}: no rows")
    return rows, problems


def _row(record: dict[str, str], folder: Path) -> SlideRow:
    return SlideRow(
        slide_id=record["slide_id"].strip(),
        label=(record["label"] or "").strip(),
        patient_id=record["patient_id"].strip(),
        centre=record["centre"].strip(),
        path=resolved(record.get("path") or "", folder),
        mpp=float(record["mpp"]) if (record.get("mpp") or "").strip() else None,
        sha256=(record.get("sha256") or "").strip(),
        annotation=resolved(record.get("annotation") or "", folder),
        mask=resolved(record.get("mask") or "", folder),
        tissue=tuple(overrides(record, folder)),
        split=(record.get("split") or "").strip(),
        exclude=(record.get("exclude") or "").strip(),
        label_source=(record.get("label_source") or "").strip(),
        labels=tuple(
            (name.removeprefix(LABEL), value.strip())
            for name, value in record.items()
            if name.startswith(LABEL)
        ),
    )


def overrides(record: dict[str, str], folder: Path) -> Iterable[tuple[str, Any]]:
    """(key of `tiling.tissue`, value) of a row's columns, which have no `override_problems`."""
    for column, adapter in OVERRIDES.items():
        text = (record.get(column) or "").strip()
        if text:
            value = adapter.validate_python(text)
            key = column.removeprefix(TISSUE)
            yield key, resolved(value, folder) if key == "weights" else value


def resolved(path: str, folder: Path) -> str:
    """A cell's path or address; a relative path is relative to the sheet's folder."""
    path = expanded(path.strip())
    return path if not path or is_remote(path) else str(folder / path)


def _row_problems(
    record: dict[str, str], sheet: Path, need_path: bool, is_finished: Callable[[str], bool]
) -> list[str]:
    if None in record or None in record.values():
        columns = len([key for key in record if key is not None])
        return [f"expected {columns} tab-separated fields as in the header"]
    problems = []
    if not re.match(SAFE_NAME, record["slide_id"].strip()):
        problems.append(
            f"slide_id {record['slide_id']!r} must be letters, digits, '.', '_' or '-' "
            "(it names files)"
        )
    problems += [f"{key} is empty" for key in ("patient_id", "centre") if not record[key].strip()]
    try:
        mpp = float((record.get("mpp") or "").strip() or 1)
        if not PLAUSIBLE_MPP.hold(mpp):
            problems.append(f"mpp {mpp:g} is no plausible µm/px, expected a value {PLAUSIBLE_MPP}")
    except ValueError:
        problems.append(f"mpp {record['mpp']!r} is not a number")
    problems += override_problems(record)
    split = (record.get("split") or "").strip()
    if split and split not in PARTS:
        problems.append(f"split {split!r}: expected one of {', '.join(PARTS)}, or nothing")
    if (record.get("exclude") or "").strip():  # its files are read by nothing
        return problems
    for key in ("path", "annotation", "mask", f"{TISSUE}weights") if need_path else ():
        value = resolved(record.get(key) or "", sheet.parent)
        if key == "path" and not value:
            problems.append("path is empty")
        may_be_remote = key in ("path", "annotation")
        problem = "" if may_be_remote and is_remote(value) else file_problem(value)
        # Tiles and bags that are finished need it no more; an annotation is read afterwards.
        if problem and (key == "annotation" or not is_finished(record["slide_id"].strip())):
            problems.append(f"{key} {problem}")
    return problems


def file_problem(path: str) -> str:
    """Why a local file cannot be used; "" if it can, or if none is named."""
    try:
        if path:
            file_status(path)
    except AbsentError:
        return no_such(path, "file")
    except UnreachableError as error:
        return str(error)
    return ""


def override_problems(record: dict[str, str]) -> list[str]:
    """What is wrong with a row's columns `tissue.<key>`."""
    problems = []
    for column, adapter in OVERRIDES.items():
        text = (record.get(column) or "").strip()
        try:
            if text:
                adapter.validate_python(text)
        except ValidationError as error:
            problems.append(f"{column} {text!r}: {error.errors()[0]['msg']}")
    return problems


def _duplicates(numbered: Sequence[tuple[int, dict[str, str]]], path: Path) -> list[str]:
    """A slide_id, or a slide's file, in several rows: the latter could be trained and tested on."""
    problems = []
    for column in ("slide_id", "path"):
        found: dict[str, list[tuple[str, str]]] = {}
        for line, record in numbered:
            value = (record.get(column) or "").strip()
            # One file under two spellings is one file.
            key = os.path.normpath(resolved(value, path.parent)) if column == "path" else value
            if value:
                found.setdefault(key, []).append((value, str(line)))
        problems += [
            f"{path}: {column} {rows[0][0]!r} stands in rows {', '.join(line for _, line in rows)}"
            for rows in found.values()
            if len(rows) > 1
        ]
    return problems


def label_problems(
    rows: Iterable[SlideRow], classes: Iterable[str], ignored: Iterable[str], sheet: str
) -> list[str]:
    """Labels that no task knows and `ignore_labels` does not name, in one line."""
    known = dict.fromkeys([*classes, *ignored])
    unknown: dict[str, list[str]] = {}
    for row in rows:
        if row.label and row.label not in known:
            unknown.setdefault(row.label, []).append(row.slide_id)
    if not unknown:
        return []
    total = sum(map(len, unknown.values()))
    each = [f"{label!r} of {len(ids)} (first: {ids[0]})" for label, ids in unknown.items()]
    more = f" and {len(each) - SHOWN_LABELS} more labels" if len(each) > SHOWN_LABELS else ""
    return [
        f"{sheet}: {total} slide(s) have an unknown label: {', '.join(each[:SHOWN_LABELS])}{more}; "
        f"expected one of {', '.join(known)} (or name it in ignore_labels)"
    ]


def disagreeing(rows: Iterable[SlideRow], column: str) -> dict[str, list[str]]:
    """Patients whose slides have several values of a column, with those values, sorted."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.patient_id, set()).add(getattr(row, column))
    return {patient: sorted(values) for patient, values in found.items() if len(values) > 1}


def tissue_problems(rows: Iterable[SlideRow], common: Tissue, sheet: str) -> list[str]:
    """Rows whose columns `tissue.<key>` do not go with the configuration's `tiling.tissue`."""
    problems = []
    for row in rows:
        try:
            row.tissue_options(common)
        except ConfigError as error:
            problems += [f"{sheet}: {problem}" for problem in error.problems]
    return problems


def excluded(rows: Iterable[SlideRow]) -> list[SlideRow]:
    """The rows that are used for nothing, for the reason that they give."""
    return [row for row in rows if row.exclude]


def used(rows: Iterable[SlideRow]) -> list[SlideRow]:
    """The rows that are not excluded."""
    return [row for row in rows if not row.exclude]


def checked_sheet(path: Path, *, need_path: bool) -> list[SlideRow]:
    """The rows of a sheet that are used, if it has no problem.

    Raises:
        ConfigError: with every problem of the sheet.
    """
    return used(whole_sheet(path, need_path=need_path))


def whole_sheet(path: Path, *, need_path: bool) -> list[SlideRow]:
    """As `checked_sheet`, with the excluded rows."""
    rows, problems = read_sheet(path, need_path=need_path)
    if problems:
        raise ConfigError(problems)
    return rows


WRITTEN = ("slide_id", "path", "label", "patient_id", "centre", "mpp", "sha256", "annotation")


def write_sheet(rows: Iterable[SlideRow], path: Path) -> None:
    """Write a sheet (paths as given), leaving an equal file alone."""
    rows = list(rows)
    optional = ("mask", "split", "exclude", "label_source")
    columns = [*WRITTEN, *(name for name in optional if any(getattr(row, name) for row in rows))]
    columns += [c for c in OVERRIDES if any(c.removeprefix(TISSUE) in dict(r.tissue) for r in rows)]
    columns += dict.fromkeys(f"{LABEL}{name}" for row in rows for name, _ in row.labels)
    cells = [
        row.as_dict()
        | {f"{TISSUE}{key}": value for key, value in row.tissue}
        | {f"{LABEL}{name}": label for name, label in row.labels}
        for row in rows
    ]
    write_table(path, columns, [[found.get(column) for column in columns] for found in cells])


def bucket_of(slide_id: str, buckets: int) -> int:
    """The bucket of a slide: it depends on its identifier alone."""
    return int(hashlib.sha1(slide_id.encode()).hexdigest(), 16) % buckets
