"""Streams of one model each are computed together, and each model is the one of its own stream."""

from typing import Any
from unittest import mock

import pytest
import torch
from made_groups import MemoryBags, made_setup, states

from wsi_ncmi.aggregators.bags import BagBatch, StreamBags, of_streams
from wsi_ncmi.training.engine import group
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup

WIDE = {"hidden_dim": 8, "attention_dim": 4}
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("abmil", WIDE, 1),
    ("abmil", WIDE, 5),
    ("abmil", {**WIDE, "gated": False, "instance_dims": (5,)}, 5),
    ("dsmil", {}, 5),
    ("dsmil", {"query": "linear", "value": "linear", "dropout": 0.25}, 5),
    ("mean", {"hidden_dim": 8}, 5),
    ("mean_pool", {"hidden_dim": 8}, 5),
]
"""Aggregator, its options, and bags of a step."""


def setups(aggregator: str, options: dict[str, Any], batch_size: int) -> list[Setup]:
    return [
        made_setup(
            MemoryBags(count=20), objective, aggregator=aggregator, aggregator_options=options,
            seed=seed, fold=fold, epochs=2, learning_rate=0.001, batch_size=batch_size,
        )
        for seed in range(2) for fold in range(2) for objective in ["ncmi" if fold else "focal"]
    ]  # fmt: skip


@pytest.mark.parametrize(("aggregator", "options", "batch_size"), CASES)
def test_a_joined_model_is_that_of_the_plain_loop(
    aggregator: str, options: dict[str, Any], batch_size: int
) -> None:
    together, alone = (setups(aggregator, options, batch_size) for _ in range(2))
    with mock.patch.object(group, "forward_streams", wraps=group.forward_streams) as joined:
        fit(together)
    assert max(len(call.args[1]) for call in joined.call_args_list) == 4
    for one, expected in zip(together, alone, strict=True):
        expected.fit()
        for name, tensor in states(expected).items():
            torch.testing.assert_close(states(one)[name], tensor, rtol=2e-3, atol=2e-4)


def test_a_joined_model_that_diverges_takes_no_neighbour_along() -> None:
    together, apart = (setups("abmil", WIDE, 5) for _ in range(2))
    with torch.no_grad():
        next(together[1].network.parameters()).fill_(torch.nan)
    histories = fit(together)
    assert [bool(history.failure) for history in histories] == [False, True, False, False]
    fit([apart[i] for i in (0, 2, 3)])
    for place in (0, 2, 3):
        for name, tensor in states(apart[place]).items():
            torch.testing.assert_close(states(together[place])[name], tensor)


def test_streams_side_by_side() -> None:
    sizes = (2, 1), (1, 1)
    batches = [BagBatch.of([torch.ones(size, 3) for size in own]) for own in sizes]
    features, index = of_streams(batches)
    assert index.tolist() == [[0, 0, 1, 2], [0, 1, 2, 2]]
    assert features[:, :, 0].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    bags = StreamBags(features[0], index[0], 3)
    assert len(bags) == 3
    assert bags.counts.tolist() == [2, 1, 1]
    with pytest.raises(TypeError, match="use `index`"):
        bags.split(features[0])


def test_only_like_sizes_of_lone_models_are_joined() -> None:
    def batch(instances: int, bags: int, models: int = 1) -> Any:
        given = mock.Mock(target=torch.zeros(bags), models=slice(3, 3 + models))
        given.bags.features = torch.zeros(instances, 1)
        return given

    batches = [batch(1900, 2), batch(1000, 2), batch(3900, 2), batch(9, 1), batch(5, 2, models=2)]
    assert group.joined_streams(batches, 8) == [[1, 0]]
    assert group.joined_streams(batches[3:], 8) == []
    assert group.joined_streams(batches, 2**13) == []  # as large as pays for itself
    small = [batch(40, 1), batch(2, 1), batch(9, 1)]
    assert group.joined_streams(small, 8) == [[1, 2, 0]]  # padding costs less than a call
