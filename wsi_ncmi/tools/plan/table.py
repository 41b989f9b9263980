"""The plan as a table on the terminal and as a TSV."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from wsi_ncmi.machine import has_gpu
from wsi_ncmi.tools.plan.storage import Storage


@dataclass(frozen=True)
class SlidePlan:
    """What is expected of one slide; None where it is not known.

    Attributes:
        reader_reason: why it is not read natively.
        tiles: before the quality limits of extraction; tiles_from: how they were estimated.
        seconds, bytes: of all encoders, and of its bags. fingerprint: of what its file holds.
        problem: why it cannot be used as it is, or nothing.
        note: what is worth a look although it can be used: of its mask and annotation.
    """

    slide_id: str
    reader: str = ""
    reader_reason: str = ""
    mpp: float | None = None
    mpp_source: str = ""
    width: int | None = None
    height: int | None = None
    level: int | None = None
    level_downsample: float | None = None
    read_px: int | None = None
    residual: float | None = None
    scale_error_percent: float | None = None
    tiles: int | None = None
    tiles_from: str = ""
    seconds: float | None = None
    bytes: int | None = None
    fingerprint: str = ""
    problem: str = ""
    note: str = ""


@dataclass(frozen=True)
class Rates:
    """Tiles per second: what the user gave, or what each reader was measured at.

    Attributes:
        given: encoder -> of all slides; "": of every encoder.
    """

    given: Mapping[str, float] = field(default_factory=dict)
    by_reader: Mapping[str, float] = field(default_factory=dict)

    def of(self, encoder: str) -> float | None:
        """What the user gave for an encoder."""
        return self.given.get(encoder, self.given.get(""))

    def seconds(self, plan: SlidePlan, encoder: str) -> float | None:
        """Of a slide under one encoder, to three digits: a second's reading is worth no more."""
        rate = self.of(encoder) or self.by_reader.get(plan.reader)
        return float(f"{plan.tiles / rate:.3g}") if rate and plan.tiles is not None else None


N = TypeVar("N", int, float)


def summed(values: Iterable[N | None]) -> N | None:
    """The sum; None where one is not known."""
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)


@dataclass(frozen=True)
class SlidesPlan:
    """The plans of all slides.

    Attributes:
        storages: of every encoder.
        folder: whose free space is told.
        same: sets of slides of one patient that hold the same.
        fetch: what is to be fetched, in words.
    """

    slides: Sequence[SlidePlan]
    storages: Sequence[Storage]
    rates: Rates
    folder: Path
    same: Sequence[str] = ()
    fetch: Sequence[str] = ()

    @property
    def has_problem(self) -> bool:
        """With a slide, or with an encoder."""
        of_encoders = any(storage.problem for storage in self.storages)
        return of_encoders or any(plan.problem for plan in self.slides)

    @property
    def record(self) -> dict[str, Any]:
        """For `plan --json`."""
        tiles = sum(plan.tiles or 0 for plan in self.slides)
        each = summed(one.bytes_per_tile for one in self.storages)
        known = [plan.seconds for plan in self.slides if plan.seconds is not None]
        return {
            "plans": [asdict(plan) for plan in self.slides],
            "same_slides": list(self.same),
            "encoders": [asdict(storage) for storage in self.storages],
            "rates": {"given": dict(self.rates.given), "by_reader": dict(self.rates.by_reader)},
            "totals": {
                "slides": len(self.slides),
                "problems": sum(bool(plan.problem) for plan in self.slides),
                "notes": sum(bool(plan.note) for plan in self.slides),
                "tiles": tiles,
                "seconds": sum(known) if known else None,
                "bytes": None if each is None else tiles * each,
            },
            "fetch": list(self.fetch),
            "folder": str(self.folder),
            "free_bytes": shutil.disk_usage(self.folder).free,
        }


def print_plan(found: SlidesPlan) -> None:
    """The columns that are looked at first, the totals, and what stands in the way."""
    plans = found.slides
    for shown in found.same:
        print(f"the same slide under several slide_ids of one patient: {shown}")
    head = ("slide", "reader", "µm/px", "source", "level", "read px", "error %", "tiles")
    table = [(*head, "time", "disk", "problem"), *(_row(plan) for plan in plans)]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    print()
    for line in _totals(found):
        print(line)


