"""A sample's loss and a network's auxiliary losses as one.

Every auxiliary loss has an objective of the arm's own kind: instance losses, critical instances and
pseudo-bags are learnt under NCMI as under cross-entropy.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wsi_ncmi.aggregators.interface import Auxiliary
from wsi_ncmi.losses.classifier import Classifier, take_scores
from wsi_ncmi.losses.objective import LossOutput, Objective
from wsi_ncmi.training.aside import Aside
from wsi_ncmi.training.interface import Embedded
from wsi_ncmi.training.seen import Seen

Build = Callable[[int, Sequence[int]], Objective]


class JointObjective(nn.Module):
    """loss = w · main(z, y) + Σ_j w_j · aux_j(z_j, y_j) + penalty.

    Args:
        main: of the samples; inference needs it alone.
        auxiliary: of the network's auxiliary losses, by name.
    """

    def __init__(self, main: Objective, auxiliary: Mapping[str, Objective]) -> None:
        super().__init__()
        self.main = main
        self.auxiliary = nn.ModuleDict(auxiliary)
        self.seen = Seen(main.classes, scores_are_logits=isinstance(main, Classifier))
        self.seen.to(main.class_counts.device)
        self.aside = Aside()

    @classmethod
    def build(
        cls,
        build: Build,
        embedding_dim: int,
        class_counts: Sequence[int],
        auxiliaries: Mapping[str, Auxiliary],
        build_auxiliary: Build,
    ) -> "JointObjective":
        """All of one kind.

        Args:
            build: the arm's objective from an embedding's width and class counts.
            class_counts: of the samples. Pseudo-targets of as many classes are taken to be
                distributed like them, others uniformly.
            build_auxiliary: like `build`, for auxiliary losses.
        """
        main = build(embedding_dim, class_counts)
        found = {}
        for name, one in auxiliaries.items():
            counts = class_counts if one.classes == len(class_counts) else [1] * one.classes
            objective = build_auxiliary(one.dim, counts)
            found[name] = take_scores(objective) if one.scores else objective
        return cls(main, found)

    def _pairs(self, output: Embedded, target: Tensor) -> list[tuple[str, Objective, Any]]:
        """Name, objective and (embedding, target, weight) of every loss of a batch."""
        pairs: list[tuple[str, Any, Any]] = [
            ("", self.main, (output.embedding, target, output.weight))
        ]
        pairs += [(name, self.auxiliary[name], loss) for name, loss in output.auxiliary.items()]
        # A loss that compares samples is left out where a step has too few.
        return [pair for pair in pairs if len(pair[2][1]) >= pair[1].min_samples]

    def state_loss(self, output: Embedded, target: Tensor) -> Tensor | None:
        """The loss of the objectives' own states under an alternating schedule, or None.

        Args:
            output: its embeddings detached.
        """
        pairs = self._pairs(output, target)
        found = [o.state_loss(z, y) for _, o, (z, y, _) in pairs]
        losses = [loss for loss in found if loss is not None]
        return _sum([*losses, *self._left_out(pairs)]) if losses else None

    def forward(self, output: Embedded, target: Tensor) -> LossOutput:
        terms = [] if output.penalty is None else [output.penalty]
        parts = {} if output.penalty is None else {"penalty": output.penalty.detach()}
        pairs = self._pairs(output, target)
        for name, objective, (z, y, weight) in pairs:
            found = objective(z, y)
            terms.append(found.total if _is_one(weight) else weight * found.total)
            if self.training and not name:
                self._see(objective, z.detach(), y)
            parts |= {name: found.total.detach()} if name else found.parts
        return LossOutput(_sum([*terms, *self._left_out(pairs)]), parts)

    @torch.no_grad()
    def _see(self, objective: Objective, embedding: Tensor, target: Tensor) -> None:
        """Beside the backward pass: it changes nothing that the scores are made of."""
        with self.aside.branch(embedding, target):
            self.seen.add(objective.training_scores(embedding), target)

    def _left_out(self, pairs: Sequence[tuple[str, Objective, Any]]) -> list[Tensor]:
        """Zeros by which the parameters of objectives without a loss get a gradient of zero.

        Without one an optimiser would not count the step for them.
        """
        names = {name for name, *_ in pairs}
        absent = (one for name, one in self.auxiliary.items() if name not in names)
        return [(0 * p).sum() for one in absent for p in one.parameters()]

    def schedule_over(self, steps: int) -> None:
        for objective in self.all():
            objective.schedule_over(steps)

    def end_step(self) -> None:
        for objective in self.all():
            objective.end_step()

    def end_epoch(self, epoch: int) -> dict[str, Tensor]:
        """What tells how the samples' own classes come apart: scalars by name.

        What training steps saw is forgotten then.
        """
        for objective in self.all():
            objective.end_epoch(epoch)
        return {**self.seen.take(), **self.main.watched()}

    def average_gradients(self) -> None:
        """After a backward pass: over the processes, see `Objective`."""
        self.aside.join()
        for objective in self.all():
            objective.average_gradients()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters trained with the network, and those with an optimiser of their own."""
        groups: dict[str, list[nn.Parameter]] = {"network": [], "centroids": []}
        for objective in self.all():
            for name, parameters in objective.parameter_groups().items():
                groups[name] += parameters
        return groups

    def all(self) -> list[Objective]:
        """The objectives, the samples' own first."""
        return [self.main, *self.auxiliary.values()]  # type: ignore[list-item]


def _sum(terms: Sequence[Tensor]) -> Tensor:
    """Of one term or more, without a kernel for one alone."""
    return functools.reduce(torch.add, terms)


def _is_one(weight: float | Tensor) -> bool:
    return not isinstance(weight, Tensor) and weight == 1
