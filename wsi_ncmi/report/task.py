"""A task in the report: its answer in one sentence, tables with intervals, and figures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wsi_ncmi.config import PublishedValue
from wsi_ncmi.evaluation import calibration, metrics
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.report.centres import centre_blocks, probe_blocks
from wsi_ncmi.report.differences import comparison_answer, difference_blocks
from wsi_ncmi.report.failures import (
    failure_blocks,
    no_model,
    trained_of,
)
from wsi_ncmi.report.nested import chosen_blocks
from wsi_ncmi.report.origins import origin_blocks
from wsi_ncmi.report.page import Block, Heading, Picture, Section, Table, Text
from wsi_ncmi.report.published import published_blocks
from wsi_ncmi.report.selection import selection_blocks
from wsi_ncmi.report.sensitivity import CAPTION, sensitivity_block
from wsi_ncmi.report.staging import staging_blocks
from wsi_ncmi.report.states import first_words, shown_marks, state_blocks
from wsi_ncmi.report.tuning import (
    Tuning,
    caveat,
    choice_blocks,
    rates_and_epochs,
    settings_table,
)
from wsi_ncmi.report.wording import (
    interval,
    number,
    single_answer,
    title,
)

MAIN = (
    metrics.MACRO_F1,
    metrics.ACCURACY,
    metrics.BALANCED_ACCURACY,
    metrics.AUROC,
    metrics.QUADRATIC_KAPPA,
)
PROBABILITIES = (metrics.NLL, metrics.BRIER, metrics.POOLED_AUROC)

MICRO_F1 = (
    "Macro-F1 is the mean of the F1 of the classes below. Micro-F1, the default of some libraries "
    "for several classes (torchmetrics' F1Score), is the accuracy under another name: a published "
    "F1 that equals its accuracy is micro, and is not to be compared with a macro-F1."
)

FIGURES = {
    "macro_f1": "Macro-F1 by aggregator and objective: mean over seeds with its interval over "
    "patients (over images, where there are none); small dots are single seeds.",
    "confusion": "Confusion matrices on the test part: mean count over seeds; the shade is the "
    "share of each label's samples.",
    "curves": "Learning curves: the mean over folds and seeds, and the range from the lowest to "
    "the highest run. Above the training objective, of each objective a quantity of its own; "
    "below it what all arms share: negative log-likelihood at the fitted temperature and macro-F1 "
    "on validation. After an early stop the mean is of the runs that remain.",
    "forest": "Differences of macro-F1 from the reference with their intervals by the primary "
    "test; thin and grey below: of these trained models, by patients alone. Shaded: differences "
    "that count as none (`evaluation.equivalence_margin`).",
    "ranks": "Critical difference: mean ranks of macro-F1 over the folds of the task, seeds "
    "averaged, 1 for the best. A bar joins arms that differ by less than Nemenyi's critical "
    "difference. Folds share training samples: ranks over them describe, and prove nothing.",
    "reliability": "Reliability on the test part, all seeds: accuracy over the predicted class's "
    "probability, bars for the share of samples, and the expected calibration error (ECE).",
    "sensitivity": CAPTION,
}


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What the stage `evaluate` wrote about a task."""

    name: str
    folder: Path
    summary: dict[str, Any]

    @classmethod
    def read(cls, task_dir: Path) -> "Evaluated":
        folder = task_dir / "evaluation"
        return cls(task_dir.name, folder, json.loads((folder / "summary.json").read_text()))

    def table(self, name: str) -> pd.DataFrame:
        """One of its TSVs; names stay text, whatever they look like."""
        names = {"aggregator", "objective", "reference", "metric", "class", "centre", "run_id"}
        names |= {"policy", "options", "training", "status", "chosen", "reason", "digest"}
        names |= {"state", "remedy", "task", "test", "verdict", "encoder", "stream", "temperature"}
        names |= {"measure", "note", "label", "cohort", "slide_id"}
        path = self.folder / f"{name}.tsv"
        text = read_frame(path)
        numeric = [column for column in text.columns if column not in names]
        return text.assign(**{c: pd.to_numeric(text[c], errors="coerce") for c in numeric})

    @property
    def confidence(self) -> float:
        return float(self.summary["evaluation"]["confidence"])


def task_answer(task: Evaluated, found: Mapping[str, Tuning], *, synthetic: bool) -> str:
    """The answer in one sentence, from the first aggregator and the first objective compared.

    Args:
        found: the search of every objective, see `tuning`.
        synthetic: whether the slides were made by the workflow: the sentence begins with it.
    """
    aggregator, *objectives = _compared(task)
    return (
        first_words(task.summary, aggregator, objectives)
        + caveat(found, objectives, synthetic=synthetic)
        + _answer(task)
    )


def _compared(task: Evaluated) -> list[str]:
    """The aggregator of the answer, the objective, and the reference if there is one."""
    table = task.table("differences")
    names = ["aggregator", "objective", "reference"]
    if len(table):
        return [str(table[name].iloc[0]) for name in names]
    return [str(task.table("metrics")[name].iloc[0]) for name in names[:2]]


