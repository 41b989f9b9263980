"""Bags of any origin into the packed cache (`cache`), one after the other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.bags.cache import INDEX, PACKED, BagCache
from wsi_ncmi.bags.twins import sample_digest
from wsi_ncmi.cohorts.twins import refuse_twins, sets_of
from wsi_ncmi.errors import BagError, UnreachableBagError
from wsi_ncmi.files.npy import NpyRows, npy_rows
from wsi_ncmi.files.table import write_records


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
    """Bags to pack.

    Attributes:
        dim, dtype: of the first bag that can be used.
        copies: augmented ones of each bag.
        foreign: whether they were made elsewhere, whatever the configuration says.
    """

    dim: int
    dtype: np.dtype[Any]
    copies: int
    foreign: bool

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
        arrays = [
            stack.enter_context(npy_rows(folder / n, source.dtype, source.dim)) for n in names
        ]
        coords = stack.enter_context(npy_rows(folder / "coords.npy", np.dtype(np.int32), 2))
        bags = (_known(bag, earlier, source.foreign) for bag in source.bags())
        index, alike, slides = _append_all(bags, arrays, coords)
        for array in (*arrays, coords):
            array.finish()
        places = {row.slide_id: slice(row.offset, row.offset + row.count) for row in index}
        twins = {tuple(ids) for ids in sets_of(slides)}
        twins |= {_equal(ids, places, arrays[0].written()) for ids in sets_of(alike)}
        if patient_of is not None:
            refuse_twins(sorted(twins), patient_of, "the same bag or slide", BagError)
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
    bags: Iterable[SourceBag], arrays: list[NpyRows], coords: NpyRows
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
        # What is trained without a bag must not count as trained with it.
        stated = "" if bag.status == "unreachable" else bag.digest
        index.append(IndexRow(slide_id, bag.status, bag.reason, start, count, stated))
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


def _append(bag: SourceBag, arrays: list[NpyRows], coords: NpyRows) -> None:
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


def _earlier(folder: Path, source: Source) -> BagCache | None:
    """The cache that is there, if its bags are of the same kind."""
    if not (folder / PACKED).is_file():
        return None
    try:
        cache = BagCache(folder, index=PACKED, resident=False)
    except (BagError, OSError, ValueError):
        return None
    alike = (cache.dim, cache.features.dtype, len(cache.augmented))
    return cache if alike == (source.dim, source.dtype, source.copies) else None


def _known(bag: SourceBag, earlier: BagCache | None, foreign: bool) -> SourceBag:
    """A bag that cannot be reached, as it was packed earlier.

    One of ours must be the bag that is asked for now; of a foreign one nothing more can be known.
    """
    if bag.status != "unreachable" or earlier is None or not earlier.has(bag.slide_id):
        return bag
    recorded = str(earlier.index.at[bag.slide_id, "digest"])
    if bag.digest != recorded and not (foreign and not bag.digest):
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
