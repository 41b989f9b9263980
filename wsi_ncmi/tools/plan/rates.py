"""How the arms of a plan will be trained: samples of a fold, optimiser steps, learning rates."""

from collections.abc import Iterator, Sequence

from wsi_ncmi.cohorts.classes import rows_of
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Config, Task
from wsi_ncmi.config.rates import AUTO, steps_of


def rate_lines(config: Config, rows: Sequence[SlideRow]) -> Iterator[str]:
    """A line per task on bags, and one per arm; a searched arm has those of the configuration.

    Args:
        rows: the sheet.
    """
    for name, task in config.tasks.items():
        samples = training_samples(task, rows)
        if samples is None:
            yield f"task {name}: as many training samples as {task.protocol.file} says"
            continue
        yield f"task {name}: about {samples} training samples a fold"
        for aggregator in task.aggregators:
            for objective in task.objectives:
                training = _training(task, aggregator, objective, samples)
                yield f"  {aggregator} + {objective}: {training}"


def _training(task: Task, aggregator: str, objective: str, samples: int) -> str:
    settings = task.training_of(aggregator, objective)
    epochs, size = settings.epochs, settings.batch_size
    steps = steps_of(samples, epochs, size)
    auto = " (auto)" if settings.learning_rate == AUTO else ""
    rate = f"{settings.rate(max(1, steps)):g}{auto}"
    return f"{steps} steps ({epochs} epochs, batch size {size}), learning rate {rate}"


def training_samples(task: Task, rows: Sequence[SlideRow]) -> int | None:
    """Of a fold, by the sheet and the shares of the protocol; None where a file divides them."""
    own = rows_of(rows, task)
    protocol = task.protocol
    if protocol.kind == "file" or not own:
        return None if own else 0
    centres = [row.centre for row in own]
    tested = {
        "kfold": 1 / protocol.folds,
        "leave_one_centre_out": 1 / len(set(centres)),
        "official": sum(row.split == "test" for row in own) / len(own),
        "holdout_centres": sum(c in protocol.test_centres for c in centres) / len(centres),
    }[protocol.kind]
    share = (1 - tested) * (1 - protocol.validation_fraction)
    if protocol.kind == "official" and any(row.split == "val" for row in own):
        share = sum(row.split == "train" for row in own) / len(own)
    return round(sum(_of_class(task, label, own, share) for label in task.classes))


def _of_class(task: Task, label: str, rows: Sequence[SlideRow], share: float) -> float:
    """Training samples of a class; `share` of the patients are trained on, unless it says fewer."""
    own = [row for row in rows if row.label == label]
    patients = len({row.patient_id for row in own})
    trained = min(patients * share, task.protocol.training_patients or patients)
    each = len(own) / patients if own and task.sample == "slide" else 1
    return trained * each
