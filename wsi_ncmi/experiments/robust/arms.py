"""Which arms are compared, and with whom: those that were trained alike, plainly or robustly."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from wsi_ncmi.config import Adversarial, ImageTask
from wsi_ncmi.errors import UserError
from wsi_ncmi.training.learner import for_images


@dataclass(frozen=True)
class RobustArm:
    """An arm and the one that it is compared with.

    Attributes:
        adversarial: how it was trained; None: on clean images.
        reference: the arm with the reference's objective and the same training; None: this one.
    """

    label: str
    adversarial: Adversarial | None
    reference: str | None


def arms_of(name: str, task: ImageTask) -> list[RobustArm]:
    """The task's arms in their order.

    Raises:
        UserError: an adversarial training has no arm with the reference's objective.
    """
    trained = [
        (label, for_images(task.training_of(label)).adversarial) for label in task.objectives
    ]
    found = {arm.label: arm for arm in _groups(name, task, trained)}
    return [found[label] for label in task.objectives]


def _groups(
    name: str, task: ImageTask, trained: list[tuple[str, Adversarial | None]]
) -> Iterator[RobustArm]:
    def key(one: tuple[str, Adversarial | None]) -> str:
        return str(one[1])

    for _, members in groupby(sorted(trained, key=key), key):
        group = list(members)
        labels = [label for label, _ in group]
        reference = _reference(name, task, labels)
        for label, adversarial in group:
            yield RobustArm(label, adversarial, None if label == reference else reference)


def _reference(name: str, task: ImageTask, labels: list[str]) -> str:
    if task.reference in labels:
        return task.reference

    def objective(label: str) -> tuple[str, str]:
        arm = task.objectives[label]
        return arm.part or label, str(arm.options)

    wanted = objective(task.reference)
    same = [label for label in labels if objective(label) == wanted]
    if not same:
        raise UserError(
            f"images.{name}: {', '.join(labels)} differ from {task.reference} in `adversarial`: "
            f"expected an arm with their training, and part {wanted[0]} with its options: add one"
        )
    return same[0]
