"""Objectives in a training: mixed precision, saving in the middle, accumulation, devices."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsi_ncmi.losses.objective import Objective

Make = Callable[..., Objective]
Batch = Callable[..., tuple[Tensor, Tensor]]
Case = tuple[str, Mapping[str, Any]]

# What compares the samples of a step; every other objective is a mean over samples.
COMPARES_SAMPLES = {
    "cmic_dl",  # Γ is a mean over pairs
    "mutual_information",  # I_α is of Gram matrices
    "mr2",  # distances of pairs
    "opl",  # cosines of pairs
    "supcon",  # a sample is contrasted with the others
}
BATCH_REDUCTIONS = {"ratio_of_means", "ema_ratio"}  # of NCMI: quotients of the batch's means
# What counts batches and not samples: two halves leave other values than the whole.
COUNTS_BATCHES = frozenset({"alignment_sums", "steps", "ratio.state"})


def is_mean_over_samples(case: Case) -> bool:
    name, options = case
    return name not in COMPARES_SAMPLES and options.get("reduction") not in BATCH_REDUCTIONS


def losses(objective: Objective, z: Tensor, target: Tensor) -> Tensor:
    """The step's loss and that of the objective's own state: one backward pass does for both."""
    own = objective.state_loss(z.detach(), target)
    total = objective(z, target).total
    return total if own is None else total + own


def step(objective: Objective, z: Tensor, target: Tensor, parts: int = 1) -> Tensor:
    """The embedding's gradient of a step in equal parts, whose losses are divided by `parts`."""
    z = z.clone().requires_grad_()
    for part, own in zip(z.chunk(parts), target.chunk(parts), strict=True):
        (losses(objective, part, own) / parts).backward()
    objective.end_step()
    assert z.grad is not None
    return z.grad


# Mixed precision


def test_scaled_half_precision_gradients_are_those_of_float32(started: Make, batch: Batch) -> None:
    torch.manual_seed(1)
    network, objective = nn.Linear(12, 12), started()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    parameters = [*network.parameters(), *objective.parameters()]
    optimiser = torch.optim.SGD(parameters, 0.05)
    for number in range(3):
        inputs, target = batch(8, number)
        expected = _gradients(copy.deepcopy(network), copy.deepcopy(objective), inputs, target)
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            embedding = network(inputs)
            assert embedding.dtype == torch.float16
            total = losses(objective, embedding, target)
        assert total.dtype == torch.float32
        scaler.scale(total).backward()
        scaler.unscale_(optimiser)
        for parameter, gradient in zip(parameters, expected, strict=True):
            _assert_close_relative_to_the_largest(parameter.grad, gradient)
        scaler.step(optimiser)
        scaler.update()
        objective.end_step()
    assert scaler.get_scale() == 2.0**10  # no step was left out


def _gradients(
    network: nn.Module, objective: Objective, inputs: Tensor, target: Tensor
) -> list[Tensor | None]:
    network.zero_grad()
    objective.zero_grad()
    losses(objective, network(inputs), target).backward()
    return [p.grad for p in [*network.parameters(), *objective.parameters()]]


def _assert_close_relative_to_the_largest(found: Tensor | None, expected: Tensor | None) -> None:
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert found.dtype == torch.float32
    # fp16 has 11 bits, and a component may be a difference of larger ones.
    largest = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * largest)


# State


def test_all_tensors_are_parameters_or_saved_buffers(started: Make, batch: Batch) -> None:
    objective = started()
    step(objective, *batch(8))
    for name, module in objective.named_modules():
        registered = {"_parameters", "_buffers", "_modules"}
        plain = {key: value for key, value in vars(module).items() if key not in registered}
        assert not list(_tensors(plain)), f"{name or 'the objective'} holds a plain tensor"
    named = dict(objective.named_parameters()) | dict(objective.named_buffers())
    saved = set(objective.state_dict())
    assert saved <= set(named)
    # The others are what a phase collects between its batches, and empty between phases.
    assert not any(value.any() for name, value in named.items() if name not in saved)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        yield from _tensors(vars(value))
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple | set):
        for each in value:
            yield from _tensors(each)


def saved_and_loaded(objective: Objective, fresh: Objective) -> Objective:
    fresh.load_state_dict(objective.state_dict())
    return fresh.train()


def copied(objective: Objective, fresh: Objective) -> Objective:
    return copy.deepcopy(objective)


def to_double_and_back(objective: Objective, fresh: Objective) -> Objective:
    return copy.deepcopy(objective).to(torch.float64).to(torch.float32)


@pytest.mark.parametrize("carry", [saved_and_loaded, copied, to_double_and_back])
def test_training_continues_identically_from_within_a_step(
    build: Make, started: Make, batch: Batch, carry: Callable[..., Objective]
) -> None:
    original = started()
    original(*batch(8, 1))
    twin = carry(original, build(seed=5))
    outcomes = [_continued(objective, batch) for objective in (original, twin)]
    assert torch.equal(outcomes[0], outcomes[1])
    states = original.state_dict(), twin.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def _continued(objective: Objective, batch: Batch) -> Tensor:
    """The rest of a step, another one and the end of the epoch; the loss thereafter."""
    objective.end_step()
    step(objective, *batch(8, 2))
    for parameter in objective.parameters():
        if parameter.grad is not None:
            parameter.data.sub_(0.1 * parameter.grad)
    objective.end_epoch(1)
    return objective(*batch(8, 3)).total.detach()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_trains_as_the_cpu(started: Make, batch: Batch) -> None:
    on_cpu = started()
    on_cuda = copy.deepcopy(on_cpu).to("cuda")
    for number in range(2):
        z, target = batch(8, number)
        outcomes = [
            step(objective, z.to(device), target.to(device)).cpu()
            for objective, device in ((on_cpu, "cpu"), (on_cuda, "cuda"))
        ]
        torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-3, atol=1e-4)
    for objective in (on_cpu, on_cuda):
        objective.end_epoch(1)
    expected = on_cpu.state_dict()
    for name, value in on_cuda.state_dict().items():
        assert value.device.type == "cuda", name
        torch.testing.assert_close(value.cpu(), expected[name], rtol=1e-3, atol=1e-4)


# Accumulation of gradients


def test_half_batches_add_up_to_the_batch_where_the_loss_is_a_mean_over_samples(
    case: Case, started: Make, batch: Batch, assert_same_state: Callable[..., None]
) -> None:
    whole, halves = started(), started()
    z, target = batch(16)
    expected, found = step(whole, z, target), step(halves, z, target, parts=2)
    if is_mean_over_samples(case):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert_same_state(halves, whole)
    else:
        assert (found - expected).norm() > 1e-3 * expected.norm()


def test_half_batches_leave_the_running_state_of_the_batch(
    started: Make, batch: Batch, assert_same_state: Callable[..., None]
) -> None:
    whole, halves = started(), started()
    z, target = batch(16)
    with torch.no_grad():
        whole(z, target)
        halves(z[:8], target[:8])
        halves(z[8:], target[8:])
    for objective in (whole, halves):
        objective.end_step()
    assert_same_state(halves, whole, ignored=COUNTS_BATCHES)
    for objective in (whole, halves):
        objective.end_epoch(1)
    assert_same_state(halves, whole, ignored=COUNTS_BATCHES | {"width"})
