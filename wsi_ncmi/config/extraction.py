"""From tiles to features."""

import re
from typing import Any, Literal

from pydantic import Field

from wsi_ncmi.config.base import Fraction, LocalPath, Model, Name, Seed


class Transform(Model):
    """One transform of albumentations (of kornia in `batch_augmentation`) by its class name."""

    name: str = Field(description="Class name of the transform, such as `HueSaturationValue`.")
    options: dict[str, Any] = Field(
        {}, description="Its arguments. An argument that the library does not know is an error."
    )


class Augmentation(Model):
    """Augmented copies of every tile's features, drawn from in training only."""

    transforms: list[Transform] = Field(
        min_length=1,
        description="Transforms, applied in this order. They must keep the tile's size.",
    )
    copies: int = Field(
        1,
        ge=1,
        description=(
            "Augmented copies of every tile, 1 or more. Each copy costs as much time and disk as "
            "the original."
        ),
    )
    seed: Seed = Field(0, description="Random seed of the augmentation.")


class Extraction(Model):
    """From tiles to features."""

    encoder: str = Field(
        "resnet50",
        description=(
            "A published encoder by its name, a file of `wsi_ncmi/encoders`, any timm name, or "
            "`hf-hub:<repository>`."
        ),
    )
    options: dict[str, Any] = Field(
        {}, description="The encoder's own options; each encoder has a table under Parts."
    )
    weights: LocalPath | None = Field(
        None,
        description=(
            "A local `.safetensors`, `.pth`, `.pt` or `.bin` file with the weights. `null`: "
            "weights are downloaded once, if the encoder has any."
        ),
    )
    name: Name | None = Field(
        None,
        description=(
            "Folder name of the features: letters, digits, `.`, `_`, `-`. `null`: the encoder's "
            "name, with `_` for every other character."
        ),
    )
    batch_size: int = Field(
        64, ge=1, description="Tiles per forward pass, 1 or more. It is part of a bag's digest."
    )
    dtype: Literal["float16", "float32"] = Field(
        "float16",
        description=(
            "Number format of the stored features: `float16` (2 bytes) or `float32` (4 bytes)."
        ),
    )
    autocast: Literal["auto", "none", "bf16", "fp16"] = Field(
        "auto",
        description=(
            "Precision of the forward pass: `none` (float32), `bf16` or `fp16`. `auto`: bf16, "
            "else fp16, on CUDA and `none` on a CPU."
        ),
    )
    compile: bool = Field(
        False,
        description=(
            "Compile the encoder with `torch.compile`. It pays off on long runs on CUDA. Features "
            "differ in their last bits, so it is part of the digest."
        ),
    )
    any_scale: bool = Field(
        False,
        description=(
            "Accept tiles at a µm/px that the encoder was not trained on; otherwise that is an "
            "error."
        ),
    )
    max_invalid_fraction: Fraction = Field(
        0.1,
        description="Largest fraction of undecodable tiles, 0 to 1; a slide with more is rejected.",
    )
    min_focus: float | None = Field(
        None,
        ge=0,
        description=(
            "Leave out tiles with less focus (variance of the Laplacian). `null`: keep all."
        ),
    )
    max_pen: Fraction | None = Field(
        None,
        description="Leave out tiles of which a larger fraction is pen, 0 to 1. `null`: keep all.",
    )
    max_white: Fraction | None = Field(
        None,
        description=(
            "Leave out tiles of which a larger fraction is white, 0 to 1. `null`: keep all."
        ),
    )
    max_black: Fraction | None = Field(
        None,
        description=(
            "Leave out tiles of which a larger fraction is black, 0 to 1. `null`: keep all."
        ),
    )
    max_fold: Fraction | None = Field(
        None,
        description=(
            "Leave out tiles of which a larger fraction is folded tissue, 0 to 1. `null`: keep all."
        ),
    )
    stain: Literal["none", "macenko", "reinhard"] = Field(
        "none",
        description=(
            "Stain normalisation of all slides to one target before encoding: `none`, `macenko` "
            "or `reinhard`. It runs on the device."
        ),
    )
    augmentation: Augmentation | None = Field(
        None, description="Augmented copies of the features. `null`: none."
    )

    @property
    def folder(self) -> str:
        """The name under which bags are kept."""
        return self.name or re.sub(r"[^A-Za-z0-9._-]+", "_", self.encoder)
