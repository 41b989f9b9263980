"""The table of differences: the primary test of each, what its family makes of it, and beside them
what holds for these trained models alone."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import pandas as pd

from wsi_ncmi.evaluation import family, metrics, primary
from wsi_ncmi.evaluation.bootstrap import Estimate
from wsi_ncmi.evaluation.comparison import Pairing
from wsi_ncmi.evaluation.fixed_models import paired_bootstrap, pairs_of_models
from wsi_ncmi.evaluation.metrics import Floats
from wsi_ncmi.evaluation.primary import Outcome, Passes
from wsi_ncmi.evaluation.samples import ArmKey, Samples

PAIR = ["aggregator", "objective", "reference"]
TESTED = ("difference", "low", "high", "p_value", "detectable", "standard_error", "freedom")
FIXED = ("fixed_difference", "fixed_low", "fixed_high", "fixed_p")
COUNTS = ("runs", "failed", "reference_failed")
COLUMNS = [*PAIR, "metric", "test", *TESTED, "p_holm", "p_equivalence", "verdict"]
COLUMNS += ["p_wilcoxon", *FIXED, *COUNTS]


@dataclass(frozen=True)
class Rules:
    """How differences are tested; see the section `evaluation` of the configuration."""

    primary: str
    margin: float
    by: str
    objectives: Sequence[str]
    confidence: float


def difference_table(
    pairings: Mapping[ArmKey, Pairing],
    models: pd.DataFrame,
    samples: Samples,
    reference: str,
    rules: Rules,
) -> pd.DataFrame:
    """Differences from the reference: columns `COLUMNS`, blank where nothing can be compared.

    `runs`: folds and seeds with a model of both; `failed`, `reference_failed`: models. `fixed_…`:
    by resamples of patients, of these trained models. `p_wilcoxon`: over repeats and folds.

    Args:
        models: see `scores.model_metrics`.
    """
    rows = []
    for (aggregator, objective), pair in pairings.items():
        keys = (aggregator, objective), (aggregator, reference)
        for metric in samples.metric_names:
            row: dict[str, Any] = dict(zip(PAIR, [aggregator, objective, reference], strict=True))
            row |= {"metric": metric, "test": rules.primary}
            row |= {name: getattr(pair, name) for name in COUNTS}
            if pair.arm:
                blocks = block_differences(models, *keys, metric)
                row |= _tested(pair, metric, blocks, samples, rules)
            rows.append(row)
    return _judged(pd.DataFrame(rows).reindex(columns=COLUMNS), rules)


def block_differences(models: pd.DataFrame, arm: ArmKey, reference: ArmKey, metric: str) -> Floats:
    """Arm minus reference in each (repeat, fold) `[B]`, over the seeds with a model of both."""
    values = []
    for key in (arm, reference):
        own = (models[["aggregator", "objective"]] == list(key)).all(axis=1)
        rows = models[own & (models["metric"] == metric)]
        values.append(rows.set_index(["repeat", "fold", "seed"])["value"])
    paired = (values[0] - values[1]).dropna()
    return paired.groupby(["repeat", "fold"]).mean().to_numpy()


def _tested(
    pair: Pairing, metric: str, blocks: Floats, samples: Samples, rules: Rules
) -> dict[str, float]:
    arm, reference = pair.arm[metric], pair.reference[metric]
    found = primary_test(pair, metric, blocks, samples, rules.primary)
    low, high = found.interval(rules.confidence)
    values = [found.difference, low, high, found.p_value, found.detectable(rules.confidence)]
    row = dict(zip(TESTED, map(float, [*values, found.error, found.freedom]), strict=True))
    if metric == metrics.MACRO_F1:
        row["p_equivalence"] = float(found.equivalence(rules.margin))
    fixed = paired_bootstrap(arm, reference, rules.confidence)
    row |= dict(zip(FIXED, astuple(fixed), strict=True))
    return row | {"p_wilcoxon": family.wilcoxon(blocks)}


def primary_test(
    pair: Pairing, metric: str, blocks: Floats, samples: Samples, name: str
) -> Outcome:
    """The test of that name on a pair that has models."""
    if name == primary.CORRECTED_T:
        return primary.corrected_t(blocks, samples.test_to_train)
    assert pair.scored is not None
    arm, reference = (as_passes(side[metric], samples) for side in (pair.arm, pair.reference))
    paired = pair.scored[0].stream == pair.scored[1].stream
    return primary.hierarchical_bootstrap(arm, reference, samples.n_patients, paired=paired)


def as_passes(found: Estimate, samples: Samples) -> Passes:
    """What `bootstrap` found of an arm, as `primary` tests it; not of metrics of a class."""
    assert found.of_seeds is not None
    assert found.rearranged is not None
    assert found.repeat is not None
    folds = len(samples.folds(slice(None))) // samples.n_repeats
    return Passes(found.seeds, found.of_seeds, found.rearranged, found.repeat, folds)


def _judged(table: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    numbers = [*TESTED, *FIXED, "p_holm", "p_equivalence", "p_wilcoxon"]
    table = table.astype(dict.fromkeys(numbers, float))
    table["p_holm"] = family.adjusted(table, rules.by, rules.objectives)
    decisive = table["p_holm"].fillna(table["p_value"])
    columns = (table["metric"], table["difference"], decisive, table["p_equivalence"])
    level = 1 - rules.confidence
    table["verdict"] = [family.verdict(*row, level) for row in zip(*columns, strict=True)]
    return table


def fixed_model_table(
    pairings: Mapping[ArmKey, Pairing],
    samples: Samples,
    passes: Sequence[tuple[int, int]],
    reference: str,
) -> pd.DataFrame:
    """McNemar's and DeLong's tests of each seed's models, the folds' samples together.

    Args:
        passes: (repeat, seed) of the arms' rows.
    """
    rows: list[dict[str, Any]] = []
    for (aggregator, objective), pairing in pairings.items():
        if pairing.scored is None:
            continue
        for pair in pairs_of_models(samples, *pairing.scored):
            repeat, seed = passes[pair.row]
            row: dict[str, Any] = dict(zip(PAIR, [aggregator, objective, reference], strict=True))
            row |= {"repeat": repeat, "seed": seed, "samples": pair.samples}
            row |= {"right_alone": pair.accuracy.arm_alone}
            row |= {"reference_right_alone": pair.accuracy.reference_alone}
            row |= {"p_mcnemar": pair.accuracy.p_value}
            row |= {"auroc_difference": pair.auroc.difference, "p_delong": pair.auroc.p_value}
            rows.append(row)
    names = [*PAIR, "repeat", "seed", "samples", "right_alone", "reference_right_alone"]
    return pd.DataFrame(rows, columns=[*names, "p_mcnemar", "auroc_difference", "p_delong"])
