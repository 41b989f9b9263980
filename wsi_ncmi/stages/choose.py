"""Stage `choose`: the best setting of every searched arm; and how the tables of a search look."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.files.table import read_text, write_table
from wsi_ncmi.predictions.records import OK
from wsi_ncmi.training.interface import Validation

log = logging.getLogger(__name__)

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

    An arm of which no setting could be trained stays as it is; a comment says so.

    Args:
        section: where the tasks stand in the configuration: `tasks` or `images`.
        log_out: all settings of all arms, a column `chosen`.
        chosen_out: what the best ones override, for a second `--configfile`.
    """
    rows: list[Row] = []
    tasks: dict[str, Any] = {}
    header = HEADER
    for table in tables:
        arm = read_trials(table)
        chosen = best(arm)
        rows += [{**row, "chosen": "yes" if row is chosen else "no"} for row in arm]
        if chosen is None:
            log.warning("%s", none_trained(arm))
            header += f"# {none_trained(arm)}\n"
            continue
        setting = {key: yaml.safe_load(chosen[key]) for key in ("options", "training")}
        objectives = tasks.setdefault(chosen["task"], {"objectives": {}})["objectives"]
        objectives[chosen["arm"]] = {key: value for key, value in setting.items() if value}
    write_trials(log_out, rows, ["chosen", *COLUMNS])
    write_text(chosen_out, header + yaml.safe_dump({section: tasks}, sort_keys=False))


def best(rows: Sequence[Row]) -> Row | None:
    """By macro-F1, then by the log-likelihood; of equals the first. None: none could be trained."""
    found: tuple[Validation, Row] | None = None
    for row in rows:
        if row["status"] != OK:
            continue
        now = Validation(float(row["macro_f1"]), float(row["log_loss"]))
        if now.better_than(found[0] if found else None):
            found = now, row
    return found[1] if found else None


def none_trained(rows: Sequence[Row]) -> str:
    """What is said of an arm without a setting that could be trained."""
    return (
        f"{rows[0]['task']}: none of the {len(rows)} settings of {rows[0]['arm']} could be trained "
        f"(the first: {rows[0]['reason']}): it keeps the settings that it has; give its search "
        "other values"
    )


def flow(setting: dict[str, Any]) -> str:
    """A mapping on one line, as the configuration writes it."""
    return str(yaml.safe_dump(setting, default_flow_style=True, width=10**6)).strip()


def read_trials(path: Path) -> list[Row]:
    """Rows as text; none where there is no file."""
    return [row for _, row in read_text(path).rows] if path.is_file() else []


def write_trials(path: Path, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> None:
    """What was tried; what a row does not have is blank."""
    write_table(path, columns, [[row.get(column) for column in columns] for row in rows])
