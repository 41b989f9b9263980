"""Supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362, equation 2) with a probe.

    v = g(z / ‖z‖) / ‖g(z / ‖z‖)‖,   s_ij = v_i · v_j / τ
    supcon = mean_i −1/|P(i)| Σ_{j ∈ P(i)} ln( e^{s_ij} / Σ_{k ≠ i} e^{s_ik} )

P(i) are the other samples of i's class; i runs over the samples that have such. The encoder learns
from this alone. The scores are those of a linear probe, trained beside it by cross-entropy on the
detached z: what the paper does in a second stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses import functional
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.functional.precision import at_least_float32, full_precision
from wsi_ncmi.losses.objective import LossOutput, Objective


@dataclass(frozen=True)
class Options:
    """Options of the supervised contrastive loss.

    Attributes:
        temperature: τ of the cosines, above 0.
        projection_dim: outputs of the projection head g (a layer of the embedding's width, ReLU and
            a linear layer), the paper's 128; `null`: no head, the embedding itself is compared.
    """

    temperature: float = bounded(0.1, above=0)
    projection_dim: int | None = bounded(128, least=1)

    def __post_init__(self) -> None:
        check_options(self)


class SupCon(Classifier):
    """The contrastive loss of projected embeddings; its linear head is the probe.

    A batch without two samples of a class, or of one class only, has a contrastive loss of zero.
    Needs pytorch-metric-learning, which looks at the data: not for `torch.func.vmap`.
    """

    min_samples = 2
    stackable = False
    capturable = False  # it picks pairs by their labels

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        super().__init__(embedding_dim, class_counts)
        try:
            from pytorch_metric_learning.losses import SupConLoss
        except ImportError as error:
            raise ImportError(
                "supcon needs pytorch-metric-learning: pip install 'wsi-ncmi[metric]'"
            ) from error
        self.options = options or Options()
        self.contrast = SupConLoss(temperature=self.options.temperature)
        self.projection = _projection(embedding_dim, self.options.projection_dim)

    def forward(self, embedding: Tensor, target: Tensor) -> LossOutput:
        self.check_inputs(embedding, target)
        with full_precision(embedding):
            z = at_least_float32(embedding)
            return self.loss(self.head(z.detach()), z, target)

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        supcon = self.contrast(self.projection(functional.unit_vectors(embedding)), target)
        probe = F.cross_entropy(logits, target)
        return LossOutput(supcon + probe, {"supcon": supcon.detach(), "probe": probe.detach()})


def _projection(width: int, outputs: int | None) -> nn.Module:
    if outputs is None:
        return nn.Identity()
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return SupCon(embedding_dim, class_counts, options)
