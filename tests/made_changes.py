"""Every key of the configuration and every column of the sheet, and another value for each."""

import copy
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from wsi_ncmi.cohorts.sheet import OPTIONAL, OVERRIDES, REQUIRED
from wsi_ncmi.config import Config

NAMES = {"tasks": "t", "images": "t", "objectives": "ncmi", "aggregators": "abmil"}
NAMES |= {"others": "uni", "external": "north"}
"""What stands for `<name>` in the keys: the one task and arm of the tests' configurations."""


def keys(
    model: type[BaseModel], above: str = "", outer: tuple[type[BaseModel], ...] = ()
) -> Iterator[str]:
    """Dotted keys of a model and of all models in it; `<>` stands for a name, `[]` for a place.

    Args:
        outer: models around it; in one that is in itself, a model's name says all of its keys.
    """
    for name, field in model.model_fields.items():
        yield from _below(f"{above}{name}", field.annotation, (*outer, model))


def _below(key: str, kind: Any, outer: tuple[type[BaseModel], ...]) -> Iterator[str]:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        yield from _below(key, inner[0], outer)
    elif origin in (Union, types.UnionType):
        yield from _below(key, next(one for one in inner if one is not type(None)), outer)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from keys(kind, f"{key}.", outer)
    elif origin is dict and _is_model(inner[1]):
        yield from () if outer.count(inner[1]) > 1 else _below(f"{key}.<>", inner[1], outer)
    elif origin is list and _is_model(inner[0]):
        yield from _below(f"{key}.[]", inner[0], outer)
    else:
        yield key


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def field_of(model: type[BaseModel], key: str) -> FieldInfo:
    """The field of a key."""
    first, _, rest = key.partition(".")
    field = model.model_fields[first]
    kind: Any = field.annotation
    while rest:
        if get_origin(kind) in (Union, types.UnionType):
            kind = next(one for one in get_args(kind) if one is not type(None))
        elif get_origin(kind) in (dict, list):
            kind, rest = get_args(kind)[-1], rest.partition(".")[2]
        else:
            return field_of(kind, rest)
    return field


def other(model: type[BaseModel], key: str) -> Any:
    """A value that is not the default of a key."""
    field = field_of(model, key)
    kind: Any = field.annotation
    default = field.get_default(call_default_factory=True)
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is typing.Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice != default)
    if kind is bool:
        return not default
    if kind is int:
        return 12 if default is None or not isinstance(default, int) else default + 1
    if kind is float:
        return 0.4 if not isinstance(default, float) or not default else default * 0.9
    if get_origin(kind) is list and get_args(kind) == (str,):
        return [*(default or []), "another"]
    raise TypeError(f"{key}: {kind}: give the test a value")


