import math

import pytest

from wsi_ncmi.report.wording import (
    Comparison,
    answer,
    number,
    p_value,
    signed,
    single_answer,
    title,
)


def compared(difference, low, high):
    return Comparison("abmil", "ncmi", "cross_entropy", difference, low, high, 0.05)


def test_answer_where_nothing_was_shown():
    assert answer(compared(0.021, -0.012, 0.055), 0.95) == (
        "NCMI changes macro-F1 by +0.021 (95 % interval −0.012 to 0.055) against cross-entropy "
        "with ABMIL: no difference was shown; the smallest true difference that such "
        "data would have shown with 80 % probability is 0.050."
    )


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [((0.03, 0.01, 0.05), "it is better"), ((-0.03, -0.05, -0.01), "it is worse")],
)
def test_answer_where_the_interval_leaves_zero_out(bounds, verdict):
    assert verdict in answer(compared(*bounds), 0.9)
    assert "90 % interval" in answer(compared(*bounds), 0.9)


def test_an_interval_that_touches_zero_shows_nothing():
    assert compared(0.02, 0.0, 0.04).verdict == "none shown"


def test_single_objective_has_an_answer_without_comparison():
    found = single_answer("mean", "ncmi", 0.61, (0.5, 0.7), 0.95)
    assert found.startswith("mean + MLP, NCMI reaches a macro-F1 of 0.610")
    assert "nothing is compared" in found


def test_numbers():
    assert number(-0.0001) == "0.000"
    assert number(-0.25, 2) == "−0.25"
    assert number(math.nan) == "–"
    assert signed(0.0001) == "0.000"
    assert signed(0.012) == "+0.012"
    assert p_value(0.0004) == "< 0.001"
    assert title("my_arm") == "my arm"
