"""config/README.md names every key with its true default; every configuration we ship parses."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter
from snakemake.utils import update_config

from wsi_ncmi import config, planning, registry
from wsi_ncmi.cohorts.sheet import read_sheet

# Heading of config/README.md -> the model whose keys stand in the table below it.
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": config.Config,
    "`demo`": config.Demo,
    "`slides`": config.Slides,
    "`bags`": config.Bags,
    "`tiling`": config.Tiling,
    "`tiling.tissue`": config.Tissue,
    "`extraction`": config.Extraction,
    "`extraction.augmentation`": config.Augmentation,
    "`transforms[]`": config.Transform,
    "`tasks.<task>`": config.Task,
    "`tasks.<task>.protocol`": config.Protocol,
    "`training`": config.Training,
    "Arms": config.Arm,
    "`search`": config.Search,
    "Aggregators": config.Part,
    "`images.<task>.training`": config.ImageTraining,
    "`images.<task>`": config.ImageTask,
    "`attention`": config.Attention,
    "`evaluation`": config.Evaluation,
}
ROW = re.compile(r"^\| `(?P<key>[^`]+)` \| (?P<default>.+?) \| (?P<meaning>.+) \|$", re.MULTILINE)
PART = re.compile(r"^(?P<kind>encoder|aggregator|objective|dataset) `(?P<name>[a-z0-9_]+)`$")
REQUIRED = "–"
SECTION = "*section*"


def tables(root: Path) -> dict[str, dict[str, str]]:
    """Heading -> key -> default as it is written."""
    text = (root / "config" / "README.md").read_text()
    parts = re.split(r"^#{2,3} (.+)$", text, flags=re.MULTILINE)[1:]
    return {
        heading: {row["key"]: row["default"] for row in ROW.finditer(body)}
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }


def plain(value: Any) -> Any:
    """A default as YAML has it: of an arm, what differs from an arm's own defaults."""
    return TypeAdapter(Any).dump_python(value, mode="json", exclude_defaults=True)


def json_of(options: Any) -> dict[str, Any]:
    """All options of a part as YAML has them, tuples as lists."""
    return TypeAdapter(type(options)).dump_python(options, mode="json")


def documented(cell: str) -> Any:
    assert cell.startswith("`"), f"{cell}: a default stands in backticks"
    return yaml.safe_load(cell.strip("`"))


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_with_its_default(root: Path, heading: str) -> None:
    table, fields = tables(root)[heading], SECTIONS[heading].model_fields
    assert set(table) == set(fields)
    for key, field in fields.items():
        default = field.get_default(call_default_factory=True)
        if field.is_required():
            assert table[key] == REQUIRED, key
        elif isinstance(default, BaseModel):
            assert table[key] == SECTION, key
        else:
            assert documented(table[key]) == plain(default), key


def test_every_model_has_a_section() -> None:
    models = {
        value
        for value in vars(config).values()
        if isinstance(value, type) and issubclass(value, config.Model)
    }
    assert models - {config.Model, config.TaskBase} == set(SECTIONS.values())


def test_documented_parts_have_these_options(root: Path) -> None:
    found = {heading: PART.match(heading) for heading in tables(root)}
    parts = {heading: match for heading, match in found.items() if match}
    assert len(parts) >= 8
    for heading, match in parts.items():
        options = registry.load(match["kind"], match["name"]).Options
        table = tables(root)[heading]
        assert set(table) == {field.name for field in dataclasses.fields(options)}, heading
        for key, value in json_of(options()).items():
            assert documented(table[key]) == value, f"{heading}: {key}"


def merged(root: Path, *names: str) -> dict[str, Any]:
    """Configurations on top of each other, as `--configfile` merges them."""
    raw: dict[str, Any] = {}
    for name in names:
        update_config(raw, yaml.safe_load((root / "config" / name).read_text()))
    return raw


def shipped(root: Path) -> list[tuple[str, ...]]:
    folder = root / "config"
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.yaml"))
    overlays = {"camelyon17-small.yaml": "camelyon17.yaml"}
    return [(overlays[n], n) if n in overlays else (n,) for n in names]


def test_every_configuration_parses_with_its_parts(root: Path) -> None:
    schemas = json.loads((root / "workflow" / "schemas" / "parts.schema.json").read_text())
    files = shipped(root)
    assert ("camelyon17.yaml", "camelyon17-small.yaml") in files
    assert ("studies/kidney.yaml",) in files
    assert len(files) >= 9
    for names in files:
        parsed = config.parse(merged(root, *names))
        assert config.part_problems(parsed, schemas) == [], names


def test_the_small_camelyon_keeps_the_protocols(root: Path) -> None:
    small = config.parse(merged(root, "camelyon17.yaml", "camelyon17-small.yaml"))
    assert small.tasks["p1"].protocol.test_centres == ["3", "4"]
    assert small.tasks["loco"].protocol.kind == "leave_one_centre_out"
    assert small.tasks["p1"].seeds == [0]


def readme_block(root: Path, language: str, mark: str) -> str:
    """The code block of README.md that holds `mark`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    found = [block for block in blocks if mark in block]
    assert len(found) == 1, mark
    return found[0]


def test_the_readmes_slides_and_ten_lines_plan(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's sheet and configuration, with empty files as slides."""
    monkeypatch.chdir(tmp_path)
    sheet = readme_block(root, "text", "slide_id").split("\n")
    (tmp_path / "slides.tsv").write_text("\n".join("\t".join(row.split()) for row in sheet))
    (tmp_path / "slides").mkdir()
    rows, _ = read_sheet(Path("slides.tsv"), need_path=False)
    for row in rows:
        Path(row.path).touch()
    raw = readme_block(root, "yaml", "sheet: slides.tsv")
    assert len(raw.strip().split("\n")) == 10
    plan = planning.Plan(yaml.safe_load(raw), root / "workflow" / "schemas" / "parts.schema.json")
    assert [row.slide_id for row in plan.rows] == [row.slide_id for row in rows]
