"""What changes over all of a training follows each model's own number of steps."""

import pytest
import torch
from made_groups import MemoryBags, made_setup, states

from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup


def setups() -> list[Setup]:
    cache = MemoryBags(count=30)
    options = {"weight_schedule": "down"}
    return [
        made_setup(cache, "cross_entropy_ncmi", options, epochs=epochs, fold=fold)
        for epochs, fold in [(2, 0), (3, 0), (2, 1)]
    ]


def test_a_weight_that_falls_reaches_zero_with_each_training_and_as_in_the_plain_loop() -> None:
    together, alone = setups(), setups()
    fit(together)
    for one, other in zip(together, alone, strict=True):
        other.fit()
        found = one.objective.main
        assert found.step.item() == found.steps.item() == one.settings.epochs * 4
        assert other.objective.main.weight.item() == pytest.approx(0, abs=1e-7)
        for name, tensor in states(other).items():
            torch.testing.assert_close(states(one)[name], tensor, rtol=2e-3, atol=2e-4, msg=name)
