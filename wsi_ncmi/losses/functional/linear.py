"""A linear layer of one model or of a stack of them."""

from torch import Tensor, nn


def stacked_linear(layer: nn.Linear, z: Tensor) -> Tensor:
    """[..., B, m] -> [..., B, n]; leading axes are those of the layer's tensors.

    `F.linear` takes one layer: in a stack, each model has its own.
    """
    return z @ layer.weight.mT + layer.bias.unsqueeze(-2)
