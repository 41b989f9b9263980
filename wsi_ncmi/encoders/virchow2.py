"""Virchow2: ViT-H/14 with four registers, on 3.1 million slides (Zimmermann et al. 2024)."""

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
    name="virchow2",
    title="Virchow2",
    architecture="vit_huge_patch14_224",
    arguments={
        "img_size": 224,
        "init_values": 1e-5,
        "mlp_ratio": 5.3375,
        "reg_tokens": 4,
        "mlp_layer": "swiglu_packed",
        "act_layer": "silu",
    },
    input_px=224,
    tile_px=224,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="class_mean",
    dim=2560,
    parameters_m=631.2,
    mpp=(0.25, 0.5, 1.0, 2.0),
    precision=None,
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    repository="paige-ai/Virchow2",
    filename="pytorch_model.bin",
    page=hub_page("paige-ai/Virchow2"),
    sources=(
        "magnifications 40x, 20x, 10x and 5x, network: arxiv.org/abs/2408.00738",
        "arguments, pooling, tile: patch encoders and README of github.com/mahmoodlab/TRIDENT; "
        "github.com/clemsgrs/slide2vec has the same pooling",
        "licence: the hub's page; parameters: model registry of github.com/rendeirolab/LazySlide",
    ),
    unverified="the model card itself; µm/px are the magnifications by the usual 20x = 0.5 µm/px",
)


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    from wsi_ncmi.encoders.pathology import build_published

    return build_published(FACTS, weights)
