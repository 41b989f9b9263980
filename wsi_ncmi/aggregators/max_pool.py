"""Max pooling, linear: under cross-entropy the model is logistic regression on a bag's maxima."""

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
from wsi_ncmi.aggregators.segments import segment_max, uniform_attention
from wsi_ncmi.bounds import bounded, check_options

RECIPE: dict[str, Any] = {}  # no paper: the defaults of `training`


@dataclass(frozen=True)
class Options:
    """Options of linear max pooling.

    Attributes:
        hidden_dim: width of the embedding.
    """

    hidden_dim: int = bounded(256, least=1)

    def __post_init__(self) -> None:
        check_options(self)


class MaxPool(Aggregator):
    """embedding = W · (largest value of each feature in the bag) + b; see `MeanPool` for W."""

    def __init__(self, feature_dim: int, options: Options) -> None:
        super().__init__()
        self.embedding_dim = options.hidden_dim
        self.linear = nn.Linear(feature_dim, options.hidden_dim)

    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        with pooling_precision(bags.features):
            largest = segment_max(at_least_float32(bags.features), bags)
            return BagOutput(self.linear(largest), uniform_attention(bags))


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return MaxPool(feature_dim, options)
