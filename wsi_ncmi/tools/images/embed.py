"""Embeddings of any images by a trained run, in the packed format of bags.

Every image is a bag of one instance: `features` [n, m] float32, `offsets` [n + 1], `slide_id` [n],
the images' names below the folder. So the file can be `bags.path` of a configuration.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from wsi_ncmi.errors import UserError
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.images.datasets.files.members import members
from wsi_ncmi.images.datasets.files.stored import stored
from wsi_ncmi.images.datasets.image_folder import images_in
from wsi_ncmi.images.datasets.interface import Images
from wsi_ncmi.images.loading.decoded import DecodedImages, decoded_batches
from wsi_ncmi.images.models import ImageEncoder
from wsi_ncmi.training.images import load_run
from wsi_ncmi.training.precision import mixed

log = logging.getLogger(__name__)


def run(folder: Path, images: Path, out: Path, batch_size: int, threads: int) -> int:
    """Embed all images below a folder, or in a zip or tar; returns their number.

    Args:
        folder: of the run, with its checkpoint.pt.
        threads: of which all but one decode.

    Raises:
        UserError: no such run, no image, or one that cannot be decoded.
    """
    if not (folder / "checkpoint.pt").is_file():
        raise UserError(f"{folder}: no checkpoint.pt, expected the folder of a trained run")
    torch.set_num_threads(threads)
    device = pick_device()
    encoder, _, content = load_run(folder, device)
    found = images_in(members(images, "images"), images)
    parts = stored(images, found, np.zeros(len(found), np.int64))
    facts = {"run_id": folder.name, "model": content["task"]["model"], "images": str(images)}
    with atomic_path(out) as temporary, h5py.File(temporary, "w", locking=False) as file:
        shape = len(found), encoder.embedding_dim
        features = file.create_dataset("features", shape, np.float32)
        file["offsets"] = np.arange(len(found) + 1, dtype=np.int64)
        file.create_dataset("slide_id", data=[*parts.ids], dtype=h5py.string_dtype())
        file.attrs.update(facts)
        done = 0
        for z in _embedded(encoder, parts, content, device, batch_size, threads - 1):
            features[done : done + len(z)] = z.float().cpu().numpy()
            done += len(z)
            log.info("%d of %d images", done, len(found))
    return len(found)


@torch.inference_mode()
def _embedded(
    encoder: ImageEncoder,
    images: Images,
    content: dict[str, Any],
    device: torch.device,
    batch_size: int,
    workers: int,
) -> Iterator[Tensor]:
    """In the precision that the run was trained in, of images cut and resized to its size."""
    height, width = content["size"]
    side = height if height == width else None
    decoded = DecodedImages(images, side, (height, width))
    rows = np.array_split(np.arange(len(images)), range(batch_size, len(images), batch_size))
    pinned = device.type == "cuda"
    for batch in decoded_batches(decoded, rows, lambda row: None, workers, pinned=pinned):
        with mixed(content["run"]["precision"], device):
            yield encoder(batch.to(device, non_blocking=True).permute(0, 3, 1, 2))
