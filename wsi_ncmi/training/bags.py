"""Bags for the training loop: padded batches in an order that (seed, fold) alone decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.aggregators.interface import Aggregator, BagOutput
from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.cohorts.twins import refuse_twins
from wsi_ncmi.config import Training
from wsi_ncmi.errors import BagError
from wsi_ncmi.training.loop import Inputs, Network
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
    for (part, sample_id), group in rows.groupby(["part", "sample_id"], sort=True):
        first = group.iloc[0]
        slide_ids = tuple(sorted(group.slide_id))
        target = classes.index(first.label)
        sample = Sample(sample_id, slide_ids, first.patient_id, first.centre, target)
        parts[part].append(sample)
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


class BagData:
    """The loop's `Data` over a fold's bags.

    Args:
        cache: the packed features.
        parts: samples of train, val and test.
        settings: batch size and sampling.
        seed, fold: the order of training bags derives from them alone.
    """

    def __init__(
        self,
        cache: BagCache,
        parts: dict[str, list[Sample]],
        settings: Training,
        seed: int,
        fold: int,
        device: torch.device,
    ) -> None:
        self.cache, self.parts, self.device = cache, parts, device
        self.batch_size, self.sampling = settings.batch_size, settings.sampling
        self.seed, self.fold = seed, fold
        self.targets = np.array([s.target for s in parts["train"]])

    def steps_per_epoch(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def training(self, epoch: int) -> Iterator[tuple[Inputs, Tensor]]:
        rng = np.random.default_rng(derive(self.seed, self.fold, f"order {epoch}"))
        order = epoch_order(self.targets, self.sampling, rng)
        for start in range(0, len(order), self.batch_size):
            chosen = [self.parts["train"][i] for i in order[start : start + self.batch_size]]
            yield self._batch(chosen, [self._view(rng) for _ in chosen])

    def evaluation(self, part: str) -> Iterator[tuple[Inputs, Tensor]]:
        samples = self.parts[part]
        for start in range(0, len(samples), self.batch_size):
            chosen = samples[start : start + self.batch_size]
            yield self._batch(chosen, [None] * len(chosen))

    def _view(self, rng: np.random.Generator) -> int | None:
        # The original or one of the augmented copies, equally often.
        if not self.cache.augmented:
            return None
        return (None, *range(len(self.cache.augmented)))[
            rng.integers(len(self.cache.augmented) + 1)
        ]

    def _batch(
        self, samples: Sequence[Sample], views: Sequence[int | None]
    ) -> tuple[Inputs, Tensor]:
        bags = [self.cache.read(s.slide_ids, v) for s, v in zip(samples, views, strict=True)]
        features, mask = pad([torch.from_numpy(bag) for bag in bags], self.device)
        target = torch.tensor([s.target for s in samples], device=self.device)
        return (features, mask), target


def pad(bags: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Bags [N_i, D] -> float32 [B, max N, D] and bool [B, max N]; moved as they are stored."""
    longest = max(len(bag) for bag in bags)
    features = torch.zeros(len(bags), longest, bags[0].shape[1], device=device)
    mask = torch.zeros(len(bags), longest, dtype=torch.bool, device=device)
    for i, bag in enumerate(bags):
        features[i, : len(bag)] = bag.to(device, non_blocking=True)
        mask[i, : len(bag)] = True
    return features, mask


def feature_moments(
    cache: BagCache, samples: Sequence[Sample]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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
        feature_dim: D.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, aggregator: Aggregator, feature_dim: int) -> None:
        super().__init__()
        self.aggregator = aggregator
        self.embedding_dim = aggregator.embedding_dim
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("scale", torch.ones(feature_dim))

    def standardise(self, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
        """Take off a mean and divide by a deviation, [D] each; a constant feature becomes zero."""
        self.mean.copy_(torch.from_numpy(mean))
        varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-12)
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=varies)
        self.scale.copy_(torch.from_numpy(scale))

    def bag(self, features: Tensor, mask: Tensor) -> BagOutput:
        """Padded bags [B, N, D] as they are stored, mask [B, N]."""
        return self.aggregator((features - self.mean) * self.scale, mask)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        output = self.bag(*inputs)
        return output.embedding, output.auxiliary
