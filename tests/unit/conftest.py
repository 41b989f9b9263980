"""Tiny pyramids of known content and µm/px; a small cohort of bags, see `made_bags`."""

import importlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile
from made_bags import cache_folder, splits  # noqa: F401
from made_slides import Made, write_slide

WritePyramid = Callable[..., Path]


@pytest.fixture
def benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of benchmarks/ by its name, whatever else has that name."""
    folder = root / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))

    def imported(name: str) -> ModuleType:
        known = sys.modules.get(name)
        if known is not None and Path(known.__file__ or "").parent != folder:
            monkeypatch.delitem(sys.modules, name)
        return importlib.import_module(name)

    return imported


@pytest.fixture
def smooth_image() -> np.ndarray:
    """uint8 [600, 800, 3]: gradients, so that a shift by one pixel is seen."""
    y, x = np.mgrid[0:600, 0:800]
    return np.stack([x * 255 / 800, y * 255 / 600, (x + y) * 255 / 1400], axis=2).astype(np.uint8)


@pytest.fixture
def write_pyramid(tmp_path: Path) -> WritePyramid:
    """Write a tiled pyramid of 2x levels, lossless unless asked otherwise."""

    def write(
        image: np.ndarray,
        name: str = "slide.tif",
        levels: int = 3,
        mpp: float | None = 0.5,
        **options: object,
    ) -> Path:
        path = tmp_path / name
        options = {"photometric": "rgb", "compression": "deflate", "tile": (128, 128)} | options
        if mpp is not None:
            options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
        with tifffile.TiffWriter(path) as tiff:
            for level in range(levels):
                factor = 2**level
                h, w = image.shape[0] // factor, image.shape[1] // factor
                part = image[: h * factor, : w * factor].reshape(h, factor, w, factor, -1)
                tiff.write(
                    part.mean(axis=(1, 3)).astype(image.dtype).squeeze(),
                    subfiletype=int(level > 0),
                    **options,
                )
        return path

    return write


@pytest.fixture(scope="session")
def made_slide(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Made], Path]:
    """The path of a made-up slide, written once."""
    folder = tmp_path_factory.mktemp("made")

    @cache
    def write(made: Made) -> Path:
        return write_slide(
            folder / f"{made.name}{'.svs' if made.vendor == 'aperio' else '.tif'}", made
        )

    return write
