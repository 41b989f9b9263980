"""Stage `features`: the bags of one bucket of slides."""

import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pandas as pd
import torch

from wsi_ncmi.bags.store import Bag, bag_counts, is_current, write_bag
from wsi_ncmi.claims import Claims, claimed
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Extraction
from wsi_ncmi.encoders import build_encoder, check_scale, published_facts
from wsi_ncmi.encoders.scale import Scaled
from wsi_ncmi.errors import BagError, SlideError
from wsi_ncmi.extraction.allocator import keep_freed_memory
from wsi_ncmi.extraction.batches import Job
from wsi_ncmi.extraction.encode import BatchEncoder, pick_device, resolve_autocast
from wsi_ncmi.extraction.extract import Extractor
from wsi_ncmi.extraction.speed import Speed
from wsi_ncmi.extraction.stain import StainNormaliser
from wsi_ncmi.files.address import is_remote
from wsi_ncmi.files.atomic import discard, write_json, write_text
from wsi_ncmi.images.augmentation import Augmenter
from wsi_ncmi.machine import cpu_budget
from wsi_ncmi.slides.reader import slide_fingerprint
from wsi_ncmi.tiling import tilefile

log = logging.getLogger(__name__)

BAGS_WAITING = 2
"""Bags that wait to be written; a slow disk holds up the encoder, not the memory."""


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
    processes: int | None = None,
) -> None:
    """Encode every slide of a bucket that has no current bag, then write the bucket's manifest.

    A slide that cannot be used is a row with its reason and never stops the others. Processes,
    here and on other machines that share the folder, take slides one by one, each once.

    Args:
        threads: cores for all processes, at most those that are granted (`cpu_budget`).
        processes: None: one for each GPU.
    """
    processes = processes or max(1, torch.cuda.device_count())
    threads = max(1, min(threads, cpu_budget()) // processes)
    bucket = Bucket(rows, extraction, tiles_dir, out_dir, threads)
    others = [_start(bucket, number) for number in range(1, processes)]
    try:
        results, extractor = bucket.encode(0)
    except BaseException:
        for process in others:
            process.terminate()
        raise
    for number, process in enumerate(others, 1):
        process.join()
        if process.exitcode:
            log.warning("process %d ended with %d; its slides were done", number, process.exitcode)
    facts = {**extractor.encode.encoder.facts(), "autocast": extractor.autocast}
    frame = pd.DataFrame([asdict(r) for r in results], columns=list(FeatureRow.__annotations__))
    with Claims(out_dir) as claims:
        claims.take(manifest.name, wait=True)  # another process may be done with the same bucket
        write_json(manifest.with_suffix(".json"), facts)
        write_text(manifest, frame.sort_values("slide_id").to_csv(sep="\t", index=False))


def _start(bucket: "Bucket", number: int) -> SpawnProcess:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=bucket.encode_quietly, args=(number,), daemon=True)
    process.start()
    return process


def make_extractor(extraction: Extraction, threads: int, device_number: int = 0) -> Extractor:
    """The encoder on its device with everything a run shares."""
    device = pick_device(device_number)
    autocast = resolve_autocast(extraction.autocast, device)
    encoder = build_encoder(extraction.encoder, extraction.options, extraction.weights)
    encode = BatchEncoder(encoder, extraction.batch_size, device, autocast, extraction.compile)
    transforms = extraction.augmentation.transforms if extraction.augmentation else []
    augment = Augmenter(transforms) if transforms else None
    kind = extraction.stain
    stain = StainNormaliser(kind, device) if kind != "none" else None
    return Extractor(encode, extraction, autocast, augment, stain, threads)


@dataclass(frozen=True)
class Bucket:
    """The slides that a job encodes, and where."""

    rows: Sequence[SlideRow]
    extraction: Extraction
    tiles_dir: Path
    out_dir: Path
    threads: int

    def encode(self, number: int) -> tuple[list[FeatureRow], Extractor]:
        """Encode what no other process encodes, on the device of this number; every slide's row.

        It returns when all slides are done, by whomever.
        """
        keep_freed_memory()
        torch.set_num_threads(self.threads)
        total, scales = self._look_ahead()
        facts = published_facts(self.extraction.encoder)
        if facts is not None:  # before gigabytes are fetched
            self._check_scales(facts, scales)
        extractor = make_extractor(self.extraction, self.threads, number)
        self._check_scales(extractor.encode.encoder, scales)
        with Claims(self.out_dir) as claims, Speed(total) as speed:
            run = _Run(self, extractor, claims, speed)
            results = run.all()
        log.info("%s", speed.verdict())
        return results, extractor

    def _look_ahead(self) -> tuple[int, set[tuple[float, int]]]:
        """Tiles in all, and at which (µm/px, px) they were cut."""
        total, scales = 0, set()
        for row in self.rows:
            try:
                tiles = _grid(self.tiles_dir, row)
            except SlideError:
                continue
            total += len(tiles)
            scales.add((tiles.wanted_mpp or 0.0, tiles.tile_px or 0))
        return total, scales

    def _check_scales(self, encoder: Scaled, scales: set[tuple[float, int]]) -> None:
        for mpp, px in set() if self.extraction.any_scale else scales:
            check_scale(encoder, mpp, px)

    def encode_quietly(self, number: int) -> None:
        """In a process of its own, which only writes bags."""
        # When the first process gives up: leave no temporary file behind.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self.encode(number)


