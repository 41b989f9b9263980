"""Models of one aggregator that are trained together, and one epoch of them.

What becomes of a model depends on its own (seed, fold, stream, arm) alone: bags, random numbers,
rates and clipping are its own, and no number of a neighbour enters it.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from wsi_ncmi.aggregators import fused
from wsi_ncmi.aggregators.interface import Aggregator
from wsi_ncmi.training.engine.members import Member, families_of, streams_of
from wsi_ncmi.training.engine.optimisers import (
    StackedOptimiser,
    clipping,
    joined_moves,
    squared_norms,
)
from wsi_ncmi.training.engine.stack import Stack, along
from wsi_ncmi.training.engine.step import Batch, Call, Piece, calls_of, forward, forward_streams
from wsi_ncmi.training.precision import mixed
from wsi_ncmi.training.seeds import seed_generators

# Numbers of one activation [instances, m] of the models that are mapped over together, and of all
# whose losses are one call. On a CPU, few calls and few new pages of memory are weighed.
LARGEST_MAP = {"cpu": 2**21, "cuda": 2**28}
LARGEST_PASS = {"cpu": 2**23, "cuda": 2**28}


class Group:
    """K models with stacked tensors; all take the same number of epochs behind them.

    Args:
        members: of one aggregator and its options, of settings that `optimisers.shared` joins, of
            one precision.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = sorted(members, key=lambda m: (repr(m.data.key), m.family))
        first = self.members[0]
        self.device = first.setup.objective.main.class_counts.device
        self.precision = first.network.precision
        self.instance_dim = first.network.aggregator.instance_dim
        self.aggregators = Stack([m.network.aggregator for m in self.members])
        aggregator = type(first.network.aggregator)
        self.is_mapped = aggregator.is_mapped
        self.joins = aggregator.joins_streams and self.device.type == "cpu"
        self.moves = aggregator.end_step is not Aggregator.end_step
        self.streams = streams_of(self.members)
        self.families = families_of(self.members)
        self.optimiser = StackedOptimiser(
            self.aggregators.parameters,
            [m.setup.settings for m in self.members],
            [m.steps for m in self.members],
        )
        self.largest_norm = torch.zeros(len(self), device=self.device)

    def __len__(self) -> int:
        """K."""
        return len(self.members)

    def subset(self, kept: Sequence[int]) -> "Group":
        """Some of the models as they are now, with their optimisers' states."""
        other = object.__new__(Group)
        other.__dict__ = dict(self.__dict__)
        index = torch.tensor(kept, dtype=torch.int64, device=self.device)
        other.members = [self.members[i] for i in kept]
        other.aggregators = self.aggregators.subset(index)
        other.streams = streams_of(other.members)
        found = (family.subset(kept) for family in self.families)
        other.families = [family for family in found if family is not None]
        other.optimiser = self.optimiser.subset(index, other.aggregators.parameters)
        other.largest_norm = self.largest_norm[index]
        return other

    def train_epoch(
        self, sums: "Sums", epoch: int, first: int, after_step: Callable[[int], None]
    ) -> None:
        """The steps of an epoch from `first` on; the objectives' epoch ends with it.

        Args:
            sums: of the losses, added to.
            after_step: is told the number of steps done, and may raise.
        """
        batches = [stream.data.training(epoch, first) for stream in self.streams]
        longest = max(stream.data.steps_per_epoch() for stream in self.streams)
        for step in range(first, longest):
            found = ((s, next(b, None)) for s, b in zip(self.streams, batches, strict=True))
            given = [
                Batch(s, s.network.prepared(bags), target, s.models)
                for s, (bags, target) in ((s, pair) for s, pair in found if pair is not None)
            ]
            for batch in self.passes(given):
                self._step(batch, sums, epoch, step)
            after_step(step + 1)
        with torch.no_grad():
            for family in self.families:
                everyone = slice(0, len(family.places))
                found = family.call(lambda j: j.end_epoch(epoch), everyone, training=True)
                sums.watch(family.places, found)

    def passes(self, batches: Sequence[Batch]) -> Iterator[list[Batch]]:
        """What is computed at once: as many models as fit, at least one."""
        waiting: list[Batch] = []
        size = 0
        for batch in (part for whole in batches for part in self._parts(whole)):
            own = self._size(batch) * (batch.models.stop - batch.models.start)
            if waiting and size + own > LARGEST_PASS[self.device.type]:
                yield waiting
                waiting, size = [], 0
            waiting.append(batch)
            size += own
        if waiting:
            yield waiting

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """A batch for as many models as are mapped over together, in equal parts."""
        models = batch.models
        count = models.stop - models.start
        most = LARGEST_MAP[self.device.type] // self._size(batch) if self.is_mapped else 1
        parts = -(-count // max(1, most))
        bounds = [models.start + count * i // parts for i in range(parts + 1)]
        for start, stop in itertools.pairwise(bounds):
            yield batch._replace(models=slice(start, stop))

    def _size(self, batch: Batch) -> int:
        return len(batch.bags.features) * self.instance_dim

    def _step(self, batches: Sequence[Batch], sums: "Sums", epoch: int, step: int) -> None:
        pieces = self._pieces(batches, epoch, step)
        calls = list(calls_of(pieces, self.families))
        alternating = [self._move_centroids(call) for call in calls]
        losses = [call.losses() for call in calls]
        for call, (totals, parts) in zip(calls, losses, strict=True):
            sums.add(call, totals, parts)
        if calls:
            total = torch.cat([totals for totals, _ in losses]).sum()
            self._move(pieces, calls, alternating, _gradients(total, pieces, calls))

    def _pieces(self, batches: Sequence[Batch], epoch: int, step: int) -> list[Piece]:
        """A piece for each batch; those of lone models are computed together."""
        found: dict[int, Piece] = {}
        for places in joined_streams(batches, self.instance_dim) if self.joins else ():
            some = [batches[place] for place in places]
            leaves = [self.aggregators.leaves(batch.models) for batch in some]
            seeds = [batch.stream.seeds(epoch, step) for batch in some]
            with mixed(self.precision, self.device):
                pieces = forward_streams(self.aggregators, some, leaves, seeds)
            found |= dict(zip(places, pieces, strict=True))
        for place, batch in enumerate(batches):
            if place not in found:
                found[place] = self._forward(batch, epoch, step)
        return [found[place] for place in range(len(batches))]

    def _forward(self, batch: Batch, epoch: int, step: int) -> Piece:
        seed_generators(batch.stream.seeds(epoch, step), self.device)
        leaves = self.aggregators.leaves(batch.models)
        with mixed(self.precision, self.device):
            return forward(self.aggregators, batch, leaves, training=True)

    def _move_centroids(self, call: Call) -> bool:
        """The step of an alternating schedule; False: there is none."""
        names = call.family.centroids.parameters
        losses = call.state_losses() if names else None
        if losses is None:
            return False
        wanted = {name: call.leaves[name] for name in names}
        leaves = list(wanted.values())
        found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        pairs = zip(wanted, found, strict=True)
        gradients = {name: gradient for name, gradient in pairs if gradient is not None}
        self._note(call.places, squared_norms(gradients))
        call.family.centroids.step(gradients, call.models)
        call.leaves = call.family.stack.leaves(call.models)
        return True

    def _move(
        self,
        pieces: Sequence[Piece],
        calls: Sequence[Call],
        alternating: Sequence[bool],
        gradients: Sequence[dict[str, Tensor]],
    ) -> None:
        """All optimisers' steps, each model's gradients clipped by their own norm."""
        squares = torch.zeros(len(self), device=self.device)
        own = joined_moves(list(zip(gradients, (p.batch.models for p in pieces), strict=False)))
        for found, models in own:
            squares[models] += squared_norms(found)
        heads = []
        for call, found in zip(calls, gradients[len(pieces) :], strict=True):
            centroids = call.family.centroids.parameters
            heads.append({n: g for n, g in found.items() if n not in centroids})
            squares[call.places] += squared_norms(heads[-1])
            moved = {n: g for n, g in found.items() if n in centroids}
            self._note(call.places, squared_norms(moved))
            call.centroid_gradients = moved
        norms = squares.sqrt()
        trained = sorted(place for call in calls for place in call.places)
        self.largest_norm = torch.maximum(self.largest_norm, norms)
        scale = clipping(norms, [m.setup.settings for m in self.members])
        moves = []
        for found, models in own:
            for run in _runs_within(models, trained):
                at = slice(run.start - models.start, run.stop - models.start)
                some = {n: g[at] for n, g in found.items()}
                moves.append((_scaled(some, None if scale is None else scale[run]), run))
        self.optimiser.step(moves)
        with torch.no_grad():
            self._end(pieces, calls, alternating, heads, scale)

    def _end(
        self,
        pieces: Sequence[Piece],
        calls: Sequence[Call],
        alternating: Sequence[bool],
        heads: Sequence[dict[str, Tensor]],
        scale: Tensor | None,
    ) -> None:
        for call, alternates, found in zip(calls, alternating, heads, strict=True):
            family = call.family
            factor = None if scale is None else scale[call.places]
            family.optimiser.step([(_scaled(found, factor), call.models)])
            if not alternates:
                family.centroids.step(call.centroid_gradients, call.models)
            family.centroids.schedule.move(call.models)
            if family.moves:
                family.call(lambda joint: joint.end_step() or {}, call.models, training=True)
        if self.moves:
            for piece in pieces:
                models = piece.batch.models
                self.aggregators.call(lambda a: a.end_step() or {}, models, training=True)

    def _note(self, places: Sequence[int], squares: Tensor | float) -> None:
        if isinstance(squares, Tensor):
            norms = torch.maximum(self.largest_norm[places], squares.sqrt())
            self.largest_norm[places] = norms


def joined_streams(batches: Sequence[Batch], width: int) -> list[list[int]]:
    """Places of batches that are computed together: of one model each, as many bags, like sizes.

    Padding is less than half of the instances, or takes less time than the call that it saves.
    Larger batches gain nothing: there calls take less time than what they compute.

    Args:
        width: of an instance's activation.
    """
    lone = [
        (len(batch.target), len(batch.bags.features), place)
        for place, batch in enumerate(batches)
        if batch.models.stop - batch.models.start == 1
        and len(batch.bags.features) * width < fused.LEAST
    ]
    found: list[list[tuple[int, int, int]]] = []
    for one in sorted(lone):
        if found and found[-1][0][0] == one[0] and _alike([*found[-1], one], width):
            found[-1].append(one)
        else:
            found.append([one])
    return [[place for *_, place in some] for some in found if len(some) > 1]


def _alike(batches: Sequence[tuple[int, int, int]], width: int) -> bool:
    """Whether batches (bags, instances, place), sorted, are worth their padding."""
    sizes = [instances for _, instances, _ in batches]
    padding = len(sizes) * sizes[-1] - sum(sizes)
    return sizes[-1] < 2 * sizes[0] or padding * width < fused.LEAST


class Sums:
    """An epoch's losses of each model: sums over its samples, on the device until they are read."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.values: dict[str, Tensor] = defaultdict(lambda: torch.zeros(count, device=device))
        self.seen: dict[str, set[int]] = defaultdict(set)
        self.counts = [0] * count
        self.watched: dict[str, Tensor] = {}

    def watch(self, places: list[int], found: dict[str, Tensor]) -> None:
        """At the end of an epoch, what a family says of it: values [k] by name."""
        for name, value in found.items():
            blank = torch.zeros(len(self.counts), dtype=torch.float64, device=value.device)
            self.watched.setdefault(name, blank)[places] = value.double()
            self.seen[name].update(places)

    def add(self, call: Call, totals: Tensor, parts: dict[str, Tensor]) -> None:
        """A step's losses [k]."""
        for name, value in {"loss": totals, **parts}.items():
            self.values[name][call.places] += value.detach() * call.samples
            self.seen[name].update(call.places)
        for place in call.places:
            self.counts[place] += call.samples

    @property
    def state(self) -> dict[str, object]:
        """For a checkpoint."""
        seen = {name: sorted(places) for name, places in self.seen.items()}
        return {"values": dict(self.values), "seen": seen, "counts": list(self.counts)}

    @classmethod
    def of(cls, state: dict[str, Any], rows: Sequence[int], device: torch.device) -> "Sums":
        """Of some models, from a checkpoint."""
        sums = cls(len(rows), device)
        sums.counts = [state["counts"][row] for row in rows]
        for name, values in state["values"].items():
            sums.values[name] = values[list(rows)].to(device)
            places = set(state["seen"][name])
            sums.seen[name] = {i for i, row in enumerate(rows) if row in places}
        return sums

    def means(self) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
        """Of each model by name, its losses' means and what it is watched by.

        It waits for the device once.
        """
        names, tensors = zip(*self.values.items(), *self.watched.items(), strict=True)
        columns = torch.stack([t.double() for t in tensors]).tolist()
        found = dict(zip(names, columns, strict=True))
        places = range(len(self.counts))
        return (
            [{n: found[n][i] / self.counts[i] for n in self._own(self.values, i)} for i in places],
            [{n: found[n][i] for n in self._own(self.watched, i)} for i in places],
        )

    def _own(self, names: Iterable[str], place: int) -> list[str]:
        return [name for name in names if place in self.seen[name]]


def _gradients(
    total: Tensor, pieces: Sequence[Piece], calls: Sequence[Call]
) -> list[dict[str, Tensor]]:
    """Of each piece and call, gradients of the leaves that the losses depend on."""
    groups = [piece.leaves for piece in pieces] + [call.leaves for call in calls]
    leaves = [leaf for group in groups for leaf in group.values()]
    flat = iter(torch.autograd.grad(total, leaves, allow_unused=True))
    found = [{name: next(flat) for name in group} for group in groups]
    return [{n: g for n, g in group.items() if g is not None} for group in found]


def _scaled(gradients: dict[str, Tensor], scale: Tensor | None) -> dict[str, Tensor]:
    if scale is None:
        return gradients
    return {name: gradient * along(scale, gradient) for name, gradient in gradients.items()}


def _runs_within(models: slice, trained: Sequence[int]) -> Iterator[slice]:
    """The longest slices of `models` whose places are all trained."""
    start = None
    wanted = set(trained)
    for place in range(models.start, models.stop + 1):
        inside = place < models.stop and place in wanted
        if inside and start is None:
            start = place
        if not inside and start is not None:
            yield slice(start, place)
            start = None
