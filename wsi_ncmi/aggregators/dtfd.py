"""DTFD-MIL: double-tier feature distillation (Zhang et al. 2022, CVPR, arXiv 2203.12081).

A bag is divided at random into M pseudo-bags of nearly equal size, which take over its class. With
h = relu(W x), tier 1 is gated ABMIL of each pseudo-bag, F_m = Σ_k a_k h_k; its loss is an auxiliary
one. Each pseudo-bag passes what represents it on to tier 2, gated ABMIL of these:

    AFS       F_m, the tier-1 embedding ("aggregated feature selection")
    MAS       h of the instance with the largest attention a_k
    MaxS      h of the instance with the largest probability p_k^c
    MaxMinS   h of those with the largest and with the smallest, as two instances of tier 2

    p_k^c = softmax_c L_k^c,   L_k^c = Σ_d β_d^c ĥ_kd                        (equations 8 and 9)

with Grad-CAM's β and ĥ_k = K a_k h_k: of a tier-1 classifier s = W₁ F + b, L_k^c = a_k (W₁ h_k)_c.
The softmax is over classes, not instances. Selecting needs that classifier, so it is a layer here
and its class scores are what the auxiliary loss takes; AFS and MAS leave the head to the objective.
The paper has two classes and p of the positive one, class 1. Of more classes we take the one that
tier 1 predicts for the pseudo-bag (the released code: the last one).

L₁ and L₂ are minimised over the parameters of their own tier: in training the gradient of the bag's
loss ends at what is distilled (`joint: true` lets it pass).

In evaluation the division is fixed: pseudo-bag m has the instances m, m + M, m + 2M, …, so that
neighbours in the bag's order come apart and a bag always has the same prediction. It depends on
that order. (The released code draws the division in evaluation, too.) A bag of fewer than M
instances has as many pseudo-bags as instances.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
from wsi_ncmi.aggregators.segments import attention_pool, segment_softmax, spread
from wsi_ncmi.bounds import bounded, check_options

# The released code (github.com/hrzhang1123/DTFD-MIL, Main_DTFD_MIL.py): each tier has an Adam, as
# one Adam is, and a rate times 0.2 after epoch 100, to which a cosine comes closest. It clips
# the gradients of each part of the network by themselves.
RECIPE: dict[str, Any] = {
    "optimiser": "adam",
    "schedule": "cosine",
    "learning_rate": 1e-4,
    "weight_decay": 1e-4,
    "epochs": 200,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": 5.0,
}


@dataclass(frozen=True)
class Options:
    """Options of DTFD-MIL, with the defaults of the released code.

    Attributes:
        hidden_dim: width of an instance's embedding and of the bag's.
        attention_dim: width of the gated attention, in both tiers.
        pseudo_bags: M, number of pseudo-bags; the paper has 5 for CAMELYON-16, 8 for TCGA lung.
        distillation: what a pseudo-bag passes on. `AFS`: its embedding. `MaxS`: its most probable
            instance. `MaxMinS`: its most and its least probable one. `MAS`: the one with the
            largest attention.
        distilled: instances that a pseudo-bag passes on where instances are selected; of
            `MaxMinS`, at each end. A smaller pseudo-bag passes on all of its instances, once.
        tier1_weight: weight of the loss of tier 1.
        joint: whether the bag's loss trains tier 1, too.
    """

    hidden_dim: int = bounded(512, least=1)
    attention_dim: int = bounded(128, least=1)
    pseudo_bags: int = bounded(4, least=1)
    distillation: Literal["AFS", "MaxS", "MaxMinS", "MAS"] = "AFS"
    distilled: int = bounded(1, least=1)
    tier1_weight: float = bounded(1.0, least=0)
    joint: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class DTFD(Aggregator):
    """See the module; the embedding is Σ γ f over all f that the pseudo-bags passed on."""

    permutation_invariant = False
    has_attention = True

    def __init__(self, feature_dim: int, classes: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.embedding_dim = width = options.hidden_dim
        self.classes = classes
        self.instance = InstanceLayers(nn.Linear(feature_dim, width, bias=False), nn.ReLU())
        self.tier1 = GatedAttention(width, options.attention_dim)
        self.tier2 = GatedAttention(width, options.attention_dim)
        by_class = options.distillation in ("MaxS", "MaxMinS")
        self.classifier = nn.Linear(width, classes) if by_class else None

    @property
    def auxiliaries(self) -> Mapping[str, Auxiliary]:
        scores = self.classifier is not None
        width = self.classes if scores else self.embedding_dim
        return {"pseudo_bags": Auxiliary(width, self.classes, scores)}

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        order, pseudo, parent = self._divide(bags)
        hidden = self.instance(pseudo.features)  # [T, m], pseudo-bag by pseudo-bag
        scores = self.tier1(hidden)
        with pooling_precision(hidden):
            hidden = at_least_float32(hidden)
            attention = segment_softmax(at_least_float32(scores), pseudo)  # [T, 1]
            pooled = attention_pool(attention, hidden, pseudo).squeeze(1)  # [P, m]
            tier1 = pooled if self.classifier is None else self.classifier(pooled)
            if self.options.distillation == "AFS":
                second = self._tier2(pooled, parent)
                weight = attention * spread(second.attention, pseudo)
            else:
                chosen, counts = self._select(hidden, attention, tier1, pseudo)
                owner = [b for b, count in zip(parent, counts, strict=True) for _ in range(count)]
                second = self._tier2(hidden.index_select(0, chosen), owner)
                nothing = second.attention.new_zeros(len(hidden), 1)
                weight = nothing.scatter(0, chosen[:, None], second.attention)
        back = order.argsort()
        weight, hidden = weight.index_select(0, back), hidden.index_select(0, back)
        losses = self._losses(tier1, targets, parent)
        return BagOutput(second.embedding, weight, hidden, losses)

    def _losses(
        self, tier1: Tensor, targets: Tensor | None, parent: list[int]
    ) -> dict[str, AuxiliaryLoss]:
        if targets is None:
            return {}
        target = targets.index_select(0, torch.tensor(parent, device=targets.device))
        return {"pseudo_bags": AuxiliaryLoss(tier1, target, self.options.tier1_weight)}

    def _divide(self, bags: BagBatch) -> tuple[Tensor, BagBatch, list[int]]:
        """The order [T] of instances by pseudo-bag, P pseudo-bags, and the bag [P] of each."""
        device = bags.features.device
        orders, sizes, parent = [], [0], []
        for number, (start, size) in enumerate(zip(_starts(bags.sizes), bags.sizes, strict=True)):
            count = min(self.options.pseudo_bags, size)
            rows = torch.arange(size, device=device)
            if self.training:
                rows = torch.randperm(size, device=device)
            orders += [start + rows[first::count] for first in range(count)]
            sizes += [len(range(first, size, count)) for first in range(count)]
            parent += [number] * count
        order = torch.cat(orders)
        features = bags.features.index_select(0, order)
        return order, BagBatch(features, torch.tensor(sizes).cumsum(0)), parent

    def _tier2(self, distilled: Tensor, owner: list[int]) -> BagOutput:
        """Tier 2 of what was distilled [R, m], with the bag [R] of each."""
        if self.training and not self.options.joint:
            distilled = distilled.detach()
        sizes = [len(list(same)) for _, same in itertools.groupby(owner)]
        bags = BagBatch(distilled, torch.tensor([0, *sizes]).cumsum(0))
        attention = segment_softmax(self.tier2(distilled), bags)  # [R, 1]
        return BagOutput(attention_pool(attention, distilled, bags).squeeze(1), attention)

    @torch.no_grad()
    def _select(
        self, hidden: Tensor, attention: Tensor, tier1: Tensor, pseudo: BagBatch
    ) -> tuple[Tensor, list[int]]:
        """Rows [R] of the selected instances, and how many are of each pseudo-bag [P]."""
        rank = attention.squeeze(1)
        if self.classifier is not None:
            activation = (attention * hidden) @ self.classifier.weight.T  # L, [T, C]
            wanted = torch.ones_like(tier1[:, 0], dtype=torch.int64)
            if self.classes > 2:
                wanted = tier1.argmax(1)
            of_each = wanted.index_select(0, pseudo.index)[:, None]
            rank = activation.softmax(1).gather(1, of_each).squeeze(1)  # p, [T]
        pairs = zip(_starts(pseudo.sizes), pseudo.split(rank), strict=True)
        chosen = [start + self._ends(values) for start, values in pairs]
        return torch.cat(chosen), [len(rows) for rows in chosen]

    def _ends(self, rank: Tensor) -> Tensor:
        """Rows of the instances that a pseudo-bag passes on, of their ranking values [N]."""
        # One order for both ends: they never meet, whatever is equal.
        rows = rank.sort(descending=True, stable=True).indices
        count, size = self.options.distilled, len(rank)
        if self.options.distillation != "MaxMinS":
            return rows[:count]
        return rows if size <= 2 * count else torch.cat([rows[:count], rows[size - count :]])


def _starts(sizes: tuple[int, ...]) -> list[int]:
    return [0, *itertools.accumulate(sizes)][:-1]


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return DTFD(feature_dim, classes, options)
