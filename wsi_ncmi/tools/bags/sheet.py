"""Command `bags sheet`: the sheet of a packed file that carries its own labels."""

from pathlib import Path

from wsi_ncmi.bags.foreign.packed import texts
from wsi_ncmi.bags.store import reading
from wsi_ncmi.cohorts.sheet import SlideRow, write_sheet
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.hdf5 import open_hdf5

PATIENT_KEYS = ("patient_id", "case_id")


def sheet(packed: Path, out: Path) -> int:
    """Write a sheet from `slide_id`, `label`, `patient_id` or `case_id`, and `centre` if there.

    Without `centre`, TCGA identifiers give it (their second field is the tissue source site), and
    any other is "unknown".

    Returns:
        The number of rows.

    Raises:
        BagError: the file is not HDF5 or lacks a dataset.
    """
    with reading(packed, "HDF5"), open_hdf5(packed) as file:
        patient_key = next((k for k in PATIENT_KEYS if k in file), None)
        missing = [k for k in ("slide_id", "label") if k not in file]
        if missing or patient_key is None:
            needed = f"slide_id, label and one of {', '.join(PATIENT_KEYS)}"
            raise BagError(f"{packed}: a sheet needs {needed}; found {sorted(file)}")
        slide_ids, labels = texts(file["slide_id"]), texts(file["label"])
        patients = texts(file[patient_key])
        given = texts(file["centre"]) if "centre" in file else None
    centres = given or [_tcga_site(slide_id) for slide_id in slide_ids]
    columns = zip(slide_ids, labels, patients, centres, strict=True)
    rows = [SlideRow(slide_id=s, label=y, patient_id=p, centre=c) for s, y, p, c in columns]
    write_sheet(sorted(rows, key=lambda row: row.slide_id), out)
    return len(rows)


def _tcga_site(slide_id: str) -> str:
    fields = slide_id.split("-")
    return fields[1] if fields[0] == "TCGA" and len(fields) > 2 else "unknown"
