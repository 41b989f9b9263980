"""The figure of the A/A study: how often tests reject, without a difference and with one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wsi_ncmi.report.style import GREY, colour_of, new_figure, png, styled
from wsi_ncmi.report.wording import title

BAND = (0.03, 0.07)
SHOWN = 5
"""Seeds of an arm."""
PRIMARY = "hierarchical bootstrap"


def draw(path: Path) -> bytes:
    """PNG of a study's JSON."""
    found = json.loads(path.read_text())
    rows = pd.DataFrame(found["rows"])
    pools = [(pool["task"], pool["arm"]) for pool in found["pools"]]
    with styled():
        figure = new_figure(9.2, 3.8)
        left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
        _rejections(left, rows[(rows["kind"] == "none") & (rows["seeds"] == SHOWN)], pools)
        _power(right, rows[rows["seeds"] == SHOWN], pools)
        right.legend(*left.get_legend_handles_labels(), loc="lower right")
        return png(figure)


def _rejections(axes: Axes, rows: pd.DataFrame, pools: list[tuple[str, str]]) -> None:
    tests = list(dict.fromkeys(rows["test"]))
    axes.axvspan(*BAND, color=GREY, alpha=0.15, lw=0)
    axes.axvline(0.05, color=GREY, lw=1, ls="--")
    for i, pool in enumerate(pools):
        own = _of(rows, pool).set_index("test").loc[tests]
        y = np.arange(len(tests))[::-1] + 0.14 * ((len(pools) - 1) / 2 - i)
        error = [own["rejected"] - own["low"], own["high"] - own["rejected"]]
        axes.errorbar(
            own["rejected"], y, xerr=error, fmt="o", ms=4, lw=1.2, color=colour_of(i),
            label=f"{pool[0]}, {title(pool[1])}",
        )  # fmt: skip
    axes.set_yticks(np.arange(len(tests))[::-1], tests)
    axes.set(xlabel="pairs of equal arms that differ at p < 0.05", xlim=(0, None))
    axes.set_title(f"No difference, {SHOWN} seeds against {SHOWN}")


def _power(axes: Axes, rows: pd.DataFrame, pools: list[tuple[str, str]]) -> None:
    rows = rows[rows["test"] == PRIMARY].assign(size=rows["difference"].abs())
    for i, pool in enumerate(pools):
        own = _of(rows, pool).sort_values("size")
        axes.plot(own["size"], own["promised"], "--", lw=1.2, color=colour_of(i))
        error = [own["rejected"] - own["low"], own["high"] - own["rejected"]]
        axes.errorbar(own["size"], own["rejected"], yerr=error, fmt="o", ms=4, color=colour_of(i))
        found: Any = own[own["kind"] == "detectable"]
        ring: Any = {"facecolors": "none", "edgecolors": colour_of(i)}
        axes.scatter(found["size"], found["rejected"], 70, **ring)
    axes.axhline(0.8, color=GREY, lw=1, ls=":")
    axes.set(
        xlabel="true difference in macro-F1", ylabel="found (dashed: promised)", ylim=(0, 1.02)
    )
    axes.set_title(f"Power, {PRIMARY}")


def _of(rows: pd.DataFrame, pool: tuple[str, str]) -> pd.DataFrame:
    return rows[(rows["task"] == pool[0]) & (rows["arm"] == pool[1])]
