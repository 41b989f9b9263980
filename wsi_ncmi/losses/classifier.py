"""Objectives with a linear head: its logits are the scores, a loss of them is what differs."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wsi_ncmi.losses.functional.precision import at_least_float32, full_precision
from wsi_ncmi.losses.objective import LossOutput, Objective


class Classifier(Objective):
    """A linear head W z + b, trained with the network.

    Head and loss are computed in float32 (float64 stays), whatever the network runs in.

    Args:
        blockwise: the embedding is C blocks of equal width, one for each class, and each class's
            logit is of its own block.
    """

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], *, blockwise: bool = False
    ) -> None:
        super().__init__(embedding_dim, class_counts)
        kind = BlockwiseLinear if blockwise else nn.Linear
        self.head: nn.Module = kind(embedding_dim, self.classes)

    def forward(self, embedding: Tensor, target: Tensor) -> LossOutput:
        self.check_inputs(embedding, target)
        with full_precision(embedding):
            z = at_least_float32(embedding)
            return self.loss(self.logits(z), z, target)

    @abstractmethod
    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        """The loss from the head's logits [B, C] and the embedding [B, m], outside autocast."""

    def raw_scores(self, embedding: Tensor) -> Tensor:
        with full_precision(embedding):
            return self.logits(at_least_float32(embedding))

    def logits(self, z: Tensor) -> Tensor:
        """The head's [B, C] of embeddings [B, m] in float32 or float64."""
        found: Tensor = self.head(z)
        return found


class BlockwiseLinear(nn.Module):
    """logit_c = w_c · z_c + b_c on z = (z_1, …, z_C): what class-wise aggregators end in.

    Initialised as one linear layer for each class.

    Args:
        dim: m, of all blocks together. classes: C.

    Raises:
        ValueError: m is not C times a block's width.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        width, rest = divmod(dim, classes)
        if rest or not width:
            raise ValueError(
                f"blockwise: an embedding of {dim} is not {classes} blocks of equal width, one for "
                f"each class: take an aggregator that embeds by class, or blockwise: false"
            )
        self.classes = classes
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(classes, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(classes).uniform_(-bound, bound))

    def forward(self, embedding: Tensor) -> Tensor:
        """[B, m] -> [B, C], or of a stack of models [K, B, m] -> [K, B, C]."""
        blocks = embedding.unflatten(-1, (self.classes, -1))
        return (blocks * self.weight.unsqueeze(-3)).sum(-1) + self.bias.unsqueeze(-2)


def take_scores(objective: Objective) -> Objective:
    """The objective of an embedding that is class scores already: a linear head is left out.

    For auxiliary losses on scores that a layer of the aggregator gives. An objective without such a
    head, as NCMI, takes the C scores for an embedding of C dimensions.

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
