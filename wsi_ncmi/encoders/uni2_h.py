"""UNI2-h: ViT-H/14 with eight registers, on 200 million H&E and IHC tiles (Mahmood Lab 2025)."""

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
    name="uni2_h",
    title="UNI2-h",
    architecture="vit_giant_patch14_224",
    arguments={
        "img_size": 224,
        "patch_size": 14,
        "depth": 24,
        "num_heads": 24,
        "init_values": 1e-5,
        "embed_dim": 1536,
        "mlp_ratio": 2.66667 * 2,
        "no_embed_class": True,
        "mlp_layer": "swiglu_packed",
        "act_layer": "silu",
        "reg_tokens": 8,
    },
    input_px=224,
    tile_px=256,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="class",
    dim=1536,
    parameters_m=681.4,
    mpp=(0.5,),
    precision=None,
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    repository="MahmoodLab/UNI2-h",
    filename="pytorch_model.bin",
    page=hub_page("MahmoodLab/UNI2-h"),
    sources=(
        "network, mean, std, licence, access, file: README of github.com/mahmoodlab/UNI",
        "256 px at 20x: README of github.com/mahmoodlab/TRIDENT, by the same authors",
        "parameters: model registry of github.com/rendeirolab/LazySlide",
    ),
    unverified="how the training tiles were cut is not published; 0.5 µm/px is the authors' use",
)


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    from wsi_ncmi.encoders.pathology import build_published

    return build_published(FACTS, weights)
