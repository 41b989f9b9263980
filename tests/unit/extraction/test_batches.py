"""Batches of several slides: what is in them, in which order, and the thread that reads ahead."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SIDE as PAINTED
from conftest import paint
from made_tiled import tiled_slide

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.errors import AbsentError, SlideError
from wsi_ncmi.extraction.batches import Batch, Job, Prefetched, batches
from wsi_ncmi.extraction.readers import Readers
from wsi_ncmi.extraction.speed import Speed
from wsi_ncmi.slides.reader import open_slide, slide_fingerprint

SIDE = 64
SIZE = 8


def job(folder: Path, name: str, tiles: int, fingerprint: str = "") -> Job:
    """A slide of a seed that its name ends with, of which the first tiles are kept."""
    path = folder / f"{name}.tif"
    paint(path, int(name[-1]), coarse=False)
    grid = [[x, y] for y in range(128, 512, SIDE) for x in range(128, 512, SIDE)]
    facts: dict[str, Any] = {"reader": "native", "level": 0, "read_px": SIDE}
    facts |= {"width": PAINTED, "height": PAINTED}
    facts["fingerprint"] = fingerprint or slide_fingerprint(str(path))
    row = SlideRow(name, "label", "patient", "centre", str(path), mpp=2.0)
    coords = np.array(grid, np.int32)
    return Job(row, tiled_slide(name, coords=coords, **facts), np.arange(tiles))


@pytest.fixture
def pool() -> Iterator[Readers]:
    with Readers(2) as found:
        yield found


def made(jobs: Any, pool: Readers) -> list[Batch]:
    return list(batches(jobs, SIZE, pool, lambda shape: np.empty(shape, np.uint8)))


def shape(batch: Batch) -> list[tuple[str, int]]:
    return [(segment.job.row.slide_id, len(segment.indices)) for segment in batch]


def test_slides_fill_batches_together(tmp_path: Path, pool: Readers) -> None:
    jobs = [job(tmp_path, "s0", 5), job(tmp_path, "s1", 2), job(tmp_path, "s2", 12)]
    assert [shape(batch) for batch in made(jobs, pool)] == [
        [("s0", 5), ("s1", 2), ("s2", 1)],
        [("s2", 8)],
        [("s2", 3)],
    ]


def test_every_tile_is_there_once_with_its_own_pixels(tmp_path: Path, pool: Readers) -> None:
    jobs = [job(tmp_path, f"s{i}", 20 + i) for i in range(3)]
    found: dict[str, list[int]] = {}
    for segment in [segment for batch in made(jobs, pool) for segment in batch]:
        found.setdefault(segment.job.row.slide_id, []).extend(segment.indices.tolist())
        assert segment.invalid == {}
        with open_slide(segment.job.row.path, mpp=2.0) as slide:
            for pixels, index in zip(segment.pixels, segment.indices, strict=True):
                x, y = segment.job.tiles.coords[segment.job.kept[index]]
                assert np.array_equal(pixels, slide.read_region(x, y, 0, SIDE, SIDE))
    assert {name: sorted(rows) for name, rows in found.items()} == {
        f"s{i}": [*range(20 + i)] for i in range(3)
    }


def test_kept_tiles_only(tmp_path: Path, pool: Readers) -> None:
    whole = job(tmp_path, "s0", 36)
    some = Job(whole.row, whole.tiles, np.array([35, 3]))
    ((segment,),) = made([some], pool)
    with open_slide(some.row.path, mpp=2.0) as slide:
        x, y = whole.tiles.coords[[35, 3][segment.indices[0]]]
        assert np.array_equal(segment.pixels[0], slide.read_region(x, y, 0, SIDE, SIDE))


def test_a_slide_that_cannot_be_opened_is_an_entry(tmp_path: Path, pool: Readers) -> None:
    gone, replaced = job(tmp_path, "s1", 4), job(tmp_path, "s2", 4, fingerprint="another")
    Path(gone.row.path).unlink()
    (batch,) = made([job(tmp_path, "s0", 3), gone, replaced, job(tmp_path, "s3", 3)], pool)
    assert shape(batch) == [("s0", 3), ("s1", 0), ("s2", 0), ("s3", 3)]
    assert ["no such file" in str(s.error) for s in batch] == [False, True, False, False]
    assert "replaced since it was tiled" in str(batch[2].error)
    assert [type(s.error) for s in batch[1:3]] == [AbsentError, SlideError]


def test_an_entry_at_the_end_goes_out(tmp_path: Path, pool: Readers) -> None:
    gone = job(tmp_path, "s1", 4)
    Path(gone.row.path).unlink()
    assert [shape(batch) for batch in made([job(tmp_path, "s0", 8), gone], pool)] == [
        [("s0", 8)],
        [("s1", 0)],
    ]


def test_prefetched_items_keep_their_order() -> None:
    with Prefetched(iter(range(100)), depth=3) as items:
        assert list(items) == [*range(100)]


def test_the_thread_runs_ahead_by_so_much() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for i in range(10):
            taken.append(i)
            yield i

    with Prefetched(source(), depth=2) as items:
        time.sleep(0.3)
        assert len(taken) == 3  # two wait, one is held in the hand
        assert [next(items), next(items)] == [0, 1]
        time.sleep(0.3)
        assert len(taken) == 5


def test_an_error_of_the_thread_arrives_after_what_came_before() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise SlideError("gone")

    with Prefetched(source()) as items:
        assert next(items) == 1
        with pytest.raises(SlideError, match="gone"):
            next(items)


def test_leaving_early_ends_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    def leave_early() -> None:
        with Prefetched(source()) as items:
            next(items)
            raise KeyError

    before = threading.active_count()
    with pytest.raises(KeyError):
        leave_early()
    assert threading.active_count() == before
    assert closed.is_set()


def test_the_verdict_says_what_was_waited_for() -> None:
    with Speed(10) as speed:
        with speed.device():
            time.sleep(0.05)
        speed.add(10)
        assert speed.loader_share < 0.1
        assert speed.verdict().endswith("device-bound")
        with speed.loader():
            time.sleep(0.2)
        assert speed.verdict().endswith("loader-bound")
