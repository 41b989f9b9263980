"""Many models in one pass: each becomes what it becomes alone."""

import copy

import pytest
import torch
from made_aggregators import CASES, TARGETS, Case, build, identifier, made_bags, total
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from wsi_ncmi.aggregators.interface import Aggregator, BagOutput

MODELS = 3
State = dict[str, Tensor]


def has_parameters(case: Case) -> bool:
    return bool(list(build(case).parameters()))


@pytest.fixture(params=[case for case in CASES if has_parameters(case)], ids=identifier)
def models(request: pytest.FixtureRequest) -> list[Aggregator]:
    """Three starts of one aggregator, in float64: what differs then is no rounding."""
    return [build(request.param, seed).double() for seed in range(MODELS)]


def tensors(aggregator: Aggregator, output: BagOutput) -> State:
    """All that a step gives, by name; a map returns nothing else."""
    found = {"embedding": output.embedding, "attention": output.attention}
    found["total"] = total(aggregator, output)
    if output.instance_embedding is not None:
        found["instance_embedding"] = output.instance_embedding
    for name, loss in output.auxiliary.items():
        found[f"{name} embedding"], found[f"{name} target"] = loss.embedding, loss.target
        found[f"{name} weight"] = torch.as_tensor(loss.weight)
    return found if output.penalty is None else {**found, "penalty": output.penalty}


def step_alone(model: Aggregator) -> tuple[State, State]:
    """What a model gives, and its gradients, with random numbers of seed 7."""
    torch.manual_seed(7)
    found = tensors(model, model(made_bags(dtype=torch.float64), TARGETS))
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        found["total"], list(parameters.values()), materialize_grads=True
    )
    return found, dict(zip(parameters, gradients, strict=True))


def step_stacked(models: list[Aggregator]) -> tuple[State, State]:
    base, bags = models[0], made_bags(dtype=torch.float64)
    parameters, buffers = stack_module_state(models)

    def one(parameters: State, buffers: State) -> State:
        output = functional_call(base, (parameters, buffers), (bags, TARGETS))
        return tensors(base, output)

    torch.manual_seed(7)
    found = vmap(one, randomness="same")(parameters, buffers)
    gradients = torch.autograd.grad(
        found["total"].sum(), list(parameters.values()), materialize_grads=True
    )
    return found, dict(zip(parameters, gradients, strict=True))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_step_stacked_is_a_step_alone(models: list[Aggregator], training: bool) -> None:
    for model in models:
        model.train(training)
    outputs, gradients = step_stacked(models)
    for number, model in enumerate(models):
        expected, expected_gradients = step_alone(model)
        assert set(outputs) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(outputs[name][number], value, rtol=1e-9, atol=1e-10)
        for name, value in expected_gradients.items():
            torch.testing.assert_close(gradients[name][number], value, rtol=1e-8, atol=1e-10)


def test_random_numbers_that_follow_are_the_same(models: list[Aggregator]) -> None:
    """Stacking draws as many random numbers as one model alone."""
    for model in models:
        model.train()
    step_alone(models[0])
    after = torch.get_rng_state()
    step_stacked(models)
    assert torch.equal(torch.get_rng_state(), after)


class EndStep(nn.Module):
    """`end_step` as a forward, for `functional_call`."""

    def __init__(self, inner: Aggregator) -> None:
        super().__init__()
        self.inner = inner

    def forward(self) -> Tensor:
        self.inner.end_step()
        return torch.zeros(())


def test_the_end_of_a_step_stacked_is_that_of_a_step_alone(models: list[Aggregator]) -> None:
    moved = [EndStep(copy.deepcopy(model).train()) for model in models]
    for model in moved:
        with torch.no_grad():  # as an optimiser's step would
            for parameter in model.parameters():
                parameter.add_(0.5)
    parameters, buffers = stack_module_state(moved)

    def one(parameters: State, buffers: State) -> Tensor:
        return functional_call(moved[0], (parameters, buffers), ())

    with torch.no_grad():
        vmap(one, randomness="same")(parameters, buffers)
    for number, model in enumerate(moved):
        with torch.no_grad():
            model()
        for name, value in model.named_buffers():
            torch.testing.assert_close(buffers[name][number], value, rtol=1e-12, atol=1e-12)
