"""From slides to tiles: tissue and grid."""

from typing import Any, Literal

from pydantic import Field, model_validator

from wsi_ncmi.config.base import Fraction, Model


class Tissue(Model):
    """The tissue mask, made on a thumbnail. Every key is also a column of the sheet."""

    method: Literal["otsu_saturation", "hsv", "entropy", "model"] = Field(
        "otsu_saturation", description="A file of wsi_ncmi/tiling/tissue, or model: a network."
    )
    thumbnail_mpp: float = Field(8.0, gt=0, description="µm/px of the thumbnail.")
    min_saturation: Fraction = Field(
        0.03, description="otsu_saturation: its threshold is never below; glass is not tissue."
    )
    max_saturation: Fraction = Field(
        0.12, description="otsu_saturation: nor above; faint fat beside dark tissue is kept."
    )
    hsv_saturation: Fraction = Field(0.07, description="hsv: least saturation of tissue.")
    hue_from: float = Field(
        220.0, ge=0, lt=360, description="hsv: hues of tissue, in degrees, go from here (blue)"
    )
    hue_to: float = Field(40.0, ge=0, lt=360, description="hsv: through red (0) up to here (brown)")
    min_entropy: float = Field(
        2.0, ge=0, le=5, description="entropy: least bits of the grey levels nearby, 5 at most."
    )
    weights: str | None = Field(
        None, description="model: a local TorchScript file, or weights of `architecture`."
    )
    architecture: str | None = Field(
        None, description="model: a timm classifier of two classes, run on patches."
    )
    patch_px: int = Field(32, ge=8, description="model with architecture: side of a patch.")
    min_probability: Fraction = Field(0.5, description="model: least probability of tissue.")
    min_area_um2: float = Field(4_000.0, ge=0, description="Smaller islands of tissue are dropped.")
    min_hole_um2: float = Field(1_500.0, ge=0, description="Smaller holes are filled, others kept.")

    @model_validator(mode="after")
    def _check_model(self) -> "Tissue":
        if self.method == "model" and self.weights is None:
            raise ValueError("method: model needs weights: a local file")
        return self


class Tiling(Model):
    """The grid of tiles."""

    mpp: float = Field(0.5, gt=0, description="Wanted µm per pixel of a tile.")
    tile_px: int | None = Field(256, ge=8, description="Tile side in pixels at `mpp`.")
    tile_um: float | None = Field(None, gt=0, description="Tile side in µm, instead of tile_px.")
    overlap_px: int = Field(0, ge=0, description="Pixels at `mpp` that neighbours share.")
    min_tissue: Fraction = Field(0.25, description="Least fraction of a tile that is tissue.")
    upsample: bool = Field(False, description="Read slides coarser than `mpp` (refused otherwise).")
    half_decoding: bool = Field(
        False, description="Decode JPEG at half size where no level fits; sharper, so do not mix."
    )
    quality_mpp: float = Field(2.0, gt=0, description="µm/px at which tile quality is measured.")
    tissue: Tissue = Tissue()

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
