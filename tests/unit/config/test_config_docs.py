"""Tables of keys in the documentation are those of the code; shipped configurations parse."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field
from snakemake.utils import update_config

from wsi_ncmi import config, registry
from wsi_ncmi.bags.splits import make_splits
from wsi_ncmi.cohorts.sheet import read_sheet
from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.tools import tables
from wsi_ncmi.tools.schema import REMEDY

MARK = re.compile(r"^<!-- (keys|options|presets|aggregators): (.+) -->$", re.MULTILINE)
MODELS = {
    name: value
    for name, value in vars(config).items()
    if isinstance(value, type)
    and issubclass(value, config.Model)
    and value not in (config.Model, config.TaskBase)
}


def marked(page: Path) -> list[tuple[str, str]]:
    """(kind, name) of every table of a page, in its order."""
    return MARK.findall(page.read_text())


def test_the_tables_in_the_repository_are_current(root: Path) -> None:
    pages = [page for page in (*root.glob("*.md"), *root.glob("*/*.md")) if marked(page)]
    makefile = (root / "Makefile").read_text()
    for page in pages:
        name = str(page.relative_to(root))
        assert tables.filled(page.read_text()) == page.read_text(), f"{name}: {REMEDY}"
        assert name in makefile, f"{name}: add it to the target `schema`"
    assert root / "config" / "README.md" in pages


def test_every_model_and_every_part_with_options_has_a_table(root: Path) -> None:
    found = marked(root / "config" / "README.md")
    parts = {
        f"{kind} {name}"
        for kind in registry.KINDS
        for name in registry.names(kind)
        if dataclasses.fields(registry.load(kind, name).Options)
    }
    assert sorted(name for kind, name in found if kind == "keys") == sorted(MODELS)
    missing = parts - {name for kind, name in found if kind == "options"}
    assert missing == set(), "give each a section in config/README.md, see CONTRIBUTING.md"


@pytest.mark.parametrize("name", MODELS)
def test_every_key_has_a_meaning(name: str) -> None:
    for key, field in MODELS[name].model_fields.items():
        assert re.search(r"[.]$", field.description or ""), f"{name}.{key}: a whole sentence"


class Inner(BaseModel):
    depth: int = 1


class Base(BaseModel):
    seeds: list[int] = Field([0, 1], description="Seeds.")


class Example(Base):
    path: str = Field(description="Either a | or b.")
    inner: Inner = Field(Inner(), description="Inner.")
    rate: float = Field(1e-4, description="Rate.")
    sheet: str | None = Field(None, description="µm of it.")


def test_a_table_has_key_default_and_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's own keys come first; what is outside of the markers stays."""
    monkeypatch.setattr(config, "Example", Example, raising=False)
    page = "before\n\n<!-- keys: Example -->\nold\n<!-- end -->\n\nafter\n"
    assert tables.filled(page).splitlines() == [
        "before",
        "",
        "<!-- keys: Example -->",
        "",
        "| key | default | meaning |",
        "|---|---|---|",
        r"| `path` | – | Either a \| or b. |",
        "| `inner` | *section* | Inner. |",
        "| `rate` | `0.0001` | Rate. |",
        "| `sheet` | `null` | µm of it. |",
        "| `seeds` | `[0, 1]` | Seeds. |",
        "",
        "<!-- end -->",
        "",
        "after",
    ]
    assert tables.filled(tables.filled(page)) == tables.filled(page)


def test_options_come_from_the_docstring() -> None:
    text = tables.filled("<!-- options: encoder timm -->\n<!-- end -->\n")
    assert "| `mean` | `null` | RGB means, 0 to 1; `null`: as the data config says. |" in text
    docstring = (
        "Options.\n\n    Attributes:\n        a: one: two\n            three.\n        b: four.\n"
    )
    assert tables.attributes(docstring) == {"a": "one: two three.", "b": "four."}


def merged(root: Path, *names: str) -> dict[str, Any]:
    """Configurations on top of each other, as `--configfile` merges them."""
    raw: dict[str, Any] = {}
    for name in names:
        update_config(raw, yaml.safe_load((root / "config" / name).read_text()))
    return raw


def shipped(root: Path) -> list[tuple[str, ...]]:
    folder = root / "config"
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.yaml"))
    classic = "studies/classic-mil.yaml"
    overlays = {
        "studies/classic-mil-fox.yaml": classic,
        "studies/classic-mil-tiger.yaml": classic,
    }
    return [(overlays[n], n) if n in overlays else (n,) for n in names]


def test_every_configuration_parses_with_its_parts(root: Path) -> None:
    schemas = json.loads((root / "workflow" / "schemas" / "parts.schema.json").read_text())
    files = shipped(root)
    assert ("studies/kidney.yaml",) in files
    assert len(files) >= 9
    for names in files:
        parsed = config.parse(merged(root, *names), schemas["preset"], schemas["objective_preset"])
        assert config.part_problems(parsed, schemas) == [], names


