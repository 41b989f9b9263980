"""Arrays worked on in blocks of rows, so that what is made of them stays in a processor's cache.

Every loop over blocks is here. A function of a block gets its rows; None: all of them, without the
cost of a slice.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Rows = slice | Tensor | None

# Values of a block of rows: so many that an operation is more than its call, and few enough for a
# processor's cache.
BLOCK = 2**17


def take(array: Tensor, rows: Rows) -> Tensor:
    """Some rows of an array: of a block, or of the samples' classes."""
    return array if rows is None else array[rows]


def joined(
    function: Callable[[slice | None], tuple[Tensor, ...]], like: Tensor
) -> tuple[Tensor, ...]:
    """What the function returns for the blocks of `like`, joined along the rows."""
    parts = [function(rows) for rows in _blocks(like)]
    if len(parts) == 1:
        return parts[0]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def summed_by_class(
    function: Callable[[slice | None], Tensor], like: Tensor, target: Tensor, classes: int
) -> Tensor:
    """Sums [C, m] over each class's rows of what the function returns for the blocks of `like`."""
    total: Tensor | None = None
    for rows in _blocks(like):
        part = function(rows)
        if total is None:  # made from the rows, so that under vmap it is mapped as well
            total = part.new_zeros(classes, part.shape[1])
        total = total.index_add_(0, take(target, rows), part)
    assert total is not None
    return total


def replaced(function: Callable[[slice | None], Tensor], array: Tensor) -> Tensor:
    """What the function returns for the blocks of the array, in the array's own memory."""
    for rows in _blocks(array):
        block = function(rows)
        if rows is None:
            return block
        array[rows] = block
    return array


def _blocks(array: Tensor) -> list[slice | None]:
    rows = max(1, BLOCK // array.shape[-1])
    if array.shape[0] <= rows:
        return [None]
    return [slice(start, start + rows) for start in range(0, array.shape[0], rows)]
