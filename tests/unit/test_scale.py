"""benchmarks/scale.py: what it makes, and what it takes of a process."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from wsi_ncmi.bags.foreign.packed import PackedFile
from wsi_ncmi.cohorts.sheet import read_sheet
from wsi_ncmi.config import parse
from wsi_ncmi.slides.reader import open_slide


@pytest.fixture
def scale(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("scale")


def test_slides_at_addresses_need_not_be_there(scale: ModuleType, tmp_path: Path) -> None:
    name = scale.of_slides(tmp_path, "many", 20, 999, "s3://nowhere/{}.tif")
    config = parse(yaml.safe_load((tmp_path / name).read_text()))
    rows, problems = read_sheet(tmp_path / "many.tsv", need_path=True)
    assert (config.buckets, len(rows), problems) == (999, 20, [])
    assert len({row.patient_id for row in rows}) == 4


def test_slides_and_bags_of_which_one_in_ten_is_none(scale: ModuleType, tmp_path: Path) -> None:
    place = scale.write_slides(tmp_path / "slides", 10)
    assert open_slide(Path(place.format(8))).mpp == pytest.approx(scale.MPP)
    assert Path(place.format(9)).read_text() == "no slide 9"
    parse(yaml.safe_load((tmp_path / scale.of_bags(tmp_path, "bags", 20)).read_text()))
    packed = PackedFile(tmp_path / "bags.h5")
    assert set(packed.slide_ids) == {f"s{i}" for i in range(20)} - {"s9", "s19"}


def test_what_a_process_takes(scale: ModuleType, tmp_path: Path) -> None:
    code = "print('total   12'); kept = bytearray(60_000_000)"
    taken, text = scale.measured([sys.executable, "-c", code], tmp_path)
    assert scale.jobs_in(text) == 12
    assert taken["wall_s"] > 0
    assert 60 < taken["peak_mb"] < 150  # not that of this process
    with pytest.raises(SystemExit, match="failed\nwhy"):
        scale.measured([sys.executable, "-c", "raise SystemExit('why')"], tmp_path)
