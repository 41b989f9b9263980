"""Stage `choose`: the best setting of every searched arm."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.predictions.trials import (
    COLUMNS,
    Row,
    best,
    none_trained,
    read_trials,
    write_trials,
)

log = logging.getLogger(__name__)

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
