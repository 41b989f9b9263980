"""Poly-1 cross-entropy (Leng et al. 2022, arXiv 2204.12511).

    loss = mean_n −ln p_{y_n} + ε (1 − p_{y_n}),   p = softmax(W z + b)

−ln p = Σ_j (1 − p)^j / j; ε is added to the coefficient of its first term.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.objective import LossOutput, Objective


@dataclass(frozen=True)
class Options:
    """Options of Poly-1.

    Attributes:
        epsilon: ε, weight of 1 − p_y, −1 or more; 0 is cross-entropy.
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    epsilon: float = bounded(1.0, least=-1)
    blockwise: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class Poly1(Classifier):
    """−ln p_y + ε (1 − p_y) with p = softmax(W z + b), averaged over the batch."""

    takes_mixed = True

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, blockwise=options.blockwise)
        self.options = options

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        cross_entropy = F.cross_entropy(logits, target, reduction="none")
        miss = -torch.expm1(-cross_entropy)  # 1 − p_y
        total = (cross_entropy + self.options.epsilon * miss).mean()
        parts = {"cross_entropy": cross_entropy.detach().mean(), "miss": miss.detach().mean()}
        return LossOutput(total, parts)


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return Poly1(embedding_dim, class_counts, options)
