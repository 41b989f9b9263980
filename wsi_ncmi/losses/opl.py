"""Orthogonal projection loss (Ranasinghe et al. 2021, arXiv 2103.14021).

    s = mean cosine of z_i and z_j over the batch's pairs of one class, i ≠ j
    d = mean cosine over its pairs of different classes
    loss = CE + λ [ (1 − s) + γ |d| ]

Embeddings of a class shall point one way, those of different classes be orthogonal. |d| is the
paper's; its published code leaves the modulus out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses import functional
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.objective import LossOutput, Objective


@dataclass(frozen=True)
class Options:
    """Options of the orthogonal projection loss; the defaults are those of the published code.

    Attributes:
        weight: λ, weight of both terms, 0 or more; 0 is cross-entropy.
        gamma: γ, weight of the pairs of different classes, 0 or more.
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    weight: float = bounded(1.0, least=0)
    gamma: float = bounded(0.5, least=0)
    blockwise: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class OrthogonalProjection(Classifier):
    """Cross-entropy + λ [(1 − s) + γ |d|]; a term without a pair in the batch is zero."""

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, blockwise=options.blockwise)
        self.options = options

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        unit = functional.unit_vectors(embedding)
        cosines = unit @ unit.T
        same = target[:, None] == target
        pairs = same & ~torch.eye(len(target), dtype=torch.bool, device=target.device)
        within = _mean_where(1 - cosines, pairs)
        across = _mean_where(cosines, ~same).abs()
        opl = within + self.options.gamma * across
        cross_entropy = F.cross_entropy(logits, target)
        parts = {"cross_entropy": cross_entropy.detach(), "opl": opl.detach()}
        return LossOutput(cross_entropy + self.options.weight * opl, parts)


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1)


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return OrthogonalProjection(embedding_dim, class_counts, options)
