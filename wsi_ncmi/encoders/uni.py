"""UNI: ViT-L/16 by DINOv2 on 100 million tiles of 100,000 H&E slides (Chen et al. 2024)."""

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
    name="uni",
    title="UNI",
    architecture="vit_large_patch16_224",
    arguments={"img_size": 224, "init_values": 1e-5},
    input_px=224,
    tile_px=256,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="class",
    dim=1024,
    parameters_m=303.4,
    mpp=(0.5,),
    precision=None,
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    repository="MahmoodLab/UNI",
    filename="pytorch_model.bin",
    page=hub_page("MahmoodLab/UNI"),
    sources=(
        "network, mean, std, licence, access: README of github.com/mahmoodlab/UNI",
        "256 px at 20x: doi.org/10.1038/s41591-024-02857-3, and the authors' "
        "github.com/mahmoodlab/TRIDENT",
        "parameters: model registry of github.com/rendeirolab/LazySlide",
    ),
)


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    from wsi_ncmi.encoders.pathology import build_published

    return build_published(FACTS, weights)
