"""Stain normalisation on the device: a slide's own stain is brought to one published target.

Per slide it is an affine map of three logarithms per pixel, so that slides can share a batch.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.errors import SlideError
from wsi_ncmi.tiling.stain import GLASS, LEAST_DENSITY, LMS_TO_LAB, RGB_TO_LMS
from wsi_ncmi.tiling.tilefile import TiledSlide

TARGET_VECTORS = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
TARGET_MAXIMA = np.array([1.9705, 1.0308])
"""The reference of Macenko et al.'s own program (HERef, maxCRef): haematoxylin, then eosin."""

TARGET_MEAN = np.array([8.74108109, -0.12440419, 0.0444982])
TARGET_STD = np.array([0.6135447, 0.10989545, 0.0286032])
"""lαβ of TCGA-A2-A3XS-DX1 (Amgad et al., Bioinformatics 2019), HistomicsTK's usual target."""

Kind = Literal["macenko", "reinhard"]


class StainNormaliser:
    """Colours of tiles as if all slides had been stained alike; glass keeps its colour.

    `macenko` (ISBI 2009): the optical density is split into the slide's two stains, their 99th
    percentiles are brought to the target's, and the target's stains are mixed again; what lies
    outside the plane of the two is dropped. `reinhard` (IEEE CG&A 2001): mean and standard
    deviation in lαβ are brought to the target's; unlike in the paper it acts on stain alone, fading
    out from an optical density of 0.15 to none.

    Args:
        kind: which; device: where the maps are kept and pixels are expected.
    """

    def __init__(self, kind: Kind, device: torch.device) -> None:
        self.kind, self.device = kind, device
        self._rgb_to_lms = torch.tensor(RGB_TO_LMS, dtype=torch.float32, device=device)
        inverse = np.linalg.inv(RGB_TO_LMS)
        self._lms_to_rgb = torch.tensor(inverse, dtype=torch.float32, device=device)

    def map_of(self, tiles: TiledSlide) -> Tensor:
        """The map of one slide, float32 [3, 4]: a matrix and an offset.

        Raises:
            SlideError: tiling found too little stain on the slide for statistics.
        """
        found = _macenko_map(tiles) if self.kind == "macenko" else _reinhard_map(tiles)
        if found is None:
            raise SlideError(
                f"too little stain for extraction.stain: {self.kind} (the tile file holds no "
                "statistics): leave the slide out, or set extraction.stain: none"
            )
        return torch.tensor(found, dtype=torch.float32, device=self.device)

    def __call__(self, pixels: Tensor, maps: Tensor) -> Tensor:
        """Normalised tiles.

        Args:
            pixels: float [b, 3, h, w] in 0 to 1.
            maps: of one slide [3, 4], or of each tile's slide [b, 3, 4].

        Returns:
            float32 [b, 3, h, w] in 0 to 1.
        """
        light = pixels.float() * 255  # in half precision a logarithm is a grey level off
        change = self._macenko if self.kind == "macenko" else self._reinhard
        return (change(light, maps) / 255).clamp(0, 1)

    def _macenko(self, light: Tensor, maps: Tensor) -> Tensor:
        return GLASS * torch.exp(-_affine(_density(light), maps)) - 1

    def _reinhard(self, light: Tensor, maps: Tensor) -> Tensor:
        lms = _affine(light.clamp(min=1), self._rgb_to_lms)
        changed = _affine(torch.exp(_affine(torch.log(lms), maps)), self._lms_to_rgb)
        stain = (_density(light).mean(dim=1, keepdim=True) / LEAST_DENSITY).clamp(0, 1)
        return light + stain * (changed - light)


def _density(light: Tensor) -> Tensor:
    return -torch.log((light + 1) / GLASS)


def _affine(values: Tensor, maps: Tensor) -> Tensor:
    """Matrix [.., 3, 3 or 4] times channels [b, 3, h, w], plus the fourth column.

    By multiplications and not as a matrix product, which TF32 or autocast would round to ten bits.
    """
    columns = maps[..., None, None].unbind(dim=-3)
    total = sum(values[:, k : k + 1] * columns[k] for k in range(3))
    return total + columns[3] if len(columns) == 4 else total  # type: ignore[return-value]


def _macenko_map(tiles: TiledSlide) -> NDArray[np.float64] | None:
    if tiles.stain_vectors is None or tiles.stain_maxima is None:
        return None
    scale = np.diag(TARGET_MAXIMA / tiles.stain_maxima)
    matrix = TARGET_VECTORS.T @ scale @ np.linalg.pinv(tiles.stain_vectors.T)
    return np.concatenate([matrix, np.zeros((3, 1))], axis=1)


def _reinhard_map(tiles: TiledSlide) -> NDArray[np.float64] | None:
    if tiles.lab_mean is None or tiles.lab_std is None:
        return None
    lab_to_lms = np.linalg.inv(LMS_TO_LAB)
    scale = TARGET_STD / tiles.lab_std
    matrix = lab_to_lms @ np.diag(scale) @ LMS_TO_LAB
    offset = lab_to_lms @ (TARGET_MEAN - scale * tiles.lab_mean)
    return np.concatenate([matrix, offset[:, None]], axis=1)
