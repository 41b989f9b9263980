"""A task's result by centre, in the report; where the centre already says the class; and how much
the features know the centre."""

import pandas as pd

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.centre_probe import LABEL_ALONE, PROBE, ROBUSTNESS
from wsi_ncmi.report.page import Block, Heading, Table, Text
from wsi_ncmi.report.wording import arm_title, interval, number


def centre_blocks(table: pd.DataFrame) -> list[Block]:
    """Macro-F1 by centre, or why there is none to show; nothing for a single centre.

    Args:
        table: `centres.tsv` of the task.
    """
    first = table.drop_duplicates("centre").set_index("centre")
    if len(first) < 2:
        return []
    single = first["classes"] < 2
    if single.all():
        return [Heading("By centre"), Text(_coincide(len(first)), "warning")]
    blocks: list[Block] = [Heading("By centre"), _table(table)]
    if single.any():
        blocks.append(
            Text(
                f"{single.sum()} of {len(first)} centres have test samples of a single class, and "
                "no macro-F1: there the centre alone says the class.",
                "warning",
            )
        )
    return blocks


def _coincide(centres: int) -> str:
    return (
        f"Label and centre coincide: each of the {centres} centres has test samples of a single "
        "class. A model that tells centres apart (by stain or scanner) is then as good as one that "
        "tells classes apart, and these data cannot say which it is. Macro-F1 within a centre "
        "would be over one class, so none is given."
    )


def _table(table: pd.DataFrame) -> Table:
    arms = [arm_title(a, o) for a, o in zip(table["aggregator"], table["objective"], strict=True)]
    table = table.assign(arm=arms)
    wide = table.pivot(index="centre", columns="arm", values=metrics.MACRO_F1)
    wide = wide[list(dict.fromkeys(arms))]
    counts = table.groupby("centre")[["samples", "classes"]].first()
    body = [
        [centre, *(f"{n:.0f}" for n in counts.loc[centre]), *(number(v) for v in values)]
        for centre, values in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    caption = "Macro-F1 within each centre, over the classes that occur there; no intervals."
    return Table(caption, ["centre", "samples", "classes", *wide.columns], body)


MEASURES = {
    PROBE: "linear probe on the features",
    LABEL_ALONE: "the same on the label alone",
    ROBUSTNESS: "robustness index (croma)",
}


def probe_blocks(table: pd.DataFrame, confidence: float) -> list[Block]:
    """How well the features tell centres apart, or why nobody knows; nothing for a single centre.

    Args:
        table: `centre_probe.tsv` of the task.
    """
    if table.empty or table["all_centres"].iloc[0] < 2:
        return []
    heading = Heading("How much the features know the centre")
    first = table.iloc[0]
    if not first["centres"]:
        return [heading, Text(f"No probe: {first['note']}.")]
    return [heading, _probe_table(table, confidence), Text(_meaning(table))]


def _probe_table(table: pd.DataFrame, confidence: float) -> Table:
    first, rows = table.iloc[0], set(table["measure"])
    left_out = int(first["all_centres"] - first["centres"])
    few = f" {left_out} centre(s) with fewer patients than folds are left out." * (left_out > 0)
    robustness = (
        " Robustness index: 1 where a slide's neighbours of other patients share its label and not "
        "its centre, 0 where they share its centre and not its label; support: the share of slides "
        "that have such neighbours."
    )
    few += robustness * (ROBUSTNESS in rows)
    caption = (
        f"Balanced accuracy of telling {first['centres']:.0f} centres apart on "
        f"{first['slides']:.0f} slides of {first['patients']:.0f} patients: logistic "
        f"regression on each slide's mean feature, tested on patients that it has not seen, "
        f"with its {100 * confidence:g} % interval over patients; neutral: what chance gives.{few}"
    )
    body = [
        [
            MEASURES[row["measure"]],
            "\n".join(_value(row)),
            number(row["neutral"]),
            row["note"] or "–",
        ]
        for _, row in table.iterrows()
    ]
    return Table(caption, ["measure", "value", "neutral", "note"], body)


def _value(row: pd.Series) -> list[str]:
    bounds = [] if pd.isna(row["low"]) else [interval(row["low"], row["high"])]
    return [number(row["value"]), *bounds]


def _meaning(table: pd.DataFrame) -> str:
    rows = table.set_index("measure")
    probe, label = rows.loc[PROBE], rows.loc[LABEL_ALONE]
    if probe["low"] <= probe["neutral"]:
        return "The probe is no better than chance: it finds nothing of the centre in the features."
    said = (
        "The probe is better than chance: the features carry the centre (its stain, scanner or "
        "patients), so that a model could learn it instead of the class."
    )
    if label["low"] > label["neutral"] and label["high"] >= probe["low"]:
        said = (
            "The probe is better than chance, but so is the label alone, as far as the intervals "
            "tell: centres differ in their classes, and the features may know no more than these."
        )
    return f"{said} This is about the features, and no verdict on the models."
