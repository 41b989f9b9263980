"""Both terms of NCMI on plain sums: each value and gradient beside its equation.

    a_n = KL(p_n ‖ q_y),   b_n = Σ_{v≠y} w_v · KL(q_v ‖ p_n)   or with KL(p_n ‖ q_v)

Here y is the class of sample n; f_n and g_n [n, 1] are the loss's gradients by a_n and b_n. Every
gradient is one by a logarithm, up to multiples of the distribution itself: `maps.through_map` takes
those off. Sums over classes are pooled once a step, so that no B × C × m is needed.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from wsi_ncmi.losses.functional.divergences import Direction
from wsi_ncmi.losses.functional.maps import Distribution

Sums = tuple[Tensor, Tensor]


class Pairs(NamedTuple):
    """Samples beside their own classes: distributions [n, m] and w_y [n, 1]."""

    p: Tensor
    log_p: Tensor
    q: Tensor
    log_q: Tensor
    weight: Tensor


def own(pairs: Pairs) -> Tensor:
    """a_n = Σ p (ln p − ln q_y), [n]."""
    return (pairs.p * (pairs.log_p - pairs.log_q)).sum(-1)


def own_by_sample(pairs: Pairs, f: Tensor) -> Tensor:
    """f ∂a_n/∂ln p = f p (ln p − ln q_y), [n, m]."""
    return f * pairs.p * (pairs.log_p - pairs.log_q)


def own_by_class(pairs: Pairs, f: Tensor) -> Tensor:
    """f ∂a_n/∂ln q_y = f (q_y − p), [n, m]."""
    return f * (pairs.q - pairs.p)


class Separation(ABC):
    """b_n in one direction: a difference of two sums, and its gradients."""

    @abstractmethod
    def pool(self, classes: Distribution, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Of classes [c, m]: their weighted sum [m], and each one's share of b's first sum [c]."""

    @abstractmethod
    def value(self, pairs: Pairs, pooled: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """The two sums of which b_n is the difference, [n] each; `others`: shares of v ≠ y [n]."""

    @abstractmethod
    def by_sample(self, pairs: Pairs, pooled: Tensor, weights: Tensor, g: Tensor) -> Tensor:
        """g ∂b_n/∂ln p, [n, m]."""

    @abstractmethod
    def over_samples(
        self, samples: Distribution, pooled: Tensor, weights: Tensor, g: Tensor
    ) -> Sums:
        """What `by_own_class` and `by_class` need to know of all samples."""

    @abstractmethod
    def by_own_class(self, pairs: Pairs, sums: Sums, f: Tensor, g: Tensor) -> Tensor:
        """By ln q_y: of a_n, and of b_n what `by_class` has too much, [n, m]."""

    @abstractmethod
    def by_class(self, classes: Distribution, sums: Sums, others: Tensor) -> Tensor:
        """Σ_n g_n ∂b_n/∂ln q_v / w_v as if y_n ≠ v for all n, [c, m]; `others`: G_v [c, 1]."""


class ClassToSample(Separation):
    """KL(q ‖ p), `kl_q_p`, with h_v = w_v Σ q_v ln q_v and S = Σ_v w_v q_v:

        b_n = Σ_{v≠y} h_v − Σ (S − w_y q_y) ln p
        ∂b_n/∂ln p = −(S − w_y q_y)
        Σ_n g_n ∂b_n/∂ln q_v = w_v q_v (G_v ln q_v − Σ_{n: y≠v} g_n ln p_n),   G_v = Σ_{n: y≠v} g_n

    In the last, logarithms are taken against ln s, s = S / Σ_v w_v: what all have in common takes
    no digits of the sums, which have the parameter's precision.
    """

    def pool(self, classes: Distribution, weights: Tensor) -> tuple[Tensor, Tensor]:
        """S and h."""
        q, log_q, _ = classes
        return weights @ q, (q * log_q).sum(-1) * weights

    def value(self, pairs: Pairs, pooled: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_{v≠y} h_v and Σ (S − w_y q_y) ln p."""
        return others, ((pooled - pairs.weight * pairs.q) * pairs.log_p).sum(-1)

    def by_sample(self, pairs: Pairs, pooled: Tensor, weights: Tensor, g: Tensor) -> Tensor:
        """−g (S − w_y q_y)."""
        return -g * (pooled - pairs.weight * pairs.q)

    def over_samples(
        self, samples: Distribution, pooled: Tensor, weights: Tensor, g: Tensor
    ) -> Sums:
        """Σ_n g_n ln(p_n / s) and ln s, [m] each."""
        log_s = (pooled / weights.sum()).log()
        return (g * (samples.log_p - log_s)).sum(0), log_s

    def by_own_class(self, pairs: Pairs, sums: Sums, f: Tensor, g: Tensor) -> Tensor:
        """f (q_y − p) + w_y g q_y ln(p / s)."""
        _, log_s = sums
        return own_by_class(pairs, f) + pairs.weight * g * pairs.q * (pairs.log_p - log_s)

    def by_class(self, classes: Distribution, sums: Sums, others: Tensor) -> Tensor:
        """q_v (G_v ln(q_v / s) − Σ_n g_n ln(p_n / s))."""
        common, log_s = sums
        return (others * (classes.log_p - log_s) - common) * classes.p


class SampleToClass(Separation):
    """KL(p ‖ q), `kl_p_q`, with W_y = Σ_{v≠y} w_v and L = Σ_v w_v ln q_v:

    b_n = W_y Σ p ln p − Σ (L − w_y ln q_y) p
    ∂b_n/∂ln p = p (W_y ln p − (L − w_y ln q_y))
    Σ_n g_n ∂b_n/∂ln q_v = w_v Σ_{n: y≠v} g_n (q_v − p_n)
    """

    def pool(self, classes: Distribution, weights: Tensor) -> tuple[Tensor, Tensor]:
        """L and w."""
        return weights @ classes.log_p, weights

    def value(self, pairs: Pairs, pooled: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """W_y Σ p ln p and Σ (L − w_y ln q_y) p."""
        size = others * (pairs.p * pairs.log_p).sum(-1)
        return size, ((pooled - pairs.weight * pairs.log_q) * pairs.p).sum(-1)

    def by_sample(self, pairs: Pairs, pooled: Tensor, weights: Tensor, g: Tensor) -> Tensor:
        """g p (W_y ln p − (L − w_y ln q_y))."""
        others = weights.sum() - pairs.weight
        return g * pairs.p * (others * pairs.log_p - (pooled - pairs.weight * pairs.log_q))

    def over_samples(
        self, samples: Distribution, pooled: Tensor, weights: Tensor, g: Tensor
    ) -> Sums:
        """Σ_n g_n p_n [m] and Σ_n g_n."""
        return (g * samples.p).sum(0), g.sum()

    def by_own_class(self, pairs: Pairs, sums: Sums, f: Tensor, g: Tensor) -> Tensor:
        """(f − w_y g) (q_y − p)."""
        return own_by_class(pairs, f - pairs.weight * g)

    def by_class(self, classes: Distribution, sums: Sums, others: Tensor) -> Tensor:
        """Σ_n g_n (q_v − p_n)."""
        common, total = sums
        return total * classes.p - common


DIRECTIONS: dict[Direction, Separation] = {"kl_q_p": ClassToSample(), "kl_p_q": SampleToClass()}
