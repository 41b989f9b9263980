"""One slide's tiles through the encoder into its bag."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.bags.store import Bag, cast_features
from wsi_ncmi.config import Extraction
from wsi_ncmi.errors import SlideError
from wsi_ncmi.extraction.encode import BatchEncoder
from wsi_ncmi.extraction.tiles import stream
from wsi_ncmi.images.augmentation import Augmenter
from wsi_ncmi.provenance import STAGE_VERSIONS, digest
from wsi_ncmi.sheet import SlideRow
from wsi_ncmi.slides.reader import Slide, open_slide
from wsi_ncmi.slides.tilefile import TileFile

REASON_EXAMPLES = 3


@dataclass(frozen=True)
class Extractor:
    """Everything that all slides of a run share.

    Args:
        encode: the encoder on its device.
        options: the configuration's section.
        autocast: resolved, see `encode.resolve_autocast`.
        augment: what makes the augmented copies, if the configuration asks for them.
        threads: that read tiles.
    """

    encode: BatchEncoder
    options: Extraction
    autocast: str
    augment: Augmenter | None
    threads: int

    def digest(self, tiles: TileFile) -> str:
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

    def bag(self, row: SlideRow, tiles: TileFile, on_tiles: Any) -> Bag:
        """Features of a slide.

        Args:
            row: its line in the sheet.
            tiles: its grid, status ok.
            on_tiles: called with the number of tiles after each batch.

        Raises:
            SlideError: the slide was replaced since it was tiled, or too much of it is unreadable.
        """
        kept = np.flatnonzero(wanted_tiles(tiles, self.options))
        if not len(kept):
            raise SlideError(f"none of {len(tiles)} tiles passes the quality limits of extraction")
        with open_slide(row.path, reader=_reader(tiles), mpp=row.mpp) as slide:
            if slide.fingerprint != tiles.fingerprint:
                raise SlideError(f"{row.path}: replaced since it was tiled: run the tiling again")
            return self._encode(row, slide, tiles, kept, on_tiles)

    def _encode(
        self, row: SlideRow, slide: Slide, tiles: TileFile, kept: NDArray[Any], on_tiles: Any
    ) -> Bag:
        side, level = tiles.read_px or 0, tiles.level or 0
        coords = tiles.coords[kept]

        def read(i: int) -> NDArray[np.uint8]:
            return slide.read_region(int(coords[i, 0]), int(coords[i, 1]), level, side, side)

        copies = self.options.augmentation.copies if self.options.augmentation else 0
        rows: list[list[NDArray[np.float32]]] = [[] for _ in range(1 + copies)]
        valid: list[NDArray[np.int64]] = []
        invalid: dict[int, str] = {}
        for batch in stream(read, len(kept), self.options.batch_size, self.threads):
            invalid.update(batch.invalid)
            if len(batch.indices):
                valid.append(batch.indices)
                for copy, features in enumerate(self._copies(batch.pixels, batch.indices, row)):
                    rows[copy].append(features)
            on_tiles(len(batch.indices) + len(batch.invalid))
        self._check_invalid(invalid, len(kept))
        order = np.concatenate(valid)
        stored = [cast_features(np.concatenate(r), self.options.dtype) for r in rows]
        return Bag(
            features=stored[0],
            coords=coords[order],
            tissue_fraction=tiles.tissue_fraction[kept][order],
            invalid_coords=coords[sorted(invalid)].reshape(-1, 2),
            augmented=np.stack(stored[1:]) if copies else np.empty((0, *stored[0].shape)),
            coords_attributes=coords_attributes(row, tiles),
            attributes=self._attributes(row, tiles),
        )

    def _copies(
        self, pixels: NDArray[np.uint8], indices: NDArray[np.int64], row: SlideRow
    ) -> list[NDArray[np.float32]]:
        features = [self.encode(pixels)]
        augmentation = self.options.augmentation
        if self.augment is None or augmentation is None:
            return features
        for copy in range(augmentation.copies):
            seeds = [_seed(augmentation.seed, row.slide_id, copy, int(i)) for i in indices]
            views = [self.augment(p, s) for p, s in zip(pixels, seeds, strict=True)]
            features.append(self.encode(np.stack(views)))
        return features

    def _check_invalid(self, invalid: dict[int, str], count: int) -> None:
        limit = self.options.max_invalid_fraction
        if len(invalid) == count or len(invalid) > limit * count:
            examples = "; ".join(sorted(set(invalid.values()))[:REASON_EXAMPLES])
            raise SlideError(
                f"{len(invalid)} of {count} tiles cannot be decoded, more than "
                f"extraction.max_invalid_fraction = {limit:g}: {examples}"
            )

    def _attributes(self, row: SlideRow, tiles: TileFile) -> dict[str, Any]:
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
            "autocast": self.autocast,
            "batch_size": self.options.batch_size,
            "mpp": tiles.mpp,
            "mpp_source": tiles.mpp_source,
            "tile_mpp": tiles.wanted_mpp,
            "tile_px": tiles.tile_px,
            "read_px": tiles.read_px,
            "scale_error_percent": tiles.scale_error_percent,
            "tiles_digest": tiles.digest,
            "digest": self.digest(tiles),
        }


_DECIDING = {
    "batch_size",
    "dtype",
    "max_invalid_fraction",
    "min_focus",
    "max_pen",
    "max_white",
    "augmentation",
}


def wanted_tiles(tiles: TileFile, options: Extraction) -> NDArray[np.bool_]:
    """Which tiles pass the configured quality limits: [N] bool."""
    keep = np.ones(len(tiles), bool)
    if options.min_focus is not None:
        keep &= tiles.focus >= options.min_focus
    if options.max_pen is not None:
        keep &= tiles.pen <= options.max_pen
    if options.max_white is not None:
        keep &= tiles.white <= options.max_white
    return keep


def coords_attributes(row: SlideRow, tiles: TileFile) -> dict[str, Any]:
    """The attributes of `coords` under the names that CLAM's and TRIDENT's readers look for."""
    overlap = round((tiles.overlap_px or 0) * (tiles.residual or 1.0))
    return {
        "patch_size": tiles.read_px,
        "patch_size_level0": round(tiles.tile_size_level0 or 0),
        "patch_level": tiles.level,
        "overlap": overlap,
        "level0_mpp": tiles.mpp,
        "target_mpp": tiles.wanted_mpp,
        "level0_width": tiles.width,
        "level0_height": tiles.height,
        "name": row.slide_id,
        "savetodir": Path(row.path).parent.name,
    }


def _reader(tiles: TileFile) -> Any:
    return tiles.reader


def _seed(seed: int, slide_id: str, copy: int, index: int) -> int:
    return int(digest([seed, slide_id, copy, index])[:8], 16)
