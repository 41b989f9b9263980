"""What `comparison` found, as tables: one row per arm and metric, in the arms' order."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax

from wsi_ncmi.evaluation import information, metrics
from wsi_ncmi.evaluation.calibration import Reliability
from wsi_ncmi.evaluation.comparison import (
    Arm,
    ArmKey,
    Estimate,
    Samples,
    class_key,
    paired_difference,
)
from wsi_ncmi.evaluation.metrics import Ints

Estimates = Mapping[ArmKey, Mapping[str, Estimate]]


def _bounds(estimate: Estimate, confidence: float) -> dict[str, float]:
    low, high = estimate.interval(confidence)
    return {"value": estimate.value, "low": low, "high": high, "seed_sd": estimate.seed_sd}


def metric_table(estimates: Estimates, confidence: float) -> pd.DataFrame:
    return pd.DataFrame(
        {"aggregator": a, "objective": o, "metric": m, **_bounds(found[m], confidence)}
        for (a, o), found in estimates.items()
        for m in metrics.METRICS
    )


def seed_table(estimates: Estimates, seeds: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {"aggregator": a, "objective": o, "seed": seed, "metric": m, "value": value}
        for (a, o), found in estimates.items()
        for m in metrics.METRICS
        for seed, value in zip(seeds, found[m].seeds, strict=True)
    )


def class_table(
    estimates: Estimates, classes: Sequence[str], samples: Samples, confidence: float
) -> pd.DataFrame:
    support = np.bincount(samples.target, minlength=len(classes))
    return pd.DataFrame(
        {
            "aggregator": a,
            "objective": o,
            "class": name,
            "samples": support[c],
            "metric": m,
            **_bounds(found[class_key(m, c)], confidence),
        }
        for (a, o), found in estimates.items()
        for c, name in enumerate(classes)
        for m in metrics.CLASS_METRICS
    )


def difference_table(estimates: Estimates, reference: str, confidence: float) -> pd.DataFrame:
    columns = ["aggregator", "objective", "reference", "metric"]
    columns += ["difference", "low", "high", "p_value", "detectable"]
    rows = []
    for (aggregator, objective), found in estimates.items():
        if objective == reference or (aggregator, reference) not in estimates:
            continue
        for metric in metrics.METRICS:
            other = estimates[aggregator, reference][metric]
            difference = paired_difference(found[metric], other, confidence)
            rows.append([aggregator, objective, reference, metric, *asdict(difference).values()])
    return pd.DataFrame(rows, columns=columns)


def centre_table(rows: pd.DataFrame, samples: Samples, arms: Mapping[ArmKey, Arm]) -> pd.DataFrame:
    """Macro-F1 and accuracy in each centre's samples, averaged over seeds, no intervals."""
    found = []
    for centre in sorted(rows["centre"].unique()):
        own = (rows["centre"] == centre).to_numpy()
        for (aggregator, objective), arm in arms.items():
            seeds = [
                metrics.evaluate(samples.target[own], predicted[own], probabilities[own])
                for predicted, probabilities in zip(arm.predicted, arm.probabilities, strict=True)
            ]
            key = {"centre": centre, "samples": own.sum(), "aggregator": aggregator}
            values = {
                m: np.mean([s[m] for s in seeds]) for m in (metrics.MACRO_F1, metrics.ACCURACY)
            }
            found.append({**key, "objective": objective, **values})
    return pd.DataFrame(found)


def calibration_table(found: Mapping[ArmKey, Reliability], test: pd.DataFrame) -> pd.DataFrame:
    applied = test.groupby(["aggregator", "objective"])["calibrated"].all()
    return pd.DataFrame(
        {"aggregator": a, "objective": o, "ece": r.error, "temperature_applied": applied[a, o]}
        for (a, o), r in found.items()
    )


def information_table(scores: Mapping[ArmKey, NDArray[np.floating]], target: Ints) -> pd.DataFrame:
    """CMI, Γ and NCMI of each arm: mean over seeds, and NCMI's s.d. over them.

    Args:
        scores: log-odds `[S, N, C]` of each arm.
        target: class indices `[N]`; of a single class there is no Γ, and no value.
    """
    rows: list[dict[str, object]] = []
    for (aggregator, objective), of_arm in scores.items():
        values = pd.DataFrame(_measures_of_seeds(of_arm, target), columns=information.MEASURES)
        rows.append({"aggregator": aggregator, "objective": objective, **values.mean()})
        rows[-1]["ncmi_seed_sd"] = values["ncmi"].std()
    return pd.DataFrame(rows)


def _measures_of_seeds(scores: NDArray[np.floating], target: Ints) -> list[dict[str, float]]:
    if len(np.unique(target)) < 2:
        return []
    log_p = log_softmax(scores.astype(np.float64), axis=-1)
    return [information.information(of_seed, target).measures for of_seed in log_p]
