"""Cross-entropy with Rényi mutual information (Zaugg et al. 2025, 10.1007/978-3-031-93631-9_16).

    L = f(e)·CE − (1 − f(e))·I_α(Y; Ŷ),   f(e) = (1 + e)^−decay,   e = 0, 1, … the epoch

Ŷ is the softmax of a linear head, I_α the matrix-based mutual information of the batch. The first
epoch is cross-entropy alone. As in the paper CE is in nats and I_α in bits.

I_α compares the samples of a step: it is at most the entropy of the step's labels, and 0 for a
step of one sample or one class, which then has f(e)·CE alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.distributed import ranks, sum_over_ranks
from wsi_ncmi.losses.functional import renyi
from wsi_ncmi.losses.functional.labels import one_hot
from wsi_ncmi.losses.functional.precision import full_precision
from wsi_ncmi.losses.objective import LossOutput, Objective, Phase

# The largest distance of two distributions: so every step has the same candidates.
LARGEST_WIDTH = 2**0.5
START_SAMPLES = 256


@dataclass(frozen=True)
class Options:
    """Options of cross-entropy with Rényi mutual information.

    Attributes:
        alpha: order of the entropy, above 1, where its gradient is always finite.
        width: s, width of the kernel on the predictions, above 0; `null`: the candidate that
            aligned best with the labels in the previous epoch.
        candidates: number of equidistant widths up to √2 that are tried, 1 or more.
        decay: exponent of cross-entropy's share (1 + epoch)^−decay, 0 or more.
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    alpha: float = bounded(renyi.ALPHA, above=1)
    width: float | None = bounded(None, above=0)
    candidates: int = bounded(renyi.CANDIDATES, least=1)
    decay: float = bounded(0.5, least=0)
    blockwise: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class MutualInformation(Classifier):
    """The objective; its state beside the head: epoch, width, sums of the epoch's alignments.

    The paper takes the width of a whole cross-entropy run. Here an epoch takes the width that was
    best aligned, on average over the steps, in the epoch before; the first epoch, in which I_α has
    no weight, takes that of the untrained head.
    """

    capturable = False  # eigenvalues wait for the device, to say whether they were found

    epoch: Tensor
    width: Tensor
    alignment_sums: Tensor
    steps: Tensor
    start_p: Tensor
    start_hot: Tensor
    seen: Tensor

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, blockwise=options.blockwise)
        self.options = options
        width = LARGEST_WIDTH if self.options.width is None else self.options.width
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.register_buffer("width", torch.tensor(width))
        self.register_buffer("alignment_sums", torch.zeros(self.options.candidates))
        self.register_buffer("steps", torch.zeros(()))
        self.samples = sum(class_counts)
        for name in ("start_p", "start_hot"):
            self.register_buffer(name, torch.zeros(START_SAMPLES, self.classes), persistent=False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64), persistent=False)

    def _training_passes(self, phase: Phase) -> int:
        return 1 if phase == "start" and self.options.width is None else 0

    def _collect_training(self, phase: Phase, embeddings: Tensor, targets: Tensor) -> None:
        """At most START_SAMPLES samples, spread over the training part."""
        number = self.seen + torch.arange(len(targets), device=targets.device)
        place = torch.arange(START_SAMPLES, device=targets.device)
        with full_precision(embeddings):
            p = self.raw_scores(embeddings).softmax(1).to(self.start_p.dtype)
            chosen = (number == place[:, None] * self._stride()).to(p.dtype)  # [START_SAMPLES, n]
            self.start_p.add_(chosen @ p)
            self.start_hot.add_(chosen @ one_hot(targets, self.classes).to(p.dtype))
        self.seen.add_(len(targets))

    def _stride(self) -> int:
        return -(-self.samples // (START_SAMPLES * ranks()))

    def _finish_training(self, phase: Phase) -> None:
        """The first width: that of the untrained head."""
        with full_precision(self.start_hot):
            labels = self.start_hot @ self.start_hot.T  # zero where a place was not taken
        taken = self.start_hot.sum(1) > 0
        found = renyi.alignments(labels, self.start_p, self._candidates(), taken)
        sum_over_ranks(found)
        self.width.copy_(renyi.best_width(self._candidates(), found))
        for buffer in (self.start_p, self.start_hot, self.seen):
            buffer.zero_()

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        cross_entropy = F.cross_entropy(logits, target)
        # A diverged head makes CE NaN, which is the loss's answer; the eigenvalues would raise, and
        # stacked models would fall with it.
        probabilities = logits.softmax(1)
        probabilities = torch.where(probabilities.isfinite(), probabilities, 0)
        if self.training and self.options.width is None:
            self._collect(probabilities.detach(), target)
        information = renyi.renyi_mutual_information(
            renyi.label_gram(target), renyi.gram(probabilities, self.width), self.options.alpha
        ).to(logits.dtype)
        share = (1 + self.epoch).to(logits.dtype) ** -self.options.decay
        total = share * cross_entropy - (1 - share) * information
        parts = {"cross_entropy": cross_entropy, "mutual_information": information}
        return LossOutput(total, {name: part.detach() for name, part in parts.items()})

    @torch.no_grad()
    def _collect(self, probabilities: Tensor, target: Tensor) -> None:
        found = self._alignments(probabilities, target)
        self.alignment_sums.add_(found.to(self.alignment_sums.dtype))
        self.steps.add_(1)

    @torch.no_grad()
    def end_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch + 1)
        sum_over_ranks(self.alignment_sums, self.steps)
        best = renyi.best_width(self._candidates(), self.alignment_sums)
        self.width.copy_(torch.where(self.steps > 0, best.to(self.width.dtype), self.width))
        self.alignment_sums.zero_()
        self.steps.zero_()

    def _candidates(self) -> Tensor:
        return renyi.width_candidates(LARGEST_WIDTH, self.options.candidates, self.width.device)

    def _alignments(self, probabilities: Tensor, target: Tensor) -> Tensor:
        return renyi.alignments(renyi.label_gram(target), probabilities, self._candidates())


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return MutualInformation(embedding_dim, class_counts, options)
