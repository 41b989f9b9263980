"""SIGKILL at random moments of tiling and extraction loses nothing and leaves nothing."""

from typing import Any

import pytest

# stage, processes that a run starts for itself, runs on the same folder at once
SHAPES = [
    ("tiles", 1, 1),
    ("tiles", 2, 1),
    ("tiles", 1, 2),
    ("features", 1, 1),
    ("features", 1, 2),
    ("features", 2, 1),
]
FEW = (2, 2, 2, 5, 5)
MANY = (20, 15, 15, 20, 25, 5)


def cases(counts: tuple[int, ...]) -> Any:
    """Shapes with the number of kills that each is to survive."""
    pairs = [(*shape, kills) for shape, kills in zip(SHAPES, counts, strict=False)]
    names = [f"{stage}_of_{workers}_times_{together}" for stage, workers, together, _ in pairs]
    return pytest.mark.parametrize(("stage", "workers", "together", "kills"), pairs, ids=names)


def kill(stages: Any, stage: str, workers: int, together: int, kills: int) -> dict[str, Any]:
    """Bytes of a clean run, no temporary file, no process left, nothing written twice."""
    report = stages("kill", stage=stage, kills=kills, seed=0, workers=workers, together=together)
    assert report["problems"] == [], report["log"]
    assert report["killed"] >= kills
    assert report["completed"] >= 1
    return report  # type: ignore[no-any-return]


@cases(FEW)
def test_sixteen_kills(stages: Any, stage: str, workers: int, together: int, kills: int) -> None:
    kill(stages, stage, workers, together, kills)


@pytest.mark.slow
@cases(MANY)
def test_a_hundred_kills(stages: Any, stage: str, workers: int, together: int, kills: int) -> None:
    report = kill(stages, stage, workers, together, kills)
    # Of two runs at once one often lives on, and finishes.
    chance = together > 1 or kills < 10
    assert report["amid"] >= 1 or chance, "no kill left some slides done and others not"
