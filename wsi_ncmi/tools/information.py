"""Stage `information`: CMI, Γ and NCMI of any classifier's predictions."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.information import Information, information
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.files.table import DIGITS
from wsi_ncmi.predictions.foreign import ForeignPredictions, read_foreign

KEYS = ["run_id", "part"]


def run(
    predictions: Path,
    part: str | None = None,
    out: Path | None = None,
    samples: Path | None = None,
    targets: str | None = None,
) -> None:
    """Print the measures of every run and part; docs/losses.md defines them.

    Args:
        predictions: `predictions.parquet`, or a TSV with `target` and `score_<class>` or
            `prob_<class>`, and where it has them `run_id`, `part` and `sample_id`.
        part: only this one.
        out: TSV, the printed rows and one per class below each.
        samples: TSV, the terms of every sample.
        targets: what a TSV's targets are, `index` or `name`; None: whichever fits.

    Raises:
        UserError: the file does not fit, has no such part, or a run's part has a single class.
    """
    scored = read_foreign(predictions, targets)
    found = {key: (rows, one) for key, rows, one in _measured(predictions, scored, part)}
    table = pd.DataFrame(
        row
        for key, (_, one) in found.items()
        for row in _rows(dict(zip(KEYS, key, strict=True)), one, scored.classes)
    )
    overall = table[table["level"] == "run"].drop(columns=["level", "class"])
    print(overall.to_string(index=False, float_format=lambda value: f"{value:.6g}"))
    if out is not None:
        write_frame(out, table, DIGITS)
    if samples is not None:
        rows = pd.concat(_sample_rows(*one, scored) for one in found.values())
        write_frame(samples, rows, DIGITS)


def _measured(
    path: Path, scored: ForeignPredictions, part: str | None
) -> Iterator[tuple[tuple[str, str], np.ndarray, Information]]:
    """Run and part, the numbers of its rows, and its terms."""
    parts = sorted(scored.rows["part"].unique())
    if part is not None and part not in parts:
        raise UserError(f"{path}: no part {part!r}, found {', '.join(parts)}")
    for key, group in scored.rows.groupby(KEYS, sort=False):
        if part in (None, key[1]):
            rows = group.index.to_numpy()
            try:
                one = information(scored.log_probabilities[rows], group["target"].to_numpy())
            except ValueError as error:
                raise UserError(f"{path}: run {key[0]}, part {key[1]}: {error}") from None
            yield key, rows, one


def _rows(
    key: dict[str, str], found: Information, classes: list[str]
) -> Iterator[dict[str, object]]:
    yield {**key, "level": "run", "class": "", "n": len(found.target), **found.measures}
    for index, name in enumerate(classes):
        one = found.of_class(index)
        yield {**key, "level": "class", "class": name, "n": len(one.target), **one.measures}


def _sample_rows(rows: np.ndarray, found: Information, scored: ForeignPredictions) -> pd.DataFrame:
    identity = scored.rows.iloc[rows]
    return identity.assign(
        target=[scored.classes[index] for index in identity["target"]],
        divergence=found.divergence,
        separation=found.separation,
        centroid_separation=found.centroid_separation,
    )
