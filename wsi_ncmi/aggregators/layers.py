"""Layers on instances: relu(W x + b), with dropout or without, one after another."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from wsi_ncmi.aggregators import fused
from wsi_ncmi.aggregators.dropout import Dropout


class InstanceLayers(nn.Sequential):
    """Linear, ReLU and perhaps Dropout, and so on: [T, D] -> [T, m]."""

    def forward(self, values: Tensor) -> Tensor:
        for linear, dropout in self._layers():
            width = linear.out_features
            if not fused.applies(values, width):
                values = torch.relu(linear(values))
                values = values if dropout is None else dropout(values)
                continue
            mask = None if dropout is None else dropout.mask((len(values), width), values.dtype)
            scale = 1.0 if dropout is None else dropout.scale
            values = fused.relu_layer(values, (linear.weight, linear.bias), mask, scale)
        return values

    def _layers(self) -> Iterator[tuple[nn.Linear, Dropout | None]]:
        found = list(self)
        for place, linear in enumerate(found):
            if isinstance(linear, nn.Linear):
                follows = found[place + 2] if place + 2 < len(found) else None
                yield linear, follows if isinstance(follows, Dropout) else None
