"""Stage `features`: the bags of one bucket of slides."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from pebble import ProcessExpired

from wsi_ncmi import logs
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import SLIDE_MINUTES, Extraction
from wsi_ncmi.encoders import build_encoder, check_scale, published_facts
from wsi_ncmi.encoders.scale import Scaled
from wsi_ncmi.errors import SlideError
from wsi_ncmi.extraction.allocator import keep_freed_memory
from wsi_ncmi.extraction.encode import BatchEncoder, pick_device, resolve_autocast
from wsi_ncmi.extraction.extract import Extractor
from wsi_ncmi.extraction.share import FeatureRow, Share, tiles_of
from wsi_ncmi.extraction.speed import Speed
from wsi_ncmi.extraction.stain import StainNormaliser
from wsi_ncmi.files.atomic import swept, write_json
from wsi_ncmi.files.table import write_records
from wsi_ncmi.images.augmentation import Augmenter
from wsi_ncmi.machine import cpu_budget
from wsi_ncmi.processes import how_it_died, process_pool
from wsi_ncmi.tiling.seen import count_missed
from wsi_ncmi.tiling.tilefile import UNREACHABLE

log = logging.getLogger(__name__)


def run(
    rows: Sequence[SlideRow],
    extraction: Extraction,
    tiles_dir: Path,
    out_dir: Path,
    manifest: Path,
    threads: int,
    processes: int | None = None,
    slide_minutes: float = SLIDE_MINUTES,
) -> None:
    """Encode every slide of a bucket that has no current bag, then write the bucket's manifest.

    A slide that cannot be used is a row with its reason and never stops the others.

    Args:
        threads: cores for all processes, at most those that are granted (`cpu_budget`).
        processes: None: one for each GPU. The slides are shared out by their tiles.
        slide_minutes: a slide that gives no pixels for so long is given up for this run.
    """
    processes = processes or max(1, torch.cuda.device_count())
    threads = max(1, min(threads, cpu_budget()) // processes)
    bucket = Bucket(rows, extraction, tiles_dir, out_dir, threads, slide_minutes)
    bucket.check_scales(published_facts(extraction.encoder))  # before gigabytes are fetched
    own, *others = bucket.shares(processes)
    with swept(out_dir), ExitStack() as stack:
        pool = stack.enter_context(process_pool(len(others), logs.joining())) if others else None
        futures = [
            pool.schedule(encode_share, args=[share, number])
            for number, share in enumerate(others, 1)
            if pool is not None
        ]
        extractor = own.extractor(0)
        found = own.encode(extractor)
        for share, future in zip(others, futures, strict=True):
            found += _rows_of(future) or share.encode(extractor)
    write_json(
        manifest.with_suffix(".json"),
        {**extractor.encode.encoder.facts(), "autocast": extractor.autocast},
    )
    write_records(manifest, FeatureRow, sorted(found, key=lambda row: row.slide_id))
    count_missed(manifest, [row.slide_id for row in found if row.status == UNREACHABLE])


def encode_share(share: "Bucket", number: int) -> list[FeatureRow]:
    """In a process of its own: encode some of the slides on the device of this number."""
    return share.encode(share.extractor(number))


def _rows_of(future: "Future[list[FeatureRow]]") -> list[FeatureRow] | None:
    """None if its process died: the slides that it had not finished are encoded here."""
    try:
        return future.result()
    except ProcessExpired as error:
        log.warning(
            "an encoding process died: %s; its slides are redone", how_it_died(error.exitcode)
        )
        return None


@dataclass(frozen=True)
class Bucket:
    """Slides to encode, and where."""

    rows: Sequence[SlideRow]
    extraction: Extraction
    tiles_dir: Path
    out_dir: Path
    threads: int
    slide_minutes: float = SLIDE_MINUTES

    def shares(self, count: int) -> list["Bucket"]:
        """The slides in `count` parts of about as many tiles, in their order; none is empty."""
        if count == 1:
            return [self]
        sizes = [1 + self._size(row) for row in self.rows]
        loads = [0] * max(1, min(count, len(self.rows)))
        parts: list[list[int]] = [[] for _ in loads]
        for place in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
            lightest = loads.index(min(loads))
            parts[lightest].append(place)
            loads[lightest] += sizes[place]
        return [replace(self, rows=[self.rows[i] for i in sorted(part)]) for part in parts]

    @cached_property
    def _grids(self) -> dict[str, tuple[int, float, int]]:
        """Slide -> its number of tiles, their µm/px and side in pixels; read once."""
        found = {}
        for row in self.rows:
            with suppress(SlideError):  # a row with its reason, when its turn comes
                tiles = tiles_of(self.tiles_dir, row)
                found[row.slide_id] = (len(tiles), tiles.wanted_mpp, tiles.tile_px)
        return found

    def _size(self, row: SlideRow) -> int:
        return self._grids.get(row.slide_id, (0,))[0]

    def check_scales(self, encoder: Scaled | None) -> None:
        """Raise PartError where tiles were cut at a scale that the encoder is not meant for."""
        if encoder is None or self.extraction.any_scale:
            return
        for mpp, px in {(mpp, px) for _, mpp, px in self._grids.values()}:
            check_scale(encoder, mpp, px)

    def extractor(self, number: int) -> Extractor:
        """The encoder on the device of this number, with everything that slides share."""
        keep_freed_memory()
        torch.set_num_threads(self.threads)
        made = make_extractor(self.extraction, self.threads, number, self.slide_minutes)
        self.check_scales(made.encode.encoder)
        return made

    def encode(self, extractor: Extractor) -> list[FeatureRow]:
        """Encode the slides; every slide's row."""
        with Speed(sum(map(self._size, self.rows))) as speed:
            rows = Share(extractor, self.tiles_dir, self.out_dir, speed).encode(self.rows)
        log.info("%s", speed.verdict())
        return rows


def make_extractor(
    extraction: Extraction,
    threads: int,
    device_number: int = 0,
    slide_minutes: float = SLIDE_MINUTES,
) -> Extractor:
    """The encoder on its device with everything a run shares."""
    device = pick_device(device_number)
    autocast = resolve_autocast(extraction.autocast, device)
    encoder = build_encoder(extraction.encoder, extraction.options, extraction.weights)
    encode = BatchEncoder(encoder, extraction.batch_size, device, autocast, extraction.compile)
    transforms = extraction.augmentation.transforms if extraction.augmentation else []
    augment = Augmenter(transforms) if transforms else None
    kind = extraction.stain
    stain = StainNormaliser(kind, device) if kind != "none" else None
    return Extractor(encode, extraction, autocast, augment, stain, threads, slide_minutes)
