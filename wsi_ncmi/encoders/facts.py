"""What is published of a pathology encoder: enough to build it, feed it and cite it.

Nothing here imports torch: planning reads the facts of an encoder without loading it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Pooling = Literal["class", "class_mean", "attention", "mean"]
AdapterName = Literal["timm", "dinov2", "attention_pool", "conv_stem"]


@dataclass(frozen=True, kw_only=True)
class PathologyEncoder:
    """The facts of one encoder, with where each was read: a row of `published.PUBLISHED`.

    What has a default may be left out: nothing is published of it, or nothing is special.

    Attributes:
        name: what the user writes.
        title: what its authors call it.
        about: what it is, trained on what, by whom; what to know before using it.
        adapter: how its network is made and its weights are renamed (`pathology.ADAPTERS`); `timm`:
            both are timm's.
        architecture: timm's name of the network that `arguments` turn into this one.
        arguments: of `timm.create_model`; layers stand by name (`network.LAYERS`).
        input_px: side of the network's input in pixels.
        tile_px: side of the tiles that its authors cut at `mpp`; resized to `input_px`.
        mean, std: of the RGB channels in [0, 1].
        pooling: `class` token; `class_mean`: class token and mean of the patch tokens, one behind
            the other; `attention`: a trained query; `mean` over the map.
        dim: D, the width of its features.
        parameters_m: millions of parameters, None where nothing says.
        mpp: µm/px of the tiles that it was trained on; several if several.
        precision: of autocast, as its authors run it; None where they do not say.
        licence: of the weights.
        gated: whether the hub hands the weights out only after its terms are accepted.
        repository: at the hub; "" if its authors publish it elsewhere.
        filename: of the weights there.
        elsewhere: its authors' page, if they publish it at no hub.
        sources: where the facts were read.
        unverified: what no source at hand settled; "" if all is settled.
    """

    name: str
    title: str
    about: str
    adapter: AdapterName = "timm"
    architecture: str
    arguments: Mapping[str, Any]
    input_px: int
    tile_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pooling: Pooling
    dim: int
    parameters_m: float | None
    mpp: tuple[float, ...]
    precision: Literal["fp16", "bf16"] | None = None
    licence: str
    gated: bool
    repository: str = ""
    filename: str
    elsewhere: str = ""
    sources: tuple[str, ...]
    unverified: str = ""

    @property
    def page(self) -> str:
        """Where access is asked for and the licence stands."""
        return self.elsewhere or hub_page(self.repository)


@dataclass(frozen=True)
class NoOptions:
    """A published encoder has no options: it is built as it was published."""


def hub_page(repository: str) -> str:
    """The address of a repository's page at the hub."""
    return f"https://huggingface.co/{repository}"
