"""Collapse is seen while training: the numbers of made cases, curves, log and records."""

import json
import logging
import math
from pathlib import Path
from typing import cast

import pandas as pd
import pytest
import torch
from made_groups import MemoryBags, made_setup
from torch import Tensor

from wsi_ncmi.config import Training
from wsi_ncmi.config.rates import auto_rate
from wsi_ncmi.losses import NCMI, CrossEntropy, Objective
from wsi_ncmi.losses.ncmi import Options
from wsi_ncmi.losses.presets import PRESETS
from wsi_ncmi.predictions.states import UNDERTRAINED, is_collapsed
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import record
from wsi_ncmi.training.finite import History
from wsi_ncmi.training.interface import Embedded
from wsi_ncmi.training.joint import JointObjective
from wsi_ncmi.training.watch import remedy_of

COUNTS = [30, 20, 10]
TARGET = torch.tensor([c for c, count in enumerate(COUNTS) for _ in range(count)])
STUCK = {"epochs": 6, "learning_rate": 1e-7}


def epoch(objective: Objective, z: Tensor) -> dict[str, float]:
    """The train row of an epoch of one step in which nothing moves."""
    joint = JointObjective(objective, {}).train()
    found = joint(Embedded(z), TARGET)
    rows = {"loss": found.total, **found.parts, **joint.end_epoch(0)}
    return {name: value.item() for name, value in rows.items()}


def at_corners(noise: float = 0.1) -> Tensor:
    """Embeddings [60, 6], each near its class's corner."""
    rng = torch.Generator().manual_seed(0)
    return torch.eye(3, 6)[TARGET] + noise * torch.randn(60, 6, generator=rng)


def ncmi(**options: object) -> NCMI:
    published = PRESETS["ncmi_paper"].options
    objective = NCMI(6, COUNTS, Options(**{**published, **options}))
    objective.fit("start", at_corners(), TARGET)
    return objective


def test_samples_at_their_classes() -> None:
    row = epoch(ncmi(temperature=1.0), at_corners())
    assert row["macro_f1"] == 1.0
    assert row["plateau"] == pytest.approx(1.5)
    assert row["cmi"] < row["separation"]
    assert row["ncmi"] < row["plateau"]
    assert not is_collapsed(row)


def test_samples_far_from_every_class() -> None:
    z = torch.ones(60, 6) * torch.tensor([-1.0, -1, -1, 1, 1, 1])
    row = epoch(ncmi(), z)
    # all are predicted to be of one class, at whose macro-F1 chance is
    assert row["macro_f1"] == pytest.approx(row["chance_f1"])
    assert row["cmi"] > row["separation"]
    assert is_collapsed(row)


def test_merged_classes() -> None:
    objective = ncmi(separation_direction="kl_p_q")
    with torch.no_grad():
        objective.xi.copy_(objective.xi[:1] + 1e-3 * objective.xi)
    rng = torch.Generator().manual_seed(0)
    row = epoch(objective, torch.randn(60, 6, generator=rng))
    assert row["separation"] < 1e-4 * row["cmi"]
    assert row["ncmi"] == pytest.approx(row["plateau"], rel=0.02)
    assert is_collapsed(row)


def test_the_plateau_under_other_weights() -> None:
    options = {"separation_weights": "empirical", "prior": "uniform"}
    row = epoch(ncmi(**options), at_corners())
    # W_y = 1/2, 2/3 and 5/6 of the classes, which count alike
    assert row["plateau"] == pytest.approx((2 + 3 / 2 + 6 / 5) / 3)


def test_a_classifier_that_predicts_one_class() -> None:
    objective = CrossEntropy(6, COUNTS)
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias.copy_(torch.tensor(COUNTS).log())
    row = epoch(objective, at_corners())
    # the best constant prediction: the majority's F1 is 2/3, the others' 0
    assert row["log_loss"] == pytest.approx(row["prior_entropy"], rel=1e-5)
    assert row["prior_entropy"] == pytest.approx(
        -sum(n / 60 * math.log(n / 60) for n in COUNTS), rel=1e-5
    )
    assert row["macro_f1"] == pytest.approx(2 / 9)
    assert row["chance_f1"] == pytest.approx(2 / 9)
    assert is_collapsed(row)
    with torch.no_grad():
        objective.head.weight.copy_(5 * torch.eye(3, 6))
    assert not is_collapsed(epoch(objective, at_corners()))


def test_an_epoch_forgets_the_one_before() -> None:
    torch.manual_seed(0)
    joint = JointObjective(CrossEntropy(6, COUNTS), {}).train()
    for z in (at_corners(), at_corners(5.0)):
        joint(Embedded(z), TARGET)
        assert joint.end_epoch(0)["macro_f1"] > 0
    assert joint.seen.counts.sum() == 0


def trained(caplog: pytest.LogCaptureFixture, *, alone: bool) -> tuple[list[History], str]:
    cache = MemoryBags()
    group = [made_setup(cache, **STUCK), made_setup(cache, epochs=6, fold=1, learning_rate=0.05)]
    with caplog.at_level(logging.WARNING):
        histories = [one.fit() for one in group] if alone else fit(group)
    return histories, caplog.text


@pytest.mark.parametrize("alone", [True, False])
def test_it_is_said_while_training(caplog: pytest.LogCaptureFixture, alone: bool) -> None:
    (stuck, sound), text = trained(caplog, alone=alone)
    found = [row["collapsed"] for row in stuck.curves if row["part"] == "train"]
    assert found == [1] * 6
    assert [row["collapsed"] for row in sound.curves if row["part"] == "train"][-1] == 0
    assert text.count("collapsed until epoch 2") == 1
    assert "abmil--cross_entropy--fold0--seed0: collapsed until epoch 2" in text
    assert (
        "set another training.learning_rate, or more training.epochs (the learning rate was 1e-07)"
        in text
    )


def test_the_record_has_the_state_and_predictions(tmp_path: Path) -> None:
    setup = made_setup(MemoryBags(), **STUCK)
    history = setup.fit()
    names = {p: [s.sample_id for s in found] for p, found in setup.data.parts.items()}  # type: ignore[attr-defined]
    for part, ids in names.items():
        setup.identities[part] = pd.DataFrame(  # type: ignore[index]
            {"sample_id": ids, "patient_id": ids, "centre": "-"}
        )
    record(setup, history, tmp_path, 0.0)
    found = json.loads((tmp_path / "run.json").read_text())
    assert (found["status"], found["state"]) == ("ok", "collapsed")
    assert "another training.learning_rate" in found["remedy"]
    assert (tmp_path / "predictions.parquet").is_file()


def test_a_rate_above_auto_is_not_told_to_rise() -> None:
    def remedy(rate: float | str) -> str:
        settings = Training(epochs=20, learning_rate=rate)
        return remedy_of(UNDERTRAINED, cast(Objective, None), settings, 1000)

    assert remedy(auto_rate(1000) / 10).startswith("raise training.learning_rate (it was")
    for rate in (10 * auto_rate(1000), "auto"):
        assert remedy(rate).startswith("raise training.epochs (it was 20); the learning rate was")
