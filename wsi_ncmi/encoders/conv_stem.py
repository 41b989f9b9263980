"""A Swin transformer with a convolutional stem, as CTransPath: the adapter `conv_stem`."""

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from wsi_ncmi.encoders.facts import PathologyEncoder
from wsi_ncmi.encoders.network import make_network

_DOWNSAMPLE = re.compile(r"^layers\.(\d+)\.downsample\.")
# Older timm kept these as buffers: they follow from the architecture.
_DERIVED = ("relative_position_index", "attn_mask")


class ConvStem(nn.Module):
    """Two strided 3 × 3 convolutions and a 1 × 1 in place of Swin's patch embedding (stride 4).

    Takes timm's arguments of an `embed_layer`: [B, 3, H, W] -> [B, H/4, W/4, embed_dim].
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        embed_dim: int,
        norm_layer: Callable[[int], nn.Module],
        **_: Any,
    ) -> None:
        super().__init__()
        assert patch_size == 4, "two strides of two"
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        narrow, wide = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            *self._halve(3, narrow), *self._halve(narrow, wide), nn.Conv2d(wide, embed_dim, 1)
        )
        self.norm = norm_layer(embed_dim)

    @staticmethod
    def _halve(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


def make_swin(facts: PathologyEncoder) -> nn.Module:
    """The network of the facts with its stem, without weights."""
    return make_network(facts, embed_layer=ConvStem)


def to_timm(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The state under today's timm's names; the authors trained with timm 0.5.

    Then a stage ended with its downsampling, now the next one starts with it.
    """
    kept = {key: value for key, value in state.items() if not key.endswith(_DERIVED)}
    if not any(key.startswith("layers.0.downsample.") for key in kept):
        return kept
    return {_DOWNSAMPLE.sub(_next_stage, key): value for key, value in kept.items()}


def _next_stage(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) + 1}.downsample."
