"""Frozen encoders: from a tile to a feature vector. One file per family.

Published pathology encoders are one family, whose members are rows of `published.PUBLISHED`. A name
that is neither a file nor a row here is a timm model's (or `hf-hub:<repository>`). Importing this
package does not import torch.
"""

from typing import Any

from wsi_ncmi import registry
from wsi_ncmi.encoders.facts import PathologyEncoder
from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.encoders.published import PUBLISHED
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
        "network",
        "pathology",
        "published",
        "scale",
        "weights",
    }
)
# Encoders without a file of their own -> the module that builds them.
TABLE = dict.fromkeys(PUBLISHED, "pathology")


def build_encoder(name: str, options: dict[str, Any], weights: str | None) -> Encoder:
    """The encoder of a name, in eval mode on the CPU.

    Args:
        name: a file of this package, a published encoder, a timm model name, or
            `hf-hub:<repository>`.
        options: of that family's `Options`.
        weights: a local .safetensors or .pth; None: where the encoder has them from.

    Raises:
        PartError: unknown name, unfitting options, or weights that cannot be had or do not fit.
    """
    family = name if name in registry.names("encoder") else "timm"
    module = registry.load("encoder", family)
    return module.build(name, registry.options_of(module, options, family), weights)


def published_facts(name: str) -> PathologyEncoder | None:
    """What is published of a pathology encoder, without torch, weights or a network.

    Returns:
        None for a name that has no facts here: other files' (such as random_resnet), timm's and the
        hub's.
    """
    return PUBLISHED.get(name)
