"""Anyone's scored samples, from a predictions file of ours or a plain table."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.information import log_probabilities
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.files.user_table import read_user_table
from wsi_ncmi.predictions.read import IDENTITY, class_names, read_parquet

log = logging.getLogger(__name__)

SUM_TOLERANCE = 1e-3
"""How far probabilities may be from a sum of 1 without a word."""

ROUNDED = 0.005
"""Half a unit of the second digit: probabilities that are rounded to two digits are off by up to
this for each class. They are normalised, with a warning; above `LARGEST_ERROR` they are refused."""

LARGEST_ERROR = 0.05


@dataclass(frozen=True, eq=False)
class ForeignPredictions:
    """Samples with their classes and what a classifier made of them.

    Attributes:
        rows: run_id, part, sample_id and target (class index) `[N]`.
        log_probabilities: `[N, C]`.
        classes: C names in their order.
    """

    rows: pd.DataFrame
    log_probabilities: Floats
    classes: list[str]


def read_foreign(path: Path, targets: str | None = None) -> ForeignPredictions:
    """Read `predictions.parquet`, or a TSV with `target` and `score_<class>` or `prob_<class>`.

    Args:
        targets: what a TSV's targets are, `index` or `name`; None: whichever fits.

    Raises:
        UserError: names the file, the column and the row that does not fit.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if not path.is_file():
        raise UserError(f"{path}: no such predictions file")
    return _read_tsv(path, targets)


def _read_parquet(path: Path) -> ForeignPredictions:
    table = read_parquet(path)
    if len(table) == 0:
        raise UserError(f"{path}: no samples")
    classes = class_names(table)
    lists = table["scores"].to_pandas()
    wrong = np.flatnonzero(lists.map(len) != len(classes))
    if len(wrong):
        found = len(lists.iloc[wrong[0]])
        raise UserError(f"{path}: row {wrong[0]}: {found} scores for {len(classes)} classes")
    scores = np.stack(lists.to_numpy()).astype(np.float64)
    columns = [f"scores of {name}" for name in classes]
    places = [f"row {i}" for i in range(len(scores))]
    _refuse(path, places, columns, scores, ~np.isfinite(scores), "a finite number")
    rows = table.select([*IDENTITY, "target"]).to_pandas()
    _refuse_targets(path, places, rows["target"], len(classes))
    return ForeignPredictions(rows, np.asarray(log_softmax(scores, axis=1)), classes)


def _read_tsv(path: Path, targets: str | None) -> ForeignPredictions:
    table = _table(path)
    kind, columns = _score_columns(path, list(table))
    classes = [name.removeprefix(f"{kind}_") for name in columns]
    places = [f"line {line}" for line in table.index]
    values = _numbers(path, places, table[columns])
    rows = pd.DataFrame(
        {
            "run_id": table.get("run_id", path.stem),
            "part": table.get("part", "all"),
            "sample_id": table.get("sample_id", places),
            "target": _class_indices(path, places, table["target"], classes, targets),
        },
        index=table.index,
    ).reset_index(drop=True)
    if kind == "score" and not _are_probabilities(values):
        return ForeignPredictions(rows, np.asarray(log_softmax(values, axis=1)), classes)
    if kind == "score":
        log.warning("%s: the score_ columns hold probabilities and are taken as such", path)
    values = _normalised(path, places, columns, values)
    return ForeignPredictions(rows, log_probabilities(values), classes)


def _table(path: Path) -> pd.DataFrame:
    """The table as text; its index is the number of each row's line."""
    table = read_user_table(path)
    for line, record in table.rows:
        if None in record or None in record.values():
            found = "more" if None in record else "fewer"
            raise UserError(f"{path}: line {line} has {found} fields than the header")
    if not table.rows:
        raise UserError(f"{path}: a header and no samples")
    lines, records = zip(*table.rows, strict=True)
    return pd.DataFrame.from_records(records, index=lines, columns=table.columns)


