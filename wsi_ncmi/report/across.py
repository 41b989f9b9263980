"""All tasks of a report in two figures: every difference, and the arms' ranks."""

from collections.abc import Sequence

import pandas as pd

from wsi_ncmi.evaluation.ranks import ranks
from wsi_ncmi.predictions.states import marked_arms
from wsi_ncmi.report.comparisons import block_values, critical_difference, forest, with_marks
from wsi_ncmi.report.page import Block, Picture, Section
from wsi_ncmi.report.task import FIGURES, Evaluated

RANKS = (
    "Critical difference: mean ranks of macro-F1 over tasks, folds and seeds averaged, 1 for the "
    "best; tasks that lack an arm are left out. A bar joins arms that differ by less than "
    "Nemenyi's critical difference."
)


def across_tasks(tasks: Sequence[Evaluated]) -> list[Section]:
    """A section for two tasks or more; none where nothing can be drawn of them."""
    blocks = across_blocks(tasks)
    return [Section("Across tasks", "across", blocks)] if blocks else []


def across_blocks(tasks: Sequence[Evaluated]) -> list[Block]:
    """The two figures, of two tasks or more."""
    if len(tasks) < 2:
        return []
    rules = tasks[0].summary["evaluation"]
    marks = [marked_arms(task.summary["states"]) for task in tasks]
    differences = pd.concat(
        [
            with_marks(task.table("differences").assign(task=task.name), own)
            for task, own in zip(tasks, marks, strict=True)
        ]
    )
    drawn = forest(differences, rules["equivalence_margin"], rules["confidence"])
    models = pd.concat([task.table("model_metrics") for task in tasks])
    of_any = {key: f"{state} in a task" for own in marks for key, state in own.items()}
    ranked = ranks(block_values(models, ["task"], of_any), 1 - rules["confidence"])
    blocks: list[Block] = []
    if drawn:
        blocks.append(Picture.of_png(drawn, "differences in all tasks", FIGURES["forest"]))
    if ranked:
        picture = critical_difference(ranked, f"{ranked.blocks} tasks")
        blocks.append(Picture.of_png(picture, "ranks over all tasks", RANKS))
    return blocks
