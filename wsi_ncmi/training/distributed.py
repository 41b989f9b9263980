"""Several processes that train one network: torchrun starts them, each has its share of a batch.

Every process reads the same configuration and draws the same order of the images; of each batch it
takes its own part. Gradients are averaged over the processes, objectives add up what they collect
(`losses.distributed`), and the first process writes. A process that dies ends the others: gloo and
NCCL find a closed connection, and what neither finds ends after `MINUTES`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wsi_ncmi.errors import UserError
from wsi_ncmi.losses.distributed import gather_over_ranks, ranks, sum_over_ranks

MINUTES = 30.0
"""That a process waits for another, which may score and write records meanwhile."""


@contextmanager
def processes(minutes: float = MINUTES) -> Iterator[None]:
    """Join the processes that torchrun has started; alone, this does nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(minutes=minutes))
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if ranks() > 1 else 0


def local_rank() -> int:
    """Which of this machine's processes this is, from 0: whose GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def wait_for_all() -> None:
    """Until every process is here."""
    if ranks() > 1:
        dist.barrier()


def agreed(wish: bool, device: torch.device) -> bool:
    """Whether any of the processes wishes it."""
    if ranks() == 1:
        return wish
    sum_over_ranks(votes := torch.tensor(float(wish), device=device))
    return bool(votes > 0)


def gathered(rows: Tensor) -> Tensor:
    """The rows [n, ...] of all processes, one process after another."""
    if ranks() == 1:
        return rows
    counts = gather_over_ranks(torch.tensor(len(rows), device=rows.device)).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    found = gather_over_ranks(padded)
    return torch.cat([part[:count] for part, count in zip(found, counts, strict=True)])


def share_of_batch(size: int) -> slice:
    """This process's part of a batch of `size`, a multiple of the number of processes."""
    own = size // ranks()
    return slice(rank() * own, (rank() + 1) * own)


def share_of_part(size: int) -> slice:
    """This process's rows of a part that is scored: one after another, as `gathered` joins them."""
    return slice(rank() * size // ranks(), (rank() + 1) * size // ranks())


def check_share(batch_size: int) -> None:
    """Every process gets as many samples of a batch.

    Raises:
        UserError: the batch cannot be divided so.
    """
    if batch_size % ranks():
        raise UserError(
            f"training.batch_size {batch_size} is not a multiple of the {ranks()} processes that "
            "train: choose another, or start another number of processes"
        )


def parallel(network: nn.Module) -> nn.Module:
    """The network with gradients that are averaged over the processes; alone, as it is."""
    if ranks() == 1:
        return network
    return DistributedDataParallel(network)
