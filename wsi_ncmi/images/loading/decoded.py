"""Batches that are decoded, and augmented image by image, when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsi_ncmi.images.augmentation import Augmenter
from wsi_ncmi.images.data import to_square
from wsi_ncmi.images.datasets.interface import DatasetError, Images
from wsi_ncmi.images.kinds import Size

Rows = NDArray[np.int64]
AHEAD = 4
"""Batches that each worker has ready."""


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """A part's images as the network sees them.

    Attributes:
        side: to which they are cut and resized, see `to_square`.
        size: (height, width) that they must have then.
        augmenter: what is done to them before; None: nothing.
    """

    images: Images
    side: int | None
    size: Size
    augmenter: Augmenter | None = None

    def __len__(self) -> int:
        return len(self.images)

    def image(self, row: int, seed: int | None = None) -> NDArray[Any]:
        """uint8 [h, w, 3], augmented under a seed; or as the kind of the samples has it.

        Raises:
            DatasetError: it cannot be decoded, or has another size.
        """
        image = np.ascontiguousarray(self.images.pixels[row])
        if self.augmenter is not None and seed is not None:
            image = self.augmenter(image, seed)
        image = to_square(image, self.side)
        if self.images.kind.size(image) != self.size:
            raise DatasetError(
                f"{self.images.ids[row]}: {image.shape[0]} x {image.shape[1]} pixels"
                f"{'' if seed is None else ' (after augmentation)'}, expected {self.size[0]} x "
                f"{self.size[1]} as the first training image: set image_size"
            )
        return image


class _Batches(Dataset[Any]):
    """Batches by their number: uint8 [B, h, w, 3], or the error that one of its images raised."""

    def __init__(
        self, images: DecodedImages, rows: Sequence[Rows], seed_of: Callable[[int], int | None]
    ) -> None:
        self.images, self.rows, self.seed_of = images, rows, seed_of

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Tensor | DatasetError:
        rows = self.rows[number].tolist()
        try:
            found = [self.images.image(row, self.seed_of(row)) for row in rows]
        except DatasetError as error:  # a worker would wrap it into a traceback
            return error
        return torch.from_numpy(np.stack(found))


def decoded_batches(
    images: DecodedImages,
    rows: Sequence[Rows],
    seed_of: Callable[[int], int | None],
    workers: int,
    *,
    pinned: bool,
) -> Iterator[Tensor]:
    """uint8 [B, h, w, 3] for each of `rows`, in their order, whatever the number of workers.

    Args:
        seed_of: row -> seed of its augmentation; None: it is not augmented.
        workers: processes that decode ahead; 0: this one does, when it is asked.
        pinned: in memory that a GPU can copy from while it computes.

    Raises:
        DatasetError: see `DecodedImages.image`.
    """
    ahead = {"prefetch_factor": AHEAD, "worker_init_fn": _begin} if workers else {}
    loader = DataLoader(
        _Batches(images, rows, seed_of),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pinned,
        **ahead,  # type: ignore[arg-type]
    )
    for found in loader:
        if isinstance(found, DatasetError):
            raise found
        yield found


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin(_: int) -> None:
    """One thread a worker: there are as many workers as cores."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
