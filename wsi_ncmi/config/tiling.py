"""From slides to tiles: tissue and grid."""

from typing import Any, Literal

from pydantic import Field, model_validator

from wsi_ncmi.config.base import Fraction, LocalPath, Model


class Tissue(Model):
    """The tissue mask, made on a thumbnail. Every key is also a column of the sheet."""

    method: Literal["otsu_saturation", "hsv", "entropy", "model"] = Field(
        "otsu_saturation",
        description=(
            "How tissue is found: `otsu_saturation`, `hsv`, `entropy`, or `model` (a network)."
        ),
    )
    thumbnail_mpp: float = Field(
        8.0,
        gt=0,
        description=(
            "µm/px of the thumbnail on which tissue is found, above 0. For `model`, the µm/px "
            "that it was trained at."
        ),
    )
    min_saturation: Fraction = Field(
        0.03,
        description=(
            "`otsu_saturation`: lowest threshold on the saturation, 0 to 1, so that glass is not "
            "tissue."
        ),
    )
    max_saturation: Fraction = Field(
        0.12,
        description=(
            "`otsu_saturation`: highest threshold on the saturation, 0 to 1, so that faint fat "
            "beside dark tissue is kept."
        ),
    )
    hsv_saturation: Fraction = Field(0.07, description="`hsv`: least saturation of tissue, 0 to 1.")
    hue_from: float = Field(
        220.0,
        ge=0,
        lt=360,
        description=(
            "`hsv`: first hue of tissue in degrees, 0 to below 360. The range runs from here "
            "(blue) through red (0) to `hue_to`."
        ),
    )
    hue_to: float = Field(
        40.0,
        ge=0,
        lt=360,
        description="`hsv`: last hue of tissue in degrees (brown), 0 to below 360.",
    )
    min_entropy: float = Field(
        2.0,
        ge=0,
        le=5,
        description="`entropy`: least entropy of the grey levels within 40 µm, in bits, 0 to 5.",
    )
    weights: LocalPath | None = Field(
        None,
        description=(
            "`model`: a local TorchScript file, or with `architecture` a state dict. `model` "
            "needs it."
        ),
    )
    architecture: str | None = Field(
        None,
        description=(
            "`model`: name of a timm classifier with two classes (glass, tissue) that is run on "
            "patches. `null`: `weights` is TorchScript."
        ),
    )
    patch_px: int = Field(
        32,
        ge=8,
        description=(
            "`model` with `architecture`: side of a patch in pixels of the thumbnail, 8 or more."
        ),
    )
    min_probability: Fraction = Field(
        0.5, description="`model`: least probability of tissue, 0 to 1."
    )
    min_area_um2: float = Field(
        4_000.0, ge=0, description="Islands of tissue smaller than this area in µm² are dropped."
    )
    min_hole_um2: float = Field(
        1_500.0,
        ge=0,
        description="Holes smaller than this area in µm² are filled; larger ones are kept.",
    )

    mask_origin: Literal["bounds", "level0"] = Field(
        "bounds",
        description=(
            "Where the coordinates of a `mask` begin, and those of the outlines that are written: "
            "`bounds`, as in QuPath, at the corner of the scanned area, for slides that state one "
            "(`openslide.bounds-x`, `-y`); `level0`, at the first pixel of level 0."
        ),
    )

    @model_validator(mode="after")
    def _check_model(self) -> "Tissue":
        if self.method == "model" and self.weights is None:
            raise ValueError("method: model needs weights: a local file")
        return self


class Tiling(Model):
    """The grid of tiles."""

    mpp: float = Field(0.5, gt=0, description="µm per pixel of the tiles, above 0.")
    tile_px: int | None = Field(
        256, ge=8, description="Side of a tile in pixels at `mpp`, 8 or more."
    )
    tile_um: float | None = Field(
        None,
        gt=0,
        description="Side of a tile in µm, instead of `tile_px`. `null`: `tile_px` counts.",
    )
    overlap_px: int = Field(
        0,
        ge=0,
        description="Pixels at `mpp` that neighbouring tiles share, less than a tile's side.",
    )
    min_tissue: Fraction = Field(
        0.25,
        description=(
            "Least fraction of a tile that must be tissue, 0 to 1; other tiles are not read."
        ),
    )
    upsample: bool = Field(
        False,
        description=(
            "Enlarge slides that are coarser than `mpp` by more than 2 %; otherwise they are "
            "refused."
        ),
    )
    half_decoding: bool = Field(
        False,
        description=(
            "Where no level fits, decode JPEG at half its size in the DCT domain. It is faster, "
            "and visibly sharper than the usual resize, so do not mix the two. Slides read "
            "natively only."
        ),
    )
    quality_mpp: float = Field(
        2.0,
        gt=0,
        description="µm/px at which tile quality is measured, above 0; `mpp` if that is coarser.",
    )
    tissue: Tissue = Field(Tissue(), description="How the tissue mask is made.")

    @model_validator(mode="before")
    @classmethod
    def _um_replaces_px(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tile_um") is not None:
            if data.get("tile_px") is not None:
                raise ValueError("give tile_px or tile_um, not both")
            return {**data, "tile_px": None}
        return data

    @model_validator(mode="after")
    def _check_overlap(self) -> "Tiling":
        if self.overlap_px >= self.side_px:
            raise ValueError(f"overlap_px ({self.overlap_px}) must be below the tile's side")
        return self

    @property
    def side_px(self) -> int:
        """Tile side in pixels at `mpp`."""
        return self.tile_px if self.tile_px is not None else round((self.tile_um or 0) / self.mpp)
