"""FROC against a case worked out by hand."""

import numpy as np
import pytest

from wsi_ncmi.evaluation.froc import IGNORED, NO_LESION, RATES, Detections, froc


def slide(lesions: int, *detections: tuple[float, int]) -> Detections:
    probability, lesion = zip(*detections, strict=True) if detections else ((), ())
    return Detections(np.array(probability, float), np.array(lesion, np.int64), lesions)


def test_a_case_by_hand() -> None:
    """Two slides, three lesions: one found at .9, one at .4, one never.

    False positives: .8, .5 and .3, so that over the thresholds .9 .8 .5 .4 .3 the curve goes
    (0, 1/3) (1/2, 1/3) (1, 1/3) (1, 2/3) (3/2, 2/3). At one false positive a slide the lowest
    threshold of that rate finds two of three.
    """
    curve = froc(
        [
            slide(3, (0.9, 0), (0.7, 0), (0.4, 1), (0.8, NO_LESION), (0.95, IGNORED)),
            slide(0, (0.5, NO_LESION), (0.3, NO_LESION)),
        ]
    )
    assert curve.false_positives == pytest.approx([0, 0, 0.5, 1, 1, 1.5])
    assert curve.sensitivity == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert curve.at_rates == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert curve.score == pytest.approx((2 * 1 / 3 + 4 * 2 / 3) / 6)


def test_between_two_rates_the_sensitivity_is_interpolated() -> None:
    """From (0, 0) through (1, 0), where a false positive is the surest, to (1, 1)."""
    curve = froc([slide(1, (0.9, NO_LESION), (0.5, NO_LESION), (0.4, 0))])
    assert dict(zip(RATES, curve.at_rates, strict=True)) == pytest.approx(
        {0.25: 0, 0.5: 0, 1: 0, 2: 1, 4: 1, 8: 1}
    )
    sloping = froc([slide(2, (0.9, 0), (0.5, NO_LESION), (0.5, 1))])
    assert sloping.at_rates[:3] == pytest.approx([0.625, 0.75, 1])


def test_detections_in_isolated_tumour_cells_count_for_nothing() -> None:
    with_cells = froc([slide(1, (0.9, 0), (0.99, IGNORED), (0.5, NO_LESION))])
    without = froc([slide(1, (0.9, 0), (0.5, NO_LESION))])
    assert with_cells.at_rates == pytest.approx(without.at_rates)


def test_a_slide_without_detections_still_divides_the_false_positives() -> None:
    alone = froc([slide(1, (0.9, NO_LESION), (0.5, 0))])
    assert alone.at_rates[0] == pytest.approx(0.25)  # on the way from (0, 0) to (1, 1)
    beside = froc([slide(1, (0.9, NO_LESION), (0.5, 0)), *[slide(0)] * 3])
    assert beside.at_rates[0] == 1  # one false positive on four slides


def test_no_lesion_at_all() -> None:
    with pytest.raises(ValueError, match="no slide has one that counts"):
        froc([slide(0, (0.5, NO_LESION))])
