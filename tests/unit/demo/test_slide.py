"""Written slides: what OpenSlide sees, equal bytes, and what is not written twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from wsi_ncmi.demo.design import Centre, DemoSlide, design_slide
from wsi_ncmi.demo.shapes import diameter
from wsi_ncmi.demo.slide import is_written, write_pyramid, write_slide
from wsi_ncmi.provenance import sha256_file
from wsi_ncmi.tiling.asap import read_asap


def _slide(folder: Path, label: str = "itc") -> DemoSlide:
    return design_slide(5, folder, "test_0", "patient", label, Centre("centre_1", 1, 5))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> DemoSlide:
    slide = _slide(tmp_path_factory.mktemp("slides"))
    assert write_slide(slide)
    return slide


def test_openslide_reads_levels_and_scale(written: DemoSlide) -> None:
    with openslide.OpenSlide(written.path) as slide:
        assert slide.dimensions == (written.width, written.height)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(written.mpp, rel=1e-6)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(written.mpp, rel=1e-6)
        assert slide.properties["openslide.level[0].tile-width"] == "512"
        np.testing.assert_allclose(slide.level_downsamples, [1, 2, 4, 8], rtol=0.01)
        assert max(slide.level_dimensions[-1]) <= 512


def test_stored_as_slide_scanners_do(written: DemoSlide) -> None:
    with tifffile.TiffFile(written.path) as file:
        page = file.pages.first
        assert (page.photometric.name, page.compression.name) == ("YCBCR", "JPEG")
        assert page.tags["YCbCrSubSampling"].value == (2, 2)


def test_levels_show_the_same_picture(tmp_path: Path) -> None:
    y, x = np.mgrid[:1100, :1300]
    image = np.stack([x // 6, y // 5, 255 - x // 6], axis=2).clip(0, 255).astype(np.uint8)
    write_pyramid(tmp_path / "a.tif", image, 2.0, "")
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        for level in range(slide.level_count):
            read = slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB")
            step = 2**level
            wanted = image[step // 2 :: step, step // 2 :: step].astype(int)
            found = np.asarray(read).astype(int)[: len(wanted), : wanted.shape[1]]
            error = np.abs(found - wanted[: len(found), : found.shape[1]])
            assert error.mean() < 3


def test_annotation_lies_beside_it(written: DemoSlide) -> None:
    assert written.annotation
    sizes = [diameter(a.points) * written.mpp for a in read_asap(written.annotation)]
    np.testing.assert_allclose(sizes, written.lesions_um, atol=0.01)


def test_equal_plans_give_equal_bytes(written: DemoSlide, tmp_path: Path) -> None:
    again = replace(written, folder=tmp_path)
    assert write_slide(again)
    assert again.annotation
    assert written.annotation
    assert sha256_file(again.path) == sha256_file(written.path)
    assert again.annotation.read_bytes() == written.annotation.read_bytes()


def test_a_written_slide_is_left_alone_until_its_plan_changes(written: DemoSlide) -> None:
    before = written.path.stat().st_mtime_ns
    assert not write_slide(written)
    assert written.path.stat().st_mtime_ns == before
    assert not is_written(replace(written, dense=0.123))


@pytest.mark.parametrize("damage", ["no slide", "no annotation", "not a slide"])
def test_what_is_missing_or_damaged_is_not_taken_for_written(
    written: DemoSlide, tmp_path: Path, damage: str
) -> None:
    copy = replace(written, folder=tmp_path)
    assert copy.annotation
    assert written.annotation
    copy.annotation.write_bytes(written.annotation.read_bytes())
    copy.path.write_bytes(written.path.read_bytes())
    assert is_written(copy)
    if damage == "not a slide":
        copy.path.write_bytes(b"half")
    else:
        (copy.path if damage == "no slide" else copy.annotation).unlink()
    assert not is_written(copy)


def test_broken_slide_is_opened_by_no_reader(tmp_path: Path) -> None:
    slide = replace(_slide(tmp_path, "macro"), lesions_um=(), defect="unreadable")
    assert write_slide(slide)
    assert not write_slide(slide)
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(slide.path)
    with tifffile.TiffFile(slide.path) as file:
        assert len(file.pages) == 0
