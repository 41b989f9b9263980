"""Dropout whose mask costs little on a CPU."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

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
        if _streams.get():
            return values * _StreamMasks.apply(values, self)
        return values * self.drawn(values.shape, values.dtype)

    def mask(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """What a CPU's values of a shape are multiplied by; None where nothing is dropped."""
        return self.drawn(shape, dtype) if self.training and self.p > 0 else None

    @property
    def scale(self) -> float:
        """Of what is kept."""
        return 1 / (1 - self.p)

    def drawn(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A mask: 0 or `scale`."""
        kept = _drawn(math.prod(shape), generator) >= round(self.p * STEPS) - STEPS // 2
        return kept.view(shape).to(dtype).mul_(self.scale)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def _drawn(count: int, generator: torch.Generator | None) -> Tensor:
    """int16 [count], uniform over all values."""
    words = torch.empty(-(-count // 4), dtype=torch.int64)
    return words.random_(-(2**63), None, generator=generator).view(torch.int16)[:count]


class StreamDraws(NamedTuple):
    """A stream's random numbers, where several are mapped over: those that it has alone.

    Attributes:
        rows: of so many rows, how many are no padding, for which nothing is drawn.
    """

    generator: torch.Generator
    rows: Mapping[int, int]


@contextmanager
def draws_of_streams(draws: Sequence[StreamDraws]) -> Iterator[None]:
    """Within it, dropout in a map over streams draws for each of them by itself."""
    token = _streams.set(draws)
    try:
        yield
    finally:
        _streams.reset(token)


_streams: ContextVar[Sequence[StreamDraws]] = ContextVar("streams", default=())


class _StreamMasks(Function):
    """Masks [T, m] of a map over streams: its rule sees the values of all, [k, T, m]."""

    @staticmethod
    def forward(values: Tensor, dropout: Dropout) -> Tensor:
        raise TypeError("only in a map over streams")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None]:
        return None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], values: Tensor, dropout: Dropout) -> Any:
        assert in_dims[0] is not None
        masks = torch.ones_like(values.movedim(in_dims[0], 0), requires_grad=False)
        for mask, (generator, own) in zip(masks, _streams.get(), strict=True):
            rows = own[len(mask)]
            mask[:rows] = dropout.drawn((rows, *mask.shape[1:]), mask.dtype, generator)
        return masks, 0
