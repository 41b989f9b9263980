"""The plain training loop: one model, one step after another, to be read.

A network embeds, an objective does the rest. Validation chooses (if it is asked to), the class
means and the temperature are fitted in eval mode, and the test part is scored once, afterwards.
What is done with a batch is `learner`'s, what a network makes of a part `evaluation`'s. The engine
trains many models on bags at once and gives what this loop gives (`tests/contract`); images are
trained here, in one process or several.
"""

import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from wsi_ncmi.config import Training
from wsi_ncmi.errors import UserError
from wsi_ncmi.losses.distributed import ranks, sum_over_ranks
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.predictions.validation import fits
from wsi_ncmi.training.checkpoint import Checkpoints
from wsi_ncmi.training.determinism import deterministic
from wsi_ncmi.training.distributed import agreed, rank
from wsi_ncmi.training.evaluation import fit_phase, start, validate
from wsi_ncmi.training.finite import History, NotFiniteError, check_finite, divergence
from wsi_ncmi.training.interface import Data, Network
from wsi_ncmi.training.joint import JointObjective
from wsi_ncmi.training.learner import Learner, for_images
from wsi_ncmi.training.mixing import check_mixing
from wsi_ncmi.training.moving_average import copy_tensors, tensors_of
from wsi_ncmi.training.precision import keep_float32, resolved
from wsi_ncmi.training.progress import RunProgress
from wsi_ncmi.training.selection import Kept
from wsi_ncmi.training.watch import watch

# The seed of the random numbers (dropout and the like) of an epoch's step.
StepSeeds = Callable[[int, int], int]
# The history after an epoch, and `network` and `objective` as they were validated.
AfterEpoch = Callable[[History, Mapping[str, nn.Module]], None]
POLL_STEPS = 10
"""Several processes agree on a checkpoint after so many steps."""


def nothing_after(history: History, modules: Mapping[str, nn.Module]) -> None:
    """Nobody looks."""


def fit(
    network: Network,
    objective: JointObjective,
    data: Data,
    settings: Training,
    context: str,
    seeds: StepSeeds,
    after_epoch: AfterEpoch = nothing_after,
    checkpoints: Checkpoints | None = None,
    digest: str = "",
) -> History:
    """Train in place, keep the epoch that `settings.selection` says, fit what inference needs.

    Args:
        context: the run's name, for errors.
        seeds: of the random numbers of (epoch, step).
        after_epoch: is shown the history, and what is validated, when an epoch is.
        checkpoints: where it goes on from and writes them; None: nowhere.
        digest: of the run, which names it in a checkpoint.

    Raises:
        DivergedError: a loss, gradient, weight, embedding or score is not finite. It does not
            matter which epoch `selection` would keep: a training that diverged has failed.
        Interrupted: the process was asked to end, and the checkpoint is written.
    """
    main = objective.main
    check_batch_size(main, settings, context)
    own = for_images(settings)
    check_mixing(main, own, context)
    main.calibration = settings.calibration
    keep_float32()
    network.precision = resolved(settings, main.class_counts.device).precision
    saved = checkpoints or Checkpoints(None, "")
    loop = Loop(network, objective, data, settings, context, seeds, after_epoch, saved, digest)
    with saved.catching(), divergence(context, loop.history), deterministic(own.deterministic):
        loop.run()
    return loop.history


def check_batch_size(objective: Objective, settings: Training, context: str) -> None:
    """An objective that compares samples gets as many as it needs.

    Raises:
        UserError: names the objective, the batch size and the key to change.
    """
    share = settings.batch_size // ranks()
    if share < objective.min_samples:
        each = f" for each of {ranks()} processes" if ranks() > 1 else ""
        raise UserError(
            f"{context}: {type(objective).__name__} compares the samples of a step and needs "
            f"{objective.min_samples} or more{each}: found training.batch_size "
            f"{settings.batch_size}"
        )


