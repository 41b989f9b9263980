"""NCMI: normalised conditional mutual information as a training loss (arXiv 2601.02543).

The embedding itself becomes a distribution over its m dimensions; a class is a distribution q_y of
the same kind, learnt or fixed; no classifier follows:

    u = (z − c) / ‖z − c‖,   p = NSF(u / τ)
    a_n = KL(p_n ‖ q_{y_n})                     its mean is the conditional mutual information
    b_n = Σ_{v≠y_n} w_v · KL(p_n ‖ q_v)         its mean is the separation Γ
    loss = mean of a_n / b_n  |  mean a / mean b  |  the latter with running means

Inference takes class means s_y of p over the training part: argmin_y KL(p ‖ s_y).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.losses import functional
from wsi_ncmi.losses.centroids import KINDS
from wsi_ncmi.losses.functional import few
from wsi_ncmi.losses.functional.distributions import log_map
from wsi_ncmi.losses.functional.divergences import Direction
from wsi_ncmi.losses.functional.linear import stacked_linear
from wsi_ncmi.losses.functional.maps import Map
from wsi_ncmi.losses.functional.packing import Arrangement
from wsi_ncmi.losses.functional.precision import at_least_float32
from wsi_ncmi.losses.functional.ratios import Reduction
from wsi_ncmi.losses.ncmi_base import (
    CentreKind,
    Evaluated,
    NCMIBase,
    Schedule,
    initial_xi,
    smallest_divergence,
)
from wsi_ncmi.losses.objective import Objective, Phase
from wsi_ncmi.losses.running import ClassSums

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """Options of NCMI; docs/losses.md says where the sources differ and why these are the defaults.

    Attributes:
        temperature: τ of the map from embedding to distribution, above 0; a smaller τ sharpens p.
        learn_temperature: train τ with the network, starting at `temperature`.
        reduction: `mean_of_ratios`: mean of a_n / b_n. `ratio_of_means`: mean of a over mean of b.
            `ema_ratio`: the same with running means, so that small batches follow the large-batch
            ratio.
        centroids: the class distributions q. `learnable`: trained (the paper). `fixed`: the initial
            ones. `ema`: running means of batches. `epoch_mean`: class means of the previous
            epoch.
        centroid_gradient: `ratio`: the gradient of q runs through a and b. `cmi_only`: through a
            alone.
        schedule: `alternating`: a step of q with p fixed, then a step of the network with q fixed.
            `simultaneous`: both at once.
        centroid_start_epoch: first epoch, counted from 0, in which learnable q move.
        centroid_decay: decay of `ema` centroids, 0 to below 1.
        initial_centroids: directions in which ξ start. `simplex`: as far from one another as C
            can be, each spread over all dimensions. `corners`: ξ_y along the dimension y.
        centroid_scale: length of the initial ξ, above 0. `null`: 1/τ, that of u/τ, so that p can
            be what q is.
        centre: the c that is subtracted from the embedding. `frozen`: the training mean before
            training. `ema`: a running mean. `none`: nothing.
        centre_decay: decay of an `ema` centre, 0 to below 1.
        ratio_decay: decay of the running means of `ema_ratio`, 0 to below 1.
        map: `nsf`: normalised sigmoid. `softmax`: softmax.
        prior: class weights in the expectation. `empirical`: the classes' shares. `uniform`: all
            classes count equally, which suits macro-F1 under imbalance.
        separation_weights: w_v in b. `uniform`: 1/C each. `empirical`: the classes' shares of the
            training part.
        separation_direction: `kl_p_q`: KL(p ‖ q) in b, as in a. `kl_q_p`: KL(q ‖ p), as the public
            code.
        space: `features`: p is over the embedding itself. `logits`: p is over the C logits of a
            linear layer.
        class_mean_norm: norm by which z − c is divided for inference's class means. `l2`: as for
            every p. `l1`: as the public code, whose means so lie near the uniform distribution.
        class_mean_samples: from which inference's class means come. `plain`: the training part as
            it is. `augmented`: each training sample once, augmented as in training (images by
            `augmentation`, bags by the copies of `extraction.augmentation`; without those it is
            `plain`).
        seed: random seed of the initial ξ, of a simplex and of packed directions.
    """

    temperature: float = bounded(0.5, above=0)
    learn_temperature: bool = False
    reduction: Reduction = "mean_of_ratios"
    centroids: Literal["learnable", "fixed", "ema", "epoch_mean"] = "learnable"
    centroid_gradient: Literal["ratio", "cmi_only"] = "ratio"
    schedule: Schedule = "alternating"
    centroid_start_epoch: int = bounded(0, least=0)
    centroid_decay: float = bounded(0.99, least=0, below=1)
    initial_centroids: Arrangement = "simplex"
    centroid_scale: float | None = bounded(None, above=0)
    centre: CentreKind = "frozen"
    centre_decay: float = bounded(0.999999, least=0, below=1)
    ratio_decay: float = bounded(0.99, least=0, below=1)
    map: Map = "nsf"
    prior: Literal["empirical", "uniform"] = "empirical"
    separation_weights: Literal["uniform", "empirical"] = "uniform"
    separation_direction: Direction = "kl_p_q"
    space: Literal["features", "logits"] = "features"
    class_mean_norm: Literal["l2", "l1"] = "l2"
    class_mean_samples: Literal["plain", "augmented"] = "plain"
    seed: int = bounded(0, least=0, below=2**32)

    def __post_init__(self) -> None:
        check_options(self)


class NCMI(NCMIBase):
    """The objective; its state: ξ or q, centre, temperature, running ratio, class means."""

    options: Options
    prior_weights: Tensor
    gamma_weights: Tensor
    epoch: Tensor
    log_q: Tensor
    xi: Tensor
    step_sums: ClassSums
    log_temperature: Tensor

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        options = options or Options()
        logits = options.space == "logits"
        dim = len(class_counts) if logits else embedding_dim
        super().__init__(embedding_dim, class_counts, options, dim)
        self.map = options.map
        self.space: nn.Module = nn.Linear(embedding_dim, dim) if logits else nn.Identity()
        self._register_classes()
        self._register_weights()
        self._register_temperature()
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self._add_running_state()
        self.epoch_sums = ClassSums(self.classes, dim)

    def _register_classes(self) -> None:
        options = self.options
        xi = initial_xi(self.classes, self.dim, options)
        log_q = log_map(xi, self.map)
        kind = KINDS[options.centroids]
        self.centroids = kind(self.map, options.centroid_start_epoch, options.centroid_decay)
        self.centroids.register(self, xi, log_q)
        self.register_buffer("log_means", log_q.clone())
        log.info("smallest KL between two class distributions: %.3g", self.smallest_separation())

    def _register_weights(self) -> None:
        shares = self.class_counts / self.class_counts.sum()
        uniform = torch.full_like(shares, 1 / self.classes)
        prior = uniform / shares.clamp_min(torch.finfo(shares.dtype).tiny)
        empirical_prior = self.options.prior == "empirical"
        self.register_buffer("prior_weights", torch.ones_like(prior) if empirical_prior else prior)
        empirical_gamma = self.options.separation_weights == "empirical"
        self.register_buffer("gamma_weights", shares if empirical_gamma else uniform)

    def _register_temperature(self) -> None:
        log_temperature = torch.tensor(self.options.temperature).log()
        if self.options.learn_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature)

    @property
    def takes_stacks(self) -> bool:
        return self.classes <= few.FEW_CLASSES

    @property
    def temperature(self) -> Tensor:
        """τ, a scalar."""
        return self.log_temperature.exp()

    def _temperature(self, dtype: torch.dtype) -> Tensor:
        return self.temperature.to(dtype)[..., None, None]

    def _vectors(self, embedding: Tensor) -> Tensor:
        z = at_least_float32(embedding)
        if not isinstance(self.space, nn.Linear):
            return z
        return stacked_linear(self.space, z)

    def log_centroids(self) -> Tensor:
        """Centred logs [C, m] of the class distributions q that training compares with."""
        return self.centroids.log_q(self)

    def _finish_training(self, phase: Phase) -> None:
        super()._finish_training(phase)
        if phase == "start":
            self.centroids.start(self)

    def state_loss(self, embedding: Tensor, target: Tensor) -> Tensor | None:
        return super().state_loss(embedding, target) if self.centroids.learnable else None

    def _evaluate(self, z: Tensor, target: Tensor, *, own_step: bool) -> Evaluated:
        if self.classes > few.FEW_CLASSES:
            return super()._evaluate(z, target, own_step=own_step)
        collects = self.training and not own_step
        plan = self._plan(own_step, collects)
        classes = self.centroids.activations(self)
        found = few.few_classes_loss(
            z,
            self.centre.value,
            self.temperature if plan.temperature else self.temperature.detach(),
            classes if plan.classes else classes.detach(),
            target,
            self.gamma_weights,
            self.prior_weights,
            self.ratio.state,
            plan,
        )
        if collects:
            if found.running is not None:
                self.ratio.state.copy_(found.running)
            self.centre.collect(z.detach())
            assert found.sums is not None
            assert found.counts is not None
            self.centroids.sums(self).add_sums(found.sums, found.counts)
        return Evaluated(found.total, found.cmi, found.gamma)

    def _plan(self, own_step: bool, collects: bool) -> few.Plan:
        return few.Plan(
            forms=self._forms(),
            reduction=self.options.reduction,
            decay=self.ratio.decay,
            weighted=self.options.prior == "uniform",
            embedding=not own_step,
            temperature=self.options.learn_temperature and not own_step,
            classes=self.centroids.learnable and self._classes_learn(own_step),
            separation=self.options.centroid_gradient == "ratio",
            observed=collects,
        )

    def _forms(self) -> functional.Forms:
        return functional.Forms(self.map, self.centroids.form, self.options.separation_direction)

    def _terms(self, z: Tensor, target: Tensor, *, own_step: bool) -> functional.Terms:
        learn = self._classes_learn(own_step)
        classes = self.centroids.activations(self)
        if not learn:
            classes = classes.detach()
        temperature = self.temperature.detach() if own_step else self.temperature
        forms = self._forms()

        def of(classes: Tensor) -> functional.Terms:
            given = z, self.centre.value, temperature, classes, target, self.gamma_weights
            return functional.ncmi_terms(*given, forms)

        terms = of(classes)
        if self.options.centroid_gradient == "cmi_only" and learn:
            return terms._replace(b=of(classes.detach()).b)
        return terms

    def _sample_weights(self, target: Tensor, dtype: torch.dtype) -> Tensor | None:
        uniform = self.options.prior == "uniform"
        return self.prior_weights[target].to(dtype) if uniform else None

    def _collect(self, z: Tensor, p: Tensor, target: Tensor) -> None:
        super()._collect(z, p, target)
        self.centroids.sums(self).collect(p, target)

    @torch.no_grad()
    def end_step(self) -> None:
        super().end_step()
        self.centroids.end_step(self)

    @torch.no_grad()
    def end_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch + 1)
        self.log_means.copy_(self.epoch_sums.take(self.log_means)[0])
        self.centroids.end_epoch(self)

    def _collect_class(self, phase: Phase, values: Tensor, log_p: Tensor, target: Tensor) -> None:
        self.fit_sums.collect(values, target.expand(values.shape[:-1]))

    def samples_of(self, phase: Phase) -> Literal["train", "augmented"]:
        augmented = self.options.class_mean_samples == "augmented"
        return "augmented" if augmented and phase == "classes" else "train"

    def _fitted_log_p(self, phase: Phase, z: Tensor) -> Tensor:
        if phase == "start" or self.options.class_mean_norm == "l2":
            return self._log_p(z)
        shifted = z - self.centre.value.to(z.dtype).unsqueeze(-2)
        length = shifted.abs().sum(-1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
        return log_map(shifted / length / self._temperature(z.dtype), self.map)

    def _class_means(self, total: Tensor, count: Tensor) -> Tensor:
        return functional.class_means(total, count, self.log_means.to(total.dtype))

    def raw_scores(self, embedding: Tensor) -> Tensor:
        """−KL(p ‖ s_y), whose largest is the smallest divergence; computed in float64."""
        divergences = functional.kl_all_classes(
            self.exact_log_p(embedding), self.log_means.double()
        )
        return -divergences.to(at_least_float32(embedding).dtype)

    @torch.no_grad()
    def smallest_separation(self) -> float:
        """The smallest KL(q_v ‖ q_y) of two classes: near zero, they cannot be told apart."""
        return self._separation().item()

    def _separation(self) -> Tensor:
        log_q = self.log_centroids().double()
        return smallest_divergence(log_q, self.classes)

    def _plateau(self) -> Tensor:
        others = self.gamma_weights.sum(-1, keepdim=True) - self.gamma_weights
        share = self.prior_weights * self.class_counts / self.class_counts.sum(-1, keepdim=True)
        if self.options.reduction == "mean_of_ratios":
            return (share / others).sum(-1)
        return share.sum(-1) / (share * others).sum(-1)

    @property
    def remedy(self) -> str:
        options = self.options
        if options.space == "logits":
            return "space: features, or reduction: ema_ratio"
        if options.initial_centroids == "corners" or options.separation_direction == "kl_q_p":
            return "initial_centroids: simplex, centroid_scale: null, separation_direction: kl_p_q"
        return "another training.learning_rate, or another temperature"


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return NCMI(embedding_dim, class_counts, options)
