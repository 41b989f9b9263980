"""NCMI: normalised conditional mutual information as a training loss (arXiv 2601.02543).

The embedding itself becomes a distribution over its m dimensions; a class is a distribution q_y of
the same kind, learnt or fixed; no classifier follows:

    u = (z − c) / ‖z − c‖,   p = NSF(u / τ)
    a_n = KL(p_n ‖ q_{y_n})                     its mean is the conditional mutual information
    b_n = Σ_{v≠y_n} w_v · KL(q_v ‖ p_n)         its mean is the separation Γ
    loss = mean of a_n / b_n  |  mean a / mean b  |  the latter with running means

Inference takes class means s_y of p over the training part: argmin_y KL(p ‖ s_y).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.losses import functional
from wsi_ncmi.losses.objective import LossOutput, Objective

PACKING_STEPS = 300
PACKING_RATE = 0.1
PACKING_SHARPNESS = 20.0


@dataclass(frozen=True)
class Options:
    """Options of NCMI; docs/losses.md says where the sources differ and why these are the defaults.

    Attributes:
        temperature: τ of the map; a smaller one sharpens p.
        reduction: mean of the samples' ratios, ratio of the batch's means, or the latter with
            running means (so that small batches follow the large-batch ratio).
        centroids: learnable q (the paper), fixed corners, running means of batches, or the class
            means of the epoch before.
        centroid_gradient: whether q's gradient runs through both parts or the numerator only.
        schedule: a step of q with p fixed, then one of the network with q fixed; or both at once.
        centroid_start_epoch: first epoch in which learnable q move.
        centroid_decay: of `ema` centroids.
        centroid_scale: length of the initial ξ.
        centre: the c taken off: the training mean before training, a running mean, or nothing.
        centre_decay: of an `ema` centre.
        ratio_decay: of `ema_ratio`.
        map: normalised sigmoid, or softmax.
        prior: of the classes in the expectation; uniform suits macro-F1 under imbalance.
        separation_weights: w_v: 1/C each, or the classes' shares of the training part.
        seed: of the initial ξ when m is below C − 1.
    """

    temperature: float = 0.2
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
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, found {self.temperature}")
        for name in ("centroid_decay", "centre_decay", "ratio_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), found {getattr(self, name)}")


class NCMI(Objective):
    """The objective; state: ξ (parameter or buffer), centre, running ratio, class means."""

    centre: Tensor
    prior_weights: Tensor
    gamma_weights: Tensor
    running: Tensor
    epoch: Tensor
    step_sums: Tensor
    step_counts: Tensor
    step_embedding: Tensor
    epoch_sums: Tensor
    epoch_counts: Tensor
    log_means: Tensor
    log_q: Tensor
    xi: nn.Parameter

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: Options | None = None
    ) -> None:
        super().__init__(embedding_dim, class_counts)
        self.options = options or Options()
        if embedding_dim < 2:
            raise ValueError(f"NCMI needs an embedding of 2 or more dimensions: {embedding_dim}")
        corners = initial_centroids(self.classes, embedding_dim, self.options.seed)
        corners = corners * self.options.centroid_scale
        if self.options.centroids == "learnable":
            self.xi = nn.Parameter(corners)
        else:
            self.register_buffer("log_q", functional.centred_log_nsf(corners))
        self._register_state(functional.centred_log_nsf(corners))

    def _register_state(self, log_means: Tensor) -> None:
        classes, dim = log_means.shape
        shares = self.class_counts / self.class_counts.sum()
        uniform = torch.full_like(shares, 1 / classes)
        prior = uniform / shares.clamp_min(torch.finfo(shares.dtype).tiny)
        empirical_prior = self.options.prior == "empirical"
        self.register_buffer("prior_weights", torch.ones(classes) if empirical_prior else prior)
        empirical_gamma = self.options.separation_weights == "empirical"
        self.register_buffer("gamma_weights", shares if empirical_gamma else uniform)
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("running", torch.zeros(3))  # mean a, mean b, weight of both
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.register_buffer("step_sums", torch.zeros(classes, dim))
        self.register_buffer("step_counts", torch.zeros(classes))
        self.register_buffer("step_embedding", torch.zeros(dim))
        self.register_buffer("epoch_sums", torch.zeros(classes, dim))
        self.register_buffer("epoch_counts", torch.zeros(classes))
        self.register_buffer("log_means", log_means.clone())

    def log_p(self, embedding: Tensor) -> Tensor:
        """Centred logs [B, m] of the embedding's distribution, in float32 or float64."""
        z = embedding if embedding.dtype == torch.float64 else embedding.float()
        unit = functional.unit_vectors(z - self.centre.to(z.dtype))
        activation = unit / self.options.temperature
        if self.options.map == "softmax":
            return functional.centred(activation)
        return functional.centred_log_nsf(activation)

    def log_centroids(self) -> Tensor:
        """Centred logs [C, m] of the class distributions q that training compares with."""
        if self.options.centroids != "learnable":
            return self.log_q
        # The gate is a factor and not a branch, so that stacked objectives can be mapped over.
        moves = (self.epoch >= self.options.centroid_start_epoch).to(self.xi.dtype)
        xi = self.xi.detach() + moves * (self.xi - self.xi.detach())
        return functional.centred_log_nsf(xi)

    @torch.no_grad()
    def start(self, embeddings: Tensor, targets: Tensor) -> None:
        if self.options.centre != "none":
            self.centre.copy_(embeddings.float().mean(0))
        self.fit_classes(embeddings, targets)
        if self.options.centroids in ("ema", "epoch_mean"):
            self.log_q.copy_(self.log_means)

    def state_loss(self, embedding: Tensor, target: Tensor) -> Tensor | None:
        options = self.options
        if options.centroids != "learnable" or options.schedule == "simultaneous":
            return None
        with torch.autocast(embedding.device.type, enabled=False):
            log_p = self.log_p(embedding.detach())
            a, b = self._terms(log_p, self.log_centroids(), target)
            return self._reduce(a, b, target, update=False)

    def forward(self, embedding: Tensor, target: Tensor) -> LossOutput:
        self.check_inputs(embedding, target)
        with torch.autocast(embedding.device.type, enabled=False):
            log_p = self.log_p(embedding)
            log_q = self.log_centroids()
            if self.options.schedule == "alternating":
                log_q = log_q.detach()
            a, b = self._terms(log_p, log_q, target)
            total = self._reduce(a, b, target, update=self.training)
            if self.training:
                self._collect(log_p.detach(), embedding.detach(), target)
        parts = {"cmi": a.detach().mean(), "gamma": b.detach().mean()}
        return LossOutput(total, parts)

    def _terms(self, log_p: Tensor, log_q: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        log_q = log_q.to(log_p.dtype)
        in_gamma = log_q.detach() if self.options.centroid_gradient == "cmi_only" else log_q
        weights = self.gamma_weights.to(log_p.dtype)
        a = functional.kl_own_class(log_p, log_q, target)
        return a, functional.separation(log_p, in_gamma, target, weights)

    def _reduce(self, a: Tensor, b: Tensor, target: Tensor, *, update: bool) -> Tensor:
        weight = self.prior_weights[target].to(a.dtype)
        if self.options.reduction == "mean_of_ratios":
            return (weight * a / b).mean()
        mean_a, mean_b = (weight * a).mean(), (weight * b).mean()
        if self.options.reduction == "ratio_of_means":
            return mean_a / mean_b
        average = self._running_means(mean_a.detach(), mean_b.detach(), update)
        ratio = average[0] / average[1]
        gradient = (mean_a - ratio * mean_b) / average[1]
        return ratio + gradient - gradient.detach()

    def _running_means(self, a: Tensor, b: Tensor, update: bool) -> Tensor:
        # Bias-corrected, and updated before use: the first step is the batch's own ratio.
        decay = self.options.ratio_decay
        now = torch.stack([a, b, torch.ones_like(a)]).to(self.running.dtype)
        running = decay * self.running + (1 - decay) * now
        if update:
            self.running.copy_(running)
        return (running[:2] / running[2]).to(a.dtype)

    @torch.no_grad()
    def _collect(self, log_p: Tensor, embedding: Tensor, target: Tensor) -> None:
        sums, counts = functional.class_sums(log_p, target, self.classes)
        self.step_sums.add_(sums.to(self.step_sums.dtype))
        self.step_counts.add_(counts.to(self.step_counts.dtype))
        self.step_embedding.add_(embedding.sum(0).to(self.step_embedding.dtype))

    @torch.no_grad()
    def end_step(self) -> None:
        count = self.step_counts.sum()
        if self.options.centroids == "ema":
            self._move_centroids(self.options.centroid_decay)
        if self.options.centre == "ema":
            mean = self.step_embedding / count.clamp_min(1)
            moved = self.centre.lerp(mean, 1 - self.options.centre_decay)
            self.centre.copy_(torch.where(count > 0, moved, self.centre))
        self.epoch_sums.add_(self.step_sums)
        self.epoch_counts.add_(self.step_counts)
        for buffer in (self.step_sums, self.step_counts, self.step_embedding):
            buffer.zero_()

    def _move_centroids(self, decay: float) -> None:
        old = torch.expm1(self.log_q)
        seen = functional.class_means(self.step_sums, self.step_counts, self.log_q)
        mixed = decay * old + (1 - decay) * torch.expm1(seen)
        present = (self.step_counts > 0)[:, None]
        self.log_q.copy_(torch.where(present, functional.log_ratio(mixed), self.log_q))

    @torch.no_grad()
    def end_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch + 1)
        self.log_means.copy_(
            functional.class_means(self.epoch_sums, self.epoch_counts, self.log_means)
        )
        if self.options.centroids == "epoch_mean":
            self.log_q.copy_(self.log_means)
        self.epoch_sums.zero_()
        self.epoch_counts.zero_()

    @torch.no_grad()
    def fit_classes(self, embeddings: Tensor, targets: Tensor) -> None:
        with torch.autocast(embeddings.device.type, enabled=False):
            sums, counts = functional.class_sums(self.log_p(embeddings), targets, self.classes)
        self.log_means.copy_(functional.class_means(sums, counts, self.log_means))

    def raw_scores(self, embedding: Tensor) -> Tensor:
        """−KL(p ‖ s_y), whose largest is the smallest divergence."""
        with torch.autocast(embedding.device.type, enabled=False):
            log_p = self.log_p(embedding)
            return -functional.kl_all_classes(log_p, self.log_means.to(log_p.dtype))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        learnt = [self.xi] if self.options.centroids == "learnable" else []
        return {"network": [], "centroids": learnt}

    @torch.no_grad()
    def smallest_separation(self) -> float:
        """The smallest KL(q_v ‖ q_y) of two classes: near zero, they cannot be told apart."""
        log_q = self.log_centroids()
        pairs = functional.kl_all_classes(log_q, log_q)
        pairs.fill_diagonal_(float("inf"))
        return pairs.min().item()


