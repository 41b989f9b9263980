"""Logit-adjusted cross-entropy (Menon et al. 2021, arXiv 2007.07314, equation 10).

    loss = mean_n −ln softmax(f + τ ln π)_{y_n},   f = W z + b,   π_y = n_y / N

With τ = 1 its minimiser has f_y = ln P(z | y) up to a constant: the plain logits f are scores under
equal priors, which is what macro-averaged measures ask for. The adjustment is in training only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.objective import LossOutput, Objective

# A class without training samples counts as half a sample: its ln π stays finite.
SMALLEST_COUNT = 0.5


@dataclass(frozen=True)
class Options:
    """Options of logit-adjusted cross-entropy.

    Attributes:
        tau: τ, strength of the class prior in training, 0 or more; 0 is cross-entropy.
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    tau: float = bounded(1.0, least=0)
    blockwise: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class LogitAdjusted(Classifier):
    """−ln softmax(W z + b + τ ln π)_y, averaged over the batch."""

    adjustment: Tensor

    takes_mixed = True

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, blockwise=options.blockwise)
        self.options = options
        self.register_buffer("adjustment", self.options.tau * log_prior(self.class_counts))

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        total = F.cross_entropy(logits + self.adjustment, target)
        return LossOutput(total, {"logit_adjusted": total.detach()})


def log_prior(class_counts: Tensor) -> Tensor:
    """ln π [C] of the classes' shares of the training part."""
    return (class_counts.clamp_min(SMALLEST_COUNT) / class_counts.sum()).log()


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return LogitAdjusted(embedding_dim, class_counts, options)
