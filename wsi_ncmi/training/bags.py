"""Bags for training: packed batches in an order that (seed, fold, stream) alone decides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.interface import Aggregator, Auxiliary, BagOutput
from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.cohorts.twins import refuse_twins
from wsi_ncmi.config import Training
from wsi_ncmi.errors import BagError
from wsi_ncmi.training.interface import Embedded, Network
from wsi_ncmi.training.order import epoch_order
from wsi_ncmi.training.seeds import derive


@dataclass(frozen=True)
class Sample:
    """One bag: a slide, or all slides of a patient."""

    sample_id: str
    slide_ids: tuple[str, ...]
    patient_id: str
    centre: str
    target: int


def fold_samples(
    splits: pd.DataFrame, fold: int, classes: Sequence[str], cache: BagCache
) -> dict[str, list[Sample]]:
    """Samples of each part of a fold; slides without a bag are left out (the report lists them).

    Raises:
        BagError: a part has no bag left, the training part lost a class, or one bag stands under
            the ids of several patients.
    """
    of_fold = splits[splits.fold == fold]
    patients = dict(zip(of_fold.slide_id, of_fold.patient_id, strict=True))
    refuse_twins(cache.twins, patients, "the same bag", BagError)
    rows = of_fold[of_fold.slide_id.map(cache.has)]
    parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    for part, own in rows.groupby("part"):
        parts[part] = samples_of(own, classes)
    for part, found in parts.items():
        if not found:
            lost = of_fold[of_fold.part == part].slide_id
            reasons = "; ".join(f"{s}: {cache.reason(s)}" for s in lost[:3])
            raise BagError(f"fold {fold}: no bag in part {part} ({reasons})")
    absent = set(range(len(classes))) - {s.target for s in parts["train"]}
    if absent:
        names = ", ".join(classes[i] for i in sorted(absent))
        raise BagError(f"fold {fold}: no bag of class {names} is left to train on")
    return parts


def samples_of(rows: pd.DataFrame, classes: Sequence[str]) -> list[Sample]:
    """Samples by their names.

    Args:
        rows: a slide each: sample_id, slide_id, patient_id, centre, label.
    """
    found = []
    for sample_id, group in rows.groupby("sample_id", sort=True):
        first = group.iloc[0]
        slide_ids = tuple(sorted(group.slide_id))
        target = classes.index(first.label)
        found.append(Sample(str(sample_id), slide_ids, first.patient_id, first.centre, target))
    return found


class BagData:
    """The loop's `Data` over a fold's bags.

    Args:
        cache: the packed features.
        parts: samples of train, val and test.
        settings: batch size and sampling.
        seed, fold, stream: the order of training bags derives from them alone.
    """

    def __init__(
        self,
        cache: BagCache,
        parts: dict[str, list[Sample]],
        settings: Training,
        seed: int,
        fold: int,
        device: torch.device,
        stream: str | None = None,
    ) -> None:
        self.cache, self.parts, self.device = cache, parts, device
        self.batch_size, self.sampling = settings.batch_size, settings.sampling
        self.seed, self.fold, self.stream = seed, fold, stream
        self.targets = np.array([s.target for s in parts["train"]])

    @property
    def key(self) -> tuple[object, ...]:
        """Data that agree in it give the same batches."""
        samples = tuple(s.sample_id for s in self.parts["train"])
        return self.seed, self.fold, self.stream, self.batch_size, self.sampling, hash(samples)

    def steps_per_epoch(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def training(self, epoch: int, first: int = 0) -> Iterator[tuple[BagBatch, Tensor]]:
        """An epoch's packed batches and targets, from step `first` on."""
        seed = derive(self.seed, self.fold, f"order {epoch}", self.stream)
        rng = np.random.default_rng(seed)
        order = epoch_order(self.targets, self.sampling, rng)
        views = [self._view(rng) for _ in order]
        for start in range(first * self.batch_size, len(order), self.batch_size):
            step = slice(start, start + self.batch_size)
            yield self._batch([self.parts["train"][i] for i in order[step]], views[step])

    def evaluation(self, part: str) -> Iterator[tuple[BagBatch, Tensor]]:
        samples = self.parts[part]
        for start in range(0, len(samples), self.batch_size):
            chosen = samples[start : start + self.batch_size]
            yield self._batch(chosen, [None] * len(chosen))

    def augmented(self) -> Iterator[tuple[BagBatch, Tensor]]:
        """See `interface.Data`; without augmented copies it is `evaluation("train")`."""
        rng = np.random.default_rng(derive(self.seed, self.fold, "augmented", self.stream))
        samples = self.parts["train"]
        views = [self._view(rng) for _ in samples]
        for start in range(0, len(samples), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            yield self._batch(samples[chosen], views[chosen])

    def _view(self, rng: np.random.Generator) -> int | None:
        # The original or one of the augmented copies, equally often.
        if not self.cache.augmented:
            return None
        return (None, *range(len(self.cache.augmented)))[
            rng.integers(len(self.cache.augmented) + 1)
        ]

    def _batch(
        self, samples: Sequence[Sample], views: Sequence[int | None]
    ) -> tuple[BagBatch, Tensor]:
        bags = [self.cache.bags(s.slide_ids, v) for s, v in zip(samples, views, strict=True)]
        target = torch.tensor([s.target for s in samples], device=self.device)
        return packed(bags, self.device), target


def packed(bags: Sequence[Sequence[NDArray[Any]]], device: torch.device) -> BagBatch:
    """Bags, each of one or several arrays [N, D], as float32; moved as they are stored."""
    sizes = [sum(map(len, bag)) for bag in bags]
    stored = np.concatenate([array for bag in bags for array in bag])
    features = torch.from_numpy(stored).to(device, non_blocking=True).float()
    return BagBatch(features, torch.tensor([0, *sizes]).cumsum(0))


Moments = tuple[NDArray[np.float32], NDArray[np.float32]]


def feature_moments(cache: BagCache, samples: Sequence[Sample]) -> Moments:
    """Mean and standard deviation [D] over all instances of some samples, in float64 inside."""
    count, total, squares = 0, np.zeros(cache.dim), np.zeros(cache.dim)
    for sample in samples:
        features = cache.read(sample.slide_ids).astype(np.float64)
        count += len(features)
        total += features.sum(0)
        squares += (features**2).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.astype(np.float32), deviation.astype(np.float32)


class BagNetwork(Network):
    """An aggregator as the loop's network, on features that may be standardised first.

    Args:
        aggregator: what joins a bag's instances.
        moments: mean and standard deviation [D] by which features are standardised; None: they
            are taken as they are.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        moments: Moments | None = None,
    ) -> None:
        super().__init__()
        self.aggregator = aggregator
        self.embedding_dim = aggregator.embedding_dim
        self.standardise = None if moments is None else Standardise(*moments)

    @property
    def auxiliaries(self) -> Mapping[str, Auxiliary]:
        return self.aggregator.auxiliaries

    def prepared(self, bags: BagBatch) -> BagBatch:
        """What the aggregator is given of bags as they are stored."""
        if self.standardise is None:
            return bags
        return bags.replace(self.standardise(bags.features))

    def bag(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        """All that the aggregator says of bags as they are stored."""
        output: BagOutput = self.aggregator(self.prepared(bags), targets)
        return output

    def forward(self, inputs: BagBatch, targets: Tensor | None = None) -> Embedded:
        return embedded(self.bag(inputs, targets))

    def end_step(self) -> None:
        self.aggregator.end_step()


def embedded(output: BagOutput) -> Embedded:
    """Of an aggregator's output, what a loss needs."""
    return Embedded(output.embedding, output.auxiliary, output.penalty, output.bag_weight)


class Standardise(nn.Module):
    """Take off a mean and divide by a deviation, [D] each; a constant feature becomes zero."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
        super().__init__()
        varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-12)
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=varies)
        self.register_buffer("mean", torch.from_numpy(mean.copy()))
        self.register_buffer("scale", torch.from_numpy(scale))

    def forward(self, features: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        return (features - self.mean) * self.scale
