"""Labels as masks."""

import torch
from torch import Tensor


def one_hot(target: Tensor, classes: int) -> Tensor:
    """Which class each sample has: [..., B] integers -> [..., B, C] booleans.

    torch's own looks at the values to check their range: it waits for the device and cannot be
    mapped over or compiled.
    """
    return target[..., None] == torch.arange(classes, device=target.device)
