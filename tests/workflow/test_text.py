"""Whatever a user's texts and paths hold comes to the commands as it was written."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from workflow.test_search import CONFIG, write_bags

QUESTION = "Does {task} of '{NCMI}' help {{100}} % for $5, \"{wildcards}\"?"
RESULTS = "my results' $; (5 %)"
SHEET = "my {sheet} $1 'x'.tsv"


def commands(text: str) -> list[list[str]]:
    """What a dry run printed, as the words that the shell hands over."""
    lines = [line.strip() for line in text.splitlines() if "-m wsi_ncmi.cli" in line]
    return [shlex.split(line) for line in lines]


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_slides(make_workflow: Any, tmp_path: Path) -> None:
    workflow = make_workflow(tmp_path)
    (tmp_path / "slides.tsv").rename(tmp_path / SHEET)
    weights = "{weights} $x.pth"
    (tmp_path / weights).write_text("")
    workflow.config.update(question=QUESTION, results=RESULTS, slides={"sheet": SHEET})
    workflow.config["extraction"]["weights"] = weights
    found = commands(workflow.run("--dry-run", "--printshellcmds"))
    root = f"{RESULTS}/small"
    assert {after(words, "--sheet") for words in found if "--sheet" in words} == {SHEET}
    assert all(after(words, "--log").startswith(f"{root}/logs/") for words in found)
    (report,) = (words for words in found if "report" in words)
    assert json.loads(after(report, "--config"))["question"] == QUESTION
    assert after(report, "--out") == f"{root}/report/index.html"
    (features, *_) = (words for words in found if "features" in words)
    assert json.loads(after(features, "--options"))["weights"] == weights
    (evaluate, *_) = (words for words in found if "evaluate" in words)
    assert after(evaluate, "--index") == f"{root}/cache/random_resnet/index.tsv"


def test_bags_run_to_the_report(
    make_workflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "a home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BAGS", "{my} bags")
    workflow = dataclasses.replace(make_workflow(tmp_path), config={**CONFIG})
    write_bags(tmp_path)
    (tmp_path / "{my} bags.h5").write_bytes((tmp_path / "bags.h5").read_bytes())
    lines = (tmp_path / "bags.tsv").read_text().replace("left", "$x_$").replace("right", "{b}")
    (home / SHEET).write_text(lines)
    task = {**CONFIG["tasks"]["side"], "classes": ["$x_$", "{b}"], "objectives": {"ncmi": {}}}
    workflow.config.update(
        bags={"path": "${BAGS}.h5", "sheet": f"~/{SHEET}"},
        results="~/results",
        question=QUESTION,
        tasks={"side": {**task, "reference": "ncmi"}},
        evaluation={"bootstrap": 100},
    )
    said = workflow.run()
    report = home / "results" / "small" / "report" / "index.html"
    assert f"\nThe report: {report}\n" in said
    page = report.read_text()
    assert "Does {task} of &#39;{NCMI}&#39; help {{100}} % for $5" in page
    assert "$x_$" in page
    assert not (tmp_path / "~").exists()
    assert workflow.plan() == {}
