"""Optimisers over a leading model axis: every model has its own rate, decay, clipping and step.

Equal to `training.optimisers`, which does it by torch.optim for one model.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wsi_ncmi.config import Training
from wsi_ncmi.training.engine.stack import along
from wsi_ncmi.training.optimisers import LOOKAHEAD_RATE, LOOKAHEAD_STEPS
from wsi_ncmi.training.schedules import Course, factors, warmup_steps

EPSILON = 1e-8  # of torch.optim's Adam, AdamW and RAdam
FUSED = ("adam", "adamw", "sgd")  # by a kernel of torch's; the rest is written here
CLIP_EPSILON = 1e-6  # of torch.nn.utils.clip_grad_norm_

Move = tuple[Mapping[str, Tensor], slice]
"""Gradients [k, ...] by name, and the models that they are of."""


def shared(training: Training) -> tuple[object, ...]:
    """What models of one stacked optimiser have in common."""
    kind = training.optimiser, training.betas, training.momentum, training.nesterov
    return *kind, training.lookahead


class Schedule:
    """Learning rates [K] at each model's own step; see `training.schedules`.

    Args:
        rates: peak rates of the models.
        steps: of each model's whole training.
    """

    def __init__(self, rates: Sequence[float], settings: Sequence[Training], steps: Sequence[int]):
        kinds = [_course(training) for training in settings]
        self.kinds = {kind: settings[kinds.index(kind)] for kind in kinds}
        self.kind = torch.tensor([list(self.kinds).index(kind) for kind in kinds])
        self.rates = torch.tensor(rates, dtype=torch.float64)
        warmup = [warmup_steps(t, n) for t, n in zip(settings, steps, strict=True)]
        self.warmup = torch.tensor(warmup, dtype=torch.float64)
        self.steps = torch.tensor(steps, dtype=torch.float64)
        self.done = torch.zeros(len(rates), dtype=torch.float64)

    def now(self, models: slice) -> Tensor:
        """Rates [k] float64 on the host."""
        course = Course(self.done[models], self.warmup[models], self.steps[models])
        found = [factors(settings, course) for settings in self.kinds.values()]
        own = (
            found[0]
            if len(found) == 1
            else torch.stack(found).gather(0, self.kind[models][None])[0]
        )
        return self.rates[models] * own

    def move(self, models: slice) -> None:
        """The next step."""
        self.done[models] += 1

    def subset(self, index: Tensor) -> "Schedule":
        """That of some models."""
        other = object.__new__(Schedule)
        other.kinds = self.kinds
        for name in ("kind", "rates", "warmup", "steps", "done"):
            setattr(other, name, getattr(self, name)[index.cpu()])
        return other


def _course(training: Training) -> tuple[object, ...]:
    return training.schedule, tuple(training.milestones), training.milestone_factor


class StackedOptimiser:
    """The network's optimiser for K models, whose settings agree in what `shared` names.

    Args:
        parameters: by name, [K, ...], written in place.
        undecayed: names without weight decay beside those of one dimension or none.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: Sequence[Training],
        steps: Sequence[int],
        undecayed: Collection[str] = (),
    ) -> None:
        self.parameters = dict(parameters)
        self.settings = settings[0]
        rates = [t.rate(count) for t, count in zip(settings, steps, strict=True)]
        self.schedule = Schedule(rates, settings, steps)
        self.decay = torch.tensor([t.weight_decay for t in settings], dtype=torch.float64)
        exempt = {name for name, t in parameters.items() if t.ndim <= 2}
        self.undecayed = exempt | set(undecayed)
        self.first = {n: torch.zeros_like(t) for n, t in parameters.items()}
        adaptive = self.settings.optimiser != "sgd"
        self.second = {n: torch.zeros_like(t) for n, t in parameters.items() if adaptive}
        ahead = self.settings.lookahead
        self.slow = {n: t.clone() for n, t in parameters.items() if ahead}
        # Steps of each parameter: one without a gradient (the head of an auxiliary loss that a
        # step lacks) stays where it is, and its moments keep their age.
        self.columns = {name: column for column, name in enumerate(parameters)}
        self.ages = torch.zeros(len(settings), len(parameters), dtype=torch.float64)

    def step(self, moves: Sequence[Move]) -> None:
        """Move models by their gradients, which stay as they are; each is in one of the moves."""
        for gradients, models in moves:
            self.ages[models, [self.columns[name] for name in gradients]] += 1
        rates = self.schedule.now(slice(None))
        if self.settings.optimiser in FUSED:
            self._by_kernel(moves, rates)
        else:
            for gradients, models in moves:
                for name, gradient in gradients.items():
                    decay = self.decay[models] * (name not in self.undecayed)
                    self._radam(name, gradient, models, rates[models], decay)
        for _, models in moves:
            self.schedule.move(models)
            self._look_ahead(models)

    def _by_kernel(self, moves: Sequence[Move], rates: Tensor) -> None:
        """torch's own, in one call for all tensors of one rate and decay."""
        calls: dict[tuple[float, float], list[list[Any]]] = {}
        everyone = torch.cat([torch.stack([rates, self.decay], 1), self.ages], 1).tolist()
        for gradients, models in moves:
            keys = [(key, len(list(found))) for key, found in itertools.groupby(everyone[models])]
            counts = [count for _, count in keys]
            for name, gradient in gradients.items():
                stacks = [self.parameters[name], self.first[name]]
                stacks += [self.second[name]] if self.second else []
                # The kernel looks at nothing but memory.
                tensors = (gradient.contiguous(), *(stack[models] for stack in stacks))
                rows = zip(*(tensor.split(counts) for tensor in tensors), strict=True)
                for ((rate, decay, *ages), _), own in zip(keys, rows, strict=True):
                    kind = rate, 0.0 if name in self.undecayed else decay
                    call = calls.setdefault(kind, [[] for _ in range(len(own) + 1)])
                    for found, one in zip(call, (*own, ages[self.columns[name]]), strict=True):
                        found.append(one)
        for (rate, decay), (given, parameters, *moments, ages) in calls.items():
            if self.settings.optimiser == "sgd":
                self._sgd((parameters, given, *moments), rate, decay)
            else:
                self._adam((parameters, given, *moments), rate, decay, ages)

    def _sgd(self, tensors: tuple[list[Tensor], ...], rate: float, decay: float) -> None:
        parameters, gradients, first = tensors
        momentum = self.settings.momentum
        torch._fused_sgd_(
            parameters,
            gradients,
            first if momentum else [],
            weight_decay=decay,
            momentum=momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self.settings.nesterov,
            maximize=False,
            is_first_step=False,  # the buffers begin with zeros
        )

    def _adam(
        self, tensors: tuple[list[Tensor], ...], rate: float, decay: float, ages: Sequence[float]
    ) -> None:
        adamw = self.settings.optimiser == "adamw"
        function: Any = torch._fused_adamw_ if adamw else torch._fused_adam_
        device = tensors[0][0].device
        age = {n: torch.tensor(n, dtype=torch.float32, device=device) for n in set(ages)}
        beta, beta2 = self.settings.betas
        function(
            *tensors,
            [],
            [age[n] for n in ages],
            lr=rate,
            beta1=beta,
            beta2=beta2,
            weight_decay=decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def _radam(
        self,
        name: str,
        gradient: Tensor,
        models: slice,
        rates: Tensor,
        decay: Tensor,
    ) -> None:
        parameter, first = self.parameters[name][models], self.first[name][models]
        parameter.mul_(along(1 - rates * decay, parameter))
        beta, beta2 = self.settings.betas
        done = self.ages[models, self.columns[name]]
        second = self.second[name][models]
        first.lerp_(gradient, 1 - beta)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        factor, plain = _rectified(done, beta2)
        change = torch.where(along(plain, first), 1.0, second.sqrt().add_(EPSILON))
        torch.div(first, change, out=change)
        parameter.sub_(change.mul_(along(rates * factor / (1 - beta**done), change)))

    def _look_ahead(self, models: slice) -> None:
        if not self.slow:
            return
        now = self.schedule.done[models] % LOOKAHEAD_STEPS == 0
        for name, slow in self.slow.items():
            fast, kept = self.parameters[name][models], slow[models]
            mixed = torch.lerp(kept, fast, LOOKAHEAD_RATE)
            mask = along(now, fast)
            kept.copy_(torch.where(mask, mixed, kept))
            fast.copy_(torch.where(mask, mixed, fast))

    @property
    def state(self) -> dict[str, Tensor]:
        """All that moves, for a checkpoint."""
        groups = {"first": self.first, "second": self.second, "slow": self.slow}
        tensors = {f"{g}.{n}": t for g, found in groups.items() for n, t in found.items()}
        return {**tensors, "done": self.schedule.done, "ages": self.ages}

    def subset(self, index: Tensor, parameters: Mapping[str, Tensor]) -> "StackedOptimiser":
        """That of some models, whose parameters these are."""
        other = object.__new__(StackedOptimiser)
        other.parameters, other.settings = dict(parameters), self.settings
        other.schedule, other.decay = self.schedule.subset(index), self.decay[index.cpu()]
        other.undecayed, other.columns = self.undecayed, self.columns
        other.ages = self.ages[index.cpu()]
        other.first, other.second, other.slow = (
            {name: t[index] for name, t in found.items()}
            for found in (self.first, self.second, self.slow)
        )
        return other


class CentroidOptimiser:
    """Plain SGD of the objectives' own parameters, on the network's schedule."""

    def __init__(
        self, parameters: Mapping[str, Tensor], settings: Sequence[Training], steps: Sequence[int]
    ) -> None:
        self.parameters = dict(parameters)
        rates = [t.centroid_learning_rate for t in settings]
        self.schedule = Schedule(rates, settings, steps)

    def step(self, gradients: Mapping[str, Tensor], models: slice) -> None:
        """Move some models by their gradients [k, ...]; `Schedule.move` comes with their step."""
        rates = self.schedule.now(models)
        for name, gradient in gradients.items():
            parameter = self.parameters[name][models]
            parameter.sub_(gradient * along(rates, gradient))

    def subset(self, index: Tensor, parameters: Mapping[str, Tensor]) -> "CentroidOptimiser":
        """That of some models, whose parameters these are."""
        other = object.__new__(CentroidOptimiser)
        other.parameters, other.schedule = dict(parameters), self.schedule.subset(index)
        return other


def joined_moves(moves: Sequence[Move]) -> list[Move]:
    """Moves of one model each that follow one another, with the same parameters, as one."""
    runs: list[list[Move]] = []
    for move in moves:
        if runs and _follows(move, runs[-1][-1]):
            runs[-1].append(move)
        else:
            runs.append([move])
    return [_joined(run) if len(run) > 1 else run[0] for run in runs]


def _follows(move: Move, before: Move) -> bool:
    lone = all(models.stop - models.start == 1 for _, models in (move, before))
    return lone and move[1].start == before[1].stop and list(move[0]) == list(before[0])


def _joined(run: Sequence[Move]) -> Move:
    (first, start), (_, end) = run[0], run[-1]
    gradients = {name: torch.cat([found[name] for found, _ in run]) for name in first}
    return gradients, slice(start.start, end.stop)


def squared_norms(gradients: Mapping[str, Tensor]) -> Tensor | float:
    """Of each model's gradients [k, ...] together: [k]."""
    norms = (torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1) for g in gradients.values())
    return sum((norm.square() for norm in norms), start=0.0)


def clipping(norms: Tensor, settings: Sequence[Training]) -> Tensor | None:
    """Factors [k] that bring gradients to `clip_norm`; None: no gradient changes.

    On a GPU one that is not clipped is multiplied by 1: to look would be to wait for it.
    """
    limits = [t.clip_norm for t in settings]
    if all(limit is None for limit in limits):
        return None
    numbers = [float("inf") if limit is None else limit for limit in limits]
    most = torch.tensor(numbers, dtype=norms.dtype, device=norms.device)
    scale = (most / (norms + CLIP_EPSILON)).clamp(max=1)
    return None if scale.device.type == "cpu" and bool((scale == 1).all()) else scale


def _rectified(done: Tensor, beta2: float) -> tuple[Tensor, Tensor]:
    """RAdam's factor (Liu et al. 2020, arXiv 1908.03265), and where it is SGD with momentum."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * done * beta2**done / (1 - beta2**done)
    ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    factor = (ratio.clamp_min(0) * (1 - beta2**done)).sqrt()
    return torch.where(length > 5, factor, 1.0), length <= 5
