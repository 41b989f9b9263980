import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile

from wsi_ncmi.errors import SlideError
from wsi_ncmi.provenance import fingerprint, sha256_file
from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.backends import on_white
from wsi_ncmi.slides.reader import ReaderName, slide_fingerprint, slide_sha256

WritePyramid = Callable[..., Path]
READERS: tuple[ReaderName, ...] = ("native", "openslide", "tiffslide")


@pytest.mark.parametrize("reader", READERS)
def test_metadata_and_pixels(
    write_pyramid: WritePyramid, smooth_image: np.ndarray, reader: ReaderName
) -> None:
    path = write_pyramid(smooth_image)
    with open_slide(path, reader) as slide:
        assert slide.reader == reader
        assert slide.mpp == pytest.approx(0.5, rel=1e-4)
        assert slide.dimensions == (800, 600)
        assert slide.level_count == 3
        assert slide.level_dimensions == [(800, 600), (400, 300), (200, 150)]
        assert slide.level_downsamples == [1.0, 2.0, 4.0]
        assert slide.fingerprint == fingerprint(path)
        region = slide.read_region(300, 200, 0, 150, 100)
        np.testing.assert_array_equal(region, smooth_image[200:300, 300:450])
        # x, y stay level-0 pixels at every level.
        level1 = smooth_image.reshape(300, 2, 400, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
        region = slide.read_region(300, 200, 1, 50, 40)
        np.testing.assert_array_equal(region, level1[100:140, 150:200])


@pytest.mark.parametrize("reader", READERS)
def test_outside_is_white(
    write_pyramid: WritePyramid, smooth_image: np.ndarray, reader: ReaderName
) -> None:
    with open_slide(write_pyramid(smooth_image), reader) as slide:
        region = slide.read_region(-10, -20, 0, 60, 50)
        assert region.shape == (50, 60, 3)
        assert (region[:20] == 255).all()
        assert (region[:, :10] == 255).all()
        np.testing.assert_array_equal(region[20:, 10:], smooth_image[:30, :50])
        assert (slide.read_region(780, 0, 0, 40, 10)[:, 20:] == 255).all()
        assert (slide.read_region(5000, 5000, 2, 8, 8) == 255).all()
        with pytest.raises(ValueError, match="no region of 8 x 8 at level 3"):
            slide.read_region(0, 0, 3, 8, 8)


def test_levels_of_odd_size_agree_between_readers(write_pyramid: WritePyramid) -> None:
    y, x = np.mgrid[0:603, 0:805]
    image = np.stack([x // 4, y // 3, (x + y) // 6], axis=2).astype(np.uint8)
    path = write_pyramid(image)
    with open_slide(path, "openslide") as first, open_slide(path, "tiffslide") as second:
        assert first.level_downsamples == pytest.approx(second.level_downsamples)
        for x0, y0 in ((0, 0), (401, 301), (333, 77)):
            a = first.read_region(x0, y0, 2, 40, 30).astype(int)
            b = second.read_region(x0, y0, 2, 40, 30).astype(int)
            assert np.abs(a - b).max() <= 1  # OpenSlide interpolates between pixels


@pytest.mark.parametrize("reader", READERS)
def test_threads_read_what_one_reads(
    write_pyramid: WritePyramid, smooth_image: np.ndarray, reader: ReaderName
) -> None:
    corners = [(x, y) for y in range(0, 500, 50) for x in range(0, 700, 50)]
    with open_slide(write_pyramid(smooth_image), reader) as slide, ThreadPoolExecutor(8) as pool:
        regions = list(pool.map(lambda at: slide.read_region(*at, 0, 100, 100), corners))
    for (x, y), region in zip(corners, regions, strict=True):
        np.testing.assert_array_equal(region, smooth_image[y : y + 100, x : x + 100])


@pytest.mark.parametrize("reader", READERS)
def test_a_broken_tile_breaks_only_itself(
    write_pyramid: WritePyramid, smooth_image: np.ndarray, reader: ReaderName
) -> None:
    path = write_pyramid(smooth_image)
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\xff" * count
    path.write_bytes(content)
    with open_slide(path, reader) as slide:
        for _ in range(2):
            with pytest.raises(SlideError, match=rf"slide\.tif: {reader} cannot read 10 x 10"):
                slide.read_region(0, 0, 0, 10, 10)
            region = slide.read_region(400, 300, 0, 100, 100)
            np.testing.assert_array_equal(region, smooth_image[300:400, 400:500])


def test_thumbnail_is_the_area_mean(write_pyramid: WritePyramid, smooth_image: np.ndarray) -> None:
    with open_slide(write_pyramid(smooth_image)) as slide:
        thumbnail, mpp, readable = slide.thumbnail(5.0)
        assert readable.all()
        assert mpp == pytest.approx(5.0, rel=1e-4)
        expected = smooth_image.reshape(60, 10, 80, 10, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(thumbnail, expected, atol=1.6)  # each level is rounded down
        whole, mpp, _ = slide.thumbnail(0.1)  # never enlarged
        np.testing.assert_array_equal(whole, smooth_image)
        assert mpp == slide.mpp
        assert slide.thumbnail(3.0)[0].shape == (100, 133, 3)


def test_transparency_is_white() -> None:
    pixels = np.array([[[200, 0, 100, 255], [200, 0, 100, 0], [200, 0, 100, 51]]], np.uint8)
    assert on_white(pixels).tolist() == [[[200, 0, 100], [255, 255, 255], [244, 204, 224]]]


def test_rgba_file_through_tiffslide(write_pyramid: WritePyramid) -> None:
    image = np.zeros((200, 200, 4), np.uint8)
    image[:100, :, 3] = 255
    path = write_pyramid(image, levels=1, extrasamples=["unassalpha"])
    with open_slide(path, "tiffslide") as slide:
        region = slide.read_region(0, 0, 0, 200, 200)
    assert (region[:100] == 0).all()
    assert (region[100:] == 255).all()


def test_flat_tiff_falls_back_to_tiffslide(
    write_pyramid: WritePyramid, smooth_image: np.ndarray
) -> None:
    path = write_pyramid(smooth_image, levels=1, tile=None)
    with open_slide(path) as slide:
        assert slide.reader == "tiffslide"
        assert slide.mpp_source == "tiffslide.mpp-x"
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 800, 600), smooth_image)
    with pytest.raises(SlideError, match=r"no reader opens it \(openslide: "):
        open_slide(path, "openslide")


@pytest.mark.parametrize(
    ("image", "options", "found"),
    [
        (np.zeros((256, 256, 1), np.uint8), {"photometric": "minisblack"}, "1 image|1 channel"),
        (np.zeros((256, 256, 3), np.uint16), {}, r"3 channel\(s\) of uint16, stored as RGB"),
    ],
)
def test_other_than_8_bit_rgb_is_refused(
    write_pyramid: WritePyramid, image: np.ndarray, options: dict[str, str], found: str
) -> None:
    path = write_pyramid(image, levels=1, **options)
    with pytest.raises(SlideError, match=rf"slide\.tif: not an RGB slide: {found}"):
        open_slide(path)


def test_no_scale_and_absurd_scale(write_pyramid: WritePyramid, smooth_image: np.ndarray) -> None:
    path = write_pyramid(smooth_image, mpp=None, resolutionunit="INCH")
    with pytest.raises(SlideError, match=r"slide\.tif: the file states no µm/px"):
        open_slide(path)
    with open_slide(path, mpp=0.4) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.4, "sheet")
    path = write_pyramid(smooth_image, mpp=352.8)
    with pytest.raises(SlideError, match=r"states 352\.8 µm/px \(tiff resolution tags\)"):
        open_slide(path)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"gone\.svs: no such file"):
        open_slide(tmp_path / "gone.svs")
    (tmp_path / "broken.svs").write_bytes(b"nothing of a slide" * 50)
    with pytest.raises(SlideError, match=r"no reader opens it \(openslide: .*; tiffslide: .*\)"):
        open_slide(tmp_path / "broken.svs")
    # A TIFF header with nothing behind it, and a truncated directory.
    (tmp_path / "short.tif").write_bytes(b"II*\x00\x08\x00\x00\x00\xff\xff")
    with pytest.raises(
        SlideError, match=r"short\.tif: its TIFF tags cannot be read .*fetch it again"
    ):
        open_slide(tmp_path / "short.tif")


