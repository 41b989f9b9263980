"""Centre loss (Wen et al. 2016, ECCV, doi 10.1007/978-3-319-46478-7_31, equations 2 to 5).

    loss = CE + λ/2 · mean_n ‖z_n − c_{y_n}‖²
    after each step:   c_j ← c_j − α · Σ_{n: y_n = j} (c_j − z_n) / (1 + n_j)

The paper sums both terms over the batch; here both are means, so λ is the same. Centres follow this
rule and get no gradient; they start at the class means of the embeddings before training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.distributed import sum_over_ranks
from wsi_ncmi.losses.functional.labels import one_hot
from wsi_ncmi.losses.functional.precision import full_precision
from wsi_ncmi.losses.objective import LossOutput, Objective, Phase


@dataclass(frozen=True)
class Options:
    """Options of the centre loss.

    Attributes:
        weight: λ, weight of the distances, 0 or more; 0 is cross-entropy.
        centre_rate: α, how far the centres move towards a step's samples, 0 to 1.
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    weight: float = bounded(0.003, least=0)
    centre_rate: float = bounded(0.5, least=0, most=1)
    blockwise: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class CentreLoss(Classifier):
    """Cross-entropy + λ/2 · mean ‖z − c_y‖²; the centres c are buffers."""

    centres: Tensor
    step_sums: Tensor
    step_counts: Tensor

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, blockwise=options.blockwise)
        self.options = options
        self.register_buffer("centres", torch.zeros(self.classes, embedding_dim))
        self.register_buffer("step_sums", torch.zeros(self.classes, embedding_dim))
        self.register_buffer("step_counts", torch.zeros(self.classes))

    def _training_passes(self, phase: Phase) -> int:
        return 1 if phase == "start" else 0

    def _collect_training(self, phase: Phase, embeddings: Tensor, targets: Tensor) -> None:
        with full_precision(embeddings):
            self._sum(embeddings, targets)

    def _finish_training(self, phase: Phase) -> None:
        """Centres at the class means; a class without samples keeps its own."""
        sums, counts = self._take()
        means = sums / counts.clamp_min(1)
        self.centres.copy_(torch.where(counts > 0, means, self.centres))

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        cross_entropy = F.cross_entropy(logits, target)
        centre = (embedding - self.centres[target]).square().sum(1).mean() / 2
        if self.training:
            self._sum(embedding.detach(), target)
        parts = {"cross_entropy": cross_entropy.detach(), "centre": centre.detach()}
        return LossOutput(cross_entropy + self.options.weight * centre, parts)

    @torch.no_grad()
    def _sum(self, embedding: Tensor, target: Tensor) -> None:
        # Several forwards may precede a step: their samples are summed, and centres move once.
        hot = one_hot(target, self.classes).to(self.centres.dtype)
        self.step_sums.add_(hot.T @ embedding.to(self.centres.dtype))
        self.step_counts.add_(hot.sum(0))

    def _take(self) -> tuple[Tensor, Tensor]:
        """Sums [C, m] and counts [C, 1] over all processes; summing starts anew."""
        sum_over_ranks(self.step_sums, self.step_counts)
        sums, counts = self.step_sums.clone(), self.step_counts[:, None].clone()
        self.step_sums.zero_()
        self.step_counts.zero_()
        return sums, counts

    @torch.no_grad()
    def end_step(self) -> None:
        sums, counts = self._take()
        delta = (counts * self.centres - sums) / (1 + counts)
        self.centres.sub_(self.options.centre_rate * delta)


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return CentreLoss(embedding_dim, class_counts, options)
