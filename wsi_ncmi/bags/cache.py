"""The packed cache that training reads: all bags of a cohort, one after the other.

`features.npy` [total, D], `augmented-<i>.npy` alike and `coords.npy` [total, 2] are plain NumPy
files, mapped into memory; `index.tsv` says where each slide's rows are, and what is missing and
why. The index is written last: without it there is no cache. `packed.tsv` is the same index, which
stays when the workflow removes `index.tsv` to pack again: by it, a bag that cannot be reached then
is taken from the cache that is replaced.
"""

import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.lib.format import header_data_from_array_1_0, write_array_header_1_0
from numpy.typing import NDArray

from wsi_ncmi.bags.twins import refuse_twins, sample_digest
from wsi_ncmi.cohorts.twins import sets_of
from wsi_ncmi.errors import BagError, UnreachableBagError
from wsi_ncmi.files.atomic import atomic_path, writing
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.files.table import write_records
from wsi_ncmi.machine import free_memory
from wsi_ncmi.provenance import digest

INDEX, PACKED = "index.tsv", "packed.tsv"


@dataclass(frozen=True)
class IndexRow:
    """Where one slide's rows are.

    Attributes:
        status: ok, missing, or unreachable, which the next run tries again.
        reason: why it has no rows, or why they are those of an earlier packing.
        digest: of the bag, by which models made of another one are noticed.
        same_as: the first slide that has the same bag, or is the same file.
    """

    slide_id: str
    status: str
    reason: str
    offset: int
    count: int
    digest: str
    same_as: str = ""


def _none() -> NDArray[Any]:
    return np.empty((0, 0))


@dataclass(frozen=True)
class SourceBag:
    """One slide's bag, or why there is none.

    Attributes:
        status, reason: as of `IndexRow`.
        digest: of the bag, also where it is known and the bag is not.
        slide: the fingerprint of the slide it was made of, where that is known.
        features: [N, D]; coords: [N, 2]; augmented: [copies, N, D].
    """

    slide_id: str
    status: str
    reason: str
    digest: str = ""
    features: NDArray[Any] = field(default_factory=_none)
    coords: NDArray[np.int32] = field(default_factory=_none)
    augmented: NDArray[Any] = field(default_factory=_none)
    slide: str = ""


class Source(Protocol):
    """Bags to pack. `dim` and `dtype` are those of the first one that can be used."""

    dim: int
    dtype: np.dtype[Any]
    copies: int

    def bags(self) -> Iterator[SourceBag]:
        """Each slide once, in the order of their ids, read when its turn comes."""
        ...


def write_cache(
    source: Source, folder: Path, patient_of: Mapping[str, str] | None = None
) -> list[IndexRow]:
    """Pack all bags of `source`; `features.npy` and the others first, the index last.

    A bag that cannot be reached now is taken from the cache that is there, if that holds it.

    Args:
        patient_of: slide_id -> patient_id. None: it is not looked whether a bag stands under the
            ids of several patients.

    Returns:
        the index.

    Raises:
        BagError: there is no bag at all, one is damaged, or one is of several patients.
        OutputError: the disk is full.
    """
    earlier = _earlier(folder, source)
    names = ["features.npy", *(f"augmented-{i}.npy" for i in range(source.copies))]
    with ExitStack() as stack:
        arrays = [stack.enter_context(_rows(folder / n, source.dtype, source.dim)) for n in names]
        coords = stack.enter_context(_rows(folder / "coords.npy", np.dtype(np.int32), 2))
        bags = (_known(bag, earlier) for bag in source.bags())
        index, alike, slides = _append_all(bags, arrays, coords)
        for array in (*arrays, coords):
            array.finish()
        places = {row.slide_id: slice(row.offset, row.offset + row.count) for row in index}
        twins = {tuple(ids) for ids in sets_of(slides)}
        twins |= {_equal(ids, places, arrays[0].written()) for ids in sets_of(alike)}
        if patient_of is not None:
            refuse_twins(sorted(twins), patient_of, "the same bag or slide")
        first = {slide_id: ids[0] for ids in sorted(twins) for slide_id in ids[1:]}
        index = [replace(row, same_as=first.get(row.slide_id, "")) for row in index]
        # From here on the old cache is none: an index beside other features would be taken for
        # whole.
        for name in (INDEX, PACKED):
            (folder / name).unlink(missing_ok=True)
    for stale in set(folder.glob("augmented-*.npy")) - {folder / name for name in names}:
        stale.unlink()
    for name in (PACKED, INDEX):
        write_records(folder / name, IndexRow, index)
    return index


