"""What NCMI and its mixture share: p of an embedding, a training step, the ratio of two terms.

    u = (z − c) / ‖z − c‖,   p = map(u / τ)
    loss = mean of a_n / b_n  |  mean a / mean b  |  the latter with running means

What a_n and b_n are, each of them says itself.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from wsi_ncmi.losses import functional
from wsi_ncmi.losses.distributed import ranks
from wsi_ncmi.losses.functional.distributions import log_map
from wsi_ncmi.losses.functional.maps import Map
from wsi_ncmi.losses.functional.packing import Arrangement, far_apart
from wsi_ncmi.losses.functional.precision import at_least_float32, full_precision
from wsi_ncmi.losses.functional.ratios import Reduction
from wsi_ncmi.losses.objective import LossOutput, Objective, Phase
from wsi_ncmi.losses.running import Centre, ClassSums, RunningRatio

Schedule = Literal["alternating", "simultaneous"]
CentreKind = Literal["frozen", "ema", "none"]


class SharedOptions(Protocol):
    """What is read here of the options of both."""

    @property
    def temperature(self) -> float: ...
    @property
    def reduction(self) -> Reduction: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def centre(self) -> CentreKind: ...
    @property
    def centre_decay(self) -> float: ...
    @property
    def initial_centroids(self) -> Arrangement: ...
    @property
    def centroid_scale(self) -> float | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def ratio_decay(self) -> float: ...


class Evaluated(NamedTuple):
    """The loss [] of a step, and without gradient the means of a and b, []."""

    total: Tensor
    cmi: Tensor
    gamma: Tensor


class NCMIBase(Objective):
    """A subclass adds its state, calls `_add_running_state`, and says what a and b are.

    Args:
        dim: m of p, which need not be the embedding's.
    """

    map: Map = "nsf"
    class_passes: int = 1
    """Over the training part for inference's class means."""

    log_means: Tensor
    fit_sums: ClassSums
    passed: Tensor

    def __init__(
        self, embedding_dim: int, class_counts: Sequence[int], options: SharedOptions, dim: int
    ) -> None:
        super().__init__(embedding_dim, class_counts)
        self.options = options
        self.dim = dim
        if dim < 2:
            raise ValueError(f"NCMI needs an embedding of 2 or more dimensions: {dim}")

    def _add_running_state(self) -> None:
        options = self.options
        self.centre = Centre(self.dim, options.centre_decay if options.centre == "ema" else None)
        self.ratio = RunningRatio(options.ratio_decay if options.reduction == "ema_ratio" else 0.0)
        self.fit_sums = ClassSums(*self.log_means.shape, lasting=False)
        # Passes of the present phase that are done.
        self.register_buffer("passed", torch.zeros((), dtype=torch.int64), persistent=False)

    def _vectors(self, embedding: Tensor) -> Tensor:
        """The z [B, m] whose direction is looked at, in float32 or wider: the embedding itself.

        Called with autocast off.
        """
        return at_least_float32(embedding)

    def _temperature(self, dtype: torch.dtype) -> Tensor | float:
        """τ, for an array of this type."""
        return self.options.temperature

    def log_p(self, embedding: Tensor) -> Tensor:
        """Centred logs [B, m] of the embedding's distribution, in float32 or float64."""
        with full_precision(embedding):
            return self._log_p(self._vectors(embedding))

    def exact_log_p(self, embedding: Tensor) -> Tensor:
        """The same in float64 from the embedding on, for inference.

        Classes are told apart by differences of divergences, which may be a thousandth of the
        divergences themselves.
        """
        with full_precision(embedding):
            return self._log_p(self._vectors(embedding).double())

    def _log_p(self, z: Tensor) -> Tensor:
        unit = functional.unit_vectors(z - self.centre.value.to(z.dtype).unsqueeze(-2))
        return log_map(unit / self._temperature(z.dtype), self.map)

    def _training_passes(self, phase: Phase) -> int:
        return self.class_passes + self._looks_for_centre(phase)

    def _looks_for_centre(self, phase: Phase) -> bool:
        """Whether the phase's first pass takes the mean of the embeddings."""
        return phase == "start" and self.options.centre != "none"

    def _collect_training(self, phase: Phase, embeddings: Tensor, targets: Tensor) -> None:
        with full_precision(embeddings):
            z = self._vectors(embeddings).double()
            log_p = self._fitted_log_p(phase, z)
            values = torch.expm1(log_p)
            if self._looks_for_centre(phase):  # selected and not branched: objectives are stacked
                values = torch.where((self.passed == 0)[..., None, None], z, values)
            self._collect_class(phase, values, log_p, targets)

    def _finish_training(self, phase: Phase) -> None:
        total, count = self.fit_sums.take_sums()
        means = self._class_means(total, count)
        if self._looks_for_centre(phase):
            is_first = (self.passed == 0)[..., None]
            # With one bag alone z − c would be zero: the mean is that of many.
            mean = self._mean_of_all(total, count)
            self.centre.value.copy_(torch.where(is_first, mean, self.centre.value))
            means = torch.where(is_first[..., None], self.log_means, means)
        self.log_means.copy_(means)
        done = self.passed + 1
        self.passed.copy_(torch.where(done < self.passes(phase), done, 0))

    def _fitted_log_p(self, phase: Phase, z: Tensor) -> Tensor:
        """Centred logs of the p that a phase's class means are of."""
        return self._log_p(z)

    @abstractmethod
    def _collect_class(self, phase: Phase, values: Tensor, log_p: Tensor, target: Tensor) -> None:
        """Sum samples' values [n, m] by class in `fit_sums`; what weighs them follows from p."""

    def _mean_of_all(self, total: Tensor, count: Tensor) -> Tensor:
        """The samples' mean [m] from sums by class."""
        return total.sum(-2) / count.sum(-1, keepdim=True)

    @abstractmethod
    def _class_means(self, total: Tensor, count: Tensor) -> Tensor:
        """Centred logs of inference's class means, from sums of m·p − 1."""

    def state_loss(self, embedding: Tensor, target: Tensor) -> Tensor | None:
        if self.options.schedule == "simultaneous":
            return None
        with full_precision(embedding):
            return self._evaluate(self._vectors(embedding).detach(), target, own_step=True).total

    def forward(self, embedding: Tensor, target: Tensor) -> LossOutput:
        self.check_inputs(embedding, target)
        with full_precision(embedding):
            found = self._evaluate(self._vectors(embedding), target, own_step=False)
        parts = {"ncmi": found.total.detach(), "cmi": found.cmi, "gamma": found.gamma}
        return LossOutput(found.total, parts)

    @torch.no_grad()
    def watched(self) -> dict[str, Tensor]:
        """The smallest divergence of two classes' q, and the loss that divides no sample.

        Where the q have merged, a sample is as far from its own class as from any other:
        a_n = KL(p_n ‖ q) and b_n = W_{y_n} · KL(p_n ‖ q) with W_y = Σ_{v≠y} w_v, so that the loss
        is the mean of 1 / W_{y_n}: C/(C − 1) under uniform weights.
        """
        return {"separation": self._separation(), "plateau": self._plateau()}

    @abstractmethod
    def _separation(self) -> Tensor:
        """The smallest KL(q ‖ q′) of two distributions of different classes, a scalar."""

    def _plateau(self) -> Tensor:
        """The loss where classes are not divided, a scalar."""
        return torch.full_like(self.class_counts[..., 0], self.classes / (self.classes - 1))

    def _evaluate(self, z: Tensor, target: Tensor, *, own_step: bool) -> Evaluated:
        """The loss; in a training step of the network running means take what they need."""
        a, b, p = self._terms(z, target, own_step=own_step)
        collects = self.training and not own_step
        total = self._reduce(a, b, target, update=collects).to(z.dtype)
        if collects:
            self._collect(z.detach(), p, target)
        return Evaluated(total, a.detach().mean(), b.detach().mean())

    @abstractmethod
    def _terms(self, z: Tensor, target: Tensor, *, own_step: bool) -> tuple[Tensor, Tensor, Tensor]:
        """a and b [B], and the samples' p in the form [B, m] that `_collect` takes.

        Args:
            own_step: of the class distributions, with p fixed; else of the network.
        """

    def _classes_learn(self, own_step: bool) -> bool:
        """Whether the class distributions get a gradient in this step."""
        return own_step or self.options.schedule == "simultaneous"

    def _sample_weights(self, target: Tensor, dtype: torch.dtype) -> Tensor | None:
        """π [B] of the classes' prior; None: 1."""
        return None

    def _reduce(self, a: Tensor, b: Tensor, target: Tensor, *, update: bool) -> Tensor:
        reduction = self.options.reduction
        weights = self._sample_weights(target, a.dtype)
        if reduction == "mean_of_ratios" or (reduction == "ratio_of_means" and ranks() == 1):
            return functional.ncmi(a, b, reduction, weights)
        # The quotient of all processes' means: each one's own would not average to it.
        terms = (term.detach() for term in (a, b))
        means = [(term if weights is None else weights * term).mean() for term in terms]
        averages = self.ratio.averages(*means, update=update and reduction == "ema_ratio")
        return functional.ncmi(a, b, "ema_ratio", weights, averages)

    def _collect(self, z: Tensor, p: Tensor, target: Tensor) -> None:
        """What running means take from a training step."""
        self.centre.collect(z)

    def end_step(self) -> None:
        self.centre.move()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups: dict[str, list[nn.Parameter]] = {"network": [], "centroids": []}
        for name, parameter in self.named_parameters():
            groups["centroids" if name == "xi" else "network"].append(parameter)
        return groups


def initial_xi(count: int, dim: int, options: SharedOptions) -> Tensor:
    """Where `count` ξ start, [count, m]."""
    directions = far_apart(count, dim, options.seed, options.initial_centroids)
    return directions * (options.centroid_scale or 1 / options.temperature)


def smallest_divergence(log_q: Tensor, classes: int) -> Tensor:
    """The smallest KL(q ‖ q′) of two distributions of different classes.

    Args:
        log_q: centred logs [..., C·k, m], those of a class one after another.

    Returns:
        [...].
    """
    pairs = functional.kl_all_classes(log_q, log_q)
    owner = torch.arange(pairs.shape[-1], device=pairs.device) // (pairs.shape[-1] // classes)
    return pairs.masked_fill(owner[:, None] == owner, torch.inf).amin((-2, -1)).clamp_min(0)
