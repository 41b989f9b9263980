"""The training loop, for bags and for images alike.

A network embeds, an objective does the rest. Validation chooses (if it is asked to), the class
means and the temperature are fitted in eval mode, and the test part is scored once, afterwards.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.config import Training
from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.metrics import macro_f1
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training.finite import History, NotFiniteError, check_finite, divergence
from wsi_ncmi.training.optimisers import Optimisers
from wsi_ncmi.training.precision import keep_float32, mixed, resolved

Inputs = tuple[Tensor, ...]


class Data(Protocol):
    """Where a loop's batches come from, on the loop's device."""

    def steps_per_epoch(self) -> int: ...

    def training(self, epoch: int) -> Iterator[tuple[Inputs, Tensor]]:
        """One epoch of training batches: inputs and int64 targets."""
        ...

    def evaluation(self, part: str) -> Iterator[tuple[Inputs, Tensor]]:
        """A part (train, val, test) in its fixed order, nothing augmented."""
        ...


class Network(nn.Module, ABC):
    """Anything that embeds inputs: forward(*inputs) -> (embedding [B, m], extra loss or None).

    Attributes:
        precision: in which the loop runs it, `fp32` or `bf16`; `fit` sets it.
    """

    embedding_dim: int
    precision: str = "fp32"

    @abstractmethod
    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor | None]: ...

    def undecayed(self) -> Sequence[nn.Parameter]:
        """Parameters of two dimensions or more that take no weight decay."""
        return ()


@dataclass(frozen=True)
class Validation:
    """How an epoch did on the validation part."""

    macro_f1: float
    loss: float

    def better_than(self, other: "Validation | None") -> bool:
        """By macro-F1, then by the temperature-fitted log-likelihood; never by a raw loss."""
        if other is None:
            return True
        return (self.macro_f1, -self.loss) > (other.macro_f1, -other.loss)


def fit(
    network: Network, objective: Objective, data: Data, settings: Training, context: str
) -> History:
    """Train in place, keep the epoch that `settings.selection` says, fit what inference needs.

    Args:
        context: the run's name, for errors.

    Raises:
        DivergedError: a loss, gradient, weight, embedding or score is not finite. It does not
            matter which epoch `selection` would keep: a training that diverged has failed.
    """
    check_batch_size(objective, settings, context)
    keep_float32()
    network.precision = resolved(settings, next(network.parameters()).device).precision
    history = History()
    with divergence(context, history):
        objective.start(*embed(network, data, "train"))
        _train(network, objective, data, settings, history)
        objective.fit_classes(*embed(network, data, "train"))
        objective.fit_temperature(*embed(network, data, "val"))
        check_finite("the weights", objective.state_dict())
    return history


def _train(
    network: Network, objective: Objective, data: Data, settings: Training, history: History
) -> None:
    groups = objective.parameter_groups()
    parameters = [*network.parameters(), *groups["network"]]
    steps = settings.epochs * data.steps_per_epoch()
    optimisers = Optimisers(parameters, groups["centroids"], settings, steps, network.undecayed())
    best, kept = None, None
    for epoch in range(settings.epochs):
        history.epoch = epoch
        history.curves.append(_train_epoch(network, objective, data, optimisers, epoch))
        now = validate(network, objective, data)
        history.curves.append(
            {"epoch": epoch, "part": "val", "loss": now.loss, "macro_f1": now.macro_f1}
        )
        history.epochs = epoch + 1
        if settings.selection == "last":
            history.best_epoch = epoch
        elif now.better_than(best):
            best, history.best_epoch = now, epoch
            kept = copy.deepcopy((network.state_dict(), objective.state_dict()))
        elif epoch - history.best_epoch >= settings.patience:
            break
    if kept is not None:
        network.load_state_dict(kept[0])
        objective.load_state_dict(kept[1])


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
    network: Network, objective: Objective, data: Data, optimisers: Optimisers, epoch: int
) -> dict[str, Any]:
    network.train()
    objective.train()
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
    count = 0
    for inputs, target in data.training(epoch):
        if len(target) < objective.min_samples:
            continue  # the remainder of an epoch; the next one has another
        loss, parts = _step(network, objective, optimisers, inputs, target)
        for name, value in {"loss": loss, **parts}.items():
            sums[name] = sums[name].to(value.device) + value.detach() * len(target)
        count += len(target)
    means = {name: (total / count).item() for name, total in sums.items()}
    if not all(map(math.isfinite, means.values())):
        raise NotFiniteError(f"the loss is not finite ({means})")
    objective.end_epoch(epoch)
    _check_after_steps(network, objective, optimisers)
    return {"epoch": epoch, "part": "train", **means}


def _check_after_steps(network: Network, objective: Objective, optimisers: Optimisers) -> None:
    """What an epoch's last step has left: no loss tells of it."""
    check_finite("the gradients", {"largest norm": optimisers.largest_norm})
    check_finite("the weights", dict(network.state_dict()))
    check_finite("the weights", dict(objective.state_dict()))


def _step(
    network: Network, objective: Objective, optimisers: Optimisers, inputs: Inputs, target: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    with mixed(network.precision, target.device):
        embedding, auxiliary = network(*inputs)
    state_loss = objective.state_loss(embedding.detach(), target)
    if state_loss is not None:
        optimisers.step_centroids(state_loss)
    output = objective(embedding, target)
    total = output.total if auxiliary is None else output.total + auxiliary
    optimisers.step(total, with_centroids=state_loss is None)
    objective.end_step()
    return total.detach(), output.parts


@torch.inference_mode()
def embed(network: Network, data: Data, part: str) -> tuple[Tensor, Tensor]:
    """Embeddings [n, m] float32 and targets [n] of a part, in eval mode.

    Raises:
        NotFiniteError: an embedding is not.
    """
    network.eval()
    embeddings, targets = [], []
    for inputs, target in data.evaluation(part):
        with mixed(network.precision, target.device):
            embedding, _ = network(*inputs)
        embeddings.append(embedding.float())
        targets.append(target)
    found = torch.cat(embeddings)
    check_finite("the embeddings", {f"part {part}": found})
    return found, torch.cat(targets)


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


def validate(network: Network, objective: Objective, data: Data) -> Validation:
    """Macro-F1 over validation's classes, and its log-likelihood at the fitted temperature.

    The classes are those of its targets: whatever an epoch predicts, it is divided by their number.

    Raises:
        NotFiniteError: an embedding or a score is not.
    """
    embeddings, targets = embed(network, data, "val")
    trial = copy.deepcopy(objective).eval()
    trial.fit_temperature(embeddings, targets)
    with torch.inference_mode():
        scores = trial.scores(embeddings)
        loss = F.cross_entropy(scores.double(), targets).item()
    check_finite("the scores", {"part val": scores.float()})
    found = macro_f1(targets.cpu().numpy(), scores.argmax(1).cpu().numpy())
    return Validation(found, loss)
