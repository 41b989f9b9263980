"""Models of one family that are calibrated in different ways, by the engine and the plain loop."""

import torch
from made_groups import MemoryBags, made_setup, states

from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup

KINDS = ("vector", "temperature", "bias", "vector")


def setups() -> list[Setup]:
    cache = MemoryBags(count=40)
    pairs = [*zip(("ncmi",) * 4, KINDS, strict=True), ("cross_entropy", "bias")]
    return [made_setup(cache, name, calibration=kind, epochs=2) for name, kind in pairs]


def test_each_model_is_calibrated_as_its_settings_say() -> None:
    together, alone = setups(), setups()
    histories = fit(together)
    for one, other, history in zip(together, alone, histories, strict=True):
        expected = other.fit()
        for name, tensor in states(other).items():
            torch.testing.assert_close(states(one)[name], tensor, rtol=2e-3, atol=2e-4, msg=name)
        for found, scores in zip(history.validation, expected.validation, strict=True):
            torch.testing.assert_close(found, scores, rtol=2e-2, atol=2e-2)
        main, kind = one.objective.main, one.settings.calibration
        assert (main.score_bias != 0).all() == (kind != "temperature")
        assert (main.class_scale.std() > 1e-4) == (kind == "vector")
        scores = (run.score("test", history)[0] for run in (one, other))
        torch.testing.assert_close(*scores, rtol=2e-2, atol=2e-2)
