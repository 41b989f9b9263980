"""Stage `pack`: all bags of a cohort into the packed cache that training reads."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_ncmi.bags.foreign.importers import StoreSource, open_source
from wsi_ncmi.bags.packing import KEPT, Source, write_cache
from wsi_ncmi.config import Bags
from wsi_ncmi.config.making import SECTIONS, Making
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.atomic import discard, write_json
from wsi_ncmi.files.retries import note_retries

log = logging.getLogger(__name__)


def run_store(
    features_dir: Path,
    manifests: Sequence[Path],
    patient_of: Mapping[str, str] | None,
    out_dir: Path,
    making: Making | None = None,
) -> None:
    """Pack our own bags, and say once what encoder they are of and how they were made.

    Args:
        patient_of: slide_id -> patient_id, see `write_cache`.
        making: None: it is not known.
    """
    facts = [json.loads(m.with_suffix(".json").read_text()) for m in manifests]
    if any(f != facts[0] for f in facts):
        raise BagError(
            f"{features_dir}: the buckets were encoded by different encoders: delete "
            f"{features_dir}/bucket-*.tsv and run again"
        )
    _pack(StoreSource(features_dir, manifests), patient_of, out_dir)
    if making is None:
        discard(out_dir / SECTIONS)
    else:
        write_json(out_dir / SECTIONS, making.record())
    write_json(out_dir / "encoder.json", facts[0])


def run_import(bags: Bags, patient_of: Mapping[str, str], out_dir: Path) -> None:
    """Pack bags that exist already; slides of the sheet without a usable bag are listed.

    Args:
        patient_of: slide_id -> patient_id of all slides of the sheet.
    """
    source = open_source(Path(bags.path), bags.format, list(patient_of))
    _pack(source, patient_of, out_dir)
    facts = {
        "name": bags.name,
        "description": f"bags imported from {Path(bags.path).name} ({bags.format})",
        "dim": source.dim,
        "weights_source": "not known: the bags were made elsewhere",
        "weights_sha256": "",
    }
    write_json(out_dir / "encoder.json", facts)


def _pack(source: Source, patient_of: Mapping[str, str] | None, out_dir: Path) -> None:
    """Pack, and leave a note for the workflow where a bag could not be reached."""
    index = write_cache(source, out_dir, patient_of)
    for row in index:
        if row.reason:
            log.warning("slide %s: %s: %s", row.slide_id, row.status, row.reason)
    lacking = any(row.status == "unreachable" or row.reason.startswith(KEPT) for row in index)
    note_retries(out_dir, lacking=lacking)
