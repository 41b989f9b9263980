"""Multi-head attention of trainable tokens over the instances of packed bags.

Every token has projections of its own. The parts of an attention that depend on no instance are
multiplied out first: with q the projected query of a head and K its key matrix,

    q · (K h_t) = (Kᵀ q) · h_t   and   Σ_t a_t (V h_t + v) = V (Σ_t a_t h_t) + v

so that an instance costs 2 N H m multiplications for N tokens of H heads and not 2 N m².
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.aggregators.dropout import Dropout
from wsi_ncmi.aggregators.interface import pooling_precision


class Queries(nn.Module):
    """N tokens of width m with their query and key projections, H heads each.

    Tokens start from N(0, 10⁻¹²), projections as `nn.Linear` does. Keys have no bias: softmax over
    the instances would not see it.
    """

    def __init__(self, tokens: int, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.token = nn.Parameter(1e-6 * torch.randn(tokens, dim))
        self.query = nn.Parameter(_linear(tokens, dim, dim))
        self.bias = nn.Parameter(_linear(tokens, dim))
        self.key = nn.Parameter(_linear(tokens, dim, dim))

    def forward(self, hidden: Tensor) -> Tensor:
        """Instances [T, m] -> logits [T, N·H], divided by √(m / H)."""
        with pooling_precision(hidden):
            query = torch.einsum("noi,ni->no", self.query, self.token) + self.bias
            each = query.unflatten(1, (self.heads, -1))  # [N, H, m / H]
            key = self.key.unflatten(1, (self.heads, -1))  # [N, H, m / H, m]
            folded = torch.einsum("nhd,nhdi->nhi", each, key) / math.sqrt(each.shape[2])
        return F.linear(hidden, folded.flatten(0, 1))


class Values(nn.Module):
    """Value and output projections of N tokens, dropout and LayerNorm: [B, N·H, m] -> [B, N, m].

    It takes each head's weighted sum of the instances.
    """

    def __init__(self, tokens: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.value = nn.Parameter(_linear(tokens, dim, dim))
        self.value_bias = nn.Parameter(_linear(tokens, dim))
        self.out = nn.Parameter(_linear(tokens, dim, dim))
        self.out_bias = nn.Parameter(_linear(tokens, dim))
        self.dropout = Dropout(dropout)
        self.norm = nn.Parameter(torch.ones(tokens, dim))
        self.norm_bias = nn.Parameter(torch.zeros(tokens, dim))

    def forward(self, pooled: Tensor) -> Tensor:
        of_heads = pooled.unflatten(1, (-1, self.heads))  # [B, N, H, m]
        value = self.value.unflatten(1, (self.heads, -1))  # [N, H, m / H, m]
        joined = torch.einsum("bnhi,nhdi->bnhd", of_heads, value).flatten(2) + self.value_bias
        found = torch.einsum("bni,noi->bno", joined, self.out) + self.out_bias
        # A mask is drawn in the order of memory, which einsum chooses: another one when stacked.
        dropped = self.dropout(found.contiguous())
        found = F.layer_norm(dropped, found.shape[2:], eps=1e-6)
        return found * self.norm + self.norm_bias


def _linear(tokens: int, *shape: int) -> Tensor:
    """Start of weights or a bias of layers with `shape[-1]` inputs, as of `nn.Linear`."""
    bound = 1 / math.sqrt(shape[-1])
    return torch.empty(tokens, *shape).uniform_(-bound, bound)
