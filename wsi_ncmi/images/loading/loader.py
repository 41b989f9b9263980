"""Which way the batches of a task are loaded, and the batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.config import ImageTask
from wsi_ncmi.images.augmentation import Augmenter
from wsi_ncmi.images.batch_augmentation import BatchAugmenter, Drawn
from wsi_ncmi.images.datasets.interface import DatasetError, Images
from wsi_ncmi.images.kinds import Size, bytes_of
from wsi_ncmi.images.loading.decoded import DecodedImages, decoded_batches
from wsi_ncmi.images.loading.resident import pixels_on

RESIDENT_BYTES = 4 << 30
"""Parts up to this size together are kept on the device, where `loading` is `auto`."""
AUGMENTED_PIXELS = 1 << 22
"""Batches on the device are augmented together up to so many pixels, 4,096 images of CIFAR: a call
of kornia's costs as much for one batch as for thirty."""

Rows = NDArray[np.int64]
Held = dict[tuple[str, str], Tensor]
"""(part, device) -> its images."""


def is_resident(task: ImageTask, parts: Mapping[str, Images], size: Size) -> bool:
    """Whether images are kept on the device: as the task says, or by their size."""
    if task.loading != "auto":
        return task.loading == "device"
    held = sum(len(images) * bytes_of(images.kind, size) for images in parts.values())
    return not task.augmentation and held <= RESIDENT_BYTES


@dataclass(eq=False)
class Loader:
    """Batches of a task's parts on the device: of images uint8 [B, 3, h, w], channels last.

    What augmentation makes of an image depends on `seed_of` and on its row in the part alone.

    Attributes:
        size: (height, width) of every image; see `kinds`.
        seed_of: purpose -> seed, such as "augment 3 17" for image 17 in epoch 3.
        workers: processes that decode; 0: this one. Nothing depends on it.
        held: images that are on a device already, shared by the loaders of several models.
    """

    task: ImageTask
    parts: Mapping[str, Images]
    size: Size
    device: torch.device
    seed_of: Callable[[str], int]
    workers: int = 0
    held: Held = field(default_factory=dict)

    def __post_init__(self) -> None:
        by_image, by_batch = self.task.augmentation, self.task.batch_augmentation
        self._augmenter = Augmenter(by_image) if by_image else None
        self._batch_augmenter = BatchAugmenter(by_batch) if by_batch else None
        self._is_resident = is_resident(self.task, self.parts, self.size)
        self._drawn: tuple[int, list[Drawn]] | None = None

    def batches(self, part: str, rows: Sequence[Rows], epoch: int | None) -> Iterator[Tensor]:
        """A batch for each of `rows`, in their order.

        Args:
            epoch: as which the images are augmented; None: not at all.

        Raises:
            DatasetError: an image cannot be decoded, or has another size than the first.
        """
        if self._is_resident:
            yield from self._resident(part, rows, epoch)
            return
        for images, own in zip(self._loaded(part, rows, epoch), rows, strict=True):
            yield images if epoch is None else self._augmented(images, part, own, epoch)

    def _resident(self, part: str, rows: Sequence[Rows], epoch: int | None) -> Iterator[Tensor]:
        key = part, str(self.device)
        if key not in self.held:
            decoded = DecodedImages(self.parts[part], self.task.image_size, self.size)
            self.held[key] = pixels_on(self.device, decoded)
        augments = epoch is not None and self._batch_augmenter is not None
        most = AUGMENTED_PIXELS // (self.size[0] * self.size[1]) if augments else 1
        for several in _together(rows, most):
            own = np.concatenate(several)
            pixels = self.held[key][torch.from_numpy(own).to(self.device)]
            images = self.parts[part].kind.batch(pixels)
            found = images if epoch is None else self._augmented(images, part, own, epoch)
            yield from found.split([len(batch) for batch in several])

    def _loaded(self, part: str, rows: Sequence[Rows], epoch: int | None) -> Iterator[Tensor]:
        augmented = None if epoch is None or self._augmenter is None else self._augmenter
        images = DecodedImages(self.parts[part], self.task.image_size, self.size, augmented)
        pinned = self.device.type == "cuda"

        def seed_of(row: int) -> int | None:
            return None if epoch is None else self.seed_of(f"augment {epoch} {row}")

        for batch in decoded_batches(images, rows, seed_of, self.workers, pinned=pinned):
            yield self.parts[part].kind.batch(batch.to(self.device, non_blocking=True))

    def _augmented(self, images: Tensor, part: str, rows: Rows, epoch: int) -> Tensor:
        if self._batch_augmenter is None:
            return images
        if self._drawn is None or self._drawn[0] != epoch:
            height, width = self.size
            drawn = self._batch_augmenter.draw(
                lambda block: self.seed_of(f"augment batches {epoch} {block}"),
                len(self.parts[part]),
                (height, width),
            )
            self._drawn = epoch, drawn
        found = self._batch_augmenter(images, self._drawn[1], torch.from_numpy(rows))
        if tuple(found.shape[2:]) != self.size:
            raise DatasetError(
                f"batch_augmentation makes images of {found.shape[2]} x {found.shape[3]} pixels, "
                f"expected {self.size[0]} x {self.size[1]}: change its size, or image_size"
            )
        return found


def _together(batches: Sequence[Rows], most: int) -> Iterator[list[Rows]]:
    """Batches in groups of up to `most` rows, each of one batch at least."""
    group: list[Rows] = []
    for batch in batches:
        if group and sum(map(len, group)) + len(batch) > most:
            yield group
            group = []
        group.append(batch)
    if group:
        yield group
