"""Command `bags verify`: every byte of our own bags, and what to make again."""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

import h5py
from tqdm import tqdm

from wsi_ncmi.bags.store import DAMAGED, verify_bag
from wsi_ncmi.errors import BagError

MANIFESTS = "bucket-*.tsv"


def run(path: Path, *, manifests: bool) -> int:
    """Check all bags of a folder and of those below it, or one bag; print what is wrong.

    Args:
        manifests: also compare the bags with the manifests of their buckets.

    Returns:
        1 if any bag is bad or missing, or an interrupted write left a file; else 0.

    Raises:
        BagError: there is no bag.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.h5"))
    files = [file for file in files if not file.name.startswith(".")]
    bags = [file for file in files if path.is_file() or _may_be_bag(file)]
    leftovers = [] if path.is_file() else sorted(path.rglob(".*.part"))
    if not bags and not leftovers:
        raise BagError(f"{path}: no bags (*.h5) there or below it")
    problems = {
        bag: found
        for bag in tqdm(bags, unit="bag", file=sys.stderr, mininterval=1)
        if (found := verify_bag(bag))
    }
    if manifests:
        for folder in sorted({bag.parent for bag in bags}):
            for bag, problem in _against_manifests(folder, set(bags)):
                problems.setdefault(bag, []).append(problem)
    _report(problems, leftovers)
    others = f", {len(files) - len(bags)} other .h5 file(s) left out" if bags != files else ""
    bad = len(set(problems) & set(bags))
    print(f"{path}: {len(bags)} bag(s), {len(bags) - bad} good, {bad} bad{others}")
    return 1 if problems or leftovers else 0


def _may_be_bag(file: Path) -> bool:
    """Not a tile file or another HDF5 file of a results folder; what does not open may be one."""
    try:
        with h5py.File(file, "r") as opened:
            return "features" in opened or "format_version" in opened.attrs
    except DAMAGED:
        return True


def _against_manifests(folder: Path, bags: set[Path]) -> Iterable[tuple[Path, str]]:
    for manifest in sorted(folder.glob(MANIFESTS)):
        for row in _rows(manifest):
            bag = folder / f"{row['slide_id']}.h5"
            if row["status"] == "ok" and bag not in bags:
                yield bag, f"is missing, although {manifest.name} has it"
            elif row["status"] == "ok" and (found := _digest(bag)) not in ("", row["digest"]):
                yield bag, f"has digest {found}, but {manifest.name} says {row['digest']}"
            elif row["status"] != "ok" and bag in bags:
                yield bag, f"is there, although {manifest.name} says {row['status']}"


def _rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if rows and not {"slide_id", "status", "digest"} <= set(rows[0]):
        raise BagError(f"{manifest}: lacks slide_id, status or digest: it is no manifest of bags")
    return rows


def _digest(bag: Path) -> str:
    try:
        with h5py.File(bag, "r") as file:
            return str(file.attrs.get("digest", ""))
    except DAMAGED:
        return ""  # that it cannot be read is said already


def _report(problems: dict[Path, list[str]], leftovers: list[Path]) -> None:
    for bag, found in sorted(problems.items()):
        print(f"{bag}: {'; '.join(found)}")
    for file in leftovers:
        print(f"{file}: left by a write that was interrupted: remove it")
    if not problems:
        return
    print(
        "To make them again, remove these files and run the workflow with the same configuration:"
    )
    manifests = {m for bag in problems for m in _manifests_of(bag)}
    remove = [*sorted(bag for bag in problems if bag.is_file()), *sorted(manifests)]
    for file in remove:
        print(f"  {file}")


def _manifests_of(bag: Path) -> list[Path]:
    """The manifest of a bag's bucket: while that is there, the workflow sees nothing to do."""
    return [
        manifest
        for manifest in bag.parent.glob(MANIFESTS)
        if any(row["slide_id"] == bag.stem for row in _rows(manifest))
    ]
