"""The hypotheses of docs/hypotheses.md, decided by finished studies (docs/results.md).

    python benchmarks/hypotheses.py results/results/runs/* results/results-rates/runs/* \
        results/results-labels/runs/* --figure docs/images/hypotheses.png

Reads `evaluation/scores.parquet` of tasks, and writes every comparison into results/hypotheses.tsv,
where comparisons of other tasks and aggregators stay; p-values are adjusted over all of them.
Without folders it draws and prints what results/hypotheses.tsv has.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from hypotheses_figure import draw
from measure import RESULTS

from wsi_ncmi.evaluation import family, resampling
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.evaluation.primary import Passes, hierarchical_bootstrap, passes_of
from wsi_ncmi.evaluation.samples import Arm, Samples
from wsi_ncmi.evaluation.scores import arm_of, samples_of
from wsi_ncmi.files.atomic import write_bytes
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.files.table import DIGITS

TABLE = RESULTS / "hypotheses.tsv"
RESAMPLES, ARRANGEMENTS, SEED = 2000, 16, 0
LEVEL, MARGIN, CONFIDENCE = 0.05, 0.01, 0.95
Measure = Literal["macro-F1", "rarest F1", "rarest recall"]
CE, NCMI = "cross_entropy", "ncmi"


COMPARISON = ["task", "protocol", "aggregator", "arm", "reference", "measure"]
ORDER = ["hypothesis", "task", "protocol", "aggregator"]
SHOWN = ("task", "protocol", "aggregator", "arm", "reference", "measure", "both", "difference")
SHOWN += ("95 %", "p", "equivalence", "adjusted", "detectable")


@dataclass(frozen=True)
class Hypothesis:
    """One line of docs/hypotheses.md.

    Attributes:
        protocol: the beginning of the names of the task's protocols.
        decides: the p-value that decides it.
    """

    name: str
    protocol: str
    arm: str
    references: tuple[str, ...] = (CE,)
    measures: tuple[Measure, ...] = ("macro-F1",)
    decides: Literal["p_value", "p_equivalence"] = "p_value"


BALANCED = ("cross_entropy_weighted", "logit_adjusted")
RAREST: tuple[Measure, ...] = ("rarest F1", "rarest recall")
DEFAULTS = "20-1e-4"
"""Epochs and rate that H3 speaks of; the others of results-rates.yaml are explorations."""
RATES = [f"{epochs}-{rate}" for epochs in (5, 20) for rate in ("1e-4", "3e-4", "1e-3", "3e-3")]
HYPOTHESES = (
    Hypothesis("H1", "kfold", "cross_entropy_ncmi"),
    Hypothesis("H2", "kfold", NCMI, decides="p_equivalence"),
    *(
        Hypothesis("H3" if r == DEFAULTS else "exploration", "kfold", f"{NCMI}-{r}", (f"{CE}-{r}",))
        for r in RATES
    ),
    Hypothesis("H4", "few", NCMI),
    Hypothesis("H5", "noise", NCMI),
    Hypothesis("H6", "kfold", NCMI, BALANCED, RAREST),
    *(Hypothesis("exploration", "kfold", arm) for arm in ("ncmi_paper", *BALANCED)),
    Hypothesis("exploration", "few", "cross_entropy_ncmi"),
    Hypothesis("exploration", "noise", "cross_entropy_ncmi"),
)


@dataclass(eq=False)
class Evaluated:
    """A task's test predictions, with the resamples of its patients."""

    task: str
    protocol: str
    table: pd.DataFrame
    classes: list[str]
    samples: Samples
    weights: Floats
    passes: dict[tuple[tuple[str, str], Measure], Passes] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Evaluated":
        """Of a task's folder of runs.

        Raises:
            SystemExit: it has not been evaluated.
        """
        path = folder / "evaluation" / "scores.parquet"
        if not path.is_file():
            raise SystemExit(f"{path}: not found: run the study first (docs/results.md)")
        table = pd.read_parquet(path)
        classes = json.loads((path.parent / "summary.json").read_text())["classes"]
        samples = samples_of(table, classes)[1]
        drawn = resampling.patient_weights(samples.n_patients, RESAMPLES, SEED, RESAMPLES)
        weights = next(drawn)[1][samples.patient]
        task, protocol = folder.name.rsplit("-", 1)
        return cls(task, protocol, table, classes, samples, weights)

    @property
    def rarest(self) -> int:
        """The class of which fewest samples are tested."""
        return int(np.bincount(self.samples.target).argmin())

    def of(self, key: tuple[str, str], measure: Measure) -> Passes:
        """An arm's (aggregator, objective) passes in a measure."""
        if (key, measure) not in self.passes:
            arm = arm_of(self.table, key, self.classes)
            self.passes[key, measure] = self._passes(arm, measure)
        return self.passes[key, measure]

    def _passes(self, arm: Arm, measure: Measure) -> Passes:
        if not arm.scored.all():
            raise SystemExit(f"{self.task}-{self.protocol}: an arm lacks models of some folds")
        assert self.samples.fold is not None
        return passes_of(
            arm.predicted,
            partial(self._measured, measure),
            np.unique(self.samples.fold, return_inverse=True)[1],
            self.weights,
            arm.repeats,
            count=ARRANGEMENTS,
            seed=SEED,
        )

    def _measured(self, measure: Measure, predicted: Ints, weights: Floats) -> Floats:
        """Of predictions `[N]` under weights `[N, R]`."""
        target = self.samples.target
        found = resampling.confusions(target, predicted, weights, len(self.classes))
        if measure == "macro-F1":
            return resampling.macro_f1(found, self.samples.labels)
        of_class = {
            "rarest F1": resampling.f1_per_class,
            "rarest recall": resampling.recall_per_class,
        }
        return of_class[measure](found)[:, self.rarest]


