"""Batches of uint8 tiles through a frozen encoder; resize and normalise on the device."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.errors import PartError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

Prepare = Callable[[Tensor], Tensor]


def pick_device(number: int = 0) -> torch.device:
    """A GPU where there is one; processes of one machine take them in turn."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", number % torch.cuda.device_count())


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


@dataclass(frozen=True)
class TilePixels:
    """Tiles of one slide in a batch.

    Attributes:
        pixels: uint8 [b, side, side, 3]; the side may differ between slides.
        stain: applied on the device to floats [b, 3, side, side] in 0 to 1, before the resize.
    """

    pixels: NDArray[np.uint8]
    stain: Prepare | None = None


class Pending:
    """Features on their way from the device."""

    def __init__(self, features: Tensor, keep: Any) -> None:
        self._keep = keep  # memory that the device may still read from
        self._event = None
        if features.device.type == "cuda":
            host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
            self._features = host.copy_(features, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._features = features

    def result(self) -> NDArray[np.float32]:
        """float32 [n, D]; waits for the device."""
        if self._event is not None:
            self._event.synchronize()
        self._keep = None
        return self._features.numpy()


class BatchEncoder:
    """Every forward pass has the same batch shape: a last batch is padded, the padding dropped.

    Batches of other sizes take other kernels and change some features in their last bits; so a
    tile's features depend neither on its neighbours nor on where a run was cut.

    On CUDA a call returns before its features are there: the next batch travels to the device
    while this one is encoded.

    Args:
        encoder: what encodes.
        batch_size: B of every forward pass.
        autocast: none, bf16 or fp16.
        compiled: by `torch.compile`.
    """

    def __init__(
        self,
        encoder: Encoder,
        batch_size: int,
        device: torch.device,
        autocast: str,
        compiled: bool = False,
    ) -> None:
        self.encoder, self.batch_size, self.device = encoder, batch_size, device
        self.autocast = AUTOCAST.get(autocast)
        module = encoder.module.to(device).to(memory_format=torch.channels_last)
        self.module: Any = torch.compile(module, dynamic=False) if compiled else module
        mean, std = (
            torch.tensor(values, dtype=torch.float64, device=device).reshape(1, 3, 1, 1)
            for values in (encoder.mean, encoder.std)
        )
        # (pixels / 255 - mean) / std as one product and one sum.
        self.scale, self.shift = (1 / (255 * std)).float(), (-mean / std).float()
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Memory for tiles that the device can fetch from by itself."""
        if self.device.type != "cuda":
            return np.empty(shape, np.uint8)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()

    @torch.inference_mode()
    def __call__(self, parts: Sequence[TilePixels]) -> Pending:
        """At most `batch_size` tiles in all; their features come in the same order."""
        inputs = torch.cat([self._prepare(self._send(part.pixels), part.stain) for part in parts])
        count = len(inputs)
        missing = self.batch_size - count
        inputs = F.pad(inputs, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else inputs
        with self._autocast():
            features = self.module(inputs.contiguous(memory_format=torch.channels_last))
        return Pending(features[:count].float(), parts)

    def _send(self, pixels: NDArray[np.uint8]) -> Tensor:
        host = torch.from_numpy(pixels)
        if self._copies is None:
            return host
        with torch.cuda.stream(self._copies):
            sent = host.to(self.device, non_blocking=True)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._copies)
        sent.record_stream(current)
        return sent

    def _prepare(self, tiles: Tensor, stain: Prepare | None) -> Tensor:
        pixels = tiles.permute(0, 3, 1, 2)
        if stain is not None:
            pixels = (stain(pixels.float() / 255) * 255).round_().to(torch.uint8)
        side = self.encoder.input_px
        if pixels.shape[-1] != side:
            # A CPU resizes bytes six times as fast as floats; CUDA resizes no bytes. The two differ
            # by the rounding of a grey level.
            pixels = pixels if self.device.type == "cpu" else pixels.float()
            pixels = F.interpolate(
                pixels, (side, side), mode="bilinear", antialias=True, align_corners=False
            )
        return torch.addcmul(self.shift, pixels.float(), self.scale)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)
