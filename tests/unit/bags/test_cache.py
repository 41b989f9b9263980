from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from wsi_ncmi.bags import packing
from wsi_ncmi.bags.cache import BagCache, bags_digest, read_index
from wsi_ncmi.bags.packing import SourceBag, write_cache
from wsi_ncmi.errors import BagError, UnreachableBagError

Arrays = dict[str, NDArray[Any]]


@dataclass
class Memory:
    """A source in memory; `missing` are slides without a bag and why."""

    arrays: Arrays
    missing: dict[str, str] = field(default_factory=dict)
    copies: int = 0
    dim: int = 4
    dtype: Any = field(default_factory=lambda: np.dtype(np.float16))
    digests: dict[str, str] = field(default_factory=dict)
    status: str = "missing"
    foreign: bool = True

    def bags(self) -> Iterator[SourceBag]:
        for slide_id in sorted({*self.arrays, *self.missing}):
            if slide_id in self.missing:
                yield SourceBag(slide_id, self.status, self.missing[slide_id])
            else:
                known = self.digests.get(slide_id, f"d-{slide_id}")
                yield SourceBag(slide_id, "ok", "", known, *self.read(slide_id))

    def read(self, slide_id: str) -> tuple[Any, Any, Any]:
        bag = self.arrays[slide_id]
        coords = np.full((len(bag), 2), int(bag[0, 0]), np.int32)
        return (
            bag,
            coords,
            np.stack([bag + 100 * (i + 1) for i in range(self.copies)] or [bag])[: self.copies],
        )


def bag(rows: int, value: float) -> NDArray[np.float16]:
    return np.full((rows, 4), value, np.float16) + np.arange(4, dtype=np.float16) / 4


@pytest.fixture
def source() -> Memory:
    bags = {"s2": bag(3, 2), "s10": bag(1, 10), "007": bag(5, 7)}
    return Memory(bags, {"s3": "no_tissue: nothing\tbut glass"})


def test_pack_and_read(tmp_path: Path, source: Memory) -> None:
    write_cache(source, tmp_path)
    cache = BagCache(tmp_path)
    for slide_id, expected in source.arrays.items():
        assert np.array_equal(cache.read([slide_id]), expected)
        rows = cache.rows(slide_id)
        assert np.array_equal(cache.features[rows], expected)
        assert (cache.coords[rows] == int(expected[0, 0])).all()
    assert cache.dim == 4
    assert cache.features.dtype == np.float16
    joined = cache.read(["s10", "007"])
    assert np.array_equal(joined, np.concatenate([source.arrays["s10"], source.arrays["007"]]))


def test_index_is_sorted_and_says_what_is_missing(tmp_path: Path, source: Memory) -> None:
    write_cache(source, tmp_path)
    index = read_index(tmp_path / "index.tsv")
    assert list(index.index) == ["007", "s10", "s2", "s3"]
    assert list(index.offset) == [0, 5, 6, 9]
    assert list(index["count"]) == [5, 1, 3, 0]
    assert index.at["s3", "status"] == "missing"
    cache = BagCache(tmp_path)
    assert cache.has("007")
    assert not cache.has("s3")
    assert not cache.has("unheard-of")
    assert cache.reason("s3") == "no_tissue: nothing but glass"
    assert cache.reason("unheard-of") == "no bag of this slide_id"


@pytest.mark.parametrize("resident", [True, False, None])
def test_the_cache_is_mapped_whether_read_ahead_or_not(
    tmp_path: Path, source: Memory, resident: bool | None
) -> None:
    write_cache(source, tmp_path)
    cache = BagCache(tmp_path, resident=resident)
    assert isinstance(cache.features, np.memmap)  # which processes share
    assert np.array_equal(cache.read(["s2"]), source.arrays["s2"])


def test_augmented_copies(tmp_path: Path, source: Memory) -> None:
    source.copies = 2
    write_cache(source, tmp_path)
    cache = BagCache(tmp_path)
    assert len(cache.augmented) == 2
    for copy in range(2):
        expected = source.arrays["s2"] + 100 * (copy + 1)
        assert np.array_equal(cache.read(["s2"], copy), expected)
    assert np.array_equal(cache.read(["s2"], None), source.arrays["s2"])
    source.copies = 1
    write_cache(source, tmp_path)
    assert len(BagCache(tmp_path).augmented) == 1  # the second copy is gone with its request


def test_more_than_ten_copies_keep_their_order(tmp_path: Path, source: Memory) -> None:
    source.copies = 12
    write_cache(source, tmp_path)
    cache = BagCache(tmp_path)
    values = [float(cache.read(["s2"], copy)[0, 0]) for copy in range(12)]
    assert values == [2 + 100 * (copy + 1) for copy in range(12)]


