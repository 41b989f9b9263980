"""The open slide: overlays against the files that they show, coupled views, the cursor, exports."""

import json
import re

import numpy as np
import pytest
from made_view import ABSENT, LESION, SLIDE
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from scipy.stats import rankdata
from viewer.conftest import LAPTOP, Seen, serving
from viewer.driven import Viewer

from wsi_ncmi.tools.predict.pictures import attended

FIRST, SECOND = "abmil/cross_entropy", "abmil/ncmi"
X, Y, ZOOM = 550, 450, 0.25
"""A place at which all of the slide (1100 × 900) is in view, with two views too."""
PLACE = f"slide={SLIDE}&x={X}&y={Y}&zoom={ZOOM}"
CLOSE = f"slide={SLIDE}&x={X}&y={Y}&zoom=0.5"


@pytest.fixture
def viewer(page: Page, address: str) -> Viewer:
    """Not opened yet."""
    return Viewer(page, address)


def attention_of(viewer: Viewer, arm: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    arrays = viewer.arrays(f"slides/{SLIDE}/attention/stage/{arm}.safetensors")
    return arrays["coords"], arrays["attention"]


def at(
    image: NDArray[np.uint8], points: NDArray[np.floating], zoom: float = ZOOM
) -> NDArray[np.uint8]:
    """Pixels of an overlay at points of level 0 [N, 2], when (X, Y) is the centre."""
    middle = np.array([image.shape[1], image.shape[0]]) / 2
    columns, rows = np.floor(middle + (points - [X, Y]) * zoom).astype(int).T
    return image[rows, columns]


def ranks(weights: NDArray[np.floating]) -> NDArray[np.float64]:
    return (rankdata(weights) - 1) / (len(weights) - 1)


@pytest.mark.parametrize("weighting", ["rank", "weight"])
def test_each_tile_has_the_colour_of_its_attention(viewer: Viewer, weighting: str) -> None:
    viewer.open(f"{PLACE}&overlay=attention:1&attention={weighting}")
    coords, weights = attention_of(viewer, FIRST)
    values = ranks(weights) if weighting == "rank" else weights / weights.max()
    pixels = at(viewer.overlay(), coords + 64)
    expected = viewer.ramp()[np.floor(values * 255 + 0.5).astype(int)]
    assert np.abs(pixels[:, :3].astype(int) - expected).max() <= 3
    assert (pixels[:, 3] == 255).all()
    outside = at(viewer.overlay(), np.array([[5.0, 5.0]]))
    assert outside[0, 3] == 0


def test_overlays_turn_with_the_slide(viewer: Viewer) -> None:
    viewer.open(f"{PLACE}&overlay=attention:1&rotation=90")
    coords, weights = attention_of(viewer, FIRST)
    x, y = (coords + 64 - [X, Y]).T
    turned = np.stack([X - y, Y + x], axis=1)  # clockwise
    expected = viewer.ramp()[np.floor(ranks(weights) * 255 + 0.5).astype(int)]
    pixels = at(viewer.overlay(), turned)
    assert np.abs(pixels[:, :3].astype(int) - expected).max() <= 3


def test_colours_rise_evenly_in_lightness(viewer: Viewer) -> None:
    viewer.open(PLACE)
    linear = (viewer.ramp() / 255.0) ** 2.2
    lightness = np.cbrt(linear @ [0.2126, 0.7152, 0.0722])
    steps = np.diff(lightness[::15])
    assert (steps > 0).all()
    assert steps.max() < 1.6 * steps.min()


def test_two_arms_side_by_side_look_at_the_same_place(viewer: Viewer) -> None:
    page = viewer.open(f"{PLACE}&compare=side&other={SECOND}&overlay=tiles:1").page
    before = viewer.overlay(0)
    x, y, width, height = viewer.box(1)
    page.mouse.move(x + width / 2, y + height / 2)
    page.mouse.down()
    page.mouse.move(x + width / 2 + 40, y + height / 2 + 30, steps=4)
    page.mouse.up()
    page.keyboard.press("r")
    viewer.settle()
    page.mouse.move(5, 5)  # no cross of the pointer
    viewer.settle()
    first, second = viewer.overlay(0), viewer.overlay(1)
    assert abs(first.shape[1] - second.shape[1]) <= 1
    shift = np.abs(_middle(first) - _middle(second)).max()
    assert shift < 1.5
    assert np.abs(_middle(first) - _middle(before)).max() > 10
    assert "rotation=90" in viewer.fragment


def _middle(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of what is drawn, from the picture's middle."""
    drawn = image[: image.shape[0] - 60, :, 3] > 0  # without the scale bar
    rows, columns = np.nonzero(drawn)
    return np.array([columns.mean() - image.shape[1] / 2, rows.mean()])


def test_each_view_has_its_own_arm(viewer: Viewer) -> None:
    viewer.open(f"{PLACE}&compare=side&other={SECOND}&overlay=attention:1")
    for view, arm in enumerate((FIRST, SECOND)):
        coords, weights = attention_of(viewer, arm)
        expected = viewer.ramp()[np.floor(ranks(weights) * 255 + 0.5).astype(int)]
        pixels = at(viewer.overlay(view), coords + 64)
        assert np.abs(pixels[:, :3].astype(int) - expected).max() <= 3, arm


def test_a_difference_is_one_arm_minus_the_other(viewer: Viewer) -> None:
    page = viewer.open(f"{PLACE}&compare=difference&other={SECOND}&overlay=attention:1").page
    coords, first = attention_of(viewer, FIRST)
    _, second = attention_of(viewer, SECOND)
    values = (ranks(first) - ranks(second) + 1) / 2
    expected = viewer.ramp()[np.floor(values * 255 + 0.5).astype(int)]
    pixels = at(viewer.overlay(), coords + 64)
    assert np.abs(pixels[:, :3].astype(int) - expected).max() <= 3
    legend = page.locator("[data-overlay=attention] .legend")
    expect(legend).to_contain_text("ABMIL, cross-entropy minus ABMIL, NCMI")
    expect(legend).to_contain_text("−100")


def test_the_cursor_reads_position_tile_attention_quality_and_annotation(viewer: Viewer) -> None:
    page = viewer.open(f"{PLACE}&overlay=annotations:1").page
    coords, weights = attention_of(viewer, FIRST)
    x, y = np.mean(LESION, axis=0)
    tile = int(np.argmin(np.abs(coords + 64 - [x, y]).sum(1)))
    point = coords[tile] + 64
    left, top, width, height = viewer.box()
    page.mouse.move(
        *(left + width / 2 + (point[0] - X) * ZOOM, top + height / 2 + (point[1] - Y) * ZOOM)
    )
    viewer.settle()
    said = viewer.cursor()
    found = re.search(r"x (\d+), y (\d+) µm", said)
    assert found
    assert np.abs(np.array([*map(int, found.groups())]) - point / 2).max() <= 2  # 0.5 µm/px
    assert f"tile {tile}" in said
    assert f"attention {float(f'{weights[tile]:.3g}'):g}" in said
    assert f"percentile {round(100 * ranks(weights)[tile])}" in said
    tissue = viewer.arrays(f"slides/{SLIDE}/grid.safetensors")["tissue_fraction"][tile]
    assert f"tissue {float(f'{tissue:.2g}'):g}" in said
    assert "metastases (first)" in said


def test_the_cursor_in_one_view_reads_both_arms(viewer: Viewer) -> None:
    page = viewer.open(f"{PLACE}&compare=side&other={SECOND}").page
    coords, first = attention_of(viewer, FIRST)
    _, second = attention_of(viewer, SECOND)
    left, top, width, height = viewer.box(1)
    page.mouse.move(left + width / 2, top + height / 2)
    tile = int(np.argmin(np.abs(coords + 64 - [X, Y]).sum(1)))
    both = " | ".join(str(round(100 * ranks(weights)[tile])) for weights in (first, second))
    expect(page.locator("#cursor")).to_contain_text(f"percentile {both}")


def test_values_are_spoken_when_asked_for(viewer: Viewer) -> None:
    page = viewer.open(PLACE).page
    page.keyboard.press("v")
    viewer.settle()
    spoken = page.locator("[aria-live=assertive]")
    assert "x 275, y 225 µm" in spoken.inner_text()


def test_annotations_are_outlined_in_their_colours_and_named(viewer: Viewer) -> None:
    page = viewer.open(f"{CLOSE}&overlay=annotations:1").page
    corners = np.array(LESION)
    edges = (corners + np.roll(corners, 1, axis=0)) / 2
    pixels = at(viewer.overlay(), edges, 0.5)[:, :3].astype(int)
    assert np.abs(pixels - [214, 39, 40]).max() < 12
    expect(page.locator("[data-overlay=annotations] .legend")).to_contain_text("metastases")
    with page.expect_download() as saving:
        page.get_by_text("Export").click()
        page.get_by_role("button", name="Annotations (GeoJSON, QuPath)").click()
    shapes = json.loads(saving.value.path().read_text())["features"]
    assert shapes[0]["geometry"]["coordinates"][0][:3] == [list(corner) for corner in LESION]
    assert shapes[0]["properties"]["classification"] == {
        "name": "metastases",
        "color": [214, 39, 40],
    }


def test_attended_tiles_are_exported_as_predict_writes_them(viewer: Viewer) -> None:
    page = viewer.open(PLACE).page
    with page.expect_download() as saving:
        page.get_by_text("Export").click()
        page.get_by_role("button", name=re.compile("100 most attended")).click()
    coords, weights = attention_of(viewer, FIRST)
    found = json.loads(saving.value.path().read_text())
    for shape, expected in zip(
        found["features"], attended(coords, weights, 128)["features"], strict=True
    ):
        measured = shape["properties"]["measurements"].pop("attention")
        assert measured == pytest.approx(expected["properties"]["measurements"].pop("attention"))
        assert shape == expected


def test_a_picture_has_the_slide_the_overlay_and_the_legend(viewer: Viewer) -> None:
    page = viewer.open(f"{PLACE}&overlay=attention:1").page
    with page.expect_download() as saving:
        page.keyboard.press("e")
    image = np.asarray(Image.open(saving.value.path()).convert("RGB"))
    _, _, width, height = viewer.box()
    assert image.shape[0] >= height
    assert image.shape[1] > width + 200
    brightest = viewer.ramp()[-1].astype(int)
    near = np.abs(image.astype(int) - brightest).max(-1) < 4
    assert near[:, : int(width)].sum() > 500  # a tile of 32 × 32 pixels
    assert near[:, int(width) + 30 :].sum() > 5  # the legend's end


def test_lengths_are_measured_by_keyboard_and_by_mouse(viewer: Viewer) -> None:
    page = viewer.open(CLOSE).page
    for key in ("m", "Enter", "ArrowRight", "Enter"):
        page.keyboard.press(key)
        viewer.settle()
    said = page.locator(".said").inner_text()
    _, _, width, _ = viewer.box()
    assert float(said.split()[1]) == pytest.approx(0.15 * width / 0.5 * 0.5, abs=3)
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.locator(".said").inner_text() == "Measurements removed."
    left, top, width, height = viewer.box()
    page.keyboard.press("m")
    page.mouse.click(left + width / 2, top + height / 2)
    page.mouse.click(left + width / 2, top + height / 2 + 100)
    viewer.settle()
    assert page.locator(".said").inner_text() == "Length 100 µm"


def test_the_gallery_goes_to_a_tile(viewer: Viewer) -> None:
    page = viewer.open(f"slide={SLIDE}").page
    coords, weights = attention_of(viewer, FIRST)
    most = int(np.argmax(weights))
    button = page.locator("#gallery button").first
    assert button.get_attribute("data-tile") == str(most)
    page.evaluate("() => document.querySelector('.strip img').decode()")  # fails without a picture
    button.click()
    expect(page).to_have_url(re.compile("zoom="))
    found = dict(part.split("=") for part in viewer.fragment.split("&"))
    place = np.array([float(found["x"]), float(found["y"])])
    assert np.abs(place - coords[most] - 64).max() < 40  # as far as the edge allows


def test_what_cannot_be_read_says_why_in_its_place(viewer: Viewer, seen: Seen) -> None:
    page = viewer.open().page
    page.goto(f"{viewer.address}#slide=slide_19")
    expect(page.locator("#slide [role=alert] h2")).to_have_text("slide_19 cannot be shown")
    expect(page.locator("#slide")).to_contain_text("cannot be read: not a TIFF file")
    assert not seen.complaints
    page.goto(f"{viewer.address}#slide={ABSENT}")
    expect(page.locator("#slide .failure")).to_contain_text("gone.tif")
    page.goto(f"{viewer.address}#slide=nonsense")
    expect(page.locator("#slide .failure")).to_contain_text("No slide nonsense")
    seen.complaints.clear()  # the browser itself notes that a file was not found


def test_a_server_that_is_gone_is_said(browser: Browser, results: object) -> None:
    server = serving(results)  # type: ignore[arg-type]
    with server as address, browser.new_context(viewport=LAPTOP) as context:
        viewer = Viewer(context.new_page(), address)
        viewer.open()
        server.stop()
        viewer.row("slide_01").click()
        notice = viewer.page.locator(".notices [data-text]")
        expect(notice).to_contain_text("Start `wsi-ncmi view` again")
        expect(viewer.page.locator("#slide .failure")).to_be_visible()
