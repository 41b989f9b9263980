"""Wide residual networks for small images (Zagoruyko and Komodakis 2016, arXiv 1605.07146).

WRN-d-k: a 3 x 3 convolution to 16 channels, three groups of (d − 4) / 6 blocks with 16k, 32k and
64k channels, the last two of stride 2, and a mean over what remains. Blocks are pre-activated; with
depth 28 and width 10 there are 36.5 million parameters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsi_ncmi.bounds import bounded, check_options

STEM = 16
CONVOLUTIONS, FIXED = 6, 4  # depth = 6 n + 4


@dataclass(frozen=True)
class Options:
    """Options of a wide residual network.

    Attributes:
        depth: number of convolutions, 6 n + 4 with n blocks in each group, 10 or more.
        width: k, factor on the channels 16, 32 and 64, 1 or more.
        dropout: between the two convolutions of a block, 0 to below 1.
    """

    depth: int = bounded(28, least=10)
    width: int = bounded(10, least=1)
    dropout: float = bounded(0.0, least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)
        if (self.depth - FIXED) % CONVOLUTIONS:
            raise ValueError(f"depth must be 10, 16, 22, 28, 34, 40, …: found {self.depth}")


class Block(nn.Module):
    """BN, ReLU, 3 x 3, BN, ReLU, dropout, 3 x 3, beside the identity or a 1 x 1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.norm1(x))
        beside = x if self.shortcut is None else self.shortcut(active)
        hidden = self.dropout(torch.relu(self.norm2(self.conv1(active))))
        found: Tensor = self.conv2(hidden) + beside
        return found


class WideResNet(nn.Module):
    """See the module."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        channels = [STEM, *(STEM * 2**group * options.width for group in range(3))]
        blocks = (options.depth - FIXED) // CONVOLUTIONS
        self.stem = nn.Conv2d(3, STEM, 3, padding=1, bias=False)
        self.groups = nn.Sequential()
        for group in range(3):
            for number in range(blocks):
                inputs = channels[group + (number > 0)]
                stride = 2 if group and not number else 1
                self.groups.append(Block(inputs, channels[group + 1], stride, options.dropout))
        self.norm = nn.BatchNorm2d(channels[-1])
        self.num_features = channels[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """[B, 3, h, w] -> [B, 64k, h / 4, w / 4]."""
        return torch.relu(self.norm(self.groups(self.stem(images))))

    def forward_head(self, features: Tensor) -> Tensor:
        """The mean over the map, [B, 64k]."""
        return features.mean((2, 3))


def build(options: Options) -> nn.Module:
    return WideResNet(options)
