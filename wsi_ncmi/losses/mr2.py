"""MR², margin regularisation for even classes (Zhu et al., ICLR 2026, arXiv 2602.00205).

    loss = −ln softmax(f / γ_y)_y + λ R,   f = W z + b
    γ_y = c̄ · C (‖μ_y‖² + s_y²)^{1/3} / Σ_k (‖μ_k‖² + s_k²)^{1/3}
    R = d/(10 C) Σ_k mean_{n: y_n=k} ln(1 + Σ_{j≠n, y_j=k} exp((‖z_n − z_j‖² − 2 s̄²) / (10 d)))

μ_k and s_k² are the class's mean and mean squared deviation, s̄² the mean of s_k² over the classes,
d the width of z. A class that scatters more gets a larger logit margin; pairs of a class that are
further apart than two samples are on average are drawn together. Scores are the plain f.

The margins are the paper's. R is that of the released code (github.com/BeierZhu/MR2,
MRF-Imagenet/src/mrf_loss.py), with its scale 10 d. The code measures μ and s by the 5-norm, here
the paper's 2-norm; it takes them from each batch, here running means of z and ‖z‖² are kept, by
which they are right for one sample a step too: ‖μ‖² + s² is the mean of ‖z‖².
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

SPREAD_SCALE = 10.0  # of the released code, times d
SMALLEST_SQUARE = 1e-12


@dataclass(frozen=True)
class Options:
    """Options of MR²; the defaults are those of the released code's CIFAR-100 training.

    Attributes:
        weight: λ, weight of the pairs' distances, 0 or more; a step without two samples of a class
            has none.
        margin: c̄, mean of the classes' logit margins, above 0.
        decay: of the running class statistics, 0 to below 1.
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    weight: float = bounded(0.1, least=0)
    margin: float = bounded(1.0, above=0)
    decay: float = bounded(0.9, least=0, below=1)
    blockwise: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class MR2(Classifier):
    """Cross-entropy of f / γ_y, and λ R; the class statistics are buffers."""

    means: Tensor
    squares: Tensor
    step_sums: Tensor
    step_squares: Tensor
    step_counts: Tensor

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, blockwise=options.blockwise)
        self.options = options
        for name in ("means", "step_sums"):
            self.register_buffer(name, torch.zeros(self.classes, embedding_dim))
        self.register_buffer("squares", torch.ones(self.classes))
        for name in ("step_squares", "step_counts"):
            self.register_buffer(name, torch.zeros(self.classes))

    @property
    def margins(self) -> Tensor:
        """γ [C]."""
        powers = self.squares.clamp_min(SMALLEST_SQUARE).pow(1 / 3)
        return self.options.margin * powers / powers.mean()

    @property
    def mean_spread(self) -> Tensor:
        """s̄², []."""
        return (self.squares - self.means.square().sum(1)).clamp_min(0).mean()

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        margins = self.margins.to(logits.dtype)[target]
        cross_entropy = F.cross_entropy(logits / margins[:, None], target)
        spread = self._spread(embedding, target)
        if self.training:
            self._sum(embedding.detach(), target)
        parts = {"cross_entropy": cross_entropy.detach(), "spread": spread.detach()}
        return LossOutput(cross_entropy + self.options.weight * spread, parts)

    def _spread(self, z: Tensor, target: Tensor) -> Tensor:
        scale = SPREAD_SCALE * self.embedding_dim
        squares = z.square().sum(1)
        distances = (squares[:, None] + squares - 2 * z @ z.T).clamp_min(0)
        same = target[:, None] == target
        pairs = same & ~torch.eye(len(target), dtype=torch.bool, device=target.device)
        excess = (distances - 2 * self.mean_spread.to(z.dtype)) / scale
        excess = torch.where(pairs, excess, -torch.inf)
        each = torch.logsumexp(F.pad(excess, (1, 0)), 1)  # ln(1 + Σ exp): the 1 is e^0
        share = 1 / same.sum(1)  # so that every class of the step counts once
        return self.embedding_dim / SPREAD_SCALE / self.classes * (share * each).sum()

    def _training_passes(self, phase: Phase) -> int:
        return 1 if phase == "start" else 0

    def _collect_training(self, phase: Phase, embeddings: Tensor, targets: Tensor) -> None:
        with full_precision(embeddings):
            self._sum(embeddings, targets)

    def _finish_training(self, phase: Phase) -> None:
        self._move(0.0)

    @torch.no_grad()
    def end_step(self) -> None:
        self._move(self.options.decay)

    @torch.no_grad()
    def _sum(self, embedding: Tensor, target: Tensor) -> None:
        z = embedding.to(self.means.dtype)
        hot = one_hot(target, self.classes).to(z.dtype)
        self.step_sums.add_(hot.T @ z)
        self.step_squares.add_(hot.T @ z.square().sum(1))
        self.step_counts.add_(hot.sum(0))

    def _move(self, decay: float) -> None:
        """Statistics of classes that were seen, over all processes; the others stay."""
        sums = self.step_sums, self.step_squares, self.step_counts
        sum_over_ranks(*sums)
        seen, count = self.step_counts > 0, self.step_counts.clamp_min(1)
        means = decay * self.means + (1 - decay) * self.step_sums / count[:, None]
        squares = decay * self.squares + (1 - decay) * self.step_squares / count
        self.means.copy_(torch.where(seen[:, None], means, self.means))
        self.squares.copy_(torch.where(seen, squares, self.squares))
        for buffer in sums:
            buffer.zero_()


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return MR2(embedding_dim, class_counts, options)
