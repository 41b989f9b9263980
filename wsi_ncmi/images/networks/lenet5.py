"""LeNet-5 (LeCun et al. 1998) as it is used now: rectified linear units and maximum pooling.

On grey images of 28 x 28 with 10 classes it has four hidden layers and, with a linear classifier,
44,426 parameters: the shallow network "of about 44,000 parameters and four hidden layers" of Zaugg
et al. 2025 (10.1007/978-3-031-93631-9_16), whose layers are not listed, is taken to be this one.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.bounds import bounded, check_options

KERNEL, SHRINK = 5, 2
LEAST_SIDE = 16


@dataclass(frozen=True)
class Options:
    """Options of LeNet-5.

    Attributes:
        width: factor on the channels and units 6, 16, 120 and 84 of the four layers, above 0; the
            embedding has 84 times as many dimensions.
        side: of the images in pixels, 16 or more.
        grey: take the mean of the three channels, which are equal in grey images.
    """

    width: float = bounded(1.0, above=0)
    side: int = bounded(28, least=LEAST_SIDE)
    grey: bool = True

    def __post_init__(self) -> None:
        check_options(self)


class LeNet5(nn.Module):
    """Convolutions of 5 x 5 to 6 and 16 channels, each with pooling, and layers of 120 and 84."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.grey, self.side = options.grey, options.side
        first, second, third, last = (max(1, round(n * options.width)) for n in (6, 16, 120, 84))
        side = options.side
        for _ in range(2):
            side = (side - KERNEL + 1) // SHRINK
        self.conv1 = nn.Conv2d(1 if options.grey else 3, first, KERNEL)
        self.conv2 = nn.Conv2d(first, second, KERNEL)
        self.hidden = nn.Linear(second * side * side, third)
        self.last = nn.Linear(third, last)
        self.num_features = last

    def forward_features(self, images: Tensor) -> Tensor:
        """[B, 3, side, side] -> [B, m].

        Raises:
            ValueError: images of another side.
        """
        if images.shape[2:] != (self.side, self.side):
            raise ValueError(f"lenet5 was made for images of {self.side} pixels: set its `side`")
        x = images.mean(1, keepdim=True) if self.grey else images
        for layer in (self.conv1, self.conv2):
            x = F.max_pool2d(torch.relu(layer(x)), SHRINK)
        return torch.relu(self.last(torch.relu(self.hidden(x.flatten(1)))))

    def forward_head(self, features: Tensor) -> Tensor:
        """The embedding itself."""
        return features


def build(options: Options) -> nn.Module:
    return LeNet5(options)
