"""Building published pathology encoders from their facts: shared code, no part of its own.

Only tensors are ever taken from a hub: networks are timm's or stand here, so that no code of a
repository is run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import SwiGLUPacked
from torch import Tensor, nn

from wsi_ncmi.encoders.facts import PathologyEncoder
from wsi_ncmi.encoders.hub import download
from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.encoders.weights import Convert, load_weights, state_sha256
from wsi_ncmi.files.checksum import sha256_file

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


def build_published(
    facts: PathologyEncoder,
    weights: str | None,
    make: Callable[[PathologyEncoder], nn.Module] = make_network,
    convert: Convert | None = None,
) -> Encoder:
    """A published encoder, in eval mode on the CPU.

    Args:
        facts: what is published of it.
        weights: a local file; None: the hub's.
        make: facts -> network under whose names the weights are loaded.
        convert: (published state, network) -> state under the network's names.

    Raises:
        PartError: the weights cannot be had or do not fit.
    """
    path = Path(weights) if weights is not None else download(facts)
    network = make(facts)
    load_weights(network, path, convert)
    module = ClassAndMean(network) if facts.pooling == "class_mean" else network
    where = path.name if weights is not None else f"{facts.repository}, {facts.filename}"
    source = f"{where} (sha256 {sha256_file(path)})"
    return Encoder(
        name=facts.name,
        description=f"{facts.title}, weights from {source}, {facts.page}",
        module=module.eval().requires_grad_(False),
        dim=facts.dim,
        input_px=facts.input_px,
        mean=facts.mean,
        std=facts.std,
        weights_source=source,
        weights_sha256=state_sha256(module),
        mpp=facts.mpp,
        licence=facts.licence,
        options={
            "architecture": facts.architecture,
            "arguments": dict(facts.arguments),
            "pooling": facts.pooling,
        },
    )
