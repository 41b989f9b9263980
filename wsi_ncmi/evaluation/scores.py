"""The tidy table of scores: a row per model and test sample, the input of every statistic.

A model is named by task, encoder, repeat of the partition, fold, seed, stream, aggregator and
objective (`MODEL`). `model_metrics` is the table's aggregate: a value per model and metric. Both
are written as files, so that statistics of one's own need no other.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_ncmi.evaluation import metrics, resampling
from wsi_ncmi.evaluation.samples import Arm, ArmKey, Samples

ARM = ["aggregator", "objective"]
MODEL = ["task", "encoder", "repeat", "fold", "seed", "stream", *ARM]
"""What names a model."""
SAMPLE = ["sample_id", "patient_id", "centre", "target", "predicted"]
"""What is known of a test sample beside its scores; classes by their index."""
PREFIX = "score_"


def score_table(
    test: pd.DataFrame,
    task: str,
    encoder: str,
    streams: Mapping[ArmKey, str],
    classes: Sequence[str],
) -> pd.DataFrame:
    """The table: columns `MODEL`, `SAMPLE` and the class log-odds `score_<class>` (float32).

    Args:
        test: a row per model and test sample: repeat (missing: 0), fold, seed, aggregator,
            objective, `SAMPLE`, and scores `[C]`.
        streams: of arms with a random stream of their own, its name; of all others it is "".
        classes: names in their order.
    """
    frame = test.assign(task=task, encoder=encoder)
    if "repeat" not in frame:
        frame = frame.assign(repeat=0)
    arms = zip(frame["aggregator"], frame["objective"], strict=True)
    frame["stream"] = np.array([streams.get(key, "") for key in arms], dtype=object)
    table = frame[[*MODEL, *SAMPLE]].reset_index(drop=True)
    shape = len(frame), len(classes)
    scores = np.stack(frame["scores"].to_numpy()) if len(frame) else np.empty(shape, np.float32)
    names = [f"{PREFIX}{name}" for name in classes]
    return pd.concat([table, pd.DataFrame(scores, columns=names, copy=False)], axis=1)


def scores_of(table: pd.DataFrame, classes: Sequence[str]) -> NDArray[np.floating]:
    """The class log-odds `[n, C]` of a tidy table."""
    return np.asarray(table[[f"{PREFIX}{name}" for name in classes]].to_numpy())


def model_metrics(
    table: pd.DataFrame, classes: Sequence[str], *, ordinal: bool = False
) -> pd.DataFrame:
    """Every metric of every model on its own fold: columns `MODEL`, metric, value.

    Macro-F1 is over the classes that occur in the fold's test part.

    Args:
        table: see `score_table`.
        ordinal: whether the classes' order means something: the quadratic kappa is computed.
    """
    found = []
    for key, rows in table.groupby(MODEL, sort=False):
        target, predicted = (rows[name].to_numpy(np.int64) for name in ("target", "predicted"))
        values = resampling.weighted_metrics(
            target,
            predicted,
            scores_of(rows, classes),
            np.ones((len(rows), 1)),
            labels=metrics.labels_of(target),
            folds=[np.arange(len(rows))],
        )
        names = metrics.names(ordinal=ordinal)
        found += [[*key, name, values[name].item()] for name in names]
    return pd.DataFrame(found, columns=[*MODEL, "metric", "value"])


TESTED = ["repeat", "sample_id"]
"""What names a test of a sample."""


def passes_of(table: pd.DataFrame) -> list[tuple[int, int]]:
    """(repeat, seed) of every pass over the test samples: the rows of `arm_of`."""
    pairs = table[["repeat", "seed"]].drop_duplicates().sort_values(["repeat", "seed"])
    return [(int(r), int(s)) for r, s in pairs.itertuples(index=False)]


def samples_of(
    table: pd.DataFrame, classes: Sequence[str], *, ordinal: bool = False
) -> tuple[pd.DataFrame, Samples]:
    """The test samples of every repeat, sorted by repeat and identifier, N in all.

    Returns:
        Their rows, and what the bootstrap needs.
    """
    columns = [*TESTED, "patient_id", "centre", "target", "fold"]
    rows = table[columns].drop_duplicates(TESTED).sort_values(TESTED)
    patient = np.unique(rows["patient_id"], return_inverse=True)[1]
    target, fold = (rows[name].to_numpy(np.int64) for name in ("target", "fold"))
    repeats = max(1, rows["repeat"].nunique())
    samples = Samples(target, patient, len(classes), fold, ordinal, repeats)
    return rows.reset_index(drop=True), samples


def arm_of(table: pd.DataFrame, key: ArmKey, classes: Sequence[str]) -> Arm:
    """An arm's test predictions, a row per pass, samples as `samples_of` has them.

    A pass scores the samples of its repeat, so those of the others are missing in its row.
    """
    rows = table[(table[ARM] == list(key)).all(axis=1)]
    passes = passes_of(table)
    samples = samples_of(table, classes)[0]
    places = (
        pd.MultiIndex.from_tuples(passes).get_indexer(_index(rows, ["repeat", "seed"])),
        _index(samples, TESTED).get_indexer(_index(rows, TESTED)),
    )
    shape = len(passes), len(samples)
    predicted = np.full(shape, -1, np.int64)
    predicted[places] = rows["predicted"]
    scores = np.full((*shape, len(classes)), np.nan, np.float32)
    scores[places] = scores_of(rows, classes)
    repeat = np.array([r for r, _ in passes])
    return Arm(predicted, scores, repeat, str(rows["stream"].iloc[0]))


def _index(rows: pd.DataFrame, names: list[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[names])
