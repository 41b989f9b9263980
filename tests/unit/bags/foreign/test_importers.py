from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.bags.checks import problem_of
from wsi_ncmi.bags.checksum import content_digest
from wsi_ncmi.bags.foreign.importers import StoreSource, open_source
from wsi_ncmi.bags.packing import write_cache
from wsi_ncmi.bags.store import Bag, write_bag
from wsi_ncmi.errors import BagError

Features = NDArray[Any]


def features(rows: int, seed: int = 0, dtype: type = np.float32) -> Features:
    return np.random.default_rng(seed).normal(size=(rows, 6)).astype(dtype)


def write_h5(path: Path, **datasets: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file.create_dataset(name, data=value)


def packed(
    path: Path, names: list[str], sizes: list[int], dtype: type = np.float16
) -> dict[str, Features]:
    bags = {n: features(s, i, dtype) for i, (n, s) in enumerate(zip(names, sizes, strict=True))}
    write_h5(
        path,
        features=np.concatenate(list(bags.values())),
        offsets=np.cumsum([0, *sizes]),
        slide_id=np.array(names, "S"),
    )
    return bags


def entries(source: Any) -> list[tuple[str, int, str, str]]:
    """(slide_id, number of instances, digest, reason why there are none)."""
    return [(b.slide_id, len(b.features), b.digest, b.reason) for b in source.bags()]


def entry(source: Any, slide_id: str) -> tuple[int, str]:
    """Number of instances and the reason why there are none."""
    found = {s: (count, reason) for s, count, _, reason in entries(source)}
    return found[slide_id]


def read(source: Any, slide_id: str) -> tuple[Any, Any, Any]:
    (bag,) = (b for b in source.bags() if b.slide_id == slide_id)
    return bag.features, bag.coords, bag.augmented


# --- the packed layout -------------------------------------------------------------------------


def test_packed(tmp_path: Path) -> None:
    path = tmp_path / "bags.h5"
    bags = packed(path, ["b", "a", "unused"], [4, 2, 3])
    source = open_source(path, "packed", ["a", "b"])
    assert (source.dim, source.dtype, source.copies) == (6, np.float16, 0)
    assert [(s, n, r) for s, n, _, r in entries(source)] == [("a", 2, ""), ("b", 4, "")]
    found, coords, augmented = read(source, "a")
    assert np.array_equal(found, bags["a"])
    assert (coords == -1).all()  # no coordinates, so no heatmap by mistake
    assert coords.shape == (2, 2)
    assert augmented.shape == (0, 2, 6)
    write_cache(source, tmp_path / "cache")
    assert np.array_equal(BagCache(tmp_path / "cache").read(["b"]), bags["b"])


def test_packed_with_variable_length_names(tmp_path: Path) -> None:
    path = tmp_path / "bags.h5"
    packed(path, ["a"], [3])
    with h5py.File(path, "r+") as file:
        del file["slide_id"]
        file.create_dataset("slide_id", data=["käse"], dtype=h5py.string_dtype())
    assert entry(open_source(path, "packed", ["käse"]), "käse") == (3, "")


def test_packed_says_why_a_bag_is_unfit(tmp_path: Path) -> None:
    path = tmp_path / "bags.h5"
    packed(path, ["good", "nan", "empty"], [3, 2, 0])
    with h5py.File(path, "r+") as file:
        file["features"][4, 2] = np.nan
    source = open_source(path, "packed", ["good", "nan", "empty", "absent"])
    assert entry(source, "good") == (3, "")
    assert entry(source, "nan") == (0, "features are not finite")
    assert entry(source, "empty") == (0, "no instance")
    assert entry(source, "absent") == (0, "no bag of this slide_id")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"offsets": None}, "datasets ['offsets'] are missing (packed layout)"),
        ({"offsets": [0, 2]}, "2 slides need 3 offsets ending at 5, found 2 ending at 2"),
        ({"offsets": [0, 2, 4]}, "2 slides need 3 offsets ending at 5, found 3 ending at 4"),
        ({"slide_id": [b"a", b"a"]}, "a slide_id stands twice"),
        ({"features": np.zeros(5, np.float16)}, "expected [N, D]"),
        ({"offsets": [0, 7, 5]}, "offsets"),
        ({"offsets": [1, 2, 5]}, "offsets"),
    ],
)
def test_packed_files_that_are_wrong(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    path = tmp_path / "bags.h5"
    content = {"features": features(5), "offsets": [0, 2, 5], "slide_id": [b"a", b"b"]} | changes
    write_h5(path, **{k: v for k, v in content.items() if v is not None})
    with pytest.raises(BagError) as error:
        open_source(path, "packed", ["a", "b"])
    assert str(error.value).startswith(f"{path}: ")
    assert text in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not an hdf5 file at all"])
def test_packed_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bags.h5"
    path.write_bytes(content)
    with pytest.raises(BagError, match=r"bags\.h5: cannot be read as HDF5"):
        open_source(path, "packed", ["a"])


def test_packed_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "bags.h5"
    packed(path, ["a"], [500])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BagError, match=r"bags\.h5: cannot be read as HDF5"):
        open_source(path, "packed", ["a"])


