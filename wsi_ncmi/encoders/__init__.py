"""Frozen encoders: from a tile to a feature vector. One file per family.

A name that is not a file here is a timm model's (or `hf-hub:<repository>`).
"""

from typing import Any

from wsi_ncmi import registry
from wsi_ncmi.encoders.interface import Encoder

__all__ = ["Encoder", "build_encoder"]


def build_encoder(name: str, options: dict[str, Any], weights: str | None) -> Encoder:
    """The encoder of a name, in eval mode on the CPU.

    Args:
        name: a file of this package, a timm model name, or `hf-hub:<repository>`.
        options: of that file's `Options`.
        weights: a local .safetensors or .pth; None: where the encoder has them from.

    Raises:
        PartError: unknown name, unfitting options, or weights that cannot be had or do not fit.
    """
    family = name if name in registry.names("encoder") else "timm"
    module = registry.load("encoder", family)
    return module.build(name, registry.options_of(module, options), weights)
