"""A part's images as one tensor on the device."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from wsi_ncmi.images.loading.decoded import DecodedImages


def pixels_on(device: torch.device, images: DecodedImages) -> Tensor:
    """Of images uint8 [n, h, w, 3]; see `kinds`.

    Raises:
        DatasetError: an image cannot be decoded, or has another size than the first.
    """
    kind = images.images.kind
    found = np.empty((len(images), *kind.shape(images.size)), kind.dtype)

    def fill(row: int) -> None:
        found[row] = images.image(row)

    # Decoding lets other threads run: as many as the job has.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(fill, range(len(images))):
            pass
    return torch.from_numpy(found).to(device)
