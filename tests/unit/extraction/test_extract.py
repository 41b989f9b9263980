"""Extraction: order, undecodable tiles, quality limits, augmented copies, digests."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from wsi_ncmi.bags.store import Bag
from wsi_ncmi.cohorts.sheet import SlideRow, checked_sheet
from wsi_ncmi.config import Augmentation, Extraction, Tiling, Transform
from wsi_ncmi.errors import BagError, PartError, SlideError
from wsi_ncmi.extraction.encode import Pending, resolve_autocast
from wsi_ncmi.extraction.extract import Extractor, wanted_tiles
from wsi_ncmi.extraction.speed import Speed
from wsi_ncmi.slides.reader import slide_fingerprint
from wsi_ncmi.stages import features as stage
from wsi_ncmi.stages import tiles as tile_stage
from wsi_ncmi.tiling import tilefile

OPTIONS = {"architecture": "test_resnet", "stages": [1], "input_px": 32}


@pytest.fixture(scope="module")
def tiled_slides(make_workflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rows of the sheet with their tiles, and the folder of the tiles."""
    workflow = make_workflow(tmp_path_factory.mktemp("extraction"))
    rows = checked_sheet(workflow.folder / "slides.tsv", need_path=False)[:4]
    folder = workflow.folder / "tiles"
    tile_stage.run(rows, Tiling(mpp=2.0, tile_px=64), folder, folder / "bucket-0.tsv", 1)
    return [(row, tilefile.read(folder / f"{row.slide_id}.h5")) for row in rows], folder


@pytest.fixture(scope="module")
def slides(tiled_slides: Any) -> Any:
    return tiled_slides[0]


@pytest.fixture(scope="module")
def slide(tiled_slides: Any) -> Any:
    """A row of the sheet, its tiles and their folder."""
    found, folder = tiled_slides
    return *found[0], folder


@pytest.fixture(scope="module")
def make() -> Callable[..., Extractor]:
    def extractor(threads: int = 2, **changes: Any) -> Extractor:
        options = {
            "encoder": "random_resnet",
            "options": OPTIONS,
            "batch_size": 16,
            "any_scale": True,
            **changes,
        }
        return stage.make_extractor(Extraction(**options), threads)

    return extractor


def bag_of(extractor: Extractor, row: SlideRow, tiles: tilefile.TiledSlide) -> Bag:
    """One slide's bag, or the error that it ends with."""
    found = bags_of(extractor, [(row, tiles)])[0]
    if not isinstance(found, Bag):
        raise found
    return found


def bags_of(
    extractor: Extractor, slides: Sequence[tuple[SlideRow, tilefile.TiledSlide]]
) -> list[Bag | Exception]:
    done: dict[str, Any] = {}
    jobs = [extractor.job(row, tiles) for row, tiles in slides]
    with Speed(0) as speed:
        extractor.run(jobs, lambda job, found: done.update({job.row.slide_id: found}), speed)
    return [done[row.slide_id] for row, _ in slides]


def test_features_do_not_depend_on_threads(slide: Any, make: Any) -> None:
    row, tiles, _ = slide
    bags = []
    for reading, computing in ((1, 1), (4, 1), (2, 2), (1, 3)):
        torch.set_num_threads(computing)
        bags.append(bag_of(make(threads=reading), row, tiles))
    torch.set_num_threads(1)
    assert len({bag.features.tobytes() for bag in bags}) == 1
    assert bags[0].coords.tolist() == tiles.coords.tolist()
    assert bags[0].coords_attributes["patch_size"] == tiles.read_px


