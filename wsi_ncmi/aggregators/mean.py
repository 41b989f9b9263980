"""Mean of the instances, then an MLP: the baseline that often wins."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.dropout import Dropout
from wsi_ncmi.aggregators.interface import (
    Aggregator,
    BagOutput,
    at_least_float32,
    pooling_precision,
)
from wsi_ncmi.aggregators.segments import segment_mean, uniform_attention
from wsi_ncmi.bounds import bounded, check_options

RECIPE: dict[str, Any] = {}  # no paper: the defaults of `training`


@dataclass(frozen=True)
class Options:
    """Options of the mean.

    Attributes:
        hidden_dim: width of the hidden layer and of the embedding.
        dropout: dropout before the last layer, in training only.
    """

    hidden_dim: int = bounded(256, least=1)
    dropout: float = bounded(0.25, least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)


class MeanMLP(Aggregator):
    """embedding = W₂ · dropout(relu(W₁ · LayerNorm(mean of the bag)))."""

    joins_streams = True

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        self.embedding_dim = options.hidden_dim
        self.mlp = nn.Sequential(
            nn.LayerNorm(feature_dim),
            nn.Linear(feature_dim, options.hidden_dim),
            nn.ReLU(),
            Dropout(options.dropout),
            nn.Linear(options.hidden_dim, options.hidden_dim),
        )

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        with pooling_precision(bags.features):
            mean = segment_mean(at_least_float32(bags.features), bags)
            return BagOutput(self.mlp(mean), uniform_attention(bags))


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return MeanMLP(feature_dim, options)
