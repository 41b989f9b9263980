"""Extraction: order, undecodable tiles, quality limits, augmented copies, digests."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsi_ncmi.config import Augmentation, Extraction, Tiling, Transform
from wsi_ncmi.errors import PartError, SlideError
from wsi_ncmi.extraction.encode import resolve_autocast
from wsi_ncmi.extraction.extract import Extractor, wanted_tiles
from wsi_ncmi.extraction.tiles import stream
from wsi_ncmi.sheet import SlideRow, checked_sheet
from wsi_ncmi.slides import tilefile
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.stages import features as stage
from wsi_ncmi.stages import tiles as tile_stage

OPTIONS = {"architecture": "test_resnet", "stages": [1], "input_px": 32}


@pytest.fixture(scope="module")
def slide(make_workflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A row of the sheet and its tiles."""
    workflow = make_workflow(tmp_path_factory.mktemp("extraction"))
    row = checked_sheet(workflow.folder / "slides.tsv", need_path=False)[0]
    folder = workflow.folder / "tiles"
    tiling = Tiling(mpp=2.0, tile_px=64)
    tile_stage.run([row], tiling, folder, folder / "bucket-0.tsv", 1)
    return row, tilefile.read(folder / f"{row.slide_id}.h5"), folder


@pytest.fixture(scope="module")
def make() -> Callable[..., Extractor]:
    def extractor(threads: int = 2, **changes: Any) -> Extractor:
        options = {"encoder": "random_resnet", "options": OPTIONS, "batch_size": 16, **changes}
        return stage.make_extractor(Extraction(**options), threads)

    return extractor


def ignore(count: int) -> None:
    pass


def test_the_stream_keeps_the_order_whatever_the_threads() -> None:
    def read(i: int) -> np.ndarray:
        return np.full((2, 2, 3), i, np.uint8)

    for threads in (1, 4):
        batches = list(stream(read, 23, 5, threads))
        assert [len(b.indices) for b in batches] == [5, 5, 5, 5, 3]
        assert np.concatenate([b.indices for b in batches]).tolist() == list(range(23))
        assert np.concatenate([b.pixels[:, 0, 0, 0] for b in batches]).tolist() == list(range(23))


def test_the_stream_names_tiles_that_cannot_be_decoded() -> None:
    def read(i: int) -> np.ndarray:
        if i in (3, 4):
            raise SlideError(f"tile {i}")
        return np.zeros((2, 2, 3), np.uint8)

    first, second = stream(read, 6, 4, 2)
    assert first.indices.tolist() == [0, 1, 2]
    assert first.invalid == {3: "tile 3"}
    assert second.indices.tolist() == [5]
    assert second.invalid == {4: "tile 4"}


def test_features_do_not_depend_on_the_reading_threads(slide: Any, make: Any) -> None:
    row, tiles, _ = slide
    one, four = (make(threads=n).bag(row, tiles, ignore) for n in (1, 4))
    assert one.features.tobytes() == four.features.tobytes()
    assert one.coords.tolist() == tiles.coords.tolist()
    assert one.coords_attributes["patch_size"] == tiles.read_px


def break_tiles(monkeypatch: pytest.MonkeyPatch, broken: set[tuple[int, int]]) -> None:
    read = Slide.read_region

    def failing(self: Slide, x: int, y: int, *rest: int) -> np.ndarray:
        if (x, y) in broken:
            raise SlideError(f"cannot decode ({x}, {y})")
        return read(self, x, y, *rest)

    monkeypatch.setattr(Slide, "read_region", failing)


