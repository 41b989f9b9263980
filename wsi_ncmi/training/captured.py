"""A training step as one CUDA graph: recorded once, then replayed for every batch.

A step of a small network is some thousand kernels of microseconds, which a GPU runs faster than
Python starts them. A graph starts them all at once. It is what was recorded, on the same memory:

* a batch is copied into tensors that stay where they are, the learning rates beside it;
* random numbers are drawn anew, for a graph reads the seed and the state of torch's generator;
* a batch of another size (the rest of an epoch) is a step without a graph.

The first steps of a process are taken without a graph too: libraries choose their algorithms in
them, and they show whether a step waits for the device, which no graph can. Every step counts, none
is taken twice: recording computes nothing.
"""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from wsi_ncmi.config import ImageTraining
from wsi_ncmi.errors import UserError
from wsi_ncmi.losses.distributed import ranks
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training.interface import Inputs, Network
from wsi_ncmi.training.mixing import Mixed
from wsi_ncmi.training.optimisers import Optimisers
from wsi_ncmi.training.seeds import seed_generators

log = logging.getLogger(__name__)

Seed = int | None
Losses = tuple[Tensor, dict[str, Tensor]]
"""A step's loss, and its parts by name: scalars."""
Update = Callable[[Inputs, Tensor, Mixed | None, Seed], Losses]
"""See `Learner.update`."""

Work = Callable[[], Losses]

WARM_UP = 3
"""Steps before the recording."""
SAID = "called a synchronizing CUDA operation"
"""What torch warns of, where it is asked to."""
OFF = "training.cuda_graph: false"


class Graphs(ABC):
    """How work is recorded."""

    @abstractmethod
    def warm_up(self, work: Work) -> Losses:
        """Do it, in the way that it is recorded later."""

    @abstractmethod
    def waits(self, work: Work) -> tuple[Losses, str]:
        """Do it, and say where it waits for the device; "" nowhere."""

    @abstractmethod
    def record(self, work: Work) -> Work:
        """What does it, each time that it is called; recording computes nothing."""


class CudaGraphs(Graphs):
    """By CUDA, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def warm_up(self, work: Work) -> Losses:
        outside = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(outside)
        with torch.cuda.stream(self.stream):
            found = work()
        outside.wait_stream(self.stream)
        return found

    def waits(self, work: Work) -> tuple[Losses, str]:
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                found = self.warm_up(work)
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        places = [f"{w.filename}:{w.lineno}" for w in said if SAID in str(w.message)]
        return found, ", ".join(dict.fromkeys(places))

    def record(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        # Threads that load images may use CUDA meanwhile: they are not what is recorded.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            found = work()

        def replay() -> Losses:
            graph.replay()
            return found

        return replay


class CapturedStep:
    """An `Update` that is replayed for whole batches.

    Args:
        update: what is recorded; it changes tensors in place and no other state.
        size: samples of a whole batch, of this process.
    """

    def __init__(self, update: Update, optimisers: Optimisers, size: int, graphs: Graphs) -> None:
        self.update, self.optimisers, self.size, self.graphs = update, optimisers, size, graphs
        self.rates = optimisers.device_rates()
        self.device = optimisers.largest_norm.device
        self.warm = 0
        self.refused = False
        self.replay: Work | None = None

    def __call__(self, inputs: Tensor, target: Tensor, other: Mixed | None, seed: Seed) -> Losses:
        self.optimisers.send_rates(self.rates)

        def work() -> Losses:
            return self._work(inputs, target, other, seed)

        if len(target) != self.size or self.refused:
            return work()
        if self.warm < WARM_UP:
            self.warm += 1
            return self._looked_at(work) if self.warm == WARM_UP else self.graphs.warm_up(work)
        if self.replay is None:
            self._record(inputs, target, other)
        self._fill(inputs, target, other)
        assert seed is not None
        seed_generators(seed, self.device)
        assert self.replay is not None
        total, parts = self.replay()  # which the next one overwrites
        return total.clone(), {name: part.clone() for name, part in parts.items()}

    def _work(
        self,
        inputs: Tensor,
        target: Tensor,
        other: Mixed | None,
        seed: Seed,
        *,
        capturing: bool = False,
    ) -> Losses:
        with self.optimisers.rates_from(self.rates, capturing=capturing):
            return self.update(inputs, target, other, seed)

    def _looked_at(self, work: Work) -> Losses:
        found, places = self.graphs.waits(work)
        if places:
            self.refused = True
            log.warning(
                "steps are taken without a CUDA graph, for they wait for the device in %s (%s "
                "leaves this out)",
                places,
                OFF,
            )
        return found

    def _record(self, inputs: Tensor, target: Tensor, other: Mixed | None) -> None:
        self.inputs, self.target = torch.empty_like(inputs), torch.empty_like(target)
        self.other: Mixed | None = None
        if other is not None:
            share = torch.zeros((), device=self.device)
            self.other = Mixed(torch.empty_like(other.target), share)
        given = self.inputs, self.target, self.other, None
        try:
            self.replay = self.graphs.record(lambda: self._work(*given, capturing=True))
        except RuntimeError as error:
            raise UserError(
                f"a step could not be recorded as a CUDA graph ({error}): set {OFF}"
            ) from error
        log.info("steps of %d images are replayed as one CUDA graph", self.size)

    def _fill(self, inputs: Tensor, target: Tensor, other: Mixed | None) -> None:
        self.inputs.copy_(inputs)
        self.target.copy_(target)
        if self.other is not None and other is not None:
            self.other.target.copy_(other.target)
            assert isinstance(self.other.share, Tensor)
            self.other.share.fill_(other.share)


def check_capturable(objective: Objective, settings: ImageTraining, context: str) -> None:
    """A graph that has to be is asked of an objective that can be one.

    Raises:
        UserError: names the objective and the key to change.
    """
    if settings.cuda_graph is True and not objective.capturable:
        raise UserError(
            f"{context}: training.cuda_graph is true, and {_looks(objective)}: set it to auto or "
            "false in this objective's `training`"
        )


def is_captured(
    settings: ImageTraining, network: Network, objective: Objective, device: torch.device
) -> bool:
    """Whether steps become a CUDA graph: as the settings say, or wherever it can be done.

    Raises:
        UserError: they say that it is, and it cannot be done.
    """
    asked = settings.cuda_graph
    if asked is False or (asked == "auto" and device.type != "cuda"):
        return False
    why = obstacle(settings, network, objective, device)
    if not why:
        return True
    if asked is True:
        raise UserError(f"training.cuda_graph is true, and {why}: set it to auto or false")
    log.info("steps are taken without a CUDA graph: %s", why)
    return False


def obstacle(
    settings: ImageTraining, network: Network, objective: Objective, device: torch.device
) -> str:
    """Why steps cannot be recorded; "" they can."""
    found = {
        f"the device is {device.type}": device.type != "cuda",
        f"{ranks()} processes train together": ranks() > 1,
        "the batches are bags, of any number of instances": not network.takes_tensors,
        _looks(objective): not objective.capturable,
    }
    reasons = [reason for reason, applies in found.items() if applies]
    return ", ".join([*reasons, *settings.not_captured])


def _looks(objective: Objective) -> str:
    return f"{type(objective).__name__} looks at values on its way"
