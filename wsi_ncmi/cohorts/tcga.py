"""Slide sheets of folders of TCGA slides, as the GDC's client downloads them.

A slide's name begins with its barcode (docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode):
`TCGA-<tissue source site>-<participant>-<sample>-<portion>-<slide>.<uuid>.svs`. The patient is its
first three parts, the centre the tissue source site. Slides DX… are diagnostic (paraffin), TS…, MS…
and BS… are of frozen tissue.
"""

import re
from collections import Counter
from pathlib import Path

from wsi_ncmi.cohorts.folder import slides_below, slides_folder
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.cohorts.table import columns_of
from wsi_ncmi.errors import ConfigError

BARCODE = re.compile(r"^((TCGA-(\w{2}))-\w{4})-\d{2}[A-Z]?-\d{2}-([A-Z]{2})\w*")
KINDS = {"diagnostic": ("DX",), "frozen": ("TS", "MS", "BS"), "all": ("DX", "TS", "MS", "BS")}


def sheet_rows(images: str, kind: str, labels: Path | None) -> list[SlideRow]:
    """Rows of the slide sheet, sorted by name.

    Args:
        images: a folder with the slides somewhere below it.
        kind: a key of `KINDS`: which slides are taken.
        labels: table with the columns `case_id` (the patient) and `label`; slides of other patients
            have no label. None: the label is the first folder below `images`, such as `LUAD`.

    Raises:
        ConfigError: a name without a barcode, no slide of the kind, a slide without a folder, or a
            patient with two labels.
    """
    root, found = slides_folder(images), slides_below(images)
    unnamed = [f"{path}: its name is no TCGA barcode" for path in found if not _parts(path)]
    if unnamed:
        raise ConfigError(unnamed)
    taken = [(path, _parts(path)) for path in found if _parts(path)[3] in KINDS[kind]]
    if not taken:
        counts = Counter(_parts(path)[3] for path in found)
        seen = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        raise ConfigError([f"{root}: no {kind} slide, found {seen}: see --kind"])
    if labels is None:
        flat = [f"{p}: lies in no folder that says its label" for p, _ in taken if p.parent == root]
        if flat:
            raise ConfigError(flat)
        of_slide = {path: path.relative_to(root).parts[0] for path, _ in taken}
    else:
        of_patient = _labels(labels)
        of_slide = {path: of_patient.get(parts[0], "") for path, parts in taken}
    return [
        SlideRow(path.stem, of_slide[path], patient, site.removeprefix("TCGA-"), str(path))
        for path, (patient, site, *_) in taken
    ]


def _parts(path: Path) -> tuple[str, ...]:
    """Patient, site with its prefix, site, kind of slide; () for another name."""
    match = BARCODE.match(path.name)
    return match.groups() if match else ()


def _labels(path: Path) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for _, record in columns_of(path, ("case_id", "label")):
        found.setdefault(record["case_id"], set()).add(record["label"])
    several = [
        f"{path}: patient {patient} has several labels ({', '.join(sorted(names))})"
        for patient, names in found.items()
        if len(names) > 1
    ]
    if several:
        raise ConfigError(several)
    return {patient: names.pop() for patient, names in found.items()}
