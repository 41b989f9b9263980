"""What a group consists of: its models, the streams of bags they share, families of objectives."""

import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training.bags import BagData, BagNetwork
from wsi_ncmi.training.engine.optimisers import CentroidOptimiser, StackedOptimiser
from wsi_ncmi.training.engine.stack import Stack, Tensors
from wsi_ncmi.training.execute import Setup
from wsi_ncmi.training.finite import History


@dataclass(eq=False)
class Member:
    """One model of a group.

    Attributes:
        setup: what it starts from; it gets the trained state.
        history: of its training.
    """

    setup: Setup
    history: History = field(default_factory=History)

    @property
    def network(self) -> BagNetwork:
        network = self.setup.network
        assert isinstance(network, BagNetwork)
        return network

    @property
    def data(self) -> BagData:
        data = self.setup.data
        assert isinstance(data, BagData)
        return data

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.setup.steps

    @property
    def family(self) -> str:
        """Models of one objective and its options have one structure, whatever their label."""
        record = dict(self.setup.configuration["objective"])
        label = record.pop("label")
        facts = {"part": record["part"] or label, "options": record["options"]}
        return json.dumps(facts, sort_keys=True, default=str)


@dataclass(eq=False)
class Stream:
    """Models that see the same bags in the same order with the same random numbers.

    Attributes:
        models: their places in the group.
    """

    data: BagData
    network: BagNetwork
    seeds: Callable[[int, int], int]
    models: slice


@dataclass(eq=False)
class Family:
    """The objectives of models that differ in numbers alone.

    Attributes:
        places: of its models in the group, ascending.
        stack: of their `JointObjective`s.
        optimiser: of what is trained with the network; `centroids`: of the objectives' own.
    """

    places: list[int]
    stack: Stack
    optimiser: StackedOptimiser
    centroids: CentroidOptimiser
    stackable: bool
    takes_stacks: bool
    min_samples: int
    moves: bool

    @classmethod
    def of(cls, places: list[int], members: Sequence[Member]) -> "Family":
        own = [members[place] for place in places]
        joints: list[nn.Module] = [member.setup.objective for member in own]
        joint, stack = own[0].setup.objective, Stack(joints)
        names = {id(p): name for name, p in joint.named_parameters()}
        groups = {
            group: {names[id(p)]: stack.parameters[names[id(p)]] for p in found}
            for group, found in joint.parameter_groups().items()
        }
        settings, steps = [m.setup.settings for m in own], [m.steps for m in own]
        objectives = joint.all()
        return cls(
            places,
            stack,
            StackedOptimiser(groups["network"], settings, steps),
            CentroidOptimiser(groups["centroids"], settings, steps),
            all(objective.stackable for objective in objectives),
            joint.main.takes_stacks and len(objectives) == 1,
            joint.main.min_samples,
            any(type(objective).end_step is not Objective.end_step for objective in objectives),
        )

    def within(self, models: slice) -> slice:
        """Of its own models, those at some places of the group."""
        return slice(bisect_left(self.places, models.start), bisect_left(self.places, models.stop))

    def call(
        self,
        function: Callable[..., Any],
        models: slice,
        *inputs: Any,
        leaves: Tensors | None = None,
        training: bool = False,
    ) -> Any:
        """`Stack.call`, one by one for objectives that cannot be mapped over."""
        count = models.stop - models.start
        if self.stackable or count == 1:
            return self.stack.call(
                function,
                models,
                *inputs,
                leaves=leaves,
                training=training,
                takes_stacks=self.takes_stacks,
            )
        found = []
        for i in range(count):
            mine, own = tree_map(lambda t, i=i: t[i : i + 1], (inputs, leaves or {}))
            at = slice(models.start + i, models.start + i + 1)
            given = None if leaves is None else own
            found.append(self.stack.call(function, at, *mine, leaves=given, training=training))
        return tree_map(lambda *rows: torch.cat(rows), found[0], *found[1:])

    def subset(self, kept: Sequence[int]) -> "Family | None":
        """That of a group of which only some places remain."""
        index = [i for i, place in enumerate(self.places) if place in set(kept)]
        if not index:
            return None
        at = torch.tensor(index, device=next(iter(self.stack.tensors.values())).device)
        stack = self.stack.subset(at)
        places = [kept.index(self.places[i]) for i in index]
        head = {name: stack.parameters[name] for name in self.optimiser.parameters}
        own = {name: stack.parameters[name] for name in self.centroids.parameters}
        return replace(
            self,
            places=places,
            stack=stack,
            optimiser=self.optimiser.subset(at, head),
            centroids=self.centroids.subset(at, own),
        )


def streams_of(members: Sequence[Member]) -> list[Stream]:
    """The streams of models that are sorted by them."""
    found: list[Stream] = []
    keys: list[Any] = []
    for place, member in enumerate(members):
        if keys and keys[-1] == member.data.key:
            found[-1].models = slice(found[-1].models.start, place + 1)
            continue
        keys.append(member.data.key)
        models = slice(place, place + 1)
        found.append(Stream(member.data, member.network, member.setup.seeds, models))
    return found


def families_of(members: Sequence[Member]) -> list[Family]:
    """The families of a group's models, in the order of their first ones."""
    places: dict[str, list[int]] = {}
    for place, member in enumerate(members):
        places.setdefault(member.family, []).append(place)
    return [Family.of(found, members) for found in places.values()]
