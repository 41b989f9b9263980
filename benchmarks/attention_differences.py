"""How arms differ in where they attend and in macro-F1, tested as docs/statistics.md does.

Sites and trainings vary. Slides of one site share pictures, so sites are what is resampled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from wsi_ncmi.evaluation import metrics, resampling
from wsi_ncmi.evaluation.bootstrap import ARRANGEMENTS
from wsi_ncmi.evaluation.family import holm
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.evaluation.primary import Passes, hierarchical_bootstrap, passes_of

ARM = ["aggregator", "objective"]
REFERENCE = "cross_entropy"
CONFIDENCE = 0.95
RESAMPLES = 5_000
SEED = 0
LOCALISATION = "attention_auroc"


@dataclass(frozen=True, eq=False)
class Slides:
    """What all arms were tested on; arrays `[N]` of indices."""

    site: Ints
    fold: Ints
    target: Ints


Metric = Callable[[Slides, Floats, Floats], Floats]


def localisation(slides: Slides, auroc: Floats, weights: Floats) -> Floats:
    """Mean AUROC of attention over the slides with lesions: `[N]`, weights `[N, R]` -> `[R]`."""
    own = ~np.isnan(auroc)
    return resampling.mean(auroc[own], weights[own])


def macro_f1(slides: Slides, predicted: Floats, weights: Floats) -> Floats:
    """Class indices `[N]` under weights `[N, R]` -> `[R]`."""
    labels = metrics.labels_of(slides.target)
    found = resampling.confusions(slides.target, predicted.astype(int), weights, len(labels))
    return resampling.macro_f1(found, labels)


MEASURES: dict[str, tuple[str, Metric]] = {
    LOCALISATION: ("auroc", localisation),
    metrics.MACRO_F1: ("predicted", macro_f1),
}


def analysed(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each measure and arm: its value, and its difference from the reference.

    `seed_sd`: standard deviation of the seeds' values. p_holm: over all arms and aggregators.
    """
    first = table.drop_duplicates("slide_id").sort_values("slide_id")
    classes = sorted(set(table["label"]))
    index = {name: i for i, name in enumerate(classes)}
    site, fold = (np.unique(first[key], return_inverse=True)[1] for key in ("site", "fold"))
    slides = Slides(site, fold, first["label"].map(index).to_numpy())
    sites = int(site.max()) + 1
    blocks = resampling.patient_weights(sites, RESAMPLES, SEED, RESAMPLES)
    weights = next(iter(blocks))[1][site]
    coded = table.assign(predicted=table["predicted"].map(index))
    found = []
    for measure, (column, metric) in MEASURES.items():
        arms = {
            key: _passes(slides, _by_seed(rows, column), metric, weights)
            for key, rows in coded.groupby(ARM, sort=False)
        }
        rows = [_row(measure, key, arms, sites) for key in arms]
        adjusted = holm([row.get("p_value", np.nan) for row in rows])
        for row, p in zip(rows, adjusted, strict=True):
            found.append(row | ({} if np.isnan(p) else {"p_holm": float(p)}))
    return found


def _passes(slides: Slides, values: Floats, metric: Metric, weights: Floats) -> Passes:
    """A metric of an arm's seeds `[S, N]`, with resamples of sites, weights `[N, R]`."""
    repeat = np.zeros(len(values), np.int64)
    measure = partial(metric, slides)
    return passes_of(values, measure, slides.fold, weights, repeat, count=ARRANGEMENTS, seed=SEED)


def _by_seed(rows: pd.DataFrame, column: str) -> Floats:
    wide = rows.pivot(index="seed", columns="slide_id", values=column)
    return wide.sort_index(axis=1).to_numpy(float)


def _row(measure: str, key: tuple[str, str], arms: dict[Any, Passes], sites: int) -> dict[str, Any]:
    own, (aggregator, objective) = arms[key], key
    row: dict[str, Any] = {
        "measure": measure,
        "aggregator": aggregator,
        "objective": objective,
        "value": float(own.values.mean()),
        "seed_sd": float(own.values.std(ddof=1)),
        "seeds": [float(value) for value in own.values],
    }
    if objective == REFERENCE:
        return row
    outcome = hierarchical_bootstrap(own, arms[aggregator, REFERENCE], sites, paired=True)
    low, high = outcome.interval(CONFIDENCE)
    named = {"difference": outcome.difference, "low": low, "high": high}
    named |= {"p_value": outcome.p_value, "detectable": outcome.detectable(CONFIDENCE)}
    return row | {name: float(value) for name, value in named.items()}


def by_slides(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean AUROC of attention of every arm over some of the slides with lesions.

    Those of each class, and those that the model classified rightly or wrongly.
    """
    rows = table.dropna(subset=["auroc"])
    right = np.where(rows["predicted"] == rows["label"], "classified rightly", "wrongly")
    found = [
        rows.assign(slides=key).groupby([*ARM, "slides"], sort=False)["auroc"].mean()
        for key in (rows["label"], right)
    ]
    return pd.concat(found).reset_index().to_dict("records")


def states(table: pd.DataFrame) -> list[dict[str, Any]]:
    """How many models of every arm ended trained, undertrained or collapsed."""
    models = table.drop_duplicates([*ARM, "seed", "fold"])
    found = models.groupby([*ARM, "state"], sort=False).size().rename("models")
    return found.reset_index().to_dict("records")
