"""The rules by which a training is called collapsed or undertrained, on made curves."""

import math

import pytest

from wsi_ncmi.predictions.states import (
    COLLAPSED,
    TRAINED,
    UNDERTRAINED,
    is_collapsed,
    is_undertrained,
    state_of,
)

NCMI = {"macro_f1": 0.9, "chance_f1": 0.5, "ncmi": 1.0, "cmi": 0.01, "separation": 0.004}
NCMI |= {"plateau": 2.0}
CLASSIFIER = {"macro_f1": 0.5, "chance_f1": 0.5, "log_loss": 0.69, "prior_entropy": 0.6931}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        # gated ABMIL on MUSK1 in logits: the q have merged, the loss rests near 2
        ({"macro_f1": 0.62, "ncmi": 1.91, "cmi": 0.06, "separation": 2e-6}, True),
        ({"macro_f1": 0.51, "ncmi": 2.0, "cmi": 0.002}, True),  # apart, and of no use
        # the demo, mean + MLP: all samples far from every q, which has a low loss
        ({"macro_f1": 0.35, "chance_f1": 0.25, "ncmi": 0.35, "separation": 0.005}, True),
        # an easy task at too small a rate: the plateau, but classes come apart and q are two
        ({"macro_f1": 0.8, "ncmi": 1.95, "separation": 0.003}, False),
        # at chance by its macro-F1 alone, while the loss falls and samples are near their q
        ({"macro_f1": 0.5, "ncmi": 0.8, "cmi": 0.002}, False),
        # one distribution for both classes, and class means that tell them apart nevertheless
        ({"macro_f1": 0.95, "separation": 1e-6}, False),
    ],
)
def test_ncmi(change: dict[str, float], expected: bool) -> None:
    assert is_collapsed({**NCMI, **change}) is expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"log_loss": 7.0}, True),  # blown up
        ({"macro_f1": 0.7}, False),
        # one rare class is never predicted, and yet the probabilities say something
        ({"log_loss": 0.5}, False),
    ],
)
def test_classifiers(change: dict[str, float], expected: bool) -> None:
    assert is_collapsed({**CLASSIFIER, **change}) is expected


def test_an_objective_with_neither_has_its_macro_f1_alone() -> None:
    assert is_collapsed({"macro_f1": 0.33, "chance_f1": 0.33})
    assert not is_collapsed({"macro_f1": 0.6, "chance_f1": 0.33})


def curves(train: list[float], validation: list[float]) -> list[dict]:
    rows = []
    for epoch, pair in enumerate(zip(train, validation, strict=True)):
        for part, loss in zip(("train", "val"), pair, strict=True):
            rows.append({"epoch": epoch, "part": part, "loss": loss, "collapsed": 0})
    return rows


def falling(rate: float, floor: float = 0.0, epochs: int = 20) -> list[float]:
    """exp(−rate · the share of the cosine's learning rates) above a floor."""
    shares = [0.5 * (e / epochs + 1 - math.cos(math.pi * e / epochs)) for e in range(epochs)]
    return [floor + math.exp(-rate * share) for share in shares]


def test_a_loss_that_still_falls_is_undertrained() -> None:
    assert is_undertrained(curves(falling(1), falling(1)))
    assert is_undertrained(curves(falling(1, epochs=100), falling(1, epochs=100)))
    assert not is_undertrained(curves(falling(8), falling(8)))


def test_learning_by_heart_is_not() -> None:
    validation = [*falling(3, epochs=10), *reversed(falling(3, epochs=10))]
    assert not is_undertrained(curves(falling(1), validation))


def test_one_epoch_and_no_fall_say_nothing() -> None:
    assert not is_undertrained(curves([1.0], [1.0]))
    assert not is_undertrained(curves([1.0] * 9, [1.0] * 9))
    assert not is_undertrained(curves([1.0 + e for e in range(9)], [1.0] * 9))


def test_the_state_is_that_of_the_epoch_that_is_kept() -> None:
    found = curves(falling(8), falling(8))
    assert state_of(found, 19) == TRAINED
    found[2 * 5]["collapsed"] = 1
    assert (state_of(found, 5), state_of(found, 19)) == (COLLAPSED, TRAINED)
    assert state_of(curves(falling(1), falling(1)), 19) == UNDERTRAINED
