"""Stage `choose`: the best setting of every searched arm; and how the tables of a search look."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.files.table import read_text, write_table
from wsi_ncmi.training.loop import Validation

Row = dict[str, Any]
SETTING = ["task", "arm", "options", "training"]
RESULT = ["status", "macro_f1", "log_loss", "balanced_accuracy", "auroc", "epochs", "best_epoch"]
TRIAL = ["seconds", "aggregator", "fold", "seed", "digest", "reason"]
COLUMNS = [*SETTING, *RESULT, *TRIAL]
HEADER = """\
# Written by `snakemake search`: every searched arm's best setting on validation. For a second file:
#   snakemake --cores 2 --configfile <the searched one> <this one>
"""


def run(section: str, tables: Sequence[Path], log_out: Path, chosen_out: Path) -> None:
    """Join the arms' tables, mark the best of each, and write those as a configuration.

    Args:
        section: where the tasks stand in the configuration: `tasks` or `images`.
        log_out: all settings of all arms, a column `chosen`.
        chosen_out: what the best ones override, for a second `--configfile`.
    """
    rows: list[Row] = []
    tasks: dict[str, Any] = {}
    for table in tables:
        arm = read_trials(table)
        best = _best(arm)
        rows += [{**row, "chosen": "yes" if row is best else "no"} for row in arm]
        setting = {key: yaml.safe_load(best[key]) for key in ("options", "training")}
        objectives = tasks.setdefault(best["task"], {"objectives": {}})["objectives"]
        objectives[best["arm"]] = {key: value for key, value in setting.items() if value}
    write_trials(log_out, rows, ["chosen", *COLUMNS])
    write_text(chosen_out, HEADER + yaml.safe_dump({section: tasks}, sort_keys=False))


def _best(rows: Sequence[Row]) -> Row:
    """By macro-F1, then by the log-likelihood; of equals the first."""
    best: tuple[Validation, Row] | None = None
    for row in rows:
        if row["status"] != "ok":
            continue
        now = Validation(float(row["macro_f1"]), float(row["log_loss"]))
        if now.better_than(best[0] if best else None):
            best = now, row
    assert best is not None  # a search without a trained setting writes no table
    return best[1]


def flow(setting: dict[str, Any]) -> str:
    """A mapping on one line, as the configuration writes it."""
    return str(yaml.safe_dump(setting, default_flow_style=True, width=10**6)).strip()


def read_trials(path: Path) -> list[Row]:
    """Rows as text; none where there is no file."""
    return [row for _, row in read_text(path).rows] if path.is_file() else []


def write_trials(path: Path, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> None:
    """What was tried; what a row does not have is blank."""
    write_table(path, columns, [[row.get(column) for column in columns] for row in rows])
