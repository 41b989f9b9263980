"""What a network makes of a part of the data, batch by batch: no array of all embeddings.

Everything is in eval mode and in the part's fixed order. In several processes each has its share of
a part.
"""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.evaluation.metrics import macro_f1
from wsi_ncmi.losses.distributed import sum_over_ranks
from wsi_ncmi.losses.objective import Objective, Phase
from wsi_ncmi.training.distributed import gathered
from wsi_ncmi.training.finite import NotFiniteError, check_finite
from wsi_ncmi.training.interface import Data, Embedded, Inputs, Network, Validation
from wsi_ncmi.training.joint import JointObjective
from wsi_ncmi.training.precision import mixed

LARGEST_KEPT = 2**28
"""Bytes of embeddings that are kept from a phase's first pass for its others."""

Poll = Callable[[], None]
Given = tuple[Tensor, Tensor]
"""Embeddings [n, m] and targets [n]."""


def nothing() -> None:
    """Nobody asks in between."""


def batches_of(data: Data, part: str) -> Iterator[tuple[Inputs, Tensor]]:
    """Of a part in its fixed order; `augmented` is the training part, augmented."""
    return data.augmented() if part == "augmented" else data.evaluation(part)


@torch.inference_mode()
def evaluated(
    network: Network,
    data: Data,
    part: str,
    *,
    with_targets: bool = False,
    poll: Poll = nothing,
    batches: int | None = None,
) -> Iterator[tuple[Embedded, Tensor]]:
    """What the network gives for every batch of a part, and the batch's targets.

    Args:
        with_targets: the network is given them, for its auxiliary losses.
        poll: called after every batch.
        batches: only the first ones; None: all.

    Raises:
        NotFiniteError: an embedding is not, said after the last batch.
    """
    network.eval()
    wrong: Tensor | None = None
    for inputs, target in itertools.islice(batches_of(data, part), batches):
        with mixed(network.precision, target.device):
            output = network(inputs, target if with_targets else None)
        output = output._replace(embedding=output.embedding.float())
        found = (~output.embedding.isfinite()).any().double()
        wrong = found if wrong is None else wrong + found
        yield output, target
        poll()
    if wrong is not None:
        sum_over_ranks(wrong)
        if wrong > 0:
            raise NotFiniteError(f"the embeddings are not finite (part {part})")


class Passes:
    """Batches for several passes: made once where they are small, else anew for each.

    Args:
        make: the batches of a pass.
        most: bytes that are kept.
    """

    def __init__(
        self, make: Callable[[], Iterable[dict[str, Given]]], most: int = LARGEST_KEPT
    ) -> None:
        self.make, self.most = make, most
        self.kept: list[dict[str, Given]] | None = None

    def __iter__(self) -> Iterator[dict[str, Given]]:
        if self.kept is not None:
            yield from self.kept
            return
        kept: list[dict[str, Given]] | None = []
        size = 0
        for batch in self.make():
            size += sum(z.nbytes + y.nbytes for z, y in batch.values())
            kept = [*kept, batch] if kept is not None and size <= self.most else None
            yield batch
        self.kept = kept


def fit_phase(
    network: Network,
    objectives: Mapping[str, Objective],
    data: Data,
    phase: Phase,
    part: str,
    poll: Poll = nothing,
) -> None:
    """All passes of a phase over a part, of objectives of one network.

    Args:
        objectives: by the name of their auxiliary loss; "" is that of the samples.

    Raises:
        NotFiniteError: an embedding is not.
    """
    auxiliary = [name for name in objectives if name]

    def make() -> Iterator[dict[str, Given]]:
        pairs = evaluated(network, data, part, with_targets=bool(auxiliary), poll=poll)
        for output, target in pairs:
            batch = {"": (output.embedding, target)}
            for name in auxiliary:
                loss = output.auxiliary[name]
                batch[name] = loss.embedding.float(), loss.target
            yield batch

    left = {name: one.passes(phase) for name, one in objectives.items()}
    batches = Passes(make, LARGEST_KEPT if max(left.values()) > 1 else 0)
    while any(left.values()):
        present = {name: one for name, one in objectives.items() if left[name]}
        for batch in batches:
            for name, objective in present.items():
                objective.collect(phase, *batch[name])
        for name, objective in present.items():
            objective.finish(phase)
            left[name] -= 1


def start(network: Network, objective: JointObjective, data: Data, poll: Poll = nothing) -> None:
    """What the objectives need of the training part before the first step.

    Where they need nothing, the first batch's embeddings are looked at: what is not finite then, no
    learning rate has done.
    """
    objectives: dict[str, Any] = {"": objective.main, **dict(objective.auxiliary.items())}
    if any(one.passes("start") for one in objectives.values()):
        part = objective.main.samples_of("start")
        fit_phase(network, objectives, data, "start", part, poll)
    else:
        list(evaluated(network, data, "train", batches=1))


def embed(network: Network, data: Data, part: str) -> tuple[Tensor, Tensor]:
    """Embeddings [n, m] float32 and targets [n] of a part that is small.

    Raises:
        NotFiniteError: an embedding is not.
    """
    pairs = list(evaluated(network, data, part))
    return torch.cat([o.embedding for o, _ in pairs]), torch.cat([target for _, target in pairs])


@torch.inference_mode()
def score(network: Network, objective: Objective, data: Data, part: str) -> tuple[Tensor, Tensor]:
    """Class log-odds [n, C] and targets [n] of a part.

    Raises:
        NotFiniteError: an embedding or a score is not, in the float32 that records have.
    """
    objective.eval()
    found = [(objective.scores(o.embedding), t) for o, t in evaluated(network, data, part)]
    scores, targets = (gathered(torch.cat(column)) for column in zip(*found, strict=True))
    check_finite("the scores", {f"part {part}": scores.float()})
    return scores, targets


def validate(
    network: Network, objective: Objective, data: Data, poll: Poll = nothing
) -> tuple[Validation, Tensor]:
    """How an epoch does on validation, and its scores [n, C] float32, calibrated by themselves.

    Macro-F1 is over validation's classes: whatever an epoch predicts, it is divided by their
    number. The log-likelihood is that of the calibrated scores.

    Raises:
        NotFiniteError: an embedding or a score is not.
    """
    trial = copy.deepcopy(objective).eval()
    for output, target in evaluated(network, data, "val", poll=poll):
        trial.collect("temperature", output.embedding, target)
    with torch.inference_mode():
        raw, targets = (torch.cat(column) for column in zip(*trial.validation, strict=True))
        trial.finish("temperature")
        scores, targets = gathered(trial.calibrated(raw)), gathered(targets)
        loss = F.cross_entropy(scores.double(), targets).item()
    check_finite("the scores", {"part val": scores.float()})
    found = macro_f1(targets.cpu().numpy(), scores.argmax(1).cpu().numpy())
    return Validation(found, loss), scores.float().cpu()
