"""Runs of aggregators with auxiliary losses: each has an objective of the arm's own kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.config import Arm, Task, Training
from wsi_ncmi.errors import PartError
from wsi_ncmi.losses.classifier import BlockwiseLinear
from wsi_ncmi.losses.ncmi import NCMI
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.training.bags import fold_samples
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup
from wsi_ncmi.training.mil import load_run, prepare, train_group

CPU = torch.device("cpu")
AGGREGATORS = {
    "clam_mb": Arm(options={"hidden_dim": 8, "attention_dim": 4, "instances": 2}),
    "dsmil": Arm(options={"query_dim": 4}),
}
PLAIN = {"abmil": Arm(options={"hidden_dim": 9})}
OBJECTIVES = {
    "cross_entropy": Arm(options={"blockwise": True}),
    "ncmi": Arm(),
}


@pytest.fixture
def arguments(
    cache: BagCache, splits: pd.DataFrame, classes: list[str], make_run: Callable[..., Run]
) -> Callable[..., tuple[Any, ...]]:
    def made(aggregator: str, objective: str) -> tuple[Any, ...]:
        run = make_run(aggregator=aggregator, objective=objective)
        task = Task(
            classes=classes,
            aggregators={**AGGREGATORS, **PLAIN},
            objectives=OBJECTIVES,
            training=Training(epochs=3, batch_size=2, learning_rate=0.01),
        )
        return run, task, cache, fold_samples(splits, run.fold, classes, cache)

    return made


def prepared(made: tuple[Any, ...]) -> Setup:
    return prepare(*made, CPU)


def test_an_instance_classifier_has_no_blocks(arguments: Callable[..., tuple[Any, ...]]) -> None:
    """The bag's embedding is a block of each class, an instance's is none."""
    joint = prepared(arguments("clam_mb", "cross_entropy")).objective
    assert isinstance(joint.main.head, BlockwiseLinear)
    heads = [one.head for one in joint.auxiliary.values()]
    assert [type(head) for head in heads] == 3 * [nn.Linear]
    assert [tuple(head.weight.shape) for head in heads] == 3 * [(2, 8)]


def test_blocks_need_an_aggregator_that_has_them(
    arguments: Callable[..., tuple[Any, ...]],
) -> None:
    with pytest.raises(PartError, match=r"cross_entropy: blockwise is for .*; found ABMIL: set"):
        prepared(arguments("abmil", "cross_entropy"))


def test_scores_have_no_head(arguments: Callable[..., tuple[Any, ...]]) -> None:
    joint = prepared(arguments("dsmil", "cross_entropy")).objective
    assert isinstance(joint.auxiliary["critical_instances"].head, nn.Identity)


def test_ncmi_learns_instances_by_ncmi(arguments: Callable[..., tuple[Any, ...]]) -> None:
    joint = prepared(arguments("clam_mb", "ncmi")).objective
    assert {type(one) for one in joint.auxiliary.values()} == {NCMI}
    assert {(one.embedding_dim, one.classes) for one in joint.auxiliary.values()} == {(8, 2)}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_the_engine_is_the_plain_loop(
    arguments: Callable[..., tuple[Any, ...]], aggregator: str, objective: str
) -> None:
    """With two bags a step, one of three classes has no instances in each of them."""
    alone, stacked = (prepared(arguments(aggregator, objective)) for _ in range(2))
    alone.fit()
    fit([stacked])
    for module in ("network", "objective"):
        expected = getattr(alone, module).state_dict()
        for name, value in getattr(stacked, module).state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_a_run(
    arguments: Callable[..., tuple[Any, ...]], tmp_path: Path, aggregator: str, objective: str
) -> None:
    """Its curves have the auxiliary losses, and its checkpoint needs none of their objectives."""
    setup = prepared(arguments(aggregator, objective))
    names = set(setup.objective.auxiliary)
    train_group([setup], tmp_path)
    folder = tmp_path / setup.run.run_id
    curves = pd.read_csv(folder / "curves.tsv", sep="\t")
    trained = curves[curves.part == "train"]
    assert names <= set(curves.columns)
    assert trained[sorted(names)].notna().all(axis=None)
    network, main, _ = load_run(folder, CPU)
    assert main.embedding_dim == network.embedding_dim
