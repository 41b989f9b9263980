"""Anyone's scored samples, from a predictions file of ours or a plain table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import log_softmax

from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.information import log_probabilities
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.predictions.read import class_names

IDENTITY = ("run_id", "part", "sample_id")
PARQUET_COLUMNS = (*IDENTITY, "target", "scores")
SUM_TOLERANCE = 1e-3  # tables have rounded digits, and a thousand classes add up theirs
FIRST_LINE = 2  # of a table with a header


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
    if not path.is_file():
        raise UserError(f"{path}: no such predictions file")
    return _read_parquet(path) if path.suffix == ".parquet" else _read_tsv(path, targets)


def _read_parquet(path: Path) -> ForeignPredictions:
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a Parquet file ({error})") from None
    missing = [name for name in PARQUET_COLUMNS if name not in table.column_names]
    if missing or b"classes" not in (table.schema.metadata or {}):
        raise UserError(
            f"{path}: not a predictions file of wsi-ncmi (no {', '.join(missing) or 'class names'})"
            ": of other classifiers, give a TSV with target and score_<class> or prob_<class>"
        )
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
    _refuse(path, "row", 0, columns, scores, ~np.isfinite(scores), "a finite number")
    rows = table.select([*IDENTITY, "target"]).to_pandas()
    _refuse_targets(path, "row", 0, rows["target"], len(classes))
    return ForeignPredictions(rows, np.asarray(log_softmax(scores, axis=1)), classes)


def _read_tsv(path: Path, targets: str | None) -> ForeignPredictions:
    header = _header(path)
    kind, columns = _score_columns(path, header)
    classes = [name.removeprefix(f"{kind}_") for name in columns]
    table = _table(path)
    values = _numbers(path, table[columns])
    rows = pd.DataFrame(
        {
            "run_id": table.get("run_id", path.stem),
            "part": table.get("part", "all"),
            "sample_id": table.get("sample_id", [f"line {FIRST_LINE + i}" for i in table.index]),
            "target": _class_indices(path, table["target"], classes, targets),
        }
    )
    if kind == "score":
        return ForeignPredictions(rows, np.asarray(log_softmax(values, axis=1)), classes)
    _check_probabilities(path, columns, values)
    return ForeignPredictions(rows, log_probabilities(values), classes)


def _table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            dtype=dict.fromkeys((*IDENTITY, "target"), str),
            keep_default_na=False,
            float_precision="round_trip",
            low_memory=False,
        )
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table of tab-separated text: {error}") from None
    if table.empty:
        raise UserError(f"{path}: a header and no samples")
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes what is too much for an index
        raise UserError(f"{path}: line {FIRST_LINE} has more fields than the header")
    return table


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            names = file.readline().rstrip("\r\n").split("\t")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a table of tab-separated text: {error}") from None
    if names == [""]:
        raise UserError(f"{path}: empty, expected a header with target and score_<class> columns")
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise UserError(f"{path}: column {double[0]} stands there more than once")
    return names


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


def _numbers(path: Path, table: pd.DataFrame) -> Floats:
    values = table.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    raw = table.to_numpy()
    _refuse(path, "line", FIRST_LINE, list(table), raw, ~np.isfinite(values), "a finite number")
    return values


def _check_probabilities(path: Path, columns: Sequence[str], values: Floats) -> None:
    outside = (values < 0) | (values > 1 + SUM_TOLERANCE)
    _refuse(path, "line", FIRST_LINE, columns, values, outside, "a probability in 0..1")
    sums = values.sum(1)
    wrong = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if len(wrong):
        raise UserError(
            f"{path}: line {FIRST_LINE + wrong[0]}: the prob_ columns sum to {sums[wrong[0]]:.6g}, "
            "expected 1: name log-odds or logits score_<class> instead"
        )


def _refuse(
    path: Path,
    unit: str,
    first: int,
    columns: Sequence[str],
    values: np.ndarray,
    bad: np.ndarray,
    expected: str,
) -> None:
    """Name the first bad cell, and how many there are."""
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UserError(
            f"{path}: {unit} {first + row}, column {columns[column]}: found "
            f"{str(values[row, column])!r}, expected {expected} ({bad.sum()} such value(s))"
        )


def _refuse_targets(path: Path, unit: str, first: int, target: pd.Series, classes: int) -> None:
    wrong = np.flatnonzero(~target.between(0, classes - 1))
    if len(wrong):
        raise UserError(
            f"{path}: {unit} {first + wrong[0]}, column target: found {target.iloc[wrong[0]]}, "
            f"expected a class index in 0..{classes - 1}"
        )


def _class_indices(
    path: Path, target: pd.Series, classes: Sequence[str], targets: str | None
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
            f"{path}: line {FIRST_LINE + row}, column target: unknown class {text[row]!r}, "
            f"expected one of {', '.join(nearest)}"
        )
    found = [np.array([m[t] for t in text], dtype=np.int64) for m in fitting]
    if any((one != found[0]).any() for one in found):
        raise UserError(
            f"{path}: column target can be read as class names and as class indices, and they "
            "differ: say which with --targets name or --targets index"
        )
    return found[0]
