"""Macro-F1 of cross-entropy and NCMI at every rate and length of training (docs/results.md, H3).

    snakemake --cores 2 --configfile config/studies/results-rates.yaml
    python benchmarks/rates.py results/results-rates/runs/* --figure docs/images/rates.png

Collects `evaluation/metrics.tsv` of the tasks into results/rates.tsv, and draws it; without folders
it draws what results/rates.tsv has.
"""

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from measure import RESULTS

from wsi_ncmi.evaluation.metrics import MACRO_F1
from wsi_ncmi.files.atomic import write_bytes
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.files.table import DIGITS
from wsi_ncmi.report.style import colour_of, new_figure, png, styled
from wsi_ncmi.report.wording import title

TABLE = RESULTS / "rates.tsv"
ARM = r"(?P<loss>\w+)-(?P<epochs>\d+)-(?P<rate>[0-9.e-]+)"
LINES = {5: "--", 20: "-"}


def collected(folders: list[Path]) -> pd.DataFrame:
    """Of every task and arm: loss, epochs, rate, value, low, high, seed_sd, runs.

    Raises:
        SystemExit: a folder has no evaluation, or an arm whose name says no rate.
    """
    found = []
    for folder in folders:
        path = folder / "evaluation" / "metrics.tsv"
        if not path.is_file():
            raise SystemExit(f"{path}: not found: run config/studies/results-rates.yaml first")
        rows = pd.read_csv(path, sep="\t")
        rows = rows[rows["metric"] == MACRO_F1]
        named = rows["objective"].str.extract(f"^{ARM}$")
        if named.isna().any(axis=None):
            raise SystemExit(f"{path}: an arm is not named <loss>-<epochs>-<rate>")
        table = named.astype({"epochs": int, "rate": float}).join(
            rows[["value", "low", "high", "seed_sd", "runs"]]
        )
        table.insert(0, "task", folder.name.removesuffix("-kfold"))
        found.append(table)
    return pd.concat(found, ignore_index=True).sort_values(["task", "loss", "epochs", "rate"])


def panel(axes: Axes, rows: pd.DataFrame) -> None:
    """A line for each loss and length, with the interval over patients."""
    for number, (loss, of_loss) in enumerate(rows.groupby("loss")):
        for epochs, line in of_loss.groupby("epochs"):
            label = f"{title(str(loss))}, {epochs} epochs"
            colour, dashes = colour_of(number), LINES.get(int(epochs), ":")
            axes.plot(line["rate"], line["value"], dashes, color=colour, marker=".", label=label)
            axes.fill_between(line["rate"], line["low"], line["high"], color=colour, alpha=0.06)
    rates = sorted(rows["rate"].unique())
    axes.set(title=str(rows["task"].iloc[0]), xscale="log", xlabel="learning rate")
    axes.set_xticks(rates, [f"{rate:.0e}" for rate in rates])
    axes.minorticks_off()


def draw(table: pd.DataFrame, out: Path) -> None:
    tasks = [rows for _, rows in table.groupby("task")]
    with styled():
        figure = new_figure(4 * len(tasks) + 1.6, 3.4)
        grid = figure.subplots(1, len(tasks), squeeze=False)[0]
        for axes, rows in zip(grid, tasks, strict=True):
            panel(axes, rows)
        grid[0].set_ylabel("macro-F1 on test")
        grid[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        write_bytes(out, png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="runs/<task> of the study")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    if arguments.folders:
        write_frame(TABLE, collected(arguments.folders), DIGITS)
    if arguments.figure:
        draw(pd.read_csv(TABLE, sep="\t"), arguments.figure)


if __name__ == "__main__":
    main()
