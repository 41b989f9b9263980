"""Hibou-B: ViT-B/14 with four registers and SwiGLU, on a million slides (Nechaev et al. 2024).

Published under the transformers library's names (and, of its authors' repository, DINOv2's own);
they are renamed to timm's.
"""

from wsi_ncmi.encoders.facts import NoOptions, PathologyEncoder, hub_page
from wsi_ncmi.encoders.interface import Encoder

Options = NoOptions

FACTS = PathologyEncoder(
    name="hibou_b",
    title="Hibou-B",
    architecture="vit_base_patch14_reg4_dinov2",
    arguments={
        "img_size": 224,
        "mlp_ratio": 4096 / 768,
        "mlp_layer": "swiglu_packed",
        "act_layer": "silu",
        "global_pool": "token",
    },
    input_px=224,
    tile_px=224,
    mean=(0.7068, 0.5755, 0.722),
    std=(0.195, 0.2316, 0.1816),
    pooling="class",
    dim=768,
    parameters_m=85.7,
    mpp=(0.5,),
    precision=None,
    licence="Apache-2.0",
    gated=True,
    repository="histai/hibou-b",
    filename="model.safetensors",
    page=hub_page("histai/hibou-b"),
    sources=(
        "network: hibou/models of github.com/HistAI/hibou; licence: its README and the model card",
        "mean, std, pooling: github.com/rendeirolab/LazySlide and github.com/clemsgrs/slide2vec",
        "µm/px: github.com/clemsgrs/slide2vec; access, parameters: registry of LazySlide",
    ),
    unverified="whether it is gated; µm/px by its authors; the names inside the hub's file, taken "
    "to be those of the transformers library's Dinov2WithRegistersModel",
)


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    from wsi_ncmi.encoders.dinov2 import to_timm
    from wsi_ncmi.encoders.pathology import build_published

    return build_published(FACTS, weights, convert=to_timm)
