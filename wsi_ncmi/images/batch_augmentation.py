"""Augmentation by kornia in whole batches on the device, reproducible image by image.

kornia draws the parameters of a transform for all images of a batch at once. Here they are drawn
for blocks of 1,024 rows of the training part, whichever of these a batch holds: what becomes of an
image depends on the epoch's seed and on its row alone, not on the order, on the batch or on how
many images there are. The one exception is what kornia draws once for all (the order of the four
steps of `ColorJitter`): it is that of the epoch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wsi_ncmi.config import Transform
from wsi_ncmi.errors import PartError

BLOCK = 1024
SHAPE = "forward_input_shape"
Drawn = dict[str, Tensor]
Seed = Callable[[int], int]


class BatchAugmenter:
    """A chain of kornia's transforms.

    Args:
        transforms: class names of `kornia.augmentation` with their options.

    Raises:
        PartError: a name or an option that kornia does not know, or one that draws once a batch.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self._modules = [_make(transform) for transform in transforms]
        self._crops = [
            module
            for one, module in zip(transforms, self._modules, strict=True)
            if one.name == "RandomCrop" and "cropping_mode" not in one.options
        ]

    def draw(self, seed_of: Seed, count: int, size: tuple[int, int]) -> list[Drawn]:
        """The parameters of every transform for rows 0 … count − 1.

        Args:
            seed_of: block -> its seed.
            size: (height, width) of the images; a transform that changes it is the last but for
                those that do not look at it.
        """
        blocks = []
        with torch.random.fork_rng(devices=[]):
            for block in range(-(-count // BLOCK)):
                torch.default_generator.manual_seed(seed_of(block))
                shape = (BLOCK, 3, *size)
                blocks.append([module.forward_parameters(shape) for module in self._modules])
        return [_joined(of_module) for of_module in zip(*blocks, strict=True)]

    def __call__(self, images: Tensor, drawn: Sequence[Drawn], rows: Tensor) -> Tensor:
        """uint8 [B, 3, h, w] -> uint8 [B, 3, h', w'], channels last.

        Args:
            drawn: see `draw`. rows: of the images in the training part [B], on the CPU.
        """
        values = images.float() / 255
        for crop in self._crops:
            # The same pixels; a GPU would wait for every slice, a CPU slices in half the time.
            crop.flags["cropping_mode"] = "resample" if images.is_cuda else "slice"
        with torch.no_grad():
            for module, parameters in zip(self._modules, drawn, strict=True):
                values = module(values, params=_chosen(parameters, rows))
        pixels = (values * 255).round_().clamp_(0, 255).to(torch.uint8)
        return pixels.contiguous(memory_format=torch.channels_last)


def _make(transform: Transform) -> Any:
    import kornia.augmentation

    maker = getattr(kornia.augmentation, transform.name, None)
    kind = kornia.augmentation.AugmentationBase2D
    if not isinstance(maker, type) or not issubclass(maker, kind):
        raise PartError(
            f"batch_augmentation {transform.name!r} is not a transform of kornia.augmentation for "
            "images, such as RandomHorizontalFlip (those of albumentations belong to augmentation)"
        )
    if transform.options.get("same_on_batch"):
        raise PartError(
            f"batch_augmentation {transform.name}: same_on_batch: true would make an image depend "
            "on its batch: leave it out"
        )
    try:
        return maker(**transform.options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise PartError(f"batch_augmentation {transform.name}: {error}") from None


def _joined(blocks: Sequence[Drawn]) -> Drawn:
    """Rows of all blocks; of what is drawn once, the first block's."""
    first = blocks[0]
    return {
        name: torch.cat([block[name] for block in blocks]) if _is_by_row(name, value) else value
        for name, value in first.items()
    }


def _chosen(drawn: Drawn, rows: Tensor) -> Drawn:
    chosen = {n: value[rows] if _is_by_row(n, value) else value for n, value in drawn.items()}
    shape = drawn[SHAPE].clone()
    shape[0] = len(rows)
    return {**chosen, SHAPE: shape}


def _is_by_row(name: str, value: Any) -> bool:
    # No other dimension comes first that is a multiple of a block.
    is_tensor = isinstance(value, Tensor) and value.ndim > 0 and name != SHAPE
    return is_tensor and len(value) > 0 and len(value) % BLOCK == 0
