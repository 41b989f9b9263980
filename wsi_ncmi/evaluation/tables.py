"""What `comparison` found, as tables: one row per arm and metric, in the arms' order."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_ncmi.evaluation import calibration, information, metrics
from wsi_ncmi.evaluation.bootstrap import Estimate, class_key
from wsi_ncmi.evaluation.metrics import Ints
from wsi_ncmi.evaluation.samples import Arm, ArmKey, Cells, Samples

Estimates = Mapping[ArmKey, Mapping[str, Estimate]]


BOUNDS = ("value", "low", "high", "seed_sd")


def _bounds(estimate: Estimate, confidence: float) -> dict[str, float]:
    low, high = estimate.interval(confidence)
    return {"value": estimate.value, "low": low, "high": high, "seed_sd": estimate.seed_sd}


def metric_table(
    estimates: Estimates,
    cells: Mapping[ArmKey, Cells],
    names: Sequence[str],
    confidence: float,
) -> pd.DataFrame:
    """Every metric of every arm; blank for an arm all of whose models failed."""
    rows = []
    for (a, o), of_arm in cells.items():
        count = {"runs": len(of_arm), "failed": len(of_arm) - sum(of_arm.values())}
        for m in names:
            found = estimates.get((a, o))
            bounds = _bounds(found[m], confidence) if found else dict.fromkeys(BOUNDS, np.nan)
            rows.append({"aggregator": a, "objective": o, "metric": m, **bounds, **count})
    return pd.DataFrame(rows)


def seed_table(
    estimates: Estimates, passes: Mapping[ArmKey, Sequence[tuple[int, int]]], names: Sequence[str]
) -> pd.DataFrame:
    """Every metric of every repeat and seed.

    Args:
        passes: of every arm, the (repeat, seed) with a trained model.
        names: of the metrics.
    """
    rows = [
        [a, o, *one, m, value]
        for (a, o), found in estimates.items()
        for m in names
        for one, value in zip(passes[a, o], found[m].seeds, strict=True)
    ]
    columns = ["aggregator", "objective", "repeat", "seed", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def class_table(
    estimates: Estimates, classes: Sequence[str], rows: pd.DataFrame, confidence: float
) -> pd.DataFrame:
    """Metrics of each class, and how many samples it has.

    Args:
        rows: of the tests: sample_id, target; a sample is tested in every repeat.
    """
    tested = rows.drop_duplicates("sample_id")["target"]
    support = np.bincount(tested, minlength=len(classes))
    body = [
        [a, o, name, support[c], m, *_bounds(found[class_key(m, c)], confidence).values()]
        for (a, o), found in estimates.items()
        for c, name in enumerate(classes)
        for m in metrics.CLASS_METRICS
    ]
    names = ["aggregator", "objective", "class", "samples", "metric", *BOUNDS]
    return pd.DataFrame(body, columns=names)


def centre_table(rows: pd.DataFrame, samples: Samples, arms: Mapping[ArmKey, Arm]) -> pd.DataFrame:
    """Macro-F1 and accuracy in each centre's samples, averaged over seeds, no intervals.

    `classes`: how many occur there; of a single one there is no macro-F1.
    """
    shown = (metrics.MACRO_F1, metrics.ACCURACY)
    found = []
    for centre in sorted(rows["centre"].unique()):
        own = (rows["centre"] == centre).to_numpy()
        classes = len(metrics.labels_of(samples.target[own]))
        for key, arm in arms.items():
            seeds = _within(samples, arm, own)
            values = [np.mean([s[m] for s in seeds]) if seeds else np.nan for m in shown]
            if classes < 2:
                values[shown.index(metrics.MACRO_F1)] = np.nan
            count = rows.loc[own, "sample_id"].nunique()
            found.append([centre, count, classes, *key, *values])
    names = ["centre", "samples", "classes", "aggregator", "objective", *shown]
    return pd.DataFrame(found, columns=names)


def _within(samples: Samples, arm: Arm, own: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Macro-F1 and accuracy of each seed over the samples that `own` [N] says."""
    only, labels = arm.where(arm.scored & own), metrics.labels_of(samples.target[own])
    return [
        {
            metrics.MACRO_F1: metrics.macro_f1(samples.target[rows], predicted, labels),
            metrics.ACCURACY: float((samples.target[rows] == predicted).mean()),
        }
        for rows, predicted, _ in only.of_seeds()
    ]


def calibration_table(
    arms: Sequence[ArmKey], test: pd.DataFrame, scales: Mapping[str, float]
) -> pd.DataFrame:
    """What every arm's scores are worth as probabilities, before and after their temperature.

    Two rows an arm, over the samples of all folds and seeds; columns `calibration.MEASURES`. Blank
    before the temperature where a model's scale is not known.

    Args:
        test: a row per model and sample: run_id, aggregator, objective, target, scores `[C]`.
        scales: run_id -> by which a model's own scores were multiplied.
    """
    rows = []
    for key in arms:
        own = test[(test["aggregator"] == key[0]) & (test["objective"] == key[1])]
        target, scores = own["target"].to_numpy(), np.stack(own["scores"].to_numpy())
        scale = own["run_id"].map(scales).to_numpy(np.float64)
        before = dict.fromkeys(calibration.MEASURES, np.nan)
        if not np.isnan(scale).any():
            before = calibration.measures(target, scores / scale[:, None])
        for when, found in (("before", before), ("after", calibration.measures(target, scores))):
            rows.append([*key, when, *found.values()])
    names = ["aggregator", "objective", "temperature", *calibration.MEASURES]
    return pd.DataFrame(rows, columns=names)


def information_table(arms: Mapping[ArmKey, Arm], target: Ints) -> pd.DataFrame:
    """CMI, Γ and NCMI of each arm: mean over seeds, and NCMI's s.d. over them.

    Args:
        target: class indices `[N]`; of a single class there is no Γ, and no value.
    """
    rows: list[dict[str, object]] = []
    for (aggregator, objective), arm in arms.items():
        values = pd.DataFrame(_measures_of_seeds(arm, target), columns=information.MEASURES)
        rows.append({"aggregator": aggregator, "objective": objective, **values.mean()})
        rows[-1]["ncmi_seed_sd"] = values["ncmi"].std()
    names = ["aggregator", "objective", *information.MEASURES, "ncmi_seed_sd"]
    return pd.DataFrame(rows, columns=names)


def _measures_of_seeds(arm: Arm, target: Ints) -> list[dict[str, float]]:
    return [
        information.information(metrics.log_probabilities(scores), target[rows]).measures
        for rows, _, scores in arm.of_seeds()
        if len(np.unique(target[rows])) > 1
    ]