def initial_centroids(classes: int, dim: int, seed: int) -> Tensor:
    """Unit vectors [C, m] far apart: corners, a simplex at m = C − 1, else packed ones."""
    if dim >= classes:
        return torch.eye(classes, dim)
    if dim == classes - 1:
        return _simplex(classes)
    return _packed(classes, dim, seed)


def _simplex(classes: int) -> Tensor:
    centred = torch.eye(classes, dtype=torch.float64) - 1 / classes
    left, singular, _ = torch.linalg.svd(centred)
    return F.normalize((left * singular)[:, : classes - 1], dim=-1).float()


def _packed(classes: int, dim: int, seed: int) -> Tensor:
    # A smooth stand-in for the largest cosine is lowered by gradient descent on the sphere.
    generator = torch.Generator().manual_seed(seed)
    points = F.normalize(torch.randn(classes, dim, generator=generator), dim=-1)
    with torch.enable_grad():
        for _ in range(PACKING_STEPS):
            points = points.detach().requires_grad_()
            cosines = points @ points.T - 2 * torch.eye(classes)
            (torch.logsumexp(PACKING_SHARPNESS * cosines, (0, 1)) / PACKING_SHARPNESS).backward()
            assert points.grad is not None
            points = F.normalize(points.detach() - PACKING_RATE * points.grad, dim=-1)
    return points.detach()


def build(embedding_dim: int, class_counts: Sequence[int], options: Options) -> Objective:
    return NCMI(embedding_dim, class_counts, options)
