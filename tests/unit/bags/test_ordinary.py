"""How far a bag lies from those of the training."""

import numpy as np

from wsi_ncmi.bags.ordinary import Ordinary, summary


def bags(count: int, shift: float = 0.0) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(400, 5)) + rng.normal(size=5) + shift) for _ in range(count)]


def test_distances_of_the_training_are_from_the_others() -> None:
    """By brute force: each bag against the mean and deviation of all others."""
    found = bags(7)
    rows = np.stack([summary(one) for one in found])
    ordinary = Ordinary.of(found)
    assert ordinary is not None
    apart = []
    for i in range(7):
        others = np.delete(rows, i, 0)
        z = (rows[i] - others.mean(0)) / others.std(0)
        apart.append(np.sqrt((z**2).mean()))
    np.testing.assert_allclose(ordinary.distances, np.sort(apart))


def test_what_is_far_is_said() -> None:
    ordinary = Ordinary.of(bags(30))
    assert ordinary is not None
    near, far = bags(1)[0], bags(1, 20.0)[0]
    assert ordinary.unusual(ordinary.distance(near)) == ""
    text = ordinary.unusual(ordinary.distance(far))
    assert text.startswith("its features lie outside of what was trained on: ")
    assert "30 bags" in text


def test_a_constant_feature_and_few_bags() -> None:
    found = [np.hstack([one, np.ones((400, 1))]) for one in bags(5)]
    ordinary = Ordinary.of(found)
    assert ordinary is not None
    assert np.isfinite(ordinary.distances).all()
    assert Ordinary.of(bags(3)) is None
