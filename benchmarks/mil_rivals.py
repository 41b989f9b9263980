"""Ways of training many MIL models on a CPU: the same steps and arithmetic as the engine's.

Each takes a `Work`, trains one epoch of its models whenever it is called, and goes on with the next
epoch at the next call. Ways that train one model after another do so with a few models only, for
their time is proportional to the number: `trained` says how many there were.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mil_bags import Work
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import SGD, AdamW

from wsi_ncmi.aggregators.abmil import ABMIL
from wsi_ncmi.aggregators.dropout import Dropout
from wsi_ncmi.training import evaluation
from wsi_ncmi.training.execute import Setup
from wsi_ncmi.training.interface import Embedded, Network
from wsi_ncmi.training.learner import detached
from wsi_ncmi.training.optimisers import decay_groups
from wsi_ncmi.training.precision import mixed
from wsi_ncmi.training.schedules import factor
from wsi_ncmi.training.seeds import seed_generators

FEW = 2  # models that a way trains which takes one after another


class Way(ABC):
    """One way of training some work's models.

    Args:
        most: models that may be trained, where the time for all would be too long.

    Attributes:
        trained: models that a call trains.
        cpu_elsewhere: CPU seconds that other processes have taken for it so far.
    """

    cpu_elsewhere = 0.0

    def __init__(self, work: Work, most: int) -> None:
        self.work, self.trained, self.epoch = work, min(work.models, most), 0

    @abstractmethod
    def train(self) -> None:
        """An epoch of `trained` models."""

    def __call__(self) -> None:
        self.train()
        self.epoch += 1

    def states(self) -> list[dict[str, Tensor]]:
        """The weights of the models that it trained, for a look at whether ways agree."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027, for most ways start nothing
        """End what was started."""


class Trainee:
    """A model in a plain loop: forward, loss, backward, clipping, step; nothing else is looked at.

    Args:
        network: in the place of the setup's own.
        fused: AdamW in one kernel; torch's default has one for each operation and tensor.
    """

    def __init__(self, setup: Setup, network: Network | None = None, *, fused: bool = True) -> None:
        self.setup, self.objective = setup, setup.objective
        self.network = network or setup.network
        evaluation.start(setup.network, self.objective, setup.data)
        groups = self.objective.parameter_groups()
        self.own = [*self.network.parameters(), *groups["network"]]
        settings = setup.settings
        decayed = decay_groups(self.own, settings.weight_decay)
        self.optimisers = [AdamW(decayed, settings.learning_rate, fused=fused)]
        if groups["centroids"]:
            self.optimisers.append(SGD(groups["centroids"], settings.centroid_learning_rate))
        self.rates = settings.learning_rate, settings.centroid_learning_rate
        self.steps = settings.epochs * setup.data.steps_per_epoch()
        self.done = 0

    def run_epoch(self, epoch: int, batches: Iterator[tuple[Any, Tensor]] | None = None) -> None:
        self.network.train()
        self.objective.train()
        for step, (bags, target) in enumerate(batches or self.setup.data.training(epoch)):
            seed_generators(self.setup.seeds(epoch, step), target.device)
            self.step(bags, target)
        self.objective.end_epoch(epoch)

    def step(self, bags: Any, target: Tensor) -> None:
        share = factor(self.setup.settings, self.done, self.steps)
        for optimiser, rate in zip(self.optimisers, self.rates, strict=False):
            for group in optimiser.param_groups:
                group["lr"] = rate * share
            optimiser.zero_grad()
        with mixed(self.setup.settings.precision, target.device):
            output = self.network(bags, target)
        if len(self.optimisers) > 1:
            own = self.objective.state_loss(detached(output), target)
            if own is not None:
                own.backward()
                self.optimisers[1].step()
        self.objective(output, target).total.backward()
        limit = self.setup.settings.clip_norm
        if limit is not None:
            nn.utils.clip_grad_norm_([p for p in self.own if p.grad is not None], limit)
        self.optimisers[0].step()
        self.objective.end_step()
        self.network.end_step()
        self.done += 1

    def state(self) -> dict[str, Tensor]:
        return {k: v.clone() for k, v in self.setup.network.state_dict().items()}


class Plain(Way):
    """One packed model after another, each with all threads, the optimiser in one kernel."""

    fused = True

    def __init__(self, work: Work, most: int) -> None:
        super().__init__(work, min(most, FEW))
        self.trainees = [self.trainee(setup) for setup in work.setups(self.trained)]

    def trainee(self, setup: Setup) -> Trainee:
        return Trainee(setup, fused=self.fused)

    def train(self) -> None:
        for trainee in self.trainees:
            trainee.run_epoch(self.epoch)

    def states(self) -> list[dict[str, Tensor]]:
        return [trainee.state() for trainee in self.trainees]


