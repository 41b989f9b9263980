"""Slides' tiles through the encoder into their bags."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.bags.store import Bag, cast_features
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import SLIDE_MINUTES, Extraction
from wsi_ncmi.errors import BagError, SlideError
from wsi_ncmi.extraction.batches import Batch, Job, Prefetched, Segment, batches
from wsi_ncmi.extraction.encode import BatchEncoder, Pending, TilePixels
from wsi_ncmi.extraction.readers import Readers
from wsi_ncmi.extraction.speed import Speed
from wsi_ncmi.extraction.stain import StainNormaliser
from wsi_ncmi.images.augmentation import Augmenter
from wsi_ncmi.provenance import STAGE_VERSIONS, digest
from wsi_ncmi.slides.stream import Buffers
from wsi_ncmi.tiling.tilefile import TiledSlide

REASON_EXAMPLES = 3
IN_FLIGHT = 2
"""Batches on the device at a time: one is encoded while the next one travels."""

OnDone = Callable[[Job, Bag | SlideError | BagError], None]


@dataclass(frozen=True)
class Extractor:
    """Everything that all slides of a run share.

    Args:
        encode: the encoder on its device.
        options: the configuration's section.
        autocast: resolved, see `encode.resolve_autocast`.
        augment: what makes the augmented copies, if the configuration asks for them.
        stain: what brings slides to one stain, likewise.
        threads: that decode tiles.
        slide_minutes: after which a slide that gives no pixels is given up.
    """

    encode: BatchEncoder
    options: Extraction
    autocast: str
    augment: Augmenter | None
    stain: StainNormaliser | None
    threads: int
    slide_minutes: float = SLIDE_MINUTES

    def digest(self, tiles: TiledSlide) -> str:
        """All that decides a bag's content."""
        options = self.options.model_dump(include=_DECIDING, mode="json")
        return digest(
            {
                "version": STAGE_VERSIONS["features"],
                "tiles": tiles.digest,
                "encoder": self.encode.encoder.facts(),
                "autocast": self.autocast,
                **options,
            }
        )

    def job(self, row: SlideRow, tiles: TiledSlide) -> Job:
        """What is to be encoded of a slide.

        Raises:
            SlideError: no tile passes the quality limits, or the slide has too little stain.
        """
        kept = np.flatnonzero(wanted_tiles(tiles, self.options))
        if not len(kept):
            raise SlideError(f"none of {len(tiles)} tiles passes the quality limits of extraction")
        if self.stain is None:
            return Job(row, tiles, kept)
        return Job(row, tiles, kept, partial(self.stain, maps=self.stain.map_of(tiles)))

    def run(self, jobs: Iterable[Job], on_done: OnDone, speed: Speed) -> None:
        """Encode slides one after the other; their tiles share batches.

        Args:
            jobs: taken when the loader gets to them, a few batches ahead.
            on_done: called once for each job with its bag, or with the reason that it has none.
        """
        waiting: deque[tuple[Batch, list[Pending]]] = deque()
        collecting: dict[Job, _Collected] = {}

        def collect() -> None:
            batch, pending = waiting.popleft()
            with speed.device():
                features = [p.result() for p in pending]
            self._collect(batch, features, collecting, on_done)
            for segment in batch:
                buffers.give_back(segment.pixels)
            speed.add(sum(len(segment.indices) for segment in batch))

        with Readers(self.threads, self.slide_minutes) as readers:
            buffers = Buffers(self.encode.allocate)
            stream = batches(jobs, self.options.batch_size, readers, buffers)
            with Prefetched(stream) as ahead:
                while True:
                    with speed.loader():
                        batch = next(ahead, None)
                    if batch is None:
                        break
                    with speed.device():
                        waiting.append((batch, self._copies(batch)))
                    while len(waiting) >= IN_FLIGHT:
                        collect()
                while waiting:
                    collect()

    def _copies(self, batch: Batch) -> list[Pending]:
        """The batch's features, and those of each augmented copy."""
        filled = [segment for segment in batch if len(segment.indices)]
        parts = [TilePixels(s.pixels, s.job.stain) for s in filled]
        if not parts:
            return []
        pending = [self.encode(parts)]
        augmentation = self.options.augmentation
        for copy in range(augmentation.copies if self.augment and augmentation else 0):
            parts = [TilePixels(self._augmented(s, copy), s.job.stain) for s in filled]
            pending.append(self.encode(parts))
        return pending

    def _augmented(self, segment: Segment, copy: int) -> NDArray[np.uint8]:
        assert self.augment is not None
        assert self.options.augmentation is not None
        seed, slide_id = self.options.augmentation.seed, segment.job.row.slide_id
        seeds = [_seed(seed, slide_id, copy, int(i)) for i in segment.indices]
        views = zip(segment.pixels, seeds, strict=True)
        return np.stack([self.augment(pixels, s) for pixels, s in views])

    def _collect(
        self,
        batch: Batch,
        features: list[NDArray[np.float32]],
        collecting: dict[Job, "_Collected"],
        on_done: OnDone,
    ) -> None:
        start = 0
        for segment in batch:
            job = segment.job
            if segment.error is not None:
                collecting.pop(job, None)
                on_done(job, segment.error)
                continue
            collected = collecting.setdefault(job, _Collected(len(job.kept), self.options.dtype))
            stop = start + len(segment.indices)
            collected.add(segment, [copy[start:stop] for copy in features])
            start = stop
            if collected.count == len(job.kept):
                del collecting[job]
                try:
                    on_done(job, self._bag(job, collected))
                except (SlideError, BagError) as error:
                    on_done(job, error)

    def _bag(self, job: Job, collected: "_Collected") -> Bag:
        self._check_invalid(collected.invalid, len(job.kept))
        if collected.problem is not None:
            raise collected.problem
        valid = np.ones(len(job.kept), bool)
        valid[list(collected.invalid)] = False
        stored = [features[valid] for features in collected.features]
        coords = job.tiles.coords[job.kept]
        return Bag(
            features=stored[0],
            coords=coords[valid],
            tissue_fraction=job.tiles.tissue_fraction[job.kept][valid],
            invalid_coords=coords[~valid].reshape(-1, 2),
            augmented=(
                np.stack(stored[1:])
                if len(stored) > 1
                else np.empty((0, *stored[0].shape), stored[0].dtype)
            ),
            coords_attributes=coords_attributes(job.row, job.tiles),
            attributes=self._attributes(job.row, job.tiles),
        )

    def _check_invalid(self, invalid: dict[int, str], count: int) -> None:
        limit = self.options.max_invalid_fraction
        if len(invalid) == count or len(invalid) > limit * count:
            examples = "; ".join(sorted(set(invalid.values()))[:REASON_EXAMPLES])
            raise SlideError(
                f"{len(invalid)} of {count} tiles cannot be decoded, more than "
                f"extraction.max_invalid_fraction = {limit:g}: {examples}"
            )

    def _attributes(self, row: SlideRow, tiles: TiledSlide) -> dict[str, Any]:
        facts = self.encode.encoder.facts()
        return {
            "slide_id": row.slide_id,
            "slide_fingerprint": tiles.fingerprint,
            "encoder": facts["name"],
            "weights_sha256": facts["weights_sha256"],
            "input_px": facts["input_px"],
            "mean": facts["mean"],
            "std": facts["std"],
            "resize": "bilinear, antialiased, whole tile",
            "stain": self.options.stain,
            "autocast": self.autocast,
            "compiled": self.options.compile,
            "batch_size": self.options.batch_size,
            "reader": tiles.reader,
            "mpp": tiles.mpp,
            "mpp_source": tiles.mpp_source,
            "tile_mpp": tiles.wanted_mpp,
            "tile_px": tiles.tile_px,
            "read_px": tiles.read_px,
            "scale_error_percent": tiles.scale_error_percent,
            "tiles_digest": tiles.digest,
            "digest": self.digest(tiles),
        }


