"""ILRA-MIL (Xiang et al. 2023, ICLR, openreview.net/forum?id=01KmhBsEPFO), as in its released code.

With A the multi-head attention of queries over rows, with projections of its own,

    F(Q, K)  = LN(O + relu(W_o O)),   O = LN(W_q Q + A(W_q Q, W_k K, W_v K))
    G(Q, K)  = F(Q, K) ⊙ SiLU(W_g Q)                                       with a gate
    GAB(X)   = G′(X, G(L, X))         gated attention block          (equation 16)
    NLP(X)   = F″(S, X)               non-local pooling, the bag's embedding
    z        = NLP(GAB(GAB(X)))

L and S [k, m] are learnt. The k rows that G makes of the instances X are what these attend to in
G′: a block costs N · k, not N², and its attention has at most the rank k.

Where the released code (github.com/jinxixiang/low_rank_wsi) leaves a choice or differs:

* LN is off in its class's defaults and on in its configuration; it is on here. k = 1 in both.
* With k = 1 softmax over the rows of G′ is 1, whatever its queries and keys: A has none there, and
  W_k is not made. Biases of keys, which no softmax sees, are never made.
* With k > 1 its classifier gets k rows of a bag as of k bags. Here their mean is the embedding.

The attention returned is that of S over the instances, for each head; the mean of the k rows.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.segments import attention_pool, segment_softmax, spread
from wsi_ncmi.bounds import bounded, check_options

# The released code (mil/configs/config_ilra_camelyon16_imagenet.yaml).
RECIPE: dict[str, Any] = {
    "optimiser": "adam",
    "schedule": "cosine",
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "epochs": 100,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": None,
}


@dataclass(frozen=True)
class Options:
    """Options of ILRA-MIL.

    Attributes:
        hidden_dim: width of an instance after a block and of the bag's embedding; a multiple of
            `heads`.
        heads: attention heads.
        layers: number of gated attention blocks.
        rank: k, rows of the learnt matrices; the released code's `topk`.
    """

    hidden_dim: int = bounded(256, least=1)
    heads: int = bounded(8, least=1)
    layers: int = bounded(2, least=1)
    rank: int = bounded(1, least=1)

    def __post_init__(self) -> None:
        check_options(self)
        if self.hidden_dim % self.heads:
            raise ValueError(
                f"hidden_dim must be a multiple of heads, found {self.hidden_dim} and {self.heads}"
            )


class Finish(nn.Module):
    """What F and G do with an attention's outcome, row by row."""

    def __init__(self, query_dim: int, dim: int, gated: bool) -> None:
        super().__init__()
        self.norm_attended = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(query_dim, dim) if gated else None

    def forward(self, projected: Tensor, update: Tensor, query: Tensor) -> Tensor:
        """W_q Q and A [..., m], Q [..., D] -> [..., m]."""
        attended = self.norm_attended(projected + update)
        found: Tensor = self.norm(attended + torch.relu(self.linear(attended)))
        return found if self.gate is None else found * functional.silu(self.gate(query))


