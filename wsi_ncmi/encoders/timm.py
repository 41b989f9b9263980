"""Any timm model, by its name or as `hf-hub:<repository>`, without its classifier."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
from torch import nn

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.encoders.hub import remedy
from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.encoders.weights import load_weights, state_sha256
from wsi_ncmi.errors import PartError
from wsi_ncmi.provenance import sha256_file


@dataclass(frozen=True)
class Options:
    """Options of a timm encoder.

    Attributes:
        arguments: arguments of `timm.create_model`, such as `{init_values: 1.0e-5}` for a ViT.
        input_px: side of the input in pixels; `null`: as the model's data config says.
        mean: RGB means, 0 to 1; `null`: as the data config says.
        std: RGB standard deviations, above 0, up to 1; `null`: as the data config says.
        mpp: µm/px of the tiles that the weights were trained on; `null`: any scale is accepted.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    input_px: int | None = bounded(None, least=1)
    mean: tuple[float, float, float] | None = bounded(None, least=0, most=1)
    std: tuple[float, float, float] | None = bounded(None, above=0, most=1)
    mpp: float | None = bounded(None, above=0)

    def __post_init__(self) -> None:
        check_options(self)


def build(name: str, options: Options, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    module = _create(name, options, pretrained=weights is None)
    source = f"timm {timm.__version__}, pretrained"
    if weights is not None:
        load_weights(module, Path(weights))
        source = f"{Path(weights).name} (sha256 {sha256_file(Path(weights))})"
    data = timm.data.resolve_model_data_config(module)
    described = getattr(module, "pretrained_cfg", {})
    return Encoder(
        name=name,
        description=f"timm model {name} without its classifier, weights from {source}",
        module=module.eval().requires_grad_(False),
        dim=feature_dim(module),
        input_px=options.input_px or data["input_size"][-1],
        mean=options.mean or tuple(data["mean"]),
        std=options.std or tuple(data["std"]),
        weights_source=source,
        weights_sha256=state_sha256(module),
        mpp=() if options.mpp is None else (options.mpp,),
        licence=str(described.get("license") or "not stated"),
        options={"arguments": options.arguments},
    )


def _create(name: str, options: Options, *, pretrained: bool) -> nn.Module:
    if not name.startswith("hf-hub:") and not timm.is_model(name):
        near = ", ".join(get_close_matches(name, timm.list_models(), 3)) or "nothing like it"
        raise PartError(f"extraction.encoder {name!r} is neither ours nor timm's; timm has {near}")
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **options.arguments)
    except Exception as error:  # hubs and constructors raise what they like
        why = f"{type(error).__name__}: {error}"
        if name.startswith("hf-hub:"):
            why = remedy(name.removeprefix("hf-hub:"), error)
        hint = "; without a network give a local file as extraction.weights" if pretrained else ""
        raise PartError(f"encoder {name} cannot be made: {why}{hint}") from error


def feature_dim(module: nn.Module) -> int:
    """D of a timm model without a classifier (a few have a wider last layer than num_features)."""
    dim: Any = getattr(module, "head_hidden_size", None) or getattr(module, "num_features", None)
    if dim is None:
        raise PartError(f"{type(module).__name__} does not say how wide its features are")
    return int(dim)
