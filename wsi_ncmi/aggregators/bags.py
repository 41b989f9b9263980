"""Packed bags: the instances of several bags one after the other, without padding."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class BagBatch:
    """B bags of T instances in all; one bag is B = 1.

    Attributes:
        features: [T, D] floats.
        offsets: [B + 1] int64: bag b has the rows `offsets[b]` to `offsets[b + 1]`. On the CPU
            nothing waits for a GPU when sizes are asked for.

    Raises:
        ValueError: offsets do not divide the rows into bags of one instance or more.
    """

    features: Tensor
    offsets: Tensor

    def __post_init__(self) -> None:
        features, offsets = self.features, self.offsets
        if features.ndim != 2:
            raise ValueError(f"features must be [T, D], found {list(features.shape)}")
        if offsets.ndim != 1 or len(offsets) < 2 or offsets.dtype != torch.int64:
            found = f"{offsets.dtype} {list(offsets.shape)}"
            raise ValueError(f"offsets must be int64 [B + 1], found {found}")
        if offsets.device.type == "cpu":
            self._check()

    def _check(self) -> None:
        bounds = self.offsets.tolist()
        if bounds[0] != 0 or bounds[-1] != len(self.features):
            raise ValueError(
                f"offsets must run from 0 to the {len(self.features)} instances, found "
                f"{bounds[0]} to {bounds[-1]}"
            )
        empty = [i for i, size in enumerate(self.sizes) if size < 1]
        if empty:
            raise ValueError(f"bag {empty[0]} of {len(self)} has no instance: leave it out")

    @classmethod
    def of(cls, bags: Sequence[Tensor]) -> "BagBatch":
        """Bags [N_i, D] joined."""
        sizes = torch.tensor([0, *(len(bag) for bag in bags)])
        return cls(torch.cat(list(bags)), sizes.cumsum(0))

    def __len__(self) -> int:
        """B."""
        return len(self.offsets) - 1

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Instances of each bag, on the host."""
        bounds = self.offsets.tolist()
        return tuple(after - at for at, after in itertools.pairwise(bounds))

    @cached_property
    def counts(self) -> Tensor:
        """Instances of each bag, float32 [B] on the features' device."""
        return torch.tensor(self.sizes, dtype=torch.float32, device=self.features.device)

    @cached_property
    def index(self) -> Tensor:
        """The bag of each instance, int64 [T] on the features' device."""
        number = torch.arange(len(self))
        sizes = torch.tensor(self.sizes)
        found = torch.repeat_interleave(number, sizes, output_size=len(self.features))
        return found.to(self.features.device)

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """The rows [T, ...] of each bag: B views [N_i, ...]."""
        return values.split(self.sizes)

    def replace(self, features: Tensor) -> "BagBatch":
        """The same bags with other features [T, D']."""
        return BagBatch(features, self.offsets)


class StreamBags(BagBatch):
    """One stream's bags as a map over several streams sees them: sizes are numbers like features.

    The last bag is of padding, so that all streams have T instances and B bags. It is a bag as any
    other: no bag depends on its neighbours. There are no sizes on the host, and nothing is split.

    Args:
        features: [T, D].
        index: int64 [T].
        bags: B, with that of padding.
    """

    def __init__(self, features: Tensor, index: Tensor, bags: int) -> None:
        self.__dict__.update(features=features, index=index, bags=bags)

    def __len__(self) -> int:
        return int(self.__dict__["bags"])

    @property
    def sizes(self) -> tuple[int, ...]:
        raise TypeError("the sizes of several streams' bags differ: use `index`")

    @property
    def members(self) -> Tensor:
        """bool [B, T]: whether an instance is of a bag."""
        numbers = torch.arange(len(self), device=self.features.device)
        return self.index == numbers[:, None]

    @property
    def counts(self) -> Tensor:
        return self.members.sum(1).to(torch.float32)


def of_streams(batches: Sequence[BagBatch]) -> tuple[Tensor, Tensor]:
    """Features [k, T, D] and index [k, T] of k streams' steps, of as many bags each.

    After a stream's instances come zeros, one at least, of one bag more.
    """
    longest = max(len(batch.features) for batch in batches) + 1
    first = batches[0].features
    features = first.new_zeros(len(batches), longest, first.shape[1])
    index = torch.full((len(batches), longest), len(batches[0]), device=first.device)
    for place, batch in enumerate(batches):
        features[place, : len(batch.features)] = batch.features
        index[place, : len(batch.features)] = batch.index
    return features, index
