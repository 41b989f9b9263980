"""H-optimus-0: ViT-g/14 with four registers, on 500,000 H&E slides (Bioptimus 2024)."""

from wsi_ncmi.encoders.facts import NoOptions, PathologyEncoder, hub_page
from wsi_ncmi.encoders.interface import Encoder

Options = NoOptions

FACTS = PathologyEncoder(
    name="h_optimus_0",
    title="H-optimus-0",
    architecture="vit_giant_patch14_reg4_dinov2",
    arguments={"img_size": 224, "init_values": 1e-5, "global_pool": "token"},
    input_px=224,
    tile_px=224,
    mean=(0.707223, 0.578729, 0.703617),
    std=(0.211883, 0.230117, 0.177517),
    pooling="class",
    dim=1536,
    parameters_m=1130.0,
    mpp=(0.5,),
    precision="fp16",
    licence="Apache-2.0",
    gated=True,
    repository="bioptimus/H-optimus-0",
    filename="pytorch_model.bin",
    page=hub_page("bioptimus/H-optimus-0"),
    sources=(
        "network, mean, std, µm/px, precision: h-optimus/v0 of github.com/bioptimus/releases",
        "licence, µm/px, arguments: the model card at the hub",
        "access: README of github.com/mahmoodlab/TRIDENT",
        "parameters: 1.1 billion by the model card; 1,130 million by the registry of "
        "github.com/rendeirolab/LazySlide",
    ),
    unverified="whether it is gated: TRIDENT says so, LazySlide says not",
)


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    from wsi_ncmi.encoders.pathology import build_published

    return build_published(FACTS, weights)
