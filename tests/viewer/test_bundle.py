"""A folder that `--export` wrote, opened from the disk, without any server."""

import re
from pathlib import Path

import numpy as np
import pytest
from made_view import SLIDE
from playwright.sync_api import Page, expect
from viewer.driven import Viewer

from wsi_ncmi.tools.view.app import Settings
from wsi_ncmi.tools.view.export import export
from wsi_ncmi.tools.view.page import read_page
from wsi_ncmi.tools.view.results import Asked, Results

OTHER = "slide_01"


@pytest.fixture(scope="module")
def folder(built: Path, results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two slides."""
    folder = tmp_path_factory.mktemp("bundle") / "out"
    source = Results(results, Asked())
    export(source, read_page(), Settings(), folder, [SLIDE, OTHER], most_gb=1.0)
    return folder


def test_a_bundle_shows_its_slides_with_overlays_from_the_disk(page: Page, folder: Path) -> None:
    viewer = Viewer(page, (folder / "index.html").as_uri())
    viewer.open(f"slide={SLIDE}&x=550&y=450&zoom=0.25&compare=side&other=abmil/ncmi")
    assert viewer.ids == [SLIDE, OTHER]
    expect(viewer.row(SLIDE)).to_contain_text("micro")
    assert (viewer.overlay(0)[..., 3] > 0).sum() > 10_000
    assert not np.array_equal(viewer.overlay(0), viewer.overlay(1))
    x, y, width, height = viewer.box()
    page.mouse.move(x + width / 2, y + height / 2)
    expect(page.locator("#cursor")).to_contain_text(re.compile(r"x 275, y 22[45] µm"))
    page.evaluate("() => document.querySelector('.strip img').decode()")
    page.keyboard.press("k")
    viewer.settle()
    page.keyboard.press("]")
    viewer.ready(OTHER)
    assert f"slide={OTHER}" in viewer.fragment


def test_a_picture_that_the_browser_forbids_is_said(page: Page, folder: Path) -> None:
    viewer = Viewer(page, (folder / "index.html").as_uri()).open(f"slide={SLIDE}")
    page.keyboard.press("e")
    expect(page.locator(".notes")).to_contain_text("do not let a page that was opened from a file")
    with page.expect_download() as saving:
        page.get_by_text("Export").click()
        page.get_by_role("button", name="Annotations (GeoJSON, QuPath)").click()
    assert saving.value.suggested_filename == f"{SLIDE}.annotations.geojson"
    assert viewer.fragment == f"slide={SLIDE}"


def test_a_file_that_is_missing_is_named(page: Page, folder: Path, seen: object) -> None:
    lost = folder / "slides" / OTHER / "info.json.js"
    content = lost.read_bytes()
    lost.unlink()
    try:
        page.goto(f"{(folder / 'index.html').as_uri()}#slide={OTHER}")
        expect(page.locator("#slide .failure")).to_contain_text("Copy the whole folder")
    finally:
        lost.write_bytes(content)
    seen.complaints.clear()  # type: ignore[attr-defined]  # the browser notes the missing file