def _answer(task: Evaluated) -> str:
    differences, table = task.table("differences"), task.table("metrics")
    if len(differences):
        return comparison_answer(differences, table, task.summary)
    row = table[table["metric"] == metrics.MACRO_F1].iloc[0]
    bounds = float(row["low"]), float(row["high"])
    arm = str(row["aggregator"]), str(row["objective"])
    if row["failed"] == row["runs"]:
        return no_model(*arm)
    return single_answer(*arm, float(row["value"]), bounds, task.confidence)


def task_section(
    task: Evaluated,
    found: Mapping[str, Tuning],
    published: Sequence[PublishedValue] = (),
    encoder: str = "",
) -> Section:
    """Everything about one task, its attention apart.

    Args:
        found: the search of every objective, see `tuning`.
        published: what others report under the same protocol.
        encoder: on whose features it was trained; "": there is one.
    """
    blocks: list[Block] = [
        Text(_design(task.summary) + f" Trained on the features of {encoder}." * bool(encoder)),
        *choice_blocks(task.folder.parent, found, task.summary),
        *(Text(f"{text[0].upper()}{text[1:]}.", "warning") for text in task.summary["warnings"]),
        *state_blocks(task.summary),
        *failure_blocks(task.summary),
        _metric_table(task),
        *published_blocks(published, task.table("metrics")),
        _probability_table(task),
        *difference_blocks(task.table("differences"), task.table("fixed_models"), task.summary),
        *_optional_figures(task, "forest", "ranks"),
        settings_table(found, task.summary),
        *chosen_blocks(task.table("search")),
        _figure(task, "macro_f1"),
        Heading("By class"),
        Text(MICRO_F1),
        _class_table(task),
        _figure(task, "confusion"),
        *origin_blocks(task.table("origins"), task.summary["classes"], task.confidence),
        *centre_blocks(task.table("centres")),
        *probe_blocks(task.table("centre_probe"), task.confidence),
        *staging_blocks(task.table("staging"), task.confidence),
        Heading("Calibration and learning curves"),
        _calibration_table(task),
        _figure(task, "reliability"),
        _figure(task, "curves"),
        *selection_blocks(task.table("selection")),
        Heading("Learning rate and epochs"),
        sensitivity_block(task.table("sensitivity")),
        _figure(task, "sensitivity"),
        Heading("Information"),
        _information_table(task),
    ]
    return Section(f"Task {task.name}", f"task-{task.name}", blocks)


def _design(summary: dict[str, Any]) -> str:
    counts = summary["samples"].get("test", {})
    classes = ", ".join(f"{name} {count}" for name, count in counts.items())
    patients, samples = summary["test_patients"], summary["test_samples"]
    scored = "Every trained model scored its share of the same"
    if not summary["failed"]:
        scored = "Every arm scored the same"
    of = f" of {patients} patients" if patients != samples else ""
    repeats = len(summary["repeats"])
    folds = f"{len(summary['folds']) // repeats} folds "
    folds += f"× {repeats} repeats of the partition " * (repeats > 1)
    return (
        f"{summary['runs']} models: {len(summary['arms'])} arms × {folds}"
        f"× {len(summary['seeds'])} seeds, protocol {summary['protocol']}, "
        f"precision {' and '.join(summary['precision'])}. {scored} {samples} test samples{of} "
        f"once in each {_pass(summary)} ({classes})."
    )


def _pass(summary: dict[str, Any]) -> str:
    """What tests every sample once."""
    return "seed" if len(summary["repeats"]) == 1 else "seed and repeat"


UNKNOWN = ["–", "–"]
"""Learning rate and epochs where they are not recorded."""


def _metric_table(task: Evaluated) -> Table:
    shown = [m for m in MAIN if m in task.summary["metrics"]]
    trained, settings = trained_of(task.summary), rates_and_epochs(task.summary)
    marked = shown_marks(task.summary)
    body = []
    for key, values in _by_arm(task.table("metrics")):
        cells = [_with_interval(values.loc[m]) for m in shown]
        cells.insert(1, number(values.loc[metrics.MACRO_F1, "seed_sd"]))
        beside = [found[key] for found in (trained, marked) if key in found]
        names = [title(key[0]), "\n".join([title(key[1]), *beside])]
        body.append([*names, *settings.get(key, UNKNOWN), *cells])
    header = ["aggregator", "objective", "learning\nrate", "epochs", *_headings(shown)]
    header.insert(5, "seed\ns.d.")
    resamples = task.summary["evaluation"]["bootstrap"]
    folds = ", averaged over folds" if len(task.summary["folds"]) > 1 else ""
    kappa = " The quadratic kappa counts the steps between classes." * task.summary["ordinal"]
    caption = (
        f"Test part: mean over every {_pass(task.summary)}, with {100 * task.confidence:g} % "
        f"intervals from {resamples} resamples of patients (of images, where there are none) below "
        f"each; seed s.d.: of macro-F1 over every {_pass(task.summary)}. AUROC: one class against "
        f"the rest{folds}.{kappa}"
    )
    return Table(caption, header, body, 2)


