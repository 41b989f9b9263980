"""Command `bags verify`: every byte of our own bags, and what to make again."""

import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wsi_ncmi.bags.foreign.discover import recognise
from wsi_ncmi.bags.foreign.layouts import describe
from wsi_ncmi.bags.store import UNREACHABLE, reading, stated_digest, verify_bag
from wsi_ncmi.errors import BagError, UnreachableBagError
from wsi_ncmi.files.hdf5 import open_hdf5
from wsi_ncmi.files.table import read_text
from wsi_ncmi.tools.as_json import print_json

MANIFESTS = "bucket-*.tsv"
OWN_ATTRIBUTES = {"format_version", "complete"}
UNREADABLE = "whose it is cannot be told"


@dataclass
class Verified:
    """What was found below a path.

    Attributes:
        bags: how many are ours. problems: of each bag that is bad or missing.
        leftovers: files that an interrupted write left.
        unreadable: why, of each file that cannot be read or reached.
        others: layout of another tool -> its files, which carry no checksum.
        left_out: files that are no bags.
    """

    path: Path
    bags: Sequence[Path]
    leftovers: Sequence[Path]
    others: Mapping[str, Sequence[Path]]
    left_out: int
    unreadable: list[str]
    problems: dict[Path, list[str]] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        return len(set(self.problems) & set(self.bags))

    @property
    def lost(self) -> int:
        """Not reached."""
        return sum(UNREACHABLE in text for text in self.unreadable)

    @property
    def good(self) -> int:
        return len(self.bags) - self.bad - self.lost

    @property
    def is_well(self) -> bool:
        return not (self.problems or self.leftovers or self.unreadable)

    @property
    def record(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "path": str(self.path),
            "well": self.is_well,
            "bags": len(self.bags),
            "good": self.good,
            "bad": self.bad,
            "not_reached": self.lost,
            "problems": [
                {"bag": str(bag), "problems": found} for bag, found in sorted(self.problems.items())
            ],
            "leftovers": [str(file) for file in self.leftovers],
            "unreadable": list(self.unreadable),
            "not_verified": [
                {"layout": describe(layout), "files": len(files), "example": str(files[0])}
                for layout, files in sorted(self.others.items())
            ],
            "left_out": self.left_out,
        }


def run(path: Path, *, manifests: bool, as_json: bool = False) -> int:
    """Check all bags of a folder and of those below it, or one bag; print what is wrong.

    Args:
        manifests: also compare the bags with the manifests of their buckets.

    Returns:
        1 if any bag of ours is bad or missing, a file cannot be read, or an interrupted write
        left one; else 0.

    Raises:
        BagError: there is no bag.
    """
    found = verified(path, manifests=manifests)
    if as_json:
        print_json("verify", found.record)
    else:
        _print(found)
    return int(not found.is_well)


def verified(path: Path, *, manifests: bool) -> Verified:
    """See `run`. Bags of other tools carry no checksum: it is only said what they are."""
    files = [path] if path.is_file() else _files(path)
    kinds, unreadable = _by_kind(files)
    bags, no_bags = kinds.pop("own", []), kinds.pop("", [])
    leftovers = [] if path.is_file() else sorted(path.rglob(".*.part"))
    if not (bags or unreadable or kinds or leftovers):
        why = f"none of {len(no_bags)} file(s) is one" if no_bags else "no *.h5"
        raise BagError(f"{path}: no bags there or below it: {why}")
    found = Verified(path, bags, leftovers, kinds, len(no_bags), unreadable)
    for bag in tqdm(bags, unit="bag", file=sys.stderr, mininterval=1):
        try:
            if problems := verify_bag(bag):
                found.problems[bag] = problems
        except UnreachableBagError as error:
            unreadable.append(str(error))
    if manifests:
        for folder in sorted({bag.parent for bag in bags}):
            for bag, problem in _against_manifests(folder, set(bags)):
                found.problems.setdefault(bag, []).append(problem)
    return found


def _print(found: Verified) -> None:
    _report(found.problems, found.leftovers)
    _report_others(found.others, found.unreadable)
    others = f", {found.left_out} other file(s) left out" if found.left_out else ""
    others = f", {found.lost} not reached{others}" if found.lost else others
    counts = f"{len(found.bags)} of our own bags, {found.good} good, {found.bad} bad"
    print(f"{found.path}: {counts}{others}")


def _files(folder: Path) -> list[Path]:
    """The .h5 files below a folder; where there is none, the .pt files of other tools."""
    for suffix in ("*.h5", "*.pt"):
        files = sorted(f for f in folder.rglob(suffix) if not f.name.startswith("."))
        if files:
            return files
    return []


def _by_kind(files: Iterable[Path]) -> tuple[dict[str, list[Path]], list[str]]:
    """Files by "own", the layout of another tool, or "" for what is no bag.

    Returns:
        and of each that cannot be read, and whose it is cannot be told, why.
    """
    kinds: dict[str, list[Path]] = defaultdict(list)
    unreadable = []
    for file in files:
        beside = any(file.parent.glob(MANIFESTS))  # then only we write there
        try:
            own = file.suffix != ".pt" and _is_own(file, beside)
            kinds["own" if own else recognise(file)].append(file)
        except BagError as error:
            if beside:
                kinds["own"].append(file)
            else:
                why = str(error).removeprefix(f"{file}: ").removeprefix(f"{file.name}: ")
                unreadable.append(f"{file}: {why}: {UNREADABLE}")
    return kinds, unreadable


def _is_own(file: Path, beside: bool) -> bool:
    with reading(file, "HDF5"), open_hdf5(file) as opened:
        if "format_version" in opened.attrs:
            return True
        return "features" in opened and (beside or bool(OWN_ATTRIBUTES & set(opened.attrs)))


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
    rows = [row for _, row in read_text(manifest).rows]
    if rows and not {"slide_id", "status", "digest"} <= set(rows[0]):
        raise BagError(f"{manifest}: lacks slide_id, status or digest: it is no manifest of bags")
    return rows


def _digest(bag: Path) -> str:
    try:
        return stated_digest(bag)
    except UnreachableBagError:
        return ""  # which is said already


def _report(problems: Mapping[Path, Sequence[str]], leftovers: Sequence[Path]) -> None:
    for bag, found in sorted(problems.items()):
        print(f"{bag}: {'; '.join(found)}")
    for file in leftovers:
        print(f"{file}: left by a write that was interrupted: remove it")
    if not problems:
        return
    print("To make them again, remove the damaged files")
    for file in sorted(bag for bag in problems if bag.is_file()):
        print(f"  rm {shlex.quote(str(file))}")
    print(
        "and run the workflow with the configuration that made them and --forcerun features "
        "(without it, finished models are reason enough to make no bag):"
    )
    print(f"  snakemake --forcerun {' '.join(sorted({_rule(bag) for bag in problems}))}")


def _rule(bag: Path) -> str:
    """Which makes it: those of second cohorts lie in `external/<name>/features/<encoder>`."""
    return "external_features" if bag.parts[-5:-4] == ("external",) else "features"


def _report_others(kinds: Mapping[str, Sequence[Path]], unreadable: Sequence[str]) -> None:
    for text in unreadable:
        print(text)
    for layout, files in sorted(kinds.items()):
        print(
            f"{len(files)} file(s) taken for {describe(layout)}: they carry no checksum and were "
            f"not verified; for example {files[0]}"
        )
