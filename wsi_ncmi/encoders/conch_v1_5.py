"""CONCH v1.5's vision tower: ViT-L/16 at 448 px with attentional pooling (Ding et al. 2024, TITAN).

The tower ends in a query that attends to all tokens, as in CoCa (Yu et al. 2022, arXiv:2205.01917).
The network is written anew from that description; only the names follow the published weights.
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
    name="conch_v1_5",
    title="CONCH v1.5 (vision tower)",
    architecture="vit_large_patch16_224",
    arguments={"img_size": 448, "init_values": 1.0, "global_pool": ""},
    input_px=448,
    tile_px=512,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="attention",
    dim=768,
    parameters_m=None,
    mpp=(0.5,),
    precision=None,
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    repository="MahmoodLab/conchv1_5",
    filename="pytorch_model_vision.bin",
    page=hub_page("MahmoodLab/conchv1_5"),
    sources=(
        "licence, access: README of github.com/mahmoodlab/TITAN; arxiv.org/abs/2411.19666",
        "network, mean, std, file, 512 px at 20x: conchv1_5 and README of "
        "github.com/mahmoodlab/TRIDENT, by the same authors",
    ),
    unverified="the grid that the position embedding is stored on: 14 × 14 and 28 × 28 both load",
)


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    from wsi_ncmi.encoders.attention_pool import make_tower, to_input_grid
    from wsi_ncmi.encoders.pathology import build_published

    return build_published(FACTS, weights, make_tower, to_input_grid)
