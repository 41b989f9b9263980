"""Frozen encoders: from a tile to a feature vector. One file per family.

A name that is not a file here is a timm model's (or `hf-hub:<repository>`). Importing this package
does not import torch.
"""

from typing import Any

from wsi_ncmi import registry
from wsi_ncmi.encoders.facts import PathologyEncoder
from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.encoders.scale import check_scale

__all__ = ["Encoder", "PathologyEncoder", "build_encoder", "check_scale", "published_facts"]

# Modules that are no encoders (see `wsi_ncmi.registry`).
SHARED = frozenset(
    {
        "attention_pool",
        "conv_stem",
        "dinov2",
        "facts",
        "hub",
        "interface",
        "pathology",
        "scale",
        "weights",
    }
)
# All other files here are published pathology encoders with FACTS.
_WITHOUT_FACTS = frozenset({"random_resnet", "timm"})


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


def published_facts(name: str) -> PathologyEncoder | None:
    """What is published of a pathology encoder, without torch, weights or a network.

    Returns:
        None for a name that has no facts here: random_resnet, timm's and the hub's.
    """
    if name in _WITHOUT_FACTS or name not in registry.names("encoder"):
        return None
    facts: PathologyEncoder = registry.load("encoder", name).FACTS
    return facts
