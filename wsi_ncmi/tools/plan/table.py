"""The plan as a table on the terminal and as a TSV."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wsi_ncmi.machine import has_gpu
from wsi_ncmi.tools.plan.storage import Storage


@dataclass(frozen=True)
class SlidePlan:
    """What is expected of one slide; None where it is not known.

    Attributes:
        reader_reason: why it is not read natively.
        tiles: before the quality limits of extraction; tiles_from: how they were estimated.
        bytes: of its bag. fingerprint: of what its file holds.
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
    """Tiles per second: what the user gave for all slides, or what each reader was measured at."""

    given: float | None = None
    by_reader: Mapping[str, float] = field(default_factory=dict)

    def of(self, reader: str) -> float | None:
        return self.given or self.by_reader.get(reader)


@dataclass(frozen=True)
class SlidesPlan:
    """The plans of all slides.

    Attributes:
        folder: whose free space is told.
        same: sets of slides of one patient that hold the same.
    """

    slides: Sequence[SlidePlan]
    storage: Storage
    rates: Rates
    folder: Path
    same: Sequence[str] = ()

    @property
    def has_problem(self) -> bool:
        """With a slide, or with the encoder."""
        return bool(self.storage.problem) or any(plan.problem for plan in self.slides)

    @property
    def record(self) -> dict[str, Any]:
        """For `plan --json`."""
        tiles = sum(plan.tiles or 0 for plan in self.slides)
        each = self.storage.bytes_per_tile
        known = [plan.seconds for plan in self.slides if plan.seconds is not None]
        return {
            "plans": [asdict(plan) for plan in self.slides],
            "same_slides": list(self.same),
            "encoder": asdict(self.storage),
            "rates": {"given": self.rates.given, "by_reader": dict(self.rates.by_reader)},
            "totals": {
                "slides": len(self.slides),
                "problems": sum(bool(plan.problem) for plan in self.slides),
                "notes": sum(bool(plan.note) for plan in self.slides),
                "tiles": tiles,
                "seconds": sum(known) if known else None,
                "bytes": None if each is None else tiles * each,
            },
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
    for line in _totals(plans, found.storage, found.rates, found.folder):
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


def _time(plans: Sequence[SlidePlan], rates: Rates) -> Iterable[str]:
    """The sum of the slides' times and the rates behind it."""
    total = duration(sum(plan.seconds or 0.0 for plan in plans))
    if rates.given:
        yield f"time: {total} at {_two_digits(rates.given)} tiles/s (--rate)"
        return
    if not rates.by_reader:
        yield "time: not known (no slide to measure reading on): give --rate"
        return
    known = (f"{name} ≈{_two_digits(rate)}" for name, rate in sorted(rates.by_reader.items()))
    yield f"time: {total} for reading alone (measured, tiles/s: {', '.join(known)})"
    unknown = sum(bool(plan.tiles) and plan.seconds is None for plan in plans)
    if unknown:
        yield f"  without {unknown} slide(s) whose reader could not be measured"
    if not has_gpu():
        yield "  no GPU here: encoding on the processor will take longer than reading"


def _totals(
    plans: Sequence[SlidePlan], storage: Storage, rates: Rates, folder: Path
) -> Iterable[str]:
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
    yield from _time(plans, rates)
    if storage.bytes_per_tile is None:
        yield f"disk: not known: {storage.note}"
    else:
        need = tiles * storage.bytes_per_tile
        free = size(shutil.disk_usage(folder).free)
        yield (
            f"disk: {size(need)} of bags ({storage.dim} features of {storage.encoder}), as much "
            f"again for the packed cache; {free} are free in {folder}"
        )
    if storage.problem:
        yield f"problem: {storage.problem}"
    other = [plan for plan in plans if plan.reader_reason and not plan.problem]
    if other:
        yield f"{len(other)} slide(s) are not read natively, which is slower; for example"
        yield f"  {other[0].slide_id}: {other[0].reader_reason}"
