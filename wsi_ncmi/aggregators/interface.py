"""What every aggregator takes and returns."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class BagOutput(NamedTuple):
    """An aggregator's output for B bags padded to N instances.

    Attributes:
        embedding: [B, m], what an objective takes: float32 (or float64), also under autocast.
        attention: [B, N, K] weights, non-negative, 0 at padding and summing to 1 over each bag's
            instances for each of K heads.
        instance_embedding: [B, N, d], what was pooled; None: the features themselves.
        auxiliary: an extra loss of the aggregator (a scalar) or None.
    """

    embedding: Tensor
    attention: Tensor
    instance_embedding: Tensor | None = None
    auxiliary: Tensor | None = None


class Aggregator(nn.Module, ABC):
    """A module over padded bags.

    Args of `forward`:
        features: [B, N, D] floats; what stands at padding is never looked at.
        mask: [B, N] bool, True at instances; every bag has at least one.

    Under autocast, layers on instances may run in bf16; from the pooling on it computes in float32
    (`pooling_precision`). An objective takes a centre off the embedding and looks at what remains,
    in which a rounding to bf16 is a hundred times as large.
    """

    embedding_dim: int
    """m, the width of `BagOutput.embedding`."""

    has_attention: bool = False
    """Whether `attention` is learnt, and so worth a heatmap."""

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor) -> BagOutput: ...


def pooling_precision(values: Tensor) -> AbstractContextManager[Any]:
    """Autocast off on the device of the values; pass what is pooled through `at_least_float32`."""
    return torch.autocast(values.device.type, enabled=False)


def at_least_float32(values: Tensor) -> Tensor:
    """bf16 and fp16 become float32; float32 and float64 stay."""
    return values if values.dtype == torch.float64 else values.float()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over a bag's instances: [B, N, D], [B, N] -> [B, D]."""
    kept = values.masked_fill(~mask[..., None], 0)
    return kept.sum(1) / mask.sum(1, keepdim=True)


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over a bag's instances: [B, N, K], [B, N] -> [B, N, K], exactly 0 at padding."""
    return torch.softmax(logits.masked_fill(~mask[..., None], float("-inf")), dim=1)


def pack(values: Tensor, mask: Tensor) -> Tensor:
    """The instances of padded bags one after the other: [B, N, D], [B, N] -> [instances, D]."""
    return values[mask]


def unpack(values: Tensor, mask: Tensor) -> Tensor:
    """The way back, zeros at padding: [instances, D], [B, N] -> [B, N, D]."""
    padded = values.new_zeros(*mask.shape, values.shape[-1])
    return padded.masked_scatter(mask[..., None], values)


def uniform_attention(mask: Tensor) -> Tensor:
    """The attention of a mean: [B, N] -> [B, N, 1]."""
    return (mask / mask.sum(1, keepdim=True))[..., None]