def test_features_do_not_depend_on_neighbours_or_place(
    slides: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, in shared batches of any order, with the last batch cut anywhere."""
    alone = {row.slide_id: bag_of(make(), row, tiles) for row, tiles in slides}
    for order in (slides, slides[::-1], slides[2:] + slides[:2]):
        for (row, _), bag in zip(order, bags_of(make(), order), strict=True):
            assert bag.features.tobytes() == alone[row.slide_id].features.tobytes()
            assert bag.coords.tobytes() == alone[row.slide_id].coords.tobytes()


def test_slides_share_batches(slides: Any, make: Any) -> None:
    extractor = make()
    calls = []
    encode = extractor.encode.__call__

    def counted(parts: Any) -> Any:
        calls.append(sum(len(part.pixels) for part in parts))
        return encode(parts)

    bags_of(dataclasses.replace(extractor, encode=_Counted(extractor.encode, counted)), slides)
    total = sum(len(tiles) for _, tiles in slides)
    assert calls == [16] * (total // 16) + ([total % 16] if total % 16 else [])


class _Counted:
    def __init__(self, encode: Any, call: Any) -> None:
        self.encode, self.call = encode, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encode, name)

    def __call__(self, parts: Any) -> Any:
        return self.call(parts)


def test_slides_of_different_scale_share_batches(slides: Any, make: Any) -> None:
    (row, tiles), (other, other_tiles) = slides[:2]
    coarse = dataclasses.replace(other_tiles, read_px=50)
    alone = [bag_of(make(), row, tiles), bag_of(make(), other, coarse)]
    together = bags_of(make(), [(row, tiles), (other, coarse)])
    for one, both in zip(alone, together, strict=True):
        assert one.features.tobytes() == both.features.tobytes()


def damaged_copy(row: SlideRow, folder: Path, tile: int) -> SlideRow:
    """The slide with one native tile overwritten."""
    path = folder / "damaged.tif"
    content = bytearray(Path(row.path).read_bytes())
    with tifffile.TiffFile(row.path) as tiff:
        page = tiff.pages[0]
        start, count = page.dataoffsets[tile], page.databytecounts[tile]
    content[start : start + count] = bytes(count)
    path.write_bytes(content)
    return dataclasses.replace(row, path=str(path))


def tiled(row: SlideRow, folder: Path) -> tilefile.TiledSlide:
    tile_stage.run([row], Tiling(mpp=2.0, tile_px=64), folder, folder / "bucket-0.tsv", 1)
    return tilefile.read(folder / f"{row.slide_id}.h5")


def test_undecodable_tiles_have_no_features(slide: Any, make: Any, tmp_path: Path) -> None:
    row, tiles, _ = slide
    whole = bag_of(make(), row, tiles)
    damaged = damaged_copy(row, tmp_path, 4)
    again = dataclasses.replace(tiles, fingerprint=slide_fingerprint(damaged.path))
    inside = ((tiles.coords // 256) == 1).all(axis=1)  # native tile 4 of 3 x 3
    assert 0 < inside.sum() < len(tiles)
    bag = bag_of(make(max_invalid_fraction=0.9), damaged, again)
    assert bag.invalid_coords.tolist() == tiles.coords[inside].tolist()
    assert bag.coords.tolist() == tiles.coords[~inside].tolist()
    assert bag.features.tobytes() == whole.features[~inside].tobytes()
    with pytest.raises(SlideError, match=r"16 of \d+ tiles cannot be decoded.*= 0.1: .*JPEG"):
        bag_of(make(), damaged, again)


def test_undecodable_tiles_are_tiled_and_counted(slide: Any, make: Any, tmp_path: Path) -> None:
    row, tiles, _ = slide
    damaged = damaged_copy(row, tmp_path, 4)
    found = tiled(damaged, tmp_path)
    assert found.status == "ok"
    missing = {tuple(c) for c in tiles.coords.tolist()} - {tuple(c) for c in found.coords.tolist()}
    assert not missing
    bag = bag_of(make(max_invalid_fraction=0.9), damaged, found)
    assert len(bag.invalid_coords) == 16


def test_a_replaced_slide_is_refused(slides: Any, make: Any) -> None:
    (row, tiles), good = slides[:2]
    other = dataclasses.replace(tiles, fingerprint="another")
    bad, bag = bags_of(make(), [(row, other), good])
    assert "replaced since it was tiled" in str(bad)
    assert isinstance(bag, Bag)


def test_a_value_that_does_not_fit_names_the_remedy(
    slide: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, tiles, _ = slide
    extractor = make()
    monkeypatch.setattr(Pending, "result", lambda self: self._features.numpy() * 1e9)
    with pytest.raises(BagError, match=r"does not fit into float16: set extraction\.dtype"):
        bag_of(extractor, row, tiles)


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
    first, second = (bag_of(make(**changes), row, tiles) for _ in range(2))
    assert first.augmented.shape == (2, *first.features.shape)
    assert first.augmented.tobytes() == second.augmented.tobytes()
    assert not np.array_equal(first.augmented[0], first.features)
    assert not np.array_equal(first.augmented[0], first.augmented[1])
    assert first.features.tobytes() == bag_of(make(), row, tiles).features.tobytes()


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
        extraction = Extraction(
            encoder="random_resnet", options={**OPTIONS, "seed": seed}, any_scale=True
        )
        stage.run([row], extraction, folder, tmp_path, tmp_path / "bucket-0.tsv", 1)
        written.append((path.stat().st_mtime_ns, path.read_bytes()))
    assert written[0] == written[1]
    assert written[2][1] != written[0][1]


def test_a_slide_without_tiles_is_a_row_with_a_reason(slide: Any, tmp_path: Path) -> None:
    _, _, folder = slide
    row = SlideRow("nowhere", "fine", "p", "c", path="nowhere.tif")
    extraction = Extraction(encoder="random_resnet", options=OPTIONS, any_scale=True)
    stage.run([row], extraction, folder, tmp_path, tmp_path / "bucket-0.tsv", 1)
    line = (tmp_path / "bucket-0.tsv").read_text().splitlines()[1]
    assert line.startswith("nowhere\tunreachable\t")
    assert "nowhere.h5: no such tile file: tile the slide first" in line


def test_half_precision_on_a_cpu_is_refused() -> None:
    import torch

    with pytest.raises(PartError, match="fp16 needs CUDA"):
        resolve_autocast("fp16", torch.device("cpu"))
    assert resolve_autocast("auto", torch.device("cpu")) == "none"
    assert resolve_autocast("bf16", torch.device("cpu")) == "bf16"


@pytest.mark.parametrize("changes", [{"autocast": "bf16"}, {"compile": True}])
def test_other_arithmetic_is_close_and_another_bag(slides: Any, make: Any, changes: Any) -> None:
    (row, tiles), other = slides[0], slides[1]
    plain, changed = make(), make(**changes)
    expected = bag_of(plain, row, tiles)
    found, _ = bags_of(changed, [(row, tiles), other])
    assert isinstance(found, Bag)
    scale = np.abs(expected.features.astype(np.float32)).max()
    difference = np.abs(found.features.astype(np.float32) - expected.features.astype(np.float32))
    assert difference.max() < 0.02 * scale
    assert found.attributes["digest"] != expected.attributes["digest"]
    assert found.features.tobytes() == bag_of(make(**changes), row, tiles).features.tobytes()
