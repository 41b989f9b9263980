"""Sums, means, maxima and softmax over the instances of each packed bag.

Sums are products with the matrix of who belongs to whom: one call for all bags, deterministic on
every device and possible under `torch.func.vmap`. Where that matrix would be large, bags are gone
through one by one.
"""

import torch
from torch import Tensor

from wsi_ncmi.aggregators import fused
from wsi_ncmi.aggregators.bags import BagBatch, StreamBags

# Entries of the matrix [B, T]: 16 MiB in float32.
LARGEST_MATRIX = 2**22


def segment_sum(values: Tensor, bags: BagBatch) -> Tensor:
    """[T, K] -> [B, K]."""
    if _by_matrix(bags):
        return membership(bags, values.dtype) @ values
    return torch.stack([bag.sum(0) for bag in bags.split(values)])


def segment_mean(values: Tensor, bags: BagBatch) -> Tensor:
    """[T, K] -> [B, K]."""
    return segment_sum(values, bags) / bags.counts.to(values.dtype)[:, None]


def segment_max(values: Tensor, bags: BagBatch) -> Tensor:
    """[T, K] -> [B, K], column by column; equal largest ones share the gradient."""
    return torch.stack([bag.amax(0) for bag in bags.split(values)])


def spread(values: Tensor, bags: BagBatch) -> Tensor:
    """Each bag's row to all of its instances: [B, K] -> [T, K]."""
    if _by_matrix(bags):
        return membership(bags, values.dtype).T @ values
    pairs = zip(values.unbind(0), bags.sizes, strict=True)
    return torch.cat([row.expand(size, -1) for row, size in pairs])


def segment_softmax(logits: Tensor, bags: BagBatch) -> Tensor:
    """Softmax over each bag's instances, column by column: [T, K] -> [T, K]."""
    if len(bags) == 1:
        return torch.softmax(logits, 0)
    if not _by_matrix(bags):
        return torch.cat([torch.softmax(bag, 0) for bag in bags.split(logits)])
    exponential = _below_largest(logits, bags).exp()
    return exponential / spread(segment_sum(exponential, bags), bags)


def segment_log_softmax(logits: Tensor, bags: BagBatch) -> Tensor:
    """ln of `segment_softmax`, finite where that is 0 in its rounding: [T, K] -> [T, K]."""
    if len(bags) == 1:
        return torch.log_softmax(logits, 0)
    if not _by_matrix(bags):
        return torch.cat([torch.log_softmax(bag, 0) for bag in bags.split(logits)])
    below = _below_largest(logits, bags)
    return below - spread(segment_sum(below.exp(), bags).log(), bags)


def _below_largest(logits: Tensor, bags: BagBatch) -> Tensor:
    """Logits less the largest of their own bag: with that of all bags one could be 0 / 0."""
    if isinstance(bags, StreamBags):
        each = logits.detach().masked_fill(~bags.members[:, :, None], -torch.inf)
        return logits - each.amax(1)[bags.index]
    largest = torch.cat([bag.amax(0, keepdim=True) for bag in bags.split(logits.detach())])
    return logits - largest.index_select(0, bags.index)


def attention_pool(weights: Tensor, values: Tensor, bags: BagBatch) -> Tensor:
    """Weighted sums of each bag's instances: [T, K] weights, [T, m] values -> [B, K, m]."""
    if isinstance(bags, StreamBags):
        members = membership(bags, values.dtype)[:, None] * weights.T  # [B, K, T]
        return (members.flatten(0, 1) @ values).unflatten(0, (len(bags), -1))
    if fused.applies(values, values.shape[1]):
        matrix = len(bags) > 1 and weights.shape[1] == 1 and _by_matrix(bags)
        member = membership(bags, values.dtype) if matrix else None
        return fused.pool(values, weights, bags, member)
    if len(bags) == 1:
        return (weights.T @ values)[None]
    # Of several heads, the matrix would have a row for each head and bag, and be slower.
    if weights.shape[1] == 1 and _by_matrix(bags):
        return ((membership(bags, values.dtype) * weights.T) @ values)[:, None]
    pairs = zip(bags.split(weights), bags.split(values), strict=True)
    return torch.stack([weight.T @ value for weight, value in pairs])


def uniform_attention(bags: BagBatch) -> Tensor:
    """The attention of a mean, [T, 1]."""
    return spread(bags.counts.reciprocal()[:, None], bags)


def membership(bags: BagBatch, dtype: torch.dtype) -> Tensor:
    """[B, T], 1 where an instance is of a bag."""
    numbers = torch.arange(len(bags), device=bags.features.device)
    return (bags.index == numbers[:, None]).to(dtype)


def _by_matrix(bags: BagBatch) -> bool:
    return isinstance(bags, StreamBags) or len(bags) * len(bags.features) <= LARGEST_MATRIX
