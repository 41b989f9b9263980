"""NCMI: normalised conditional mutual information as a training loss (arXiv 2601.02543).

The embedding itself becomes a distribution over its m dimensions; a class is a distribution q_y of
the same kind, learnt or fixed; no classifier follows:

    u = (z − c) / ‖z − c‖,   p = NSF(u / τ)
    a_n = KL(p_n ‖ q_{y_n})                     its mean is the conditional mutual information
    b_n = Σ_{v≠y_n} w_v · KL(q_v ‖ p_n)         its mean is the separation Γ
    loss = mean of a_n / b_n  |  mean a / mean b  |  the latter with running means

Inference takes class means s_y of p over the training part: argmin_y KL(p ‖ s_y).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from wsi_ncmi.losses import functional
from wsi_ncmi.losses.centroids import initial_centroids
from wsi_ncmi.losses.distributed import ranks
from wsi_ncmi.losses.objective import LossOutput, Objective, at_least_float32, full_precision
from wsi_ncmi.losses.options import check_choices, check_decay, check_positive
from wsi_ncmi.losses.running import Centre, ClassSums, RunningRatio

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
            corners. `ema`: running means of batches. `epoch_mean`: class means of the previous
            epoch.
        centroid_gradient: `ratio`: the gradient of q runs through a and b. `cmi_only`: through a
            alone.
        schedule: `alternating`: a step of q with p fixed, then a step of the network with q fixed.
            `simultaneous`: both at once.
        centroid_start_epoch: first epoch, counted from 0, in which learnable q move.
        centroid_decay: decay of `ema` centroids, 0 to below 1.
        centroid_scale: length of the initial ξ, above 0.
        centre: the c that is subtracted from the embedding. `frozen`: the training mean before
            training. `ema`: a running mean. `none`: nothing.
        centre_decay: decay of an `ema` centre, 0 to below 1.
        ratio_decay: decay of the running means of `ema_ratio`, 0 to below 1.
        map: `nsf`: normalised sigmoid. `softmax`: softmax.
        prior: class weights in the expectation. `empirical`: the classes' shares. `uniform`: all
            classes count equally, which suits macro-F1 under imbalance.
        separation_weights: w_v in b. `uniform`: 1/C each. `empirical`: the classes' shares of the
            training part.
        separation_direction: `kl_q_p`: KL(q ‖ p) in b, as the public code. `kl_p_q`: KL(p ‖ q), as
            in a.
        space: `features`: p is over the embedding itself. `logits`: p is over the C logits of a
            linear layer.
        seed: random seed of the initial ξ where the embedding has fewer than C − 1 dimensions.
    """

    temperature: float = 0.2
    learn_temperature: bool = False
    reduction: Literal["mean_of_ratios", "ratio_of_means", "ema_ratio"] = "mean_of_ratios"
    centroids: Literal["learnable", "fixed", "ema", "epoch_mean"] = "learnable"
    centroid_gradient: Literal["ratio", "cmi_only"] = "ratio"
    schedule: Literal["alternating", "simultaneous"] = "alternating"
    centroid_start_epoch: int = 0
    centroid_decay: float = 0.99
    centroid_scale: float = 10.0
    centre: Literal["frozen", "ema", "none"] = "frozen"
    centre_decay: float = 0.999999
    ratio_decay: float = 0.99
    map: Literal["nsf", "softmax"] = "nsf"
    prior: Literal["empirical", "uniform"] = "empirical"
    separation_weights: Literal["uniform", "empirical"] = "uniform"
    separation_direction: Literal["kl_q_p", "kl_p_q"] = "kl_q_p"
    space: Literal["features", "logits"] = "features"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "temperature", "centroid_scale")
        check_decay(self, "centroid_decay", "centre_decay", "ratio_decay")
        if self.centroid_start_epoch < 0:
            found = self.centroid_start_epoch
            raise ValueError(f"centroid_start_epoch must be 0 or more, found {found}")


