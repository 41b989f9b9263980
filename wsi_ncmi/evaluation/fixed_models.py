"""Statistics of these trained models: how sure is what they differ in on other test samples?

They take the models as given. Another training would give other models, so none of them says
whether one way of training is better than the other; for that, see `primary`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.stats import rankdata

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.bootstrap import Estimate
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.evaluation.samples import Arm, Samples


@dataclass(frozen=True)
class Resampled:
    """An arm minus its reference, by resamples of patients.

    Attributes:
        p_value: two-sided, from the share of resamples on the other side of zero.
    """

    difference: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(arm: Estimate, reference: Estimate, confidence: float) -> Resampled:
    """The difference of two estimates that `bootstrap` made together, with percentiles.

    The p-value counts the observed data among the resamples, so it is never 0.
    """
    paired = Estimate(arm.seeds - reference.seeds, arm.resamples - reference.resamples)
    defined = paired.resamples[~np.isnan(paired.resamples)]
    return Resampled(paired.value, *paired.interval(confidence), _two_sided(defined))


def _two_sided(differences: Floats) -> float:
    if not len(differences):
        return float("nan")
    tail = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return float(min(1.0, 2 * (tail + 1) / (len(differences) + 1)))


@dataclass(frozen=True)
class Discordance:
    """Samples that one of two models alone classifies rightly, with McNemar's exact p-value."""

    arm_alone: int
    reference_alone: int
    p_value: float


def mcnemar(target: Ints, predicted: Ints, reference: Ints) -> Discordance:
    """McNemar's exact test (1947) of two models' accuracy, from class indices `[N]`.

    It takes samples for independent: with several slides of a patient, p is too small.
    """
    right, other = predicted == target, reference == target
    alone, other_alone = int(np.sum(right & ~other)), int(np.sum(other & ~right))
    discordant = alone + other_alone
    p_value = float(stats.binomtest(alone, discordant).pvalue) if discordant else 1.0
    return Discordance(alone, other_alone, p_value)


@dataclass(frozen=True)
class AurocDifference:
    difference: float
    error: float
    p_value: float


def delong(
    target: Ints, ranking: Floats, reference: Floats, folds: Sequence[Ints]
) -> AurocDifference:
    """DeLong's test (1988) of two models' AUROC, averaged over classes and folds.

    Several classes: the AUROC of one against the rest is a U-statistic of each, so the terms of a
    sample add up before their variance is taken, among the samples of its own class. NaN for a fold
    in which a class has a single sample.

    Args:
        target: class indices `[N]`.
        ranking, reference: see `metrics.one_against_rest` `[N, C]`.
        folds: each one's samples; their models have scales of their own.
    """
    found = [_delong_of_fold(target[f], ranking[f], reference[f]) for f in folds]
    difference = float(np.mean([value for value, _ in found]))
    error = float(np.sqrt(np.sum([variance for _, variance in found]))) / len(folds)
    if difference == 0 and error == 0:
        return AurocDifference(0.0, 0.0, 1.0)
    p_value = 2 * stats.norm.sf(abs(difference) / error) if error > 0 else float("nan")
    return AurocDifference(difference, error, float(p_value))


def _delong_of_fold(target: Ints, ranking: Floats, reference: Floats) -> tuple[float, float]:
    """Difference and its variance."""
    count = np.bincount(target)
    if (count == 1).any() or np.count_nonzero(count) < 2:
        return float("nan"), float("nan")
    terms = _auroc_terms(target, ranking) - _auroc_terms(target, reference)
    own = [target == c for c in np.flatnonzero(count)]
    variance = sum(rows.sum() * terms[rows].var(ddof=1) for rows in own)
    # Each AUROC is in the terms twice: once by its positives, once by its negatives.
    return float(terms.sum() / 2), float(variance)


def _auroc_terms(target: Ints, ranking: Floats) -> Floats:
    """What each sample adds to the mean AUROC `[N]`, by its place among those of the other kind."""
    present = np.unique(target)
    terms = np.zeros(len(target))
    for c in present:
        positive, score = target == c, ranking[:, c]
        everyone = rankdata(score)
        for kind, sign in ((positive, 1), (~positive, -1)):
            others = int((~kind).sum())
            below = (everyone[kind] - rankdata(score[kind])) / others  # ties count half
            terms[kind] += (below if sign > 0 else 1 - below) / kind.sum()
    return np.asarray(terms / len(present))


@dataclass(frozen=True)
class Pair:
    """A seed's models of an arm and of its reference; `row`: which of the arms' rows."""

    row: int
    samples: int
    accuracy: Discordance
    auroc: AurocDifference


def pairs_of_models(samples: Samples, arm: Arm, reference: Arm) -> Iterator[Pair]:
    """McNemar and DeLong, seed by seed.

    Args:
        arm, reference: what both scored, see `Pairing.scored`.
    """
    scored: NDArray[np.bool_] = arm.scored
    for row in np.flatnonzero(scored.any(axis=1)):
        own = np.flatnonzero(scored[row])
        target = samples.target[own]
        ranking, other = (
            metrics.one_against_rest(side.scores[row, own]) for side in (arm, reference)
        )
        yield Pair(
            int(row),
            len(own),
            mcnemar(target, arm.predicted[row, own], reference.predicted[row, own]),
            delong(target, ranking, other, samples.folds(own)),
        )
