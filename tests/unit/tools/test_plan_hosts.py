"""Slides at a host that does not answer: the first few are asked for, the others say so."""

from pathlib import Path

import pytest

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Attention, Tiling
from wsi_ncmi.errors import AbsentError, UnreachableError
from wsi_ncmi.tools.plan import command
from wsi_ncmi.tools.plan.command import Options, plan_slides
from wsi_ncmi.tools.plan.hosts import PATIENCE, Hosts


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The slides that were asked for; no host answers, but for `here`, which lacks them."""
    found: list[str] = []

    def opening(path: str, mpp: float | None = None) -> None:
        found.append(path)
        error = AbsentError if "//here/" in path else UnreachableError
        raise error(f"{path}: cannot be reached")

    monkeypatch.setattr(command, "open_slide", opening)
    return found


def problems(places: list[str], folder: Path) -> list[str]:
    rows = [SlideRow(f"s{i}", "a", "p", "c", place) for i, place in enumerate(places)]
    plan = plan_slides(rows, Tiling(), Attention(), [], Options(), folder)
    return [one.problem for one in plan.slides]


def test_a_host_that_does_not_answer_is_given_up(asked: list[str], tmp_path: Path) -> None:
    away = [f"s3://away/{i}.tif" for i in range(PATIENCE + 4)]
    found = problems(away, tmp_path)
    assert asked == away[:PATIENCE]
    assert all("cannot be reached" in problem for problem in found[:PATIENCE])
    expected = f"not asked for: away could not be reached for {PATIENCE} slides"
    assert [expected in problem for problem in found[PATIENCE:]] == [True] * 4


def test_other_places_are_asked(asked: list[str], tmp_path: Path) -> None:
    """Another host, one that answers that a slide is not there, and files."""
    places = [f"{place}/{i}.tif" for i in range(5) for place in ("s3://away", "https://here", "x")]
    problems(places, tmp_path)
    counts = {place: sum(place in one for one in asked) for place in ("away", "here", "x/")}
    assert counts == {"away": PATIENCE, "here": 5, "x/": 5}


def test_an_answer_is_a_new_beginning() -> None:
    hosts = Hosts()
    for _ in range(4):
        for _ in range(PATIENCE - 1):
            with (
                pytest.raises(UnreachableError, match="no way"),
                hosts.asking("https://slow/a.tif"),
            ):
                raise UnreachableError("no way")
        with hosts.asking("https://slow/a.tif"):
            pass
