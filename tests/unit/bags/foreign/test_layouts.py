"""Files as CLAM, TRIDENT, STAMP, slideflow and HIPT write them: recognised and read."""

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wsi_ncmi.bags.foreign.discover import bag_files, layout_of, recognise
from wsi_ncmi.bags.foreign.layouts import LAYOUTS, read_h5
from wsi_ncmi.bags.foreign.tensors import load_tensor
from wsi_ncmi.errors import BagError

COORDS = np.array([[0, 256], [512, 0], [256, 256]], np.int64)


def features(rows: int = 3, dim: int = 6, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def h5(path: Path, attributes: dict[str, Any] | None = None, **datasets: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value
        file.attrs.update(attributes or {})
    return path


def trident(path: Path) -> Path:
    h5(path, features=features(), coords=COORDS)
    with h5py.File(path, "r+") as file:
        file["features"].attrs.update({"name": "s", "savetodir": "features_uni"})
    return path


def pt(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)
    return path


def stamp(path: Path, attributes: dict[str, Any], scale: float = 1.0) -> Path:
    return h5(path, attributes, feats=features(), coords=COORDS * scale)


# --- what a file is taken for --------------------------------------------------------------------


def test_hdf5_files_are_recognised(tmp_path: Path) -> None:
    assert recognise(h5(tmp_path / "a.h5", features=features(), coords=COORDS)) == "clam_h5"
    assert recognise(trident(tmp_path / "b.h5")) == "trident"
    assert recognise(stamp(tmp_path / "c.h5", {"unit": "um"})) == "stamp"
    packed = {"features": features(), "offsets": [0, 3], "slide_id": [b"s"]}
    assert recognise(h5(tmp_path / "d.h5", **packed)) == "packed"
    assert recognise(h5(tmp_path / "e.h5", coords=COORDS)) == ""
    own = {"features": features(), "coords": COORDS, "tissue_fraction": np.ones(3)}
    assert recognise(h5(tmp_path / "f.h5", {"format_version": 2}, **own)) == "wsi_ncmi"


def test_tensors_are_recognised(tmp_path: Path) -> None:
    assert recognise(pt(tmp_path / "a.pt", torch.zeros(3, 6))) == "clam_pt"
    assert recognise(pt(tmp_path / "b.pt", torch.zeros(3, 192))) == "hipt"
    assert recognise(pt(tmp_path / "c.pt", torch.zeros(3, 256, 384))) == "hipt"
    np.savez(tmp_path / "a.index", COORDS)
    assert recognise(tmp_path / "a.pt") == "slideflow"
    assert recognise(tmp_path / "b.pt") == "hipt"
    (tmp_path / "bags_config.json").write_text("{}")
    assert recognise(tmp_path / "b.pt") == "slideflow"


def test_folders_of_the_tools(tmp_path: Path) -> None:
    h5(tmp_path / "clam" / "h5_files" / "s.h5", features=features(), coords=COORDS)
    pt(tmp_path / "clam" / "pt_files" / "s.pt", torch.zeros(3, 6))
    trident(tmp_path / "trident" / "features_uni" / "s.h5")
    h5(tmp_path / "trident" / "patches" / "s_patches.h5", coords=COORDS)
    stamp(tmp_path / "stamp" / "centre" / "s.h5", {"unit": "um"})
    assert layout_of(tmp_path / "clam") == "clam_h5"
    assert layout_of(tmp_path / "clam" / "pt_files") == "clam_pt"
    assert layout_of(tmp_path / "trident") == "trident"
    assert layout_of(tmp_path / "stamp") == "stamp"
    names = {
        ("clam", "clam_h5"): "h5_files/s.h5",
        ("clam", "clam_pt"): "pt_files/s.pt",
        ("trident", "trident"): "features_uni/s.h5",
        ("stamp", "stamp"): "centre/s.h5",
    }
    for (folder, layout), name in names.items():
        assert bag_files(tmp_path / folder, layout) == [tmp_path / folder / name]


def test_several_encoders_of_trident(tmp_path: Path) -> None:
    trident(tmp_path / "features_uni" / "s.h5")
    trident(tmp_path / "features_conch" / "s.h5")
    for call in (lambda: layout_of(tmp_path), lambda: bag_files(tmp_path, "trident")):
        with pytest.raises(BagError, match="name one of features_conch, features_uni"):
            call()


def test_a_folder_with_both_kinds(tmp_path: Path) -> None:
    h5(tmp_path / "s.h5", features=features())
    pt(tmp_path / "s.pt", torch.zeros(3, 6))
    with pytest.raises(BagError, match=r"holds \.h5 and \.pt files: say which by --layout"):
        layout_of(tmp_path)
    assert bag_files(tmp_path, "clam_pt") == [tmp_path / "s.pt"]


def test_the_first_files_may_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"torn")
    h5(tmp_path / "b.h5", other=features())
    with pytest.raises(BagError, match=r"no bags that can be read: a\.h5: cannot"):
        layout_of(tmp_path)
    stamp(tmp_path / "c.h5", {"unit": "um"})
    assert layout_of(tmp_path) == "stamp"


def test_hidden_files_are_none(tmp_path: Path) -> None:
    (tmp_path / "._s.h5").write_bytes(b"of another file system")
    with pytest.raises(BagError, match=r"no \*\.h5 below it"):
        bag_files(tmp_path, "clam_h5")


# --- what is read from it ------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["clam_h5", "trident"])
def test_coordinates_at_level_0(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "s.h5"
    h5(path, features=features()[None], coords=COORDS[None])
    bag = LAYOUTS[layout].read(path, None)
    assert np.array_equal(bag.features, features())
    assert bag.coords is not None
    assert bag.coords.dtype == np.int32
    assert np.array_equal(bag.coords, COORDS)
    assert bag.note == ""


@pytest.mark.parametrize(
    ("attributes", "um_per_unit"),
    [
        ({"unit": "um", "tile_size": 256.0}, 1.0),  # version 2
        ({"unit": "um", "tile_size_um": 256.0, "tile_size_px": 224}, 1.0),  # from 2.1 on
        ({"tile_size": 224}, 256 / 224),  # the first version
    ],
)
def test_stamp_is_in_um(tmp_path: Path, attributes: dict[str, Any], um_per_unit: float) -> None:
    path = stamp(tmp_path / "s.h5", attributes, scale=0.875)
    unknown = LAYOUTS["stamp"].read(path, None)
    assert unknown.coords is None
    assert unknown.note.startswith("coordinates are in µm: a sheet")
    known = LAYOUTS["stamp"].read(path, 0.25)
    assert np.array_equal(known.features, features())
    assert known.coords is not None
    assert np.abs(known.coords - COORDS * 0.875 * um_per_unit / 0.25).max() <= 0.5
    assert known.note == ""


def test_stamp_by_its_stride(tmp_path: Path) -> None:
    path = h5(tmp_path / "s.h5", feats=features(), coords=np.array([[0, 0], [224, 0], [448, 224]]))
    found = LAYOUTS["stamp"].read(path, 0.5).coords
    assert found is not None
    assert found.tolist() == [[0, 0], [512, 0], [1024, 512]]


def test_stamp_without_a_unit(tmp_path: Path) -> None:
    bag = LAYOUTS["stamp"].read(stamp(tmp_path / "s.h5", {}), 0.5)
    assert bag.coords is None
    assert bag.note == "the file does not say the unit of its coordinates"


@pytest.mark.parametrize(("suffix", "save"), [(".npz", np.savez), (".npy", np.save)])
def test_slideflow_gives_no_corners(tmp_path: Path, suffix: str, save: Any) -> None:
    path = pt(tmp_path / "s.pt", torch.from_numpy(features()))
    save(tmp_path / f"s.index{suffix}", COORDS)
    bag = LAYOUTS["slideflow"].read(path, 0.5)
    assert np.array_equal(bag.features, features())
    assert bag.coords is None
    assert "centres" in bag.note
    save(tmp_path / f"s.index{suffix}", COORDS[:2])
    with pytest.raises(BagError, match=r"s\.pt: its index has 2 tiles, the tensor 3"):
        LAYOUTS["slideflow"].read(path, None)
    (tmp_path / f"s.index{suffix}").write_bytes(b"torn")
    with pytest.raises(BagError, match=rf"s\.index\{suffix}: cannot be read as an index"):
        LAYOUTS["slideflow"].read(path, None)


def test_numpy_arrays_in_a_pt(tmp_path: Path) -> None:
    """TRIDENT saves an array by torch.save; NumPy 1 named its modules otherwise."""
    pt(tmp_path / "s.pt", features())
    assert np.array_equal(load_tensor(tmp_path / "s.pt"), features())
    with zipfile.ZipFile(tmp_path / "s.pt") as new, zipfile.ZipFile(tmp_path / "o.pt", "w") as old:
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b"numpy._core", b"numpy.core"))
    assert b"numpy.core" in (tmp_path / "o.pt").read_bytes()
    assert np.array_equal(load_tensor(tmp_path / "o.pt"), features())


@pytest.mark.parametrize("bad", [np.nan, 1e12])
def test_coordinates_that_are_no_pixels(tmp_path: Path, bad: float) -> None:
    coords = COORDS.astype(float)
    coords[1, 1] = bad
    h5(tmp_path / "s.h5", features=features(), coords=coords)
    with pytest.raises(BagError, match=r"s\.h5: coords are not finite, or too large"):
        read_h5(tmp_path / "s.h5")


def test_files_of_another_kind(tmp_path: Path) -> None:
    packed = h5(tmp_path / "p.h5", features=features(), offsets=[0, 3], slide_id=[b"s"])
    with pytest.raises(BagError, match=r"p\.h5: holds many slides"):
        read_h5(packed)
    with pytest.raises(BagError, match=r"s\.h5: no `feats`: \['coords', 'features'\]"):
        LAYOUTS["stamp"].read(h5(tmp_path / "s.h5", features=features(), coords=COORDS), None)
