"""How each arm of a task came to its settings, in the report: what was tried, chosen, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wsi_ncmi.config import Config
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.files.table import read_text
from wsi_ncmi.predictions.splits import read_splits
from wsi_ncmi.report.nested import nested_budgets
from wsi_ncmi.report.page import Block, Table, Text
from wsi_ncmi.report.wording import title

SELECTIONS = {
    "last": "of the last epoch",
    "averaged": "mean over the last half of the epochs",
    "early_stopping": "of the epoch of the best macro-F1 on validation",
    "best_loss": "of the epoch of the smallest log-loss on validation",
}
CHOSEN = {"early_stopping", "best_loss"}
NOT_TRIED = "none"


@dataclass(frozen=True)
class Tuning:
    """The search of one objective.

    Attributes:
        tried: how many settings were trained and judged; 0: the arm is not tuned.
        offered: how many the configuration names.
        chosen: the best one on validation, as text; "" without one.
        applied: whether the arm's models have it.
        fold: on whose validation part it was judged, and under which seed and aggregator.
        nested: it was made in every fold and seed anew, so that there is no single best.
    """

    tried: int = 0
    offered: int = 0
    chosen: str = ""
    applied: bool = False
    fold: int = 0
    seed: int = 0
    aggregator: str = ""
    nested: bool = False

    @property
    def budget(self) -> int:
        """Settings among which the arm's own was chosen."""
        return self.tried if self.applied else 0


def tunings(
    results_dir: Path, config: Config, name: str, summary: Mapping[str, Any]
) -> dict[str, Tuning]:
    """Of every objective of a task, in its order.

    Args:
        results_dir: `results/<cohort>`, with the log of a search where there was one.
        summary: what `evaluate` wrote of the task.
    """
    task = config.images.get(name) or config.tasks[name]
    objectives = list(dict.fromkeys(objective for _, objective in summary["arms"]))
    if task.is_nested:
        budgets = nested_budgets(read_frame(_nested_log(results_dir / "runs" / name)))
        counts = {objective: budgets.get(objective, 0) for objective in objectives}
        return {o: Tuning(n, n, applied=n > 0, nested=n > 0) for o, n in counts.items()}
    path = results_dir / "search" / "search.tsv"
    rows = [row for _, row in read_text(path).rows] if path.is_file() else []
    found = {}
    for objective in objectives:
        own = [row for row in rows if (row["task"], row["arm"]) == (name, objective)]
        offered = len(task.candidates(objective)) if objective in task.objectives else 0
        settings = [one for one in summary["settings"] if one["objective"] == objective]
        found[objective] = _tuning(own, offered, settings)
    return found


def _nested_log(task_dir: Path) -> Path:
    return task_dir / "evaluation" / "search.tsv"


def _tuning(
    rows: Sequence[Mapping[str, str]], offered: int, settings: Sequence[Mapping[str, Any]]
) -> Tuning:
    best = next((row for row in rows if row["chosen"] == "yes"), None)
    if best is None:
        return Tuning(len(rows), offered)
    options, training = (yaml.safe_load(best[key]) or {} for key in ("options", "training"))
    applied = bool(settings) and all(
        options.items() <= one["options"].items() and training.items() <= one["training"].items()
        for one in settings
    )
    chosen = ", ".join(f"{key} {value}" for key, value in (options | training).items())
    place = int(best["fold"]), int(best["seed"]), best["aggregator"]
    return Tuning(len(rows), offered, chosen, applied, *place)


def settings_table(found: Mapping[str, Tuning], summary: Mapping[str, Any]) -> Table:
    """What each arm was trained with, and among how many settings that was chosen."""
    body = [
        [
            title(one["aggregator"]),
            title(one["objective"]),
            _searched(found[one["objective"]]),
            SELECTIONS.get(one["selection"], one["selection"]),
            _optimiser(one["training"]),
            *(number_of(one, key) for key in ("learning_rate", "epochs", "batch_size")),
        ]
        for one in summary["settings"]
    ]
    header = ["aggregator", "objective", "settings tried and chosen", "weights scored", "optimiser"]
    header += ["learning rate", "epochs", "batch size"]
    caption = (
        "How the arms were set. Epochs: those of the configuration, the largest number where "
        "training stops early."
    )
    return Table(caption, header, body, 5)


def number_of(one: Mapping[str, Any], key: str) -> str:
    """A setting of an arm, unless each of its models has one of its own."""
    return "searched" if key in one["searched"] else f"{one['training'][key]:g}"


def _optimiser(training: Mapping[str, Any]) -> str:
    ahead = " with Lookahead" if training["lookahead"] else ""
    return f"{training['optimiser']}{ahead}, {training['schedule']}"


