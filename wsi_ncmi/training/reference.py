"""The plain training loop: one model, one step after another, to be read.

A network embeds, an objective does the rest. Validation chooses (if it is asked to), the class
means and the temperature are fitted in eval mode, and the test part is scored once, afterwards.
The engine trains many models at once and gives what this loop gives (`tests/contract`); images are
trained here.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.config import Training
from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.metrics import macro_f1
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training.finite import History, NotFiniteError, check_finite, divergence
from wsi_ncmi.training.interface import Data, Embedded, Inputs, Network, Validation
from wsi_ncmi.training.joint import JointObjective
from wsi_ncmi.training.optimisers import Optimisers
from wsi_ncmi.training.precision import keep_float32, mixed, resolved
from wsi_ncmi.training.seeds import seed_generators
from wsi_ncmi.training.selection import Kept
from wsi_ncmi.training.watch import watch

# The seed of the random numbers (dropout and the like) of an epoch's step.
StepSeeds = Callable[[int, int], int]


def fit(
    network: Network,
    objective: JointObjective,
    data: Data,
    settings: Training,
    context: str,
    seeds: StepSeeds,
    after_epoch: Callable[[History], None] = lambda history: None,
) -> History:
    """Train in place, keep the epoch that `settings.selection` says, fit what inference needs.

    Args:
        context: the run's name, for errors.
        seeds: of the random numbers of (epoch, step).
        after_epoch: is shown the history when an epoch is validated.

    Raises:
        DivergedError: a loss, gradient, weight, embedding or score is not finite. It does not
            matter which epoch `selection` would keep: a training that diverged has failed.
    """
    main = objective.main
    check_batch_size(main, settings, context)
    main.calibration = settings.calibration
    keep_float32()
    network.precision = resolved(settings, main.class_counts.device).precision
    history = History()
    with divergence(context, history):
        start(network, objective, data)
        _train(network, objective, data, settings, context, seeds, history, after_epoch)
        main.fit("classes", *embed(network, data, main.samples_of("classes")))
        main.fit("temperature", *embed(network, data, "val"))
        check_finite("the weights", main.state_dict())
    return history


def _train(
    network: Network,
    objective: JointObjective,
    data: Data,
    settings: Training,
    context: str,
    seeds: StepSeeds,
    history: History,
    after_epoch: Callable[[History], None],
) -> None:
    groups = objective.parameter_groups()
    parameters = [*network.parameters(), *groups["network"]]
    steps = settings.epochs * data.steps_per_epoch()
    objective.schedule_over(steps)
    optimisers = Optimisers(parameters, groups["centroids"], settings, steps, network.undecayed())
    kept = Kept(settings)
    for epoch in range(settings.epochs):
        history.epoch = epoch
        row = _train_epoch(network, objective, data, optimisers, seeds, epoch)
        watch(history, row, context, objective.main, settings, steps)
        now, scores = validate(network, objective.main, data)
        history.curves.append(
            {"epoch": epoch, "part": "val", "loss": now.loss, "macro_f1": now.macro_f1}
        )
        history.validation.append(scores)
        history.epochs = epoch + 1
        after_epoch(history)
        kept.see(epoch, now, {"network": network, "objective": objective})
        if kept.has_stopped(epoch):
            break
    history.best_epoch = kept.epoch
    kept.restore({"network": network, "objective": objective})


def check_batch_size(objective: Objective, settings: Training, context: str) -> None:
    """An objective that compares samples gets as many as it needs.

    Raises:
        UserError: names the objective, the batch size and the key to change.
    """
    if settings.batch_size < objective.min_samples:
        raise UserError(
            f"{context}: {type(objective).__name__} compares the samples of a step and needs "
            f"{objective.min_samples} or more: found training.batch_size {settings.batch_size}"
        )


def _train_epoch(
    network: Network,
    objective: JointObjective,
    data: Data,
    optimisers: Optimisers,
    seeds: StepSeeds,
    epoch: int,
) -> dict[str, Any]:
    network.train()
    objective.train()
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
    count = 0
    for step, (inputs, target) in enumerate(data.training(epoch)):
        if len(target) < objective.main.min_samples:
            continue  # the remainder of an epoch; the next one has another
        seed_generators(seeds(epoch, step), target.device)
        loss, parts = _step(network, objective, optimisers, inputs, target)
        for name, value in {"loss": loss, **parts}.items():
            sums[name] = sums[name].to(value.device) + value.detach() * len(target)
        count += len(target)
    watched = objective.end_epoch(epoch)
    found = _read({name: total / count for name, total in sums.items()} | watched)
    means = {name: found[name] for name in sums}
    if not all(map(math.isfinite, means.values())):
        raise NotFiniteError(f"the loss is not finite ({means})")
    _check_after_steps(network, objective, optimisers)
    return {"epoch": epoch, "part": "train", **found}


def _read(values: dict[str, Tensor]) -> dict[str, float]:
    """Scalars of one device, which is waited for once."""
    numbers = torch.stack([value.double() for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))


def _check_after_steps(network: Network, objective: JointObjective, optimisers: Optimisers) -> None:
    """What an epoch's last step has left: no loss tells of it."""
    check_finite("the gradients", {"largest norm": optimisers.largest_norm})
    check_finite("the weights", dict(network.state_dict()))
    check_finite("the weights", dict(objective.state_dict()))


