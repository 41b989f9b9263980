"""Stage `features`: the bags of one bucket of slides."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from wsi_ncmi.bags.store import is_current, read_bag, write_bag
from wsi_ncmi.config import Extraction
from wsi_ncmi.encoders import build_encoder
from wsi_ncmi.errors import BagError, SlideError
from wsi_ncmi.extraction.encode import BatchEncoder, pick_device, resolve_autocast
from wsi_ncmi.extraction.extract import Extractor
from wsi_ncmi.images.augmentation import Augmenter
from wsi_ncmi.provenance import write_json, write_text
from wsi_ncmi.sheet import SlideRow
from wsi_ncmi.slides import tilefile

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0


@dataclass(frozen=True)
class FeatureRow:
    """A slide in the manifest of its bucket."""

    slide_id: str
    status: str
    reason: str
    tiles: int
    invalid: int
    dim: int
    digest: str
    encoder: str
    weights_sha256: str


def run(
    rows: Sequence[SlideRow],
    extraction: Extraction,
    tiles_dir: Path,
    out_dir: Path,
    manifest: Path,
    threads: int,
) -> None:
    """Encode every slide of a bucket that has no current bag, then write the bucket's manifest.

    A slide that cannot be used is a row with its reason and never stops the others.
    """
    torch.set_num_threads(threads)
    grids = {row.slide_id: _grid(tiles_dir, row) for row in rows}
    extractor = make_extractor(extraction, threads)
    total = sum(len(g) for g in grids.values() if not isinstance(g, str))
    with tqdm(total=total, unit="tile", mininterval=_interval(), file=sys.stderr) as bar:
        results = [_slide(row, grids[row.slide_id], extractor, out_dir, bar) for row in rows]
    facts = extractor.encode.encoder.facts()
    write_json(manifest.with_suffix(".json"), {**facts, "autocast": extractor.autocast})
    frame = pd.DataFrame([asdict(r) for r in results], columns=list(FeatureRow.__annotations__))
    write_text(manifest, frame.sort_values("slide_id").to_csv(sep="\t", index=False))


def make_extractor(extraction: Extraction, threads: int) -> Extractor:
    """The encoder on its device with everything a run shares."""
    device = pick_device()
    autocast = resolve_autocast(extraction.autocast, device)
    encoder = build_encoder(extraction.encoder, extraction.options, extraction.weights)
    encode = BatchEncoder(encoder, extraction.batch_size, device, autocast)
    transforms = extraction.augmentation.transforms if extraction.augmentation else []
    augment = Augmenter(transforms) if transforms else None
    return Extractor(encode, extraction, autocast, augment, threads)


def _grid(tiles_dir: Path, row: SlideRow) -> tilefile.TileFile | str:
    try:
        tiles = tilefile.read(tiles_dir / f"{row.slide_id}.h5")
    except SlideError as error:
        return f"no tiles: {error}"
    return tiles if tiles.status == "ok" else f"{tiles.status}: {tiles.reason}"


def _slide(
    row: SlideRow, grid: tilefile.TileFile | str, extractor: Extractor, out_dir: Path, bar: tqdm
) -> FeatureRow:
    path = out_dir / f"{row.slide_id}.h5"
    facts = extractor.encode.encoder.facts()
    if isinstance(grid, str):
        path.unlink(missing_ok=True)  # a bag of an earlier, readable version of the slide
        return _failed(row, grid, facts)
    wanted = extractor.digest(grid)
    try:
        if is_current(path, wanted):
            bar.update(len(grid))
        else:
            write_bag(path, extractor.bag(row, grid, bar.update))
        bag = read_bag(path)
    except (SlideError, BagError) as error:
        log.warning("slide %s: %s", row.slide_id, error)
        path.unlink(missing_ok=True)
        return _failed(row, str(error), facts)
    return FeatureRow(
        slide_id=row.slide_id,
        status="ok",
        reason="",
        tiles=len(bag.features),
        invalid=len(bag.invalid_coords),
        dim=bag.features.shape[1],
        digest=wanted,
        encoder=facts["name"],
        weights_sha256=facts["weights_sha256"],
    )


def _failed(row: SlideRow, reason: str, facts: dict[str, str]) -> FeatureRow:
    text = " ".join(reason.split())
    status = "no_tissue" if text.startswith("no_tissue") else "failed"
    return FeatureRow(
        row.slide_id, status, text, 0, 0, 0, "", facts["name"], facts["weights_sha256"]
    )


def _interval() -> float:
    return 0.5 if sys.stderr.isatty() else LOG_SECONDS
