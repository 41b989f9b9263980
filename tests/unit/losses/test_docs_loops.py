"""The training loops of README.md and docs/losses.md run as they stand, and train."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from wsi_ncmi.losses import NCMI
from wsi_ncmi.losses.ncmi import Options

SCHEDULES = {"one optimiser": 'schedule="simultaneous"', "two optimisers": "state_loss"}


def block(text: str, mark: str) -> str:
    """The one Python block that holds `mark`."""
    found = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if mark in b]
    assert len(found) == 1, mark
    return found[0]


def surroundings() -> dict[str, Any]:
    """What the loops take for granted: three separable classes, a network, a loader."""
    torch.manual_seed(0)
    x = torch.randn(300, 8)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))
    return {
        "network": network,
        "optimiser": torch.optim.AdamW(network.parameters(), lr=1e-2),
        "x": x,
        "y": y,
        "embedding_dim": 16,
        "class_counts": torch.bincount(y).tolist(),
        "epochs": 60,
        "loader": list(zip(x.split(30), y.split(30), strict=True)) * 60,
        "torch": torch,
        "NCMI": NCMI,
        "Options": Options,
    }


@pytest.mark.parametrize("page", ["README.md", "docs/losses.md"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_loop_trains(root: Path, page: str, schedule: str) -> None:
    names = surroundings()
    if "for _ in range(epochs)" in (root / page).read_text():
        names["loader"] = names["loader"][:10]
    exec(block((root / page).read_text(), SCHEDULES[schedule]), names)
    objective, x, y = names["objective"], names["x"], names["y"]
    assert objective.options.schedule == ("simultaneous" if "one" in schedule else "alternating")
    start = NCMI(16, names["class_counts"]).xi
    assert not torch.equal(objective.xi, start)
    with torch.no_grad():
        z = names["network"](x)
        objective.fit("classes", z, y)
        assert (objective.scores(z).argmax(1) == y).float().mean() > 0.9


def test_phases_in_batches_are_phases_at_once(root: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(60, 16), torch.arange(60) % 3
    objective, whole = (NCMI(16, [20, 20, 20]) for _ in range(2))
    pairs = list(zip(x.split(7), y.split(7), strict=True))
    names = {
        "objective": objective,
        "network": nn.Identity(),
        "training": pairs,
        "validation": pairs,
    }
    exec(block((root / "docs/losses.md").read_text(), "objective.passes(phase)"), names)
    whole.fit("classes", x, y)
    whole.fit("temperature", x, y)
    torch.testing.assert_close(objective.log_means, whole.log_means)
    torch.testing.assert_close(objective.log_scale, whole.log_scale)
