"""NCMI of few classes on a GPU: by Triton's kernels it has the CPU's values and gradients."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from wsi_ncmi.losses import NCMI
from wsi_ncmi.losses.functional import few
from wsi_ncmi.losses.functional.problem import Forms

CUDA = torch.device("cuda", 0)
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

PLANS: dict[str, dict[str, Any]] = {
    "network": {"classes": False},
    "class distributions": {"embedding": False, "observed": False},
    "all": {"weighted": True, "temperature": True},
    "through a alone": {"separation": False},
}
SIZES = {
    "a bag": (1, 512, 4),
    "small": (7, 20, 3),
    "images": (128, 512, 10),
    "wide": (33, 2048, 24),
}


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Calls of the kernels, which must be usable here."""
    pytest.importorskip("triton", reason="triton comes with torch for CUDA")
    from wsi_ncmi.losses.functional import few_triton

    assert few._triton(CUDA) is few_triton
    calls, evaluate = [], few_triton.evaluate

    def counted(*given: Any) -> Any:
        calls.append(1)
        return evaluate(*given)

    monkeypatch.setattr(few_triton, "evaluate", counted)
    return calls


def given(samples: int, dim: int, count: int, dtype: torch.dtype) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(dtype)

    z, centre = normal(samples, dim), 0.1 * normal(dim)
    if samples > 1:
        z[0] = centre  # no direction
    target = torch.arange(2 * samples)[::2] % count
    weights = torch.full((count,), 1 / count)
    prior = 0.5 + torch.rand(count, generator=random)
    state = torch.tensor(0.5, dtype=dtype), normal(count, dim), target, weights, prior
    return [z, centre, *state, torch.zeros(3, dtype=torch.float64)]


def evaluated(tensors: list[Tensor], plan: few.Plan, device: torch.device) -> list[Tensor]:
    """All outputs, and the gradients of 3 · total, on the CPU."""
    moved = [tensor.detach().to(device) for tensor in tensors]
    learnt = [moved[place].requires_grad_() for place in plan.learnt]
    found = few.few_classes_loss(*moved, plan)
    (3 * found.total).backward()
    outputs = [part for part in found if part is not None]
    return [part.detach().cpu() for part in (*outputs, *(each.grad for each in learnt))]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("form", ["nsf", "softmax"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_the_cpu(
    size: str, name: str, form: Any, dtype: torch.dtype, kernels: list[int]
) -> None:
    """In float64 to 1e-9; in float32 the same rounded, from float64 of the same inputs."""
    plan = few.Plan(Forms(form, form, "kl_p_q"), "mean_of_ratios", **PLANS[name])
    tensors = given(*SIZES[size], dtype)
    found = evaluated(tensors, plan, CUDA)
    assert len(kernels) == 1
    exact = [each.double() if each.is_floating_point() else each for each in tensors]
    expected = evaluated(exact, plan, torch.device("cpu"))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        close = (1e-9, 1e-11) if one.dtype == torch.float64 else (1e-6, 1e-8)
        torch.testing.assert_close(one.double(), other, rtol=close[0], atol=close[1])


def test_two_times_the_same_are_the_same_bits() -> None:
    plan = few.Plan(Forms(direction="kl_p_q"), "mean_of_ratios", temperature=True)
    tensors = given(*SIZES["images"], torch.float32)
    pairs = zip(*(evaluated(tensors, plan, CUDA) for _ in range(2)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("place", [0, 3])
def test_what_is_not_a_number_stays_so(place: int) -> None:
    tensors = given(*SIZES["small"], torch.float32)
    tensors[place][1, 2] = torch.nan
    plan = few.Plan(Forms(direction="kl_p_q"), "mean_of_ratios")
    assert evaluated(tensors, plan, CUDA)[0].isnan()


def test_compiled_and_mapped_it_is_torchs(
    kernels: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    z, target = given(*SIZES["small"], torch.float32)[0].to(CUDA), torch.arange(7, device=CUDA) % 3
    objective = NCMI(20, [3, 2, 2]).to(CUDA)
    objective.fit("start", z, target)
    with caplog.at_level(logging.WARNING):
        expected = objective.eval()(z, target).total
        assert len(kernels) == 1
        mapped = torch.vmap(lambda each: objective(each, target).total)(torch.stack([z, z]))
        compiled = torch.compile(objective, fullgraph=True)(z, target).total
    assert len(kernels) == 1
    for found in (mapped[0], mapped[1], compiled):
        torch.testing.assert_close(found, expected)
    assert "Triton" not in caplog.text
