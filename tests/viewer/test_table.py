"""The table of slides: what it shows, sorts, filters, exports, by mouse and by keyboard."""

import csv
import io
import json
import re

import pytest
from made_view import SLIDE
from playwright.sync_api import Page, expect
from viewer.driven import Viewer

ARM = "data/predictions/stage/abmil/cross_entropy.json"
NO_TISSUE, UNREADABLE = "slide_07", "slide_19"


@pytest.fixture
def viewer(page: Page, address: str) -> Viewer:
    """Not opened yet."""
    return Viewer(page, address)


def test_every_slide_stands_in_the_table_with_what_the_arm_says(viewer: Viewer) -> None:
    page = viewer.open().page
    said = viewer.json(ARM)["slides"][SLIDE]
    assert page.get_by_role("grid", name="Slides").get_attribute("aria-rowcount") == "61"
    assert page.locator(".count").inner_text() == "60 slides"
    expect(viewer.row(SLIDE)).to_contain_text(said["predicted"])
    expect(viewer.row(SLIDE)).to_contain_text(f"{max(said['probabilities']):.2f}")
    expect(viewer.row(SLIDE)).to_contain_text(f"{said['attention_auroc']:.2f}")
    mark = "right" if said["correct"] else "wrong"
    expect(viewer.row(SLIDE).get_by_role("img", name=mark)).to_be_visible()
    expect(viewer.row(NO_TISSUE)).to_contain_text("no tissue: 0.1 % of the slide")


def test_another_arm_has_other_predictions(viewer: Viewer) -> None:
    page = viewer.open().page
    page.get_by_label("Arm", exact=True).select_option("mean/ncmi")
    said = viewer.json("data/predictions/stage/mean/ncmi.json")["slides"][SLIDE]
    expect(viewer.row(SLIDE)).to_contain_text(f"{max(said['probabilities']):.2f}")
    viewer.settle()
    assert viewer.fragment == "arm=mean/ncmi"


def test_a_filter_stands_in_the_address_and_comes_back_from_it(viewer: Viewer) -> None:
    page = viewer.open().page
    page.get_by_label("Label", exact=True).select_option("negative")
    page.get_by_label("Result", exact=True).select_option("wrong")
    page.get_by_label("Search slides").fill("centre_1")
    viewer.settle()
    left = viewer.ids
    said, slides = viewer.json(ARM)["slides"], viewer.json("data/slides.json")["slides"]
    wrong = {name for name, of in said.items() if of["correct"] is False}
    assert left == [
        s["id"]
        for s in slides
        if s["label"] == "negative" and s["centre"] == "centre_1" and s["id"] in wrong
    ]
    assert left
    assert viewer.fragment == "q=centre_1&label=negative&outcome=wrong"
    assert viewer.open(viewer.fragment).ids == left
    assert page.locator(".count").inner_text() == f"{len(left)} of 60"
    page.get_by_role("button", name="Clear").click()
    assert len(viewer.ids) > len(left)


def test_a_column_sorts_up_then_down_then_not_with_blanks_last(viewer: Viewer) -> None:
    page = viewer.open("q=centre_0").page
    said = viewer.json(ARM)["slides"]
    unsorted = viewer.ids
    scored = [name for name in unsorted if name in said]
    rising = sorted(scored, key=lambda name: (max(said[name]["probabilities"]), name))
    blank = [name for name in unsorted if name not in said]
    assert blank
    head = page.get_by_role("columnheader", name="Probabilities")
    head.get_by_role("button").click()
    assert viewer.ids == rising + blank
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(head.get_by_role("button")).to_be_focused()
    page.keyboard.press("Enter")
    assert viewer.ids == rising[::-1] + blank
    head.get_by_role("button").click()
    assert viewer.ids == unsorted


def test_the_table_is_saved_as_it_is_shown(viewer: Viewer) -> None:
    page = viewer.open("q=centre_1&sort=-slide").page
    with page.expect_download() as saving:
        page.get_by_role("button", name="TSV").click()
    assert saving.value.suggested_filename == "demo.stage.abmil_cross_entropy.slides.tsv"
    text = saving.value.path().read_text()
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    assert [row["slide_id"] for row in rows] == sorted(viewer.ids, reverse=True)
    said = viewer.json(ARM)["slides"][rows[0]["slide_id"]]
    assert rows[0]["predicted"] == said["predicted"]
    assert float(rows[0]["probability_macro"]) == said["probabilities"][3]
    unreadable = next(row for row in rows if row["slide_id"] == UNREADABLE)
    assert (unreadable["status"], unreadable["outcome"]) == ("unreadable", "failed")
    assert unreadable["reason"] == "cannot be read: not a TIFF file"


