"""Mean pooling, linear: under cross-entropy the model is logistic regression on a bag's mean."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch
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
    """Options of linear mean pooling.

    Attributes:
        hidden_dim: width of the embedding.
    """

    hidden_dim: int = bounded(256, least=1)

    def __post_init__(self) -> None:
        check_options(self)


class MeanPool(Aggregator):
    """embedding = W · (mean of the bag) + b.

    The layer adds nothing to what a linear head can express. It is there for objectives without a
    head, which would have nothing to train.
    """

    joins_streams = True

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        self.embedding_dim = options.hidden_dim
        self.linear = nn.Linear(feature_dim, options.hidden_dim)

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        with pooling_precision(bags.features):
            mean = segment_mean(at_least_float32(bags.features), bags)
            return BagOutput(self.linear(mean), uniform_attention(bags))


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return MeanPool(feature_dim, options)
