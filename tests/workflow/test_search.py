"""`snakemake search`: plan, run, rerun, one candidate more, and the chosen settings in use."""

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

CONFIG: dict[str, Any] = {
    "cohort": "small",
    "bags": {"path": "bags.h5", "format": "packed", "sheet": "bags.tsv"},
    "tasks": {
        "side": {
            "classes": ["left", "right"],
            "protocol": {"folds": 2, "validation_fraction": 0.3},
            "aggregators": {"mean": {"options": {"hidden_dim": 8}}},
            "objectives": {
                "cross_entropy": {},
                "ncmi": {"search": {"options": {"temperature": [0.2, 0.5]}}},
            },
            "training": {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2},
            "seeds": [3],
        }
    },
}


def write_bags(folder: Path) -> None:
    """Twenty bags of three instances, shifted by their class, and their sheet."""
    labels = ["left", "right"] * 10
    shift = np.repeat([label == "right" for label in labels], 3)[:, None]
    noise = np.random.default_rng(0).normal(size=(60, 6))
    names = [f"s{i:02d}" for i in range(20)]
    with h5py.File(folder / "bags.h5", "w") as file:
        file["features"] = (noise + 2 * shift).astype(np.float16)
        file["offsets"] = np.arange(21) * 3
        file["slide_id"] = [name.encode() for name in names]
    rows = {"slide_id": names, "label": labels, "patient_id": names, "centre": "c"}
    pd.DataFrame(rows).to_csv(folder / "bags.tsv", sep="\t", index=False)


@pytest.fixture(scope="module")
def finished(make_workflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The workflow after its search, before any training."""
    folder = tmp_path_factory.mktemp("search")
    workflow = dataclasses.replace(make_workflow(folder), config=CONFIG)
    write_bags(folder)
    workflow.run("search")
    return workflow


def log_of(workflow: Any) -> pd.DataFrame:
    return pd.read_csv(workflow.results / "search" / "search.tsv", sep="\t", dtype=str)


def test_every_candidate_is_in_the_log_and_one_is_chosen(finished: Any) -> None:
    log = log_of(finished)
    assert list(log.options) == ["{temperature: 0.2}", "{temperature: 0.5}"]
    assert sorted(log.chosen) == ["no", "yes"]
    assert set(log.seed) == {"3"}
    chosen = yaml.safe_load((finished.results / "search" / "chosen.yaml").read_text())
    best = log.options[log.chosen == "yes"].item()
    expected = {"ncmi": {"options": yaml.safe_load(best)}}
    assert chosen == {"tasks": {"side": {"objectives": expected}}}
    assert not list(finished.results.glob("runs/side/*--*"))  # nothing was trained for the test


def test_a_second_search_plans_nothing(finished: Any) -> None:
    assert finished.plan("search") == {}


def test_the_chosen_settings_reach_the_training(finished: Any) -> None:
    log = log_of(finished)
    best = yaml.safe_load(log.options[log.chosen == "yes"].item())["temperature"]
    command = finished.command("--dry-run", "--printshellcmds")
    text = finished.call([*command, "results/small/search/chosen.yaml"]).stdout
    trained = [line for line in text.splitlines() if " train --name side " in line]
    assert len(trained) == 1
    assert f'"ncmi":{{"part":null,"options":{{"temperature":{best}}}' in trained[0]
    assert "search" not in trained[0]


def test_one_candidate_more_is_tried_alone(finished: Any) -> None:
    before = log_of(finished)
    arm = {"search": {"options": {"temperature": [0.2, 0.5, 1.0]}}}
    side = CONFIG["tasks"]["side"]
    side = {**side, "objectives": {**side["objectives"], "ncmi": arm}}
    workflow = dataclasses.replace(finished, config={**CONFIG, "tasks": {"side": side}})
    assert workflow.plan("search") == {"search_arm": 1, "search": 1}
    workflow.run("search")
    after = log_of(workflow)
    pd.testing.assert_frame_equal(after.drop(columns="chosen")[:2], before.drop(columns="chosen"))
    text = (workflow.results / "logs" / "search" / "side" / "ncmi.log").read_text()
    assert "ncmi: 3 settings, 2 tried before" in text
    assert "2/3 ncmi" not in text


def test_a_configuration_without_candidates_says_so(finished: Any) -> None:
    side = {**CONFIG["tasks"]["side"], "objectives": {"cross_entropy": {}, "ncmi": {}}}
    workflow = dataclasses.replace(finished, config={**CONFIG, "tasks": {"side": side}})
    done = workflow.snakemake("search")
    assert done.returncode != 0
    assert "no arm has settings to search" in done.stdout + done.stderr
