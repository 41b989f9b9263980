"""RRT-MIL, or R²T-MIL (Tang et al. 2024, CVPR, arXiv 2402.17228): instances embedded anew, ABMIL.

Instances h_n = relu(W x_n) of one bag, in their order, fill a square map, whose side is rounded up
to a multiple of L, and with zero rows its rest. It is cut into L × L regions of M × M instances.

    h ← h + R-MSA(LayerNorm(h)),   h ← h + CR-MSA(LayerNorm(h)),   h ← LayerNorm(h)
    R-MSA    in each region softmax(E + EPEG(E)) V, E = Q Kᵀ/√d, of several heads   (equation 5)
    EPEG     a convolution of E along the queries, one kernel for each head
    CR-MSA   s = Φᵀ h of the instances of a region, for each of k rows
             r = Σ_n softmax_n(s) h_n of a region;   r̂ = MSA(r) across the regions
             Σ_k softmax_k(s) minmax_n(s) r̂, to each instance
    z = Σ_n a_n h_n,   a = softmax_n w · act(V h_n), or w · (act(V h_n) ⊙ σ(U h_n))

As in the released code (github.com/DearCaat/RRT-MIL), zero rows are put in after the LayerNorm and
are not masked: they are keys and values in their regions, and count in the softmax and the min-max
over a region; a region of them alone is a row of CR-MSA as any other. Nothing of them is pooled.

What is computed otherwise and gives the same: E is linear in Q, so its convolution is that of Q,
Q + EPEG(Q), and attention is `scaled_dot_product_attention`, which never stores E. Its own bias and
that of keys are not made: softmax does not see them.

What differs: a bag whose map has a side of L or less (64 instances or fewer, for L = 8) has regions
of 2 × 2. By the released code they were of one instance: softmax within it is 1 and its min-max is
0, so that neither attention would do anything. And L is the same for both attentions; there, CR-MSA
has 8 whatever is set.

`torch.func.vmap` has no rule for that attention on a CPU, and calls it for each model.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_ncmi.aggregators.attention import attend
from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.dropout import Dropout
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.layers import InstanceLayers
from wsi_ncmi.aggregators.segments import attention_pool, segment_softmax
from wsi_ncmi.bounds import bounded, check_options

# The released code's defaults (main.py).
RECIPE: dict[str, Any] = {
    "optimiser": "adam",
    "schedule": "cosine",
    "learning_rate": 2e-4,
    "weight_decay": 1e-5,
    "epochs": 200,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": None,
}
SMALLEST_RANGE = 1e-8  # of the min-max, as in the released code


@dataclass(frozen=True)
class Options:
    """Options of RRT-MIL, with the released code's defaults.

    Attributes:
        hidden_dim: width of an instance's embedding and of the bag's; a multiple of `heads`.
        attention_dim: width of the pooling's attention.
        regions: L, regions along each side of the map.
        heads: heads of the attention within regions and across them.
        epeg_kernel: length of the convolution of the attention along the queries; odd.
        crmsa_k: k, rows by which a region takes part in the attention across regions.
        shortcut: whether h = relu(W x) is added once more before the last LayerNorm, as in some of
            the paper's runs.
        gated: whether the pooling is gated.
        activation: of the pooling; the paper's runs have `tanh`.
        dropout: dropout on relu(W x), in training only.
        attention_dropout: dropout on the outputs of both attentions, in training only.
    """

    hidden_dim: int = bounded(512, least=1)
    attention_dim: int = bounded(128, least=1)
    regions: int = bounded(8, least=1)
    heads: int = bounded(8, least=1)
    epeg_kernel: int = bounded(15, least=1)
    crmsa_k: int = bounded(3, least=1)
    shortcut: bool = False
    gated: bool = False
    activation: Literal["relu", "tanh"] = "relu"
    dropout: float = bounded(0.25, least=0, below=1)
    attention_dropout: float = bounded(0.1, least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)
        if self.hidden_dim % self.heads:
            raise ValueError(
                f"hidden_dim must be a multiple of heads, found {self.hidden_dim} and {self.heads}"
            )
        if self.epeg_kernel % 2 == 0:
            raise ValueError(f"epeg_kernel must be odd, found {self.epeg_kernel}")


class Regions(NamedTuple):
    """How a bag's instances lie in L × L regions of M × M places: `along` is L, `side` is M."""

    instances: int
    along: int
    side: int

    @classmethod
    def of(cls, instances: int, along: int) -> "Regions":
        """Of a bag, with L as given or, where regions would be of one instance, less."""
        side = math.isqrt(instances - 1) + 1  # of the map
        if side <= along:
            return cls(instances, math.ceil(side / 2), 2)
        return cls(instances, along, math.ceil(side / along))

    def cut(self, rows: Tensor) -> Tensor:
        """[N, m] -> [L², M², m], with zero rows at the end of the map."""
        places = (self.along * self.side) ** 2
        padded = functional.pad(rows, (0, 0, 0, places - self.instances))
        grid = padded.unflatten(0, (self.along, self.side, self.along, self.side))
        return grid.transpose(1, 2).flatten(2, 3).flatten(0, 1)

    def join(self, regions: Tensor) -> Tensor:
        """[L², M², m] -> [N, m]."""
        grid = regions.unflatten(0, (self.along, self.along))
        grid = grid.unflatten(2, (self.side, self.side)).transpose(1, 2)
        return grid.flatten(0, 3)[: self.instances]


