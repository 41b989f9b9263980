"""One step of many models: forward passes by stream, losses by family, one backward pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from wsi_ncmi.aggregators.bags import BagBatch, StreamBags, of_streams
from wsi_ncmi.aggregators.dropout import StreamDraws, draws_of_streams
from wsi_ncmi.aggregators.interface import Aggregator, AuxiliaryLoss
from wsi_ncmi.training.engine.members import Family, Stream
from wsi_ncmi.training.engine.stack import Stack, Tensors
from wsi_ncmi.training.interface import Embedded
from wsi_ncmi.training.joint import JointObjective

Auxiliaries = dict[str, tuple[Tensor, Tensor, Tensor]]


class Batch(NamedTuple):
    """A step's bags for some models of one stream.

    Attributes:
        bags: as the aggregators take them.
        target: [B].
        models: their places in the group.
    """

    stream: Stream
    bags: BagBatch
    target: Tensor
    models: slice


@dataclass(eq=False)
class Piece:
    """What aggregators made of a batch.

    Attributes:
        z: [k, B, m].
        auxiliary: name -> embeddings [k, n, d], pseudo-targets [k, n], weights [k].
        penalty: [k] or None.
        leaves: the aggregators' parameters.
    """

    batch: Batch
    z: Tensor
    auxiliary: Auxiliaries
    penalty: Tensor | None
    weight: float
    leaves: Tensors

    @property
    def signature(self) -> tuple[Any, ...]:
        """Pieces that agree in it can be stacked."""
        shapes = tuple((n, *a[0].shape[1:]) for n, a in self.auxiliary.items())
        return tuple(self.z.shape[1:]), shapes, self.penalty is None, self.weight

    def rows(self, models: slice) -> tuple[Any, ...]:
        """z, targets, auxiliary losses and penalty of some models of the group."""
        start = self.batch.models.start
        at = slice(models.start - start, models.stop - start)
        auxiliary = {n: tuple(t[at] for t in a) for n, a in self.auxiliary.items()}
        target = self.batch.target.expand(models.stop - models.start, -1)
        penalty = () if self.penalty is None else (self.penalty[at],)
        return self.z[at], target, auxiliary, penalty


def forward(aggregators: Stack, batch: Batch, leaves: Tensors | None, *, training: bool) -> Piece:
    """A batch through the aggregators.

    Args:
        leaves: in the place of the parameters; None: no gradient is needed.
    """
    static: dict[str, Any] = {}

    def embed(aggregator: Aggregator) -> tuple[Any, ...]:
        output = aggregator(batch.bags, batch.target)
        static["weight"] = output.bag_weight
        auxiliary = {
            name: (loss.embedding, loss.target, torch.as_tensor(loss.weight).to(output.embedding))
            for name, loss in output.auxiliary.items()
        }
        penalty = () if output.penalty is None else (output.penalty,)
        return output.embedding, auxiliary, penalty

    found = aggregators.call(embed, batch.models, leaves=leaves, training=training)
    z, auxiliary, penalty = found
    first = penalty[0] if penalty else None
    return Piece(batch, z, auxiliary, first, static["weight"], leaves or {})


def forward_streams(
    aggregators: Stack, batches: Sequence[Batch], leaves: Sequence[Tensors], seeds: Sequence[int]
) -> list[Piece]:
    """Batches of several streams, of one model each and as many bags, through the aggregators.

    What `forward` gives of each of them.

    Args:
        seeds: of each stream's random numbers in this step.
    """
    features, index = of_streams([batch.bags for batch in batches])
    count = len(batches[0].target)
    targets = F.pad(torch.stack([batch.target for batch in batches]), (0, 1))
    static: dict[str, Any] = {}

    def embed(aggregator: Aggregator, features: Tensor, index: Tensor, target: Tensor) -> Any:
        output = aggregator(StreamBags(features, index, count + 1), target)
        static["weight"] = output.bag_weight
        static["weights"] = {name: loss.weight for name, loss in output.auxiliary.items()}
        losses = {n: (a.embedding[:count], a.target[:count]) for n, a in output.auxiliary.items()}
        return output.embedding[:count], losses

    joined = {name: torch.cat([own[name] for own in leaves]) for name in leaves[0]}
    draws = []
    for seed, batch in zip(seeds, batches, strict=True):
        # Either all bags have one instance, or a number of rows says what they are.
        rows = {count + 1: count, features.shape[1]: len(batch.bags.features)}
        draws.append(StreamDraws(torch.Generator().manual_seed(seed), rows))
    with draws_of_streams(draws):
        z, losses = aggregators.call_joined(embed, joined, features, index, targets, training=True)
    weights = {n: torch.as_tensor(w).to(z).expand(1) for n, w in static["weights"].items()}
    found = []
    for place, (batch, own) in enumerate(zip(batches, leaves, strict=True)):
        at = slice(place, place + 1)
        auxiliary = {n: (e[at], target[at], weights[n]) for n, (e, target) in losses.items()}
        found.append(Piece(batch, z[at], auxiliary, None, static["weight"], own))
    return found


@dataclass(eq=False)
class Call:
    """The losses of models of one family that stand one after another in it.

    Attributes:
        models: their places in the family.
        places: in the group.
        inputs: z [k, B, m], targets [k, B], auxiliary losses, penalty.
        leaves: the objectives' parameters.
        centroid_gradients: of a step in which they move with the network.
    """

    family: Family
    models: slice
    places: list[int]
    inputs: tuple[Any, ...]
    weight: float
    leaves: Tensors
    centroid_gradients: Tensors = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """B."""
        return int(self.inputs[1].shape[1])

    def state_losses(self) -> Tensor | None:
        """[k], or None where the objectives have no step of their own."""

        def loss(joint: JointObjective, *given: Any) -> dict[str, Tensor]:
            output, target = _embedded(self.weight, *given)
            found = joint.state_loss(output, target)
            return {} if found is None else {"loss": found}

        inputs = tuple(_detached(part) for part in self.inputs)
        found = self.family.call(loss, self.models, *inputs, leaves=self.leaves, training=True)
        losses: Tensor | None = found.get("loss")
        return losses

    def losses(self) -> tuple[Tensor, Tensors]:
        """Totals [k] and their parts [k] by name."""

        def loss(joint: JointObjective, *given: Any) -> tuple[Tensor, Tensors]:
            found = joint(*_embedded(self.weight, *given))
            return found.total, found.parts

        found: tuple[Tensor, Tensors] = self.family.call(
            loss, self.models, *self.inputs, leaves=self.leaves, training=True
        )
        return found


def calls_of(pieces: Sequence[Piece], families: Sequence[Family]) -> Iterator[Call]:
    """All losses of a step; those that can be stacked together.

    A family that compares more samples than a batch has is left out of it.
    """
    groups: dict[Any, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.signature, []).append(piece)
    for group in groups.values():
        for family in families:
            if len(group[0].batch.target) >= family.min_samples:
                yield from _runs(group, family)


def _runs(pieces: Sequence[Piece], family: Family) -> Iterator[Call]:
    """Of one family, a call for each run of models that follow one another in it."""
    runs: list[tuple[slice, list[Any]]] = []
    for piece in pieces:
        own = family.within(piece.batch.models)
        if own.start == own.stop:
            continue
        # Models of a stream stand sorted by their families.
        places = family.places[own]
        rows = piece.rows(slice(places[0], places[-1] + 1))
        if runs and runs[-1][0].stop == own.start:
            runs[-1] = slice(runs[-1][0].start, own.stop), [*runs[-1][1], rows]
        else:
            runs.append((own, [rows]))
    for models, found in runs:
        leaves = family.stack.leaves(models)
        places = family.places[models]
        yield Call(family, models, places, joined(found), pieces[0].weight, leaves)


def joined(rows: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Trees of tensors one after another."""
    if len(rows) == 1:
        return rows[0]
    found: tuple[Any, ...] = tree_map(lambda *parts: torch.cat(parts), rows[0], *rows[1:])
    return found


def _detached(part: Any) -> Any:
    return tree_map(lambda t: t.detach(), part)


def _embedded(
    weight: float, z: Tensor, target: Tensor, auxiliary: Auxiliaries, penalty: tuple[Tensor, ...]
) -> tuple[Embedded, Tensor]:
    losses = {name: AuxiliaryLoss(*given) for name, given in auxiliary.items()}
    return Embedded(z, losses, penalty[0] if penalty else None, weight), target
