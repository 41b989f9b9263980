"""timm's networks from the facts of published encoders, and a pooling that timm lacks."""

from collections.abc import Callable
from typing import Any

import timm
import torch
from timm.layers import SwiGLUPacked
from torch import Tensor, nn

from wsi_ncmi.encoders.facts import PathologyEncoder

# Facts are plain data: layers stand in them by these names.
LAYERS: dict[str, Callable[..., nn.Module]] = {"swiglu_packed": SwiGLUPacked, "silu": nn.SiLU}
_LAYER_ARGUMENTS = ("mlp_layer", "act_layer")


class ClassAndMean(nn.Module):
    """A ViT's class token and the mean of its patch tokens, one behind the other: [B, 2 D].

    Registers take no part in the mean.
    """

    def __init__(self, vit: nn.Module) -> None:
        super().__init__()
        self.vit: Any = vit

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.vit.forward_features(images)
        patches = tokens[:, self.vit.num_prefix_tokens :]
        return torch.cat([tokens[:, 0], patches.mean(1)], 1)


def make_network(facts: PathologyEncoder, **arguments: Any) -> nn.Module:
    """timm's network of the facts, without weights.

    Args:
        arguments: that the facts do not hold, such as layers of ours.
    """
    given = dict(facts.arguments)
    for key in set(given).intersection(_LAYER_ARGUMENTS):
        given[key] = LAYERS[given[key]]
    return timm.create_model(
        facts.architecture, pretrained=False, num_classes=0, **given, **arguments
    )
