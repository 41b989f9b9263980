"""The common way to encode a slide: OpenSlide, PIL and a float tile per item of a DataLoader.

Written from what CLAM's and TRIDENT's data sets do: every item is one region of OpenSlide, made
RGB, resized and normalised in the worker process; a DataLoader per slide.
"""

from pathlib import Path

import h5py
import numpy as np
import openslide
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from wsi_ncmi.encoders.interface import Encoder


class CommonTile:
    """A tile as a normalised float32 tensor `[3, input_px, input_px]`."""

    def __init__(self, level: int, side: int, encoder: Encoder) -> None:
        self.level, self.side, self.input_px = level, side, encoder.input_px
        self.mean = torch.tensor(encoder.mean).reshape(3, 1, 1)
        self.std = torch.tensor(encoder.std).reshape(3, 1, 1)

    def __call__(self, slide: openslide.OpenSlide, x: int, y: int) -> Tensor:
        region = slide.read_region((x, y), self.level, (self.side, self.side))
        size = self.input_px, self.input_px
        image = region.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return tensor.float().div_(255).sub_(self.mean).div_(self.std)


class SlideTiles(Dataset[Tensor]):
    """Tiles of one slide; each worker opens it for itself."""

    def __init__(self, path: str, coords: NDArray[np.integer], tile: CommonTile) -> None:
        self.path, self.coords, self.tile = path, coords, tile
        self.slide: openslide.OpenSlide | None = None

    def __len__(self) -> int:
        return len(self.coords)

    def __getitem__(self, index: int) -> Tensor:
        self.slide = self.slide or openslide.OpenSlide(self.path)
        x, y = self.coords[index].tolist()
        return self.tile(self.slide, x, y)


def encode_slide(
    dataset: SlideTiles,
    module: nn.Module,
    device: torch.device,
    out: Path,
    *,
    batch_size: int,
    workers: int,
    autocast: torch.dtype | None = None,
) -> None:
    """Features of one slide into an HDF5 file: float32 in chunks of a row, as TRIDENT writes it."""
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    found = []
    mixed = torch.autocast(device.type, autocast, enabled=autocast is not None)
    with torch.inference_mode(), mixed:
        for batch in loader:
            features = module(batch.to(device, non_blocking=True))
            found.append(features.float().cpu().numpy())
    features = np.concatenate(found)
    with h5py.File(out, "w") as file:
        file.create_dataset("features", data=features, chunks=(1, features.shape[1]))
        file.create_dataset("coords", data=dataset.coords, chunks=(1, 2))
