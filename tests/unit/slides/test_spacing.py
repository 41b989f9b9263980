"""The scale of a slide: whose statement counts, and what contradicts it."""

from typing import Any

import pytest

from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides.spacing import Spacing, choose_spacing, objective_power, stated_spacings

Pair = tuple[float, float] | None


def chosen(
    properties: dict[str, str] | None = None,
    tags: Pair = None,
    sheet: float | None = None,
    ome: Pair = None,
) -> Spacing:
    given = properties or {}
    stated = stated_spacings(given, tags, ome)
    return choose_spacing("a.tif", stated, sheet, objective_power(given))


def test_readers_properties_come_first() -> None:
    properties = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.251", "aperio.MPP": "0.25"}
    assert chosen(properties) == Spacing(pytest.approx(0.2505), "openslide.mpp-x")


def test_vendor_key_then_tags() -> None:
    assert chosen({"aperio.MPP": "0,499"}, (0.5, 0.5)).mpp == 0.499
    spacing = chosen({"aperio.MPP": "unknown"}, (0.3, 0.3))
    assert (spacing.mpp, spacing.source) == (0.3, "tiff resolution tags")


def test_a_vendors_tags_mean_nothing() -> None:
    assert chosen({"aperio.MPP": "0.25"}, (2.5, 2.5)) == Spacing(0.25, "aperio.MPP")


def test_generic_tiff_names_the_tags() -> None:
    properties = {"openslide.vendor": "generic-tiff", "openslide.mpp-x": "0.5"}
    assert chosen(properties).source == "tiff resolution tags"


def test_ome_xml_comes_before_the_tags() -> None:
    properties = {"openslide.vendor": "generic-tiff", "openslide.mpp-x": "0.5"}
    assert chosen(properties, ome=(0.5, 0.5)) == Spacing(0.5, "OME-XML PhysicalSize")
    spacing = chosen(properties, ome=(0.25, 0.25))
    assert spacing.mpp == 0.25
    assert spacing.problem == (
        "the file says 0.25 µm/px (OME-XML PhysicalSize) and 0.5 (tiff resolution tags), 2 times "
        "as little; the first is used: give the true value in the slide sheet's column 'mpp'"
    )
    with pytest.raises(SlideError, match=r"not square: 0\.25 µm/px in x, 0\.5 in y \(OME-XML"):
        chosen(ome=(0.25, 0.5))


def test_sheet_overrides_and_says_what_the_file_said() -> None:
    spacing = chosen({"openslide.mpp-x": "0.25"}, sheet=0.255)
    assert spacing == Spacing(0.255, "sheet (file says 0.25)")
    assert chosen(sheet=0.5) == Spacing(0.5, "sheet")
    # A filler is no obstacle then, and no contradiction.
    assert chosen(tags=(352.8, 352.8), sheet=0.5) == Spacing(0.5, "sheet (file says 352.8)")


@pytest.mark.parametrize(
    ("sheet", "file", "times"),
    [
        (0.5, 0.25, "2 times as much"),
        (0.23, 0.25, "8% less"),
        (0.27, 0.25, "8% more"),
        (2.5, 0.25, "about 10 times as much"),
        (0.25, 2.499, "about 10 times as little"),
        (25.0, 0.25, "about 100 times as much"),
    ],
)
def test_a_sheet_that_contradicts_the_file_decides_and_is_a_problem(
    sheet: float, file: float, times: str
) -> None:
    spacing = chosen(tags=(file, file), sheet=sheet)
    assert spacing.mpp == sheet
    assert spacing.problem == (
        f"the sheet says {sheet:.4g} µm/px, the file {file:.4g} (tiff resolution tags), {times}; "
        "the sheet's is used: correct it or leave it out"
    )


def test_one_value_for_oblong_pixels_is_a_problem() -> None:
    assert chosen(tags=(0.25, 0.5), sheet=0.25).problem == (
        "the sheet says 0.25 µm/px, the file's pixels are not square (0.25 in x, 0.5 in y, tiff "
        "resolution tags): no one value is true of both"
    )


@pytest.mark.parametrize(
    ("power", "mpp", "is_problem"),
    [
        ("40", 0.25, False),
        ("20", 0.25, False),  # with a doubler
        ("40", 0.5, False),  # half of native resolution
        ("40", 2.5, True),
        ("40", 0.05, True),
        ("unknown", 2.5, False),
    ],
)
def test_a_scale_far_from_the_objectives(power: str, mpp: float, is_problem: bool) -> None:
    properties = {"openslide.objective-power": power, "openslide.mpp-x": str(mpp)}
    by_file, by_sheet = chosen(properties), chosen(properties, sheet=mpp)
    assert bool(by_file.problem) == bool(by_sheet.problem) == is_problem
    if mpp == 2.5 and is_problem:
        assert by_file.problem == (
            "2.5 µm/px is about 10 times as much, which is usual for the objective's power of 40 "
            "that the file states (0.25): is it right?"
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"a\.tif: the file states no µm/px: give it in the slide sheet's column 'mpp'"),
        (
            {"tags": (352.8, 352.8)},
            r"states 352\.8 µm/px \(tiff resolution tags\), expected a value in \[0\.05, 50\]",
        ),
        ({"tags": (0.01, 0.01)}, "states 0.01 µm/px"),
        ({"tags": (0.25, 0.26)}, r"not square: 0\.25 µm/px in x, 0\.26 in y"),
        ({"sheet": 500.0}, r"a\.tif: the slide sheet gives 500 µm/px, expected a value in"),
        ({"sheet": 0.025}, r"a\.tif: the slide sheet gives 0\.025 µm/px, expected a value in"),
    ],
)
def test_refusals(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SlideError, match=message):
        chosen(**values)