class MultiHeadAttention(nn.Module):
    """Self-attention among the rows of each group, [g, p, m] -> [g, p, m]; a kernel is EPEG's."""

    def __init__(self, dim: int, heads: int, dropout: float, kernel: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.epeg = (
            None
            if kernel is None
            else nn.Conv2d(
                heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False
            )
        )
        self.out = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        query, key, value = (
            layer(rows).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # [g, H, p, d]
        if self.epeg is not None:
            query = query + self.epeg(query)
        attended = attend(query, key, value)
        found: Tensor = self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return found


class CrossRegionAttention(nn.Module):
    """CR-MSA: [L², M², m], alike."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        dim, count = options.hidden_dim, options.crmsa_k
        self.phi = nn.Linear(dim, count, bias=False)
        self.attention = MultiHeadAttention(dim, options.heads, options.attention_dropout)

    def forward(self, regions: Tensor) -> Tensor:
        with pooling_precision(regions):
            scores = self.phi(regions)  # [L², M², k]
            pooled = scores.softmax(1).mT @ regions  # [L², k, m]
            across = self.attention(pooled.transpose(0, 1)).transpose(0, 1)
            least, most = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
            share = (scores - least) / (most - least + SMALLEST_RANGE)
            found: Tensor = (scores.softmax(2) * share) @ across
            return found


class RRT(Aggregator):
    """See the module."""

    has_attention = True
    is_mapped = False  # torch has no rule for the attention kernels
    permutation_invariant = False

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        self.options = options
        dim = self.embedding_dim = options.hidden_dim
        self.instance = InstanceLayers(nn.Linear(feature_dim, dim), nn.ReLU())
        self.dropout = Dropout(options.dropout)
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(dim) for _ in range(3))
        self.within = MultiHeadAttention(
            dim, options.heads, options.attention_dropout, options.epeg_kernel
        )
        self.across = CrossRegionAttention(options)
        self.attention = nn.Linear(dim, options.attention_dim, bias=False)
        self.gate = nn.Linear(dim, options.attention_dim, bias=False) if options.gated else None
        self.score = nn.Linear(options.attention_dim, 1, bias=False)
        self._start()

    def _start(self) -> None:
        """Weights as in the released code."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.uniform_(self.across.phi.weight, -1, 1)
        with torch.no_grad():
            self.across.phi.weight.div_(math.sqrt(self.options.crmsa_k))

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        hidden = at_least_float32(self.dropout(self.instance(bags.features)))
        embedded = torch.cat([self._embed_anew(bag) for bag in bags.split(hidden)])
        if self.options.shortcut:
            embedded = embedded + hidden
        embedded = self.norm(embedded)
        scores = self._scores(embedded)
        with pooling_precision(embedded):
            embedded = at_least_float32(embedded)
            attention = segment_softmax(at_least_float32(scores), bags)  # [T, 1]
            embedding = attention_pool(attention, embedded, bags).squeeze(1)
        return BagOutput(embedding, attention, embedded)

    def _embed_anew(self, hidden: Tensor) -> Tensor:
        """[N, m] of one bag, alike."""
        regions = Regions.of(len(hidden), self.options.regions)
        hidden = hidden + regions.join(self.within(regions.cut(self.norm1(hidden))))
        return hidden + regions.join(self.across(regions.cut(self.norm2(hidden))))

    def _scores(self, embedded: Tensor) -> Tensor:
        activation = torch.tanh if self.options.activation == "tanh" else torch.relu
        activated = activation(self.attention(embedded))
        if self.gate is not None:
            activated = activated * torch.sigmoid(self.gate(embedded))
        found: Tensor = self.score(activated)
        return found


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return RRT(feature_dim, options)
