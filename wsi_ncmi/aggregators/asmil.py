"""Attention-stabilised MIL (ASMIL, Ye et al. 2026, ICLR, arXiv 2603.06658).

N trainable feature tokens q_n each have a multi-head attention over the instances h = relu(W x), of
logits z, weights α = softmax(z) and output f_n; a class token attends over the f_n and gives the
bag's embedding. An anchor, the running average θ′ of the parameters θ that make the logits, has
logits z′ of the same instances, and its normalised sigmoid is what α is drawn to:

    θ′ ← m θ′ + (1 − m) θ, after every step                     no gradient reaches the anchor
    α′ = NSF(z′),   NSF(z)_i = σ(z_i) / Σ_j σ(z_j)              flat where scores are high
    L = L_bag + β L_AS,   L_AS = KL(α′ ‖ α)                     a penalty

In training a share of the f_n is dropped; in evaluation all are there, and the anchor is not used.

What we know of it: the abstract, two accounts of its equations, its reviews (m = 0.999 best of its
Table 10, a dropped share of about 0.5 best of its Figure 11) and the released code
(github.com/Linfeng-Ye/ASMIL), from which the layers are. Our choices, where these leave it open or
differ:

* N = 8 and β = 1: the released scripts try 4 to 16 tokens; β is not stated there. KL is summed over
  a bag's instances, as its definition is, and averaged over heads, tokens and bags. The released
  code averages over instances, too: for a bag of N instances its β is 1/N of ours.
* α′ has no temperature, as in its definition; the released scripts divide z′ by 0.07 to 0.5.
* The anchor starts as a copy and moves after every step. In the released loop it starts from
  random weights of its own, and is updated under a condition that never holds.
* Exactly ⌊share · N⌋ tokens are dropped, as in the released code; the paper drops each by itself.
* No bias of keys: softmax over the instances would not see it.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.segments import attention_pool, segment_log_softmax, segment_softmax
from wsi_ncmi.aggregators.tokens import Queries, Values
from wsi_ncmi.bounds import bounded, check_options

# The released code: Step3_WSI_classification_ASMIL.py and RCC_medical_ssl_config_mymil.txt.
RECIPE: dict[str, Any] = {
    "optimiser": "adamw",
    "schedule": "cosine",
    "learning_rate": 1e-4,
    "weight_decay": 1e-5,
    "epochs": 50,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": 5.0,
}


@dataclass(frozen=True)
class Options:
    """Options of ASMIL; widths as in the released code for 512-d features (128 for 384-d).

    Attributes:
        hidden_dim: width of an instance's embedding, of a token and of the bag's embedding; a
            multiple of `heads`.
        heads: attention heads of each token.
        tokens: N, number of feature tokens.
        dropped_share: share of the feature tokens that is dropped in training, rounded down.
        anchor_decay: m, share of the anchor that stays after a step; 0: it is the model itself.
        anchor_temperature: divides the anchor's logits; below 1 its attention is sharper.
        anchor_weight: β, weight of the KL divergence from the anchor's attention.
        dropout: dropout on the outputs of both attentions, in training only.
    """

    hidden_dim: int = bounded(256, least=1)
    heads: int = bounded(8, least=1)
    tokens: int = bounded(8, least=1)
    dropped_share: float = bounded(0.5, least=0, below=1)
    anchor_decay: float = bounded(0.999, least=0, below=1)
    anchor_temperature: float = bounded(1.0, above=0)
    anchor_weight: float = bounded(1.0, least=0)
    dropout: float = bounded(0.1, least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)
        if self.hidden_dim % self.heads:
            raise ValueError(
                f"hidden_dim must be a multiple of heads, found {self.hidden_dim} and {self.heads}"
            )


class Logits(nn.Module):
    """What the anchor follows: instances h = relu(W x) [T, m] and their logits [T, N·H]."""

    PARTS = ("reduction", "queries.token", "queries.query", "queries.bias", "queries.key")

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        self.reduction = nn.Parameter(nn.Linear(feature_dim, options.hidden_dim).weight.detach())
        self.queries = Queries(options.tokens, options.hidden_dim, options.heads)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.linear(features, self.reduction).relu()
        return hidden, self.queries(hidden)


class ASMIL(Aggregator):
    """See the module."""

    has_attention = True

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.embedding_dim = width = options.hidden_dim
        self.online = Logits(feature_dim, options)
        self.anchor = _without_gradients(self.online)
        self.values = Values(options.tokens, width, options.heads, options.dropout)
        self.class_queries = Queries(1, width, options.heads)
        self.class_values = Values(1, width, options.heads, options.dropout)

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        hidden, logits = self.online(bags.features)
        with pooling_precision(hidden):
            hidden, logits = at_least_float32(hidden), at_least_float32(logits)
            attention = segment_softmax(logits, bags)  # [T, N·H]
            tokens = self.values(attention_pool(attention, hidden, bags))  # [B, N, m]
            embedding = self._read(self._keep(tokens) if self.training else tokens)
        steady = self.training and self.options.anchor_weight > 0
        penalty = self._penalty(logits, bags) if steady else None
        of_tokens = attention.unflatten(1, (self.options.tokens, -1)).mean(2)
        return BagOutput(embedding, of_tokens, hidden, penalty=penalty)

    def _read(self, tokens: Tensor) -> Tensor:
        """The class token's view of the tokens [B, n, m]: [B, m]."""
        count, each, _ = tokens.shape
        packed = BagBatch(tokens.flatten(0, 1), torch.arange(0, (count + 1) * each, each))
        attention = segment_softmax(self.class_queries(packed.features), packed)
        pooled = attention_pool(attention, packed.features, packed)
        return self.class_values(pooled).squeeze(1)

    def _keep(self, tokens: Tensor) -> Tensor:
        """Each bag's tokens [B, N, m] that are not dropped."""
        count, number, width = tokens.shape
        kept = number - int(number * self.options.dropped_share)
        drawn = torch.rand(count, number, device=tokens.device).argsort(1)[:, :kept]
        return tokens.gather(1, drawn[..., None].expand(-1, -1, width))

    def _penalty(self, logits: Tensor, bags: BagBatch) -> Tensor:
        """β KL(NSF(z′ / T) ‖ softmax(z)), averaged over bags, tokens and heads."""
        with torch.no_grad():
            anchored = at_least_float32(self.anchor(bags.features)[1])
        with pooling_precision(logits):
            # NSF is the softmax of ln σ.
            target = F.logsigmoid(anchored / self.options.anchor_temperature)
            log_target = segment_log_softmax(target, bags)
            divergence = log_target.exp() * (log_target - segment_log_softmax(logits, bags))
            mean = divergence.sum() / (len(bags) * logits.shape[1])
        return self.options.anchor_weight * mean

    @torch.no_grad()
    def end_step(self) -> None:
        """θ′ ← m θ′ + (1 − m) θ."""
        stays = self.options.anchor_decay
        for name in Logits.PARTS:
            average, value = _attribute(self.anchor, name), _attribute(self.online, name)
            average.mul_(stays).add_(value, alpha=1 - stays)


def _without_gradients(module: Logits) -> Logits:
    """A copy whose parameters are buffers."""
    found = copy.deepcopy(module)
    for path in Logits.PARTS:
        owner, _, name = path.rpartition(".")
        part = found.get_submodule(owner)
        value = getattr(part, name).detach()
        delattr(part, name)
        part.register_buffer(name, value)
    return found


def _attribute(module: nn.Module, path: str) -> Tensor:
    owner, _, name = path.rpartition(".")
    value: Tensor = getattr(module.get_submodule(owner), name)
    return value


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return ASMIL(feature_dim, options)
