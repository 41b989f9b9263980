"""The benchmarks of slides and bags read what they say, and record what they measured."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
import torch

from wsi_ncmi.slides.reader import open_slide

CPU = torch.device("cpu")
TILES = (4, 2)


@pytest.fixture
def made(benchmark: Any) -> ModuleType:
    return benchmark("slides_made")


@pytest.fixture
def pattern(made: ModuleType, tmp_path: Path) -> Any:
    return made.tissue_pattern(1024, tmp_path / "none.tif")


@pytest.mark.parametrize("name", ["camelyon", "native_256", "no_2x"])
def test_a_made_slide_has_its_layout(
    made: ModuleType, pattern: Any, tmp_path: Path, name: str
) -> None:
    layout = made.LAYOUTS[name]
    path = made.write_slide(tmp_path / "slide.tif", layout, pattern, TILES)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[layout.read_level]
        assert tiff.is_bigtiff
        assert (page.tilewidth, page.tilelength) == (layout.tile, layout.tile)
        assert (page.photometric.name, page.subsampling) == ("YCBCR", (2, 2))
        assert page.jpegtables
    with open_slide(path, "native") as slide, openslide.OpenSlide(str(path)) as other:
        assert slide.level_downsamples == [float(d) for d in layout.downsamples]
        assert slide.mpp == pytest.approx(layout.mpp, rel=1e-3)
        pixels = slide.read_region(0, 0, layout.read_level, 512, 512)
        region = other.read_region((0, 0), layout.read_level, (512, 512))
        assert (np.asarray(region)[..., :3] == pixels).all()
    assert np.abs(pixels - pattern.pixels[:512, :512].astype(float)).mean() < 5  # but for the JPEG


def test_content_is_real_where_a_slide_is_there(
    made: ModuleType, pattern: Any, shared_data: Path
) -> None:
    assert pattern.source == "synthetic texture"
    real = made.tissue_pattern(1024, shared_data / "slides" / "oral_scc.tif")
    assert real.source == "blocks of oral_scc.tif"
    assert real.pixels.shape == pattern.pixels.shape == (1024, 1024, 3)
    glass = (real.pixels > 220).all(2).mean()
    assert glass < 0.2


@pytest.mark.parametrize(("offset", "native"), [(0, 8), (100, 8)])
def test_stored_tiles_are_those_that_the_grid_touches(
    made: ModuleType, pattern: Any, tmp_path: Path, offset: int, native: int
) -> None:
    layout = made.LAYOUTS["native_256"]
    path = made.write_slide(tmp_path / "slide.tif", layout, pattern, TILES)
    coords = made.grid(layout, TILES, offset)
    assert len(coords) == (8 if offset == 0 else 3)  # those that would leave the slide are not
    tables, stored = made.stored_tiles(path, layout, coords, 256)
    assert len(stored) == native
    first = imagecodecs.jpeg8_decode(
        stored[0], tables=tables, colorspace="YCBCR", outcolorspace="RGB"
    )
    with open_slide(path, "native") as slide:
        assert (first == slide.read_region(0, 0, 0, 256, 256)).all()


def test_cpu_seconds_are_those_of_children_as_well(benchmark: Any) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    rivals = {
        "busy child": lambda: subprocess.run([sys.executable, "-c", busy], check=True) and None,
        "asleep": lambda: time.sleep(0.1),
    }
    measure = benchmark("measure")
    times = measure.spent(rivals, CPU, rounds=1)
    assert times["busy child"]["cpu_s"] >= 0.3
    assert times["asleep"]["cpu_s"] < 0.1 <= times["asleep"]["wall_s"]
    assert measure.ratio(times, "busy child", "asleep") > 1


def test_read_tiles_records_every_rival(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read_tiles = benchmark("read_tiles")
    cases = {
        "aligned": read_tiles.Case("camelyon", 0, TILES),
        "finer": read_tiles.Case("no_2x", 0, (2, 2)),
    }
    monkeypatch.setattr(read_tiles, "CASES", cases)
    read_tiles.main(["--rounds", "1", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "read_tiles-cpu.json").read_text())
    aligned, finer = found["cases"]["aligned"], found["cases"]["finer"]
    assert (aligned["tiles"], aligned["native_tiles"]) == (8, 2)
    assert (finer["tiles"], finer["native_tiles"]) == (4, 16)
    assert aligned["equal_to_openslide"] == 8
    assert finer["equal_to_openslide"] == 4
    assert "native, half decoding" in finer["tiles_per_cpu_s"]
    assert set(aligned["cpu_ratio"]) >= {"OpenSlide / native", "native / decoding alone"}
    assert set(aligned["two_threads"]["tiles_per_wall_s"]) >= {"native", "OpenSlide"}
    assert found["machine"]["cores"] >= 1


def test_bag_io_records_every_layout(benchmark: Any, tmp_path: Path) -> None:
    bag_io = benchmark("bag_io")
    bag_io.main(["--quick", "--rounds", "1", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "bag_io-cpu.json").read_text())
    assert set(found["bytes"]) == {"ours", "CLAM h5", "CLAM pt", "TRIDENT"}
    assert set(found["ratio"]) == {"write", "read", "read 500 random rows"}
    assert found["ratio"]["read"]["ours"] == 1


def test_bag_io_notices_a_layout_that_gives_back_other_values(
    benchmark: Any, tmp_path: Path
) -> None:
    bag_io = benchmark("bag_io")
    data = bag_io.Data.made(100, 8)
    for write in bag_io.writers(data, tmp_path).values():
        write()
    bag_io.check(bag_io.readers(tmp_path), data.features)
    with pytest.raises(AssertionError, match="ours: other values"):
        bag_io.check(bag_io.readers(tmp_path), data.features + 1)


def test_extract_compares_the_same_features(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    extract, free = benchmark("extract"), benchmark("free_encoder").free_encoder
    monkeypatch.setattr(extract, "encoders", lambda device: {"free": free})
    monkeypatch.setattr(extract, "memory", lambda setting, folder: {"growth": {}})
    arguments = ["--slides", "2", "--side", "2", "--rounds", "1", "--threads", "1"]
    extract.main([*arguments, "--workers", "1", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "extract-cpu.json").read_text())
    free_results = found["encoders"]["free"]
    assert free_results["tiles"] == 8
    assert free_results["least_cosine"] > 0.995  # the resize differs, and float16
    assert set(free_results["ratio"]) == {"ours"}
    assert "tiles/s" in free_results["verdict"]


def test_extract_measures_memory_over_few_and_many_slides(
    benchmark: Any, made: ModuleType, pattern: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    extract = benchmark("extract")
    monkeypatch.setattr(extract, "MEMORY_SLIDES", (1, 2))
    slides = extract.make_slides(tmp_path / "slides", pattern, 2, (2, 2))
    setting = extract.Setting(CPU, 4, threads=1, workers=1, slides=slides)
    found = extract.memory(setting, tmp_path / "bags")
    few, many = found["slides"][1], found["slides"][2]
    assert few["peak_bytes"] >= few["held_bytes"] > 5e7  # Python with torch
    assert found["growth"]["peak_bytes"] == many["peak_bytes"] - few["peak_bytes"]
    assert len(list((tmp_path / "bags").glob("*.h5"))) == 2
