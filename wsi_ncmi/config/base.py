"""What all sections share: a frozen model that refuses unknown keys, names, problems in words."""

from collections.abc import Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from wsi_ncmi.address import expanded, not_expanded

SAFE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


Name = Annotated[str, Field(pattern=SAFE_NAME)]


# No two dashes in a row: they separate the arms in the names of runs and pictures.
ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$")]


Fraction = Annotated[float, Field(ge=0, le=1)]


# What numpy and torch take.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


Values = Annotated[list[Any], Field(min_length=1)]


# Files and folders: `~`, `$NAME` and `${NAME}` are replaced here, and nowhere else.
LocalPath = Annotated[str, AfterValidator(expanded)]


def _check_folder(path: str) -> str:
    """A folder that rules write to: Snakemake takes braces in it for wildcards."""
    reason = not_expanded(path)
    if reason:
        raise ValueError(f"{path!r}: {reason}: set it, or write the folder's name out")
    found = sorted({sign for sign in path if sign in "{}" or not sign.isprintable()})
    if found or path.startswith("-"):
        signs = " ".join(map(repr, found)) or "'-' at its start"
        raise ValueError(f"{path!r}: a folder of results cannot have {signs}: choose another name")
    return path


ResultsFolder = Annotated[
    str, Field(min_length=1), AfterValidator(expanded), AfterValidator(_check_folder)
]


class Model(BaseModel):
    """Frozen; no key that is not known, and no number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Unsaid(Model):
    """A section whose later keys, `UNSAID`, are not said at their defaults: what it decides is then
    as it was before there were such keys."""

    UNSAID: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _said(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        defaults = {name: type(self).model_fields[name].default for name in self.UNSAID}
        return {k: v for k, v in found.items() if k not in defaults or v != defaults[k]}


def _keys_beside(title: str, place: Sequence[int | str]) -> list[str]:
    """The keys that are known where a key stands.

    Args:
        title: the name of the model in which `place` begins.
    """
    kind: Any = next((model for model in _models(Model) if model.__name__ == title), None)
    for part in place[:-1]:
        if get_origin(kind) in (dict, list):
            kind = get_args(kind)[-1]
        else:
            kind = kind.model_fields[part].annotation
        if get_origin(kind) in (Union, UnionType):
            kind = next(one for one in get_args(kind) if one is not type(None))
    return list(getattr(kind, "model_fields", ()))


def _models(above: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in above.__subclasses__():
        yield model
        yield from _models(model)


def _no_text(found: Any) -> str:
    """Why a value is no text: YAML reads some words as something else."""
    kinds: list[tuple[type[Any] | tuple[type[Any], ...], str]] = [
        (bool, "words such as yes, no, on, off and true are truth values"),
        ((int, float), "digits such as 1, 1.0 and 010 are numbers"),
        (date, "digits such as 2024-01-31 are dates"),
        (type(None), "null, ~ and an empty value are nothing"),
    ]
    reason = next((text for kind, text in kinds if isinstance(found, kind)), "")
    if not reason:
        return f"expected text, found {found!r}"
    return f"expected text, found {found!s}: {reason} in YAML: put it in quotation marks"


def problems_of(error: ValidationError) -> list[str]:
    """One line per problem: the key, what was found and what was expected."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "configuration"
        if item["type"] == "extra_forbidden":
            near = get_close_matches(
                str(item["loc"][-1]), _keys_beside(error.title, item["loc"]), 1
            )
            hint = f": did you mean {near[0]}?" if near else ""
            lines.append(f"{key}: unknown key (found {item['input']!r}){hint}")
        elif item["type"] == "missing":
            lines.append(f"{key}: missing")
        elif item["type"] == "value_error":
            lines.append(f"{key}: {item['ctx']['error']}")
        elif item["type"] == "string_type":
            lines.append(f"{key}: {_no_text(item['input'])}")
        else:
            lines.append(f"{key}: {item['msg']}, found {item['input']!r}")
    return lines
