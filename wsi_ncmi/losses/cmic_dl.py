"""CMIC-DL: cross-entropy constrained by conditional mutual information (arXiv 2309.09123).

With p = softmax(W z + b), a point of the simplex over the C classes,

    loss = CE + λ · CMI − β · Γ
    CMI = E[KL(p_X ‖ Q_Y)],   Γ = E[1{Y ≠ V} · H(p_X, p_U)],   H(p, u) = −Σ p ln u

(U, V) is an independent copy of (X, Y): the pairs of a batch. The Q are no parameters: after a step
with Q fixed, each class's Q moves to the mean of p over some of its samples, which lowers CMI with
the network fixed. A batch without two classes has Γ = 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.distributed import gather_over_ranks, ranks, sum_over_ranks
from wsi_ncmi.losses.functional import kl, one_hot, pairwise_cross_entropy
from wsi_ncmi.losses.functional.precision import full_precision
from wsi_ncmi.losses.objective import LossOutput, Objective, Phase


@dataclass(frozen=True)
class Options:
    """Options of CMIC-DL.

    Attributes:
        cmi_weight: λ, weight of the CMI, 0 or more.
        separation_weight: β, weight of Γ, 0 or more. Γ has no upper bound: with few samples, lower
            this weight first.
        centroid_decay: decay of each class's Q, corrected for its bias so that Q also moves in
            short training. The paper's .9999 suits long training.
        centroid_samples: |B_c|, number of samples of a class from which a step of its Q is made, 1
            or more.
        source: where these samples come from. `queue`: the class's last samples. `batch`: the
            class's samples of the same step, for `sampling: balanced`, as in the paper.
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    cmi_weight: float = bounded(0.7, least=0)
    separation_weight: float = bounded(0.4, least=0)
    centroid_decay: float = bounded(0.99, least=0, below=1)
    centroid_samples: int = bounded(8, least=1)
    source: Literal["queue", "batch"] = "queue"
    blockwise: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class CMICDL(Classifier):
    """CE + λ·CMI − β·Γ with a linear head; Q, the queue and the step's sums are buffers."""

    total: Tensor
    weight: Tensor
    queue: Tensor
    filled: Tensor
    step_sums: Tensor
    step_counts: Tensor

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, blockwise=options.blockwise)
        self.options = options
        classes, depth = self.classes, self.options.centroid_samples
        self.register_buffer("total", torch.full((classes, classes), 1 / classes))
        self.register_buffer("weight", torch.ones(classes))
        if self.options.source == "queue":
            self.register_buffer("queue", torch.zeros(classes, depth, classes))
            self.register_buffer("filled", torch.zeros(classes, depth))
        self.register_buffer("step_sums", torch.zeros(classes, classes))
        self.register_buffer("step_counts", torch.zeros(classes))

    @property
    def centroids(self) -> Tensor:
        """Q [C, C]: bias-corrected running means of p, one row a class."""
        return self.total / self.weight[:, None]

    def _training_passes(self, phase: Phase) -> int:
        return 1 if phase == "start" else 0

    def _collect_training(self, phase: Phase, embeddings: Tensor, targets: Tensor) -> None:
        with full_precision(embeddings):
            p = self.raw_scores(embeddings).softmax(-1).to(self.total.dtype)
            self._sum(p, one_hot(targets, self.classes))

    def _finish_training(self, phase: Phase) -> None:
        """Q at the class means, as a first observation; absent ones are uniform."""
        sums, counts = self._take()
        uniform = torch.full_like(sums, 1 / self.classes)
        means = torch.where((counts > 0)[:, None], sums / counts.clamp_min(1)[:, None], uniform)
        first = 1 - self.options.centroid_decay
        self.total.copy_(first * means)
        self.weight.fill_(first)

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        log_p = logits.log_softmax(-1)
        log_q = self.centroids.clamp_min(torch.finfo(self.total.dtype).tiny).log()
        cross_entropy = F.nll_loss(log_p, target)
        cmi = kl(log_p, log_q.to(log_p.dtype)[target]).mean()
        gamma = pairwise_cross_entropy(log_p, target).mean()
        options = self.options
        total = cross_entropy + options.cmi_weight * cmi - options.separation_weight * gamma
        if self.training:
            self._collect(log_p.detach().exp().to(self.total.dtype), target)
        parts = {"cross_entropy": cross_entropy, "cmi": cmi, "gamma": gamma}
        return LossOutput(total, {name: value.detach() for name, value in parts.items()})

    @torch.no_grad()
    def _collect(self, p: Tensor, target: Tensor) -> None:
        hot = one_hot(target, self.classes)
        if self.options.source == "queue":
            self._enqueue(p, hot)
        self._sum(p, hot)

    def _sum(self, p: Tensor, hot: Tensor) -> None:
        self.step_sums.add_(hot.to(p.dtype).T @ p)
        self.step_counts.add_(hot.sum(0))

    def _take(self) -> tuple[Tensor, Tensor]:
        """Sums of p [C, C] and counts [C] over all processes; summing starts anew."""
        sum_over_ranks(self.step_sums, self.step_counts)
        sums, counts = self.step_sums.clone(), self.step_counts.clone()
        self.step_sums.zero_()
        self.step_counts.zero_()
        return sums, counts

    def _enqueue(self, p: Tensor, hot: Tensor) -> None:
        # Newest first: the rank of a sample among its class's, counted from the batch's end, is its
        # place; what was there moves on by the class's number of samples. Gathered, not branched.
        depth = self.options.centroid_samples
        counts = hot.sum(0)
        rank = hot.flip(0).cumsum(0).flip(0) - 1  # [B, C]
        place = torch.arange(depth, device=p.device)
        is_new = hot[:, :, None] & (rank[:, :, None] == place)  # [B, C, depth]
        new = torch.einsum("bcd,bk->cdk", is_new.to(p.dtype), p)
        old = place - counts[:, None]  # [C, depth]
        moved = old.clamp_min(0)
        kept = self.queue.gather(1, moved[:, :, None].expand_as(self.queue))
        full = torch.where(old >= 0, self.filled.gather(1, moved), torch.ones_like(self.filled))
        self.queue.copy_(torch.where((old >= 0)[:, :, None], kept, new))
        self.filled.copy_(full)

    def _join_queues(self) -> None:
        # Every process has the step's samples of its own before what all had. The last rank's count
        # as the newest, as if the shards were one batch.
        queues, filled, counts = map(gather_over_ranks, (self.queue, self.filled, self.step_counts))
        place = torch.arange(self.options.centroid_samples, device=counts.device)
        new = place < counts[:, :, None]  # [R, C, depth]
        old = (filled[:1] > 0) & ~new[:1]
        usable = torch.cat([new.flip(0), old]).transpose(0, 1).flatten(1)  # [C, (R + 1) depth]
        rows = torch.cat([queues.flip(0), queues[:1]]).transpose(0, 1).flatten(1, 2)
        first = usable.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, : len(place)]
        kept = usable.gather(1, first)
        chosen = rows.gather(1, first[:, :, None].expand_as(self.queue))
        self.queue.copy_(torch.where(kept[:, :, None], chosen, 0))
        self.filled.copy_(kept)

    @torch.no_grad()
    def end_step(self) -> None:
        """Q ← d·Q + (1 − d)·mean of p over B_c, for the classes of the step."""
        if self.options.source == "queue" and ranks() > 1:
            self._join_queues()
        sums, counts = self._take()
        if self.options.source == "queue":
            seen = counts > 0
            sums, counts = self.queue.sum(1) * seen[:, None], self.filled.sum(1) * seen
        decay, seen = self.options.centroid_decay, counts > 0
        means = sums / counts.clamp_min(1)[:, None]
        moved = decay * self.total + (1 - decay) * means
        self.total.copy_(torch.where(seen[:, None], moved, self.total))
        weight = decay * self.weight + (1 - decay)
        self.weight.copy_(torch.where(seen, weight, self.weight))


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return CMICDL(embedding_dim, class_counts, options)
