"""OME-XML: the scale of the image that is read, in any unit."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides import open_slide

PIXELS = """<Image ID="Image:{n}"><Pixels ID="Pixels:{n}" DimensionOrder="XYCZT" Type="uint8"
 SizeX="{width}" SizeY="{height}" SizeC="3" SizeZ="1" SizeT="1" {scale}>
 <Channel ID="Channel:{n}:0" SamplesPerPixel="3"/></Pixels></Image>"""


def write(path: Path, *scales: str, **resolution: object) -> Path:
    """An RGB image of 512 x 256; of several scales the last one is that image's."""
    sizes = [(100 + n, 50) for n in range(len(scales) - 1)] + [(512, 256)]
    images = [
        PIXELS.format(n=n, width=width, height=height, scale=scale)
        for n, ((width, height), scale) in enumerate(zip(sizes, scales, strict=True))
    ]
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    text = f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{schema}">{"".join(images)}</OME>'
    tifffile.imwrite(
        path,
        np.full((256, 512, 3), 240, np.uint8),
        photometric="rgb",
        compression="deflate",
        tile=(256, 256),
        description=text.encode(),
        metadata=None,
        **resolution,
    )
    return path


@pytest.mark.parametrize(
    ("scale", "mpp"),
    [
        ('PhysicalSizeX="0.25" PhysicalSizeY="0.25"', 0.25),
        ('PhysicalSizeX="0.25" PhysicalSizeXUnit="µm" PhysicalSizeY="0.25"', 0.25),
        (
            'PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="250" PhysicalSizeYUnit="nm"',
            0.25,
        ),
        (
            'PhysicalSizeX="2.5e-4" PhysicalSizeXUnit="mm" PhysicalSizeY="2.5E-5"'
            ' PhysicalSizeYUnit="cm"',
            0.25,
        ),
        ('PhysicalSizeX="0.25"', 0.25),
    ],
)
@pytest.mark.parametrize("reader", ["auto", "openslide", "tiffslide"])
def test_the_physical_size_in_any_unit(tmp_path: Path, scale: str, mpp: float, reader: str) -> None:
    path = write(tmp_path / "a.ome.tif", 'PhysicalSizeX="3" PhysicalSizeY="3"', scale)
    with open_slide(path, reader) as slide:  # type: ignore[arg-type]
        assert slide.mpp == pytest.approx(mpp)
        assert slide.mpp_source == "OME-XML PhysicalSize"
        assert slide.mpp_problem == ""


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.ome.tif",
        'PhysicalSizeX="0.25" PhysicalSizeY="500" PhysicalSizeYUnit="nm"',
    )
    with pytest.raises(SlideError, match=r"0\.25 µm/px in x, 0\.5 in y \(OME-XML PhysicalSize\)"):
        open_slide(path)


@pytest.mark.parametrize(
    "scale",
    [
        "",
        'PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1" PhysicalSizeYUnit="pixel"',
        'PhysicalSizeX="-1" PhysicalSizeY="none"',
    ],
)
def test_no_physical_size_leaves_the_tags(tmp_path: Path, scale: str) -> None:
    tags = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    with open_slide(write(tmp_path / "a.ome.tif", scale, **tags)) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.5, "tiff resolution tags")
    with pytest.raises(SlideError, match="the file states no µm/px"):
        open_slide(write(tmp_path / "b.ome.tif", scale))


def test_a_file_that_contradicts_itself(tmp_path: Path) -> None:
    tags = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    path = write(tmp_path / "a.ome.tif", 'PhysicalSizeX="5" PhysicalSizeY="5"', **tags)
    with open_slide(path) as slide:
        assert slide.mpp == 5
        assert "5 µm/px (OME-XML PhysicalSize) and 0.5 (tiff" in slide.mpp_problem
        assert "about 10 times as much" in slide.mpp_problem
