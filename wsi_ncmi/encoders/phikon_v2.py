"""Phikon-v2: ViT-L/16 by DINOv2 on 456 million tiles of public slides (Filiot et al. 2024).

Published under the transformers library's names; they are renamed to timm's.
"""

from wsi_ncmi.encoders.facts import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NoOptions,
    PathologyEncoder,
    hub_page,
)
from wsi_ncmi.encoders.interface import Encoder

Options = NoOptions

FACTS = PathologyEncoder(
    name="phikon_v2",
    title="Phikon-v2",
    architecture="vit_large_patch16_224",
    arguments={"img_size": 224, "init_values": 1.0},
    input_px=224,
    tile_px=224,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="class",
    dim=1024,
    parameters_m=303.4,
    mpp=(0.5,),
    precision=None,
    licence="Owkin non-commercial licence",
    gated=False,
    repository="owkin/phikon-v2",
    filename="model.safetensors",
    page=hub_page("owkin/phikon-v2"),
    sources=(
        "network, tile, µm/px: arxiv.org/abs/2409.09173",
        "licence, file: the model card and files at the hub",
        "mean, std, pooling, access: patch encoders and README of github.com/mahmoodlab/TRIDENT",
        "parameters: model registry of github.com/rendeirolab/LazySlide",
    ),
    unverified="the names inside the file, taken to be the transformers library's Dinov2Model's",
)


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    from wsi_ncmi.encoders.dinov2 import to_timm
    from wsi_ncmi.encoders.pathology import build_published

    return build_published(FACTS, weights, convert=to_timm)
