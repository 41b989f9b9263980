"""Cross-entropy with its linear head: the reference that everything is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.losses.objective import LossOutput, Objective


@dataclass(frozen=True)
class Options:
    """Options of cross-entropy."""

    label_smoothing: float = 0.0


class CrossEntropy(Objective):
    """−ln softmax(W z + b)_y, averaged over the batch."""

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        super().__init__(embedding_dim, class_counts)
        self.options = options or Options()
        if not 0 <= self.options.label_smoothing < 1:
            found = self.options.label_smoothing
            raise ValueError(f"label_smoothing must lie in [0, 1), found {found}")
        self.head = nn.Linear(embedding_dim, self.classes)

    def forward(self, embedding: Tensor, target: Tensor) -> LossOutput:
        self.check_inputs(embedding, target)
        logits = self.head(embedding).float()
        total = F.cross_entropy(logits, target, label_smoothing=self.options.label_smoothing)
        return LossOutput(total, {"cross_entropy": total.detach()})

    def raw_scores(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return CrossEntropy(embedding_dim, class_counts, options)
