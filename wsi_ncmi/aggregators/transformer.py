"""A plain transformer with register tokens over the instances, without positional encoding.

Blocks are pre-norm (Xiong et al. 2020, arXiv 2002.04745), shapes those of Wagner et al. 2023
(Cancer Cell, arXiv 2301.09617), registers those of Darcet et al. 2023 (arXiv 2309.16588, section
2.2): trainable tokens beside the instances, of which nothing is read at the end.

    t = (c, r_1, ..., r_R, h_1, ..., h_N),   h_n = relu(W x_n)
    t ← t + MSA(LayerNorm(t)),   t ← t + W₂ gelu(W₁ LayerNorm(t))          in each layer
    MSA: softmax(Q Kᵀ/√d) V of each head, then a linear layer
    embedding = LayerNorm(t)_c,  or Σ_n a_n LayerNorm(t)_n with a by gated attention, without c

`scaled_dot_product_attention` never makes its N × N weights: memory follows N, time N². It is
called bag by bag on every device, and by a map over models model by model. What takes packed bags
at once does not serve: nested tensors do not work under `torch.func.vmap`, and `varlen_attn` is for
half precision on CUDA alone. All other layers take all bags, and all models, in one call. Attention
weights have no dropout: with it the weights would be made on a CPU.

Only the class token is read from the last layer, so only its row is computed there, by the products
of `wsi_ncmi.aggregators.tokens`; time follows N in this layer. The attention returned is that of
this row, each head's, as shares among the instances; `instance_embedding` is what it attends to.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from wsi_ncmi.aggregators.attention import attend
from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.gated import GatedAttention
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.layers import InstanceLayers
from wsi_ncmi.aggregators.segments import attention_pool, segment_softmax
from wsi_ncmi.bounds import bounded, check_options

# Wagner et al. 2023 (github.com/peng-lab/HistoBistro, CancerCellCRCTransformer/config.yaml).
RECIPE: dict[str, Any] = {
    "optimiser": "adamw",
    "schedule": "constant",
    "learning_rate": 2e-5,
    "weight_decay": 2e-5,
    "epochs": 8,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": None,
}
START = 0.02  # standard deviation of tokens, as of vision transformers


@dataclass(frozen=True)
class Options:
    """Options of the transformer.

    Attributes:
        hidden_dim: width of a token and of the bag's embedding; a multiple of `heads`.
        layers: number of blocks.
        heads: attention heads of each block.
        feed_forward_dim: width of the hidden layer in each block.
        registers: R, number of register tokens; 0: none.
        pooling: `class_token`: the embedding is a trainable token's. `attention`: gated attention
            pools the instances.
        attention_dim: width of the gated attention of `pooling: attention`.
        dropout: dropout on instances and after each linear layer of a block, in training only.
    """

    hidden_dim: int = bounded(512, least=1)
    layers: int = bounded(2, least=1)
    heads: int = bounded(8, least=1)
    feed_forward_dim: int = bounded(512, least=1)
    registers: int = bounded(4, least=0)
    pooling: Literal["class_token", "attention"] = "class_token"
    attention_dim: int = bounded(128, least=1)
    dropout: float = bounded(0.0, least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)
        if self.hidden_dim % self.heads:
            raise ValueError(
                f"hidden_dim must be a multiple of heads, found {self.hidden_dim} and {self.heads}"
            )


class Block(nn.Module):
    """A pre-norm block over the tokens of packed bags, [T', m] -> [T', m]."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        dim = options.hidden_dim
        self.heads = options.heads
        self.norm = nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(options.dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, options.feed_forward_dim),
            nn.GELU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.feed_forward_dim, dim),
            nn.Dropout(options.dropout),
        )

    def forward(self, bags: BagBatch) -> BagBatch:
        joined = self.projection(self.norm(bags.features)).unflatten(1, (3, self.heads, -1))
        attended = torch.cat([self._attend(bag) for bag in bags.split(joined)])
        tokens = bags.features + self.dropout(self.out(attended))
        return bags.replace(tokens + self.feed_forward(tokens))

    def _attend(self, joined: Tensor) -> Tensor:
        """Queries, keys and values of one bag, [n, 3, H, m / H] -> [n, m]."""
        query, key, value = joined.permute(1, 2, 0, 3)[:, None].unbind(0)
        return attend(query, key, value)[0].transpose(0, 1).flatten(1)

    def first(self, bags: BagBatch) -> tuple[Tensor, Tensor]:
        """Of each bag's first token: output [B, m], and its logits for all tokens, [T', H]."""
        normed = self.norm(bags.features)
        tokens = torch.stack([bag[0] for bag in bags.split(bags.features)])
        query, key, value = self.projection.weight.unflatten(0, (3, self.heads, -1)).unbind(0)
        asked = torch.einsum("bi,hdi->bhd", self.norm(tokens), query) / math.sqrt(query.shape[1])
        folded = torch.einsum("bhd,hdi->bhi", asked, key)
        pairs = zip(bags.split(normed), folded.unbind(0), strict=True)
        logits = torch.cat([bag @ row.T for bag, row in pairs])
        pooled = attention_pool(segment_softmax(logits, bags), normed, bags)  # [B, H, m]
        attended = torch.einsum("bhi,hdi->bhd", pooled, value).flatten(1)
        tokens = tokens + self.dropout(self.out(attended))
        return tokens + self.feed_forward(tokens), logits


