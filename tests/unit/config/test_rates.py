"""`learning_rate: auto`: a number by the optimiser's steps."""

import pytest
from pydantic import ValidationError

from wsi_ncmi.config import ImageTraining, Training
from wsi_ncmi.config.rates import auto_rate, steps_of


@pytest.mark.parametrize(
    ("steps", "rate"),
    [
        (1, 3e-3),
        (80, 3e-3),  # MUSK1, 20 epochs of 16 bags a step
        (160, 2e-3),  # TIGER
        (680, 1e-3),  # kidney
        (5_000, 5e-4),
        (27_000, 2e-4),  # kidney, 50 epochs of one bag a step
        (10**7, 1e-4),
    ],
)
def test_more_steps_take_a_smaller_rate(steps: int, rate: float) -> None:
    assert auto_rate(steps) == rate


def test_a_sample_more_or_less_is_the_same_rate() -> None:
    assert {auto_rate(steps_of(n, 20, 16)) for n in range(520, 560)} == {1e-3}


def test_it_is_the_default_and_numbers_stay() -> None:
    training = Training(epochs=20, batch_size=16)
    assert training.learning_rate == "auto"
    assert training.for_samples(543).learning_rate == training.rate(680) == 1e-3
    assert Training(learning_rate=1e-4).for_samples(543).learning_rate == 1e-4
    assert ImageTraining().learning_rate == 1e-3


def test_sgd_needs_a_number() -> None:
    with pytest.raises(ValidationError, match="found optimiser sgd: give a number"):
        Training(optimiser="sgd")
    assert Training(optimiser="sgd", learning_rate=0.1).rate(10) == 0.1


def test_a_negative_rate_and_another_word_are_refused() -> None:
    for wrong in (-1.0, 0.0, "fast"):
        with pytest.raises(ValidationError):
            Training(learning_rate=wrong)


def test_one_thing_is_said_of_a_wrong_rate() -> None:
    with pytest.raises(ValidationError) as error:
        Training(learning_rate=-1.0)
    assert [one["msg"] for one in error.value.errors()] == ["Input should be greater than 0"]
    assert error.value.errors()[0]["loc"] == ("learning_rate",)
    with pytest.raises(ValidationError):
        ImageTraining(learning_rate="auto")
    with pytest.raises(ValidationError):
        Training(learning_rate=float("inf"))
