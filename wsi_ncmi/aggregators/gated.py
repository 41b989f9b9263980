"""Attention scores of instances (Ilse, Tomczak & Welling 2018, arXiv 1802.04712).

They are those before the softmax: [T, m] -> [T, K]. K heads share all layers but the last, which
has no bias: softmax would not see it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        # Both factors in one product: the instances are read once.
        weight = torch.cat([self.tanh.weight, self.gate.weight])
        bias = torch.cat([self.tanh.bias, self.gate.bias])
        tanh, gate = F.linear(hidden, weight, bias).chunk(2, -1)
        tanh, gate = self.dropout(torch.tanh(tanh)), self.dropout(torch.sigmoid(gate))
        scores: Tensor = self.score(tanh * gate)
        return scores
