"""Slides over the application: tiles against files, slides that go, change, hang, are too many."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from made_slides import BY_NAME, write_slide
from made_view import SLIDE, browsing
from starlette.testclient import TestClient

from wsi_ncmi.slides import open_slide
from wsi_ncmi.tools.view import opened, results
from wsi_ncmi.tools.view.single import Single
from wsi_ncmi.tools.view.source import Json, SlidePlace


@dataclass
class Several:
    """A source of slides by themselves."""

    paths: dict[str, Path]
    name: str = "several"

    def overview(self) -> Json:
        return {}

    def slides(self) -> list[Json]:
        return []

    def predictions(self, task: str, arm: str) -> Json | None:
        return None

    def place(self, slide_id: str) -> SlidePlace | None:
        found = self.paths.get(slide_id)
        return SlidePlace(slide_id, str(found), 0.5) if found else None


@pytest.fixture
def several(tmp_path: Path) -> Several:
    """Four slides of two kinds."""
    kinds = {"a": "jpeg_420", "b": "jpeg_rgb_unmarked", "c": "lzw", "d": "jp2k_ycbcr"}
    return Several({n: write_slide(tmp_path / f"{n}.tif", BY_NAME[k]) for n, k in kinds.items()})


def pixels(client: TestClient, path: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    found = client.get(path)
    assert found.status_code == 200, found.text
    assert found.headers["content-type"] == "image/jpeg"
    assert found.headers["cache-control"].startswith("private")
    return simplejpeg.decode_jpeg(found.content)


def test_tiles_are_those_of_the_slide(several: Several) -> None:
    """All four kinds, levels and tiles: the sizes and the pixels that the reader gives."""
    with browsing(several) as client:
        for name, path in several.paths.items():
            info = client.get(f"slides/{name}/info.json").json()
            with open_slide(path, mpp=0.5) as slide:
                assert [info["width"], info["height"]] == list(slide.dimensions)
                for n, level in enumerate(info["levels"]):
                    whole = slide.read_region(0, 0, n, level["width"], level["height"])
                    for row in range(level["rows"]):
                        for column in range(level["columns"]):
                            found = pixels(client, f"slides/{name}/tiles/{n}/{column}_{row}.jpg")
                            y, x = row * level["tile_height"], column * level["tile_width"]
                            height, width = found.shape[:2]
                            expected = whole[y : y + height, x : x + width]
                            assert found.shape == expected.shape
                            assert np.abs(found.astype(int) - expected).mean() < 8
                            assert y + height == level["height"] or height == level["tile_height"]


def test_a_stored_tile_is_passed_on(several: Several) -> None:
    with browsing(several) as client, open_slide(several.paths["b"], mpp=0.5) as slide:
        found = client.get("slides/b/tiles/0/1_1.jpg").content
        assert found == slide.stored_tile(0, 1, 1)
        assert found == client.get("slides/b/tiles/0/1_1.jpg").content


def test_facts_of_a_slide(client: TestClient) -> None:
    found = client.get(f"slides/{SLIDE}/info.json").json()
    assert (found["id"], found["mpp"], found["mpp_source"]) == (
        SLIDE,
        0.5,
        "sheet (file says 0.5)",
    )
    assert (found["reader"], found["icc"], found["error"]) == ("native", False, None)
    assert found["bounds"] == [0, 0, 1100, 900]
    assert [level["downsample"] for level in found["levels"]] == pytest.approx([1, 2, 4], abs=0.01)
    assert all(level["passthrough"] for level in found["levels"])


def test_thumbnails_are_small(client: TestClient, several: Several) -> None:
    assert max(pixels(client, f"slides/{SLIDE}/thumbnail.jpg").shape) == 256
    with browsing(several) as other:
        for name in several.paths:
            assert max(pixels(other, f"slides/{name}/thumbnail.jpg").shape) == 256


def test_a_crop_is_the_tile(client: TestClient, results: Path) -> None:
    from wsi_ncmi.tiling.tilefile import read_tiled

    tiles = read_tiled(results / "tiles" / f"{SLIDE}.h5")
    side = round(tiles.tile_size_level0)
    with open_slide(results / "slides" / f"{SLIDE}.tif") as slide:
        for index in (0, len(tiles) - 1):
            x, y = tiles.coords[index].tolist()
            expected = slide.read_region(x, y, 0, side, side)
            found = pixels(client, f"slides/{SLIDE}/crops/{index}.jpg")
            assert found.shape == expected.shape
            assert np.abs(found.astype(int) - expected).mean() < 6
    assert client.get(f"slides/{SLIDE}/crops/{len(tiles)}.jpg").status_code == 404


def test_a_slide_that_vanishes(several: Several) -> None:
    """While it is open its tiles still come; asked for anew it is gone, and others stay."""
    with browsing(several) as client:
        assert client.get("slides/a/info.json").status_code == 200
        several.paths["a"].unlink()
        assert client.get("slides/a/tiles/0/0_0.jpg").status_code == 200
        for path in ("info.json", "tiles/0/0_0.jpg", "thumbnail.jpg"):
            gone = client.get(f"slides/a/{path}")
            assert gone.status_code == 410
            assert "a.tif: no such file" in gone.json()["error"]
        assert client.get("slides/b/info.json").status_code == 200


def test_a_slide_that_is_replaced(several: Several) -> None:
    with browsing(several) as client:
        before = client.get("slides/a/tiles/1/0_0.jpg").content
        write_slide(several.paths["a"], BY_NAME["jpeg_whole_tiles"], seed=3)
        assert client.get("slides/a/info.json").json()["width"] == 1024
        assert client.get("slides/a/tiles/1/0_0.jpg").content != before


def test_a_slide_that_is_none(several: Several, tmp_path: Path) -> None:
    several.paths["a"].write_text("this is no slide")
    several.paths["b"] = tmp_path  # a folder
    with browsing(several) as client:
        found = client.get("slides/a/info.json")
        assert found.status_code == 404
        assert "no reader opens it" in found.json()["error"]
        assert client.get("slides/b/info.json").status_code == 503


def test_a_slide_without_scale_is_shown(shared_data: Path) -> None:
    """In pixels, and it is said why."""
    path = str(shared_data / "slides" / "tcga-cr-7395-01a-01-ts1.svs")
    name = "tcga-cr-7395-01a-01-ts1"
    with browsing(Single(path)) as client:
        found = client.get(f"slides/{name}/info.json").json()
        assert found["mpp"] is None
        assert "states no µm/px" in found["mpp_source"]
        assert pixels(client, f"slides/{name}/tiles/0/0_0.jpg").shape == (256, 256, 3)
        assert max(pixels(client, f"slides/{name}/thumbnail.jpg").shape) == 256
    with browsing(Single(path, 0.5)) as client:
        found = client.get(f"slides/{name}/info.json").json()
        assert (found["mpp"], found["icc"]) == (0.5, True)


def test_a_slide_at_an_address_is_not_fetched(tmp_path: Path) -> None:
    """No request leaves the machine unless it is asked for."""
    with browsing(Single("https://example.invalid/a.tif")) as client:
        found = client.get("slides/a/info.json")
        assert found.status_code == 404
        assert "--remote" in found.json()["error"]
    assert results.opens(SlidePlace("a", "s3://b/a.tif"), remote=True) == "s3://b/a.tif"


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Slides named c*.tif hang in their reader until the event is set."""
    go_on = threading.Event()
    original: Callable[..., Any] = opened.open_slide

    def slow(path: str, *arguments: Any) -> Any:
        if Path(path).name.startswith("c"):
            go_on.wait(30)
        return original(path, *arguments)

    monkeypatch.setattr(opened, "open_slide", slow)
    yield go_on
    go_on.set()


