"""Figures of the ablations: macro-F1 against τ, the centre, the class distributions, the batch.

    python benchmarks/ablations.py results/ablations-* --out docs/images

A panel for each results folder. What is read is `runs/<task>/evaluation/metrics.tsv` of every task
in it; what an arm is stands in its name, as config/studies/ablations-*.yaml have them: `nsf-0.2`,
`softmax-0.5`, `centre-none`, `centre-0.99`, `centroids-fixed`, `ncmi-batch-16`. An arm
`cross_entropy` of the same task is drawn as a band.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsi_ncmi.evaluation.metrics import MACRO_F1
from wsi_ncmi.files.atomic import write_bytes
from wsi_ncmi.report.style import GREY, colour_of, new_figure, png, styled
from wsi_ncmi.report.wording import title

BASELINE = "cross_entropy"
LINES = {"nsf": "NSF", "softmax_matched": "softmax, ξ of length 1/τ"}
TEMPERATURE = r"(?P<line>nsf|softmax|softmax_matched)-(?P<x>[0-9.]+)"
CENTRE = r"(?P<line>centre)-(?P<x>none|frozen|[0-9.]+)"
CENTROIDS = r"(?P<line>centroids)-(?P<x>\w+)"
BATCH = r"(?P<line>cross_entropy|ncmi)-batch-(?P<x>[0-9]+)"


@dataclass(frozen=True)
class Results:
    """Macro-F1 of a results folder.

    Attributes:
        table: task, objective, value, low, high.
        confidence: of the intervals.
    """

    name: str
    table: pd.DataFrame
    confidence: float


def read(folder: Path) -> Results:
    """All evaluated tasks of a results folder, `results/<cohort>`.

    Raises:
        SystemExit: there are none, or a task has several aggregators, which a panel cannot tell.
    """
    evaluations = sorted(folder.glob("runs/*/evaluation"))
    if not evaluations:
        raise SystemExit(f"{folder}: no runs/*/evaluation: run its configuration first")
    tables = [
        pd.read_csv(path / "metrics.tsv", sep="\t").assign(task=path.parent.name)
        for path in evaluations
    ]
    table = pd.concat(tables, ignore_index=True)
    for task, rows in table.groupby("task"):
        found = sorted(rows["aggregator"].unique())
        if len(found) > 1:
            raise SystemExit(f"{folder}, {task}: expected one aggregator, found {', '.join(found)}")
    summary = json.loads((evaluations[0] / "summary.json").read_text())
    rows = table.loc[table["metric"] == MACRO_F1, ["task", "objective", "value", "low", "high"]]
    return Results(folder.name, rows, summary["evaluation"]["confidence"])


def arms(table: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """The arms whose whole name fits, with the columns `line` and `x` (text)."""
    found = table["objective"].str.extract(f"^{pattern}$")
    return table.join(found).dropna(subset=["line"])


def temperature(results: Sequence[Results]) -> Figure | None:
    """Macro-F1 against τ, a line for each map."""
    return _panels(results, TEMPERATURE, "temperature τ", _against(base=10))


def centre(results: Sequence[Results]) -> Figure | None:
    """Macro-F1 against what is taken off the embedding, ever slower."""
    return _panels(results, CENTRE, "centre: none, decay of its running mean, frozen", _categories)


def centroids(results: Sequence[Results]) -> Figure | None:
    """Macro-F1 of fixed, learnt and averaged class distributions."""
    return _panels(results, CENTROIDS, "class distributions", _categories)


def batch(results: Sequence[Results]) -> Figure | None:
    """Macro-F1 against the samples of a step, a line for each objective."""
    return _panels(results, BATCH, "samples a step", _against(base=2))


FIGURES: dict[str, Callable[[Sequence[Results]], Figure | None]] = {
    "temperature": temperature,
    "centre": centre,
    "centroids": centroids,
    "batch": batch,
}


def _panels(
    results: Sequence[Results], pattern: str, label: str, draw: Callable[[Axes, pd.DataFrame], None]
) -> Figure | None:
    """A panel for each folder that has such arms; None if there is none."""
    found = [(one, arms(one.table, pattern)) for one in results]
    found = [(one, table) for one, table in found if len(table)]
    if not found:
        return None
    figure = new_figure(4.2 * len(found) + 0.4, 3.2)
    grid = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (one, table) in zip(grid, found, strict=True):
        _baseline(axes, one.table, table)
        draw(axes, table)
        axes.set_title(title(one.name))
        axes.grid(axis="y")
    grid[0].set_ylabel(f"macro-F1, {100 * found[0][0].confidence:g} % interval")
    figure.supxlabel(label, fontsize=9)
    handles, names = grid[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside upper center", ncols=2 * len(found))
    return figure


def _baseline(axes: Axes, table: pd.DataFrame, drawn: pd.DataFrame) -> None:
    """Cross-entropy of the drawn task, as a line with its interval."""
    own = table[table["task"].isin(drawn["task"]) & (table["objective"] == BASELINE)]
    for _, row in own.iterrows():
        axes.axhspan(row["low"], row["high"], color=GREY, alpha=0.15, lw=0)
        axes.axhline(row["value"], color=GREY, lw=1, ls="--", label=title(BASELINE))


def _against(base: int) -> Callable[[Axes, pd.DataFrame], None]:
    """Draws lines over a logarithmic axis with a tick at every value."""

    def draw(axes: Axes, table: pd.DataFrame) -> None:
        axes.set_xscale("log", base=base)
        for index, (line, rows) in enumerate(table.groupby("line", sort=False)):
            ordered = rows.assign(at=rows["x"].astype(float)).sort_values("at")
            _interval(
                axes,
                ordered["at"].to_numpy(),
                ordered,
                colour_of(index),
                LINES.get(str(line), title(str(line))),
            )
        ticks = sorted(set(table["x"]), key=float)
        axes.set_xticks([float(tick) for tick in ticks], ticks)
        axes.minorticks_off()

    return draw


def _categories(axes: Axes, table: pd.DataFrame) -> None:
    """Draws one point for each name: numbers in their order, `none` before and `frozen` behind."""
    ordered = table.sort_values("x", key=lambda names: names.map(_rank), kind="stable")
    _interval(axes, np.arange(len(ordered)), ordered, colour_of(0), None, joined=False)
    axes.set_xticks(range(len(ordered)), ordered["x"])
    axes.margins(x=0.1)


def _rank(name: str) -> float:
    if re.fullmatch(r"[0-9.]+", name):
        return float(name)
    return {"none": -1.0, "frozen": 2.0}.get(name, 0.0)


def _interval(
    axes: Axes, x: Any, rows: pd.DataFrame, colour: str, label: str | None, *, joined: bool = True
) -> None:
    # Not `errorbar`: a percentile interval need not hold the value, and lengths are not negative.
    axes.vlines(x, rows["low"], rows["high"], color=colour, lw=1.2)
    axes.plot(x, rows["value"], "o-" if joined else "o", color=colour, label=label, ms=5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write every figure that the results have arms for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", type=Path, nargs="+", help="results/<cohort>, a panel each")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args(arguments)
    results = [read(folder) for folder in args.results]
    for name, draw in FIGURES.items():
        with styled():
            figure = draw(results)
            if figure is None:
                print(f"{name}: no such arms, not drawn")
                continue
            path = args.out / f"ablation-{name}.png"
            write_bytes(path, png(figure))
            print(path)


if __name__ == "__main__":
    main()
