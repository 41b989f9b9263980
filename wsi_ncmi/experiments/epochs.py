"""A run's snapshots on its task's images: what it predicts after every epoch, and gradients."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.experiments.results import TaskResults
from wsi_ncmi.images.data import balanced, load_dataset, partition
from wsi_ncmi.images.datasets.interface import ImageDataset
from wsi_ncmi.images.models import ImageEncoder
from wsi_ncmi.losses.functional import renyi
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training.images import ImageData, ImageParts, load_run
from wsi_ncmi.training.snapshots import snapshot_epochs


@dataclass(frozen=True, eq=False)
class TaskImages:
    """A task's images: train (or a balanced subset of it), val and test.

    Attributes:
        images: with the task's own statistics, which the networks carry themselves.
    """

    task: TaskResults
    images: ImageParts
    device: torch.device

    @classmethod
    def read(cls, task: TaskResults, samples: int | None, device: torch.device) -> "TaskImages":
        """As the task was trained on them.

        Args:
            samples: of the training part, balanced; None: all of it.

        Raises:
            UserError: the task's runs or the index of its data set are missing.
        """
        _ = task.runs  # if they are missing, that is said before images are read
        dataset = load_dataset(task.settings, task.index).dataset
        parts = partition(dataset, task.settings)
        whole = ImageParts.measure(dataset.classes, parts, task.settings.image_size)
        if samples is None or samples >= len(parts["train"]):
            return cls(task, whole, device)
        own = ImageDataset(dataset.classes, parts["train"], parts["test"], dataset.files)
        train = balanced(own, "train", samples, task.settings.subset_seed)
        return cls(task, replace(whole, parts={**parts, "train": train}), device)

    def data(self, objective: str, batch_size: int) -> ImageData:
        """The images in batches, in their fixed order."""
        settings = self.task.settings.training_of(objective)
        settings = settings.model_copy(update={"batch_size": batch_size})
        return ImageData(self.images, self.task.settings, settings, 0, 0, self.device)

    def targets(self, part: str) -> Ints:
        """[n] of a part."""
        return self.images.parts[part].targets

    def pixels(self, part: str) -> Floats:
        """X as rows [n, d] in 0..1; three equal channels count once."""
        batches = self.data(next(iter(self.task.settings.objectives)), 256).evaluation(part)
        rows = np.concatenate([batch.cpu().numpy() for batch, _ in batches])
        if (rows == rows[:, :1]).all():
            rows = rows[:, :1]
        return np.asarray(rows.reshape(len(rows), -1), np.float64) / 255


@dataclass(frozen=True, eq=False)
class Snapshots:
    """A run's snapshots.

    Attributes:
        objective: the arm's label.
    """

    images: TaskImages
    run_id: str
    objective: str
    batch_size: int = 128

    @cached_property
    def epochs(self) -> list[int]:
        """That have a snapshot.

        Raises:
            UserError: none has.
        """
        found = snapshot_epochs(self.images.task.folder / self.run_id)
        if not found:
            raise UserError(
                f"task {self.images.task.name}: run {self.run_id} has no snapshots, expected one "
                "of every epoch: set training.snapshots: 1"
            )
        return found

    def log_probabilities(self, epoch: int, part: str) -> Floats:
        """ln of Ŷ [n, C] after an epoch, uncalibrated."""
        encoder, objective = self._load(epoch)
        data = self.images.data(self.objective, 256)
        with torch.inference_mode():
            found = [_log_p(encoder, objective, batch) for batch, _ in data.evaluation(part)]
        return torch.cat(found).double().cpu().numpy()

    def gradient_norms(self, epoch: int, width: float, alpha: float) -> tuple[float, float]:
        """Norms of the gradients of CE (nats) and of I_α(Y; Ŷ) (bits), by all weights.

        Of both terms' means over whole batches of the training part: the norm of a single batch's
        gradient is mostly that of its noise.

        Args:
            width: of the kernel on Ŷ.
        """
        encoder, objective = self._load(epoch)
        weights = [*encoder.parameters(), *objective.parameters()]
        sums, count = [torch.zeros((), dtype=torch.float64, device=self.images.device)] * 2, 0
        for batch, target in self.images.data(self.objective, self.batch_size).evaluation("train"):
            if len(target) == self.batch_size:
                terms = _terms(_log_p(encoder, objective, batch), target, width, alpha)
                sums = [
                    total + _gradient(term, weights)
                    for total, term in zip(sums, terms, strict=True)
                ]
                count += 1
        cross_entropy, information = (float(total.norm()) / count for total in sums)
        return cross_entropy, information

    def _load(self, epoch: int) -> tuple[ImageEncoder, Objective]:
        folder = self.images.task.folder / self.run_id
        return load_run(folder, self.images.device, epoch)[:2]


def _log_p(encoder: ImageEncoder, objective: Objective, batch: Tensor) -> Tensor:
    return objective.raw_scores(encoder(batch).float()).log_softmax(1)


def _terms(log_p: Tensor, target: Tensor, width: float, alpha: float) -> Iterator[Tensor]:
    yield functional.nll_loss(log_p, target)
    grams = renyi.label_gram(target), renyi.gram(log_p.exp(), width)
    yield renyi.renyi_mutual_information(*grams, alpha)


def _gradient(term: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """All of it as one vector, float64."""
    found = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
    pairs = zip(found, weights, strict=True)
    whole = [(torch.zeros_like(w) if g is None else g).flatten().double() for g, w in pairs]
    return torch.cat(whole)
