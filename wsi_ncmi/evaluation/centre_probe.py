"""How much the features know the centre: a linear probe, and croma's robustness index.

A probe far above chance says that the features carry the scanner or the laboratory, so that a model
may learn it. It is no verdict on the models.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from wsi_ncmi.evaluation import resampling
from wsi_ncmi.evaluation.bootstrap import Estimate
from wsi_ncmi.evaluation.metrics import Floats, Ints

FOLDS = 5
FEWEST_PATIENTS = FOLDS  # of a centre: each fold tests one of them
NEIGHBOURS = (5, 11, 21)
BLOCK = 1000
PROBE, LABEL_ALONE, ROBUSTNESS = "probe", "label_alone", "robustness_index"
COLUMNS = [
    *("measure", "value", "low", "high", "neutral"),
    *("all_centres", "centres", "patients", "slides", "note"),
]
SLIDE = ["slide_id", "patient_id", "centre", "label"]


def probed(slides: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The slides of centres with enough patients, and why there are none ("": there are).

    Args:
        slides: a row per slide, `SLIDE`; the centre is "" where it is not known.
    """
    known = slides[slides["centre"] != ""]
    patients = known.groupby("centre")["patient_id"].nunique()
    enough = patients.index[patients >= FEWEST_PATIENTS]
    if len(enough) > 1:
        return known[known["centre"].isin(enough)].reset_index(drop=True), ""
    return known.iloc[:0], (
        f"found {len(enough)} of {len(patients)} centres with {FEWEST_PATIENTS} patients or more, "
        "expected two"
    )


def absent(slides: pd.DataFrame, reason: str) -> pd.DataFrame:
    """The table of a task without a probe: one row that says why."""
    centres = slides.loc[slides["centre"] != "", "centre"].nunique()
    return pd.DataFrame([[PROBE, *[np.nan] * 4, centres, 0, 0, 0, reason]], columns=COLUMNS)


def centre_probe(
    slides: pd.DataFrame,
    means: NDArray[np.floating],
    resamples: int,
    seed: int,
    confidence: float,
    *,
    robustness: bool = False,
) -> pd.DataFrame:
    """The balanced accuracy of telling centres apart, from features and from the label alone.

    Logistic regression (L2, C = 1, centres weighted equally) on standardised slide means, each
    slide classified by a probe that has seen no slide of its patient. The interval is over patients
    with the probes as they are. Where the label alone tells centres apart as well as the features
    do, biology may be all that they know.

    Args:
        slides: of `probed`, [N] rows.
        means: of each slide's features [N, D].
        robustness: add the robustness index, which needs the package croma.
    """
    centre, names = pd.factorize(slides["centre"], sort=True)
    patient, patients = pd.factorize(slides["patient_id"])
    labels = OneHotEncoder(sparse_output=False).fit_transform(slides[["label"]])
    sizes = [len(names), len(names), len(patients), len(slides)]
    rows = []
    for measure, inputs in ((PROBE, means), (LABEL_ALONE, labels)):
        predicted = _out_of_fold(np.asarray(inputs, np.float64), centre, patient, seed)
        bounds = _balanced_accuracy(centre, predicted, patient, resamples, seed, confidence)
        rows.append([measure, *bounds, 1 / len(names), *sizes, ""])
    if robustness:
        value, note = robustness_index(slides, means)
        rows.append([ROBUSTNESS, value, np.nan, np.nan, 0.5, *sizes, note])
    return pd.DataFrame(rows, columns=COLUMNS)


def _out_of_fold(inputs: Floats, centre: Ints, patient: Ints, seed: int) -> Ints:
    """Each slide's centre as a probe of other patients says it [N]."""
    predicted = np.empty_like(centre)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(inputs, centre, patient):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
        )
        predicted[test] = model.fit(inputs[train], centre[train]).predict(inputs[test])
    return predicted


def _balanced_accuracy(
    centre: Ints, predicted: Ints, patient: Ints, resamples: int, seed: int, confidence: float
) -> tuple[float, float, float]:
    """The value and its interval over patients."""
    classes = int(centre.max()) + 1

    def under(weights: Floats) -> Floats:
        found = resampling.confusions(centre, predicted, weights, classes)
        return resampling.balanced_accuracy(found)

    blocks = resampling.patient_weights(int(patient.max()) + 1, resamples, seed, BLOCK)
    drawn = np.concatenate([under(weights[patient]) for _, weights in blocks])
    estimate = Estimate(under(np.ones((len(centre), 1))), drawn)
    return estimate.value, *estimate.interval(confidence)


def robustness_index(slides: pd.DataFrame, means: NDArray[np.floating]) -> tuple[float, str]:
    """croma's robustness index of slide means, and a note on what it rests upon.

    Of the nearest neighbours (cosine) that are of other patients, those of the slide's label and
    another centre are counted against those of another label and the slide's centre: 1 where
    biology alone decides, 0 where the centre alone does (Kömen et al. 2025, arXiv 2507.17845).
    """
    from croma import RI  # an extra: planning has looked for it

    if slides["label"].nunique() < 2:
        return float("nan"), "the slides have a single label"
    manifest = pd.DataFrame(
        {
            "sample_id": slides["slide_id"],
            "image_path": slides["slide_id"],  # croma asks for one and reads none
            "label": slides["label"],
            "group_id": slides["patient_id"],
            "centre": slides["centre"],
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of support below 100 %: the note says it
        found = RI.compute(
            np.asarray(means, np.float64),
            manifest,
            confounder_column="centre",
            k_candidates=_candidates(slides["patient_id"]),
        )
    return float(found.value), f"k = {found.k}, support {found.support:.0%}"


def _candidates(patients: Sequence[str]) -> list[int]:
    """Numbers of neighbours that every slide has among other patients; few where there are few."""
    most = len(patients) - int(pd.Series(patients).value_counts().max())
    return [k for k in NEIGHBOURS if k <= most] or [most]
