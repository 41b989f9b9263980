"""NCMI with several distributions per class: classes that come in more than one form.

Class y has q_{y,1} … q_{y,k}, learnt as NCMI's. A sample belongs to them softly:

    d_{n,j} = KL(p_n ‖ q_{y_n,j})
    a_n = −T · ln (1/k) Σ_j exp(−d_{n,j} / T)            the soft minimum of the d_{n,j}
    b_n = Σ_{v≠y_n} w_v · (1/k) Σ_j KL(p_n ‖ q_{v,j})      or of KL(q_{v,j} ‖ p_n)
    loss = mean of a_n / b_n, or another of NCMI's reductions

The gradient of a_n is Σ_j r_{n,j} ∇d_{n,j} with r_n = softmax(−d_n / T): soft assignment. k = 1 is
NCMI. T is relative to the divergences of a batch, because these are 1e-3 to 1: `softness` times the
mean of a sample's d over its class's distributions, without gradient. Inference has k class means
s_{y,j}, each weighted by the samples' r; the score is minus the soft minimum of KL(p ‖ s_{y,j}).

An extension of the NCMI paper (arXiv 2601.02543 asks for it as future work), not a published loss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses import functional
from wsi_ncmi.losses.functional.divergences import Direction
from wsi_ncmi.losses.functional.packing import Arrangement
from wsi_ncmi.losses.functional.precision import at_least_float32
from wsi_ncmi.losses.functional.ratios import Reduction
from wsi_ncmi.losses.ncmi_base import (
    CentreKind,
    NCMIBase,
    Schedule,
    initial_xi,
    smallest_divergence,
)
from wsi_ncmi.losses.objective import Objective, Phase

FIT_STEPS = 10
SMALLEST = 1e-12


@dataclass(frozen=True)
class Options:
    """Options of NCMI with several distributions per class; the shared ones are NCMI's.

    Attributes:
        centroids_per_class: k, number of distributions per class, 1 or more.
        softness: T of the soft assignment, relative to a sample's mean divergence from its class's
            distributions, above 0; a small T assigns to the nearest.
        temperature: τ of the map, above 0, as NCMI's.
        reduction: `mean_of_ratios`, `ratio_of_means` or `ema_ratio`, as NCMI's.
        separation_direction: `kl_p_q` or `kl_q_p`, as NCMI's.
        schedule: `alternating` or `simultaneous`, as NCMI's.
        initial_centroids: `simplex` or `corners`, as NCMI's, of all C·k.
        centroid_scale: length of the initial ξ, above 0; `null`: 1/τ, as NCMI's.
        centre: `frozen`, `ema` or `none`, as NCMI's.
        centre_decay: decay of an `ema` centre, 0 to below 1.
        ratio_decay: decay of the running means of `ema_ratio`, 0 to below 1.
        seed: random seed of the initial ξ, as NCMI's.
    """

    centroids_per_class: int = bounded(2, least=1)
    softness: float = bounded(0.5, above=0)
    temperature: float = bounded(0.5, above=0)
    reduction: Reduction = "mean_of_ratios"
    separation_direction: Direction = "kl_p_q"
    schedule: Schedule = "alternating"
    initial_centroids: Arrangement = "simplex"
    centroid_scale: float | None = bounded(None, above=0)
    centre: CentreKind = "frozen"
    centre_decay: float = bounded(0.999999, least=0, below=1)
    ratio_decay: float = bounded(0.99, least=0, below=1)
    seed: int = bounded(0, least=0, below=2**32)

    def __post_init__(self) -> None:
        check_options(self)


class NCMIMixture(NCMIBase):
    """State: ξ [C, k, m], centre, running ratio, and the means s [C, k, m] for inference."""

    options: Options
    class_passes = FIT_STEPS

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        super().__init__(embedding_dim, class_counts, options, embedding_dim)
        k = options.centroids_per_class
        xi = initial_xi(self.classes * k, embedding_dim, options)
        xi = xi.view(self.classes, k, embedding_dim)
        self.xi = nn.Parameter(xi)
        self.register_buffer("log_means", functional.centred_log_nsf(xi))
        self._add_running_state()

    def _terms(self, z: Tensor, target: Tensor, *, own_step: bool) -> tuple[Tensor, Tensor, Tensor]:
        xi = self.xi if self._classes_learn(own_step) else self.xi.detach()
        log_p = self._log_p(z)
        log_q = functional.centred_log_nsf(xi).to(log_p.dtype)  # [C, k, m]
        own = functional.kl(log_p[:, None], log_q[target])
        a = self._soft_minimum(own, self._softness(own.detach()))
        direction = self.options.separation_direction
        mean, spread = _MEANS[direction](log_q)
        other_spreads = (spread.sum() - spread) / self.classes
        b = functional.separation(log_p, mean, target, direction=direction) + other_spreads[target]
        return a, b, log_p

    def _softness(self, divergences: Tensor) -> Tensor:
        """T of each sample, [..., k] -> [..., 1]."""
        scale = divergences.mean(-1, keepdim=True).clamp_min(SMALLEST)
        return self.options.softness * scale

    def _soft_minimum(self, divergences: Tensor, temperature: Tensor) -> Tensor:
        """[..., k] -> [...]; above the smallest by at most T·ln k."""
        log_sum = torch.logsumexp(-divergences / temperature, -1)
        return (math.log(divergences.shape[-1]) - log_sum) * temperature.squeeze(-1)

    def _collect_class(self, phase: Phase, values: Tensor, log_p: Tensor, target: Tensor) -> None:
        # The k means of each class: soft assignment and means in turn, from the learnt q on.
        first = self.passed <= int(self._looks_for_centre(phase))
        start = functional.centred_log_nsf(self.xi.detach().double())
        means = torch.where(first, start, self.log_means.double())
        divergences = functional.kl(log_p[:, None], means[target])
        share = torch.softmax(-divergences / self._softness(divergences), -1)  # [n, k]
        self.fit_sums.collect(values[:, None], target, share)

    def _mean_of_all(self, total: Tensor, count: Tensor) -> Tensor:
        return super()._mean_of_all(total.flatten(0, 1), count.flatten())

    def _class_means(self, total: Tensor, count: Tensor) -> Tensor:
        fitted = functional.log_ratio(total / count.clamp_min(SMALLEST)[..., None])
        return torch.where((count > SMALLEST)[..., None], fitted, self.log_means.to(total.dtype))

    def _separation(self) -> Tensor:
        log_q = functional.centred_log_nsf(self.xi.double()).flatten(0, 1)
        return smallest_divergence(log_q, self.classes)

    def raw_scores(self, embedding: Tensor) -> Tensor:
        """Minus the soft minimum of KL(p ‖ s_{y,j}) over j; computed in float64."""
        return self._scores(embedding, self.log_means.double())

    def training_scores(self, embedding: Tensor) -> Tensor:
        """The same with the q_{y,j}: the s_{y,j} are fitted after training."""
        return self._scores(embedding, functional.centred_log_nsf(self.xi.double()))

    def divergences(self, embedding: Tensor) -> Tensor:
        """KL(p ‖ s_{y,j}) of every distribution [B, C, k], in float64."""
        return self._divergences(embedding, self.log_means.double())

    def _divergences(self, embedding: Tensor, log_means: Tensor) -> Tensor:
        means = log_means.flatten(0, 1)
        found = functional.kl_all_classes(self.exact_log_p(embedding), means)
        return found.unflatten(1, (self.classes, -1))

    def _scores(self, embedding: Tensor, log_means: Tensor) -> Tensor:
        divergences = self._divergences(embedding, log_means)
        # T has its gradient here: an attack is to see all that a pixel changes.
        scores = -self._soft_minimum(divergences, self._softness(divergences))
        return scores.to(at_least_float32(embedding).dtype)


def _arithmetic(log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_j KL(q_vj ‖ p)/k = KL(mean ‖ p) + spread: [C, k, m] -> the mean [C, m], the spread [C]."""
    mean = functional.log_ratio(torch.expm1(log_q).mean(1))
    return mean, functional.kl(log_q, mean[:, None]).mean(1)


def _geometric(log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_j KL(p ‖ q_vj)/k = KL(p ‖ mean) + spread."""
    mean = functional.centred(log_q.mean(1))
    return mean, functional.kl(mean[:, None], log_q).mean(1)


_MEANS = {"kl_q_p": _arithmetic, "kl_p_q": _geometric}


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return NCMIMixture(embedding_dim, class_counts, options)