Keys = list[tuple[str, str]]


def _append_all(
    bags: Iterable[SourceBag], arrays: list["_Rows"], coords: "_Rows"
) -> tuple[list[IndexRow], Keys, Keys]:
    """The index; (sample of the features, slide_id); (fingerprint of the slide, slide_id)."""
    index: list[IndexRow] = []
    alike: Keys = []
    slides: Keys = []
    for bag in bags:
        start, slide_id = coords.count, bag.slide_id
        if bag.status == "ok":
            _append(bag, arrays, coords)
            alike.append((sample_digest(bag.features), slide_id))
            slides.append((bag.slide, slide_id))
        count = coords.count - start
        index.append(IndexRow(slide_id, bag.status, bag.reason, start, count, bag.digest))
    if not coords.count:
        reasons = "; ".join(f"{row.slide_id}: {row.reason}" for row in index[:5])
        unreachable = any(row.status == "unreachable" for row in index)
        kind = UnreachableBagError if unreachable else BagError
        raise kind(f"there is no bag to train on ({reasons})")
    return index, alike, slides


def _equal(
    ids: Sequence[str], places: Mapping[str, slice], features: NDArray[Any]
) -> tuple[str, ...]:
    """Those whose features are the first one's, row for row."""
    first = features[places[ids[0]]]
    return tuple(s for s in ids if np.array_equal(features[places[s]], first))


class _Rows:
    """A .npy file [N, width] written row after row, whose header is filled in at the end.

    By ordinary writes: on a full disk those are an error, where a mapped file ends the process.
    """

    def __init__(self, path: Path, file: FileIO, dtype: np.dtype[Any], width: int) -> None:
        self.path, self.file, self.dtype, self.width, self.count = path, file, dtype, width, 0
        self._header()

    def _header(self) -> None:
        # NumPy leaves room in a header for any length of the first axis.
        empty = np.empty((0, self.width), self.dtype)
        facts = header_data_from_array_1_0(empty) | {"shape": (self.count, self.width)}
        header = BytesIO()
        write_array_header_1_0(header, facts)
        self.file.seek(0)
        self._write(header.getbuffer())

    def append(self, rows: NDArray[Any]) -> None:
        self._write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        self.count += len(rows)

    def _write(self, content: memoryview) -> None:
        with writing(self.path):
            while content:
                content = content[self.file.write(content) :]

    def finish(self) -> None:
        """Say in the header how many rows there are."""
        self._header()

    def written(self) -> NDArray[Any]:
        """All rows as they were written; after `finish`."""
        mapped: NDArray[Any] = np.load(self.file.name, mmap_mode="r")
        return mapped


@contextmanager
def _rows(path: Path, dtype: np.dtype[Any], width: int) -> Iterator[_Rows]:
    # Without a buffer, which would be written out while another file's error is on its way up.
    with atomic_path(path) as temporary, temporary.open("r+b", buffering=0) as file:
        yield _Rows(path, file, dtype, width)


def _append(bag: SourceBag, arrays: list[_Rows], coords: _Rows) -> None:
    for array, values in zip(arrays, (bag.features, *bag.augmented), strict=True):
        array.append(_cast(bag.slide_id, values, array.dtype))
    coords.append(bag.coords.astype(np.int32, copy=False))


