"""Attention scores of instances (Ilse, Tomczak & Welling 2018, arXiv 1802.04712).

They are those before the softmax: [T, m] -> [T, K]. K heads share all layers but the last, which
has no bias: softmax would not see it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.aggregators import fused
from wsi_ncmi.aggregators.dropout import Dropout


class TanhAttention(nn.Module):
    """wᵀ tanh(V h_n), equation 8."""

    def __init__(self, dim: int, attention_dim: int, heads: int = 1) -> None:
        super().__init__()
        self.tanh = nn.Linear(dim, attention_dim)
        self.score = nn.Linear(attention_dim, heads, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        scores: Tensor = self.score(torch.tanh(self.tanh(hidden)))
        return scores


class GatedAttention(nn.Module):
    """wᵀ(tanh(V h_n) ⊙ σ(U h_n)), equation 9.

    Args:
        dropout: on each of the two factors, in training only.
    """

    def __init__(self, dim: int, attention_dim: int, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.tanh = nn.Linear(dim, attention_dim)
        self.gate = nn.Linear(dim, attention_dim)
        self.dropout = Dropout(dropout)
        self.score = nn.Linear(attention_dim, heads, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        width = self.tanh.out_features
        if fused.applies(hidden, width):
            masks = [self.dropout.mask((len(hidden), width), hidden.dtype) for _ in range(2)]
            tanh, gate = ((layer.weight, layer.bias) for layer in (self.tanh, self.gate))
            return fused.gated_scores(hidden, tanh, gate, self.score.weight, *masks)
        # Both factors in one product: the instances are read once.
        weight = torch.cat([self.tanh.weight, self.gate.weight])
        bias = torch.cat([self.tanh.bias, self.gate.bias])
        one, two = F.linear(hidden, weight, bias).chunk(2, -1)
        one, two = self.dropout(torch.tanh(one)), self.dropout(torch.sigmoid(two))
        scores: Tensor = self.score(one * two)
        return scores
