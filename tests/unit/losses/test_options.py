"""What objectives refuse when they are made."""

from typing import Any

import pytest

from wsi_ncmi.losses import NCMI, CrossEntropy, cross_entropy, ncmi


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"temperature": 0}, "temperature must be above 0, found 0"),
        ({"temperature": float("nan")}, "temperature must be a finite number, above 0, found nan"),
        ({"centroid_decay": 1.0}, r"centroid_decay must be in \[0, 1\), found 1.0"),
        ({"centre_decay": -0.1}, r"centre_decay must be in \[0, 1\), found -0.1"),
        ({"ratio_decay": 1.5}, r"ratio_decay must be in \[0, 1\), found 1.5"),
    ],
)
def test_ncmi_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ncmi.Options(**options)


def test_ncmi_needs_two_dimensions() -> None:
    with pytest.raises(ValueError, match="2 or more dimensions: 1"):
        NCMI(1, [3, 3])


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_label_smoothing(value: float) -> None:
    with pytest.raises(ValueError, match=rf"must be in \[0, 1\), found {value}"):
        CrossEntropy(4, [3, 3], cross_entropy.Options(label_smoothing=value))


def test_only_learnable_centroids_are_parameters() -> None:
    for centroids in ("learnable", "fixed", "ema", "epoch_mean"):
        objective = NCMI(4, [3, 3], ncmi.Options(centroids=centroids))  # type: ignore[arg-type]
        learnable = centroids == "learnable"
        assert [name for name, _ in objective.named_parameters()] == ["xi"] * learnable
        assert len(objective.parameter_groups()["centroids"]) == learnable
