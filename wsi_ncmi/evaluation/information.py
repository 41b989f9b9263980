"""CMI, Γ and NCMI of any trained classifier, from its log-probabilities and the true classes.

P_n is the distribution over the C classes that a sample is given, Q_y the mean of P over class y:

    a_n = KL(P_n ‖ Q_{y_n})                            CMI = mean a_n: how dispersed classes are
    b_n = (1/N) Σ_{j: y_j ≠ y_n} H(P_n, P_j)           Γ = mean b_n: how far apart they are
    b′_n = (1/C) Σ_{v ≠ y_n} KL(Q_v ‖ P_n)             Γ′ = mean b′_n, with the class means
    NCMI = CMI / Γ,   NCMI′ = CMI / Γ′

H(P, Q) = −Σ P ln Q, all in nats. Γ is CMIC-DL's E[1{Y≠V} H(P_X, P_U)] over two independent draws
of the samples (a sample meets itself, with nothing to add), NCMI the metric of that paper (Yang et
al. 2023, arXiv 2309.09123). Γ′ is the kind that the NCMI loss divides by (arXiv 2601.02543), here
over classes instead of feature dimensions.

They describe predictions and rank no classifiers. All of them depend on the scale of the scores: a
temperature that leaves every decision as it is changes them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import log_softmax

from wsi_ncmi.evaluation.metrics import Floats, Ints, row_blocks

MEASURES: Final = ("cmi", "gamma", "ncmi", "centroid_gamma", "centroid_ncmi")
# Stands for a probability of exactly 0, whose logarithm Γ would multiply with all others.
SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Information:
    """Terms of every sample, from which every mean follows; a ratio to a Γ of 0 is NaN.

    Attributes:
        target: class indices `[N]`.
        n_classes: C.
        divergence: a_n `[N]`, the sample's part of CMI: which samples are far from their class.
        separation: b_n `[N]`, its part of Γ.
        centroid_separation: b′_n `[N]`, its part of Γ′.
    """

    target: Ints
    n_classes: int
    divergence: Floats
    separation: Floats
    centroid_separation: Floats

    @property
    def cmi(self) -> float:
        return float(self.divergence.mean())

    @property
    def gamma(self) -> float:
        return float(self.separation.mean())

    @property
    def ncmi(self) -> float:
        return _ratio(self.cmi, self.gamma)

    @property
    def centroid_gamma(self) -> float:
        return float(self.centroid_separation.mean())

    @property
    def centroid_ncmi(self) -> float:
        return _ratio(self.cmi, self.centroid_gamma)

    @property
    def measures(self) -> dict[str, float]:
        """Every one of MEASURES."""
        return {name: getattr(self, name) for name in MEASURES}

    def of_class(self, index: int) -> "Information":
        """The same of one class's samples (all NaN where it has none)."""
        own = self.target == index
        terms = (self.divergence, self.separation, self.centroid_separation)
        if not own.any():
            return Information(self.target[own], self.n_classes, *[np.full(1, np.nan)] * 3)
        return Information(self.target[own], self.n_classes, *(term[own] for term in terms))


def information(log_probabilities: Floats, target: Ints) -> Information:
    """CMI, Γ and NCMI in time and memory N × C: no pair is looked at by itself.

    Σ_j H(P_n, P_j) over other classes is −P_n · (sum of ln P over them), and Γ′ is linear in ln P_n
    too. A class without samples has no mean and is left out of Γ′, whose C is then the number of
    classes that occur.

    Args:
        log_probabilities: `[N, C]`, finite: of scores `log_softmax`, of probabilities
            `log_probabilities`. Instances of bags are samples like any others, with their bags'
            classes.
        target: class indices `[N]`.

    Raises:
        ValueError: shapes, a value that is not finite, labels out of range, or a single class.
    """
    log_p = np.asarray(log_probabilities, dtype=np.float64)
    target = np.asarray(target, dtype=np.int64)
    _check(log_p, target)
    n, classes = log_p.shape
    counts = np.bincount(target, minlength=classes)
    log_q = _log_class_means(log_p, target, counts)
    log_sums = np.stack([log_p[target == c].sum(0) for c in range(classes)])
    others = log_sums.sum(0) - log_sums
    q = np.exp(log_q) * (counts > 0)[:, None]
    q_log_q = (q * log_q).sum(1)
    # Σ_v KL(Q_v ‖ P_n) = Σ_v Q_v · ln Q_v − (Σ_v Q_v) · ln P_n over the other classes v.
    q_others, q_log_q_others = q.sum(0) - q, q_log_q.sum() - q_log_q
    a, b, c = (np.empty(n) for _ in range(3))
    for rows in row_blocks(log_p):  # what is made on the way is several times as large
        own, classes_of = log_p[rows], target[rows]
        a[rows] = _kl_terms(own, log_q[classes_of]).sum(1)
        b[rows] = -np.einsum("nc,nc->n", np.exp(own), others[classes_of]) / n
        kl_others = np.einsum("nc,nc->n", q_others[classes_of], own)
        c[rows] = q_log_q_others[classes_of] - kl_others
    return Information(target, classes, a, b, np.maximum(c, 0) / np.count_nonzero(counts))


def log_probabilities(probabilities: Floats) -> Floats:
    """ln of probabilities `[N, C]`, each row scaled to a sum of 1.

    A probability of exactly 0 becomes the smallest normal float64 (2.2e-308): it then counts with
    708 nats where Γ asks for its logarithm. Scores, which have no zeros, are the better input.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    return np.asarray(log_softmax(np.log(np.maximum(probabilities, SMALLEST)), axis=-1))


def _ratio(cmi: float, gamma: float) -> float:
    return cmi / gamma if gamma > 0 else float("nan")


def _check(log_p: Floats, target: Ints) -> None:
    if log_p.ndim != 2 or target.shape != log_p.shape[:1] or log_p.size == 0:
        raise ValueError(
            f"expected log-probabilities [N, C] and classes [N] with N and C above 0, found "
            f"{list(log_p.shape)} and {list(target.shape)}"
        )
    if not np.isfinite(log_p).all():
        row, column = np.argwhere(~np.isfinite(log_p))[0]
        raise ValueError(
            f"log-probabilities must be finite, found {log_p[row, column]} in row {row}, "
            f"class {column}"
        )
    if target.min() < 0 or target.max() >= log_p.shape[1]:
        raise ValueError(
            f"classes must lie in 0..{log_p.shape[1] - 1}, found {target.min()}..{target.max()}"
        )
    if (target == target[0]).all():
        raise ValueError(
            f"all {len(target)} samples are of class {target[0]}: Γ compares classes and needs "
            "two or more"
        )


def _log_class_means(log_p: Floats, target: Ints, counts: Ints) -> Floats:
    """ln Q `[C, C]`; zeros for a class without samples."""
    log_q = np.zeros((len(counts), log_p.shape[1]))
    for c in np.flatnonzero(counts):
        log_q[c] = np.logaddexp.reduce(log_p[target == c]) - np.log(counts[c])
    return log_q


def _kl_terms(log_p: Floats, log_q: Floats) -> Floats:
    """p (e^s − 1 − s) with s = ln(q/p): they sum to KL(p ‖ q), and none is below 0.

    Near s = 0 that is a difference of small numbers; elsewhere it is q − p − p s, in which e^s
    cannot overflow.
    """
    s = log_q - log_p
    p, near = np.exp(log_p), np.abs(s) < 1
    small = np.where(near, s, 0)
    terms = np.where(near, p * (np.expm1(small) - small), np.exp(log_q) - p - p * s)
    return np.asarray(np.maximum(terms, 0))
