import pytest

from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides.spacing import choose_spacing


def test_readers_properties_come_first() -> None:
    properties = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.251", "aperio.MPP": "0.5"}
    spacing = choose_spacing("a.svs", properties, (1.0, 1.0), None)
    assert spacing.mpp == pytest.approx(0.2505)
    assert spacing.source == "openslide.mpp-x"


def test_vendor_key_then_tags() -> None:
    assert choose_spacing("a", {"aperio.MPP": "0,499"}, (1.0, 1.0), None).mpp == 0.499
    spacing = choose_spacing("a", {"aperio.MPP": "unknown"}, (0.3, 0.3), None)
    assert (spacing.mpp, spacing.source) == (0.3, "tiff resolution tags")


def test_generic_tiff_names_the_tags() -> None:
    properties = {"openslide.vendor": "generic-tiff", "openslide.mpp-x": "0.5"}
    assert choose_spacing("a", properties, None, None).source == "tiff resolution tags"


def test_sheet_overrides_and_says_what_the_file_said() -> None:
    spacing = choose_spacing("a", {"openslide.mpp-x": "0.25"}, None, 0.5)
    assert (spacing.mpp, spacing.source) == (0.5, "sheet (file says 0.25)")
    assert choose_spacing("a", {}, None, 0.5).source == "sheet"
    # An absurd or oblong file value is no obstacle then.
    assert choose_spacing("a", {}, (352.8, 1.0), 0.5).mpp == 0.5


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (None, r"a\.tif: the file states no µm/px: give it in the slide sheet's column 'mpp'"),
        ((352.8, 352.8), r"states 352\.8 µm/px \(tiff resolution tags\), expected 0\.05 to 50"),
        ((0.01, 0.01), "states 0.01 µm/px"),
        ((0.25, 0.26), r"not square: 0\.25 µm/px in x, 0\.26 in y"),
    ],
)
def test_refusals(tags: tuple[float, float] | None, message: str) -> None:
    with pytest.raises(SlideError, match=message):
        choose_spacing("a.tif", {}, tags, None)
