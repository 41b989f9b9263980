"""What an objective shares between the processes of a data-parallel training (torch.distributed).

In a single process, or without an initialised process group, every function returns at once.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def ranks() -> int:
    """How many processes train together."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return 1


@torch.no_grad()
def sum_over_ranks(*tensors: Tensor) -> None:
    """Replace each tensor by its sum over all processes, in place."""
    if ranks() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


@torch.no_grad()
def gather_over_ranks(tensor: Tensor) -> Tensor:
    """The tensors of all R processes, of one shape, stacked: [...] -> [R, ...]."""
    if ranks() == 1:
        return tensor[None]
    parts = [torch.empty_like(tensor) for _ in range(ranks())]
    dist.all_gather(parts, tensor)
    return torch.stack(parts)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over all processes, as DistributedDataParallel does."""
    if ranks() > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= ranks()
