"""One step of a training: what is done with a batch, until the weights have moved."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wsi_ncmi.config import ImageTraining, Training
from wsi_ncmi.losses.distributed import ranks
from wsi_ncmi.losses.objective import LossOutput
from wsi_ncmi.training.adversarial import worst_images
from wsi_ncmi.training.captured import CapturedStep, CudaGraphs, Losses, Seed, Update, is_captured
from wsi_ncmi.training.distributed import parallel
from wsi_ncmi.training.interface import Embedded, Inputs, Network
from wsi_ncmi.training.joint import JointObjective
from wsi_ncmi.training.mixing import Mixed, mixed_batch
from wsi_ncmi.training.moving_average import MovingAverage
from wsi_ncmi.training.optimisers import Optimisers
from wsi_ncmi.training.precision import mixed
from wsi_ncmi.training.seeds import seed_generators


def for_images(settings: Training) -> ImageTraining:
    """Settings with the keys that images alone have; of bags they are at their defaults."""
    if isinstance(settings, ImageTraining):
        return settings
    return ImageTraining.model_construct(**dict(settings))


class Learner:
    """A network, its objective, and what moves their weights.

    Args:
        steps: of the whole training.

    Attributes:
        mean: the running mean of the weights, if one is asked for.
        take: `update`, or what replays it.
    """

    def __init__(
        self, network: Network, objective: JointObjective, settings: ImageTraining, steps: int
    ) -> None:
        self.network, self.objective, self.settings = network, objective, settings
        groups = objective.parameter_groups()
        self.optimisers = Optimisers(
            [*network.parameters(), *groups["network"]],
            groups["centroids"],
            settings,
            steps,
            network.undecayed(),
            objective.average_gradients,
            half=network.precision == "fp16",
        )
        self.parallel = parallel(network)
        decay = settings.ema_decay
        self.mean = MovingAverage(network, objective, decay) if decay is not None else None
        self.take: Update = self.update
        if is_captured(settings, network, objective.main, self.device):
            own = settings.batch_size // ranks()
            self.take = CapturedStep(self.update, self.optimisers, own, CudaGraphs(self.device))

    @property
    def device(self) -> torch.device:
        """Where it all is."""
        return self.objective.main.class_counts.device

    @property
    def scored(self) -> dict[str, Any]:
        """The network and the objective that are validated and scored."""
        own = {"network": self.network, "objective": self.objective}
        return own if self.mean is None else self.mean.modules

    @property
    def state(self) -> dict[str, Any]:
        """All that moves beside the weights, for a checkpoint."""
        mean = None if self.mean is None else self.mean.state
        return {"optimisers": self.optimisers.state, "mean": mean}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` was."""
        self.optimisers.restore(state["optimisers"])
        if self.mean is not None:
            self.mean.restore(state["mean"])

    def end_epoch(self) -> None:
        """After the objective's end of an epoch."""
        if self.mean is not None:
            self.mean.take_buffers()

    def train(self) -> None:
        """Into training mode."""
        self.network.train()
        self.objective.train()

    def step(self, inputs: Inputs, target: Tensor, seed: int) -> Losses:
        """The loss of a batch and its parts, detached; the weights have moved.

        Args:
            seed: of the step's random numbers, dropout's among them.
        """
        other: Mixed | None = None
        if self.settings.mixup or self.settings.cutmix:
            inputs, other = mixed_batch(inputs, target, self.settings, seed)
        found = self.take(inputs, target, other, seed)
        self.optimisers.advance()
        return found

    def update(self, inputs: Inputs, target: Tensor, other: Mixed | None, seed: Seed) -> Losses:
        """All of a step that is computed on the device, with the present rates.

        Args:
            seed: None: torch's generators are seeded already.
        """
        if self.settings.adversarial is not None:
            inputs = self._worst(inputs, target, other, seed)
        output, onwards = self._forward(inputs, target, seed)
        state_loss = self.objective.state_loss(detached(output), target)
        if state_loss is not None:
            self.optimisers.step_centroids(state_loss)
        found = self._loss(output, target, other)
        self.optimisers.move(found.total, with_centroids=state_loss is None, onwards=onwards)
        self.objective.end_step()
        self.network.end_step()
        if self.mean is not None:
            self.mean.update()
        return found.total.detach(), found.parts

    def _worst(self, inputs: Inputs, target: Tensor, other: Mixed | None, seed: Seed) -> Tensor:
        """The batch's images where the loss of this step is largest."""
        assert self.settings.adversarial is not None
        assert seed is not None
        return worst_images(
            inputs,
            lambda moved: self._embed(self.network, moved, None, seed),
            lambda output: self._loss(output, target, other).total,
            (self.network, self.objective),
            self.settings.adversarial,
            seed,
        )

    def _loss(self, output: Embedded, target: Tensor, other: Mixed | None) -> LossOutput:
        own: LossOutput = self.objective(output, target)
        if other is None:
            return own
        second: LossOutput = self.objective.main(output.embedding, other.target)
        parts = {n: torch.lerp(second.parts[n], v, other.share) for n, v in own.parts.items()}
        return LossOutput(torch.lerp(second.total, own.total, other.share), parts)

    def _forward(
        self, inputs: Inputs, target: Tensor, seed: Seed
    ) -> tuple[Embedded, Callable[[], None]]:
        """What the network gives, and what goes on with the backward pass."""
        parts = min(self.settings.accumulation, len(target))
        if parts > 1:
            assert seed is not None
            return self._in_micro_batches(inputs.chunk(parts), seed)
        return self._embed(self.parallel, inputs, target, seed), _nothing

    def _embed(
        self, network: nn.Module, inputs: Inputs, target: Tensor | None, seed: Seed
    ) -> Embedded:
        if seed is not None:
            seed_generators(seed, self.device)
        with mixed(self.network.precision, self.device):
            output: Embedded = network(inputs, target)
        return output

    def _in_micro_batches(
        self, chunks: tuple[Tensor, ...], seed: int
    ) -> tuple[Embedded, Callable[[], None]]:
        """A batch's embeddings without a graph; then each micro-batch gets their gradient.

        So the objective sees the whole batch, whichever it is (Gao et al. 2021, arXiv 2101.06983).
        """
        with torch.no_grad(), frozen_statistics(self.network):
            found = [self._embed(self.network, c, None, seed + i) for i, c in enumerate(chunks)]
        z = torch.cat([output.embedding for output in found]).requires_grad_()

        def onwards() -> None:
            assert z.grad is not None
            sizes = [len(chunk) for chunk in chunks]
            for i, (chunk, gradient) in enumerate(zip(chunks, z.grad.split(sizes), strict=True)):
                with self._without_averaging() if i + 1 < len(chunks) else nullcontext():
                    output = self._embed(self.parallel, chunk, None, seed + i)
                    output.embedding.backward(gradient)

        return Embedded(z), onwards

    def _without_averaging(self) -> Any:
        whole = self.parallel
        return whole.no_sync() if isinstance(whole, DistributedDataParallel) else nullcontext()


def detached(output: Embedded) -> Embedded:
    """What the objectives' own step looks at."""
    auxiliary = {
        name: loss._replace(embedding=loss.embedding.detach())
        for name, loss in output.auxiliary.items()
    }
    return output._replace(embedding=output.embedding.detach(), auxiliary=auxiliary)


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norms divide by their batch's statistics and do not remember them."""
    with ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats:
                module.track_running_stats = False
                stack.callback(setattr, module, "track_running_stats", True)
        yield


def _nothing() -> None:
    """The loss's own graph goes through the network."""
