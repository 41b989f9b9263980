"""What files say of their light, and files that are no slides: each is refused by its name."""

from pathlib import Path
from typing import Any

import pytest
import tifffile
from made_tiles import paint

from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.brightfield import refuse_other_light

OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">
<Pixels ID="Pixels:0" DimensionOrder="XYCZT"
 Type="uint8" SizeX="512" SizeY="512" SizeC="3" SizeZ="1"
 SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5">
<Channel ID="Channel:0:0" SamplesPerPixel="3" {channel}/></Pixels></Image></OME>"""


def write(path: Path, description: str = "", **tags: Any) -> Path:
    tifffile.imwrite(
        path,
        paint((512, 512)),
        photometric="rgb",
        compression="deflate",
        tile=(256, 256),
        description=description.encode() or None,
        metadata=None,
        resolution=(2e4, 2e4),
        resolutionunit="CENTIMETER",
        **tags,
    )
    return path


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        ('IlluminationType="Epifluorescence"', "IlluminationType Epifluorescence"),
        ('ContrastMethod="Fluorescence" Name="A"', "'A' (ContrastMethod Fluorescence)"),
        ('Fluor="Alexa 488"', "Fluor Alexa 488"),
        ('ExcitationWavelength="488"', "ExcitationWavelength 488"),
        ('Name="DAPI"', "'DAPI' (by its name)"),
    ],
)
def test_fluorescence_by_ome_xml(tmp_path: Path, channel: str, said: str) -> None:
    path = write(tmp_path / "a.ome.tif", OME.format(channel=channel))
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert f"{path}: not a brightfield slide: OME-XML has the fluorescence" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "channel",
    [
        "",
        'Name="RGB"',
        'IlluminationType="Transmitted" ExcitationWavelength="560" Fluor="TL Brightfield"',
        'ContrastMethod="Brightfield" EmissionWavelength="600"',
        'Fluor="TL Brightfield"',
    ],
)
def test_brightfield_by_ome_xml(tmp_path: Path, channel: str) -> None:
    with open_slide(write(tmp_path / "a.ome.tif", OME.format(channel=channel))) as slide:
        assert slide.mpp == pytest.approx(0.5)


def test_a_filter_set_in_an_ndpi(tmp_path: Path) -> None:
    tags = [(271, "s", 0, "Hamamatsu", True), (65451, "f", 1, 622.0, True)]
    for name, refused in (("TRITC 2 (560)", True), ("", False), ("Brightfield", False)):
        extra = [*tags, (65434, "s", 0, name, True)]
        with tifffile.TiffFile(write(tmp_path / "a.tif", extratags=extra)) as tiff:
            pages = [tiff.pages.first]
            if refused:
                with pytest.raises(SlideError, match="channel 'TRITC 2 \\(560\\)' at 622 nm"):
                    refuse_other_light({}, pages, (512, 512))
            else:
                refuse_other_light({}, pages, (512, 512))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("leica.illumination-source", "fluorescence"),
        ("mirax.GENERAL.SLIDE_TYPE", "SLIDE_TYPE_FLUORESCENCE"),
        ("mirax.LAYER_1_LEVEL_0_SECTION.FILTER_NAME", "DAPI"),
        ("zeiss.Information.Image.Dimensions.Channels.Channel:0.Fluor", "Alexa Fluor 488"),
        ("zeiss.Information.Image.Dimensions.Channels.Channel:0.ContrastMethod", "Fluorescence"),
        ("aperio.Excitation Wavelength", "350"),
        (
            "dicom.OpticalPathSequence[0].IlluminationTypeCodeSequence[0].CodeMeaning",
            "Epifluorescence illumination",
        ),
        ("dicom.OpticalPathSequence[0].IlluminationTypeCodeSequence[0].CodeValue", "111743"),
        ("dicom.PhotometricInterpretation", "MONOCHROME2"),
    ],
)
def test_fluorescence_by_properties(key: str, value: str) -> None:
    with pytest.raises(SlideError, match="not a brightfield slide") as caught:
        refuse_other_light({"openslide.vendor": "x", key: value}, [], (512, 512))
    assert key in str(caught.value)
    assert value in str(caught.value)


def test_brightfield_by_properties() -> None:
    properties = {
        "leica.illumination-source": "brightfield",
        "mirax.GENERAL.SLIDE_TYPE": "SLIDE_TYPE_BRIGHTFIELD",
        "mirax.LAYER_1_LEVEL_0_SECTION.FILTER_NAME": "Default",
        "hamamatsu.AHEX[0].fluorescence": "000F0107",
        "hamamatsu.colorfilterID": "1",
        "aperio.Filename": "DAPI-FITC",
        "aperio.Filtered": "5",
        "aperio.Excitation Wavelength": "0",
        "dicom.PhotometricInterpretation": "YBR_FULL_422",
        "zeiss.Channel:0.ExcitationWavelength": "545",
        "zeiss.Channel:0.IlluminationType": "Transmitted",
    }
    refuse_other_light(properties, [], (512, 512))


def test_a_vsi_is_the_photo_of_its_label(tmp_path: Path) -> None:
    path = write(tmp_path / "a.VSI")
    with pytest.raises(SlideError, match=r"without its pixels: they lie in \.ets files in .*_a_"):
        open_slide(path, mpp=0.5)
    (tmp_path / "_a_" / "stack1").mkdir(parents=True)
    (tmp_path / "_a_" / "stack1" / "frame_t.ets").write_bytes(b"SIS")
    with pytest.raises(SlideError, match=r"no reader here decodes: export it as an OME-TIFF"):
        open_slide(path, mpp=0.5)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.svs",
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "it is not the slide but a Git LFS pointer: fetch the slide by `git lfs pull`",
        ),
        ("a.svs", "/annex/objects/SHA256E-s1--0.svs\n", "a git-annex pointer"),
        ("a.tif", "\n<!DOCTYPE html><html>", "a web page: its download failed"),
        ("a.ndpis", "[NanoZoomer Digital Pathology Image Set]", "lists NDPI files"),
        ("a.afi", "<ImageList/>", "lists SVS files"),
    ],
)
def test_what_is_no_slide(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SlideError) as caught:
        open_slide(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert said in str(caught.value)


def test_real_slides_that_are_not_brightfield(shared_data: Path) -> None:
    folder = shared_data / "slides_unusual"
    with pytest.raises(SlideError, match=r"fluorescence channel 'TRITC 2 \(560\)' at 622 nm"):
        open_slide(folder / "fluorescence_tritc.ndpi")
    with pytest.raises(SlideError, match="an Olympus VSI without its pixels"):
        open_slide(folder / "vsi_label_only.vsi", mpp=0.5)