def test_remote_slide(write_pyramid: WritePyramid, smooth_image: np.ndarray) -> None:
    path = write_pyramid(smooth_image)
    address = "memory://bucket/slide.tif"
    with fsspec.open(address, "wb") as file:
        file.write(path.read_bytes())
    with open_slide(address) as slide:
        assert slide.reader == "tiffslide"
        region = slide.read_region(100, 100, 0, 50, 50)
        np.testing.assert_array_equal(region, smooth_image[100:150, 100:150])
        assert len(slide.fingerprint) == 32
    assert slide_sha256(address) == sha256_file(path)
    with fsspec.open(address, "wb") as file:
        file.write(path.read_bytes() + b"more")
    assert slide_fingerprint(address) != slide.fingerprint
    with pytest.raises(SlideError, match="reads no remote addresses"):
        open_slide(address, "openslide")
    with pytest.raises(SlideError, match=r"memory://gone\.tif: no such file"):
        slide_fingerprint("memory://gone.tif")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"class": "no_such_module.GCS", "err": "Please install gcsfs"}
    registry = importlib.import_module("fsspec.registry")  # the name is a mapping in fsspec
    monkeypatch.setitem(registry.known_implementations, "gs", missing)
    monkeypatch.delitem(registry._registry, "gs", raising=False)
    with pytest.raises(SlideError, match=r"gs://b/a\.tif: .*missing: Please install gcsfs"):
        open_slide("gs://b/a.tif")


