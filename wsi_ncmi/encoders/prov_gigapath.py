"""Prov-GigaPath's tile encoder: ViT-g/16 on 1.3 billion tiles of 171,000 slides (Xu et al. 2024).

Its authors cut tiles of 256 px and feed the central 224 px. Here the whole tile is fed: cut tiles
of 224 px to give it the scale that it was trained on.
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
    name="prov_gigapath",
    title="Prov-GigaPath (tile encoder)",
    architecture="vit_giant_patch14_dinov2",
    arguments={
        "img_size": 224,
        "patch_size": 16,
        "embed_dim": 1536,
        "depth": 40,
        "num_heads": 24,
        "mlp_ratio": 5.33334,
        "global_pool": "token",
    },
    input_px=224,
    tile_px=224,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="class",
    dim=1536,
    parameters_m=1130.0,
    mpp=(0.5,),
    precision="fp16",
    licence="Apache-2.0, with the terms of its page: research only",
    gated=True,
    repository="prov-gigapath/prov-gigapath",
    filename="pytorch_model.bin",
    page=hub_page("prov-gigapath/prov-gigapath"),
    sources=(
        "crop, mean, std, precision, access: README and pipeline of "
        "github.com/prov-gigapath/prov-gigapath",
        "256 px at 0.5 µm/px: doi.org/10.1038/s41586-024-07441-w",
        "arguments, licence: patch encoders and README of github.com/mahmoodlab/TRIDENT",
        "parameters: model registry of github.com/rendeirolab/LazySlide",
    ),
)


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    from wsi_ncmi.encoders.pathology import build_published

    return build_published(FACTS, weights)