class Loop:
    """A training; see `fit` for its arguments.

    Attributes:
        epoch, step: where it is; of an epoch whose steps are done, only validation is left.
    """

    def __init__(
        self,
        network: Network,
        objective: JointObjective,
        data: Data,
        settings: Training,
        context: str,
        seeds: StepSeeds,
        after_epoch: AfterEpoch,
        checkpoints: Checkpoints,
        digest: str,
    ) -> None:
        self.network, self.objective, self.data, self.settings = network, objective, data, settings
        self.context, self.seeds, self.after_epoch = context, seeds, after_epoch
        self.checkpoints, self.digest = checkpoints, digest
        self.device = objective.main.class_counts.device
        self.steps = settings.epochs * data.steps_per_epoch()
        objective.schedule_over(self.steps)
        self.learner = Learner(network, objective, for_images(settings), self.steps)
        self.kept, self.history, self.sums = Kept(settings), History(), Sums()
        self.epoch, self.step, self.has_trained = 0, 0, False

    def run(self) -> None:
        """To the end, and what inference needs."""
        found = self.checkpoints.find([self.digest])
        if found is None:
            start(self.network, self.objective, self.data, self._poll)
        else:
            self._go_on(found)
        self.progress = RunProgress(
            self.context, self.settings.epochs, self.data.steps_per_epoch(), quiet=rank() > 0
        )
        while self.epoch < self.settings.epochs and not self.kept.has_stopped(self.epoch - 1):
            self.history.epoch = self.epoch
            if not self.has_trained:
                self._train_epoch()
            self._validate()
            self.epoch, self.step, self.has_trained = self.epoch + 1, 0, False
        self.progress.close(self.history)
        self._finish()

    def _train_epoch(self) -> None:
        self.learner.train()
        self.progress.start_epoch()
        batches = self.data.training(self.epoch, self.step)
        for step, (inputs, target) in enumerate(batches, self.step):
            # The remainder of an epoch may be too few; the next one has another.
            if len(target) >= self.objective.main.min_samples:
                seed = self.seeds(self.epoch, step)
                loss, parts = self.learner.step(inputs, target, seed)
                self.sums.add({"loss": loss, **parts}, len(target))
            self.step = step + 1
            self._after_step(len(target) * ranks())
        watched = self.objective.end_epoch(self.epoch)
        self.learner.end_epoch()
        means = self.sums.means()
        found = _read(means | watched)
        losses = {name: found[name] for name in means}
        if not all(map(math.isfinite, losses.values())):
            raise NotFiniteError(f"the loss is not finite ({losses})")
        self._check_after_steps()
        row = {"epoch": self.epoch, "part": "train", **found}
        watch(self.history, row, self.context, self.objective.main, self.settings, self.steps)
        self.sums, self.has_trained = Sums(), True

    def _check_after_steps(self) -> None:
        """What an epoch's last step has left: no loss tells of it."""
        check_finite("the gradients", {"largest norm": self.learner.optimisers.largest_norm})
        check_finite("the weights", dict(self.network.state_dict()))
        check_finite("the weights", dict(self.objective.state_dict()))

    def _validate(self) -> None:
        scored = self.learner.scored
        now, scores = validate(scored["network"], scored["objective"].main, self.data, self._poll)
        self.history.curves.append(
            {"epoch": self.epoch, "part": "val", "loss": now.loss, "macro_f1": now.macro_f1}
        )
        if fits(scores, self.settings.epochs):
            self.history.validation.append(scores)
        self.history.epochs = self.epoch + 1
        modules = {"network": scored["network"], "objective": scored["objective"].main}
        self.after_epoch(self.history, modules)
        self.kept.see(self.epoch, now, scored)

    def _finish(self) -> None:
        """The weights that are kept, and what inference needs of them."""
        self.history.best_epoch = self.kept.epoch
        scored = self.learner.scored
        self.kept.restore(scored)
        for name, module in (("network", self.network), ("objective", self.objective)):
            if scored[name] is not module:
                module.load_state_dict(scored[name].state_dict())
        main = self.objective.main
        part = main.samples_of("classes")
        if main.passes("classes"):
            fit_phase(self.network, {"": main}, self.data, "classes", part)
        fit_phase(self.network, {"": main}, self.data, "temperature", "val")
        check_finite("the weights", main.state_dict())

    def _after_step(self, samples: int) -> None:
        self.progress.see(self.history, self.step, samples)
        if ranks() == 1:
            if self.checkpoints.is_due:
                self._save()
        elif self._done % POLL_STEPS == 0 and agreed(self.checkpoints.is_due, self.device):
            if agreed(self.checkpoints.asked is not None, self.device):
                self.checkpoints.asked = self.checkpoints.asked or signal.SIGTERM
            self._save()

    @property
    def _done(self) -> int:
        return self.epoch * self.data.steps_per_epoch() + self.step

    def _poll(self) -> None:
        """Between batches that are scored: whether the process is asked to end."""
        if self.checkpoints.asked is None or ranks() > 1:
            return
        if self.history.epoch < 0:  # nothing is trained yet
            self.checkpoints.end_if_asked()
        self._save()

    def _save(self) -> None:
        content = {
            "epoch": self.epoch,
            "step": self.step,
            "has_trained": self.has_trained,
            "network": tensors_of(self.network),
            "objective": tensors_of(self.objective),
            "learner": self.learner.state,
            "kept": self.kept.state,
            "sums": self.sums.state,
            "history": asdict(self.history),
        }
        self.checkpoints.write([self.digest], content)

    def _go_on(self, saved: Mapping[str, Any]) -> None:
        self.epoch, self.step = saved["epoch"], saved["step"]
        self.has_trained = saved["has_trained"]
        copy_tensors(self.network, saved["network"])
        copy_tensors(self.objective, saved["objective"])
        self.learner.restore(saved["learner"])
        self.kept.resume(saved["kept"])
        self.sums = Sums.of(saved["sums"], self.device)
        vars(self.history).update(saved["history"])


class Sums:
    """Of an epoch's steps: the sums of losses over samples, and their number."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: Mapping[str, Tensor], count: int) -> None:
        """The means of a step over so many samples."""
        for name, value in values.items():
            before = self.values.get(name)
            own = value.detach() * count
            self.values[name] = own if before is None else before + own
        self.count += count

    def means(self) -> dict[str, Tensor]:
        """Over the samples of all processes."""
        sums = torch.stack([value.double() for value in self.values.values()])
        count = sums.new_tensor(self.count)
        sum_over_ranks(sums, count)
        return dict(zip(self.values, sums / count, strict=True))

    @property
    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"values": self.values, "count": self.count}

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> "Sums":
        """What `state` was."""
        found = cls()
        found.values = {name: value.to(device) for name, value in state["values"].items()}
        found.count = state["count"]
        return found


def _read(values: dict[str, Tensor]) -> dict[str, float]:
    """Scalars of one device, which is waited for once."""
    numbers = torch.stack([value.double() for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))
