"""The bags to be scored: found, read one at a time, and compared with those of the training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.bags.checks import problem_of
from wsi_ncmi.bags.checksum import content_digest
from wsi_ncmi.bags.foreign.discover import bag_files, found_bags, layout_of, open_many, recognise
from wsi_ncmi.bags.foreign.layouts import LAYOUTS, MANY_SLIDES
from wsi_ncmi.bags.store import read_bag
from wsi_ncmi.errors import BagError, some
from wsi_ncmi.files.user_table import read_user_table
from wsi_ncmi.tools.predict.model import Model
from wsi_ncmi.tools.predict.ranges import outside

OWN = "wsi_ncmi"
SEEN = "the models were trained or judged on it: its prediction says nothing about new slides"
INVALID = 0.5
"""Share of a slide's tiles that could not be decoded, above which it is said."""


@dataclass(frozen=True, eq=False)
class NewBag:
    """A bag as it was read.

    Attributes:
        features: [N, D]. coords: [N, 2] level-0 pixels; None: not known.
        stated: what it says of its making; empty for bags of other tools.
        invalid: tiles of the slide that could not be decoded.
        measures: what the slide looks like, see `ranges`; empty: not known.
    """

    features: NDArray[Any]
    coords: NDArray[np.int32] | None
    stated: Mapping[str, Any] = field(default_factory=dict)
    invalid: int = 0
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def invalid_share(self) -> float:
        """Of all tiles."""
        return self.invalid / (len(self.features) + self.invalid)


@dataclass(frozen=True)
class Place:
    """Where a bag is; `read` raises BagError."""

    slide_id: str
    read: Callable[[], NewBag]


def find(paths: Sequence[Path]) -> list[Place]:
    """All bags of files and folders, of this project or of another tool.

    Raises:
        BagError: a path holds none, or two bags have one name.
    """
    places = [place for path in paths for place in _below(path)]
    names = [place.slide_id for place in places]
    unfit = [name for name in names if not name or Path(name).name != name]
    if unfit:  # files are named after them
        raise BagError(f"a bag is named {unfit[0]!r}: expected a name without /: rename it")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BagError(f"several bags are named {', '.join(twice[:3])}: give them one at a time")
    return places


@dataclass(frozen=True)
class NewSample:
    """What is scored at once: a slide, or all slides of a patient."""

    sample_id: str
    places: Sequence[Place]
    is_patient: bool = False


def samples_of(
    places: Sequence[Place], patients: Mapping[str, str], *, whole: bool = False
) -> list[NewSample]:
    """Slides with a patient under it, in the order of their names as in the training; others alone.

    Args:
        patients: slide_id -> patient_id.
        whole: the patients are of a sheet of all bags: a slide of it without a bag is a reason.

    Raises:
        BagError: a slide is named like another's patient, or is not in the sheet.
    """
    found = {place.slide_id: place for place in places}
    unknown = [slide_id for slide_id in found if whole and slide_id not in patients]
    if unknown:
        raise BagError(f"bags that the sheet does not have: {some(unknown)}")
    lacking = [s for s in patients if s not in found] if whole else []
    found |= {s: Place(s, partial(_absent, s)) for s in lacking}
    groups: dict[str, list[Place]] = {}
    for slide_id in sorted(found):
        if slide_id in patients:
            groups.setdefault(patients[slide_id], []).append(found[slide_id])
    alone = [slide_id for slide_id in found if slide_id not in patients]
    mixed = [slide_id for slide_id in alone if slide_id in groups]
    if mixed:
        raise BagError(f"a slide without a patient has the name of one: {some(mixed)}")
    samples = [NewSample(name, group, is_patient=True) for name, group in groups.items()]
    return [*samples, *(NewSample(s, [found[s]]) for s in alone)]


