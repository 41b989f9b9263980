"""Seeds derived from (seed, fold, stream) alone, so paired arms share order, start and dropout."""

import torch

from wsi_ncmi.provenance import digest


def derive(seed: int, fold: int, purpose: str, stream: str | None = None) -> int:
    """A 63-bit seed for one purpose ("order", "start", "step 0 3") of one run.

    Args:
        stream: None is that of all paired arms; an arm may have one of its own.
    """
    return int(digest([seed, fold, purpose, *([stream] if stream else [])])[:15], 16)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's global generators of the CPU and of a device.

    `torch.manual_seed` also queues a seed for every GPU that is not in use, which takes longer than
    a step on a small bag.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
