"""Whose a slide is, what it shows, and which slides are one: what split files leave out."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from wsi_ncmi.bags.foreign.discover import found_bags, layout_of
from wsi_ncmi.bags.twins import equal_bags
from wsi_ncmi.cohorts.twins import same_files, sets_of
from wsi_ncmi.errors import UserError
from wsi_ncmi.files.user_table import read_user_table
from wsi_ncmi.tools.splits import columns
from wsi_ncmi.tools.splits.columns import cell, first_of
from wsi_ncmi.tools.splits.layouts import Placed, Split

TCGA = re.compile(r"^(TCGA-\w{2}-\w{4})(?!\w)")
"""The first three fields of a barcode are the patient (docs.gdc.cancer.gov, TCGA Barcode)."""
ENDINGS = re.compile(r"\.(svs|tiff?|ndpi|mrxs|scn|bif|vsi|dcm|zarr|h5|hdf5|pt|pth|npy|npz)$", re.I)


def name_of(slide_id: str) -> str:
    """A slide's name without its folder and ending, in lower case: equal for the same slide."""
    return ENDINGS.sub("", PurePath(slide_id.replace("\\", "/")).name).lower()


@dataclass(frozen=True)
class Sheet:
    """What a table of slides says, by `name_of`: patients, labels, and paths by slide_id."""

    patients: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)


def read_sheet(path: Path) -> Sheet:
    """A slide sheet (TSV), or a table of other tools (CSV) with slides and patients or labels.

    Raises:
        UserError: there is no column of slides, or neither patients nor labels.
    """
    table = read_user_table(path, "," if path.suffix == ".csv" else "\t", unnamed="index")
    slide, patient, label, file = (
        first_of(names, table.columns)
        for names in (columns.SLIDE, columns.PATIENT, columns.LABEL, ("path",))
    )
    if slide is None or not (patient or label):
        raise UserError(
            f"{path}: found columns {', '.join(table.columns)}; expected slide_id, and patient_id "
            "(or case_id) or label"
        )
    records = [record for _, record in table.rows]
    names = [name_of(cell(record, slide)) for record in records]
    return Sheet(
        {name: cell(r, patient) for name, r in zip(names, records, strict=True)},
        {name: cell(r, label) for name, r in zip(names, records, strict=True)},
        {cell(r, slide): str(path.parent / cell(r, file)) for r in records if cell(r, file)},
    )


def completed(split: Split, sheet: Sheet, pattern: re.Pattern[str] | None) -> tuple[Split, str]:
    """The split with patients and labels, and how the patients were known, in words.

    A patient is the sheet's, or the file's own, or what `pattern` or the barcode of the TCGA finds
    in the slide's name; a label the sheet's or the file's own.
    """
    sources: Counter[str] = Counter()
    rows = []
    for row in split.rows:
        name = name_of(row.slide_id)
        patient, source = _patient(row, sheet.patients.get(name, ""), pattern)
        label = sheet.labels.get(name, "") or row.label
        rows.append(row._replace(patient_id=patient, label=label))
        sources[source] += 1
    known = [source for source, _ in sources.most_common() if source]
    return Split(split.name, split.layout, tuple(rows)), ", ".join(known)


def _patient(row: Placed, given: str, pattern: re.Pattern[str] | None) -> tuple[str, str]:
    if given:
        return given, "sheet"
    if row.patient_id:
        return row.patient_id, "split file"
    name = PurePath(row.slide_id.replace("\\", "/")).name
    if pattern is not None:
        found = pattern.search(name)
        return (found[1], "pattern") if found else ("", "")
    found = TCGA.match(name.upper())
    return (found[1], "TCGA barcode") if found else ("", "")


def twins(split: Split, sheet: Sheet, bags: Path | None) -> list[list[str]]:
    """Sets of slide_ids that are one slide or bag: by name, by the sheet's files, by features.

    Raises:
        BagError: there are no bags at `bags`, or one cannot be read.
    """
    ids = sorted({row.slide_id for row in split.rows})
    by_name = {name_of(slide_id): slide_id for slide_id in ids}
    found = sets_of((name_of(slide_id), slide_id) for slide_id in ids)
    files = {by_name[n]: path for s, path in sheet.paths.items() if (n := name_of(s)) in by_name}
    found += same_files(files)
    if bags is not None:
        found += [[by_name[name_of(s)] for s in ids] for ids in _equal(bags, by_name)]
    return sorted({tuple(one): one for one in found}.values())


def _equal(path: Path, wanted: Iterable[str]) -> list[list[str]]:
    known, bags = set(wanted), found_bags(path, layout_of(path))
    found = {bag.slide_id: bag for bag in bags if name_of(bag.slide_id) in known}
    return equal_bags(found, lambda slide_id: found[slide_id].read().features)