def _step(
    network: Network,
    objective: JointObjective,
    optimisers: Optimisers,
    inputs: Inputs,
    target: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    with mixed(network.precision, target.device):
        output = network(inputs, target)
    state_loss = objective.state_loss(detached(output), target)
    if state_loss is not None:
        optimisers.step_centroids(state_loss)
    found = objective(output, target)
    optimisers.step(found.total, with_centroids=state_loss is None)
    objective.end_step()
    network.end_step()
    return found.total.detach(), found.parts


def detached(output: Embedded) -> Embedded:
    """What the objectives' own step looks at."""
    auxiliary = {
        name: loss._replace(embedding=loss.embedding.detach())
        for name, loss in output.auxiliary.items()
    }
    return output._replace(embedding=output.embedding.detach(), auxiliary=auxiliary)


@torch.inference_mode()
def _evaluated(
    network: Network, data: Data, part: str, with_targets: bool
) -> Iterator[tuple[Embedded, Tensor]]:
    network.eval()
    for inputs, target in batches_of(data, part):
        with mixed(network.precision, target.device):
            yield network(inputs, target if with_targets else None), target


def batches_of(data: Data, part: str) -> Iterator[tuple[Inputs, Tensor]]:
    """Of a part in its fixed order; `augmented` is the training part, augmented."""
    return data.augmented() if part == "augmented" else data.evaluation(part)


@torch.inference_mode()
def embed(network: Network, data: Data, part: str) -> tuple[Tensor, Tensor]:
    """Embeddings [n, m] float32 and targets [n] of a part, in eval mode.

    Raises:
        NotFiniteError: an embedding is not.
    """
    pairs = list(_evaluated(network, data, part, with_targets=False))
    found = torch.cat([output.embedding.float() for output, _ in pairs])
    check_finite("the embeddings", {f"part {part}": found})
    return found, torch.cat([target for _, target in pairs])


def start(network: Network, objective: JointObjective, data: Data) -> None:
    """What the objectives need of the training part before the first step."""
    pairs = list(_evaluated(network, data, "train", with_targets=True))
    embeddings = torch.cat([output.embedding.float() for output, _ in pairs])
    check_finite("the embeddings", {"part train": embeddings})
    objective.main.fit("start", embeddings, torch.cat([target for _, target in pairs]))
    for name, one in objective.auxiliary.items():
        losses = [output.auxiliary[name] for output, _ in pairs]
        z = torch.cat([loss.embedding.float() for loss in losses])
        one.fit("start", z, torch.cat([loss.target for loss in losses]))  # type: ignore[operator]


@torch.inference_mode()
def score(network: Network, objective: Objective, data: Data, part: str) -> tuple[Tensor, Tensor]:
    """Class log-odds [n, C] and targets [n] of a part, in eval mode.

    Raises:
        NotFiniteError: an embedding or a score is not, in the float32 that records have.
    """
    embeddings, targets = embed(network, data, part)
    objective.eval()
    scores = objective.scores(embeddings)
    check_finite("the scores", {f"part {part}": scores.float()})
    return scores, targets


def validate(network: Network, objective: Objective, data: Data) -> tuple[Validation, Tensor]:
    """How an epoch does on validation, and its scores [n, C] float32, calibrated by themselves.

    Macro-F1 is over validation's classes: whatever an epoch predicts, it is divided by their
    number. The log-likelihood is that of the calibrated scores.

    Raises:
        NotFiniteError: an embedding or a score is not.
    """
    embeddings, targets = embed(network, data, "val")
    trial = copy.deepcopy(objective).eval()
    trial.fit("temperature", embeddings, targets)
    with torch.inference_mode():
        scores = trial.scores(embeddings)
        loss = F.cross_entropy(scores.double(), targets).item()
    check_finite("the scores", {"part val": scores.float()})
    found = macro_f1(targets.cpu().numpy(), scores.argmax(1).cpu().numpy())
    return Validation(found, loss), scores.float().cpu()
