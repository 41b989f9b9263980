"""Attention whose weights are never stored."""

import warnings

from torch import Tensor
from torch.nn import functional


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q Kᵀ/√d) V of [g, H, n, d] each, in memory that follows n.

    Four dimensions: with three, CPUs take a way that makes all weights.
    """
    with warnings.catch_warnings():
        # Of a map over models, which calls the kernel once for each of them.
        warnings.filterwarnings("ignore", message="There is a performance drop because")
        return functional.scaled_dot_product_attention(query, key, value)