def test_camelyon_17_without_its_gated_encoder(root: Path) -> None:
    """As the head of the file says it."""
    head = (root / "config" / "camelyon17.yaml").read_text().split("cohort:")[0]
    lines = [line.removeprefix("#   ") for line in head.splitlines() if ": null}" in line]
    raw = merged(root, "camelyon17.yaml")
    update_config(raw, yaml.safe_load("\n".join(lines)))
    parsed = config.parse(raw)
    assert parsed.encoders == ["resnet50.a1_in1k"]
    assert list(parsed.tasks) == ["loco", "p1"]


def test_the_small_camelyon_keeps_the_protocols(root: Path) -> None:
    whole, small = (
        config.parse(merged(root, name)) for name in ("camelyon17.yaml", "camelyon17-small.yaml")
    )
    assert small.tiling == whole.tiling
    assert list(whole.tasks) == ["loco", "p1", "loco-uni", "p1-uni"]
    assert [whole.encoder_of(name) for name in whole.tasks] == ["resnet50.a1_in1k"] * 2 + [
        "uni"
    ] * 2
    second = {"p1-random_resnet_1": "p1-uni"}
    assert list(small.tasks) == ["p1", "loco", *second]
    assert [len(one.encoders) for one in (small, whole)] == [2, 2]
    for name, task in small.tasks.items():
        other = whole.tasks[second.get(name, name)]
        assert (task.classes, task.protocol) == (other.classes, other.protocol)
        for arms, of_whole in (
            (task.aggregators, other.aggregators),
            (task.objectives, other.objectives),
        ):
            assert {**of_whole, **arms} == of_whole, "its arms are some of the others"
    assert next(iter(whole.tasks)) == "loco", "the primary task is the first one"
    assert small.tasks["p1"].protocol.test_centres == ["3", "4"]
    assert small.tasks["p1"].seeds == [0]


@pytest.mark.parametrize(
    ("name", "rate", "decay"), [("", 5e-4, 5e-3), ("-fox", 5e-4, 5e-3), ("-tiger", 1e-4, 1e-2)]
)
def test_the_classic_study_has_the_papers_settings(
    root: Path, name: str, rate: float, decay: float
) -> None:
    """Ilse et al. 2018, appendix; DSMIL's train_mil.py. What a file leaves out is MUSK1's."""
    schemas = json.loads((root / "workflow" / "schemas" / "parts.schema.json").read_text())
    names = ["studies/classic-mil.yaml", *([f"studies/classic-mil{name}.yaml"] if name else [])]
    task = config.parse(merged(root, *names), schemas["preset"], schemas["objective_preset"]).tasks[
        "positive"
    ]
    assert (task.protocol.folds, len(task.seeds), task.standardise) == (10, 5, not name)
    for label in ("abmil", "abmil_gated"):
        found = task.training_of(label, "cross_entropy")
        assert (found.optimiser, found.momentum, found.schedule) == ("sgd", 0.9, "constant")
        assert (found.learning_rate, found.weight_decay, found.epochs) == (rate, decay, 100)
    dsmil = task.training_of("dsmil", "cross_entropy")
    assert (dsmil.optimiser, dsmil.betas, dsmil.schedule) == ("adam", (0.5, 0.9), "cosine")
    assert (dsmil.learning_rate, dsmil.weight_decay, dsmil.epochs) == (2e-4, 5e-3, 40)


def readme_block(root: Path, language: str, mark: str) -> str:
    """The code block of README.md that holds `mark`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    found = [block for block in blocks if mark in block]
    assert len(found) == 1, mark
    return found[0]


def test_the_readmes_sheet_and_configuration_plan_and_split(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With empty files as slides; its ten patients suffice for its protocol."""
    monkeypatch.chdir(tmp_path)
    sheet = readme_block(root, "text", "slide_id").split("\n")
    (tmp_path / "slides.tsv").write_text("\n".join("\t".join(row.split()) for row in sheet))
    (tmp_path / "slides").mkdir()
    rows, _ = read_sheet(Path("slides.tsv"), need_path=False)
    for row in rows:
        Path(row.path).touch()
    raw = yaml.safe_load(readme_block(root, "yaml", "sheet: slides.tsv"))
    plan = CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")
    assert [row.slide_id for row in plan.rows] == [row.slide_id for row in rows]
    splits = make_splits(rows, plan.config.tasks["grade"], None)
    assert splits.groupby(["fold", "part"]).slide_id.nunique().loc[0].to_dict() == {
        "train": 6,
        "val": 2,
        "test": 2,
    }


def test_the_readmes_trial_on_the_demos_slides_parses(root: Path) -> None:
    parsed = config.parse(yaml.safe_load(readme_block(root, "yaml", "cohort: try")))
    demo = config.parse(merged(root, "config.yaml"))
    assert parsed.tasks["stage"].classes == demo.tasks["stage"].classes
    assert parsed.tiling.mpp == demo.tiling.mpp