class _Run:
    """One process at work on a bucket."""

    def __init__(self, bucket: Bucket, extractor: Extractor, claims: Claims, speed: Speed) -> None:
        self.bucket, self.extractor, self.claims, self.speed = bucket, extractor, claims, speed
        self.facts = extractor.encode.encoder.facts()
        self.rows: dict[str, FeatureRow] = {}
        self.slots = threading.Semaphore(BAGS_WAITING)
        self.writing: list[Future[None]] = []

    def all(self) -> list[FeatureRow]:
        with ThreadPoolExecutor(1) as writer:
            self.writer = writer
            self.extractor.run(self._jobs(), self._done, self.speed)
        for future in self.writing:
            future.result()
        return list(self.rows.values())

    def _jobs(self) -> Iterator[Job | None]:
        """Slides to encode; those that are done, or cannot be, become rows on the way."""
        for row in claimed(self.bucket.rows, lambda row: row.slide_id, self.claims):
            job = None if row is None else self._job(row)
            if row is None or job is not None:
                yield job

    def _job(self, row: SlideRow) -> Job | None:
        path = self._path(row)
        try:
            tiles = _grid(self.bucket.tiles_dir, row)
            wanted = self.extractor.digest(tiles)
            if not is_current(path, wanted) or _is_replaced(row, tiles):
                return self.extractor.job(row, tiles)
            self.rows[row.slide_id] = self._row(row, wanted)
            self.speed.skip(len(tiles))
        except (SlideError, BagError) as error:
            self._fail(row, str(error))
        self.claims.release(row.slide_id)
        return None

    def _path(self, row: SlideRow) -> Path:
        return self.bucket.out_dir / f"{row.slide_id}.h5"

    def _row(self, row: SlideRow, digest: str) -> FeatureRow:
        tiles, invalid, dim = bag_counts(self._path(row))
        facts = self.facts["name"], self.facts["weights_sha256"]
        return FeatureRow(row.slide_id, "ok", "", tiles, invalid, dim, digest, *facts)

    def _fail(self, row: SlideRow, reason: str) -> None:
        text = " ".join(reason.split())
        log.warning("slide %s: %s", row.slide_id, text)
        discard(self._path(row))  # a bag of an earlier, readable version
        status = "no_tissue" if text.startswith("no_tissue") else "failed"
        facts = self.facts["name"], self.facts["weights_sha256"]
        self.rows[row.slide_id] = FeatureRow(row.slide_id, status, text, 0, 0, 0, "", *facts)

    def _done(self, job: Job, result: Bag | SlideError | BagError) -> None:
        if not isinstance(result, Bag):
            self._fail(job.row, str(result))
            self.claims.release(job.row.slide_id)
            return
        for future in [future for future in self.writing if future.done()]:
            future.result()  # a full disk ends the run
            self.writing.remove(future)
        self.slots.acquire()
        self.writing.append(self.writer.submit(self._write, job.row, result))

    def _write(self, row: SlideRow, bag: Bag) -> None:
        try:
            write_bag(self._path(row), bag)
            self.rows[row.slide_id] = self._row(row, bag.attributes["digest"])
            log.info("slide %s: %d tiles", row.slide_id, len(bag.features))
        except BagError as error:
            self._fail(row, str(error))
        finally:
            self.slots.release()
            self.claims.release(row.slide_id)


def _is_replaced(row: SlideRow, tiles: tilefile.TileFile) -> bool:
    """Whether another slide lies there now; one that was put away keeps its bag."""
    there = not is_remote(row.path) and Path(row.path).is_file()
    return there and slide_fingerprint(row.path) != tiles.fingerprint


def _grid(tiles_dir: Path, row: SlideRow) -> tilefile.TileFile:
    try:
        tiles = tilefile.read(tiles_dir / f"{row.slide_id}.h5")
    except SlideError as error:
        raise SlideError(f"no tiles: {error}") from error
    if tiles.status != "ok":
        raise SlideError(f"{tiles.status}: {tiles.reason}")
    return tiles