@dataclass
class _Collected:
    """A slide's features as they come, in the order of its grid whatever the reader's is."""

    total: int
    dtype: str
    count: int = 0
    features: list[NDArray[Any]] = field(default_factory=list)
    invalid: dict[int, str] = field(default_factory=dict)
    problem: BagError | None = None

    def add(self, segment: Segment, features: list[NDArray[np.float32]]) -> None:
        self.count += len(segment.indices)
        self.invalid.update(segment.invalid)
        if not self.features:
            self.features = [np.zeros((self.total, f.shape[1]), self.dtype) for f in features]
        valid = np.array([i not in segment.invalid for i in segment.indices.tolist()])
        try:
            for stored, new in zip(self.features, features, strict=True):
                stored[segment.indices[valid]] = cast_features(new[valid], self.dtype)
        except BagError as error:
            self.problem = self.problem or error


_DECIDING = {
    "batch_size",
    "dtype",
    "compile",
    "stain",
    "max_invalid_fraction",
    "min_focus",
    "max_pen",
    "max_white",
    "max_black",
    "max_fold",
    "augmentation",
}


def wanted_tiles(tiles: TiledSlide, options: Extraction) -> NDArray[np.bool_]:
    """Which tiles pass the configured quality limits: [N] bool.

    A tile whose quality is not known (NaN: its pixels could not be decoded) passes: it is tried,
    and counted among the invalid ones.
    """
    keep = np.ones(len(tiles), bool)
    if options.min_focus is not None:
        keep &= ~(tiles.focus < options.min_focus)
    for name in ("pen", "white", "black", "fold"):
        limit = getattr(options, f"max_{name}")
        if limit is not None:
            keep &= ~(getattr(tiles, name) > limit)
    return keep


def coords_attributes(row: SlideRow, tiles: TiledSlide) -> dict[str, Any]:
    """The attributes of `coords` under the names that CLAM's and TRIDENT's readers look for."""
    # A level at half its size is not the file's: in pixels of the one that it is decoded from.
    scale = 1 if tiles.stored_level == tiles.level else 2
    overlap = round(tiles.overlap_px * tiles.residual * scale)
    return {
        "patch_size": tiles.read_px * scale,
        "patch_size_level0": round(tiles.tile_size_level0),
        "patch_level": tiles.stored_level,
        "overlap": overlap,
        "level0_mpp": tiles.mpp,
        "target_mpp": tiles.wanted_mpp,
        "level0_width": tiles.width,
        "level0_height": tiles.height,
        "name": row.slide_id,
        "savetodir": Path(row.path).parent.name,
    }


def _seed(seed: int, slide_id: str, copy: int, index: int) -> int:
    return int(digest([seed, slide_id, copy, index])[:8], 16)