def test_a_slide_that_hangs(several: Several, hanging: threading.Event) -> None:
    """It is given up, is refused at once from then on, and holds up nothing else."""
    with browsing(several, seconds=0.3) as client:
        found = client.get("slides/c/info.json")
        assert found.status_code == 504
        assert "not read within 0.3 s" in found.json()["error"]
        threads = threading.active_count()
        for _ in range(40):
            assert client.get("slides/c/tiles/0/0_0.jpg").status_code == 504
        assert threading.active_count() <= threads
        assert client.get("slides/a/info.json").status_code == 200
        assert client.get("slides/d/tiles/0/0_0.jpg").status_code == 200


def test_a_read_that_hangs(several: Several, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slide is open, and then its disk does not answer."""
    from wsi_ncmi.tools.view import shown

    go_on = threading.Event()
    with browsing(several, seconds=0.3) as client:
        assert client.get("slides/c/info.json").status_code == 200
        monkeypatch.setattr(shown, "decoded_jpeg", lambda *_: go_on.wait(30) and b"")
        assert client.get("slides/c/tiles/0/0_0.jpg").status_code == 504
        assert client.get("slides/c/info.json").status_code == 504
        assert client.get("slides/a/tiles/0/0_0.jpg").status_code == 200
        go_on.set()


def test_a_slide_that_hangs_leaves_threads_to_others(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While all of its tiles are waited for, which all hang, another slide is answered at once."""
    from wsi_ncmi.tools.view import shown

    go_on, original = threading.Event(), shown.decoded_jpeg
    monkeypatch.setattr(
        shown,
        "decoded_jpeg",
        lambda slide, *of: (slide.path.endswith("c.tif") and go_on.wait(30), original(slide, *of))[
            1
        ],
    )
    with browsing(several, seconds=20) as client:
        for name in "cd":
            assert client.get(f"slides/{name}/info.json").status_code == 200
        asking = [
            threading.Thread(target=client.get, args=[f"slides/c/tiles/0/{n}_0.jpg"])
            for n in range(4)
        ]
        for one in asking:
            one.start()
        start = time.monotonic()
        assert client.get("slides/d/tiles/0/0_0.jpg").status_code == 200
        assert time.monotonic() - start < 10
        go_on.set()
        for one in asking:
            one.join()


def test_too_many_that_hang(
    several: Several, hanging: threading.Event, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Threads are bounded: what hangs is not piled up without end."""
    monkeypatch.setattr(opened, "MOST_LEFT_BEHIND", 3)
    for number in range(5):
        several.paths[f"c{number}"] = write_slide(tmp_path / f"c{number}.tif", BY_NAME["lzw"])
    with browsing(several, seconds=0.1) as client:
        answers = [client.get(f"slides/c{number}/tiles/0/0_0.jpg") for number in range(5)]
        assert [found.status_code for found in answers] == [504, 504, 504, 503, 503]
        assert "hang" in answers[-1].json()["error"]
        hanging.set()
        for _ in range(100):
            if client.get("slides/a/info.json").status_code == 200:
                break
            hanging.wait(0.05)
            threading.Event().wait(0.05)
        assert client.get("slides/a/info.json").status_code == 200


def test_few_slides_stay_open(
    several: Several, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was used longest ago is closed; it opens again."""
    closed: list[str] = []
    original = opened.Slide.close
    monkeypatch.setattr(
        opened.Slide, "close", lambda self: (closed.append(Path(self.path).stem), original(self))
    )
    monkeypatch.setattr(opened.OpenSlides.__init__, "__defaults__", (2, 600))
    with browsing(several) as client:
        for name in "abacbd":
            assert client.get(f"slides/{name}/tiles/0/0_0.jpg").status_code == 200
        assert closed == ["b", "a", "c"]
        assert client.get("slides/a/tiles/0/0_0.jpg").status_code == 200


def test_an_overview_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large slide without a pyramid: all of its coarse tiles, and its thumbnail."""
    from wsi_ncmi.tools.view import pyramid

    for name, value in {"COARSE_PX": 200, "OVERVIEW_PX": 128, "SIDE": 64}.items():
        monkeypatch.setattr(pyramid, name, value)
    made: list[int] = []
    original = opened.overview_tiles
    monkeypatch.setattr(
        opened, "overview_tiles", lambda *given: (made.append(1), original(*given))[1]
    )
    path = write_slide(tmp_path / "a.tif", BY_NAME["jpeg_single_level"])
    with browsing(Several({"a": path})) as client:
        levels = client.get("slides/a/info.json").json()["levels"]
        assert [level["width"] for level in levels] == [1100, 275, 128, 64]
        for column in range(2):
            assert pixels(client, f"slides/a/tiles/2/{column}_0.jpg").shape[1] == 64
        assert pixels(client, "slides/a/tiles/3/0_0.jpg").shape == (52, 64, 3)
        assert pixels(client, "slides/a/thumbnail.jpg").shape == (52, 64, 3)
    assert made == [1]
