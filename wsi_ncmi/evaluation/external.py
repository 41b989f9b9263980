"""A labelled second cohort, beside the inner test: what the models of every fold make of it.

Inside, a sample is tested by the models of its own fold; outside, by those of all folds. So that
both are measured alike, a test is one of a fold and a sample: within a seed (and repeat) the tests
of all folds together give a metric, as inside the samples of all folds do, and a sample that K
models test counts K times. It is drawn with its patient, so that this makes nothing more certain.

The difference outside minus inside has three sources of chance: the patients of either cohort,
which are drawn independently, and the trainings, which both share. That is the hierarchical
bootstrap of two paired sides (`primary`), whose resamples of patients are independent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from wsi_ncmi.evaluation import calibration, metrics, tables
from wsi_ncmi.evaluation.bootstrap import Estimate, bootstrap
from wsi_ncmi.evaluation.comparison import compare
from wsi_ncmi.evaluation.differences import Rules, as_passes, difference_table
from wsi_ncmi.evaluation.fixed_models import paired_bootstrap
from wsi_ncmi.evaluation.primary import between_cohorts
from wsi_ncmi.evaluation.samples import Arm, ArmKey, Cells, Samples
from wsi_ncmi.evaluation.scores import (
    ARM,
    MODEL,
    arm_of,
    model_metrics,
    samples_of,
    scores_of,
)
from wsi_ncmi.provenance import digest

GAP = [*ARM, "metric", "inner", "inner_low", "inner_high", "external", "external_low"]
GAP += ["external_high", "difference", "low", "high", "standard_error", "freedom"]
GAP += ["fixed_low", "fixed_high"]
BETWEEN = " "
"""Between the fold and the sample in the name of a test."""


@dataclass(frozen=True)
class Asked:
    """What a task asks of its evaluation.

    Attributes:
        classes: names in their order.
        reference: the objective that the others are compared with.
        resamples, seed: of the bootstraps of the inner test.
    """

    classes: Sequence[str]
    reference: str
    rules: Rules
    resamples: int
    seed: int
    ordinal: bool = False

    @property
    def outside(self) -> int:
        """Seed of the resamples outside: patients there are not drawn as those inside are."""
        return int(digest([self.seed, "external"])[:8], 16)


def external_tables(
    external: pd.DataFrame, inner: pd.DataFrame, cells: Mapping[ArmKey, Cells], asked: Asked
) -> dict[str, pd.DataFrame]:
    """All tables of a second cohort but those of calibration and coverage.

    `metrics`, `per_class`, `centres`, `model_metrics` and `differences` are as inside, of the
    cohort; `ensemble`: metrics of all models of an arm together; `gap`: outside minus inside.

    Args:
        external: see `scores.score_table`: every trained model has scored every sample.
        inner: the test part of the same models.
        cells: of every arm, those without a model as well.
    """
    rows, samples = tests_of(external, asked)
    arms = {key: arm_of(by_fold(external), key, asked.classes) for key in trained(cells)}
    drawn = asked.resamples, asked.outside
    estimates, pairings = compare(samples, arms, cells, asked.reference, *drawn, orders=asked.seed)
    confidence, names = asked.rules.confidence, samples.metric_names
    models = model_metrics(external, asked.classes, ordinal=asked.ordinal)
    differences = difference_table(pairings, models, samples, asked.reference, asked.rules)
    return {
        "metrics": tables.metric_table(estimates, cells, names, confidence),
        "ensemble": ensemble_table(external, list(arms), asked),
        "gap": gap_table(external, inner, list(arms), asked, estimates),
        "differences": differences.drop(columns=["p_wilcoxon"]),
        "per_class": tables.class_table(estimates, asked.classes, rows, confidence),
        "centres": tables.centre_table(rows, samples, arms),
        "model_metrics": models,
    }


def trained(cells: Mapping[ArmKey, Cells]) -> list[ArmKey]:
    """The arms with a model that was trained."""
    return [key for key, of_arm in cells.items() if any(of_arm.values())]


def by_fold(table: pd.DataFrame) -> pd.DataFrame:
    """Every sample under another name in each fold, as a test of that fold."""
    return table.assign(sample_id=table["fold"].astype(str) + BETWEEN + table["sample_id"])


def tests_of(table: pd.DataFrame, asked: Asked) -> tuple[pd.DataFrame, Samples]:
    """As `scores.samples_of`, of tests: the rows have the samples' own names."""
    rows, samples = samples_of(by_fold(table), asked.classes, ordinal=asked.ordinal)
    own = rows["sample_id"].str.split(BETWEEN, n=1).str[1]
    return rows.assign(sample_id=own), samples