def _cast(slide_id: str, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        cast = values.astype(dtype, copy=False)
    if not np.isfinite(cast).all():
        raise BagError(
            f"slide {slide_id}: its {values.dtype} features do not fit into the cache's "
            f"{dtype}, which is that of the first bag: store all bags as float32"
        )
    return cast


def _earlier(folder: Path, source: Source) -> "BagCache | None":
    """The cache that is there, if its bags are of the same kind."""
    if not (folder / PACKED).is_file():
        return None
    try:
        cache = BagCache(folder, index=PACKED, resident=False)
    except (BagError, OSError, ValueError):
        return None
    alike = (cache.dim, cache.features.dtype, len(cache.augmented))
    return cache if alike == (source.dim, source.dtype, source.copies) else None


def _known(bag: SourceBag, earlier: "BagCache | None") -> SourceBag:
    """A bag that cannot be reached, as it was packed earlier, unless it is known to be another."""
    if bag.status != "unreachable" or earlier is None or not earlier.has(bag.slide_id):
        return bag
    recorded = str(earlier.index.at[bag.slide_id, "digest"])
    if bag.digest not in ("", recorded):
        return bag
    rows = earlier.rows(bag.slide_id)
    augmented = [array[rows] for array in earlier.augmented]
    return replace(
        bag,
        status="ok",
        reason=f"{KEPT}: {bag.reason}",
        digest=recorded,
        features=np.asarray(earlier.features[rows]),
        coords=np.asarray(earlier.coords[rows]),
        augmented=np.asarray(augmented),
    )


KEPT = "as packed before"


def read_index(path: Path) -> pd.DataFrame:
    """The index of a cache, by slide_id."""
    return read_frame(path, {"offset": int, "count": int}).set_index("slide_id")


def bags_digest(index: Path, slide_ids: Iterable[str]) -> str:
    """What a set of slides' bags is, including which of them have none."""
    table = read_index(index)
    found = {s: table.digest.get(s, "") for s in sorted(set(slide_ids))}
    return digest(found)


class BagCache:
    """Random access to the packed bags of a cohort.

    Args:
        folder: where `write_cache` wrote.
        resident: ask the system to read all features ahead. None: where half of the memory that
            may be taken holds them. The files are mapped in either case, so that all processes of a
            machine share one copy, which is given up where memory is needed.
        index: the name of its index.
    """

    def __init__(self, folder: Path, *, resident: bool | None = None, index: str = INDEX) -> None:
        self.index = read_index(folder / index)
        resident = _fits(folder) if resident is None else resident
        self.features = _mapped(folder / "features.npy", resident)
        self.coords = _mapped(folder / "coords.npy", ahead=False)
        copies = len(list(folder.glob("augmented-*.npy")))
        paths = [folder / f"augmented-{i}.npy" for i in range(copies)]
        self.augmented = [_mapped(path, resident) for path in paths]
        if len(self.features) != int(self.index["count"].sum()):
            raise BagError(f"{folder}: features and index do not fit together: pack them again")
        # Every step reads a batch of bags: looking each up in the table took a sixth of training.
        columns = zip(self.index.index, self.index["offset"], self.index["count"], strict=True)
        self._rows = {str(s): slice(int(at), int(at + count)) for s, at, count in columns}

    @property
    def dim(self) -> int:
        """D, the width of the features."""
        return int(self.features.shape[1])

    def has(self, slide_id: str) -> bool:
        """Whether the slide has at least one instance."""
        return slide_id in self.index.index and int(self.index.at[slide_id, "count"]) > 0

    def reason(self, slide_id: str) -> str:
        """Why a slide has no bag."""
        if slide_id not in self.index.index:
            return "no bag of this slide_id"
        return str(self.index.at[slide_id, "reason"])

    @property
    def twins(self) -> list[list[str]]:
        """Sets of slides whose bags are the same."""
        keys = [(str(first), str(s)) for s, first in self.index["same_as"].items() if first]
        return sets_of([*keys, *dict.fromkeys((first, first) for first, _ in keys)])

    def rows(self, slide_id: str) -> slice:
        """The slide's rows in the packed arrays."""
        return self._rows[slide_id]

    def read(self, slide_ids: Iterable[str], copy: int | None = None) -> NDArray[Any]:
        """Features [N, D] of one or several slides joined; `copy` picks an augmented one."""
        array = self.features if copy is None else self.augmented[copy]
        return np.concatenate([array[self.rows(s)] for s in slide_ids])


def _mapped(path: Path, ahead: bool) -> NDArray[Any]:
    array: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
    if ahead and hasattr(mmap, "MADV_WILLNEED"):
        array._mmap.madvise(mmap.MADV_WILLNEED)  # type: ignore[attr-defined]
    return array


def _fits(folder: Path) -> bool:
    size = sum(path.stat().st_size for path in folder.glob("*.npy"))
    return size < 0.5 * free_memory()