class NCMI(Objective):
    """The objective; its state: ξ or q, centre, temperature, running ratio, class means."""

    prior_weights: Tensor
    gamma_weights: Tensor
    epoch: Tensor
    log_means: Tensor
    log_q: Tensor
    xi: Tensor
    log_temperature: Tensor

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        super().__init__(embedding_dim, class_counts)
        self.options = options = options or Options()
        logits = options.space == "logits"
        if embedding_dim < 2 and not logits:
            raise ValueError(f"NCMI needs an embedding of 2 or more dimensions: {embedding_dim}")
        self.space = nn.Linear(embedding_dim, self.classes) if logits else nn.Identity()
        self.dim = self.classes if logits else embedding_dim
        self._register_classes()
        self._register_weights()
        self._hold(
            "log_temperature", torch.tensor(options.temperature).log(), options.learn_temperature
        )
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.centre = Centre(self.dim, options.centre_decay if options.centre == "ema" else None)
        self.ratio = RunningRatio(options.ratio_decay if options.reduction == "ema_ratio" else 0.0)
        self.epoch_sums = ClassSums(self.classes, self.dim)

    def _register_classes(self) -> None:
        options = self.options
        xi = options.centroid_scale * initial_centroids(self.classes, self.dim, options.seed)
        log_q = self._log_map(xi)
        if options.centroids in ("learnable", "fixed"):
            self._hold("xi", xi, options.centroids == "learnable")
        else:
            self.register_buffer("log_q", log_q)
        if options.centroids == "ema":
            self.step_sums = ClassSums(self.classes, self.dim)
        self.register_buffer("log_means", log_q.clone())

    def _register_weights(self) -> None:
        shares = self.class_counts / self.class_counts.sum()
        uniform = torch.full_like(shares, 1 / self.classes)
        prior = uniform / shares.clamp_min(torch.finfo(shares.dtype).tiny)
        empirical_prior = self.options.prior == "empirical"
        self.register_buffer("prior_weights", torch.ones_like(prior) if empirical_prior else prior)
        empirical_gamma = self.options.separation_weights == "empirical"
        self.register_buffer("gamma_weights", shares if empirical_gamma else uniform)

    def _hold(self, name: str, value: Tensor, learn: bool) -> None:
        if learn:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    @property
    def temperature(self) -> Tensor:
        """τ, a scalar."""
        return self.log_temperature.exp()

    def _log_map(self, activation: Tensor) -> Tensor:
        if self.options.map == "softmax":
            return functional.centred(activation)
        return functional.centred_log_nsf(activation)

    def log_p(self, embedding: Tensor) -> Tensor:
        """Centred logs [B, m] of the embedding's distribution, in float32 or float64."""
        z = self.space(at_least_float32(embedding))
        unit = functional.unit_vectors(z - self.centre.value.to(z.dtype))
        return self._log_map(unit / self.temperature.to(z.dtype))

    def log_centroids(self) -> Tensor:
        """Centred logs [C, m] of the class distributions q that training compares with."""
        learnt = self.options.centroids in ("learnable", "fixed")
        return self._log_map(self.xi) if learnt else self.log_q

    def _class_activations(self) -> Tensor:
        if self.options.centroids not in ("learnable", "fixed"):
            return self.log_q
        if self.options.centroid_start_epoch == 0 or self.options.centroids == "fixed":
            return self.xi
        # The gate is a factor and not a branch, so that stacked objectives can be mapped over.
        moves = (self.epoch >= self.options.centroid_start_epoch).to(self.xi.dtype)
        return self.xi.detach() + moves * (self.xi - self.xi.detach())

    @property
    def _forms(self) -> functional.Forms:
        learnt = self.options.centroids in ("learnable", "fixed")
        classes = self.options.map if learnt else "softmax"  # logs of a distribution
        return functional.Forms(self.options.map, classes, self.options.separation_direction)

    @torch.no_grad()
    def start(self, embeddings: Tensor, targets: Tensor) -> None:
        if self.options.centre != "none":
            self.centre.start(self.space(at_least_float32(embeddings)))
        self.fit_classes(embeddings, targets)
        if self.options.centroids in ("ema", "epoch_mean"):
            self.log_q.copy_(self.log_means)
        log.info("smallest KL between two class distributions: %.3g", self.smallest_separation())

    def state_loss(self, embedding: Tensor, target: Tensor) -> Tensor | None:
        options = self.options
        if options.centroids != "learnable" or options.schedule == "simultaneous":
            return None
        with full_precision(embedding):
            z = self.space(at_least_float32(embedding)).detach()
            given = z, self._class_activations(), target, self.temperature.detach()
            terms = self._terms(*given, learn=True)
            return self._reduce(terms, target, update=False).to(z.dtype)

    def forward(self, embedding: Tensor, target: Tensor) -> LossOutput:
        self.check_inputs(embedding, target)
        with full_precision(embedding):
            z = self.space(at_least_float32(embedding))
            classes = self._class_activations()
            learn = self.options.schedule == "simultaneous"
            if not learn:
                classes = classes.detach()
            terms = self._terms(z, classes, target, self.temperature, learn=learn)
            total = self._reduce(terms, target, update=self.training).to(z.dtype)
            if self.training:
                self._collect(terms.excess, z.detach(), target)
        parts = {"cmi": terms.a.detach().mean(), "gamma": terms.b.detach().mean()}
        return LossOutput(total, parts)

    def _terms(
        self, z: Tensor, classes: Tensor, target: Tensor, temperature: Tensor, *, learn: bool
    ) -> functional.Terms:
        def of(classes: Tensor) -> functional.Terms:
            centre, weights = self.centre.value, self.gamma_weights
            given = z, centre, temperature, classes, target, weights
            return functional.ncmi_terms(*given, self._forms)

        terms = of(classes)
        if self.options.centroid_gradient == "cmi_only" and learn:
            return terms._replace(b=of(classes.detach()).b)
        return terms

    def _reduce(self, terms: functional.Terms, target: Tensor, *, update: bool) -> Tensor:
        reduction = self.options.reduction
        weights = None
        if self.options.prior == "uniform":
            weights = self.prior_weights[target].to(terms.a.dtype)
        if reduction == "mean_of_ratios" or (reduction == "ratio_of_means" and ranks() == 1):
            return functional.ncmi(terms.a, terms.b, reduction, weights)
        # The quotient of all processes' means: each one's own would not average to it.
        pi = 1.0 if weights is None else weights
        means = (pi * terms.a.detach()).mean(), (pi * terms.b.detach()).mean()
        averages = self.ratio.averages(*means, update=update and reduction == "ema_ratio")
        return functional.ncmi(terms.a, terms.b, "ema_ratio", weights, averages)

    @torch.no_grad()
    def _collect(self, excess: Tensor, z: Tensor, target: Tensor) -> None:
        sums = self.step_sums if self.options.centroids == "ema" else self.epoch_sums
        sums.collect(excess, target)
        self.centre.collect(z)

    @torch.no_grad()
    def end_step(self) -> None:
        self.centre.move()
        if self.options.centroids == "ema":
            self.epoch_sums.add(self.step_sums)
            self._move_centroids(self.options.centroid_decay)

    def _move_centroids(self, decay: float) -> None:
        old = torch.expm1(self.log_q)
        seen, count = self.step_sums.take(self.log_q)
        mixed = decay * old + (1 - decay) * torch.expm1(seen)
        self.log_q.copy_(torch.where((count > 0)[:, None], functional.log_ratio(mixed), self.log_q))

    @torch.no_grad()
    def end_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch + 1)
        self.log_means.copy_(self.epoch_sums.take(self.log_means)[0])
        if self.options.centroids == "epoch_mean":
            self.log_q.copy_(self.log_means)

    @torch.no_grad()
    def fit_classes(self, embeddings: Tensor, targets: Tensor) -> None:
        with full_precision(embeddings):
            excess = torch.expm1(self.log_p(embeddings))
        sums = ClassSums(self.classes, self.dim).to(excess)
        sums.collect(excess, targets)
        self.log_means.copy_(sums.take(self.log_means.to(excess.dtype))[0])

    def raw_scores(self, embedding: Tensor) -> Tensor:
        """−KL(p ‖ s_y), whose largest is the smallest divergence."""
        with full_precision(embedding):
            log_p = self.log_p(embedding)
            return -functional.kl_all_classes(log_p, self.log_means.to(log_p.dtype))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups: dict[str, list[nn.Parameter]] = {"network": [], "centroids": []}
        for name, parameter in self.named_parameters():
            groups["centroids" if name == "xi" else "network"].append(parameter)
        return groups

    @torch.no_grad()
    def smallest_separation(self) -> float:
        """The smallest KL(q_v ‖ q_y) of two classes: near zero, they cannot be told apart."""
        log_q = self.log_centroids()
        pairs = functional.kl_all_classes(log_q, log_q)
        pairs.fill_diagonal_(float("inf"))
        return pairs.min().item()


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return NCMI(embedding_dim, class_counts, options)