class Padded(Plain):
    """The loop before the engine: bags padded to the longest, standardised, and packed by a mask.

    Written anew as it worked: standardised even where nothing is (mean 0, deviation 1), scores and
    instances unpacked again for the pooling, torch's own dropout and default AdamW.
    """

    fused = False

    def trainee(self, setup: Setup) -> Trainee:
        return Trainee(setup, PaddedABMIL(setup.network), fused=False)

    def train(self) -> None:
        for trainee in self.trainees:
            packed = trainee.setup.data.training(self.epoch)
            batches = ((pad(bags.split(bags.features)), y) for bags, y in packed)
            trainee.run_epoch(self.epoch, batches)


class PaddedABMIL(Network):
    """Gated ABMIL on padded bags [B, N, D] and a mask [B, N], with another network's weights."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        aggregator = network.aggregator
        if not isinstance(aggregator, ABMIL):
            raise ValueError(f"only gated ABMIL was padded, found {type(aggregator).__name__}")
        self.aggregator, self.embedding_dim = aggregator, network.embedding_dim
        layers = (nn.Dropout(x.p) if isinstance(x, Dropout) else x for x in aggregator.instance)
        self.instance = nn.Sequential(*layers)  # torch's dropout, as it was
        dim = aggregator.instance[0].in_features
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, inputs: Any, targets: Tensor | None = None) -> Embedded:
        features, mask = inputs
        packed = ((features - self.mean) * self.scale)[mask]
        hidden = self.instance(packed)
        scores = unpack(self.aggregator.attention(hidden), mask)
        scores = scores.masked_fill(~mask[..., None], float("-inf"))
        attention = torch.softmax(scores, 1)
        return Embedded((attention.transpose(1, 2) @ unpack(hidden, mask)).squeeze(1))


def pad(bags: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Bags [N_i, D] -> float32 [B, max N, D] and bool [B, max N]."""
    longest = max(len(bag) for bag in bags)
    features = torch.zeros(len(bags), longest, bags[0].shape[1])
    mask = torch.zeros(len(bags), longest, dtype=torch.bool)
    for i, bag in enumerate(bags):
        features[i, : len(bag)] = bag
        mask[i, : len(bag)] = True
    return features, mask


def unpack(values: Tensor, mask: Tensor) -> Tensor:
    """[instances, d] -> [B, N, d], zeros at padding."""
    padded = values.new_zeros(*mask.shape, values.shape[-1])
    return padded.masked_scatter(mask[..., None], values)


class Mapped(Way):
    """`torch.func.vmap` as it comes: the arms of a stream in one call, one stacked fused AdamW."""

    def __init__(self, work: Work, most: int) -> None:
        super().__init__(work, most)
        self.setups = work.setups(self.trained)
        for setup in self.setups:
            evaluation.start(setup.network, setup.objective, setup.data)
        self.joint = [nn.ModuleList([s.network, s.objective]) for s in self.setups]
        self.groups = [
            range(at, min(at + work.arms, self.trained)) for at in range(0, self.trained, work.arms)
        ]
        self.stacks = [stack_module_state([self.joint[i] for i in g]) for g in self.groups]
        self.optimisers = [AdamW(p.values(), 1e-4, fused=True) for p, _ in self.stacks]

    def train(self) -> None:
        for group, stack, optimiser in zip(self.groups, self.stacks, self.optimisers, strict=True):
            setup = self.setups[group[0]]
            module = _Loss(self.joint[group[0]]).train()
            parameters, buffers = ({f"joint.{k}": v for k, v in part.items()} for part in stack)
            for step, (bags, target) in enumerate(setup.data.training(self.epoch)):
                seed_generators(setup.seeds(self.epoch, step), target.device)

                def one(
                    p: Any, b: Any, bags: Any = bags, y: Tensor = target, m: Any = module
                ) -> Any:
                    return functional_call(m, (p, b), (bags, y))

                optimiser.zero_grad()
                vmap(one, randomness="same")(parameters, buffers).sum().backward()
                optimiser.step()


class _Loss(nn.Module):
    def __init__(self, joint: nn.ModuleList) -> None:
        super().__init__()
        self.joint = joint

    def forward(self, bags: Any, target: Tensor) -> Tensor:
        network, objective = self.joint
        total: Tensor = objective(network(bags, target), target).total
        return total