def test_two_packings_are_equal_bytes(tmp_path: Path, source: Memory) -> None:
    write_cache(source, tmp_path / "a")
    source.arrays = dict(reversed(source.arrays.items()))
    write_cache(source, tmp_path / "b")
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == ["coords.npy", "features.npy", "index.tsv", "packed.tsv"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_no_bag_at_all_is_refused(tmp_path: Path) -> None:
    nothing = Memory({}, {f"s{i}": "no_tissue" for i in range(7)})
    with pytest.raises(BagError) as error:
        write_cache(nothing, tmp_path)
    text = str(error.value)
    assert text.startswith("there is no bag to train on (s0: no_tissue; s1: no_tissue; ")
    assert list(tmp_path.iterdir()) == []


def test_values_that_do_not_fit_the_cache_are_refused(tmp_path: Path) -> None:
    """The first bag decides the dtype: a later float32 one must not turn into infinities."""
    bags: Arrays = {"a": bag(2, 1), "b": np.full((2, 4), 1e5, np.float32)}
    with pytest.raises(BagError, match="slide b"):
        write_cache(Memory(bags), tmp_path)


def test_features_and_index_that_do_not_fit_together(tmp_path: Path, source: Memory) -> None:
    write_cache(source, tmp_path)
    np.save(tmp_path / "features.npy", np.zeros((8, 4), np.float16))
    with pytest.raises(BagError, match="do not fit together: pack them again"):
        BagCache(tmp_path)


def test_an_interrupted_packing_is_not_taken_for_whole(
    tmp_path: Path, source: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an index there is no cache: the old one must not describe new features."""
    write_cache(source, tmp_path)
    source.arrays["s2"] = bag(3, 99)
    source.digests["s2"] = "d-new"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "write_records", killed)
    with pytest.raises(KeyboardInterrupt):
        write_cache(source, tmp_path)
    index = tmp_path / "index.tsv"
    old = index.exists() and read_index(index).at["s2", "digest"] == "d-s2"
    value = float(np.load(tmp_path / "features.npy")[6, 0])
    assert not (old and value == 99)


def digest_of(folder: Path, source: Memory, slides: Sequence[str]) -> str:
    write_cache(source, folder)
    return bags_digest(folder / "index.tsv", slides)


def test_digest_follows_the_slides_that_are_asked_for(tmp_path: Path, source: Memory) -> None:
    slides = ["s2", "s3", "007"]
    before = digest_of(tmp_path, source, slides)
    assert digest_of(tmp_path, source, [*reversed(slides), "s2"]) == before
    assert digest_of(tmp_path, source, ["s2", "007"]) != before
    source.arrays["s10"] = bag(9, 1)  # moves the offsets of others
    source.digests["s10"] = "other"
    assert digest_of(tmp_path, source, slides) == before
    source.digests["s2"] = "other"
    assert digest_of(tmp_path, source, slides) != before


def test_digest_changes_when_a_missing_bag_appears(tmp_path: Path, source: Memory) -> None:
    before = digest_of(tmp_path, source, ["s2", "s3"])
    del source.missing["s3"]
    source.arrays["s3"] = bag(2, 3)
    assert digest_of(tmp_path, source, ["s2", "s3"]) != before


def test_names_and_reasons_that_look_like_something_else(tmp_path: Path) -> None:
    """pandas would read NA, 1e5 and 007 as numbers or as nothing."""
    bags = {"NA": bag(1, 1), "1e5": bag(1, 2), "007": bag(1, 3), "nan": bag(1, 4)}
    source = Memory(bags, {"x": 'quoted "reason", with\nlines'}, digests={"NA": "00123"})
    write_cache(source, tmp_path)
    cache = BagCache(tmp_path)
    for slide_id, expected in bags.items():
        assert np.array_equal(cache.read([slide_id]), expected)
    assert cache.reason("x") == 'quoted "reason", with lines'  # a row is a line
    assert cache.index.at["NA", "digest"] == "00123"


def test_index_types(tmp_path: Path, source: Memory) -> None:
    write_cache(source, tmp_path)
    index = read_index(tmp_path / "index.tsv")
    assert pd.api.types.is_integer_dtype(index.offset)
    assert pd.api.types.is_integer_dtype(index["count"])


def test_the_files_are_plain_numpy_files(tmp_path: Path, source: Memory) -> None:
    write_cache(source, tmp_path)
    expected = np.concatenate([source.arrays[s] for s in ("007", "s10", "s2")])
    np.save(tmp_path / "expected.npy", expected)
    assert (tmp_path / "features.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


# --- bags that cannot be reached -----------------------------------------------------------------

LOST = "s3.h5: cannot be reached now (Stale file handle)"


def test_a_bag_that_cannot_be_reached_is_no_missing_one(tmp_path: Path, source: Memory) -> None:
    source.missing, source.status = {"s3": LOST}, "unreachable"
    index = write_cache(source, tmp_path)
    assert [(row.status, row.reason) for row in index if row.slide_id == "s3"] == [
        ("unreachable", LOST)
    ]
    assert not BagCache(tmp_path).has("s3")


@pytest.mark.parametrize("copies", [0, 2])
def test_a_bag_that_cannot_be_reached_stays_as_it_was_packed(
    tmp_path: Path, source: Memory, copies: int
) -> None:
    """Or models that are finished would be trained again without it."""
    source.copies = copies
    slides = ["s2", "s10", "007"]
    before = digest_of(tmp_path, source, slides)
    (tmp_path / "index.tsv").unlink()  # as Snakemake does before it runs a job
    kept = source.arrays.pop("s2")
    source.missing["s2"], source.status = LOST, "unreachable"
    source.arrays["new"] = bag(4, 20)  # which moves the others' rows
    assert digest_of(tmp_path, source, slides) == before
    cache = BagCache(tmp_path)
    assert np.array_equal(cache.read(["s2"]), kept)
    assert (cache.coords[cache.rows("s2")] == 2).all()
    for copy in range(copies):
        assert np.array_equal(cache.read(["s2"], copy), kept + 100 * (copy + 1))
    assert np.array_equal(cache.read(["new"]), source.arrays["new"])
    assert cache.reason("s2") == f"as packed before: {LOST}"


def test_a_bag_that_is_another_by_now_is_not_taken_from_an_old_cache(
    tmp_path: Path, source: Memory
) -> None:
    write_cache(source, tmp_path)
    del source.arrays["s2"]
    lost = SourceBag("s2", "unreachable", LOST, "d-other")
    bags = source.bags
    source.bags = lambda: iter([*bags(), lost])  # type: ignore[method-assign]
    write_cache(source, tmp_path)
    assert not BagCache(tmp_path).has("s2")


def test_an_own_bag_that_is_not_known_to_be_the_same_is_not_taken_from_an_old_cache(
    tmp_path: Path, source: Memory
) -> None:
    """Other bags may have been made with other settings since: features of two would be mixed."""
    write_cache(source, tmp_path)
    del source.arrays["s2"]
    source.missing["s2"], source.status, source.foreign = LOST, "unreachable", False
    write_cache(source, tmp_path)
    assert not BagCache(tmp_path).has("s2")


def test_nothing_can_be_reached(tmp_path: Path, source: Memory) -> None:
    source.arrays, source.status = {}, "unreachable"
    with pytest.raises(UnreachableBagError, match="there is no bag to train on"):
        write_cache(source, tmp_path)


# --- one bag under several ids -------------------------------------------------------------------


@pytest.fixture
def twins(source: Memory) -> Memory:
    source.arrays |= {"t2": source.arrays["s2"], "t1": source.arrays["s2"].copy()}
    return source


def test_the_same_bag_of_several_patients_is_refused(tmp_path: Path, twins: Memory) -> None:
    patients = {"s2": "p1", "t1": "p2", "t2": "p1", "s10": "p3", "007": "p4"}
    with pytest.raises(BagError) as error:
        write_cache(twins, tmp_path, patients)
    assert str(error.value) == (
        "the same bag or slide under several slide_ids: s2 (patient p1), t1 (patient p2), "
        "t2 (patient p1): they could stand in two parts of a split: keep one row of each set in "
        "the sheet, or give the rows the same patient_id if they are of one patient"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_same_bag_of_one_patient_is_a_note(
    tmp_path: Path, twins: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    write_cache(twins, tmp_path, dict.fromkeys(("s2", "t1", "t2", "s10", "007"), "p"))
    assert "under several slide_ids of one patient: s2 (patient p), t1 (patient p)" in caplog.text
    cache = BagCache(tmp_path)
    assert cache.twins == [["s2", "t1", "t2"]]
    assert list(cache.index.same_as) == ["", "", "", "", "s2", "s2"]


def test_one_slide_that_was_encoded_twice(tmp_path: Path, source: Memory) -> None:
    """Another device changes the last bits of features: the slide's fingerprint tells."""
    bags = source.bags
    source.bags = lambda: (replace(b, slide="f") for b in bags())  # type: ignore[method-assign]
    with pytest.raises(BagError, match=r"007 .*, s10 .*, s2 .*: they could stand in two parts"):
        write_cache(source, tmp_path, {"s2": "a", "s10": "b", "007": "c"})


def test_bags_that_differ_in_one_row_are_two(tmp_path: Path) -> None:
    """Equal where they are looked at first; a note would be wrong, a refusal worse."""
    first = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    second = first.copy()
    second[7] += 1
    write_cache(Memory({"a": first, "b": second}, dtype=np.dtype(np.float32)), tmp_path, {})
    assert BagCache(tmp_path).twins == []
