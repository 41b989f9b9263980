"""Dropout whose mask costs little on a CPU."""

import math

import torch
from torch import Tensor, nn

STEPS = 2**16


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014): in training, x_i · 1{kept} / (1 − p).

    torch's own draws a number of 24 bits or more for each element, one after another, which takes
    longer on a CPU than the layer before it. Here 16 bits of torch's generator decide, four
    elements a draw: p is a multiple of 2^-16. Other devices use torch's.

    Args:
        p: share of elements that become zero, 0 to below 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu":
            return nn.functional.dropout(values, self.p)
        return values * self._drawn(values.shape, values.dtype)

    def mask(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """What a CPU's values of a shape are multiplied by; None where nothing is dropped."""
        return self._drawn(shape, dtype) if self.training and self.p > 0 else None

    @property
    def scale(self) -> float:
        """Of what is kept."""
        return 1 / (1 - self.p)

    def _drawn(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        kept = _drawn(math.prod(shape)) >= round(self.p * STEPS) - STEPS // 2
        return kept.view(shape).to(dtype).mul_(self.scale)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def _drawn(count: int) -> Tensor:
    """int16 [count], uniform over all values."""
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int16)[:count]
