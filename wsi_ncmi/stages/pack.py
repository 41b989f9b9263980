"""Stage `pack`: all bags of a cohort into the packed cache that training reads."""

import json
from collections.abc import Sequence
from pathlib import Path

from wsi_ncmi.bags.cache import write_cache
from wsi_ncmi.bags.foreign.importers import StoreSource, open_source
from wsi_ncmi.config import Bags
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.atomic import write_json


def run_store(features_dir: Path, manifests: Sequence[Path], out_dir: Path) -> None:
    """Pack our own bags, and say once what encoder they are of."""
    facts = [json.loads(m.with_suffix(".json").read_text()) for m in manifests]
    if any(f != facts[0] for f in facts):
        raise BagError(
            f"{features_dir}: the buckets were encoded by different encoders: delete "
            f"{features_dir}/bucket-*.tsv and run again"
        )
    write_cache(StoreSource(features_dir, manifests), out_dir)
    write_json(out_dir / "encoder.json", facts[0])


def run_import(bags: Bags, slide_ids: Sequence[str], out_dir: Path) -> None:
    """Pack bags that exist already; slides of the sheet without a usable bag are listed."""
    source = open_source(Path(bags.path), bags.format, slide_ids)
    write_cache(source, out_dir)
    facts = {
        "name": bags.name,
        "description": f"bags imported from {Path(bags.path).name} ({bags.format})",
        "dim": source.dim,
        "weights_source": "not known: the bags were made elsewhere",
        "weights_sha256": "",
    }
    write_json(out_dir / "encoder.json", facts)
