"""`benchmarks/external_simulated.py`: intervals hold the true difference between cohorts."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def simulated(root: Path) -> Iterator[Any]:
    sys.path.insert(0, str(root / "benchmarks"))
    import external_simulated

    yield external_simulated
    sys.path.remove(str(root / "benchmarks"))


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_intervals_hold_the_true_difference(simulated: Any, shift: float) -> None:
    found = simulated.held(400, 150, shift, seed_sd=0.3, seeds=3)
    assert 0.92 <= found["trainings_and_patients"] <= 0.98
    assert (found["without_0"] < 0.08) == (shift == 0)
    assert (found["without_0"] > 0.9) == (shift > 0)
