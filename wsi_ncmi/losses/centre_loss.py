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
from wsi_ncmi.losses.objective import LossOutput, Objective


@dataclass(frozen=True)
class Options:
    """Options of the centre loss.

    Attributes:
        weight: λ, weight of the distances, 0 or more; 0 is cross-entropy.
        centre_rate: α, how far the centres move towards a step's samples, 0 to 1.
    """

    weight: float = bounded(0.003, least=0)
    centre_rate: float = bounded(0.5, least=0, most=1)

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
        super().__init__(embedding_dim, class_counts)
        self.options = options or Options()
        self.register_buffer("centres", torch.zeros(self.classes, embedding_dim))
        self.register_buffer("step_sums", torch.zeros(self.classes, embedding_dim))
        self.register_buffer("step_counts", torch.zeros(self.classes))

    @torch.no_grad()
    def start(self, embeddings: Tensor, targets: Tensor) -> None:
        """Centres at the class means; a class without samples keeps its own."""
        with full_precision(embeddings):
            sums, counts = self._class_sums(embeddings, targets)
        sum_over_ranks(sums, counts)
        means = sums / counts.clamp_min(1)[:, None]
        self.centres.copy_(torch.where((counts > 0)[:, None], means, self.centres))

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        cross_entropy = F.cross_entropy(logits, target)
        centre = (embedding - self.centres[target]).square().sum(1).mean() / 2
        if self.training:
            self._collect(embedding.detach(), target)
        parts = {"cross_entropy": cross_entropy.detach(), "centre": centre.detach()}
        return LossOutput(cross_entropy + self.options.weight * centre, parts)

    @torch.no_grad()
    def _collect(self, embedding: Tensor, target: Tensor) -> None:
        # Several forwards may precede a step: their samples are summed, and centres move once.
        sums, counts = self._class_sums(embedding, target)
        self.step_sums.add_(sums)
        self.step_counts.add_(counts)

    def _class_sums(self, embedding: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        hot = one_hot(target, self.classes).to(self.centres.dtype)
        return hot.T @ embedding.to(self.centres.dtype), hot.sum(0)

    @torch.no_grad()
    def end_step(self) -> None:
        sum_over_ranks(self.step_sums, self.step_counts)
        counts = self.step_counts[:, None]
        delta = (counts * self.centres - self.step_sums) / (1 + counts)
        self.centres.sub_(self.options.centre_rate * delta)
        self.step_sums.zero_()
        self.step_counts.zero_()


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return CentreLoss(embedding_dim, class_counts, options)
