"""Dual-stream MIL (DSMIL, Li, Li & Eliceiri 2021, arXiv 2011.08939, equations 3 to 7).

    s_n = W_0 x_n                       instance scores [C]; for each class c the critical
                                        instance m(c) = argmax_n s_nc
    q_n = q(x_n), v_n = v(x_n)
    a_cn = softmax_n ⟨q_n, q_m(c)⟩ / √Q
    z_c = Σ_n a_cn v_n                  the embedding is [z_1 … z_C]

The loss is half that of the bag, half that of the scores of the critical instances (the stream of
max pooling).

The authors' bag classifier is a one-dimensional convolution over the C embeddings whose kernel has
their length. It is one linear layer on [z_1 … z_C] for all classes, that is cross-entropy as it
comes; with `blockwise: true` class c would see z_c alone. Their loss is binary cross-entropy for
each class; here the arm's objective takes its place in both streams. The division by √Q, and q and
v by default, are those of their released code; `query: linear` and `value: linear` those of the
paper's equations.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch, StreamBags
from wsi_ncmi.aggregators.dropout import Dropout
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    Auxiliary,
    AuxiliaryLoss,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.segments import attention_pool, segment_softmax
from wsi_ncmi.bounds import bounded, check_options

# The released code (github.com/binli123/dsmil-wsi, train_tcga.py). Its train_mil.py, for the
# classic data sets, has 2e-4, decay 5e-3 and 40 epochs, with linear q and v.
RECIPE: dict[str, Any] = {
    "optimiser": "adam",
    "betas": (0.5, 0.9),
    "schedule": "cosine",
    "learning_rate": 1e-4,
    "weight_decay": 1e-3,
    "epochs": 50,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": None,
}


@dataclass(frozen=True)
class Options:
    """Options of DSMIL.

    Attributes:
        query_dim: Q, width of a query.
        query: `mlp`: two layers, the first with ReLU, the second with tanh. `linear`: one.
        value: what the attention pools. `identity`: the features. `linear`: a linear layer of them,
            of their width.
        dropout: dropout on the features before the linear `value`, in training only.
        max_weight: weight of the loss of the critical instances, that of the bag's loss is 1 less
            it.
    """

    query_dim: int = bounded(128, least=1)
    query: Literal["mlp", "linear"] = "mlp"
    value: Literal["identity", "linear"] = "identity"
    dropout: float = bounded(0.0, least=0, below=1)
    max_weight: float = bounded(0.5, above=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)


class DSMIL(Aggregator):
    """The module's equations."""

    has_attention = True
    joins_streams = True
    class_blocks = True

    def __init__(self, feature_dim: int, classes: int, options: Options) -> None:
        super().__init__()
        self.options, self.classes = options, classes
        self.embedding_dim = classes * feature_dim
        self.score = nn.Linear(feature_dim, classes)
        layers: list[nn.Module] = [nn.Linear(feature_dim, options.query_dim)]
        if options.query == "mlp":
            layers += [nn.ReLU(), nn.Linear(options.query_dim, options.query_dim), nn.Tanh()]
        self.query = nn.Sequential(*layers)
        self.value: nn.Module = nn.Identity()
        if options.value == "linear":
            self.value = nn.Sequential(
                Dropout(options.dropout), nn.Linear(feature_dim, feature_dim)
            )

    @property
    def auxiliaries(self) -> Mapping[str, Auxiliary]:
        return {"critical_instances": Auxiliary(self.classes, self.classes, scores=True)}

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        scores, query = self.score(bags.features), self.query(bags.features)  # [T, C], [T, Q]
        value = self.value(bags.features)
        with pooling_precision(value):
            scores, query, value = map(at_least_float32, (scores, query, value))
            critical = critical_instances(scores.detach(), bags)  # [B, C]
            attention = segment_softmax(similarity(query, critical, bags), bags)  # [T, C]
            embedding = attention_pool(attention, value, bags).flatten(1)
        auxiliary = {}
        if targets is not None:
            largest = torch.take_along_dim(scores, critical, 0)
            loss = AuxiliaryLoss(largest, targets, self.options.max_weight)
            auxiliary = {"critical_instances": loss}
        pooled = None if isinstance(self.value, nn.Identity) else value
        weight = 1 - self.options.max_weight
        return BagOutput(embedding, attention, pooled, auxiliary, bag_weight=weight)


def critical_instances(scores: Tensor, bags: BagBatch) -> Tensor:
    """The row of each bag's and class's largest score: [T, C] -> [B, C]."""
    if isinstance(bags, StreamBags):
        return scores.masked_fill(~bags.members[:, :, None], -torch.inf).argmax(1)
    first = bags.offsets[:-1].tolist()
    pairs = zip(first, bags.split(scores), strict=True)
    return torch.stack([bag.argmax(0) + at for at, bag in pairs])


def similarity(query: Tensor, critical: Tensor, bags: BagBatch) -> Tensor:
    """⟨q_n, q_m(c)⟩ / √Q of each instance and its bag's critical ones: [T, Q] -> [T, C]."""
    if isinstance(bags, StreamBags):
        every = query @ query[critical.flatten()].T  # [T, B C]
        places = bags.index[:, None] * critical.shape[1] + torch.arange(critical.shape[1])
        return every.gather(1, places) / math.sqrt(query.shape[1])
    pairs = zip(bags.split(query), critical.unbind(0), strict=True)
    products = torch.cat([queries @ query[rows].T for queries, rows in pairs])
    return products / math.sqrt(query.shape[1])


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return DSMIL(feature_dim, classes, options)
