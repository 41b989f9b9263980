"""Arms whose models collapsed or were not trained to the end: said before anything is compared."""

from collections.abc import Mapping, Sequence
from typing import Any

from wsi_ncmi.predictions.states import COLLAPSED, UNDERTRAINED, marked_arms
from wsi_ncmi.report.page import Block, Table, Text
from wsi_ncmi.report.wording import arm_title, title

ArmKey = tuple[str, str]
WHY = {
    COLLAPSED: "collapsed: some of their classes, or all, have not come apart",
    UNDERTRAINED: "were undertrained: their training loss still fell at the last epoch",
}
CAPTION = (
    "What became of the models. Collapsed: the training part is predicted as by chance and the "
    "loss rests, or NCMI has made two classes one. Undertrained: the training loss still falls at "
    "the last epoch and validation gains from it. Failed: it diverged. An arm is marked if any of "
    "its models collapsed, or more than half of them are undertrained."
)


def shown_marks(summary: Mapping[str, Any]) -> dict[ArmKey, str]:
    """Marked arms -> `3 of 15 collapsed`, to stand beside the arm's name."""
    counts = _rows(summary)
    return {
        key: f"{counts[key][state]} of {counts[key]['runs']} {state}"
        for key, state in marked_arms(summary["states"]).items()
    }


def first_words(summary: Mapping[str, Any], aggregator: str, objectives: Sequence[str]) -> str:
    """What the answer begins with where an arm that it speaks of is marked, else nothing.

    Args:
        objectives: the compared one and the reference, or one alone.
    """
    marked, rows = marked_arms(summary["states"]), _rows(summary)
    keys = [(aggregator, objective) for objective in objectives]
    found = [_sentence(rows[key], marked[key]) for key in keys if key in marked]
    if not found:
        return ""
    what = "No finding about the losses" if len(objectives) > 1 else "No result"
    return f"{what}: {' '.join(found)} "


def state_blocks(summary: Mapping[str, Any]) -> list[Block]:
    """A warning for every marked arm, and how many models are in which state."""
    if not summary["states"]:
        return []
    marked, rows = marked_arms(summary["states"]), _rows(summary)
    warnings = [
        Text(f"{arm_title(*key)}: {_sentence(rows[key], state)}", "warning")
        for key, state in marked.items()
    ]
    names = ["trained", COLLAPSED, UNDERTRAINED, "failed"]
    body = [
        [title(one["aggregator"]), title(one["objective"]), one["remedy"] or "–"]
        + [str(one[name]) for name in ("runs", *names)]
        for one in summary["states"]
    ]
    header = ["aggregator", "objective", "what to change", "models", *names]
    return [*warnings, Table(CAPTION, header, body, 3)]


def _rows(summary: Mapping[str, Any]) -> dict[ArmKey, Mapping[str, Any]]:
    return {(one["aggregator"], one["objective"]): one for one in summary["states"]}


def _sentence(row: Mapping[str, Any], state: str) -> str:
    remedy = f"; {row['remedy']}" if row["remedy"] else ""
    return (
        f"{row[state]} of {row['runs']} models of {title(row['objective'])} {WHY[state]}{remedy}."
    )
