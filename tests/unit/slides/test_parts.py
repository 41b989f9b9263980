"""Slides of several files: which files they are, and that a change of any of them is noticed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_dicom import EXPLICIT, IMPLICIT, write_dicom

from wsi_ncmi.errors import SlideError
from wsi_ncmi.provenance import fingerprint
from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.dicom_header import series_of
from wsi_ncmi.slides.parts import slide_files
from wsi_ncmi.slides.reader import slide_fingerprint

Make = Callable[[Path], Path]

SLIDEDAT = """\ufeff[GENERAL]
SLIDE_NAME = 100 % of it
[HIERARCHICAL]
INDEXFILE = Index.dat
[DATAFILE]
FILE_COUNT = 2
FILE_0 = Data0000.dat
FILE_1 = Data0001.dat
"""
VMS = """[Virtual Microscope Specimen]
NoLayers=1
ImageFile=a.jpg
ImageFile(1,0)=a(1,0).jpg
MapFile=a_map.jpg
OptimisationFile=a.opt
AuthCode=1234
"""
OME = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Image ID="Image:0"><Pixels ID="Pixels:0" SizeX="64" SizeY="64" SizeC="3" SizeZ="1" SizeT="1"
 Type="uint8" DimensionOrder="XYZCT"><TiffData><UUID FileName="a.ome.tif">urn:uuid:1</UUID>
</TiffData><TiffData><UUID FileName="b.ome.tif">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>
"""


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def mirax(folder: Path) -> Path:
    fill(folder, "a.mrxs", "a/Index.dat", "a/Data0000.dat", "a/Data0001.dat", "a/Thumbs.db")
    (folder / "a" / "Slidedat.ini").write_text(SLIDEDAT)
    return folder / "a.mrxs"


def hamamatsu(folder: Path) -> Path:
    fill(folder, "a.jpg", "a(1,0).jpg", "a_map.jpg", "a.opt", "b.jpg")
    (folder / "a.vms").write_text(VMS)
    return folder / "a.vms"


def olympus(folder: Path) -> Path:
    fill(folder, "a.vsi", "_a_/stack1/frame_t.ets", "_a_/stack10001/frame_t.ets", "_b_/x.ets")
    return folder / "a.vsi"


def ome(folder: Path) -> Path:
    fill(folder, "b.ome.tif", "c.ome.tif")
    tifffile.imwrite(
        folder / "a.ome.tif",
        np.zeros((64, 64, 3), np.uint8),
        description=OME.encode(),
        metadata=None,
        bigtiff=True,
        ome=False,
    )
    return folder / "a.ome.tif"


def dicom(folder: Path) -> Path:
    for name, series in (("l0", "1.2.3"), ("l1.dcm", "1.2.3"), ("other.dcm", "1.2.4")):
        write_dicom(folder / name, series, content=name.encode())
    fill(folder, "notes.txt", "l2.svs", "short.dcm")
    (folder / "folder").mkdir()
    return folder / "l0"


@pytest.mark.parametrize(
    ("make", "others"),
    [
        (mirax, ["a/Data0000.dat", "a/Data0001.dat", "a/Index.dat", "a/Slidedat.ini"]),
        (hamamatsu, ["a(1,0).jpg", "a.jpg", "a.opt", "a_map.jpg"]),
        (olympus, ["_a_/stack1/frame_t.ets", "_a_/stack10001/frame_t.ets"]),
        (ome, ["b.ome.tif"]),
        (dicom, ["l1.dcm"]),
    ],
)
def test_the_files_and_that_each_is_watched(tmp_path: Path, make: Make, others: list[str]) -> None:
    path = make(tmp_path)
    assert slide_files(path) == [path, *(tmp_path / name for name in others)]
    before = slide_fingerprint(str(path))
    for name in others:
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(kept + b"\n#")
        assert slide_fingerprint(str(path)) != before, name
        (tmp_path / name).write_bytes(kept)
    assert slide_fingerprint(str(path)) == before
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    shutil.copytree(tmp_path, moved)
    assert slide_fingerprint(str(moved / path.name)) == before


@pytest.mark.parametrize("make", [mirax, hamamatsu, ome])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path)
    gone = slide_files(path)[1]
    gone.unlink()
    expected = f"{gone.relative_to(tmp_path)} beside it cannot be found: copy all of its files"
    for use in (slide_fingerprint, open_slide):
        with pytest.raises(SlideError) as caught:
            use(str(path))
        assert expected in str(caught.value)


def test_a_dicom_slide_is_the_same_whichever_of_its_files_is_named(tmp_path: Path) -> None:
    first = dicom(tmp_path)
    before = slide_fingerprint(str(first))
    assert slide_fingerprint(str(tmp_path / "l1.dcm")) == before
    (tmp_path / "l1.dcm").rename(tmp_path / "renamed.dcm")
    assert slide_fingerprint(str(first)) == before
    write_dicom(tmp_path / "l2.dcm", "1.2.3")
    assert slide_fingerprint(str(first)) != before
    (tmp_path / "l2.dcm").unlink()
    (tmp_path / "renamed.dcm").unlink()
    assert slide_fingerprint(str(first)) == fingerprint(first)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_the_series_of_a_dicom_file(tmp_path: Path, syntax: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", "1.2.840.77", syntax)
    assert series_of(path) == "1.2.840.77"
    whole = path.read_bytes()
    for size in range(len(whole) - 20):
        path.write_bytes(whole[:size])
        assert "1.2.840.77".startswith(series_of(path))


def test_a_slide_of_one_file_keeps_its_identity(tmp_path: Path) -> None:
    fill(tmp_path, "a.svs", "a/Slidedat.ini", "b.svs")
    write_dicom(tmp_path / "c.dcm", "1.2.3")
    for name in ("a.svs", "c.dcm"):
        assert slide_files(tmp_path / name) == [tmp_path / name]
        assert slide_fingerprint(str(tmp_path / name)) == fingerprint(tmp_path / name)
