"""Attention-challenging MIL (ACMIL, Zhang et al. 2024, ECCV, arXiv 2311.07125).

M branches of gated attention (equation 3) share the instance embeddings h_n = relu(W x_n):

    z_i = Σ_n a_in h_n                                            embedding of branch i (equation 2)
    L_p = 1/M Σ_i loss(z_i, y), with a head for each branch       auxiliary losses      (equation 4)
    L_d = 2/(M(M − 1)) Σ_{i<j} cos(a_i, a_j)                      diversity, a penalty  (equation 5)
    z   = Σ_n (1/M Σ_i a_in) h_n                                  the bag's embedding   (equation 6)
    L   = loss(z, y) + L_p + L_d                                                   (equations 7, 8)

In training, of the K instances to which a branch attends most, a share p drawn at random is masked,
and the rest of the bag gets their attention (equation 9). As in the released code the K are looked
for in each branch, ⌊p K⌋ are masked, and a bag of fewer than K instances has ⌊p N⌋ masked, so never
all; the diversity is that of the masked attention, averaged over a step's bags.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.gated import GatedAttention
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    Auxiliary,
    AuxiliaryLoss,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.layers import InstanceLayers
from wsi_ncmi.aggregators.segments import attention_pool, segment_softmax
from wsi_ncmi.bounds import bounded, check_options

# The released code (github.com/dazhangyu123/ACMIL: Step3_WSI_classification_ACMIL.py and
# config/camelyon17_medical_ssl_config.yml).
RECIPE: dict[str, Any] = {
    "optimiser": "adamw",
    "schedule": "cosine",
    "learning_rate": 1e-4,
    "weight_decay": 1e-5,
    "epochs": 50,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": None,
}


@dataclass(frozen=True)
class Options:
    """Options of ACMIL; widths as in the released code for 512-d features (128 for 384-d).

    Attributes:
        hidden_dim: width of an instance's embedding and of the bag's.
        attention_dim: width of the gated attention.
        branches: M, number of attention branches. With one there are no branch losses and there is
            no diversity: what remains is gated ABMIL with masked instances.
        masked_of: K, number of most attended instances of which some are masked in training; 0:
            none.
        masked_share: p, share of them that is masked.
        branch_weight: weight of the mean of the branches' losses.
        diversity_weight: weight of the mean cosine between the attention of two branches.
    """

    hidden_dim: int = bounded(256, least=1)
    attention_dim: int = bounded(128, least=1)
    branches: int = bounded(5, least=1)
    masked_of: int = bounded(10, least=0)
    masked_share: float = bounded(0.6, least=0, below=1)
    branch_weight: float = bounded(1.0, least=0)
    diversity_weight: float = bounded(1.0, least=0)

    def __post_init__(self) -> None:
        check_options(self)


class ACMIL(Aggregator):
    """See the module."""

    has_attention = True

    def __init__(self, feature_dim: int, classes: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.classes = classes
        self.embedding_dim = options.hidden_dim
        self.instance = InstanceLayers(
            nn.Linear(feature_dim, options.hidden_dim, bias=False), nn.ReLU()
        )
        self.attention = GatedAttention(options.hidden_dim, options.attention_dim, options.branches)

    @property
    def auxiliaries(self) -> Mapping[str, Auxiliary]:
        count = self.options.branches
        names = [f"branch_{i}" for i in range(count)] if count > 1 else []
        return dict.fromkeys(names, Auxiliary(self.embedding_dim, self.classes))

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        hidden = self.instance(bags.features)  # [T, m]
        scores = self.attention(hidden)
        with pooling_precision(hidden):
            hidden, scores = at_least_float32(hidden), at_least_float32(scores)  # scores [T, M]
            if self.training:
                scores = self._masked(scores, bags)
            attention = segment_softmax(scores, bags)
            branches = attention_pool(attention, hidden, bags)  # [B, M, m]
            penalty = None
            if self.training and self.options.branches > 1:
                penalty = self.options.diversity_weight * _mean_cosine(attention, bags)
        auxiliary = self._losses(branches, targets)
        return BagOutput(branches.mean(1), attention, hidden, auxiliary, penalty)

    def _losses(self, branches: Tensor, targets: Tensor | None) -> dict[str, AuxiliaryLoss]:
        if targets is None:
            return {}
        weight = self.options.branch_weight / self.options.branches
        pairs = zip(self.auxiliaries, branches.unbind(1), strict=False)  # none of a single branch
        return {name: AuxiliaryLoss(branch, targets, weight) for name, branch in pairs}

    def _masked(self, scores: Tensor, bags: BagBatch) -> Tensor:
        """Scores [T, M] with −∞ for the masked instances of each branch."""
        masks = [self._mask(bag) for bag in bags.split(scores.detach())]
        return scores.masked_fill(torch.cat(masks), -torch.inf)

    def _mask(self, scores: Tensor) -> Tensor:
        """True for the instances of a bag that each branch masks: bool [N, M]."""
        most = min(self.options.masked_of, len(scores))
        masked = int(most * self.options.masked_share)
        attended = scores.topk(most, dim=0).indices  # [K, M]
        drawn = torch.rand(attended.shape, device=scores.device).argsort(0)[:masked]
        nothing = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
        return nothing.scatter(0, attended.gather(0, drawn), True)


def _mean_cosine(attention: Tensor, bags: BagBatch) -> Tensor:
    """Mean cosine between the attention [T, M] of two branches, over all pairs and bags."""
    products = attention_pool(attention, attention, bags)  # a_i · a_j: [B, M, M]
    length = products.diagonal(dim1=1, dim2=2).sqrt()
    cosine = products / (length[:, :, None] * length[:, None, :])
    count = attention.shape[1]
    first, second = torch.triu_indices(count, count, 1, device=attention.device)
    return cosine[:, first, second].mean()


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return ACMIL(feature_dim, classes, options)
