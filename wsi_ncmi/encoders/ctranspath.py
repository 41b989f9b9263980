"""CTransPath: Swin-T with a convolutional stem, on TCGA and PAIP (Wang et al. 2022).

Its authors publish the weights outside any hub, under GPL-3.0. Nothing of theirs is in this
package: the stem is written anew from the paper's description, so that only whoever takes the
weights is bound by their licence. It asks for tiles of 1 µm/px, unlike most.
"""

from wsi_ncmi.encoders.facts import IMAGENET_MEAN, IMAGENET_STD, NoOptions, PathologyEncoder
from wsi_ncmi.encoders.interface import Encoder

Options = NoOptions

FACTS = PathologyEncoder(
    name="ctranspath",
    title="CTransPath",
    architecture="swin_tiny_patch4_window7_224",
    arguments={"img_size": 224},
    input_px=224,
    tile_px=224,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="mean",
    dim=768,
    parameters_m=27.5,
    mpp=(1.0,),
    precision=None,
    licence="GPL-3.0",
    gated=False,
    repository="",
    filename="ctranspath.pth",
    page="https://github.com/Xiyue-Wang/TransPath",
    sources=(
        "network, mean, std, 1.0 µm/px first, weights: github.com/Xiyue-Wang/TransPath and "
        "doi.org/10.1016/j.media.2022.102559",
        "licence: cards of the copies kaczmarj/CTransPath (which adds: for non-commercial academic "
        "purposes) and jamesdolezal/CTransPath",
        "parameters: model registry of github.com/rendeirolab/LazySlide",
    ),
)


def build(name: str, options: NoOptions, weights: str | None) -> Encoder:
    """See `wsi_ncmi.encoders.build_encoder`."""
    from wsi_ncmi.encoders.conv_stem import make_swin, to_timm
    from wsi_ncmi.encoders.pathology import build_published

    return build_published(FACTS, weights, make_swin, to_timm)
