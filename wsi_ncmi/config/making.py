"""How bags are made of slides: the sections that decide it, as they are recorded beside the cache.

By them, `predict` makes bags of new slides without the configuration.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from wsi_ncmi.config.base import Model, problems_of
from wsi_ncmi.config.extraction import Extraction
from wsi_ncmi.config.tiling import Tiling
from wsi_ncmi.errors import ConfigError

SECTIONS = "sections.json"
"""Name of the record, in `cache/<encoder>/`."""

FORMAT, VERSION = "wsi-ncmi sections", 1


class Making(Model):
    """Tiling and extraction.

    Augmented copies are left out: they are drawn from in training alone.
    """

    tiling: Tiling = Field(Tiling(), description="The grid of tiles.")
    extraction: Extraction = Field(Extraction(), description="From tiles to features.")

    @property
    def text(self) -> str:
        """As JSON, for a rule's params."""
        return self.model_dump_json(exclude={"extraction": {"augmentation"}})

    def record(self) -> dict[str, Any]:
        """What stands in the file: files of weights by their absolute paths."""
        return {"format": FORMAT, "version": VERSION, **self._with_files(Path.absolute)}

    def portable(self) -> dict[str, Any]:
        """The same without folders of this machine: files of weights by their names."""
        named = self._with_files(lambda path: Path(path.name))
        return {"format": FORMAT, "version": VERSION, **named}

    def _with_files(self, change: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.model_dump(
            mode="json", exclude={"extraction": {"augmentation"}}
        )
        for section in (found["extraction"], found["tiling"]["tissue"]):
            if section["weights"] is not None:
                section["weights"] = str(change(Path(section["weights"])))
        return found


def recorded(content: Any, where: str) -> Making:
    """The sections of a record.

    Args:
        content: as it was read. where: for errors.

    Raises:
        ConfigError: it is of another version, or its keys are not those of this one.
    """
    if not isinstance(content, Mapping):
        raise ConfigError([f"{where}: {type(content).__name__}, expected keys and values"])
    if (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        found = f"{content.get('format')!r}, version {content.get('version')!r}"
        raise ConfigError([f"{where}: {found}, expected {FORMAT!r}, version {VERSION}"])
    sections = {name: content.get(name) for name in Making.model_fields}
    try:
        return Making.model_validate(sections)
    except ValidationError as error:
        raise ConfigError([f"{where}: {text}" for text in problems_of(error)]) from None
