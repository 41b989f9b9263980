"""Objectives with a linear head: its logits are the scores, a loss of them is what differs."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from wsi_ncmi.losses.functional.precision import at_least_float32, full_precision
from wsi_ncmi.losses.objective import LossOutput, Objective


class Classifier(Objective):
    """A linear head W z + b, trained with the network.

    Head and loss are computed in float32 (float64 stays), whatever the network runs in.
    """

    def __init__(self, embedding_dim: int, class_counts: Sequence[int]) -> None:
        super().__init__(embedding_dim, class_counts)
        self.head: nn.Module = nn.Linear(embedding_dim, self.classes)

    def forward(self, embedding: Tensor, target: Tensor) -> LossOutput:
        self.check_inputs(embedding, target)
        with full_precision(embedding):
            z = at_least_float32(embedding)
            return self.loss(self.head(z), z, target)

    @abstractmethod
    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        """The loss from the head's logits [B, C] and the embedding [B, m], outside autocast."""

    def raw_scores(self, embedding: Tensor) -> Tensor:
        with full_precision(embedding):
            return self.head(at_least_float32(embedding))


def take_scores(objective: Objective) -> Objective:
    """The objective of an embedding that is class scores already: a linear head is left out.

    Raises:
        ValueError: the embedding does not have a score for each class.
    """
    if objective.embedding_dim != objective.classes:
        raise ValueError(
            f"{objective.classes} class scores are an embedding of as many dimensions, found "
            f"{objective.embedding_dim}"
        )
    if isinstance(objective, Classifier):
        objective.head = nn.Identity()
    return objective
