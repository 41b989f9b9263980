import pytest

from wsi_ncmi.evaluation.stopping import Stop, by_loss, by_saturation


def test_saturation_stops_when_a_window_brings_too_little():
    values = [1.0, 2.0, 2.5, 2.6, 2.65, 2.66, 3.5]
    assert by_saturation(values, 2, 0.2) == Stop(4, 4)  # 2.65 − 2.5 < 0.2
    assert by_saturation(values, 1, 0.2) == Stop(3, 3)
    assert by_saturation(values, 2, 0.05) == Stop(6, 6)  # never below: the last epoch
    assert by_saturation(values, 9, 0.2) == Stop(6, 6)  # too short to look back so far


def test_a_dip_does_not_pass_for_growth():
    """From the dip the value grows, but not above what it was."""
    assert by_saturation([2.0, 1.0, 2.05], 1, 0.1) == Stop(1, 1)
    assert by_saturation([2.0, 1.0, 2.05, 2.9], 2, 0.1) == Stop(2, 2)


def test_it_does_not_look_ahead():
    for length in range(3, 7):
        assert by_saturation([1, 2, 2.05, 5, 6, 7][:length], 1, 0.1) == Stop(2, 2)
        assert by_loss([3, 2, 2.5, 2.6, 1, 0][:length], 2).kept in (1,)


def test_patience_keeps_the_best_epoch_before():
    losses = [3.0, 2.0, 2.1, 2.0, 2.2, 1.0]
    assert by_loss(losses, 3) == Stop(4, 1)  # an equal loss is no smaller one
    assert by_loss(losses, 4) == Stop(5, 5)
    assert by_loss([1.0], 1) == Stop(0, 0)


@pytest.mark.parametrize("rule", [lambda v, n: by_saturation(v, n, 0.1), by_loss])
def test_what_cannot_be_is_refused(rule):
    with pytest.raises(ValueError, match="there is no epoch"):
        rule([], 1)
    with pytest.raises(ValueError, match="must be 1 or more, found 0"):
        rule([1.0], 0)
