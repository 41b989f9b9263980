"""What every experiment of config/images/ promises, on results of tiny trainings."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_experiments import CONFIGS, finish, is_full, read, shrunk, small_configs
from PIL import Image

from wsi_ncmi import registry
from wsi_ncmi.errors import UserError
from wsi_ncmi.report.experiment import experiment_answers, experiment_section
from wsi_ncmi.stages import experiment

SMALL = [path for path in CONFIGS if not is_full(path)]
NAME = re.compile(r"[a-z0-9_]+")


def test_every_experiment_has_a_configuration() -> None:
    for name in registry.names("experiment"):
        assert list(small_configs(name)), f"{name}: add config/images/<name>.yaml"


@pytest.fixture(scope="module", params=SMALL, ids=lambda path: path.stem)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(configuration, results/<cohort>, what the experiment wrote)."""
    folder = tmp_path_factory.mktemp(request.param.stem)
    config = shrunk(read(request.param), folder)
    results = folder / "results" / config.cohort
    return config, results, finish(config, results)


def test_findings_are_whole(finished: Any) -> None:
    """Sentences have their numbers, tables rows, figures ink; every file is named and there."""
    _, _, folder = finished
    found = json.loads((folder / "findings.json").read_text())
    assert found["sentences"]
    for sentence in found["sentences"]:
        assert sentence.endswith(".")
        assert not re.search(r"\bnan\b|None", sentence), sentence
    parts = [*found["tables"], *found["figures"]]
    assert found["tables"]
    assert found["figures"]
    for one in parts:
        assert NAME.fullmatch(one["name"])
        assert one["caption"].endswith(".")
    files = [one["file"] for one in parts]
    assert len(set(files)) == len(files)
    assert {path.name for path in folder.iterdir()} == {*files, "findings.json"}
    for one in found["tables"]:
        assert len(pd.read_csv(folder / one["file"], sep="\t"))
    for one in found["figures"]:
        assert np.asarray(Image.open(folder / one["file"]).convert("L")).std() > 1


def test_the_same_results_give_the_same_bytes_and_touch_nothing(finished: Any) -> None:
    config, results, folder = finished
    (folder / "of_before.tsv").write_text("a\n")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    experiment.run(results, config, folder / "findings.json")
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert before.pop(folder / "of_before.tsv")
    assert after == before


def test_the_report_shows_all_of_it(finished: Any) -> None:
    found = json.loads((finished[2] / "findings.json").read_text())
    section = experiment_section(finished[2])
    kinds = [block.kind for block in section.blocks]
    assert [text.text for text in experiment_answers(found)] == found["sentences"]
    assert kinds.count("picture") == len(found["figures"])
    assert kinds.count("table") == len(found["tables"])


def test_missing_results_are_named(finished: Any, tmp_path: Path) -> None:
    config = finished[0]
    with pytest.raises(UserError, match="|".join(config.images)):
        experiment.run(tmp_path / config.cohort, config, tmp_path / "findings.json")