def test_an_undecodable_tile_has_no_features(
    slide: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, tiles, _ = slide
    whole = make().bag(row, tiles, ignore)
    break_tiles(monkeypatch, {tuple(tiles.coords[2].tolist())})
    bag = make(max_invalid_fraction=0.5).bag(row, tiles, ignore)
    assert bag.invalid_coords.tolist() == [tiles.coords[2].tolist()]
    assert bag.features.tobytes() == np.delete(whole.features, 2, 0).tobytes()


def test_too_many_undecodable_tiles_reject_the_slide(
    slide: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, tiles, _ = slide
    break_tiles(monkeypatch, {tuple(c.tolist()) for c in tiles.coords[:9]})
    with pytest.raises(SlideError, match=r"9 of \d+ tiles cannot be decoded.*= 0.1: cannot decode"):
        make().bag(row, tiles, ignore)


def test_a_replaced_slide_is_refused(slide: Any, make: Any) -> None:
    row, tiles, _ = slide
    other = dataclasses.replace(tiles, fingerprint="another")
    with pytest.raises(SlideError, match="replaced since it was tiled"):
        make().bag(row, other, ignore)


def test_quality_limits_choose_tiles(slide: Any) -> None:
    _, tiles, _ = slide
    focus = np.linspace(0, 1, len(tiles), dtype=np.float32)
    pen = np.zeros(len(tiles), np.float16)
    pen[-1] = 1
    changed = dataclasses.replace(tiles, focus=focus, pen=pen)
    kept = wanted_tiles(changed, Extraction(min_focus=0.5, max_pen=0.5))
    assert kept.tolist() == [*(focus[:-1] >= 0.5), False]


def test_augmented_copies_are_stored_and_reproducible(slide: Any, make: Any) -> None:
    row, tiles, _ = slide
    transform = Transform(name="HEStain", options={"p": 1.0})
    changes = {"augmentation": Augmentation(transforms=[transform], copies=2)}
    first, second = (make(**changes).bag(row, tiles, ignore) for _ in range(2))
    assert first.augmented.shape == (2, *first.features.shape)
    assert first.augmented.tobytes() == second.augmented.tobytes()
    assert not np.array_equal(first.augmented[0], first.features)
    assert not np.array_equal(first.augmented[0], first.augmented[1])
    assert first.features.tobytes() == make().bag(row, tiles, ignore).features.tobytes()


def test_an_unknown_transform_is_named() -> None:
    with pytest.raises(PartError, match="'HEStian' is not a transform of albumentations"):
        stage.make_extractor(
            Extraction(
                encoder="random_resnet",
                options=OPTIONS,
                augmentation=Augmentation(transforms=[Transform(name="HEStian")]),
            ),
            1,
        )


def test_the_digest_follows_all_that_decides(slide: Any, make: Any) -> None:
    _, tiles, _ = slide
    own = make().digest(tiles)
    assert make(threads=1).digest(tiles) == own
    assert make(options={**OPTIONS, "seed": 1}).digest(tiles) != own
    assert make(batch_size=8).digest(tiles) != own
    assert make(dtype="float32").digest(tiles) != own
    assert make().digest(dataclasses.replace(tiles, digest="other")) != own


def test_a_bag_of_other_weights_is_made_again(slide: Any, tmp_path: Path) -> None:
    row, _, folder = slide
    path = tmp_path / f"{row.slide_id}.h5"
    written = []
    for seed in (0, 0, 1):
        extraction = Extraction(encoder="random_resnet", options={**OPTIONS, "seed": seed})
        stage.run([row], extraction, folder, tmp_path, tmp_path / "bucket-0.tsv", 1)
        written.append((path.stat().st_mtime_ns, path.read_bytes()))
    assert written[0] == written[1]
    assert written[2][1] != written[0][1]


def test_a_slide_without_tiles_is_a_row_with_a_reason(slide: Any, tmp_path: Path) -> None:
    _, _, folder = slide
    row = SlideRow("nowhere", "fine", "p", "c", path="nowhere.tif")
    extraction = Extraction(encoder="random_resnet", options=OPTIONS)
    stage.run([row], extraction, folder, tmp_path, tmp_path / "bucket-0.tsv", 1)
    line = (tmp_path / "bucket-0.tsv").read_text().splitlines()[1]
    assert line.startswith("nowhere\tfailed\tno tiles: ")


def test_half_precision_on_a_cpu_is_refused() -> None:
    import torch

    with pytest.raises(PartError, match="fp16 needs CUDA"):
        resolve_autocast("fp16", torch.device("cpu"))
    assert resolve_autocast("auto", torch.device("cpu")) == "none"
    assert resolve_autocast("bf16", torch.device("cpu")) == "bf16"
