"""H-optimus-1: the network of H-optimus-0, on a million H&E slides (Bioptimus 2025)."""

from wsi_ncmi.encoders.facts import NoOptions, PathologyEncoder, hub_page
from wsi_ncmi.encoders.interface import Encoder

Options = NoOptions

FACTS = PathologyEncoder(
    name="h_optimus_1",
    title="H-optimus-1",
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
    precision=None,
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    repository="bioptimus/H-optimus-1",
    filename="pytorch_model.bin",
    page=hub_page("bioptimus/H-optimus-1"),
    sources=(
        "network, mean, std, file: patch encoders of github.com/mahmoodlab/TRIDENT, as H-optimus-0",
        "tile, licence, access: README of github.com/mahmoodlab/TRIDENT",
        "parameters: model registry of github.com/rendeirolab/LazySlide",
    ),
    unverified="the model card itself; 0.5 µm/px is TRIDENT's 20x and H-optimus-0's",
)


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    from wsi_ncmi.encoders.pathology import build_published

    return build_published(FACTS, weights)