def _probability_table(task: Evaluated) -> Table:
    """What the scores are worth as probabilities, and the samples of all folds ranked together."""
    pooled = len(task.summary["folds"]) > 1
    shown = [m for m in PROBABILITIES if pooled or m != metrics.POOLED_AUROC]
    body = [
        [title(key[0]), title(key[1]), *(_with_interval(values.loc[m]) for m in shown)]
        for key, values in _by_arm(task.table("metrics"))
    ]
    note = (
        " AUROC, pooled: the samples of all folds ranked together, though each fold's model has a "
        "scale of its own."
    )
    caption = (
        "Probabilities on the test part, after a temperature fitted on validation: negative "
        "log-likelihood in nats (NLL) and Brier score; of both, lower is better."
        f"{note * pooled}"
    )
    return Table(caption, ["aggregator", "objective", *_headings(shown)], body, 2)


def _calibration_table(task: Evaluated) -> Table:
    """Every measure before and after the temperature."""
    header = ["NLL", "Brier\nscore", *(f"ECE,\n{bins} bins" for bins in calibration.BIN_COUNTS)]
    header += [f"ECE, {calibration.EQUAL_MASS}\nequal masses"]
    rows = task.table("calibration").set_index(["aggregator", "objective", "temperature"])
    body = [
        [
            title(key[0]),
            title(key[1]),
            *(
                f"{number(rows.loc[(*key, 'before'), name])} → "
                f"{number(rows.loc[(*key, 'after'), name])}"
                for name in calibration.MEASURES
            ),
        ]
        for key in dict.fromkeys(key[:2] for key in rows.index)
    ]
    caption = (
        "Calibration on the test part, all folds and seeds, before → after the temperature that is "
        "fitted on validation: NLL, Brier score and expected calibration error (ECE) of the "
        "predicted class, by bins of equal width and by bins of equal mass. Lower is better; an "
        "ECE that hangs on the bins says little. –: more than a temperature was fitted, or the "
        "models are of an earlier version."
    )
    return Table(caption, ["aggregator", "objective", *header], body, 2)


def _headings(names: Sequence[str]) -> list[str]:
    """Titles of metrics for the head of a column, on two lines where they are long."""
    return [title(name).replace(" ", "\n", 1) for name in names]


def _by_arm(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for key, part in table.groupby(["aggregator", "objective"], sort=False):
        yield key, part.set_index("metric")


def _with_interval(row: pd.Series) -> str:
    return f"{number(row['value'])}\n{interval(row['low'], row['high'])}"


def _class_table(task: Evaluated) -> Table:
    table = task.table("per_class")
    body = []
    keys = ["aggregator", "objective", "class"]
    for key, part in table.groupby(keys, sort=False):
        values = part.set_index("metric")
        cells = [_with_interval(values.loc[m]) for m in metrics.CLASS_METRICS]
        support = f"{part['samples'].iloc[0]:.0f}"
        body.append([title(key[0]), title(key[1]), key[2], support, *cells])
    header = ["aggregator", "objective", "class", "samples", *map(title, metrics.CLASS_METRICS)]
    return Table("F1 and recall of each class, with intervals.", header, body, 3)


def _information_table(task: Evaluated) -> Table:
    measures = ["cmi", "gamma", "ncmi", "ncmi_seed_sd"]
    body = [
        [title(row["aggregator"]), title(row["objective"]), *(number(row[m]) for m in measures)]
        for _, row in task.table("information").iterrows()
    ]
    header = ["aggregator", "objective", "CMI", "Γ", "NCMI", "seed s.d."]
    caption = (
        "CMI, Γ and NCMI of the predictions on the test part: mean over seeds, in nats. CMI: how "
        "far samples are from their class's mean distribution; Γ: cross-entropy between samples "
        "of different classes; NCMI = CMI/Γ; seed s.d.: of NCMI. They describe the predictions and "
        "rank no arm: they depend on the scores' scale, which the fitted temperature sets, and an "
        "arm with a low NCMI may classify worse."
    )
    return Table(caption, header, body, 2)


def _optional_figures(task: Evaluated, *names: str) -> list[Picture]:
    """Those that there are: a single arm differs from nothing, two have no ranks."""
    folder = task.folder / "figures"
    return [_figure(task, name) for name in names if (folder / f"{name}.png").is_file()]


def _figure(task: Evaluated, name: str) -> Picture:
    path = task.folder / "figures" / f"{name}.png"
    return Picture.of(path, f"{name.replace('_', ' ')} of task {task.name}", FIGURES[name])


def sample_table(task: Evaluated) -> Table:
    """Samples of each class in each part, where there is no slide sheet to count them from."""
    counts = task.summary["samples"]
    body = [[part, *(str(n) for n in of_class.values())] for part, of_class in counts.items()]
    caption = f"Task {task.name}: samples by part and class."
    return Table(caption, ["part", *task.summary["classes"]], body)
