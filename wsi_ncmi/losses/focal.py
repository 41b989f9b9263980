"""Focal loss (Lin et al. 2017, arXiv 1708.02002, equations 4 and 5) for several classes.

    loss = mean_n −α_{y_n} (1 − p_{y_n})^γ ln p_{y_n},   p = softmax(W z + b)

The paper has one sigmoid per class; with exclusive classes p is the softmax.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.cross_entropy import class_weights
from wsi_ncmi.losses.functional.labels import one_hot
from wsi_ncmi.losses.objective import LossOutput, Objective


@dataclass(frozen=True)
class Options:
    """Options of the focal loss.

    Attributes:
        gamma: γ, how strongly well classified samples are down-weighted, 0 or more; 0 is
            cross-entropy.
        class_weights: α. `none`: every sample has weight 1. `balanced`: as in cross-entropy.
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    gamma: float = bounded(2.0, least=0)
    class_weights: Literal["none", "balanced"] = "none"
    blockwise: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class Focal(Classifier):
    """−α_y (1 − p_y)^γ ln p_y with p = softmax(W z + b), averaged over the batch."""

    class_weights: Tensor

    takes_mixed = True

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, blockwise=options.blockwise)
        self.options = options
        weights = class_weights(self.class_counts, self.options.class_weights)
        self.register_buffer("class_weights", weights)

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        log_p = F.log_softmax(logits, 1)
        own = log_p.gather(1, target[:, None]).squeeze(1)
        # ln(1 − p_y) from the other classes: as p_y tends to 1 it stays finite, and so does the
        # gradient of (1 − p_y)^γ with γ below 1, where a power of 1 − p_y would give NaN.
        is_own = one_hot(target, self.classes)
        log_rest = torch.logsumexp(log_p.masked_fill(is_own, -math.inf), 1)
        each = -torch.exp(self.options.gamma * log_rest) * own
        total = (self.class_weights[target] * each).mean()
        return LossOutput(total, {"focal": total.detach()})


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return Focal(embedding_dim, class_counts, options)
