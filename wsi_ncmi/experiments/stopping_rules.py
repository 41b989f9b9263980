"""Where two rules would have stopped a training, and what their models are worth on test images.

The rules see training and held-out images alone. The test images are then scored once for each
rule's model, by no means to choose anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wsi_ncmi.config import Evaluation
from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.bootstrap import Estimate, bootstrap
from wsi_ncmi.evaluation.differences import as_passes
from wsi_ncmi.evaluation.primary import hierarchical_bootstrap
from wsi_ncmi.evaluation.samples import Arm, Samples
from wsi_ncmi.evaluation.stopping import Stop, by_loss, by_saturation
from wsi_ncmi.experiments.epochs import Snapshots, TaskImages
from wsi_ncmi.report.wording import interval, number, signed, title

SATURATION, LOSS, LAST = "saturation of I(Y; Ŷ)", "held-out loss", "last epoch"
RULES = (SATURATION, LOSS, LAST)
METRICS = {"accuracy": metrics.ACCURACY, "nll": metrics.NLL}


def stops(
    curves: pd.DataFrame, *, window: int, gain: float, patience: int
) -> dict[tuple[str, int], dict[str, Stop]]:
    """(objective, seed) -> what each of `RULES` makes of the run.

    Args:
        curves: of one task, see `information_curves.measured`.
        gain: of H(Y).
    """
    found = {}
    for (objective, seed), rows in curves.groupby(["objective", "seed"], sort=False):
        train, held_out = (rows[rows["part"] == part] for part in ("train", "val"))
        least = gain * train["label_entropy"].iloc[0]
        places = {
            SATURATION: by_saturation(train["label_prediction"].tolist(), window, least),
            LOSS: by_loss(held_out["loss"].tolist(), patience),
            LAST: Stop(len(train) - 1, len(train) - 1),
        }
        epochs = train["epoch"].tolist()  # a snapshot may be of every second epoch
        found[str(objective), int(seed)] = {
            rule: Stop(epochs[one.stopped], epochs[one.kept]) for rule, one in places.items()
        }
    return found


def table(
    images: TaskImages,
    found: Mapping[tuple[str, int], Mapping[str, Stop]],
    evaluation: Evaluation,
) -> pd.DataFrame:
    """A row per arm and rule: see `CAPTION`."""
    objectives = dict.fromkeys(objective for objective, _ in found)
    rows = [row for one in objectives for row in _of_objective(images, one, found, evaluation)]
    return pd.DataFrame(rows)


CAPTION = (
    "Where each rule stops, mean over seeds (epochs count from 0), and whose weights it keeps; "
    "accuracy and log-loss (nats, uncalibrated) of these weights on the test images, which are "
    "scored once for each; differences from the rule of the held-out loss with the interval of the "
    "hierarchical bootstrap, over seeds and test images."
)


def _of_objective(
    images: TaskImages,
    objective: str,
    found: Mapping[tuple[str, int], Mapping[str, Stop]],
    evaluation: Evaluation,
) -> Iterator[dict[str, Any]]:
    own = {seed: one for (name, seed), one in found.items() if name == objective}
    targets = images.targets("test")
    owners = np.unique(images.images.parts["test"].owners, return_inverse=True)[1]
    samples = Samples(targets, owners, len(images.images.classes))
    arms = {rule: _arm(images, objective, own, rule) for rule in RULES}
    estimates = bootstrap(samples, arms, evaluation.bootstrap, evaluation.seed)
    for rule in RULES:
        row: dict[str, Any] = {"task": images.task.name, "objective": objective, "rule": rule}
        row["seeds"] = len(own)
        row |= {
            name: float(np.mean([getattr(one[rule], name) for one in own.values()]))
            for name in Stop._fields
        }
        for name, metric in METRICS.items():
            row |= _scored(name, estimates[rule][metric], evaluation.confidence)
        for name, metric in METRICS.items():
            pair = estimates[rule][metric], estimates[LOSS][metric]
            row |= _difference(name, pair, samples, evaluation) if rule != LOSS else {}
        yield row


def _arm(
    images: TaskImages, objective: str, own: Mapping[int, Mapping[str, Stop]], rule: str
) -> Arm:
    runs = images.task.runs.runs
    scores = []
    for seed, one in own.items():
        chosen = (runs["objective"] == objective) & (runs["seed"] == seed)
        run = Snapshots(images, runs.loc[chosen, "run_id"].item(), objective)
        scores.append(run.log_probabilities(one[rule].kept, "test"))
    whole = np.stack(scores)
    return Arm(whole.argmax(2), whole)


def _scored(name: str, found: Estimate, confidence: float) -> dict[str, float]:
    low, high = found.interval(confidence)
    return {name: found.value, f"{name}_low": low, f"{name}_high": high}


def _difference(
    name: str, pair: tuple[Estimate, Estimate], samples: Samples, evaluation: Evaluation
) -> dict[str, float]:
    arm, reference = (as_passes(one, samples) for one in pair)
    found = hierarchical_bootstrap(arm, reference, samples.n_patients, paired=True)
    low, high = found.interval(evaluation.confidence)
    values = float(found.difference), float(low), float(high)
    ends = ("difference", "difference_low", "difference_high")
    return {f"{name}_{end}": value for end, value in zip(ends, values, strict=True)}


def sentences(table: pd.DataFrame) -> Sequence[str]:
    """One for each arm."""
    return [
        _sentence(str(task), str(objective), rows.set_index("rule"))
        for (task, objective), rows in table.groupby(["task", "objective"], sort=False)
    ]


def _sentence(task: str, objective: str, rows: pd.DataFrame) -> str:
    early, loss = rows.loc[SATURATION], rows.loc[LOSS]
    change = f"{signed(early['accuracy_difference'])} "
    ends = early["accuracy_difference_low"], early["accuracy_difference_high"]
    return (
        f"{task}, {title(objective)}: training stops at epoch {number(early['stopped'], 1)} by the "
        f"saturation of I(Y; Ŷ) and at {number(loss['stopped'], 1)} by the held-out loss, which "
        f"keeps epoch {number(loss['kept'], 1)} (of {number(rows.loc[LAST, 'kept'], 0)}); test "
        f"accuracy {number(early['accuracy'])} against {number(loss['accuracy'])}, {change}"
        f"({interval(*ends)}), log-loss {number(early['nll'])} against {number(loss['nll'])}."
    )
