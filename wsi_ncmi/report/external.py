"""A second cohort in the report: how the models do there, and against the inner test."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from wsi_ncmi.errors import some
from wsi_ncmi.evaluation import calibration, metrics
from wsi_ncmi.evaluation.coverage import ALL
from wsi_ncmi.evaluation.external import ENSEMBLE, EXTERNAL, INNER
from wsi_ncmi.report.centres import centre_blocks
from wsi_ncmi.report.differences import primary_table
from wsi_ncmi.report.page import Block, Heading, Picture, Section, Table, Text
from wsi_ncmi.report.states import shown_marks
from wsi_ncmi.report.task import Evaluated
from wsi_ncmi.report.wording import arm_title, interval, number, signed, title

ARM = ["aggregator", "objective"]
SHOWN = (
    metrics.MACRO_F1,
    metrics.ACCURACY,
    metrics.BALANCED_ACCURACY,
    metrics.AUROC,
    metrics.QUADRATIC_KAPPA,
    metrics.NLL,
    metrics.BRIER,
)
COMPARED = (
    metrics.MACRO_F1,
    metrics.BALANCED_ACCURACY,
    metrics.AUROC,
    metrics.NLL,
    metrics.BRIER,
)
MEANING = (
    "What this can show: how these very models, left as they are, do on patients of other centres, "
    "scanners and laboratories than those they were trained on. What it cannot show: how they do "
    "anywhere else, since one cohort is one of many places; and why they do better or worse here. "
    "Stain, scanner, patients, their mix and the way labels were given all differ at once. With "
    "the mix of classes alone accuracy, macro-F1 and NLL change; recall by class does not. A "
    "cohort that was looked at before the arms were decided is external no more."
)
FAMILY = (
    "These comparisons are a family of their own: Holm's correction is over those of this cohort, "
    "and takes nothing from the hypotheses that are tested inside."
)


def read_external(task: Evaluated, names: Sequence[str]) -> list[Evaluated]:
    """What the stage `external` wrote about a task, of the second cohorts that have slides of it.

    Args:
        names: of the second cohorts.
    """
    folders = [task.folder.parent / "external" / name for name in names]
    return [
        Evaluated(task.name, folder, json.loads((folder / "summary.json").read_text()))
        for folder in folders
        if (folder / "summary.json").is_file()
    ]


def external_answer(task: Evaluated, outside: Evaluated) -> str:
    """One sentence: macro-F1 there and how it differs, of the first arm that is compared."""
    differences, gap = (one.set_index(ARM) for one in (_macro_f1(outside, n) for n in TABLES))
    compared = differences[differences["difference"].notna()]
    key = compared.index[0] if len(compared) else gap.index[0]
    found, size = gap.loc[key], outside.summary
    percent = f"{100 * task.confidence:g} % interval"
    there = _macro_f1(outside, "metrics").set_index(ARM).loc[key]
    sentence = (
        f"On the external cohort {size['name']} ({_count(size)}) {arm_title(*key)} has a macro-F1 "
        f"of {number(there['value'])} ({percent} {interval(there['low'], there['high'])}), "
        f"{signed(found['difference'])} against the inner test ({_interval_of(found)})"
    )
    if not len(compared):
        return f"{sentence}."
    row = compared.loc[key]
    return (
        f"{sentence}; against {title(row['reference'])} it is {signed(row['difference'])} there "
        f"({interval(*_bounds(row))}): {row['verdict']}."
    )


TABLES = ("differences", "gap")


def _macro_f1(outside: Evaluated, name: str) -> pd.DataFrame:
    table = outside.table(name)
    return table[table["metric"] == metrics.MACRO_F1]


def _bounds(row: pd.Series) -> tuple[float, float]:
    """Where trainings cannot be varied, those of these trained models."""
    names = ("low", "high") if pd.notna(row["low"]) else ("fixed_low", "fixed_high")
    return float(row[names[0]]), float(row[names[1]])


def _interval_of(row: pd.Series) -> str:
    return interval(*_bounds(row))


def _count(summary: Mapping[str, Any]) -> str:
    total, patients = sum(summary["samples"].values()), summary["patients"]
    return f"{total} samples of {patients} patients"


def external_section(task: Evaluated, outside: Evaluated, *, several: bool) -> Section:
    """Everything about a task on a second cohort.

    Args:
        several: whether the report has other tasks, from which the title tells this one.
    """
    summary = outside.summary
    blocks: list[Block] = [
        Text(_design(summary)),
        *(Text(text, "warning") for text in _warnings(task, outside)),
        _metric_table(task, outside),
        _gap_table(outside),
        Picture.of(outside.folder / "external.png", f"inner test and {summary['name']}", FIGURE),
        *_difference_blocks(task, outside),
        Heading("By class"),
        _class_table(outside),
        *centre_blocks(outside.table("centres")),
        Heading("Whether the calibration holds"),
        _calibration_table(outside),
        _coverage_table(outside),
        *_missing(outside),
        Text(MEANING, "note"),
    ]
    of = f", task {task.name}" if several else ""
    anchor = f"external-{summary['name']}-{task.name}"
    return Section(f"External validation: {summary['name']}{of}", anchor, blocks)


FIGURE = (
    "The inner test (grey) and the external cohort (coloured), over the classes that occur in "
    "both: means over models with their intervals over patients."
)


def _design(summary: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in summary["samples"].items())
    centres = summary["centres"]
    of = f"centre {centres[0]}" if len(centres) == 1 else f"{len(centres)} centres"
    return (
        f"The same {summary['models']} models, as they are, on {_count(summary)} of {of} "
        f"({counts}). Every model scores every sample. Nothing of this cohort was used to train a "
        "model, to choose an epoch or a setting, or to calibrate."
    )


def _warnings(task: Evaluated, outside: Evaluated) -> list[str]:
    found, summary = [], outside.summary
    absent = [name for name, count in summary["samples"].items() if not count]
    if absent:
        there = [name for name, count in summary["samples"].items() if count]
        found.append(
            f"The cohort has no sample of {', '.join(absent)}: macro-F1, balanced accuracy and "
            f"AUROC are over {', '.join(there)} alone, and so is what they are compared with."
        )
    few = {
        name: count
        for name, count in summary["patients_by_class"].items()
        if 0 < count < summary["few"]
    }
    if few:
        said = ", ".join(f"{name} {count}" for name, count in few.items())
        found.append(f"Few patients in some classes ({said}): the intervals are rough.")
    if summary["seeds"] < 2 and outside.table("gap")["low"].isna().all():
        found.append(
            "There is one training of each model: the intervals of differences are over patients "
            "alone, and say nothing of another training."
        )
    if summary["same_names"]:
        names = summary["same_names"]
        found.append(
            f"{len(names)} of its slide_ids ({some(names)}) are names of slides of the cohort "
            "itself too; their bags differ, so they are taken for other slides."
        )
    if summary["shared_centres"]:
        found.append(
            f"Centres of the cohort itself too: {some(summary['shared_centres'])}. There its "
            "patients are new, and the place is not."
        )
    marks = shown_marks(task.summary)
    found += [f"{arm_title(*key)}: {mark} in training." for key, mark in marks.items()]
    return found


def _metric_table(task: Evaluated, outside: Evaluated) -> Table:
    of_models, together = (outside.table(name) for name in ("metrics", "ensemble"))
    shown = [m for m in SHOWN if m in task.summary["metrics"]]
    body = []
    for key, own in of_models.groupby(ARM, sort=False):
        for what, table in (("each", own), ("all", together)):
            rows = table[(table[ARM] == list(key)).all(axis=1)].set_index("metric")
            if len(rows):
                cells = [_with_interval(rows.loc[m]) for m in shown]
                models = "each" if what == "each" else f"{rows['models'].iloc[0]:.0f} together"
                body.append([*map(title, key), models, *cells])
    caption = (
        f"On the external cohort, with {100 * outside.confidence:g} % intervals over patients. "
        "Each: the mean over single models. Together: one prediction by the mean of all models' "
        "probabilities, as `wsi-ncmi predict` gives it. Of NLL and Brier score lower is better."
    )
    header = [title(m).replace(" ", "\n", 1) for m in shown]
    return Table(caption, [*ARM, "models", *header], body, 3)


def _with_interval(row: pd.Series) -> str:
    return f"{number(row['value'])}\n{interval(row['low'], row['high'])}"


def _gap_table(outside: Evaluated) -> Table:
    body = []
    for key, own in outside.table("gap").groupby(ARM, sort=False):
        rows = own.set_index("metric")
        body.append([*map(title, key), *(_gap(rows.loc[m]) for m in COMPARED)])
    caption = (
        "Inner test → external cohort, and below it the difference with its "
        f"{100 * outside.confidence:g} % interval, over the classes that occur in both. Patients "
        "of both cohorts are drawn, each for themselves; trainings vary as well, and are the same "
        "in both."
    )
    header = [title(m).replace(" ", "\n", 1) for m in COMPARED]
    return Table(caption, [*ARM, *header], body, 2)


def _gap(row: pd.Series) -> str:
    change = f"{number(row['inner'])} → {number(row['external'])}"
    return f"{change}\n{signed(row['difference'])}\n{_interval_of(row)}"


def _difference_blocks(task: Evaluated, outside: Evaluated) -> list[Block]:
    found = outside.table("differences").dropna(subset=["difference"])
    found = found[found["metric"].isin(COMPARED)]
    if found.empty:
        return []
    return [
        Heading("Differences between arms on the external cohort"),
        primary_table(found, task.summary),
        Text(FAMILY, "note"),
    ]


def _class_table(outside: Evaluated) -> Table:
    patients, body = outside.summary["patients_by_class"], []
    table = outside.table("per_class")
    for key, part in table[table["samples"] > 0].groupby([*ARM, "class"], sort=False):
        values = part.set_index("metric")
        cells = [_with_interval(values.loc[m]) for m in metrics.CLASS_METRICS]
        counts = [f"{part['samples'].iloc[0]:.0f}", str(patients[key[2]])]
        body.append([title(key[0]), title(key[1]), key[2], *counts, *cells])
    header = [*ARM, "class", "samples", "patients", *map(title, metrics.CLASS_METRICS)]
    return Table("F1 and recall of each class on the external cohort.", header, body, 3)


def _calibration_table(outside: Evaluated) -> Table:
    names = (metrics.NLL, metrics.BRIER, f"ece_{calibration.EQUAL_MASS}_equal_mass")
    rows = outside.table("calibration").set_index([*ARM, "cohort", "temperature"])
    body = []
    for key in dict.fromkeys(index[:2] for index in rows.index):
        before, after = ((*key, EXTERNAL, when) for when in ("before", "after"))
        sides = [(*key, INNER, "after"), before, after, (*key, ENSEMBLE, "after")]
        cells = [" / ".join(number(rows.loc[side, name]) for name in names) for side in sides]
        body.append([*map(title, key), *cells])
    caption = (
        "NLL / Brier score / expected calibration error (15 bins of equal mass); lower is better. "
        "The temperature was fitted inside, on validation. Where the cohort's values with it are "
        "well above the inner test's, probabilities promise more than they keep here; where they "
        "are no better than without it, it does not carry over. An ECE is the higher the fewer "
        "patients there are."
    )
    header = ["inner test", "external,\nno temperature", "external", "external,\ntogether"]
    return Table(caption, [*ARM, *header], body, 2)


def _coverage_table(outside: Evaluated) -> Table:
    body = [
        [
            title(row["aggregator"]),
            title(row["objective"]),
            "all" if row["class"] == ALL else row["class"],
            f"{row['samples']:.0f}",
            f"{number(row['coverage'])}\n{interval(row['low'], row['high'])}",
            number(row["mean_size"], 2),
            number(row["empty"], 2),
        ]
        for _, row in outside.table("coverage").iterrows()
    ]
    aim = f"{100 * outside.summary['coverage']:g} %"
    caption = (
        f"Prediction sets that aim at holding the label in {aim} of each class, from validation "
        "inside, as `wsi-ncmi predict` gives them: how often they do here, with an interval over "
        "patients; how many classes a set has; and the share of sets without any. The promise is "
        "for samples like those of validation: an interval below it says that these are not."
    )
    header = [*ARM, "class", "samples", "coverage", "size", "empty"]
    return Table(caption, header, body, 3)


def _missing(outside: Evaluated) -> list[Block]:
    table = outside.table("missing")
    rows: Sequence[Sequence[str]] = table[["slide_id", "reason"]].to_numpy().tolist()
    if not len(table):
        return []
    caption = f"{len(table)} slides of the external cohort have no bag and were not scored."
    return [Table(caption, ["slide", "why"], rows, 2)]