def compared(task: Evaluated, hypothesis: Hypothesis) -> Iterator[dict[str, Any]]:
    """A row for each aggregator, reference and measure."""
    arms = task.table[["aggregator", "objective"]].drop_duplicates()
    for aggregator, own in arms.groupby("aggregator", sort=False):
        there = set(own["objective"])
        for reference in hypothesis.references:
            if {hypothesis.arm, reference} <= there:
                for measure in hypothesis.measures:
                    pair = (str(aggregator), hypothesis.arm), (str(aggregator), reference)
                    yield _row(task, hypothesis, pair, measure)


def _row(
    task: Evaluated,
    hypothesis: Hypothesis,
    pair: tuple[tuple[str, str], tuple[str, str]],
    measure: Measure,
) -> dict[str, Any]:
    arm, reference = (task.of(key, measure) for key in pair)
    # Arms of one seed share their stream.
    found = hierarchical_bootstrap(arm, reference, task.samples.n_patients, paired=True)
    low, high = found.interval(CONFIDENCE)
    return {
        "hypothesis": hypothesis.name,
        "task": task.task,
        "protocol": task.protocol,
        "aggregator": pair[0][0],
        "arm": hypothesis.arm,
        "reference": pair[1][1],
        "measure": measure,
        "rarest": task.classes[task.rarest],
        "seeds": len(arm.values),
        "value": float(arm.values.mean()),
        "reference_value": float(reference.values.mean()),
        "difference": float(found.difference),
        "low": float(low),
        "high": float(high),
        "p_value": float(found.p_value),
        "p_equivalence": float(found.equivalence(MARGIN)),
        "detectable": float(found.detectable(CONFIDENCE)),
    }


def compared_in(tasks: Sequence[Evaluated]) -> pd.DataFrame:
    """A row for each comparison."""
    rows = [
        row | {"decides": hypothesis.decides}
        for hypothesis in HYPOTHESES
        for task in tasks
        if task.protocol.startswith(hypothesis.protocol)
        for row in compared(task, hypothesis)
    ]
    return pd.DataFrame(rows)


def joined(earlier: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Comparisons of before, but for those that are found again; tasks and arms in their order."""
    table = pd.concat([earlier, found], ignore_index=True)
    table = table.sort_values(ORDER, key=_first_seen, kind="stable")
    return table.drop_duplicates(COMPARISON, keep="last", ignore_index=True)


def _first_seen(names: pd.Series) -> pd.Series:
    return pd.Series(pd.factorize(names)[0], index=names.index)


def decided(table: pd.DataFrame) -> pd.DataFrame:
    """With `p_holm`: a hypothesis is a family over tasks, aggregators and measures."""
    chosen = np.where(table["decides"] == "p_value", table["p_value"], table["p_equivalence"])
    table = table.assign(p_holm=np.nan)
    for name, own in table.groupby("hypothesis"):
        if name != "exploration":
            table.loc[own.index, "p_holm"] = family.holm(chosen[own.index])
    return table


def markdown(table: pd.DataFrame) -> Iterator[str]:
    """The tables of docs/results.md."""
    for name, own in table.groupby("hypothesis", sort=False):
        yield f"\n{name}\n"
        yield f"| {' | '.join(SHOWN)} |"
        yield "|" + "---|" * len(SHOWN)
        for row in own.itertuples():
            measure = row.measure.replace("rarest", row.rarest)
            yield (
                f"| {row.task} | {row.protocol} | {row.aggregator} | {row.arm} | {row.reference} | "
                f"{measure} | {row.value:.3f}, {row.reference_value:.3f} | {row.difference:+.3f} | "
                f"{row.low:+.3f} to {row.high:+.3f} | {row.p_value:.2g} | {row.p_equivalence:.2g} "
                f"| {row.p_holm:.2g} | {row.detectable:.3f} |"
            )


def main() -> None:
    """Decide, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="*", help="results/<cohort>/runs/<task>")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    arguments = parser.parse_args()
    if arguments.runs:
        found = compared_in([Evaluated.read(folder) for folder in arguments.runs])
        earlier = pd.read_csv(TABLE, sep="\t")
        table = decided(joined(earlier, found))
        numbers = [c for c in table.select_dtypes("floating") if not c.startswith("p_")]
        write_frame(TABLE, table.round(dict.fromkeys(numbers, DIGITS)))
    table = pd.read_csv(TABLE, sep="\t")
    print("\n".join(markdown(table)))
    if arguments.figure:
        write_bytes(arguments.figure, draw(table))


if __name__ == "__main__":
    main()
