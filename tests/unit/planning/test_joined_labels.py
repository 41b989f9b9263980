"""Labels that a class joins: the evaluation reads them, though the models do not."""

from pathlib import Path
from typing import Any

import pytest

from wsi_ncmi.errors import ConfigError
from wsi_ncmi.planning import problems
from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.planning.digests import Digests

STAGES = ("negative", "itc", "micro", "macro")


@pytest.fixture
def plan(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plans a task on eight slides, with the stages as given."""
    monkeypatch.chdir(tmp_path)

    def planned(stages: tuple[str, ...] = 2 * STAGES, **task: Any) -> Digests:
        rows = [f"s{i}\ts{i}.tif\t{stage}\tp{i}\tc" for i, stage in enumerate(stages)]
        head = "slide_id\tpath\tlabel\tpatient_id\tcentre"
        (tmp_path / "slides.tsv").write_text("\n".join([head, *rows]) + "\n")
        for i in range(len(stages)):
            (tmp_path / f"s{i}.tif").write_text(str(i))
        raw = {
            "cohort": "c",
            "slides": {"sheet": "slides.tsv"},
            "tasks": {"t": {"protocol": {"folds": 2}, **task}},
            "evaluation": {"robustness_index": True},
        }
        schema = root / "workflow" / "schemas" / "parts.schema.json"
        return Digests(CheckedConfig(raw, schema))

    return planned


def test_another_label_of_the_same_class_is_evaluated_anew_and_not_trained(plan: Any) -> None:
    before = plan(class_set="metastasis")
    after = plan(("negative", "micro", "micro", "macro", *STAGES), class_set="metastasis")
    assert before.joined_labels("t") != after.joined_labels("t")
    assert before.train("t") == after.train("t")


def test_tasks_whose_classes_are_labels_or_patients_have_none(plan: Any) -> None:
    assert plan(class_set="metastasis").joined_labels("t")
    assert plan(class_set="stages").joined_labels("t") == ""
    assert plan(class_set="metastasis", sample="patient").joined_labels("t") == ""


def test_a_package_that_is_missing_is_said_before_anything_runs(
    plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problems, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"robustness_index: needs the package croma"):
        plan(class_set="metastasis")
