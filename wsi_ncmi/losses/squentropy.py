"""Squentropy (Hui, Belkin and Wright 2023, arXiv 2302.03952).

    loss = mean_n −ln softmax(f_n)_{y_n} + 1/(C − 1) Σ_{j ≠ y_n} f_{nj}²,   f = W z + b

Cross-entropy plus the mean square of the other classes' logits; nothing to tune.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.functional.labels import one_hot
from wsi_ncmi.losses.objective import LossOutput, Objective


@dataclass(frozen=True)
class Options:
    """Options of squentropy; the loss has none.

    Attributes:
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    blockwise: bool = False


class Squentropy(Classifier):
    """−ln softmax(f)_y + Σ_{j ≠ y} f_j² / (C − 1) with f = W z + b, averaged over the batch."""

    takes_mixed = True

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, blockwise=options.blockwise)

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        cross_entropy = F.cross_entropy(logits, target)
        others = logits.masked_fill(one_hot(target, self.classes), 0)
        square = others.square().sum(1).mean() / (self.classes - 1)
        parts = {"cross_entropy": cross_entropy.detach(), "square": square.detach()}
        return LossOutput(cross_entropy + square, parts)


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return Squentropy(embedding_dim, class_counts, options)