@pytest.mark.parametrize("layout", ["packed", "h5", "pt"])
def test_nothing_there(tmp_path: Path, layout: str) -> None:
    with pytest.raises(BagError, match="nowhere: no such file or folder of bags"):
        open_source(tmp_path / "nowhere", layout, ["a"])


def test_real_packed_bags(shared_data: Path) -> None:
    path = shared_data / "bags" / "tcga_hipt_regions.h5"
    with h5py.File(path) as file:
        names = [s.decode() for s in file["slide_id"][:3]]
        sizes = np.diff(file["offsets"][:4]).tolist()
    source = open_source(path, "packed", names)
    assert [n for _, n, _, _ in entries(source)] == sizes
    assert source.dim == next(source.bags()).features.shape[1]


# --- a folder of HDF5 files --------------------------------------------------------------------

COORDS = np.array([[0, 256], [512, 0], [256, 256]], np.int64)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("features", (3, 6)),  # TRIDENT, CLAM
        ("features", (1, 3, 6)),  # with a batch axis
    ],
)
@pytest.mark.parametrize("coords_shape", [None, (3, 2), (1, 3, 2)])
def test_h5_layouts(
    tmp_path: Path, name: str, shape: tuple[int, ...], coords_shape: tuple[int, ...] | None
) -> None:
    bag = features(3)
    datasets: dict[str, Any] = {name: bag.reshape(shape)}
    if coords_shape is not None:
        datasets["coords"] = COORDS.reshape(coords_shape)
    write_h5(tmp_path / "s.h5", **datasets)
    source = open_source(tmp_path, "h5", ["s"])
    assert (source.dim, source.dtype) == (6, np.float32)
    assert entry(source, "s") == (3, "")
    found, coords, _ = read(source, "s")
    assert np.array_equal(found, bag)
    assert np.array_equal(coords, COORDS if coords_shape else np.full((3, 2), -1))


def test_coordinates_of_stamp_are_not_taken_for_pixels(tmp_path: Path) -> None:
    write_h5(tmp_path / "s.h5", feats=features(3), coords=COORDS)
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file.attrs["unit"] = "um"
    source = open_source(tmp_path, "h5", ["s"])
    found, coords, _ = read(source, "s")
    assert np.array_equal(found, features(3))
    assert (coords == -1).all()


def test_one_instance_stays_one(tmp_path: Path) -> None:
    write_h5(tmp_path / "s.h5", features=features(1), coords=COORDS[:1])
    source = open_source(tmp_path, "h5", ["s"])
    assert entry(source, "s") == (1, "")
    assert read(source, "s")[0].shape == (1, 6)


def test_coordinates_that_do_not_fit_mean_a_damaged_file(tmp_path: Path) -> None:
    write_h5(tmp_path / "good.h5", features=features(3))
    write_h5(tmp_path / "s.h5", features=features(3), coords=COORDS[:2])
    count, reason = entry(open_source(tmp_path, "h5", ["good", "s"]), "s")
    assert count == 0
    assert reason.startswith("s.h5: coords are (2, 2), expected (3, 2) for 3 features")


def test_h5_says_why_a_bag_is_unfit(tmp_path: Path) -> None:
    write_h5(tmp_path / "good.h5", features=features(3))
    write_h5(tmp_path / "wide.h5", features=np.zeros((3, 7), np.float32))
    write_h5(tmp_path / "flat.h5", features=np.zeros(6, np.float32))
    write_h5(tmp_path / "none.h5", features=np.zeros((0, 6), np.float32))
    write_h5(tmp_path / "inf.h5", features=np.full((2, 6), np.inf, np.float32))
    write_h5(tmp_path / "other.h5", embeddings=features(3), coords=COORDS)
    (tmp_path / "torn.h5").write_bytes(b"torn")
    names = ["good", "wide", "flat", "none", "inf", "other", "torn", "absent"]
    source = open_source(tmp_path, "h5", names)
    expected = {
        "good": (3, ""),
        "wide": (0, "7 features, expected 6 as in the first bag"),
        "flat": (
            0,
            "features are (6,), expected [N, D]: this is one vector for a whole slide; "
            "take the features of its tiles",
        ),
        "none": (0, "no instance"),
        "inf": (0, "features are not finite"),
        "other": (0, "other.h5: neither `features` nor `feats`: ['coords', 'embeddings']"),
        "absent": (0, "absent.h5: no such file"),
    }
    assert {s: entry(source, s) for s in expected} == expected
    assert entry(source, "torn")[1].startswith("torn.h5: cannot be read as HDF5")
    write_cache(source, tmp_path / "cache")
    assert BagCache(tmp_path / "cache").reason("absent") == "absent.h5: no such file"


