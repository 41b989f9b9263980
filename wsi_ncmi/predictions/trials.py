"""The trials of a search: what became of every setting of an arm, and which of them is best."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.files.table import DIGITS, read_text, write_table
from wsi_ncmi.predictions.completeness import ARM
from wsi_ncmi.predictions.records import OK, SEARCH

Row = dict[str, Any]
SETTING = ["task", "arm", "options", "training"]
RESULT = ["status", "macro_f1", "log_loss", "balanced_accuracy", "auroc", "epochs", "best_epoch"]
TRIAL = ["seconds", "aggregator", "fold", "seed", "digest", "reason"]
COLUMNS = [*SETTING, *RESULT, *TRIAL]
CURVES = ["setting", "epoch", "log_loss", "macro_f1"]
CELL = ["aggregator", "objective", "repeat", "fold", "seed"]
"""Where a nested search was made."""
OF_RUN = ["setting", "chosen", "options", "training", "learning_rate", *RESULT]
OF_RUN += ["seconds", "digest", "reason"]
WHOLE = ("setting", "epoch", "epochs")
SCORES = ("macro_f1", "log_loss", "balanced_accuracy", "auroc")
REAL = (*SCORES, "learning_rate", "best_epoch", "seconds")
NUMBERS: dict[str, type] = {**dict.fromkeys(WHOLE, int), **dict.fromkeys(REAL, float)}


def best(rows: Sequence[Row]) -> Row | None:
    """By macro-F1, then by the log-likelihood; of equals the first. None: none could be trained."""
    trained = [row for row in rows if row["status"] == OK]
    return max(
        trained, key=lambda row: (float(row["macro_f1"]), -float(row["log_loss"])), default=None
    )


def none_trained(rows: Sequence[Row]) -> str:
    """What is said of an arm without a setting that could be trained."""
    first = rows[0]
    return (
        f"{first['task']}: none of the {len(rows)} settings of {first['arm']} could be trained "
        f"(the first: {first['reason']}): it keeps the settings that it has; give its search "
        "other values"
    )


def flow(setting: Mapping[str, Any]) -> str:
    """A mapping on one line, as the configuration writes it."""
    return str(yaml.safe_dump(dict(setting), default_flow_style=True, width=10**6)).strip()


def read_trials(path: Path) -> list[Row]:
    """Rows as text; none where there is no file."""
    return [row for _, row in read_text(path).rows] if path.is_file() else []


def write_trials(path: Path, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> None:
    """What was tried; what a row does not have is blank."""
    write_table(path, columns, [[row.get(column) for column in columns] for row in rows])


def write_search(folder: Path, rows: Sequence[Row], curves: Sequence[Row]) -> None:
    """Of a run, all settings among which its own was chosen, and their curves on validation.

    Args:
        rows: columns `OF_RUN`.
        curves: columns `CURVES`, a row per setting and epoch.
    """
    write_trials(folder / SEARCH[0], rows, OF_RUN)
    write_table(folder / SEARCH[1], CURVES, [[r[c] for c in CURVES] for r in curves], DIGITS)


def forget_search(folder: Path) -> None:
    """What an earlier nested search of a run found is no more: nothing is searched now."""
    for name in SEARCH:
        (folder / name).unlink(missing_ok=True)


def read_searches(task_dir: Path, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What `write_search` wrote of a task's runs; no row where nothing was searched.

    Args:
        runs: run_id and `CELL` of each.

    Returns:
        The settings, columns `CELL` and `OF_RUN`, and their curves, columns `CELL` and `CURVES`.
    """
    found: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    for run in runs.to_dict("records"):
        folder = task_dir / run["run_id"]
        if (folder / SEARCH[0]).is_file():
            cell = {name: run[name] for name in CELL}
            for tables, name in zip(found, SEARCH, strict=True):
                tables.append(read_frame(folder / name, NUMBERS).assign(**cell))
    settings, curves = (
        pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)
        for tables, columns in zip(found, ([*CELL, *OF_RUN], [*CELL, *CURVES]), strict=True)
    )
    return settings, curves


def rated_curves(
    curves: pd.DataFrame,
    search: pd.DataFrame,
    search_curves: pd.DataFrame,
    settings: Sequence[Mapping[str, Any]],
) -> pd.DataFrame:
    """Macro-F1 on validation of all models that were trained, with their learning rates.

    Args:
        curves: of the recorded runs, a row per epoch and part: `ARM`, fold, seed, part, macro_f1.
        search, search_curves: see `read_searches`; they stand in the place of these arms' runs.
        settings: of the arms: aggregator, objective, training.

    Returns:
        aggregator, objective, learning_rate, epoch, macro_f1; arms without settings are left out.
    """
    rates = {tuple(one[k] for k in ARM): one["training"]["learning_rate"] for one in settings}
    searched = set(search[ARM].itertuples(index=False, name=None))
    plain = curves[(curves["part"] == "val") & ~_arm_of(curves).isin(searched)]
    place = [*CELL, "setting"]
    tried = search_curves.merge(search[[*place, "learning_rate"]], on=place)
    both = pd.concat([part for part in (plain, tried) if len(part)] or [plain])
    own = _arm_of(both).map(rates).astype(float)
    found = both.assign(learning_rate=both.get("learning_rate", own).fillna(own))
    return found.dropna(subset=["learning_rate"])[[*ARM, "learning_rate", "epoch", "macro_f1"]]


def _arm_of(table: pd.DataFrame) -> pd.Series:
    keys = list(table[ARM].itertuples(index=False, name=None))
    return pd.Series(keys, index=table.index, dtype=object)