def test_the_keyboard_alone_finds_opens_and_leaves_a_slide(viewer: Viewer) -> None:
    page = viewer.open("q=centre_0").page
    page.keyboard.press("/")
    expect(page.get_by_label("Search slides")).to_be_focused()
    page.get_by_role("grid").focus()
    page.keyboard.press("ArrowDown")
    active = page.get_by_role("grid").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("data-slide") == "slide_01"
    page.keyboard.press("Enter")
    viewer.ready("slide_01")
    expect(viewer.row("slide_01")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("[")
    viewer.ready("slide_00")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("a")  # keys of the page rest while the dialog is open
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    assert "overlay" not in viewer.fragment
    page.go_back()
    viewer.ready("slide_01")


def test_of_thousands_of_slides_only_those_in_view_exist(viewer: Viewer) -> None:
    slide = viewer.json("data/slides.json")["slides"][3]
    many = [{**slide, "id": f"many_{n:04d}"} for n in range(5000)]
    pattern = re.compile(r"data/slides\.json$")
    viewer.page.route(pattern, lambda route: route.fulfill(body=json.dumps({"slides": many})))
    page = viewer.open().page
    assert len(viewer.ids) < 60
    page.get_by_role("grid").focus()
    page.keyboard.press("End")
    viewer.settle()
    assert viewer.ids[-1] == "many_4999"
    assert len(viewer.ids) < 60
    page.get_by_label("Search slides").fill("many_123")
    viewer.settle()
    assert viewer.ids == [f"many_123{n}" for n in range(10)]


def test_an_id_is_shown_whole_where_there_is_room(viewer: Viewer) -> None:
    """In whatever font; beside a slide, the long one is cut, and its tooltip has all of it."""
    slide, long = viewer.json("data/slides.json")["slides"][0], "WWWW_" * 10
    rows = [{**slide, "id": name, "thumbnail": False} for name in (SLIDE, long)]
    pattern = re.compile(r"data/slides\.json$")
    viewer.page.route(pattern, lambda route: route.fulfill(body=json.dumps({"slides": rows})))
    none = {"version": 1, "name": "x", "kind": "results", "question": "", "tasks": [], "notes": []}
    viewer.page.route(
        re.compile(r"data/overview\.json$"),
        lambda route: route.fulfill(body=json.dumps({**none, "report": None})),
    )
    page = viewer.open().page
    cut = "cell => cell.scrollWidth > cell.clientWidth"
    for name in (SLIDE, long):
        cell = viewer.row(name).locator("td.id .cut")
        assert cell.evaluate(cut) is False
        assert cell.get_attribute("title") == name
    page.set_viewport_size({"width": 700, "height": 600})
    viewer.settle()
    assert viewer.row(long).locator("td.id .cut").evaluate(cut) is True
    assert viewer.row(SLIDE).locator("td.id .cut").evaluate(cut) is False


def test_escape_closes_what_is_open(viewer: Viewer) -> None:
    page = viewer.open(f"slide={SLIDE}").page
    page.get_by_role("button", name="About").click()
    about = page.locator("dialog.about")
    expect(about).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(about).to_be_hidden()
    page.get_by_text("Export").click()
    expect(page.locator(".menu .items")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".menu .items")).to_be_hidden()
    expect(page.locator(".menu summary")).to_be_focused()


def test_colours_follow_the_system_and_the_switch(viewer: Viewer) -> None:
    page = viewer.page
    page.emulate_media(color_scheme="dark")
    viewer.open()
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.keyboard.press("d")
    light = page.evaluate(background)
    page.keyboard.press("d")
    assert (dark, light) == ("rgb(20, 23, 27)", "rgb(246, 247, 249)")
    assert page.evaluate(background) == dark


def test_an_address_that_names_what_is_not_here_says_so(viewer: Viewer) -> None:
    page = viewer.open("arm=abmil/other&q=slide_0").page
    expect(page.get_by_role("alert").first).to_contain_text("no arm abmil/other in task stage")
    expect(page.get_by_label("Arm", exact=True)).to_have_value("abmil/cross_entropy")
    page.get_by_role("button", name="Dismiss").click()
    assert viewer.fragment == "q=slide_0"
