"""Augmentation by albumentations, named in the configuration, reproducible image by image."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.config import Transform
from wsi_ncmi.errors import PartError


class Augmenter:
    """A chain of albumentations transforms whose result depends on the seed given per image.

    Args:
        transforms: class names of albumentations with their options.

    Raises:
        PartError: a name or an option that albumentations does not know.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        # Without this, importing albumentations asks the network for a newer version.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations

        self._compose = albumentations.Compose([_make(albumentations, t) for t in transforms])

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """uint8 [h, w, 3] -> uint8 [h', w', 3], a function of the image and the seed alone."""
        self._compose.set_random_seed(seed)
        return np.asarray(self._compose(image=image)["image"], np.uint8)


def _make(albumentations: Any, transform: Transform) -> Any:
    import warnings

    maker = getattr(albumentations, transform.name, None)
    if not isinstance(maker, type) or not issubclass(maker, albumentations.BasicTransform):
        raise PartError(f"augmentation {transform.name!r} is not a transform of albumentations")
    with warnings.catch_warnings():
        # albumentations only warns of an option that it does not know, and goes on without it.
        warnings.simplefilter("error", UserWarning)
        try:
            return maker(**transform.options)
        except (UserWarning, ValueError, TypeError) as error:
            raise PartError(f"augmentation {transform.name}: {error}") from None
