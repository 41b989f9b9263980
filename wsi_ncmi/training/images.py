"""One run on images: a timm network and an objective."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from wsi_ncmi.config import SEARCHES, ImageTask, Training
from wsi_ncmi.encoders.weights import state_sha256
from wsi_ncmi.files.patience import patiently
from wsi_ncmi.images.data import Parts, to_square
from wsi_ncmi.images.datasets.interface import Images
from wsi_ncmi.images.kinds import IMAGE, KINDS, Kind, Size
from wsi_ncmi.images.loading.loader import Held, Loader
from wsi_ncmi.images.models import ImageEncoder, build_network
from wsi_ncmi.losses.distributed import ranks
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.predictions.trials import forget_search
from wsi_ncmi.training.adversarial import check_pixels
from wsi_ncmi.training.captured import check_capturable
from wsi_ncmi.training.distributed import check_share, share_of_batch, share_of_part
from wsi_ncmi.training.execute import Setup, arm_record, build_part, execute, rebuild_part
from wsi_ncmi.training.interface import Embedded, Network
from wsi_ncmi.training.joint import JointObjective
from wsi_ncmi.training.learner import for_images
from wsi_ncmi.training.mixing import check_mixing
from wsi_ncmi.training.order import epoch_order
from wsi_ncmi.training.reference import check_batch_size
from wsi_ncmi.training.seeds import derive
from wsi_ncmi.training.snapshots import read_snapshot
from wsi_ncmi.training.trials import execute_candidates

TRIAL_WIDTH = 64
"""Of the embedding with which an objective is built for a look at it."""


@dataclass(frozen=True, eq=False)
class ImageParts:
    """A task's images and what its networks need to know of them.

    Attributes:
        mean, std: [3], of the training part's channels in 0..1; see `kinds`.
        size: (height, width) of what the network sees.
        held: images that are on a device, for all networks.
    """

    classes: list[str]
    parts: Parts
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    size: Size
    held: Held = field(default_factory=dict)

    @classmethod
    def measure(cls, classes: list[str], parts: Parts, image_size: int | None) -> "ImageParts":
        kind, pixels = parts["train"].kind, parts["train"].pixels
        first = to_square(np.asarray(pixels[0]), image_size)
        return cls(classes, parts, *kind.moments(pixels), kind.size(first))

    @property
    def kind(self) -> Kind:
        return self.parts["train"].kind


class ImageNetwork(Network):
    """An image encoder as the loop's network."""

    takes_tensors = True

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_dim = encoder.embedding_dim

    def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Embedded:
        return Embedded(self.encoder(inputs))

    def undecayed(self) -> Sequence[nn.Parameter]:
        return self.encoder.undecayed


