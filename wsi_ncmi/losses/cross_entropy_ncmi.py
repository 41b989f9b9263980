"""Cross-entropy with its head, and λ times NCMI of the same embedding.

    loss = CE(W z + b + τ_π ln π, y) + λ(t) · NCMI(z, y),   t = 0 … 1, the share of the training

The head learns from cross-entropy alone and gives the scores; the embedding learns from both. λ is
constant, or falls from λ to 0 (`down`: NCMI shapes the embedding first), or rises from 0 to λ
(`up`: classes are apart before they are made compact), linearly over the optimiser's steps.

A combination of the two losses that this project compares, not a published one. NCMI: arXiv
2601.02543; ln π: logit adjustment (arXiv 2007.07314), in training only; k distributions of a class:
`ncmi_mixture`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses import ncmi, ncmi_mixture
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.cross_entropy import class_weights
from wsi_ncmi.losses.functional.divergences import Direction
from wsi_ncmi.losses.functional.linear import stacked_linear
from wsi_ncmi.losses.functional.packing import Arrangement
from wsi_ncmi.losses.functional.ratios import Reduction
from wsi_ncmi.losses.logit_adjusted import log_prior
from wsi_ncmi.losses.ncmi_base import CentreKind, NCMIBase, Schedule
from wsi_ncmi.losses.objective import LossOutput, Objective, Phase


@dataclass(frozen=True)
class Options:
    """Options of cross-entropy with NCMI; the shared ones are NCMI's.

    Attributes:
        weight: λ, weight of NCMI, 0 or more; 0 is cross-entropy.
        weight_schedule: `constant`: λ throughout. `down`: from λ at the first step to 0 at the
            last. `up`: from 0 to λ.
        label_smoothing: ε of cross-entropy, 0 to below 1.
        class_weights: of cross-entropy. `none`: every sample has weight 1. `balanced`: all classes
            count equally.
        logit_adjustment: τ_π, strength of the class prior in cross-entropy's training, 0 or more,
            as `tau` of `logit_adjusted`; 0: none.
        temperature: τ of NCMI's map, above 0.
        reduction: `mean_of_ratios`, `ratio_of_means` or `ema_ratio`, as NCMI's.
        separation_direction: `kl_p_q` or `kl_q_p`, as NCMI's.
        schedule: `alternating` or `simultaneous`, as NCMI's.
        centroids_per_class: k, number of NCMI's distributions per class, 1 or more.
        softness: T of the soft assignment to k distributions, above 0, as `ncmi_mixture`'s.
        initial_centroids: `simplex` or `corners`, as NCMI's.
        centroid_scale: length of the initial ξ, above 0; `null`: 1/τ, as NCMI's.
        centre: `frozen`, `ema` or `none`, as NCMI's.
        centre_decay: decay of an `ema` centre, 0 to below 1.
        ratio_decay: decay of the running means of `ema_ratio`, 0 to below 1.
        seed: random seed of the initial ξ, as NCMI's.
        blockwise: the embedding is C blocks, one for each class (as of class-wise aggregators), and
            each class's logit is of its own block: w_c · z_c + b_c. Else every logit is of all.
    """

    weight: float = bounded(0.5, least=0)
    weight_schedule: Literal["constant", "down", "up"] = "constant"
    label_smoothing: float = bounded(0.0, least=0, below=1)
    class_weights: Literal["none", "balanced"] = "none"
    logit_adjustment: float = bounded(0.0, least=0)
    temperature: float = bounded(0.5, above=0)
    reduction: Reduction = "mean_of_ratios"
    separation_direction: Direction = "kl_p_q"
    schedule: Schedule = "simultaneous"
    centroids_per_class: int = bounded(1, least=1)
    softness: float = bounded(0.5, above=0)
    initial_centroids: Arrangement = "simplex"
    centroid_scale: float | None = bounded(None, above=0)
    centre: CentreKind = "frozen"
    centre_decay: float = bounded(0.999999, least=0, below=1)
    ratio_decay: float = bounded(0.99, least=0, below=1)
    seed: int = bounded(0, least=0, below=2**32)
    blockwise: bool = False

    def __post_init__(self) -> None:
        check_options(self)


class CrossEntropyNCMI(Classifier):
    """CE + λ(t) · NCMI; its state: the head, NCMI's own, and how far the training is."""

    class_weights: Tensor
    adjustment: Tensor
    step: Tensor
    steps: Tensor

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, blockwise=options.blockwise)
        self.options = options
        self.ncmi = _ncmi(embedding_dim, class_counts, options)
        weights = class_weights(self.class_counts, options.class_weights)
        self.register_buffer("class_weights", weights)
        adjustment = options.logit_adjustment * log_prior(self.class_counts)
        self.register_buffer("adjustment", adjustment)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.is_scheduled = options.weight_schedule == "constant"

    @property
    def takes_stacks(self) -> bool:
        return self.ncmi.takes_stacks

    def schedule_over(self, steps: int) -> None:
        self.steps.fill_(steps)
        self.is_scheduled = True

    @property
    def weight(self) -> Tensor:
        """λ(t) of the present step, []."""
        share = self.step / (self.steps - 1).clamp_min(1)
        kind = self.options.weight_schedule
        factor = {"constant": torch.ones_like(share), "down": 1 - share, "up": share}[kind]
        return self.options.weight * factor.clamp(0, 1)

    def logits(self, z: Tensor) -> Tensor:
        stacked = self.class_counts.ndim > 1
        if not stacked or not isinstance(self.head, nn.Linear):
            return super().logits(z)
        return stacked_linear(self.head, z)

    def loss(self, logits: Tensor, embedding: Tensor, target: Tensor) -> LossOutput:
        if not self.is_scheduled:
            raise ValueError(
                f"weight_schedule {self.options.weight_schedule}: call schedule_over(steps) with "
                f"the number of the training's steps before the first one"
            )
        cross_entropy = self._cross_entropy(logits, target)
        found = self.ncmi(embedding, target)
        parts = {
            "cross_entropy": cross_entropy.detach(),
            "ncmi": found.total.detach(),
            **found.parts,
        }
        return LossOutput(cross_entropy + self.weight.to(logits.dtype) * found.total, parts)

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = (logits + self.adjustment.unsqueeze(-2)).log_softmax(-1)
        own = target.expand(logits.shape[:-1])[..., None]
        smoothing = self.options.label_smoothing
        each = -(1 - smoothing) * log_p.gather(-1, own).squeeze(-1) - smoothing * log_p.mean(-1)
        weights = self.class_weights.unsqueeze(-2).expand(logits.shape).gather(-1, own)
        return (weights.squeeze(-1) * each).mean(-1)

    def _training_passes(self, phase: Phase) -> int:
        # The scores are the head's: NCMI needs no class means of inference.
        return self.ncmi.passes(phase) if phase == "start" else 0

    def _collect_training(self, phase: Phase, embeddings: Tensor, targets: Tensor) -> None:
        self.ncmi.collect(phase, embeddings, targets)

    def _finish_training(self, phase: Phase) -> None:
        self.ncmi.finish(phase)

    def state_loss(self, embedding: Tensor, target: Tensor) -> Tensor | None:
        return self.ncmi.state_loss(embedding, target)

    @torch.no_grad()
    def end_step(self) -> None:
        self.step.add_(1)
        self.ncmi.end_step()

    def end_epoch(self, epoch: int) -> None:
        self.ncmi.end_epoch(epoch)

    def watched(self) -> dict[str, Tensor]:
        return self.ncmi.watched()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = self.ncmi.parameter_groups()
        return {**groups, "network": [*self.head.parameters(), *groups["network"]]}


def _ncmi(embedding_dim: int, class_counts: Sequence[int], options: Options) -> NCMIBase:
    """NCMI with what the options say of it, of one distribution for each class or of k."""
    shared = {
        name: getattr(options, name)
        for name in (
            "temperature", "reduction", "separation_direction", "schedule",
            "initial_centroids", "centroid_scale", "centre", "centre_decay", "ratio_decay", "seed",
        )
    }  # fmt: skip
    if options.centroids_per_class == 1:
        return ncmi.NCMI(embedding_dim, class_counts, ncmi.Options(**shared))
    of_mixture = {name: getattr(options, name) for name in ("centroids_per_class", "softness")}
    given = ncmi_mixture.Options(**shared, **of_mixture)
    return ncmi_mixture.NCMIMixture(embedding_dim, class_counts, given)


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return CrossEntropyNCMI(embedding_dim, class_counts, options)
