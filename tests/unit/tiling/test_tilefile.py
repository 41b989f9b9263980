from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_tiled import tiled_slide

from wsi_ncmi.errors import SlideError
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.tilefile import DTYPES, TiledSlide, UnreadableSlide


@pytest.fixture
def tiles() -> TiledSlide:
    return tiled_slide(
        "a",
        digest="d",
        mpp=0.25,
        level=1,
        coords=np.array([[0, 512], [512, 512]], np.int32),
        tissue_fraction=np.array([0.5, 1], np.float16),
        focus=np.array([900.5, 1e6], np.float32),
        pen=np.array([0, 0.25], np.float16),
        white=np.array([0.125, 0], np.float16),
        black=np.array([0, 1], np.float16),
        fold=np.array([0.5, np.nan], np.float16),
        stain_vectors=np.array([[0.5, 0.7, 0.4], [0.2, 0.8, 0.6]]),
    )


def test_what_is_written_is_read(tmp_path: Path, tiles: TiledSlide) -> None:
    path = tmp_path / "tiles" / "a.h5"
    tilefile.write(path, tiles)
    found = tilefile.read(path)
    for name, dtype in DTYPES.items():
        np.testing.assert_array_equal(getattr(found, name), getattr(tiles, name))
        assert getattr(found, name).dtype == dtype
    assert (found.slide_id, found.status, found.mpp, found.level) == ("a", "ok", 0.25, 1)
    assert found.lab_mean is None
    np.testing.assert_array_equal(found.stain_vectors, tiles.stain_vectors)
    assert len(found) == 2
    assert [p.name for p in path.parent.iterdir()] == ["a.h5"]


def test_an_unreadable_slide_has_no_tiles(tmp_path: Path) -> None:
    unreadable = UnreadableSlide(slide_id="a", reason="µm/px is missing", digest="d")
    tilefile.write(tmp_path / "a.h5", unreadable)
    found = tilefile.read(tmp_path / "a.h5")
    assert found == unreadable
    with pytest.raises(SlideError, match="unreadable: µm/px is missing"):
        tilefile.read_tiled(tmp_path / "a.h5")
    assert tilefile.stated_digest(tmp_path / "a.h5") == ""  # it is tried again


def test_damaged_files_are_named(tmp_path: Path, tiles: TiledSlide) -> None:
    path = tmp_path / "a.h5"
    with pytest.raises(SlideError, match=r"a\.h5: no such tile file"):
        tilefile.read(path)
    tilefile.write(path, tiles)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SlideError, match=r"a\.h5: the tile file is damaged .*delete it"):
        tilefile.read(path)


def test_an_unfinished_file_is_refused(tmp_path: Path, tiles: TiledSlide) -> None:
    path = tmp_path / "a.h5"
    tilefile.write(path, tiles)
    with h5py.File(path, "a") as file:
        file.attrs["complete"] = False
    with pytest.raises(SlideError, match="not a finished tile file of format 2"):
        tilefile.read(path)


def test_datasets_that_disagree_are_never_renamed_into_place(
    tmp_path: Path, tiles: TiledSlide
) -> None:
    with pytest.raises(SlideError, match="datasets of different lengths"):
        tilefile.write(tmp_path / "a.h5", replace(tiles, focus=np.zeros(1, np.float32)))
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_what_every_slide_has_is_damaged(tmp_path: Path, tiles: TiledSlide) -> None:
    tilefile.write(tmp_path / "a.h5", tiles)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file.attrs["read_px"]
    with pytest.raises(SlideError, match=r"a\.h5: the tile file lacks attributes .*read_px"):
        tilefile.read(tmp_path / "a.h5")
