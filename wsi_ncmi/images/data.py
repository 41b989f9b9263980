"""From a data set to the parts that a task trains, validates and tests on."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTask
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images

STATISTICS_IMAGES = 10_000
# A channel that never changes has no deviation to divide by.
LEAST_STD = 1 / 255

Parts = Mapping[str, Images]


def load_dataset(task: ImageTask) -> ImageDataset:
    """The task's data set.

    Raises:
        PartError: no such part, or an option it does not know.
        DatasetError: the files are missing or damaged.
    """
    module = registry.load("dataset", task.dataset)
    dataset: ImageDataset = module.build(Path(task.path), registry.options_of(module, task.options))
    return dataset


def partition(dataset: ImageDataset, task: ImageTask) -> dict[str, Images]:
    """train, val and test: balanced subsets if asked for, validation from the training part.

    `subset_seed` alone decides, so that all seeds of a task train on the same images.

    Raises:
        DatasetError: a class has too few images.
    """
    train = balanced(dataset, "train", task.train_samples, task.subset_seed)
    test = balanced(dataset, "test", task.test_samples, task.subset_seed)
    train, val = train.split(task.validation_fraction, task.subset_seed, "validation_fraction")
    return {"train": train, "val": val, "test": test}


def balanced(dataset: ImageDataset, part: str, count: int | None, seed: int) -> Images:
    """`count` images of a part (train, test), every class equally often; None: all of them.

    If the classes do not divide `count`, the first ones have one image more.

    Raises:
        DatasetError: a class has too few images.
    """
    images: Images = getattr(dataset, part)
    if count is None:
        return images
    chosen = []
    for c, name in enumerate(dataset.classes):
        wanted = count // len(dataset.classes) + (c < count % len(dataset.classes))
        rows = np.flatnonzero(images.targets == c)
        if not 0 < wanted <= len(rows):
            raise DatasetError(
                f"{part}_samples {count} needs {wanted} images of each of {len(dataset.classes)} "
                f"classes, and {name} has {len(rows)}: at least one and no more than there are"
            )
        chosen.append(np.random.default_rng([seed, c]).permutation(rows)[:wanted])
    return images.select(np.sort(np.concatenate(chosen)))


def split_table(parts: Parts, classes: list[str]) -> pd.DataFrame:
    """The parts in the columns of a bag task's splits: every image is its own patient."""
    frames = [
        pd.DataFrame(
            {
                "fold": 0,
                "part": part,
                "sample_id": images.ids,
                "slide_id": images.ids,
                "patient_id": images.ids,
                "centre": "-",
                "label": [classes[target] for target in images.targets],
            }
        )
        for part, images in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def channel_statistics(images: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation [3] of the channels in 0..1, of at most 10,000 images."""
    rows = np.linspace(0, len(images) - 1, min(len(images), STATISTICS_IMAGES)).astype(int)
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for row in rows:
        pixels = np.asarray(images.pixels[int(row)], np.float64).reshape(-1, 3) / 255
        total += pixels.sum(0)
        squares += (pixels**2).sum(0)
        count += len(pixels)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean, np.maximum(std, LEAST_STD)


def to_square(image: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] -> [side, side, 3]: its central square, resized; None leaves it alone."""
    height, width = image.shape[:2]
    if side is None or (height, width) == (side, side):
        return image
    edge = min(height, width)
    left, top = (width - edge) // 2, (height - edge) // 2
    cut = np.ascontiguousarray(image[top : top + edge, left : left + edge])
    resized = Image.fromarray(cut).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8)
