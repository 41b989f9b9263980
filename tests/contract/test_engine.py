"""The engine equals the plain loop: every aggregator with every objective, in one group each.

Both compute in float32, in another order of sums. A group of one model has the plain loop's own
arithmetic: its weights are the same bits.
"""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from made_aggregators import NARROW
from made_groups import MemoryBags, made_setup, states

from wsi_ncmi import registry
from wsi_ncmi.aggregators import fused
from wsi_ncmi.training.engine.evaluation import CALIBRATION
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup
from wsi_ncmi.training.finite import History

AGGREGATORS = registry.names("aggregator")
OBJECTIVES = registry.names("objective")
# The second stream has what differs in kind: a classifier, NCMI, one that cannot be mapped over.
STREAMS = {(0, 0): OBJECTIVES, (1, 0): ["cross_entropy", "ncmi", "supcon"]}
# Their attention is a fused kernel that sums in another order when its inputs lie elsewhere.
OTHER_KERNELS = {"transformer"}
TOLERANCE = {"rtol": 2e-3, "atol": 2e-4}


def small(aggregator: str) -> dict[str, int]:
    options = registry.load("aggregator", aggregator).Options
    known = {field.name for field in dataclasses.fields(options)}
    return {name: width for name, width in NARROW.items() if name in known}


def setup(aggregator: str, objective: str, seed: int, fold: int) -> Setup:
    return made_setup(
        MemoryBags(count=30),
        objective,
        aggregator=aggregator,
        aggregator_options=small(aggregator),
        seed=seed,
        fold=fold,
        epochs=2,
        learning_rate=0.001,
    )


def group(aggregator: str) -> list[Setup]:
    pairs = [(stream, name) for stream, names in STREAMS.items() for name in names]
    return [setup(aggregator, name, *stream) for stream, name in pairs]


def close(found: Setup, expected: Setup) -> None:
    for name, tensor in states(expected).items():
        torch.testing.assert_close(
            states(found)[name],
            tensor,
            **TOLERANCE,
            msg=lambda text, name=name: f"{expected.run.run_id}: {name}: {text}",
        )


def same_history(found: History, expected: History) -> None:
    assert (found.best_epoch, found.epochs, found.failure) == (
        expected.best_epoch, expected.epochs, expected.failure,
    )  # fmt: skip
    for row, other in zip(found.curves, expected.curves, strict=True):
        assert row.keys() == other.keys()
        names = [name for name in row if name != "part"]
        assert [row[name] for name in names] == pytest.approx(
            [other[name] for name in names], rel=1e-2, abs=1e-3
        )
    for scores, others in zip(found.validation, expected.validation, strict=True):
        torch.testing.assert_close(scores, others, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_a_group_trains_as_each_of_its_models_alone(aggregator: str) -> None:
    together, alone = group(aggregator), group(aggregator)
    histories: Sequence[History] = fit(together)
    for one, other, history in zip(together, alone, histories, strict=True):
        expected = other.fit()
        close(one, other)
        same_history(history, expected)


@pytest.mark.parametrize("aggregator", ["abmil", "clam_mb"])
def test_written_gradients_train_alike(aggregator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What many models on larger bags are computed by, on small ones."""
    together = [setup(aggregator, name, 0, 0) for name in ("cross_entropy", "ncmi")]
    alone = [setup(aggregator, name, 0, 0) for name in ("cross_entropy", "ncmi")]
    monkeypatch.setattr(fused, "LEAST", 0)
    fit(together)
    for one, expected in zip(together, alone, strict=True):
        expected.fit()
        close(one, expected)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_one_model_is_the_plain_loop_bit_for_bit(aggregator: str) -> None:
    found, expected = (setup(aggregator, "cross_entropy", 0, 0) for _ in range(2))
    fit([found])
    expected.fit()
    for name, tensor in states(expected).items():
        if aggregator in OTHER_KERNELS:
            torch.testing.assert_close(states(found)[name], tensor, rtol=1e-4, atol=1e-5)
        elif name.endswith(tuple(CALIBRATION)):  # of scores that the plain loop makes by batches
            torch.testing.assert_close(states(found)[name], tensor, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(states(found)[name], tensor), name
