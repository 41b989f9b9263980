"""Names of the state, by which checkpoints that were written earlier are read."""

from typing import Any

import pytest

from wsi_ncmi.losses import NCMI, NCMIMixture, ncmi, ncmi_mixture

CALIBRATION = ["log_scale", "class_scale", "score_bias"]
OF_ALL = ["class_counts", *CALIBRATION, "log_means", "centre.value", "ratio.state"]
OF_NCMI = ["prior_weights", "gamma_weights", "log_temperature", "epoch"]
EPOCH_SUMS = ["epoch_sums.total", "epoch_sums.count"]
EMA_CENTRE = ["centre.total", "centre.count"]


@pytest.mark.parametrize(
    ("options", "own"),
    [
        ({"centroids": "learnable"}, ["xi"]),
        ({"centroids": "fixed"}, ["xi"]),
        ({"centroids": "epoch_mean"}, ["log_q"]),
        ({"centroids": "ema"}, ["log_q", "step_sums.total", "step_sums.count"]),
        ({"space": "logits"}, ["xi", "space.weight", "space.bias"]),
        ({"centre": "ema"}, ["xi", *EMA_CENTRE]),
    ],
)
def test_ncmi(options: dict[str, Any], own: list[str]) -> None:
    names = NCMI(4, [3, 3], ncmi.Options(**options)).state_dict()
    assert sorted(names) == sorted([*OF_ALL, *OF_NCMI, *EPOCH_SUMS, *own])


@pytest.mark.parametrize(("centre", "own"), [("frozen", []), ("ema", EMA_CENTRE)])
def test_mixture(centre: Any, own: list[str]) -> None:
    names = NCMIMixture(4, [3, 3], ncmi_mixture.Options(centre=centre)).state_dict()
    assert sorted(names) == sorted([*OF_ALL, "xi", *own])