def _row(plan: SlidePlan) -> tuple[str, ...]:
    at_most = "≤" if plan.tiles_from.startswith("area") else ""
    return (
        plan.slide_id,
        plan.reader or "–",
        _number(plan.mpp, ".4g"),
        plan.mpp_source or "–",
        _number(plan.level, "d"),
        _number(plan.read_px, "d"),
        _number(plan.scale_error_percent, ".2f"),
        at_most + _number(plan.tiles, "d"),
        duration(plan.seconds),
        size(plan.bytes),
        plan.problem,
    )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def duration(seconds: float | None) -> str:
    """Seconds as people say them, to two digits: it is an estimate."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"≈{_two_digits(seconds)} s"
    if seconds < 5400:
        return f"≈{_two_digits(seconds / 60)} min"
    return f"≈{_two_digits(seconds / 3600)} h"


def size(count: float | None) -> str:
    """Bytes in decimal units, as disks are sold."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{_three_digits(count)} {unit}"
        count /= 1000
    return f"{_three_digits(count)} TB"


def _two_digits(value: float) -> str:
    rounded = float(f"{value:.2g}")
    return f"{rounded:.0f}" if rounded >= 10 else f"{rounded:g}"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _time(plans: Sequence[SlidePlan], storages: Sequence[Storage], rates: Rates) -> Iterable[str]:
    """The sums of the slides' times and the rates behind them, for every encoder."""
    several = len(storages) > 1
    for storage in storages:
        of = f" of {storage.folder}" if several else ""
        yield from _time_of(plans, storage.folder, rates, of)
    if several and any(plan.seconds for plan in plans):
        yield f"time of all encoders: {duration(sum(plan.seconds or 0.0 for plan in plans))}"
    if rates.by_reader and not has_gpu():
        yield "  no GPU here: encoding on the processor will take longer than reading"


def _time_of(plans: Sequence[SlidePlan], encoder: str, rates: Rates, of: str) -> Iterable[str]:
    """Of one encoder."""
    times = [rates.seconds(plan, encoder) for plan in plans]
    total, given = duration(sum(seconds or 0.0 for seconds in times)), rates.of(encoder)
    if given is not None:
        yield f"time{of}: {total} at {_two_digits(given)} tiles/s (--rate)"
        return
    if not rates.by_reader:
        yield f"time{of}: not known (no slide to measure reading on): give --rate"
        return
    known = (f"{name} ≈{_two_digits(rate)}" for name, rate in sorted(rates.by_reader.items()))
    yield f"time{of}: {total} for reading alone (measured, tiles/s: {', '.join(known)})"
    unknown = sum(bool(plan.tiles) and s is None for plan, s in zip(plans, times, strict=True))
    if unknown:
        yield f"  without {unknown} slide(s) whose reader could not be measured"


def _disk(tiles: int, storages: Sequence[Storage], folder: Path) -> Iterable[str]:
    """What the bags of every encoder take, and what is free."""
    for storage in storages:
        of = f" of {storage.folder}" if len(storages) > 1 else ""
        if storage.bytes_per_tile is None:
            yield f"disk{of}: not known: {storage.note}"
            continue
        need, free = size(tiles * storage.bytes_per_tile), size(shutil.disk_usage(folder).free)
        yield (
            f"disk{of}: {need} of bags ({storage.dim} features of {storage.encoder}), as much "
            f"again for the packed cache; {free} are free in {folder}"
        )
    known = [one.bytes_per_tile for one in storages if one.bytes_per_tile is not None]
    if len(known) > 1:
        yield f"disk of these encoders: {size(tiles * sum(known))} of bags"
    yield from (f"problem: {one.problem}" for one in storages if one.problem)


def _totals(found: SlidesPlan) -> Iterable[str]:
    plans = found.slides
    bad = [plan for plan in plans if plan.problem]
    tiles = sum(plan.tiles or 0 for plan in plans)
    noted = [plan for plan in plans if plan.note]
    yield (
        f"{len(plans)} slide(s), {len(bad)} with a problem, {len(noted)} with a note, "
        f"about {tiles} tiles"
    )
    yield from (f"  note on {plan.slide_id}: {plan.note}" for plan in noted)
    sources = sorted({plan.tiles_from for plan in plans if plan.tiles_from})
    if sources:
        yield f"tiles: an estimate ({'; '.join(sources)}), before the quality limits of extraction"
    yield from _time(plans, found.storages, found.rates)
    yield from _disk(tiles, found.storages, found.folder)
    yield from found.fetch
    other = [plan for plan in plans if plan.reader_reason and not plan.problem]
    if other:
        yield f"{len(other)} slide(s) are not read natively, which is slower; for example"
        yield f"  {other[0].slide_id}: {other[0].reader_reason}"
