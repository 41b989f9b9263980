"""From tiles to features."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wsi_ncmi.config.base import SAFE_NAME, Fraction, LocalPath, Model, Name, Seed, Unsaid


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


OF_AN_ENCODER = ("options", "weights", "any_scale")
"""Keys that suit one encoder alone: another one does not take them over."""


class Extraction(Unsaid):
    """From tiles to features."""

    UNSAID: ClassVar[tuple[str, ...]] = ("others",)  # without any, what it decides is as before

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
    others: dict[Name, "Extraction"] = Field(
        {},
        description=(
            "Name of another encoder → what is different for it; the rest is as in `extraction`, "
            "except that `options`, `weights` and `any_scale` are not taken over where it names "
            "its `encoder`. Its features lie in a folder of this name, which a task's `encoder` "
            "says. `null`: left out."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _whole_others(cls, given: Any) -> Any:
        """Every other with all of its keys."""
        others = given.get("others") if isinstance(given, Mapping) else None
        if not isinstance(others, Mapping):
            return given
        shared = cls.model_fields.keys() - {"name", "others"}
        own = {key: value for key, value in given.items() if key in shared}
        made = {name: _whole(name, one, own) for name, one in others.items() if one is not None}
        return {**given, "others": made}

    @model_validator(mode="after")
    def _check_others(self) -> Self:
        first = self.of(self.folder)
        for name, one in self.others.items():
            if one.others or one.name != name:
                key = "others" if one.others else "name"
                raise ValueError(f"others.{name}.{key}: leave it out: it belongs to `extraction`")
            if name == self.folder:
                raise ValueError(f"others: {name} is the name of the first encoder too: rename one")
            if one.model_copy(update={"name": first.name}) == first:
                raise ValueError(
                    f"others.{name}: nothing differs from `extraction`: name its encoder"
                )
        return self

    @property
    def folder(self) -> str:
        """The name under which bags are kept."""
        return self.name or re.sub(r"[^A-Za-z0-9._-]+", "_", self.encoder)

    @property
    def each(self) -> dict[str, "Extraction"]:
        """Every encoder alone by the name of its folder; the first one first."""
        return {name: self.of(name) for name in (self.folder, *self.others)}

    def of(self, folder: str) -> "Extraction":
        """One encoder alone, by the name of its folder."""
        return (
            self.model_copy(update={"others": {}}) if folder == self.folder else self.others[folder]
        )

    def key(self, folder: str) -> str:
        """Where an encoder stands in the configuration."""
        return "extraction" if folder == self.folder else f"extraction.others.{folder}"


def _whole(name: str, given: Any, first: Mapping[str, Any]) -> Any:
    """What is said of another encoder over what is said of the first one."""
    if not isinstance(given, Mapping):
        return given
    unshared = OF_AN_ENCODER if "encoder" in given else ()
    taken = {key: value for key, value in first.items() if key not in unshared}
    named = {"name": name} if re.match(SAFE_NAME, str(name)) else {}  # else the key is wrong
    return {**taken, **named, **given}