def test_real_slides(shared_data: Path) -> None:
    with open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        assert (slide.mpp, slide.mpp_source) == (0.499, "openslide.mpp-x")
        assert slide.dimensions == (2220, 2967)
    with open_slide(shared_data / "slides_unusual" / "kidney-48-5.tif", mpp=1.0) as slide:
        assert (slide.reader, slide.dimensions) == ("tiffslide", (1493, 901))
    with pytest.raises(SlideError, match="not an RGB slide"):
        open_slide(shared_data / "slides_unusual" / "small_vectra.qptiff")
    with pytest.raises(SlideError, match="states no µm/px"):
        open_slide(shared_data / "slides" / "tcga-cr-7395-01a-01-ts1.svs")


def test_planar_rgb_that_no_reader_opens_says_what_it_is(tmp_path: Path) -> None:
    planes = np.moveaxis(np.full((256, 256, 3), 240, np.uint8), 2, 0)
    options = {"photometric": "rgb", "planarconfig": "separate", "metadata": None}
    tifffile.imwrite(tmp_path / "strips.tif", planes, rowsperstrip=64, **options)
    with pytest.raises(SlideError, match=r"planar RGB \(PlanarConfiguration 2\), .* `tiffcp"):
        open_slide(tmp_path / "strips.tif", mpp=0.5)
    tifffile.imwrite(tmp_path / "tiles.tif", planes, tile=(128, 128), **options)
    with open_slide(tmp_path / "tiles.tif", mpp=0.5) as slide:
        assert slide.reader == "openslide"
        assert slide.reader_reason == "planar RGB (PlanarConfiguration 2)"
        assert (slide.read_region(0, 0, 0, 256, 256) == 240).all()


@pytest.mark.parametrize("layout", [{"tile": (128, 128)}, {"rowsperstrip": 64}])
def test_old_style_jpeg_is_refused(tmp_path: Path, layout: dict[str, Any]) -> None:
    image = np.full((256, 256, 3), 240, np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="ycbcr", compression="jpeg", metadata=None, **layout)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["Compression"].overwrite(6)
    with pytest.raises(SlideError, match=r"a\.tif: old-style JPEG \(TIFF compression 6\)"):
        open_slide(path, mpp=0.5)
