"""Gated attention (Ilse, Tomczak & Welling 2018, arXiv 1802.04712, equation 9)."""

import torch
from torch import Tensor, nn


class GatedAttention(nn.Module):
    """Scores wᵀ(tanh(V h_n) ⊙ σ(U h_n)) before the softmax: [T, m] -> [T, K].

    K heads share V and U and have a w each. It has no bias: softmax would not see it.
    """

    def __init__(self, dim: int, attention_dim: int, heads: int = 1) -> None:
        super().__init__()
        self.tanh = nn.Linear(dim, attention_dim)
        self.gate = nn.Linear(dim, attention_dim)
        self.score = nn.Linear(attention_dim, heads, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        gated = torch.tanh(self.tanh(hidden)) * torch.sigmoid(self.gate(hidden))
        scores: Tensor = self.score(gated)
        return scores
