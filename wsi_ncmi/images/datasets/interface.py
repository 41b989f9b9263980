"""What a data set is: classes, and labelled samples, most often images, for training and test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.errors import UserError
from wsi_ncmi.images.kinds import IMAGE, Kind


class DatasetError(UserError):
    """An image data set is missing, damaged, or not what its part expects."""


class Pixels(Protocol):
    """Images by their index: an array in memory, or files that are decoded on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any:
        """An image uint8 [h, w, 3], grey ones as three equal channels; or as the kind has it."""
        ...


@dataclass(frozen=True)
class _Chosen:
    pixels: Pixels
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> Any:
        return self.pixels[int(self.rows[index])]


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one part.

    Attributes:
        ids: unique names, which become the sample_id of predictions.
        targets: int64 [n], indices of the data set's classes.
        pixels: n images, always uint8 with three channels; or samples of another kind.
        groups: to whom each image belongs, such as a patient: images of a group stay in one part
            and are resampled together; None: each is a group of its own.
        kind: what the samples are.
    """

    ids: Sequence[str]
    targets: NDArray[np.int64]
    pixels: Pixels
    groups: Sequence[str] | None = None
    kind: Kind = IMAGE

    def __post_init__(self) -> None:
        counts = {len(self.ids), len(self.targets), len(self.pixels), len(self.owners)}
        if len(counts) > 1:
            raise ValueError(f"ids, targets, pixels or groups differ in number: {sorted(counts)}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def owners(self) -> Sequence[str]:
        """The group of every image; one that has none is its own."""
        return self.ids if self.groups is None else self.groups

    def select(self, rows: NDArray[np.int64]) -> "Images":
        """The images of the given rows, in their order; no pixel is copied."""
        ids = [self.ids[row] for row in rows]
        chosen = getattr(self.pixels, "select", None)
        pixels = chosen(rows) if chosen else _Chosen(self.pixels, rows)
        groups = None if self.groups is None else [self.groups[row] for row in rows]
        return replace(self, ids=ids, targets=self.targets[rows], pixels=pixels, groups=groups)

    def split(self, fraction: float, seed: int, name: str) -> tuple["Images", "Images"]:
        """(what stays, what is taken), both in their old order: a share of every class is taken.

        Of images in groups it is a share of the groups, whatever their classes.

        Args:
            fraction: of the images, to be taken.
            name: of the option that asks for it, for errors.

        Raises:
            DatasetError: a class would be missing on one side; of groups, where they stay.
        """
        if self.groups is not None:
            return self._split_groups(fraction, seed, name)
        from sklearn.model_selection import train_test_split

        rows, taken = np.arange(len(self)), round(fraction * len(self))
        try:
            kept, out = train_test_split(
                rows, test_size=taken, stratify=self.targets, random_state=seed
            )
        except ValueError as error:
            raise DatasetError(
                f"{name} {fraction} of {len(self)} images cannot be taken from every class: {error}"
            ) from None
        return self.select(np.sort(kept)), self.select(np.sort(out))

    def _split_groups(self, fraction: float, seed: int, name: str) -> tuple["Images", "Images"]:
        groups = np.array(self.owners)
        found = np.unique(groups)
        out = np.random.default_rng(seed).permutation(found)[: max(1, round(fraction * len(found)))]
        taken = np.isin(groups, out)
        lost = set(self.targets.tolist()) - set(self.targets[~taken].tolist())
        if lost:
            raise DatasetError(
                f"{name} {fraction} takes {len(out)} of {len(found)} groups, and with them all "
                f"samples of {len(lost)} classes: lower it"
            )
        return self.select(np.flatnonzero(~taken)), self.select(np.flatnonzero(taken))


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A data set.

    Attributes:
        classes: names in the order of the targets.
        train, test: its parts; validation is taken from `train` later.
        files: what it was read from.
        protocol: "official" if the test part is the data set's own, "holdout" if it was cut off.
        published: how many images the training and test parts have as published; None: any number.
    """

    classes: list[str]
    train: Images
    test: Images
    files: tuple[Path, ...]
    protocol: str = "official"
    published: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for part, images in (("training", self.train), ("test", self.test)):
            absent = set(range(len(self.classes))) - set(images.targets.tolist())
            if absent:
                names = ", ".join(self.classes[i] for i in sorted(absent)[:5])
                raise DatasetError(
                    f"{self.files[0].parent}: the {part} part has no image of class {names}; every "
                    "class needs images in both parts"
                )