def test_the_first_file_may_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"torn")
    write_h5(tmp_path / "b.h5", features=features(3))
    assert entry(open_source(tmp_path, "h5", ["a", "b"]), "b") == (3, "")


@pytest.mark.parametrize("layout", ["h5", "pt"])
def test_a_folder_without_bags(tmp_path: Path, layout: str) -> None:
    with pytest.raises(
        BagError, match=rf"no bag can be read \(expected files such as s1\.{layout}\)"
    ):
        open_source(tmp_path, layout, ["s1", "s2"])


# --- a folder of tensors -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pt(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(features(3)).to(dtype)
    torch.save(tensor, tmp_path / "s.pt")
    source = open_source(tmp_path, "pt", ["s"])
    found, coords, _ = read(source, "s")
    assert np.array_equal(found.astype(np.float32), tensor.float().numpy())
    assert (coords == -1).all()


def test_pt_that_needs_a_gradient(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(features(3)).requires_grad_(), tmp_path / "s.pt")
    assert entry(open_source(tmp_path, "pt", ["s"]), "s") == (3, "")


def test_pt_says_why_a_bag_is_unfit(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(features(3)), tmp_path / "good.pt")
    torch.save({"features": torch.zeros(2, 6)}, tmp_path / "dict.pt")
    torch.save(torch.zeros(3, 5, 6), tmp_path / "deep.pt")
    torch.save(torch.full((2, 6), float("nan")), tmp_path / "nan.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:100])
    source = open_source(tmp_path, "pt", ["good", "dict", "deep", "nan", "torn", "absent"])
    assert entry(source, "good") == (3, "")
    assert entry(source, "dict") == (0, "dict.pt: holds dict, expected a tensor [N, D]")
    assert entry(source, "deep")[1].startswith("features are (3, 5, 6), expected [N, D]; if these")
    assert entry(source, "nan") == (0, "features are not finite")
    assert entry(source, "torn")[1].startswith("torn.pt: cannot be read as a tensor")
    assert entry(source, "absent") == (0, "absent.pt: no such file")


def test_pt_with_a_single_number(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(features(3)), tmp_path / "good.pt")
    torch.save(torch.tensor(3.0), tmp_path / "number.pt")
    source = open_source(tmp_path, "pt", ["good", "number"])
    assert entry(source, "number") == (0, "features are (), expected [N, D]")


def test_code_in_a_pt_is_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Dangerous:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return Path.touch, (trap,)

    torch.save(Dangerous(), tmp_path / "bad.pt")
    torch.save(torch.from_numpy(features(3)), tmp_path / "good.pt")
    source = open_source(tmp_path, "pt", ["bad", "good"])
    assert entry(source, "bad")[1].startswith("bad.pt: cannot be read as a tensor")
    assert not trap.exists()


# --- our own bags ------------------------------------------------------------------------------


def manifest(path: Path, *rows: tuple[str, str, str, str, str]) -> Path:
    columns = ["slide_id", "status", "reason", "tiles", "digest"]
    pd.DataFrame(rows, columns=columns).to_csv(path, sep="\t", index=False)
    return path


@pytest.mark.parametrize("copies", [0, 2])
def test_store(tmp_path: Path, make_bag: Callable[..., Bag], copies: int) -> None:
    bags = {f"s{i}": make_bag(rows=3 + i, seed=i, copies=copies) for i in range(3)}
    for slide_id, bag in bags.items():
        write_bag(tmp_path / f"{slide_id}.h5", bag)
    first = manifest(
        tmp_path / "a.tsv", ("s0", "ok", "", "3", "d0"), ("bad", "no_tissue", "all glass", "0", "")
    )
    second = manifest(tmp_path / "b.tsv", ("s1", "ok", "", "4", "d1"), ("s2", "ok", "", "5", "d2"))
    source = StoreSource(tmp_path, [first, second])
    assert source.copies == copies
    write_cache(source, tmp_path / "cache")
    cache = BagCache(tmp_path / "cache")
    for slide_id, bag in bags.items():
        assert np.array_equal(cache.read([slide_id]), bag.features)
        assert np.array_equal(cache.coords[cache.rows(slide_id)], bag.coords)
        for copy in range(copies):
            assert np.array_equal(cache.read([slide_id], copy), bag.augmented[copy])
    assert cache.reason("bad") == "all glass"
    assert cache.index.at["s1", "digest"] == "d1"


def test_store_without_a_good_slide(tmp_path: Path) -> None:
    path = manifest(tmp_path / "a.tsv", ("s0", "no_tissue", "all glass", "0", ""))
    with pytest.raises(BagError, match=r"no slide has features \(s0: all glass\)"):
        StoreSource(tmp_path, [path])


# --- helpers -----------------------------------------------------------------------------------


def test_content_digest_sees_shape_dtype_and_bytes() -> None:
    bag = features(4)
    variants = [bag, bag.reshape(6, 4), bag.astype(np.float64), bag + 1, bag[:3]]
    assert len({content_digest(v) for v in variants}) == len(variants)
    assert content_digest(bag[::1]) == content_digest(bag.copy())
    assert content_digest(np.asfortranarray(bag)) == content_digest(bag)


def test_problem_of() -> None:
    assert problem_of(features(2)) == ""
    assert problem_of(np.zeros((2, 3, 4, 5))) == "features are (2, 3, 4, 5), expected [N, D]"
    assert problem_of(np.zeros((0, 4))) == "no instance"
    assert problem_of(np.ones((2, 4), int)) == "features are int64, expected floating point numbers"
    assert problem_of(np.full((2, 4), np.nan)) == "features are not finite"


def test_packed_coordinates(tmp_path: Path) -> None:
    path = tmp_path / "bags.h5"
    packed(path, ["a", "b"], [2, 3])
    places = np.arange(10).reshape(5, 2)
    with h5py.File(path, "r+") as file:
        file["coords"] = places
    assert np.array_equal(read(open_source(path, "packed", ["b"]), "b")[1], places[2:])
    with h5py.File(path, "r+") as file:
        del file["coords"]
        file["coords"] = places[:4]
    with pytest.raises(BagError, match=r"coords are \(4, 2\), expected \(5, 2\)"):
        open_source(path, "packed", ["b"])


@pytest.mark.parametrize("layout", ["packed", "h5", "pt"])
def test_one_bag_under_several_ids_whatever_the_layout(tmp_path: Path, layout: str) -> None:
    """Bytes, links, or the same values in files of another name and another writer."""
    values = features(6)
    names, path = ["a", "b", "other"], tmp_path / "bags"
    path.mkdir()
    if layout == "packed":
        path = tmp_path / "bags.h5"
        rows = np.concatenate([values, values, features(5, seed=1)])
        write_h5(path, features=rows, offsets=[0, 6, 12, 17], slide_id=np.array(names, "S"))
    elif layout == "h5":
        write_h5(path / "a.h5", features=values)
        write_h5(path / "b.h5", features=values, coords=np.ones((6, 2), np.int32))
        write_h5(path / "other.h5", features=features(5, seed=1))
    else:
        torch.save(torch.from_numpy(values), path / "a.pt")
        (path / "b.pt").symlink_to("a.pt")
        torch.save(torch.from_numpy(features(5, seed=1)), path / "other.pt")
    source = open_source(path, layout, names)
    with pytest.raises(BagError, match=r"a \(patient p1\), b \(patient p2\): they could stand"):
        write_cache(source, tmp_path / "cache", {"a": "p1", "b": "p2", "other": "p3"})
    write_cache(source, tmp_path / "cache", {"a": "p1", "b": "p1", "other": "p3"})
    assert BagCache(tmp_path / "cache").twins == [["a", "b"]]


@pytest.mark.parametrize(
    ("suffix", "said"), [("h5", "neither `features` nor `feats`"), ("pt", "holds dict")]
)
def test_where_no_bag_can_be_read_the_first_reasons_are_said(
    tmp_path: Path, suffix: str, said: str
) -> None:
    for name in "abcde":
        if suffix == "h5":
            write_h5(tmp_path / f"{name}.h5", embeddings=features(3))
        else:
            torch.save({"features": torch.zeros(3, 4)}, tmp_path / f"{name}.pt")
    with pytest.raises(BagError) as error:
        open_source(tmp_path, suffix, list("abcde"))
    text = str(error.value)
    assert text.startswith(f"{tmp_path}: no bag can be read (expected files such as a.{suffix}): ")
    assert [text.count(f"{n}.{suffix}: {said}") for n in "abcde"] == [1, 1, 1, 0, 0]
    assert text.endswith("; and 2 more")
