"""From tiles to features."""

import re
from typing import Any, Literal

from pydantic import Field

from wsi_ncmi.config.base import Fraction, Model, Name


class Transform(Model):
    """One albumentations transform by its class name."""

    name: str
    options: dict[str, Any] = Field({})


class Augmentation(Model):
    """Augmented copies of every tile's features, drawn from in training only."""

    transforms: list[Transform] = Field(min_length=1)
    copies: int = Field(1, ge=1)
    seed: int = 0


class Extraction(Model):
    """From tiles to features."""

    encoder: str = Field(
        "resnet50", description="A file of wsi_ncmi/encoders, a timm name, or hf-hub:<repository>."
    )
    options: dict[str, Any] = Field({}, description="The encoder's own options.")
    weights: str | None = Field(None, description="Local .safetensors or .pth instead of a hub.")
    name: Name | None = Field(None, description="Folder name; by default made from the encoder's.")
    batch_size: int = Field(64, ge=1)
    dtype: Literal["float16", "float32"] = Field("float16", description="How features are stored.")
    autocast: Literal["auto", "none", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 (or fp16) on CUDA, none on CPU."
    )
    compile: bool = Field(False, description="By torch.compile: pays on long runs on CUDA.")
    any_scale: bool = Field(
        False, description="Let tiles through whose µm/px the encoder is not meant for."
    )
    max_invalid_fraction: Fraction = Field(
        0.1, description="A slide with more undecodable tiles is rejected."
    )
    min_focus: float | None = Field(None, description="Leave out tiles whose focus is below.")
    max_pen: Fraction | None = Field(None, description="Leave out tiles with more pen.")
    max_white: Fraction | None = Field(None, description="Leave out tiles with more white.")
    max_black: Fraction | None = Field(None, description="Leave out tiles with more black.")
    max_fold: Fraction | None = Field(None, description="Leave out tiles with more folds.")
    stain: Literal["none", "macenko", "reinhard"] = Field(
        "none", description="Bring the stain of all slides to one target before encoding."
    )
    augmentation: Augmentation | None = None

    @property
    def folder(self) -> str:
        """The name under which bags are kept."""
        return self.name or re.sub(r"[^A-Za-z0-9._-]+", "_", self.encoder)