class FromInstances(nn.Module):
    """F(L, X), or G(L, X), of k learnt rows: [T, D] -> [B, k, m], and attention [T, k, H].

    The projections of learnt queries are multiplied into those of the keys first, and values are
    projected after the weighted sum: an instance costs 2 k H D multiplications.
    """

    def __init__(self, feature_dim: int, options: Options, gated: bool) -> None:
        super().__init__()
        dim, self.heads = options.hidden_dim, options.heads
        bound = math.sqrt(6 / ((options.rank + 1) * dim))  # as in the released code
        self.rows = nn.Parameter(torch.empty(options.rank, dim).uniform_(-bound, bound))
        self.project_query = nn.Linear(dim, dim)
        self.project_key = nn.Linear(feature_dim, dim, bias=False)
        self.project_value = nn.Linear(feature_dim, dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.finish = Finish(dim, dim, gated)

    def forward(self, hidden: Tensor, bags: BagBatch) -> tuple[Tensor, Tensor]:
        with pooling_precision(hidden):
            projected = self.project_query(self.rows)  # [k, m]
            folded = self._folded(projected)
        logits = functional.linear(hidden, folded)
        with pooling_precision(hidden):
            attention = segment_softmax(at_least_float32(logits), bags)  # [T, k·H]
            pooled = attention_pool(attention, at_least_float32(hidden), bags)  # [B, k·H, D]
            update = self.out(self._own_head(self.value(self.project_value(pooled))))
            rows = self.finish(projected, update, self.rows)
        return rows, attention.unflatten(1, (-1, self.heads))

    def _folded(self, projected: Tensor) -> Tensor:
        """Each head's query times its key projections, [k·H, D]."""
        query = self.query(projected).unflatten(1, (self.heads, -1))  # [k, H, d]
        key = (self.key.weight @ self.project_key.weight).unflatten(0, (self.heads, -1))
        return torch.einsum("khd,hdi->khi", query, key).flatten(0, 1) / math.sqrt(query.shape[2])

    def _own_head(self, values: Tensor) -> Tensor:
        """Of the values of each head's sum, its own: [B, k·H, m] -> [B, k, m]."""
        of_heads = values.unflatten(1, (-1, self.heads)).unflatten(3, (self.heads, -1))
        return of_heads.diagonal(dim1=2, dim2=3).transpose(2, 3).flatten(2)


class ToInstances(nn.Module):
    """G′(X, H) of the k rows H of each instance's bag: [T, D], [B, k, m] -> [T, m]."""

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        dim, self.heads = options.hidden_dim, options.heads
        self.project_query = nn.Linear(feature_dim, dim)
        self.project_value = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.finish = Finish(feature_dim, dim, gated=True)
        self.scores = Scores(dim, options.heads) if options.rank > 1 else None

    def forward(self, hidden: Tensor, rows: Tensor, bags: BagBatch) -> Tensor:
        projected = self.project_query(hidden)
        with pooling_precision(hidden):
            value = self.value(self.project_value(rows))
            if self.scores is None:
                update = spread(self.out(value.squeeze(1)), bags)
            else:
                weights = self.scores(at_least_float32(projected), rows, bags)
                update = self.out(self._weighted(weights, value))
        found: Tensor = self.finish(projected, update, hidden)
        return found

    def _weighted(self, weights: tuple[Tensor, ...], value: Tensor) -> Tensor:
        """Each bag's weights [H, N, k], values [B, k, m] -> [T, m]."""
        of_heads = value.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, H, k, d]
        pairs = zip(weights, of_heads.unbind(0), strict=True)
        return torch.cat([(bag @ one).transpose(0, 1).flatten(1) for bag, one in pairs])


class Scores(nn.Module):
    """Softmax over the k rows of a bag for each instance, [H, N, k] of each bag."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_key = nn.Linear(dim, dim, bias=False)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)

    def forward(self, projected: Tensor, rows: Tensor, bags: BagBatch) -> tuple[Tensor, ...]:
        query = self.query(projected).unflatten(1, (self.heads, -1))
        query = query / math.sqrt(query.shape[2])
        key = self.key(self.project_key(rows)).unflatten(2, (self.heads, -1))  # [B, k, H, d]
        pairs = zip(bags.split(query), key.permute(0, 2, 3, 1).unbind(0), strict=True)
        return tuple((bag.transpose(0, 1) @ one).softmax(-1) for bag, one in pairs)


class GatedAttentionBlock(nn.Module):
    """G′(X, G(L, X)): [T, D] -> [T, m]."""

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        self.forwards = FromInstances(feature_dim, options, gated=True)
        self.backwards = ToInstances(feature_dim, options)

    def forward(self, hidden: Tensor, bags: BagBatch) -> Tensor:
        rows, _ = self.forwards(hidden, bags)
        found: Tensor = self.backwards(hidden, rows, bags)
        return found


class ILRA(Aggregator):
    """See the module."""

    has_attention = True

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        dim = self.embedding_dim = options.hidden_dim
        widths = [feature_dim, *[dim] * (options.layers - 1)]
        self.blocks = nn.ModuleList(GatedAttentionBlock(width, options) for width in widths)
        self.pooling = FromInstances(dim, options, gated=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        hidden = bags.features
        for block in self.blocks:
            hidden = block(hidden, bags)
        rows, attention = self.pooling(hidden, bags)
        return BagOutput(rows.mean(1), attention.mean(1), at_least_float32(hidden))


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return ILRA(feature_dim, options)
