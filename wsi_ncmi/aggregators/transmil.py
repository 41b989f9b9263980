"""TransMIL (Shao et al. 2021, NeurIPS, arXiv 2106.00908), Algorithm 2.

A transformer over a bag's instances h_n = relu(W x_n) and a class token c, for each bag by itself:

    squaring   the first √N² − N instances are repeated at the end, with √N rounded up
    layer 1    t ← t + Attention(LayerNorm(t)),   t = (c, h_1, ..., h_M)
    PPEG       the M instances of t as a √M × √M map: map + DConv₇ + DConv₅ + DConv₃ of it
    layer 2    t ← t + Attention(LayerNorm(t))
    embedding  LayerNorm(t)_c

Attention is Nyström's (equation 9) of 8 heads (see `wsi_ncmi.aggregators.nystrom`), with dropout on
its output; as in the released code (github.com/szc19990412/TransMIL) layers have no feed-forward
part. The map is filled in the order of the instances, whatever their places in the slide.

What is computed otherwise and gives the same: PPEG is one convolution, the sum of the three kernels
and of the identity; of layer 2 only the class token's row is computed, since only that is used.

The attention returned is the class token's over the instances in layer 2, F Z B of its row, for
each head. A repeated instance has the weights of both of its places. F Z B is an approximation, and
may be negative: these weights are 0 here; then weights are divided by their sum in the bag. Where
no instance has a positive one, all have the same.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.layers import InstanceLayers
from wsi_ncmi.aggregators.nystrom import NystromAttention
from wsi_ncmi.bounds import bounded, check_options

# The released code (Camelyon/TransMIL.yaml: Lookahead over RAdam; it adds up the gradients of two
# bags a step); the paper's section 4 has the same with one bag a step.
RECIPE: dict[str, Any] = {
    "optimiser": "radam",
    "lookahead": True,
    "schedule": "constant",
    "learning_rate": 2e-4,
    "weight_decay": 1e-5,
    "epochs": 200,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": None,
}
LARGEST_KERNEL = 7


@dataclass(frozen=True)
class Options:
    """Options of TransMIL.

    Attributes:
        hidden_dim: width of a token and of the bag's embedding; a multiple of `heads`.
        heads: attention heads of each layer.
        landmarks: m, landmarks of the Nyström attention; the released code has half the width.
        pinv_iterations: iterations of the pseudo-inverse.
        residual_kernel: length of the convolution of the values over the tokens; odd.
        dropout: dropout on the output of each attention, in training only.
    """

    hidden_dim: int = bounded(512, least=1)
    heads: int = bounded(8, least=1)
    landmarks: int = bounded(256, least=1)
    pinv_iterations: int = bounded(6, least=1)
    residual_kernel: int = bounded(33, least=1)
    dropout: float = bounded(0.1, least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)
        if self.hidden_dim % self.heads:
            raise ValueError(
                f"hidden_dim must be a multiple of heads, found {self.hidden_dim} and {self.heads}"
            )
        if self.residual_kernel % 2 == 0:
            raise ValueError(f"residual_kernel must be odd, found {self.residual_kernel}")


class PPEG(nn.Module):
    """Pyramid position encoding of a square map: [side², m] -> [side², m]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv7, self.conv5, self.conv3 = (
            nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
            for kernel in (LARGEST_KERNEL, 5, 3)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        side, dim = math.isqrt(len(tokens)), tokens.shape[1]
        image = tokens.T.unflatten(1, (side, side))[None]
        weight, bias = self._kernel(tokens.device)
        encoded = F.conv2d(image, weight, bias, padding=LARGEST_KERNEL // 2, groups=dim)
        return encoded[0].flatten(1).T

    def _kernel(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Weight [m, 1, 7, 7] and bias [m] of one convolution that gives the sum of all."""
        identity = torch.zeros(LARGEST_KERNEL, LARGEST_KERNEL, device=device)
        identity[LARGEST_KERNEL // 2, LARGEST_KERNEL // 2] = 1
        weight = self.conv7.weight + F.pad(self.conv5.weight, (1,) * 4)
        weight = weight + F.pad(self.conv3.weight, (2,) * 4) + identity
        convolutions = (self.conv7, self.conv5, self.conv3)
        biases = [conv.bias for conv in convolutions if conv.bias is not None]
        return weight, torch.stack(biases).sum(0)


class Embedded(NamedTuple):
    """Of one bag: embedding [m], attention [N, H], and the instances of layer 2, [N, m]."""

    embedding: Tensor
    attention: Tensor
    instances: Tensor


class TransMIL(Aggregator):
    """See the module."""

    has_attention = True
    permutation_invariant = False

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        dim = self.embedding_dim = options.hidden_dim
        self.instance = InstanceLayers(nn.Linear(feature_dim, dim), nn.ReLU())
        self.class_token = nn.Parameter(torch.randn(1, dim))
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(dim) for _ in range(3))
        self.layer1, self.layer2 = (
            NystromAttention(
                dim,
                options.heads,
                options.landmarks,
                options.pinv_iterations,
                options.residual_kernel,
                options.dropout,
            )
            for _ in range(2)
        )
        self.position = PPEG(dim)

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        embedded = [self._bag(bag) for bag in bags.split(self.instance(bags.features))]
        embedding, attention, instances = zip(*embedded, strict=True)
        return BagOutput(torch.stack(embedding), torch.cat(attention), torch.cat(instances))

    def _bag(self, hidden: Tensor) -> Embedded:
        """Instances [N, m] of one bag, in the precision of the layer that made them."""
        size = len(hidden)
        hidden = at_least_float32(hidden)
        repeated = (math.isqrt(size - 1) + 1) ** 2 - size
        tokens = torch.cat([self.class_token, hidden, hidden[:repeated]])
        tokens = tokens + self.layer1(self.norm1(tokens))
        tokens = torch.cat([tokens[:1], self.position(tokens[1:])])
        update, weights = self.layer2.first(self.norm2(tokens))
        with pooling_precision(hidden):
            embedding = self.norm(tokens[0] + update)
        return Embedded(embedding, shares(weights[:, 1:], size), tokens[1 : size + 1])


def shares(weights: Tensor, size: int) -> Tensor:
    """Weights [H, M] of which those after `size` are of the first again, as shares [N, H]."""
    again = weights[:, size:]
    joined = weights[:, :size] + F.pad(again, (0, size - again.shape[1]))
    positive = joined.clamp(min=0)
    total = positive.sum(1, keepdim=True)
    uniform = torch.full_like(positive, 1 / size)
    return torch.where(total > 0, positive / total, uniform).T


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return TransMIL(feature_dim, options)
