"""Attention-based MIL (Ilse, Tomczak & Welling 2018, arXiv 1802.04712, equations 7 to 9)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.segments import attention_pool, segment_softmax
from wsi_ncmi.bounds import bounded, check_options


@dataclass(frozen=True)
class Options:
    """Options of gated ABMIL; 256 and 128 are the recipe of the ACMIL line for 512-d features.

    Attributes:
        hidden_dim: width of an instance's embedding and of the bag's.
        attention_dim: width of the gated attention.
        dropout: dropout on instance embeddings, in training only.
    """

    hidden_dim: int = bounded(256, least=1)
    attention_dim: int = bounded(128, least=1)
    dropout: float = bounded(0.25, least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)


class GatedABMIL(Aggregator):
    """h_n = relu(W x_n);  a = softmax_n wᵀ(tanh(V h_n) ⊙ σ(U h_n));  embedding = Σ_n a_n h_n."""

    has_attention = True

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        self.embedding_dim = options.hidden_dim
        self.instance = nn.Sequential(
            nn.Linear(feature_dim, options.hidden_dim), nn.ReLU(), nn.Dropout(options.dropout)
        )
        self.tanh = nn.Linear(options.hidden_dim, options.attention_dim)
        self.gate = nn.Linear(options.hidden_dim, options.attention_dim)
        # No bias: softmax over the instances would not see it.
        self.score = nn.Linear(options.attention_dim, 1, bias=False)

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        hidden = self.instance(bags.features)  # [T, m]
        gated = torch.tanh(self.tanh(hidden)) * torch.sigmoid(self.gate(hidden))
        scores = self.score(gated)
        with pooling_precision(hidden):
            hidden = at_least_float32(hidden)
            attention = segment_softmax(at_least_float32(scores), bags)  # [T, 1]
            embedding = attention_pool(attention, hidden, bags).squeeze(1)
        return BagOutput(embedding, attention, hidden)


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return GatedABMIL(feature_dim, options)
