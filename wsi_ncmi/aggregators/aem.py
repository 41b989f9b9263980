"""Attention entropy maximisation (AEM, Zhang et al. 2024, MICCAI 2025, arXiv 2406.15303).

Gated ABMIL whose attention is kept from concentrating on a few instances:

    L = L_bag + λ_t L_aem,    L_aem = −H(a) = Σ_n a_n ln a_n        (equations 2 and 3)

The entropy is not divided by ln N, the largest that a bag of N instances can have: larger bags
weigh more. It is averaged over a step's bags; the paper has one bag a step. Its third version lets
λ fall to 0 along a cosine (`annealing_steps`); its first two, and the released code, keep it.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.dropout import Dropout
from wsi_ncmi.aggregators.gated import GatedAttention
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.layers import InstanceLayers
from wsi_ncmi.aggregators.segments import attention_pool, segment_log_softmax
from wsi_ncmi.bounds import bounded, check_options

# CAMELYON-17 in the released code (github.com/dazhangyu123/AEM: main.py, camelyon17_config.yml).
RECIPE: dict[str, Any] = {
    "optimiser": "adamw",
    "schedule": "cosine",
    "learning_rate": 2e-4,
    "weight_decay": 1e-5,
    "epochs": 50,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": None,
}


@dataclass(frozen=True)
class Options:
    """Options of AEM; widths as in the released code for 512-d features (128 for 384-d).

    Attributes:
        hidden_dim: width of an instance's embedding and of the bag's.
        attention_dim: width of the gated attention.
        dropout: dropout on instance embeddings, in training only; the paper has none.
        entropy_weight: λ, weight of the negative entropy. The paper's for CAMELYON-17; 0.001 for
            CAMELYON-16, 0.2 for its cytology.
        annealing_steps: optimiser steps in which λ falls to 0 along a cosine: epochs times steps of
            an epoch is the paper's third version. `null`: λ stays.
    """

    hidden_dim: int = bounded(256, least=1)
    attention_dim: int = bounded(128, least=1)
    dropout: float = bounded(0.0, least=0, below=1)
    entropy_weight: float = bounded(0.1, least=0)
    annealing_steps: int | None = bounded(None, least=1)

    def __post_init__(self) -> None:
        check_options(self)


class AEM(Aggregator):
    """h_n = relu(W x_n);  a = softmax_n wᵀ(tanh(V h_n) ⊙ σ(U h_n));  embedding = Σ_n a_n h_n."""

    has_attention = True
    step: Tensor

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.embedding_dim = options.hidden_dim
        self.instance = InstanceLayers(
            nn.Linear(feature_dim, options.hidden_dim, bias=False),
            nn.ReLU(),
            Dropout(options.dropout),
        )
        self.attention = GatedAttention(options.hidden_dim, options.attention_dim)
        self.register_buffer("step", torch.zeros(()))

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        hidden = self.instance(bags.features)  # [T, m]
        scores = self.attention(hidden)
        with pooling_precision(hidden):
            hidden = at_least_float32(hidden)
            log_attention = segment_log_softmax(at_least_float32(scores), bags)  # [T, 1]
            attention = log_attention.exp()
            embedding = attention_pool(attention, hidden, bags).squeeze(1)
            penalty = None
            if self.training:
                negative_entropy = (attention * log_attention).sum() / len(bags)
                penalty = self._weight() * negative_entropy
        return BagOutput(embedding, attention, hidden, penalty=penalty)

    def _weight(self) -> float | Tensor:
        """λ of this step."""
        weight, steps = self.options.entropy_weight, self.options.annealing_steps
        if steps is None:
            return weight
        done = (self.step / steps).clamp(max=1)
        return weight / 2 * (1 + torch.cos(math.pi * done))

    @torch.no_grad()
    def end_step(self) -> None:
        self.step.add_(1)


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return AEM(feature_dim, options)
