"""Attention-based MIL (Ilse, Tomczak & Welling 2018, arXiv 1802.04712, equations 7 to 9).

    embedding = Σ_n a_n h_n                                     (7)
    a = softmax_n wᵀ tanh(V h_n)                                (8)
    a = softmax_n wᵀ(tanh(V h_n) ⊙ σ(U h_n)), gated             (9)

The defaults are the network of later work on slides. The paper's for the classic data sets (MUSK,
FOX, TIGER, ELEPHANT; its appendix, after MI-Net, arXiv 1610.02501) has instance layers of 256, 128
and 64, attention of 64, and is not gated:

    {instance_dims: [256, 128], hidden_dim: 64, attention_dim: 64, dropout: 0.5, gated: false}
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.dropout import Dropout
from wsi_ncmi.aggregators.gated import GatedAttention, TanhAttention
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.layers import InstanceLayers
from wsi_ncmi.aggregators.segments import attention_pool, segment_softmax
from wsi_ncmi.bounds import bounded, check_options

# The paper's histology (appendix, breast and colon cancer). On the classic data sets it has SGD
# with momentum 0.9, 5e-4 and decay 5e-3 (1e-4 and 1e-2 on TIGER), 100 epochs.
RECIPE: dict[str, Any] = {
    "optimiser": "adam",
    "betas": (0.9, 0.999),
    "schedule": "constant",
    "learning_rate": 1e-4,
    "weight_decay": 5e-4,
    "epochs": 100,
    "batch_size": 1,
    "warmup_fraction": 0.0,
    "clip_norm": None,
}


@dataclass(frozen=True)
class Options:
    """Options of ABMIL; 256 and 128 are the recipe of the ACMIL line for 512-d features.

    Attributes:
        hidden_dim: width of an instance's embedding and of the bag's.
        attention_dim: width of the attention.
        dropout: dropout after each layer on instances, in training only.
        gated: whether a sigmoid gates the attention.
        instance_dims: widths of further layers on instances, before that of `hidden_dim`. `null`:
            none.
    """

    hidden_dim: int = bounded(256, least=1)
    attention_dim: int = bounded(128, least=1)
    dropout: float = bounded(0.25, least=0, below=1)
    gated: bool = True
    instance_dims: tuple[int, ...] | None = bounded(None, least=1)

    def __post_init__(self) -> None:
        check_options(self)


class ABMIL(Aggregator):
    """h_n = relu(W x_n), layer by layer; attention as in the module's equations."""

    has_attention = True
    joins_streams = True

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        self.embedding_dim = options.hidden_dim
        widths = [feature_dim, *(options.instance_dims or ()), options.hidden_dim]
        self.widest = max(widths[1:])
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU(), Dropout(options.dropout)]
        self.instance = InstanceLayers(*layers)
        kind = GatedAttention if options.gated else TanhAttention
        self.attention = kind(options.hidden_dim, options.attention_dim)

    @property
    def instance_dim(self) -> int:
        return self.widest

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        hidden = self.instance(bags.features)  # [T, m]
        scores = self.attention(hidden)
        with pooling_precision(hidden):
            hidden = at_least_float32(hidden)
            attention = segment_softmax(at_least_float32(scores), bags)  # [T, 1]
            embedding = attention_pool(attention, hidden, bags).squeeze(1)
        return BagOutput(embedding, attention, hidden)


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return ABMIL(feature_dim, options)
