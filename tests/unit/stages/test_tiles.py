import csv
from pathlib import Path

import pytest
from made_stained import TILING, row, write_slide

from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import SlideError
from wsi_ncmi.provenance import fingerprint
from wsi_ncmi.stages.tiles import run
from wsi_ncmi.tiling import tilefile


def manifest_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {line["slide_id"]: line for line in csv.DictReader(file, delimiter="\t")}


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "s1.tif")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "tiles"


def test_a_bucket_survives_every_slide(tmp_path: Path, slide: Path, out: Path) -> None:
    (tmp_path / "broken.svs").write_bytes(b"junk" * 300)
    rows = [
        row(slide, "z_good"),
        row(write_slide(tmp_path / "empty.tif", tissue=False), "empty"),
        row(tmp_path / "broken.svs", "broken"),
        row(tmp_path / "gone.svs", "gone"),
        row(write_slide(tmp_path / "coarse.tif", mpp=4.0), "coarse"),
    ]
    manifest = tmp_path / "manifest.tsv"
    run(rows, TILING, out, manifest, threads=2)
    found = manifest_of(manifest)
    assert list(found) == ["broken", "coarse", "empty", "gone", "z_good"]
    assert {key: line["status"] for key, line in found.items()} == {
        "broken": "unreadable",
        "coarse": "unreadable",
        "empty": "no_tissue",
        "gone": "unreachable",
        "z_good": "ok",
    }
    assert found["gone"]["reason"] == "gone.svs: no such file"
    assert "4 µm/px, coarser than the wanted 1" in found["coarse"]["reason"]
    assert found["empty"]["reason"] == (
        "no tile of 128 µm holds 25% tissue (0.0% of the slide is tissue)"
    )
    assert found["z_good"] == {
        "slide_id": "z_good",
        "status": "ok",
        "reason": "",
        "tiles": "8",
        "mpp": "0.5",
        "mpp_source": "tiff resolution tags",
        "reader": "native",
        "reader_reason": "",
        "level": "1",
        "level_downsample": "2",
        "read_px": "128",
        "residual": found["z_good"]["residual"],
        "unreadable_fraction": "0",
        "note": "",
        "unreachable": "",
        "scale_error_percent": found["z_good"]["scale_error_percent"],
        "width": "2048",
        "height": "1536",
        "fingerprint": fingerprint(slide),
        "digest": tilefile.read(out / "z_good.h5").digest,
    }
    assert abs(float(found["z_good"]["scale_error_percent"])) < 0.01
    assert float(found["z_good"]["residual"]) == pytest.approx(1, rel=1e-4)
    time = manifest.stat().st_mtime_ns
    run(rows[::-1], TILING, out, manifest, threads=1)
    assert manifest.stat().st_mtime_ns == time


def test_the_manifest_is_written_also_where_one_slide_stands_twice(
    tmp_path: Path, slide: Path, out: Path
) -> None:
    (tmp_path / "copy.tif").write_bytes(slide.read_bytes())
    rows = [row(slide, "a"), row(tmp_path / "copy.tif", "b")]
    manifest = tmp_path / "manifest.tsv"
    with pytest.raises(SlideError, match=r"a \(patient p1\), b \(patient p2\)"):
        run(rows, TILING, out, manifest, threads=1, patient_of={"a": "p1", "b": "p2"})
    assert {key: line["tiles"] for key, line in manifest_of(manifest).items()} == {
        "a": "8",
        "b": "8",
    }


def test_real_and_unusual_slides(shared_data: Path, tmp_path: Path) -> None:
    sheet_mpp = {"tcga-cr-7395-01a-01-ts1": 0.5, "kidney-48-5": 1.0}
    unusual = ("broken", "camelyon_dicom_lowres", "kidney-48-5", "small_HE_levels")
    unusual += ("small_dicom", "small_vectra")
    paths = [
        shared_data / "slides" / "CMU-1-Small-Region.svs",
        shared_data / "slides" / "tcga-cr-7395-01a-01-ts1.svs",
        *(path for name in unusual for path in (shared_data / "slides_unusual").glob(f"{name}.*")),
    ]
    rows = [row(path, path.stem, mpp=sheet_mpp.get(path.stem)) for path in paths]
    run(rows, Tiling(mpp=1.0, tile_px=224), tmp_path / "t", tmp_path / "m.tsv", threads=2)
    found = manifest_of(tmp_path / "m.tsv")
    expected = {
        "CMU-1-Small-Region": ("ok", ""),
        "tcga-cr-7395-01a-01-ts1": ("ok", ""),
        "broken": ("unreadable", "no reader opens it"),
        "camelyon_dicom_lowres": ("unreadable", "28.97 µm/px, coarser than the wanted 1"),
        "kidney-48-5": ("no_tissue", "no tile of 224 µm holds 25% tissue"),
        "small_HE_levels": ("unreadable", "states 352.9 µm/px"),
        "small_dicom": ("unreadable", "no reader opens it"),
        "small_vectra": ("unreadable", "not an RGB slide"),
    }
    assert set(found) == set(expected)
    for slide_id, (status, reason) in expected.items():
        assert found[slide_id]["status"] == status
        assert reason in found[slide_id]["reason"]
    assert 10 <= int(found["CMU-1-Small-Region"]["tiles"]) <= 18
    assert 40 <= int(found["tcga-cr-7395-01a-01-ts1"]["tiles"]) <= 55
    assert found["tcga-cr-7395-01a-01-ts1"]["read_px"] == "224"
    assert found["tcga-cr-7395-01a-01-ts1"]["mpp_source"] == "sheet"