def _score_columns(path: Path, header: Sequence[str]) -> tuple[str, list[str]]:
    """`score` or `prob`, and its columns in the header's order, which is the classes'."""
    found = {kind: [n for n in header if n.startswith(f"{kind}_")] for kind in ("score", "prob")}
    listed = ", ".join(header)
    if "target" not in header:
        raise UserError(f"{path}: no column target (tab-separated columns found: {listed})")
    if found["score"] and found["prob"]:
        raise UserError(f"{path}: both score_ and prob_ columns: leave one kind out")
    kind = "score" if found["score"] else "prob"
    if len(found[kind]) < 2:
        raise UserError(
            f"{path}: expected score_<class> (log-odds) or prob_<class> columns of two or more "
            f"classes, found {len(found[kind])} (columns: {listed})"
        )
    return kind, found[kind]


def _numbers(path: Path, places: Sequence[str], table: pd.DataFrame) -> Floats:
    values = table.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    raw, bad = table.to_numpy(), ~np.isfinite(values)
    _refuse(path, places, list(table), raw, bad, "a finite number")
    return values


def _are_probabilities(values: Floats) -> bool:
    """Whether every row is a distribution: log-odds of a whole table never are by chance."""
    inside = ((values >= 0) & (values <= 1)).all()
    return bool(inside and (np.abs(values.sum(1) - 1) <= SUM_TOLERANCE).all())


def _normalised(
    path: Path, places: Sequence[str], columns: Sequence[str], values: Floats
) -> Floats:
    """Probabilities that sum to 1, where rounding is all that they are off by."""
    tolerance = min(LARGEST_ERROR, ROUNDED * values.shape[1]) + SUM_TOLERANCE
    outside = (values < 0) | (values > 1 + tolerance)
    _refuse(path, places, columns, values, outside, "a probability in 0..1")
    sums = values.sum(1)
    error = np.abs(sums - 1)
    wrong = np.flatnonzero(error > tolerance)
    if len(wrong):
        raise UserError(
            f"{path}: {places[wrong[0]]}: the probabilities sum to {sums[wrong[0]]:.6g}, expected "
            f"1 (within {tolerance:g}): give them unrounded, or log-odds as score_<class>"
        )
    if error.max() > SUM_TOLERANCE:
        worst = f"{sums[error.argmax()]:.6g}"
        log.warning("%s: probabilities sum to as much as %s and were normalised", path, worst)
    return np.asarray(values / sums[:, None])


def _refuse(
    path: Path,
    places: Sequence[str],
    columns: Sequence[str],
    values: np.ndarray,
    bad: np.ndarray,
    expected: str,
) -> None:
    """Name the first bad cell, and how many there are."""
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UserError(
            f"{path}: {places[row]}, column {columns[column]}: found "
            f"{str(values[row, column])!r}, expected {expected} ({bad.sum()} such value(s))"
        )


def _refuse_targets(path: Path, places: Sequence[str], target: pd.Series, classes: int) -> None:
    wrong = np.flatnonzero(~target.between(0, classes - 1))
    if len(wrong):
        raise UserError(
            f"{path}: {places[wrong[0]]}, column target: found {target.iloc[wrong[0]]}, "
            f"expected a class index in 0..{classes - 1}"
        )


def _class_indices(
    path: Path,
    places: Sequence[str],
    target: pd.Series,
    classes: Sequence[str],
    targets: str | None,
) -> Ints:
    """Class indices from a column of indices or of names."""
    text = [str(value) for value in target]
    maps = {
        "name": {name: i for i, name in enumerate(classes)},
        "index": {str(i): i for i in range(len(classes))},
    }
    readings = [m for kind, m in maps.items() if targets in (None, kind)]
    fitting = [m for m in readings if all(t in m for t in text)]
    if not fitting:
        nearest = max(readings, key=lambda m: sum(t in m for t in text))
        row = next(i for i, value in enumerate(text) if value not in nearest)
        raise UserError(
            f"{path}: {places[row]}, column target: unknown class {text[row]!r}, "
            f"expected one of {', '.join(nearest)}"
        )
    found = [np.array([m[t] for t in text], dtype=np.int64) for m in fitting]
    if any((one != found[0]).any() for one in found):
        raise UserError(
            f"{path}: column target can be read as class names and as class indices, and they "
            "differ: say which with --targets name or --targets index"
        )
    return found[0]
