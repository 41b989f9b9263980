"""What the report says of a second cohort."""

import json
import shutil

import pytest
from made_external import Other, validate
from made_predictions import make_results

from wsi_ncmi import config
from wsi_ncmi.report.external import external_answer, external_section, read_external
from wsi_ncmi.report.page import Picture, Table, Text, render
from wsi_ncmi.report.task import Evaluated
from wsi_ncmi.stages import evaluate

STATES = [{"aggregator": "abmil", "objective": "ncmi", "runs": 4, "trained": 3, "collapsed": 1}]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A task with its evaluation, and a cohort that lacks a class."""
    given = {"aggregators": ("abmil",), "objectives": ("cross_entropy", "ncmi")}
    root = make_results(tmp_path_factory.mktemp("results"), **given)
    task_dir, manifests = root / "runs/t", sorted((root / "runs/t").glob("seed-*.tsv"))
    options = config.Evaluation(bootstrap=100, centre_probe=False)
    index = root / "cache/e/index.tsv"
    folder = task_dir / "evaluation"
    evaluate.run(task_dir, manifests, index, options, "cross_entropy", folder)
    validate(root, Other(classes=2))
    return root


def said(blocks):
    return " ".join(one.text for one in blocks if isinstance(one, Text))


def test_the_section_says_what_there_is_and_what_is_not(made):
    task = Evaluated.read(made / "runs/t")
    outside = read_external(task, ["north"])[0]
    section = external_section(task, outside, several=False)
    assert section.title == "External validation: north"
    text = said(section.blocks)
    for words in (
        "The same 8 models, as they are, on 48 samples of 24 patients of centre c9 (a 24, b 24, c",
        "The cohort has no sample of c: macro-F1, balanced accuracy and AUROC are over a, b alone",
        "What it cannot show: how they do anywhere else",
        "a family of their own",
    ):
        assert words in text, words
    tables = [one for one in section.blocks if isinstance(one, Table)]
    assert [row[2] for row in tables[0].rows] == ["each", "4 together", "each", "4 together"]
    assert tables[1].header[:3] == ["aggregator", "objective", "macro-F1"]
    assert "→" in tables[1].rows[0][2]
    assert any(isinstance(one, Picture) for one in section.blocks)
    assert "All" not in render("r", [section])
    assert external_section(task, outside, several=True).title.endswith("north, task t")


def test_the_head_has_a_sentence(made):
    task = Evaluated.read(made / "runs/t")
    sentence = external_answer(task, read_external(task, ["north"])[0])
    assert sentence.startswith(
        "On the external cohort north (48 samples of 24 patients) ABMIL, NCMI has a macro-F1 of 0."
    )
    assert "against the inner test (" in sentence
    assert "; against cross-entropy it is " in sentence


def test_few_patients_names_in_both_and_states_are_warned_of(made, tmp_path):
    root = shutil.copytree(made, tmp_path / "c")
    path = root / "runs/t/external/north/summary.json"
    found = json.loads(path.read_text())
    found |= {
        "same_names": ["s01"],
        "shared_centres": ["c9"],
        "patients_by_class": {"a": 3, "b": 30, "c": 0},
    }
    path.write_text(json.dumps(found))
    path = root / "runs/t/evaluation/summary.json"
    states = [{**STATES[0], "undertrained": 0, "failed": 0, "remedy": ""}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"states": states}))
    task = Evaluated.read(root / "runs/t")
    text = said(external_section(task, read_external(task, ["north"])[0], several=False).blocks)
    assert "Few patients in some classes (a 3): the intervals are rough." in text
    assert "1 of its slide_ids (s01) are names of slides of the cohort itself too" in text
    assert "Centres of the cohort itself too: c9." in text
    assert "ABMIL, NCMI: 1 of 4 collapsed in training." in text


def test_a_task_without_a_second_cohort_has_no_section(tmp_path):
    (tmp_path / "t/evaluation").mkdir(parents=True)
    (tmp_path / "t/evaluation/summary.json").write_text("{}")
    assert read_external(Evaluated.read(tmp_path / "t"), ["north"]) == []