def gap_table(
    external: pd.DataFrame,
    inner: pd.DataFrame,
    arms: Sequence[ArmKey],
    asked: Asked,
    known: tables.Estimates | None = None,
) -> pd.DataFrame:
    """Outside minus inside of every arm and metric: columns `GAP`.

    Both are over the classes that occur in both, so that macro-F1 is a mean of as many.
    `low`, `high`: trainings vary as well; `fixed_…`: these trained models.

    Args:
        known: what the bootstrap of all tests outside has found already.
    """
    kept, inner = _alike(external, inner)
    sides, found = [], list[tables.Estimates]()
    for table, seed in ((by_fold(kept), asked.outside), (inner, asked.seed)):
        sides.append(samples_of(table, asked.classes, ordinal=asked.ordinal)[1])
        if known is not None and table is not inner and len(kept) == len(external):
            found.append(known)
            continue
        own = {key: arm_of(table, key, asked.classes) for key in arms}
        found.append(bootstrap(sides[-1], own, asked.resamples, seed, orders=asked.seed))
    confidence = asked.rules.confidence
    rows = []
    for key in arms:
        for metric in sides[0].metric_names:
            outside, inside = (one[key][metric] for one in found)
            passes = as_passes(outside, sides[0]), as_passes(inside, sides[1])
            outcome = between_cohorts(*passes, (sides[0].n_patients, sides[1].n_patients))
            fixed = paired_bootstrap(outside, inside, confidence)
            bounds = [bound for one in (inside, outside) for bound in _bounds(one, confidence)]
            tested = [outcome.difference, *outcome.interval(confidence)]
            tested += [outcome.error, outcome.freedom]
            rows.append([*key, metric, *bounds, *map(float, tested), fixed.low, fixed.high])
    return pd.DataFrame(rows, columns=GAP)


def _bounds(found: Estimate, confidence: float) -> tuple[float, float, float]:
    return found.value, *found.interval(confidence)


def _alike(*both: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of the classes, and then of the models, that all have."""
    classes = set.intersection(*(set(table["target"]) for table in both))
    kept = [table[table["target"].isin(classes)] for table in both]
    models = [pd.MultiIndex.from_frame(table[MODEL]) for table in kept]
    common = models[0].unique().intersection(models[1].unique())
    return [table[own.isin(common)] for table, own in zip(kept, models, strict=True)]


def ensemble_of(table: pd.DataFrame, key: ArmKey, classes: Sequence[str]) -> Arm:
    """All models of an arm as one: the mean of their probabilities, samples by their names."""
    own = table[(table[ARM] == list(key)).all(axis=1)].sort_values([*MODEL, "sample_id"])
    count = len(own[MODEL].drop_duplicates())
    each = metrics.log_probabilities(scores_of(own, classes))
    log_p = logsumexp(each.reshape(count, -1, len(classes)), axis=0) - np.log(count)
    return Arm(log_p.argmax(1)[None], log_p[None])


def samples_once(table: pd.DataFrame, asked: Asked) -> tuple[pd.DataFrame, Samples]:
    """The samples of a cohort, each once, by their names."""
    once = table.drop_duplicates("sample_id").assign(repeat=0, fold=0)
    return samples_of(once, asked.classes, ordinal=asked.ordinal)


def ensemble_table(external: pd.DataFrame, arms: Sequence[ArmKey], asked: Asked) -> pd.DataFrame:
    """Every metric of every arm's models together, with intervals over patients alone.

    Columns: aggregator, objective, metric, value, low, high, models.
    """
    samples = samples_once(external, asked)[1]
    own = {key: ensemble_of(external, key, asked.classes) for key in arms}
    found = bootstrap(samples, own, asked.resamples, asked.outside)
    models = external[MODEL].drop_duplicates().value_counts(ARM)
    rows = [
        [*key, m, found[key][m].value, *found[key][m].interval(asked.rules.confidence), models[key]]
        for key in arms
        for m in samples.metric_names
    ]
    return pd.DataFrame(rows, columns=[*ARM, "metric", "value", "low", "high", "models"])


INNER, EXTERNAL, ENSEMBLE = "inner", "external", "ensemble"
WHERE = (INNER, EXTERNAL, ENSEMBLE)


def calibration_table(
    external: pd.DataFrame,
    inner: pd.DataFrame,
    arms: Sequence[ArmKey],
    scales: Mapping[str, float],
    classes: Sequence[str],
) -> pd.DataFrame:
    """What scores are worth as probabilities inside and outside: see `tables.calibration_table`.

    A column `cohort` more: `inner`, `external`, and `ensemble` for all models of an arm together,
    outside, after their temperatures.

    Args:
        external, inner: see `scores.score_table`, with a column run_id.
        scales: run_id -> by which a model's own scores were multiplied.
    """
    found = []
    for where, table in ((INNER, inner), (EXTERNAL, external)):
        scores = list(scores_of(table, classes))
        of_models = tables.calibration_table(arms, table.assign(scores=scores), scales)
        found.append(of_models.assign(cohort=where))
    target = external.drop_duplicates("sample_id").sort_values("sample_id")["target"].to_numpy()
    together = [
        [
            *key,
            "after",
            *calibration.measures(target, ensemble_of(external, key, classes).scores[0]).values(),
        ]
        for key in arms
    ]
    names = [name for name in found[0].columns if name != "cohort"]
    found.append(pd.DataFrame(together, columns=names).assign(cohort=ENSEMBLE))
    return pd.concat(found, ignore_index=True)[["cohort", *names]]
