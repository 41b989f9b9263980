"""What a file itself says of its light: fluorescence is refused by name, whatever it looks like."""

import re
from collections.abc import Mapping, Sequence

import tifffile

from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides.ome import ome_image

NDPI_FILTER_SET, NDPI_WAVELENGTH = 65434, 65451
"""Tags of Hamamatsu's: name of the filter set, emission in nm. Brightfield slides lack them."""

FLUORESCENCE = re.compile("fluoresc", re.IGNORECASE)
TRANSMITTED = re.compile(r"bright|transmit|\bTL\b|\bRGB\b", re.IGNORECASE)
FLUOROPHORE = re.compile(
    r"\b(dapi|hoechst|fitc|tritc|cy ?-?[2357](\.5)?|alexa ?(fluor)? ?\d*|e?[cgy]fp|rfp|mcherry|"
    r"texas ?red|rhodamine|opal ?\d+|sp(ectrum)? ?(green|orange|aqua|red|gold)|autofluorescence)\b",
    re.IGNORECASE,
)

DESCRIBING = re.compile(
    r"illumination|contrast.?method|acquisition.?mode|slide.?type|scan.?type|imaging.?mode", re.I
)
"""Keys of properties that say by what light a slide was scanned."""

FILTER = re.compile(r"filter.?(set|name)|fluorophore|\bfluor$|\bdye\b|channel.?name", re.I)
EXCITATION = re.compile(r"excitation.?(wave.?length|wl)", re.I)
DICOM_EPIFLUORESCENCE = "111743"
"""CodeValue of DICOM's context group 8123."""


def refuse_other_light(
    properties: Mapping[str, str], pages: Sequence[tifffile.TiffPage], size: tuple[int, int]
) -> None:
    """Refuse what the metadata call anything but brightfield.

    Args:
        properties: the reader's.
        pages: of the file, if it is a TIFF.
        size: (width, height) of level 0.

    Raises:
        SlideError: with what the file says.
    """
    found = _by_ndpi(pages) or _by_ome(pages, size) or _by_properties(properties)
    if found:
        raise SlideError(
            f"not a brightfield slide: {found}; fluorescence cannot be used, expected a stained "
            "slide in transmitted light"
        )


def _by_ndpi(pages: Sequence[tifffile.TiffPage]) -> str:
    if not pages or not str(pages[0].tags.valueof("Make", "")).startswith("Hamamatsu"):
        return ""
    stated = pages[0].tags.valueof(NDPI_FILTER_SET)
    name = stated.strip("\0 ") if isinstance(stated, str) else ""
    wavelength = pages[0].tags.valueof(NDPI_WAVELENGTH, 0)
    if not name or TRANSMITTED.search(name):
        return ""
    return f"fluorescence channel {name!r}" + (f" at {wavelength:g} nm" if wavelength else "")


def _by_ome(pages: Sequence[tifffile.TiffPage], size: tuple[int, int]) -> str:
    image = ome_image(pages, size)
    for channel in image.channels if image else ():
        light = [channel.get(key, "") for key in ("IlluminationType", "ContrastMethod")]
        if any(TRANSMITTED.search(text) for text in light):
            continue
        stated = {
            key: channel[key]
            for key in ("IlluminationType", "ContrastMethod", "Fluor", "ExcitationWavelength")
            if channel.get(key)
        }
        name = channel.get("Name", "")
        is_fluorescent = (
            any(FLUORESCENCE.search(text) for text in light)
            or FLUOROPHORE.search(name)
            or "ExcitationWavelength" in stated
            or ("Fluor" in stated and not TRANSMITTED.search(stated["Fluor"]))
        )
        if is_fluorescent:
            said = ", ".join(f"{key} {value}" for key, value in stated.items())
            return f"OME-XML has the fluorescence channel {name!r} ({said or 'by its name'})"
    return ""


def _by_properties(properties: Mapping[str, str]) -> str:
    lights = {key: text for key, text in properties.items() if DESCRIBING.search(key)}
    for key, text in lights.items():
        is_code = key.endswith("CodeValue") and text == DICOM_EPIFLUORESCENCE
        if FLUORESCENCE.search(text) or is_code:
            return f"{key} says {text!r}"
    if any(TRANSMITTED.search(text) for text in lights.values()):
        return ""
    for key, text in properties.items():
        if FILTER.search(key) and (FLUOROPHORE.search(text) or FLUORESCENCE.search(text)):
            return f"{key} says {text!r}"
        if EXCITATION.search(key) and text.strip(" 0."):
            return f"{key} says {text!r}"
    if properties.get("dicom.PhotometricInterpretation", "").startswith(("MONO", "PALETTE")):
        return f"dicom.PhotometricInterpretation {properties['dicom.PhotometricInterpretation']}"
    return ""
