"""Cross-entropy with its linear head: the reference that everything is compared with.

    loss = mean_n w_{y_n} · CE_n,   CE_n = −(1 − ε) ln p_{y_n} − (ε / C) Σ_c ln p_c

with p = softmax(W z + b), ε the label smoothing and w_y the class weight. The mean is over samples
and not over the sum of their weights, as torch's `weight` has it: there the weight of a batch of
one cancels, and accumulated micro-batches would not add up to the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.objective import LossOutput, Objective


@dataclass(frozen=True)
class Options:
    """Options of cross-entropy.

    Attributes:
        label_smoothing: ε, share of the target spread over all classes, 0 to below 1. A sample's
            weight multiplies both parts.
        class_weights: `none`: every sample has weight 1. `balanced`: N / (C n_y), so that all
            classes count equally.
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    label_smoothing: float = bounded(0.0, least=0, below=1)
    class_weights: Literal["none", "balanced"] = "none"
    blockwise: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class CrossEntropy(Classifier):
    """−w_y ln softmax(W z + b)_y, averaged over the batch."""

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
        smoothing = self.options.label_smoothing
        each = F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
        total = (self.class_weights[target] * each).mean()
        return LossOutput(total, {"cross_entropy": total.detach()})


def class_weights(class_counts: Tensor, kind: Literal["none", "balanced"]) -> Tensor:
    """Weights [C] whose mean over the training samples is 1.

    `balanced`: N / (C′ n_y), with C′ the classes that have samples (scikit-learn's `balanced`),
    so that each of these counts alike. A class without training samples has weight 0.
    """
    if kind == "none":
        return torch.ones_like(class_counts)
    present = class_counts > 0
    weights = class_counts.sum() / (present.sum() * class_counts)
    return torch.where(present, weights, torch.zeros_like(weights))


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return CrossEntropy(embedding_dim, class_counts, options)
