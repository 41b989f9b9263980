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

RULES = {"confidence": 0.95, "equivalence_margin": 0.01, "primary": "hierarchical_bootstrap"}


def compared(difference, low, high, verdict, *, p=0.2, holm=0.2, equivalence=0.7):
    names = "abmil", "ncmi", "cross_entropy"
    fixed = 0.02, -0.01, 0.05
    return Comparison(*names, difference, low, high, p, holm, equivalence, 0.05, verdict, fixed)


def test_answer_where_nothing_was_shown():
    found = compared(0.021, -0.012, 0.055, "undecided", p=0.21, holm=0.42)
    assert answer(found, RULES) == (
        "NCMI changes macro-F1 by +0.021 (95 % interval −0.012 to 0.055, p = 0.210, with Holm's "
        "correction = 0.420) against cross-entropy with ABMIL: no difference was shown, nor that "
        "they are within 0.01 of each other; the smallest true difference that such data would "
        "have shown with 80 % probability is 0.050."
    )


@pytest.mark.parametrize("verdict", ["better", "worse"])
def test_answer_where_a_difference_was_shown(verdict):
    found = compared(0.03, 0.01, 0.05, verdict, p=0.0002, holm=0.0002)
    text = answer(found, {**RULES, "confidence": 0.9})
    assert "(90 % interval 0.010 to 0.050, p < 0.001)" in text
    assert f"it is {verdict}; the smallest true difference" in text


def test_answer_where_a_difference_is_sure_and_small():
    text = answer(compared(0.004, 0.002, 0.006, "better", equivalence=0.001), RULES)
    assert "it is better, though the two are surely within 0.01 of each other" in text


def test_answer_where_the_arms_are_equivalent():
    text = answer(compared(0.001, -0.002, 0.004, "equivalent", equivalence=0.001), RULES)
    assert text.endswith("the two are equivalent, within 0.01 of each other (p = 0.001).")


def test_answer_of_a_single_seed_claims_nothing_of_the_arms():
    nan = math.nan
    text = answer(compared(0.02, nan, nan, "untested", p=nan, holm=nan), RULES)
    assert text == (
        "NCMI changes macro-F1 by +0.020 against cross-entropy with ABMIL in these trained models "
        "(95 % interval −0.010 to 0.050), but nothing is shown of the arms: a single training of "
        "each cannot say what another would give, so train more seeds."
    )
    single_fold = answer(
        compared(0.02, nan, nan, "untested", p=nan, holm=nan), {**RULES, "primary": "corrected_t"}
    )
    assert "a single fold does not vary" in single_fold


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
