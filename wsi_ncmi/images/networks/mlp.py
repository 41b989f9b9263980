"""A multilayer perceptron on the pixels of small images, or on vectors."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsi_ncmi.bounds import bounded, check_options


@dataclass(frozen=True)
class Options:
    """Options of the multilayer perceptron.

    Attributes:
        width: units of every hidden layer, and dimensions of the embedding.
        depth: number of hidden layers, 1 or more.
        features: numbers of a vector, such as a row of a table; `null`: the samples are images.
        side: of the images in pixels.
        grey: take the mean of the three channels, which are equal in grey images.
    """

    width: int = bounded(256, least=1)
    depth: int = bounded(2, least=1)
    features: int | None = bounded(None, least=1)
    side: int = bounded(28, least=1)
    grey: bool = True

    def __post_init__(self) -> None:
        check_options(self)


class Perceptron(nn.Module):
    """Linear layers with rectified outputs; the last one's are the embedding."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.grey, self.side, self.features = options.grey, options.side, options.features
        inputs = options.features or (1 if options.grey else 3) * options.side**2
        widths = [inputs, *[options.width] * options.depth]
        self.layers = nn.ModuleList(
            nn.Linear(before, after) for before, after in itertools.pairwise(widths)
        )
        self.num_features = options.width

    def forward_features(self, images: Tensor) -> Tensor:
        """[B, 3, side, side], or [B, features] -> [B, width].

        Raises:
            ValueError: images of another side, or vectors of another length.
        """
        x = self._flat(images)
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x

    def _flat(self, images: Tensor) -> Tensor:
        if self.features is not None:
            if images.shape[1:] != (self.features,):
                raise ValueError(f"mlp was made for vectors of {self.features}: set its `features`")
            return images
        if images.shape[2:] != (self.side, self.side):
            raise ValueError(f"mlp was made for images of {self.side} pixels: set its `side`")
        return (images.mean(1) if self.grey else images).flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """The embedding itself."""
        return features


def build(options: Options) -> nn.Module:
    return Perceptron(options)