def changed(raw: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The configuration with another value of a key; `<>` stands for the test's own name."""
    made: dict[str, Any] = copy.deepcopy(dict(raw))
    at: Any = made
    *above, last = key.split(".")
    for place, name in enumerate(above):
        if name == "[]":
            at = at[0]
            continue
        name = NAMES[above[place - 1]] if name == "<>" else name
        if at.get(name) is None:
            at[name] = {}
        at = at[name]
    at[last] = value
    return made


COLUMNS = [*REQUIRED, *OPTIONAL, *OVERRIDES]
ARMS = {"cross_entropy": {}, "ncmi": {"search": {"options": {"temperature": [0.1, 0.2]}}}}
TASK = {"classes": ["x", "y"], "objectives": ARMS, "aggregators": {"abmil": {}}}
TRANSFORM = {"name": "HorizontalFlip"}
PUBLISHED = [{"method": "ABMIL", "value": 0.5, "source": "a paper"}]
NETWORK = {"method": "model", "weights": "m.pt"}
SGD = {"optimiser": "sgd", "learning_rate": 0.1}
FILE = {"kind": "file", "file": "folds.tsv"}
BASES: dict[str, dict[str, Any]] = {
    "slides": {"cohort": "c", "slides": {"sheet": "slides.tsv"}, "tasks": {"t": TASK}},
    "bags": {
        "cohort": "c",
        "bags": {"path": "h5", "format": "h5", "sheet": "slides.tsv"},
        "tasks": {"t": TASK},
    },
    "images": {
        "cohort": "c",
        "images": {"t": {"dataset": "mnist", "path": "mnist", "objectives": ARMS}},
    },
    "experiment": {
        "cohort": "c",
        "images": {"t": {"dataset": "mnist", "path": "mnist", "objectives": ARMS}},
        "experiment": {"name": "sweep"},
    },
    "benchmark": {
        "cohort": "c",
        "slides": {"sheet": "slides.tsv"},
        "benchmark": {"tasks": {"t": {"classes": ["x", "y"]}}, "shared": {"objectives": ARMS}},
    },
    "demo": {
        "cohort": "c",
        "demo": {},
        "ignore_labels": ["macro", "itc"],
        "tasks": {"t": {**TASK, "classes": ["negative", "micro"]}},
    },
}
# Another value where there is no number to change, and what must go with it.
OTHER: dict[str, Any] = {
    "cohort": "d",
    "results": "elsewhere",
    "question": "Is it so?",
    "slides.sheet": "other.tsv",
    "slides.fetch.keep_slides": True,
    "slides.fetch.endpoint": "http://localhost:9000",
    "slides.fetch.mirrors": {"s3://bucket": "/mnt/mirror"},
    "slides.fetch.checksums": "checksums.md5",
    "bags.path": "pt",
    "bags.sheet": "other.tsv",
    "bags.name": "clam",
    "bags.format": "pt",
    "tiling.tissue.weights": "w.pt",
    "tiling.tissue.architecture": "resnet18",
    "extraction.encoder": "resnet18",
    "extraction.options": {"input_px": 96},
    "extraction.weights": "w.pt",
    "extraction.name": "mine",
    "extraction.augmentation.transforms.[].name": "VerticalFlip",
    "extraction.augmentation.transforms.[].options": {"p": 1.0},
    "<task>.reference": "ncmi",
    "<task>.seeds": [0, 1],
    "<task>.training.betas": [0.5, 0.9],
    "<task>.training.milestones": [0.5],
    "<task>.training.precision": "bf16",  # on a CPU `auto` is fp32, and the same run
    "<task>.objectives.<>.part": "ncmi_mixture",
    "<task>.objectives.<>.options": {"centroid_decay": 0.5},
    "<task>.objectives.<>.training": {"epochs": 3},
    "<task>.objectives.<>.stream": "own",
    "<task>.objectives.<>.search.options": {"temperature": [0.1, 0.3]},
    "<task>.objectives.<>.search.training": {"epochs": [3, 4]},
    "<task>.published.[].method": "TransMIL",
    "<task>.published.[].source": "another paper",
    "<task>.published.[].high": 0.7,
    "<task>.published.[].objectives": ["ncmi"],
    "tasks.<>.published.[].aggregators": ["abmil"],
    "images.<>.published.[].aggregators": ["resnet18"],
    "tasks.<>.classes": ["y", "x"],
    "tasks.<>.merge_classes": {"x": ["x"]},
    "tasks.<>.class_set": "metastasis",
    "tasks.<>.aggregators.<>.part": "mean",
    "tasks.<>.aggregators.<>.options": {"hidden_dim": 64},
    "tasks.<>.aggregators.<>.training": {"epochs": 3},
    "tasks.<>.protocol.kind": "leave_one_centre_out",
    "tasks.<>.protocol.test_centres": ["c2"],
    "tasks.<>.protocol.file": "other_folds.tsv",
    "tasks.<>.protocol.training_patients": 1,
    "evaluation.family.objectives": ["ncmi"],
    "experiment.name": "comparison",
    "experiment.options": {"metric": "macro_f1"},
    "extraction.others.<>.encoder": "uni2_h",
    "extraction.others.<>.name": "uni",
    "extraction.others.<>.options": {"input_px": 96},
    "extraction.others.<>.weights": "w.pt",
    "extraction.others.<>.augmentation.transforms.[].name": "VerticalFlip",
    "extraction.others.<>.augmentation.transforms.[].options": {"p": 1.0},
    "external.<>.slides.sheet": "south.tsv",
    "external.<>.slides.fetch.keep_slides": True,
    "external.<>.slides.fetch.endpoint": "http://localhost:9000",
    "external.<>.slides.fetch.mirrors": {"s3://bucket": "/mnt/mirror"},
    "external.<>.slides.fetch.checksums": "checksums.md5",
    "external.<>.bags.path": "pt",
    "external.<>.bags.format": "pt",
    "external.<>.bags.sheet": "south.tsv",
    "external.<>.bags.others.<>.path": "other",
    "external.<>.bags.others.<>.format": "h5",
    "bags.others.<>.path": "other",
    "bags.others.<>.format": "h5",
    "tasks.<>.encoder": "uni",
    "benchmark.encoders": ["uni"],
    "benchmark.tasks": {"t": {"classes": ["y", "x"]}},
    "benchmark.protocols": {"kfold": {"folds": 4}},
    "benchmark.shared": {
        "objectives": {**ARMS, "ncmi": {**ARMS["ncmi"], "training": {"epochs": 3}}}
    },
    "images.<>.dataset": "fashion_mnist",
    "images.<>.path": "other",
    "images.<>.options": {"test_fraction": 0.3},
    "images.<>.merge_classes": {"low": ["0", "1"]},
    "images.<>.model": "resnet34",
    "images.<>.model_options": {"drop_path_rate": 0.1},
    "images.<>.augmentation.[].name": "VerticalFlip",
    "images.<>.augmentation.[].options": {"p": 1.0},
    "images.<>.batch_augmentation.[].name": "RandomVerticalFlip",
    "images.<>.batch_augmentation.[].options": {"p": 1.0},
}
OF_SEVERAL = {**BASES["bags"]["bags"], "others": {"uni": {"path": "pt", "format": "pt"}}}
OUTSIDE: dict[str, Any] = {"path": "other", "format": "h5", "sheet": "north.tsv"}
OUTSIDE |= {"others": {"uni": {"path": "h5", "format": "pt"}}}
WITH: dict[str, dict[str, Any]] = {
    "external.<>.slides": {"external": {"north": {"slides": {"sheet": "north.tsv"}}}},
    "external.<>.slides.fetch": {
        "external.<>.slides.fetch": {"disk_gb": 100, "keep_slides": False}
    },
    "external.<>.bags": {
        "slides": None,
        "bags": OF_SEVERAL,
        "external": {"north": {"bags": OUTSIDE}},
    },
    "bags.others": {"bags": OF_SEVERAL},
    "extraction.others": {"extraction.others": {"uni": {"encoder": "uni"}}},
    "extraction.others.<>.options": {"extraction.others": {"uni": {"encoder": "resnet18"}}},
    "extraction.others.<>.augmentation": {
        "extraction.others.<>.augmentation": {"transforms": [TRANSFORM]}
    },
    "tasks.<>.encoder": {"slides": None, "bags": OF_SEVERAL},
    "benchmark.encoders": {"slides": None, "bags": OF_SEVERAL},
    "extraction.augmentation": {"extraction.augmentation": {"transforms": [TRANSFORM]}},
    "images.<>.augmentation": {"images.<>.augmentation": [TRANSFORM]},
    "images.<>.batch_augmentation": {
        "images.<>.batch_augmentation": [{"name": "RandomHorizontalFlip"}]
    },
    "images.<>.options": {"images.<>.dataset": "image_folder"},
    "slides.fetch": {"slides.fetch": {"disk_gb": 100, "keep_slides": False}},
    "tasks.<>.published": {"tasks.<>.published": PUBLISHED},
    "images.<>.published": {"images.<>.published": PUBLISHED},
    "tasks.<>.training.nesterov": {"tasks.<>.training": SGD},
    "images.<>.training.nesterov": {"images.<>.training": SGD},
    "images.<>.training.adversarial": {"images.<>.training": {"adversarial": {}}},
    "tasks.<>.class_set": {
        "slides": None,
        "demo": {},
        "tasks.<>.classes": None,
        "tasks.<>.class_set": "stages",
    },
    "tasks.<>.search": {"tasks.<>.unequal_budget": "allow"},
    "images.<>.search": {"images.<>.unequal_budget": "allow"},
    "tasks.<>.protocol.test_centres": {
        "tasks.<>.protocol": {"kind": "holdout_centres", "test_centres": ["c1"]}
    },
    "tasks.<>.protocol.file": {"tasks.<>.protocol": FILE},
    "tiling.tissue.weights": {"tiling.tissue": NETWORK},
    "tiling.tissue.architecture": {"tiling.tissue": NETWORK},
    "tiling.tissue.patch_px": {"tiling.tissue": NETWORK},
}


def base_of(key: str) -> dict[str, Any]:
    """The configuration in which a key is changed."""
    raw = BASES.get(key.split(".")[0], BASES["slides"])
    for start, changes in WITH.items():
        if key.startswith(start):
            for place, value in changes.items():
                raw = changed(raw, place, value)
    return raw


def other_value(key: str) -> Any:
    shared = re.sub(r"^(tasks|images)\.<>", "<task>", key)
    found = [OTHER[name] for name in (key, shared) if name in OTHER]
    return found[0] if found else other(Config, key)


SHEET = {
    "path": ["a.tif", "b.tif", "c.tif", "d.tif"],
    "label": ["x", "y", "x", "y"],
    "patient_id": ["p0", "p1", "p2", "p3"],
    "centre": ["c1", "c2", "c1", "c2"],
}


def write_sheet(name: str, **cells: list[str]) -> None:
    columns = {"slide_id": ["a", "b", "c", "d"], **SHEET, **cells}
    lines = [list(columns), *zip(*columns.values(), strict=True)]
    Path(name).write_text("".join("\t".join(line) + "\n" for line in lines))


def write_files() -> None:
    """What the configurations name, in the working folder."""
    for name in (
        "a.tif",
        "b.tif",
        "c.tif",
        "d.tif",
        "e.tif",
        *(f"{one}.tif" for one in "ABCD"),
        "w.pt",
        "m.pt",
        "m.geojson",
        "n.xml",
    ):
        Path(name).write_text(name)
    for name in ("h5", "pt", "mnist", "other"):
        Path(name).mkdir()
    write_sheet("slides.tsv")
    write_sheet("other.tsv")
    outside = {"slide_id": [*"ABCD"], "patient_id": ["q0", "q1", "q2", "q3"]}
    for name, order in (("north.tsv", "ABCD"), ("south.tsv", "ABDC")):
        paths = [f"{letter}.tif" for letter in order]
        write_sheet(name, **outside, path=paths)
    parts = [*zip(("train", "train", "val", "test"), "abcd", strict=True)]
    for name in ("folds.tsv", "other_folds.tsv"):
        lines = "".join(f"0\t{part}\t{slide}\n" for part, slide in parts)
        Path(name).write_text(f"fold\tpart\tslide_id\n{lines}")


CELLS = {
    "slide_id": "b2",
    "path": "e.tif",
    "label": "x",
    "patient_id": "p9",
    "centre": "c9",
    "mpp": "0.5",
    "sha256": "ab",
    "annotation": "n.xml",
    "mask": "m.geojson",
    "split": "test",
    "exclude": "blurred",
    "label_source": "mine: read again",
    "tissue.weights": "w.pt",
    "tissue.architecture": "resnet18",
}


def base_of_column(column: str) -> dict[str, Any]:
    """The configuration under which a column of the sheet is changed."""
    own = column.removeprefix("tissue.")
    return base_of(f"tiling.tissue.{own}") if column in OVERRIDES else BASES["slides"]


def change_cell(column: str) -> None:
    """Another value in the cell of slide b, and only there."""
    own = column.removeprefix("tissue.")
    value = CELLS.get(column) or str(other(Config, f"tiling.tissue.{own}")).lower()
    cells = SHEET.get(column, [*"abcd"] if column == "slide_id" else [""] * 4)
    write_sheet("slides.tsv", **{column: [cells[0], value, *cells[2:]]})
