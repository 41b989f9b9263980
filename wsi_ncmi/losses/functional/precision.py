"""Float32 or wider, whatever automatic mixed precision says around it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """Autocast off on a tensor's device: matrix products keep the types of what they are given."""
    kind = tensor.device.type
    # Entering autocast costs as much as some of a small loss's operations.
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def at_least_float32(tensor: Tensor) -> Tensor:
    """bf16 and fp16 become float32; float32 and float64 stay."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
