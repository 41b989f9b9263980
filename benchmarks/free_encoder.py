"""An encoder that costs nothing: what is left of an extraction is everything but the network."""

import torch
from torch import Tensor, nn

from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.encoders.weights import state_sha256

INPUT_PX = 224
STRIDE = 7


class StridedMean(nn.Module):
    """Mean of the channels at every seventh pixel: [B, 3, 224, 224] -> [B, 1024]."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.flatten(images[:, :, ::STRIDE, ::STRIDE].mean(1), 1)


def free_encoder() -> Encoder:
    """1024-d, normalised as ImageNet's networks are."""
    module = StridedMean()
    return Encoder(
        name="free",
        description="mean of the channels at every seventh pixel",
        module=module,
        dim=(INPUT_PX // STRIDE) ** 2,
        input_px=INPUT_PX,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        weights_source="none",
        weights_sha256=state_sha256(module),
        mpp=(),
        licence="none needed",
        options={},
    )