def _searched(found: Tuning) -> str:
    if not found.tried:
        return f"none of {found.offered} tried" if found.offered else NOT_TRIED
    if found.nested:
        return f"{found.tried}, in every fold and seed anew"
    if not found.chosen:
        return f"{found.tried}, none could be trained"
    if not found.applied:
        return f"{found.tried}; trained with others than the chosen {found.chosen}"
    where = f"on validation of fold {found.fold}, seed {found.seed}, {title(found.aggregator)}"
    return f"{found.tried}; {found.chosen} {where}"


def choice_blocks(
    task_dir: Path, found: Mapping[str, Tuning], summary: Mapping[str, Any]
) -> list[Block]:
    """What was chosen on which samples, and a warning where arms were not tuned alike."""
    sentences = [_epochs(summary), _settings(task_dir, found)]
    blocks: list[Block] = [Text(" ".join(sentences))]
    uneven = unevenness(found, summary["reference"])
    return [*blocks, *(Text(text, "warning") for text in uneven)]


def _epochs(summary: Mapping[str, Any]) -> str:
    selections = {one["selection"] for one in summary["settings"]}
    if len(summary["settings"]) < len(summary["arms"]) or selections - set(SELECTIONS):
        return "How the scored epochs were chosen is not recorded for every arm."
    if selections == {"last"}:
        return "No epoch was chosen: the last one is scored."
    if not selections & CHOSEN:
        which = "" if len(selections) == 1 else "the last one or "
        return f"No epoch was chosen: {which}the mean over the last half of them is scored."
    which = "Where an epoch was chosen, it" if selections - CHOSEN else "The scored epoch"
    return f"{which} is the best on the validation part of the model's own fold, not on its test."


def _settings(task_dir: Path, found: Mapping[str, Tuning]) -> str:
    tuned = {name: one for name, one in found.items() if one.budget}
    if not tuned:
        return (
            "No arm was tuned by a search of this workflow: settings are those of the "
            "configuration, and the report does not know how they were found."
        )
    names = ", ".join(title(name) for name in tuned)
    if any(one.nested for one in tuned.values()):
        return f"The settings of {names} were chosen by a nested search."
    others = len(found) - len(tuned)
    rest = " Those of the others are the configuration's." if others else ""
    folds = sorted({one.fold for one in tuned.values()})
    parts = " and ".join(f"fold {fold}" for fold in folds)
    return (
        f"The settings of {names} were chosen on the validation part of {parts}"
        f"{_seen(task_dir / 'splits.tsv', folds)}.{rest}"
    )


def _seen(path: Path, folds: Sequence[int]) -> str:
    """How many of the samples that a search learnt from or judged by are tested too."""
    if not path.is_file():
        return ", and whether these samples are tested too is not recorded"
    splits = read_splits(path)
    learnt = splits[splits.fold.isin(folds) & (splits.part != "test")]
    samples = set(learnt.sample_id)
    tested = samples & set(splits.sample_id[splits.part == "test"])
    if not tested:
        return "; no test sample took part in that"
    return (
        f". {len(tested)} of the {len(samples)} samples that this search trained on and validated "
        "on are test samples of other folds, so the choice has seen their labels"
    )


def unevenness(found: Mapping[str, Tuning], reference: str) -> list[str]:
    """Where an arm was chosen among another number of settings than the reference."""
    own = found[reference].budget if reference in found else 0
    return [
        f"Not tuned alike: {title(name)} {_budget(one.budget)}, the reference {title(reference)} "
        f"{_budget(own)}. A difference between them may be that of the tuning."
        for name, one in found.items()
        if reference in found and name != reference and one.budget != own
    ]


def _budget(tried: int) -> str:
    return f"was chosen among {tried} settings" if tried else "was not tuned"


def caveat(found: Mapping[str, Tuning], objectives: Sequence[str], *, synthetic: bool) -> str:
    """What the first sentence begins with: how far its arms were tuned, and on what.

    Args:
        objectives: those that the sentence is about; the first is what is compared.
    """
    budgets = {name: found[name].budget for name in objectives if name in found}
    if not any(budgets.values()):
        tuning = "with untuned arms" if len(budgets) > 1 else "with untuned settings"
    elif len(set(budgets.values())) == 1:
        each = "with each arm" if len(budgets) > 1 else "with settings"
        tuning = f"{each} chosen among {next(iter(budgets.values()))} settings"
    else:
        tuning = "with " + " and ".join(
            f"{title(name)} " + (f"chosen among {n} settings" if n else "untuned")
            for name, n in budgets.items()
        )
    begin = ["on synthetic slides"] if synthetic else []
    text = " and ".join([*begin, tuning])
    return f"{text[0].upper()}{text[1:]}, "


def rates_and_epochs(summary: Mapping[str, Any]) -> dict[tuple[str, str], list[str]]:
    """(aggregator, objective) -> its learning rate and epochs, as cells beside its result."""
    return {
        (one["aggregator"], one["objective"]): [
            number_of(one, "learning_rate"),
            number_of(one, "epochs"),
        ]
        for one in summary["settings"]
    }
