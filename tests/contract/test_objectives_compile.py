"""Objectives under torch.compile: one graph, compiled once, with the results of eager mode."""

import copy
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from wsi_ncmi.losses.objective import Objective

INDUCTOR = [("ncmi", {}), ("cross_entropy", {})]


def compilable(objective: Objective) -> Objective:
    if not objective.stackable:
        pytest.skip(f"{type(objective).__name__} looks at its data (stackable = False): no graph")
    return objective


def step(
    forward: Callable[..., tuple],
    state_loss: Callable[..., Tensor | None],
    z: Tensor,
    target: Tensor,
) -> tuple[Tensor, Tensor]:
    """Both losses of a step and their backward passes: the total and the embedding's gradient."""
    z = z.clone().requires_grad_()
    own = state_loss(z.detach(), target)
    if own is not None:
        own.backward()
    total = forward(z, target)[0]
    total.backward()
    assert z.grad is not None
    return total.detach(), z.grad


def compare(
    eager: Objective,
    compiled: Objective,
    forward: Callable[..., tuple],
    state_loss: Callable[..., Tensor | None],
    batch: Callable[..., tuple[Tensor, Tensor]],
    assert_same_state: Callable[..., None],
) -> None:
    """Three steps and the end of an epoch; `forward` and `state_loss` are those of `compiled`."""
    for number in range(3):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            z, target = batch(8, number)
            found = step(forward, state_loss, z, target)
        expected = step(eager, eager.state_loss, z, target)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert_same_state(compiled, eager)
        for objective in (compiled, eager):
            objective.end_step()
            if number == 1:
                objective.end_epoch(1)
        assert_same_state(compiled, eager)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def test_compiled_equals_eager(started, batch, assert_same_state) -> None:
    eager = compilable(started())
    made = copy.deepcopy(eager)
    forward = torch.compile(made, fullgraph=True, backend="aot_eager")
    state_loss = torch.compile(made.state_loss, fullgraph=True, backend="aot_eager")
    compare(eager, made, forward, state_loss, batch, assert_same_state)


@pytest.mark.parametrize("case", INDUCTOR, ids=lambda case: case[0], indirect=True)
def test_compiled_in_place_by_inductor(started, batch, assert_same_state) -> None:
    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("the default backend compiles C++, and neither c++ nor g++ is there")
    eager = compilable(started())
    made = copy.deepcopy(eager)
    made.compile(fullgraph=True)
    compare(eager, made, made, made.state_loss, batch, assert_same_state)
