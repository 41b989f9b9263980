"""Command `bags import`: bags of other tools into one packed file, with a list of the refused."""

import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from wsi_ncmi.bags.foreign.aem import AemFile
from wsi_ncmi.bags.foreign.discover import found_bags, layout_of, open_many
from wsi_ncmi.bags.foreign.layouts import MANY_SLIDES
from wsi_ncmi.bags.foreign.packed import PackedFile
from wsi_ncmi.bags.foreign.repack import (
    Inspected,
    Refusal,
    compatible,
    inspect,
    missing_from,
    write_packed,
)
from wsi_ncmi.bags.store import UNREACHABLE
from wsi_ncmi.cohorts.sheet import SlideRow, checked_sheet
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.table import write_records
from wsi_ncmi.machine import package_version

log = logging.getLogger(__name__)

SHOWN = 5


def run(path: Path, layout: str, out: Path, sheet: Path | None, refused: Path | None) -> int:
    """Look at every bag below `path` and pack those that can be used.

    Args:
        layout: a name of `bags.foreign.layouts.LAYOUTS` or `MANY_SLIDES`, or "auto".
        out: the packed file.
        sheet: only its slides are imported; its µm/px turn STAMP's coordinates into pixels.
        refused: TSV of what was not imported and why; by default beside `out`.

    Returns:
        1 if nothing was usable or some bag cannot be reached now, which writes no packed file;
        else 0.

    Raises:
        BagError: nothing of such a layout is there.
    """
    if not path.exists():
        raise BagError(f"{path}: no such file or folder of bags")
    rows = None if sheet is None else {r.slide_id: r for r in checked_sheet(sheet, need_path=False)}
    layout = layout_of(path) if layout == "auto" else layout
    source = open_many(path, layout) if layout in MANY_SLIDES else None
    mpp = {slide_id: row.mpp for slide_id, row in (rows or {}).items()}
    found = found_bags(source or path, layout, mpp)
    wanted = [bag for bag in found if rows is None or bag.slide_id in rows]
    seen = [inspect(bag) for bag in tqdm(wanted, unit="bag", file=sys.stderr, mininterval=1)]
    bags, unfit = compatible([bag for bag in seen if isinstance(bag, Inspected)])
    unfit += [bag for bag in seen if isinstance(bag, Refusal)] + missing_from(rows or (), found)
    _write_refused(refused or out.with_suffix(".refused.tsv"), unfit)
    lost = sum(UNREACHABLE in refusal.reason for refusal in unfit)
    if lost:  # a file without them would be taken for the whole
        print(f"{lost} bag(s) cannot be reached now: nothing was written; give the command again")
        return 1
    if bags:
        facts = {"layout": layout, "source": path.name, "wsi_ncmi": package_version("wsi-ncmi")}
        known = source.attributes if source else {}
        columns = _columns(source, bags)
        write_packed(out, bags, columns, {**known, **facts})
        _compare_labels(columns.get("label"), bags, rows)
    _summary(layout, out, bags, unfit, len(found) - len(wanted))
    return 0 if bags else 1


def _columns(
    source: PackedFile | AemFile | None, bags: Sequence[Inspected]
) -> dict[str, list[str]]:
    """Labels and the like of the bags that are kept, as far as their files state them."""
    if isinstance(source, PackedFile):
        places = [source.position[bag.found.slide_id] for bag in bags]
        return {name: [values[i] for i in places] for name, values in source.columns().items()}
    labels = [bag.label for bag in bags]
    if any(labels) and not all(labels):
        print(f"no labels are written, {labels.count('')} bag(s) have none")
    return {"label": labels} if all(labels) else {}


def _compare_labels(
    labels: Sequence[str] | None, bags: Sequence[Inspected], rows: Mapping[str, SlideRow] | None
) -> None:
    """Say where labels that came with the bags are not the sheet's, which models are trained on.

    Files number classes where a sheet names them, so each of their labels is taken to mean what
    most of its slides have in the sheet.
    """
    if not labels or rows is None:
        return
    pairs = {
        b.found.slide_id: (y, rows[b.found.slide_id].label)
        for b, y in zip(bags, labels, strict=True)
    }
    counts: dict[str, Counter[str]] = {}
    for given, ours in pairs.values():
        counts.setdefault(given, Counter())[ours] += 1
    means = {given: max(found, key=lambda y: (found[y], y)) for given, found in counts.items()}
    words = ", ".join(f"{given} is {ours}" for given, ours in sorted(means.items()))
    differ = [
        f"{s} ({y}, sheet: {ours})" for s, (y, ours) in sorted(pairs.items()) if means[y] != ours
    ]
    print(f"labels of the file by the sheet: {words}; {len(differ)} slide(s) differ")
    for text in differ:
        print(f"  {text}")


def _write_refused(path: Path, refused: Sequence[Refusal]) -> None:
    write_records(path, Refusal, sorted(refused, key=lambda r: (r.slide_id, r.file)))
    if refused:
        print(f"{len(refused)} refused, see {path}:")
    for row in refused[:SHOWN]:
        print(f"  {row.file or row.slide_id}: {row.reason}")
    if len(refused) > SHOWN:
        print(f"  and {len(refused) - SHOWN} more")


def _summary(
    layout: str, out: Path, bags: Sequence[Inspected], refused: Sequence[Refusal], left_out: int
) -> None:
    if left_out:
        print(f"{left_out} bag(s) are of no slide of the sheet and were left out")
    if not bags:
        print(f"layout {layout}: none of {len(refused)} bag(s) can be used; nothing was written")
        return
    total = sum(bag.shape[0] for bag in bags)
    print(
        f"{out}: {len(bags)} slide(s), {total} instance(s) of {bags[0].shape[1]} features "
        f"(layout {layout})"
    )
    notes = [bag.note for bag in bags if bag.note]
    if notes:
        print(f"no coordinates are written, {len(notes)} bag(s) have none: {notes[0]}")
