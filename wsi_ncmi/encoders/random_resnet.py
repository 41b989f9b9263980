"""The first stages of a ResNet with random weights from a fixed seed: no download needed.

Random convolutions keep texture (Saxe et al. 2011, "On random weights and unsupervised feature
learning"), the shallow ones most of it: mean and spread of the first two stages' maps tell the
demo's synthetic tumour from its lymphocytes. It is no substitute for a trained encoder on real
slides.
"""

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.encoders.weights import state_sha256
from wsi_ncmi.errors import PartError


@dataclass(frozen=True)
class Options:
    """Options of the random ResNet.

    Attributes:
        architecture: any timm ResNet.
        stages: stages whose feature maps are pooled.
        seed: random seed of the weights.
        input_px: side of the input in pixels.
        mpp: µm/px that the encoder expects of its tiles.
    """

    architecture: str = "resnet18"
    stages: tuple[int, ...] = bounded((1, 2), least=0, most=4)
    seed: int = bounded(0, least=0, below=2**32)
    input_px: int = bounded(128, least=8)
    mpp: float = bounded(2.0, above=0)

    def __post_init__(self) -> None:
        check_options(self)


class PooledStages(nn.Module):
    """Mean and standard deviation over the map of each channel of some stages: [B, 2 Σ C]."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        # Zero-initialised last norms would silence every residual branch.
        stages: Any = timm.create_model(
            options.architecture,
            pretrained=False,
            features_only=True,
            out_indices=options.stages,
            zero_init_last=False,
        )
        self.stages, feature_info = stages, stages.feature_info
        self.num_features = 2 * sum(feature_info.channels())

    def forward(self, images: Tensor) -> Tensor:
        maps = [m.flatten(2) for m in self.stages(images)]
        return torch.cat([part for m in maps for part in (m.mean(2), m.std(2))], 1)


def build(name: str, options: Options, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    if weights is not None:
        raise PartError(f"{name} has random weights: leave out extraction.weights, or name a model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        module = PooledStages(options)
    return Encoder(
        name=name,
        description=(
            f"stages {', '.join(map(str, options.stages))} of {options.architecture} with random, "
            f"untrained weights from seed {options.seed}, mean and standard deviation of each map: "
            "it needs no download and is meant for the demo's synthetic slides only"
        ),
        module=module.eval().requires_grad_(False),
        dim=module.num_features,
        input_px=options.input_px,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        weights_source=f"random, seed {options.seed}",
        weights_sha256=state_sha256(module),
        mpp=(options.mpp,),
        licence="none needed",
        options={
            "architecture": options.architecture,
            "stages": list(options.stages),
            "seed": options.seed,
        },
    )
