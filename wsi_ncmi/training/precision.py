"""In which precision a network runs: `auto` made definite on the device that trains."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from wsi_ncmi.config import Training
from wsi_ncmi.errors import UserError

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolved(settings: Training, device: torch.device) -> Training:
    """Settings whose `precision` is definite: they are part of a run's digest.

    `auto` is bf16 on a GPU that has it in hardware, and fp32 elsewhere.

    Raises:
        UserError: bf16 was asked for, and the GPU would only imitate it.
    """
    able = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if settings.precision == "bf16" and not able:
        raise UserError(
            f"training.precision is bf16, which {torch.cuda.get_device_name(device)} does not "
            "have: set it to fp32 or auto"
        )
    if settings.precision != "auto":
        return settings
    bf16 = device.type == "cuda" and able
    return settings.model_copy(update={"precision": "bf16" if bf16 else "fp32"})


def mixed(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bf16 or fp16, or nothing; fp16 needs scaled gradients (`Optimisers`)."""
    if precision in HALF:
        return torch.autocast(device.type, dtype=HALF[precision])
    return nullcontext()


def keep_float32() -> None:
    """Convolutions in float32 are computed in float32: TF32, cuDNN's default, has 10 bits."""
    torch.backends.cudnn.allow_tf32 = False