class ImageData:
    """The loop's `Data` over images: uint8 batches [B, 3, h, w], channels last, on the device.

    Order and augmentation derive from (seed, fold, stream, epoch, image) alone: paired arms share
    them.
    """

    def __init__(
        self,
        images: ImageParts,
        task: ImageTask,
        settings: Training,
        seed: int,
        fold: int,
        device: torch.device,
        stream: str | None = None,
        workers: int = 0,
    ) -> None:
        self.parts, self.device, self.epochs = images.parts, device, settings.epochs
        self.batch_size, self.sampling = settings.batch_size, settings.sampling
        self.seed, self.fold, self.stream = seed, fold, stream
        self.loader = Loader(
            task, images.parts, images.size, device, self._derive, workers, images.held
        )
        check_share(settings.batch_size)

    def steps_per_epoch(self) -> int:
        return len(self._starts())

    def training(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(self._derive(f"order {epoch}"))
        order = epoch_order(self.parts["train"].targets, self.sampling, rng)
        batches = [order[s : s + self.batch_size] for s in self._starts()]
        own = [rows[share_of_batch(len(rows))] for rows in batches[first:]]
        yield from self._batches("train", own, epoch)

    def evaluation(self, part: str) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self._in_order(part, None)

    def augmented(self) -> Iterator[tuple[Tensor, Tensor]]:
        """See `interface.Data`: as the epoch after the last would augment them."""
        yield from self._in_order("train", self.epochs)

    def _in_order(self, part: str, epoch: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        rows = np.arange(len(self.parts[part]))[share_of_part(len(self.parts[part]))]
        starts = range(0, len(rows), self.batch_size)
        yield from self._batches(part, [rows[s : s + self.batch_size] for s in starts], epoch)

    def _derive(self, purpose: str) -> int:
        return derive(self.seed, self.fold, purpose, self.stream)

    def _starts(self) -> list[int]:
        # One image alone has no batch statistics; another epoch has another one in its place.
        count = len(self.parts["train"])
        starts = list(range(0, count, self.batch_size))
        rest = count % self.batch_size // ranks()  # of each process, in the last batch
        alone = rest == 0 < count % self.batch_size or (self.batch_size > ranks() and rest == 1)
        return starts[:-1] if alone and len(starts) > 1 else starts

    def _batches(
        self, part: str, rows: Sequence[NDArray[np.int64]], epoch: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A batch for each of `rows`, with its targets."""
        if not rows:
            return
        # One transfer for all: a device that waits for each batch's does not compute meanwhile.
        targets = torch.from_numpy(self.parts[part].targets[np.concatenate(rows)]).to(self.device)
        batches = targets.split([len(own) for own in rows])
        yield from zip(self.loader.batches(part, rows, epoch), batches, strict=True)


def train_run(
    models: Sequence[tuple[Run, ImageTask]],
    images: ImageParts,
    folder: Path,
    device: torch.device,
    workers: int = 0,
) -> None:
    """Train, score validation and test once, and write the run's records into `folder`.

    Args:
        models: the run, or its candidates, of which the best on validation is recorded.
    """
    setups = (prepare(run, task, images, device, workers) for run, task in models)
    if models[0][0].among:
        execute_candidates(setups, folder)
    else:
        forget_search(folder)
        execute(next(setups), folder)


def check_arms(task: ImageTask, class_counts: Sequence[int], kind: Kind) -> None:
    """Every arm's settings suit its objective and the samples: said before the first one trains.

    Raises:
        UserError: see `check_batch_size`, `check_mixing`, `check_capturable` and `check_pixels`.
    """
    for label in task.objectives:
        candidates = task.candidates(label) if task.is_nested else []
        for one in [task.under(label, setting) for setting in candidates] or [task]:
            arm, settings = one.objectives[label], one.training_of(label)
            objective: Objective = build_part("objective", label, arm, TRIAL_WIDTH, class_counts)
            check_batch_size(objective, settings, label)
            check_mixing(objective, for_images(settings), label)
            check_capturable(objective, for_images(settings), label)
            check_pixels(kind, for_images(settings), label)


def prepare(
    run: Run, task: ImageTask, images: ImageParts, device: torch.device, workers: int = 0
) -> Setup:
    """Build what the run names, on the device; without the part `test` it can only validate.

    Args:
        workers: processes that decode images ahead.
    """
    arm, settings = task.objectives[run.objective], task.training_of(run.objective)
    targets = images.parts["train"].targets
    counts = [int(n) for n in np.bincount(targets, minlength=len(images.classes))]
    torch.manual_seed(derive(run.seed, run.fold, "start", arm.stream))
    moments = images.mean.tolist(), images.std.tolist()
    encoder = build_network(task, images.size, *moments, images.kind)
    dim = encoder.embedding_dim
    objective: Objective = build_part("objective", run.objective, arm, dim, counts)
    configuration = {
        "task": task.model_dump(mode="json", exclude={**SEARCHES, "search": True}),
        "kind": images.kind.name,
        "size": list(images.size),
        "objective": arm_record(run.objective, arm),
        "class_counts": counts,
        "classes": images.classes,
        "pretrained_sha256": state_sha256(encoder.module) if task.pretrained else "",
    }
    encoder.to(device).to(memory_format=torch.channels_last)
    if device.type == "cuda" and ranks() > 1:  # statistics of the whole batch, as of one process
        encoder.module = convert_sync_batchnorm(encoder.module)
    if for_images(settings).compile:
        encoder.compile()
    return Setup(
        run,
        settings,
        ImageNetwork(encoder),
        JointObjective(objective.to(device), {}),
        ImageData(images, task, settings, run.seed, run.fold, device, arm.stream, workers),
        {part: identity(found) for part, found in images.parts.items()},
        configuration,
        {"encoder": encoder, "objective": objective},
        arm.stream,
    )


def identity(images: Images) -> pd.DataFrame:
    """Who the rows of a part are: an image's patient is its group, or itself."""
    return pd.DataFrame({"sample_id": images.ids, "patient_id": images.owners, "centre": "-"})


def load_run(
    folder: Path, device: torch.device, epoch: int | None = None
) -> tuple[ImageEncoder, Objective, dict[str, Any]]:
    """A trained encoder and objective in eval mode, with the checkpoint they came from.

    Args:
        epoch: whose snapshot is loaded instead, from 0, see `snapshots`; its scores are not
            calibrated.

    Raises:
        UserError: there is no snapshot of this epoch.
    """
    content = patiently(
        lambda: torch.load(folder / "checkpoint.pt", map_location=device, weights_only=True)
    )
    task = ImageTask.model_validate({**content["task"], "pretrained": False})
    kind, size = KINDS[content.get("kind", IMAGE.name)], tuple(content["size"])
    unit = [1.0] * math.prod(kind.moments_shape(size))  # mean and deviation come with the state
    encoder = build_network(task, size, unit, unit, kind)
    objective: Objective = rebuild_part(
        "objective", content["objective"], encoder.embedding_dim, content["class_counts"]
    )
    encoder.load_state_dict(content["encoder_state"])
    objective.load_state_dict(content["objective_state"])
    if epoch is not None:
        digest = Run(**content["run"]).model_digest
        states = read_snapshot(folder, epoch, digest, device)
        ImageNetwork(encoder).load_state_dict(states["network"])
        objective.load_state_dict(states["objective"])
    return encoder.to(device).eval(), objective.to(device).eval(), content
