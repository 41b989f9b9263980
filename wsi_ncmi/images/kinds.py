"""What the samples of a data set are, and how a network gets them: images, vectors or tokens.

A kind is all that the image branch has to know of its samples: how large one is, how a batch of
them is laid out, and how it is normalised. Data sets say of which kind theirs are (`Images.kind`).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # indexing a data set does without torch
    from torch import Tensor

Moments = tuple[NDArray[np.float64], NDArray[np.float64]]
Size = tuple[int, ...]

STATISTICS_SAMPLES = 10_000
# A channel that never changes has no deviation to divide by.
LEAST_STD = 1 / 255


class Kind(Protocol):
    """One kind of samples.

    Attributes:
        name: as checkpoints record it.
        dtype: of a sample's array.
    """

    name: str
    dtype: type[Any]

    def size(self, sample: NDArray[Any]) -> Size:
        """What all samples of a task have in common."""
        ...

    def shape(self, size: Size) -> Size:
        """Of the array of a sample."""
        ...

    def described(self, size: Size) -> str:
        """Samples of this size in words."""
        ...

    def moments(self, samples: Any) -> Moments:
        """Mean and standard deviation of each channel, of at most 10,000 samples by index."""
        ...

    def moments_shape(self, size: Size) -> Size:
        """Of the moments against a batch."""
        ...

    def batch(self, stacked: "Tensor") -> "Tensor":
        """Arrays of samples, stacked, as a network gets them."""
        ...

    def normalised(self, batch: "Tensor", mean: "Tensor", std: "Tensor") -> "Tensor":
        """A batch as the network's first layer sees it."""
        ...


class ImageKind:
    """uint8 [h, w, 3] -> [B, 3, h, w], channels last, each channel of 0..1 standardised."""

    name = "image"
    dtype = np.uint8

    def size(self, sample: NDArray[Any]) -> Size:
        return tuple(sample.shape[:2])

    def shape(self, size: Size) -> Size:
        return (*size, 3)

    def described(self, size: Size) -> str:
        return f"images of {size[0]} x {size[1]} pixels"

    def moments(self, samples: Any) -> Moments:
        total, squares, count = np.zeros(3), np.zeros(3), 0
        for row in _spread(len(samples)):
            pixels = np.asarray(samples[row], np.float64).reshape(-1, 3) / 255
            total += pixels.sum(0)
            squares += (pixels**2).sum(0)
            count += len(pixels)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return mean, np.maximum(std, LEAST_STD)

    def moments_shape(self, size: Size) -> Size:
        return (1, 3, 1, 1)

    def batch(self, stacked: "Tensor") -> "Tensor":
        # [B, h, w, 3] seen as [B, 3, h, w] is channels last already.
        return stacked.permute(0, 3, 1, 2)

    def normalised(self, batch: "Tensor", mean: "Tensor", std: "Tensor") -> "Tensor":
        images = batch if batch.is_floating_point() else batch.float()
        return (images / 255 - mean) / std


class VectorKind:
    """float32 [f] -> [B, f], each feature standardised; one that never changes is 0."""

    name = "vector"
    dtype = np.float32

    def size(self, sample: NDArray[Any]) -> Size:
        return tuple(sample.shape)

    def shape(self, size: Size) -> Size:
        return size

    def described(self, size: Size) -> str:
        return f"vectors of {size[0]} numbers"

    def moments(self, samples: Any) -> Moments:
        values = np.stack([samples[row] for row in _spread(len(samples))]).astype(np.float64)
        std = values.std(0)
        return values.mean(0), np.where(std > 0, std, 1.0)

    def moments_shape(self, size: Size) -> Size:
        return (1, *size)

    def batch(self, stacked: "Tensor") -> "Tensor":
        return stacked

    def normalised(self, batch: "Tensor", mean: "Tensor", std: "Tensor") -> "Tensor":
        return (batch - mean) / std


class TokenKind:
    """uint8 [t], numbers of symbols in their order -> int64 [B, t]; nothing is normalised."""

    name = "token"
    dtype = np.uint8

    def size(self, sample: NDArray[Any]) -> Size:
        return tuple(sample.shape)

    def shape(self, size: Size) -> Size:
        return size

    def described(self, size: Size) -> str:
        return f"sequences of {size[0]} tokens"

    def moments(self, samples: Any) -> Moments:
        return np.zeros(1), np.ones(1)

    def moments_shape(self, size: Size) -> Size:
        return (1,)

    def batch(self, stacked: "Tensor") -> "Tensor":
        return stacked

    def normalised(self, batch: "Tensor", mean: "Tensor", std: "Tensor") -> "Tensor":
        return batch.long()


IMAGE, VECTOR, TOKEN = ImageKind(), VectorKind(), TokenKind()
KINDS: dict[str, Kind] = {kind.name: kind for kind in (IMAGE, VECTOR, TOKEN)}


def bytes_of(kind: Kind, size: Size) -> int:
    """Of one sample."""
    return math.prod(kind.shape(size)) * np.dtype(kind.dtype).itemsize


def _spread(count: int) -> Sequence[int]:
    rows = np.linspace(0, count - 1, min(count, STATISTICS_SAMPLES)).astype(int)
    return [int(row) for row in rows]
