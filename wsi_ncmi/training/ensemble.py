"""Trained models of one arm, over folds and seeds, that score a bag together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training.bags import BagNetwork, packed
from wsi_ncmi.training.mil import rebuilt


@dataclass(frozen=True, eq=False)
class Member:
    """A trained model.

    Attributes:
        content: of its checkpoint: what rebuilds it, its run and its states.
    """

    network: BagNetwork
    objective: Objective
    content: Mapping[str, Any]

    @classmethod
    def of(cls, content: Mapping[str, Any], device: torch.device) -> Self:
        """From the content of a checkpoint."""
        return cls(*rebuilt(content, device), content)

    def score(self, bags: BagBatch) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Of one bag, calibrated probabilities [C], and attention [N] if the model has any."""
        output = self.network.bag(bags)
        scores = self.objective.scores(output.embedding)
        probability = scores.double().softmax(1)[0].cpu().numpy()
        if not self.network.aggregator.has_attention:
            return probability, None
        weights = output.attention.mean(-1).double().cpu().numpy()
        return probability, weights / weights.sum()


@dataclass(frozen=True, eq=False)
class Scored:
    """What an ensemble of M models makes of a bag of N instances.

    Attributes:
        probabilities: calibrated, by each model, [M, C].
        attention: [N], the mean of the models', sums to one; None: they have none.
    """

    probabilities: NDArray[np.float64]
    attention: NDArray[np.float64] | None

    @property
    def mean(self) -> NDArray[np.float64]:
        """The ensemble's probabilities [C]."""
        return np.asarray(self.probabilities.mean(axis=0))

    @property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation over the models [C]; 0 of a single one."""
        return np.asarray(self.probabilities.std(axis=0, ddof=min(1, len(self.probabilities) - 1)))


class Ensemble:
    """Models of one arm on one device."""

    def __init__(self, contents: Sequence[Mapping[str, Any]], device: torch.device) -> None:
        self.members = [Member.of(content, device) for content in contents]
        self.device = device

    @torch.inference_mode()
    def score(self, pieces: Sequence[NDArray[Any]]) -> Scored:
        """Score one bag, of one slide or of several: [N, D] each, as they are stored."""
        bags = packed([pieces], self.device)
        found = [member.score(bags) for member in self.members]
        attentions = [attention for _, attention in found if attention is not None]
        mean = np.mean(attentions, axis=0) if attentions else None
        return Scored(np.stack([probability for probability, _ in found]), mean)
