"""Batches of uint8 tiles through a frozen encoder; resize and normalise on the device."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.errors import PartError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_autocast(wanted: str, device: torch.device) -> str:
    """`auto` made definite: it is part of a bag's digest.

    Raises:
        PartError: fp16 on a CPU, which has no kernels for it worth having.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise PartError("extraction.autocast: fp16 needs CUDA; use none or bf16 on a CPU")
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "none"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


class BatchEncoder:
    """Every forward pass has the same batch shape: a last batch is padded, the padding dropped.

    Batches of other sizes take other kernels and change some features in their last bits; so a
    tile's features depend neither on its neighbours nor on where a run was cut.

    Args:
        encoder: what encodes.
        batch_size: B of every forward pass.
        autocast: none, bf16 or fp16.
    """

    def __init__(
        self, encoder: Encoder, batch_size: int, device: torch.device, autocast: str
    ) -> None:
        self.encoder, self.batch_size, self.device = encoder, batch_size, device
        self.autocast = AUTOCAST.get(autocast)
        layout = torch.channels_last
        self.module = encoder.module.to(device).to(memory_format=layout)
        shape = (1, 3, 1, 1)
        self.mean = torch.tensor(encoder.mean, device=device).reshape(shape)
        self.std = torch.tensor(encoder.std, device=device).reshape(shape)

    @torch.inference_mode()
    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [b, side, side, 3] with b at most the batch size -> float32 [b, D]."""
        count = len(tiles)
        padded = np.zeros((self.batch_size, *tiles.shape[1:]), np.uint8)
        padded[:count] = tiles
        batch = torch.from_numpy(padded)
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        inputs = self._prepare(batch.to(self.device, non_blocking=True))
        with self._autocast():
            features = self.module(inputs)
        return features[:count].float().cpu().numpy()

    def _prepare(self, batch: Tensor) -> Tensor:
        pixels = batch.permute(0, 3, 1, 2).float() / 255
        side = self.encoder.input_px
        if pixels.shape[-1] != side:
            pixels = F.interpolate(
                pixels, (side, side), mode="bilinear", antialias=True, align_corners=False
            )
        normalised = (pixels - self.mean) / self.std
        return normalised.contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)