class Transformer(Aggregator):
    """See the module."""

    has_attention = True
    is_mapped = False  # torch has no rule for the attention kernels

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        dim = self.embedding_dim = options.hidden_dim
        self.by_token = options.pooling == "class_token"
        self.instance = InstanceLayers(nn.Linear(feature_dim, dim), nn.ReLU())
        self.dropout = nn.Dropout(options.dropout)
        self.prefix = self.by_token + options.registers
        tokens = START * torch.randn(self.prefix, dim)
        self.tokens = nn.Parameter(tokens) if self.prefix else None
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.norm = nn.LayerNorm(dim)
        self.attention = None if self.by_token else GatedAttention(dim, options.attention_dim)

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        tokens = self._with_tokens(bags)
        last = len(self.blocks) - self.by_token
        for block in self.blocks[:last]:
            tokens = block(tokens)
        if self.attention is None:
            return self._of_class_token(tokens, bags)
        return self._of_attention(self.attention, tokens, bags)

    def _with_tokens(self, bags: BagBatch) -> BagBatch:
        """Class token and registers in front of each bag's instances."""
        hidden = at_least_float32(self.dropout(self.instance(bags.features)))
        if self.tokens is None:
            return bags.replace(hidden)
        pieces = [piece for bag in bags.split(hidden) for piece in (self.tokens, bag)]
        before = self.prefix * torch.arange(len(bags) + 1, device=bags.offsets.device)
        return BagBatch(torch.cat(pieces), bags.offsets + before)

    def _instances(self, values: Tensor, tokens: BagBatch) -> Tensor:
        """The rows [T', ...] that are of instances, [T, ...]."""
        return torch.cat([bag[self.prefix :] for bag in tokens.split(values)])

    def _of_class_token(self, tokens: BagBatch, bags: BagBatch) -> BagOutput:
        with pooling_precision(tokens.features):
            found, logits = cast(Block, self.blocks[-1]).first(tokens)
            attention = segment_softmax(self._instances(logits, tokens), bags)
            instances = self._instances(tokens.features, tokens)
            return BagOutput(self.norm(found), attention, instances)

    def _of_attention(self, scores: GatedAttention, tokens: BagBatch, bags: BagBatch) -> BagOutput:
        hidden = self.norm(self._instances(tokens.features, tokens))
        logits = scores(hidden)
        with pooling_precision(hidden):
            hidden = at_least_float32(hidden)
            attention = segment_softmax(at_least_float32(logits), bags)
            embedding = attention_pool(attention, hidden, bags).squeeze(1)
        return BagOutput(embedding, attention, hidden)


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return Transformer(feature_dim, options)
