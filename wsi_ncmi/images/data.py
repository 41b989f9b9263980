"""From a data set to the parts that a task trains, validates and tests on."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTask
from wsi_ncmi.images.datasets.files.stored import stored
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images
from wsi_ncmi.images.index.checks import PARTS, kept, warnings_of
from wsi_ncmi.images.index.record import Index, files_digest, read_index
from wsi_ncmi.images.index.state import check_unchanged
from wsi_ncmi.images.kinds import IMAGE, Kind
from wsi_ncmi.images.merging import merged

log = logging.getLogger(__name__)

Parts = Mapping[str, Images]


def open_source(task: ImageTask) -> ImageDataset:
    """The task's data set by its files alone: nothing is decoded or checked.

    Raises:
        PartError: no such part, or an option it does not know.
        DatasetError: the files are missing or damaged.
    """
    module = registry.load("dataset", task.dataset)
    dataset: ImageDataset = module.build(Path(task.path), registry.options_of(module, task.options))
    return dataset


def source_of(task: ImageTask) -> dict[str, Any]:
    """What decides an index, beside the files: tasks that agree in it share one."""
    return {"dataset": task.dataset, "options": task.options}


@dataclass(frozen=True, eq=False)
class Loaded:
    """A data set as a task uses it.

    Attributes:
        files_digest: of its files, wherever they lie.
        warnings: what a reader of results should know of its images, a sentence each.
    """

    dataset: ImageDataset
    files_digest: str
    warnings: list[str]


def load_dataset(task: ImageTask, folder: Path) -> Loaded:
    """The task's data set by its index: no file is looked for, decoded or hashed again.

    Args:
        folder: of the index, see `stages.image_index`.

    Raises:
        DatasetError: there is no index, a file has changed since, a class has no image, there are
            images that the task refuses (`corrupt`, `overlap`), classes cannot be merged as it
            says, or it has settings that are for images alone.
    """
    index, root = read_index(folder), Path(task.path)
    if index.source != source_of(task):
        raise DatasetError(f"{folder}: an index of {index.source}, expected {source_of(task)}")
    check_unchanged(index, root)
    policies = {"corrupt": task.corrupt, "overlap": task.overlap}
    warnings = warnings_of(index, policies)
    for sentence in warnings:
        log.warning("%s: %s", task.path, sentence)
    rows = kept(index, policies)
    train, test = _stored(index, rows, root) if index.stored else _read(index, rows, task)
    files = tuple(root / name if name else root for name in index.files["file"])
    whole = ImageDataset(index.classes, train, test, files, index.protocol, index.published)
    dataset = merged(whole, task.merge_classes)
    _check_kind(task, dataset.train.kind)
    return Loaded(dataset, files_digest(index, root), warnings)


def _check_kind(task: ImageTask, kind: Kind) -> None:
    if kind is IMAGE:
        return
    for key in ("image_size", "augmentation", "batch_augmentation"):
        if getattr(task, key):
            raise DatasetError(
                f"{key} is for images, and the samples of {task.dataset} are of kind {kind.name}: "
                "leave it out"
            )


def _stored(index: Index, rows: pd.DataFrame, root: Path) -> list[Images]:
    own = [rows[rows["part"] == part] for part in PARTS]
    return [stored(root, index.members(r), r["target"].to_numpy(np.int64)) for r in own]


def _read(index: Index, rows: pd.DataFrame, task: ImageTask) -> list[Images]:
    """Arrays, which are read as a whole."""
    dataset, found = open_source(task), []
    for part in PARTS:
        images: Images = getattr(dataset, part)
        of_part = index.images["part"] == part
        chosen = np.flatnonzero(index.images.index[of_part].isin(rows.index))
        found.append(images if len(chosen) == len(images) else images.select(chosen))
    return found


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
    """The parts in the columns of a bag task's splits; an image's patient is its group, or it."""
    frames = [
        pd.DataFrame(
            {
                "fold": 0,
                "part": part,
                "sample_id": images.ids,
                "slide_id": images.ids,
                "patient_id": images.owners,
                "centre": "-",
                "label": [classes[target] for target in images.targets],
            }
        )
        for part, images in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def to_square(image: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] -> [side, side, 3]: its central square, resized; None leaves it alone."""
    if side is None or image.shape[:2] == (side, side):
        return image
    height, width = image.shape[:2]
    edge = min(height, width)
    left, top = (width - edge) // 2, (height - edge) // 2
    cut = np.ascontiguousarray(image[top : top + edge, left : left + edge])
    resized = Image.fromarray(cut).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8)