def patients_of_sheet(sheet: Path) -> dict[str, str]:
    """slide_id -> patient_id of a TSV; its other columns are not read.

    Raises:
        BagError: there is no such sheet, a column or a cell is missing, or a slide stands twice.
    """
    if not sheet.is_file():
        raise BagError(f"{sheet}: no such sheet of slide_id and patient_id")
    table = read_user_table(sheet)
    missing = [name for name in ("slide_id", "patient_id") if name not in table.columns]
    if missing:
        raise BagError(f"{sheet}: no column {', '.join(missing)}")
    found: dict[str, str] = {}
    for line, record in table.rows:
        slide_id, patient = ((record[n] or "").strip() for n in ("slide_id", "patient_id"))
        if not slide_id or not patient or slide_id in found:
            raise BagError(f"{sheet}, line {line}: expected a slide_id, once, and a patient_id")
        found[slide_id] = patient
    return found


def _absent(slide_id: str) -> NewBag:
    raise BagError(f"no bag of {slide_id} was given")


def _below(path: Path) -> Iterator[Place]:
    if not path.exists():
        raise BagError(f"{path}: no such file or folder of bags")
    layout = recognise(path) if path.is_file() else layout_of(path)
    if path.is_file() and layout not in MANY_SLIDES:
        if layout not in LAYOUTS:
            raise BagError(f"{path}: no features of any layout ({', '.join(LAYOUTS)})")
        yield Place(
            path.stem, partial(read_own if layout == OWN else partial(_foreign, layout), path)
        )
    elif layout == OWN:
        yield from (Place(file.stem, partial(read_own, file)) for file in bag_files(path, OWN))
    else:
        source = open_many(path, layout) if layout in MANY_SLIDES else path
        for found in found_bags(source, layout):
            yield Place(found.slide_id, partial(_read, found.read))


def read_own(path: Path) -> NewBag:
    """A bag of ours, its checksum compared."""
    bag = read_bag(path, check=True)
    coords = bag.coords if len(bag.coords) else None
    return NewBag(bag.features, coords, bag.attributes, len(bag.invalid_coords))


def _foreign(layout: str, path: Path) -> NewBag:
    return _read(partial(LAYOUTS[layout].read, path, None))


def _read(read: Callable[[], Any]) -> NewBag:
    bag = read()
    return NewBag(bag.features, bag.coords)


def refusal(bag: NewBag, model: Model) -> str:
    """Why a bag cannot be scored by a model; "" if it can."""
    problem = problem_of(bag.features)
    if problem:
        return problem
    if bag.features.shape[1] != model.dim:
        return f"it has {bag.features.shape[1]} features, expected {model.dim} as in the training"
    if not model.bags:
        return ""
    if not bag.stated:
        return (
            "it does not state its encoder, which the models need: "
            f"{model.encoder['name']}, weights {model.encoder['weights_sha256'][:12]}"
        )
    differing = [
        f"{name} is {_shown(bag.stated.get(name))}, expected {_shown(wanted)}"
        for name, wanted in model.bags.items()
        if not _same(bag.stated.get(name), wanted)
    ]
    return f"it was made otherwise than the bags of the training: {'; '.join(differing)}" * bool(
        differing
    )


def _same(found: Any, wanted: Any) -> bool:
    if found is None or isinstance(wanted, str) or isinstance(found, str):
        return bool(found == wanted)
    one, other = np.asarray(found, float), np.asarray(wanted, float)
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-6, atol=0))


def _shown(value: Any) -> str:
    if value is None:
        return "not stated"
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return str(plain)


def unusual(bag: NewBag, distance: float | None, model: Model) -> list[str]:
    """What is out of the ordinary about a bag that is scored."""
    found = []
    names = {str(bag.stated.get(name, "")) for name in ("digest", "slide_fingerprint")}
    if (names | {content_digest(bag.features)}) & {*model.seen}:
        found.append(SEEN)
    if bag.invalid_share > INVALID:
        found.append(
            f"{bag.invalid} of {bag.invalid + len(bag.features)} tiles could not be decoded"
        )
    found += outside(bag.measures, model.ranges)
    if distance is not None and model.ordinary is not None:
        found.append(model.ordinary.unusual(distance))
    return [one for one in found if one]
