"""benchmarks/loss_cost.py compares like with like, and measures what it says."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from wsi_ncmi.losses import NCMI
from wsi_ncmi.losses.ncmi import Options

CPU = torch.device("cpu")


@pytest.fixture
def loss_cost(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import loss_cost as module

    return module


def test_the_alternative_is_the_same_loss(loss_cost: ModuleType) -> None:
    torch.manual_seed(0)
    z, target = loss_cost.inputs((6, 4, 16), CPU)
    options = Options(schedule="simultaneous", centre="none", **loss_cost.PUBLISHED)
    objective = NCMI(16, [3] * 4, options)
    ours = objective(z, target).total
    theirs = loss_cost.pairwise_ncmi(z, objective.xi, target)
    assert theirs.item() == pytest.approx(ours.item(), rel=1e-3)
    ours_grad, theirs_grad = (torch.autograd.grad(t, z)[0] for t in (ours, theirs))
    assert (ours_grad - theirs_grad).norm() < 1e-2 * ours_grad.norm()


def test_every_rival_makes_gradients(loss_cost: ModuleType) -> None:
    for name, call in loss_cost.passes((4, 3, 8), CPU).items():
        if "compiled" not in name:
            call()
    assert loss_cost.pairwise_bytes((1024, 1000, 2048)) > 2e10


def test_peak_bytes_sees_what_is_held_and_freed(loss_cost: ModuleType) -> None:
    measure = sys.modules["measure"]

    def holds_two_of_three() -> None:
        first = torch.ones(1_000_000)
        second = first + 1
        del first
        third = second + 1
        del second, third

    found = measure.peak_bytes(holds_two_of_three, CPU)
    assert 8_000_000 <= found < 8_100_000


def test_rivals_are_timed_in_turn(loss_cost: ModuleType) -> None:
    measure = sys.modules["measure"]
    order: list[str] = []
    rivals = {name: (lambda name=name: order.append(name)) for name in ("a", "b")}
    times = measure.seconds(rivals, CPU, rounds=3, target=0.0)
    assert "".join(order[-6:]) == "ababab"
    assert all(len(t["each"]) == 3 and t["median"] > 0 for t in times.values())


def test_stacks_are_measured_mapped_and_as_they_are(
    loss_cost: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_cost, "STACKS", (2,))
    (row,) = loss_cost.stack_table(CPU, 1)
    assert set(row["seconds"]) == {"cross-entropy, mapped", "NCMI, mapped", "NCMI"}
    assert all(found["median"] > 0 for found in row["seconds"].values())


def test_new_rows_replace_those_of_their_shape(loss_cost: ModuleType) -> None:
    old = {"losses": [{"shape": [1, 2, 3], "t": 1}, {"shape": [4, 5, 6], "t": 1}], "steps": []}
    new = {"losses": [{"shape": (4, 5, 6), "t": 2}], "steps": [{"step": "a"}], "stacks": []}
    found = loss_cost.joined(old, new)
    assert [row["t"] for row in found["losses"]] == [1, 2]
    assert found["steps"] == [{"step": "a"}]
