"""AEM against its equations, computed by loops over instances."""

import math

import pytest
import torch
from made_published import (
    SIZES,
    TARGETS,
    Model,
    assert_step,
    count,
    cross_entropy,
    gated_scores,
    made_bags,
    made_model,
    softmax,
    weighted,
)
from torch import Tensor

from wsi_ncmi.aggregators import aem


def naive(model: Model, weight: float) -> Tensor:
    state = dict(model.aggregator.named_parameters())
    bags = made_bags()
    logits, negative_entropies = [], []
    for bag in bags.split(bags.features):
        hidden = [torch.relu(state["instance.0.weight"] @ x) for x in bag]
        attention = softmax(gated_scores(state, "attention", hidden))
        logits.append(model.logits("", weighted(attention, hidden)))
        negative_entropies.append(sum(a * a.log() for a in attention).squeeze())
    penalty = weight * sum(negative_entropies) / len(bags)
    return cross_entropy(torch.stack(logits), TARGETS) + penalty


@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_loss_and_gradients(weight: float) -> None:
    model = made_model(aem, entropy_weight=weight)
    assert_step(model, lambda: naive(model, weight))


def test_the_weight_falls_along_a_cosine() -> None:
    """λ/2 (1 + cos(π t / T)) in step t, and 0 after step T."""
    model = made_model(aem, entropy_weight=0.2, annealing_steps=4)
    for step in range(6):
        weight = 0.1 * (1 + math.cos(math.pi * min(step, 4) / 4))
        assert_step(model, lambda weight=weight: naive(model, weight))
        model.aggregator.end_step()
    constant = made_model(aem, entropy_weight=0.2)
    constant.aggregator.end_step()
    assert_step(constant, lambda: naive(constant, 0.2))


def test_annealing_goes_on_from_a_checkpoint() -> None:
    first, second = (made_model(aem, annealing_steps=4).aggregator for _ in range(2))
    first.end_step()
    second.load_state_dict(first.state_dict())
    assert second(made_bags()).penalty == first(made_bags()).penalty


def test_the_entropy_of_a_uniform_attention_is_ln_n() -> None:
    """It is not divided by ln N, and is averaged over bags."""
    model = made_model(aem, entropy_weight=0.5)
    with torch.no_grad():
        model.aggregator.get_parameter("attention.score.weight").zero_()
    expected = -0.5 * sum(math.log(size) for size in SIZES) / len(SIZES)
    assert model.aggregator(made_bags()).penalty.item() == pytest.approx(expected, rel=1e-12)


def test_going_down_the_penalty_spreads_attention() -> None:
    model = made_model(aem)
    weight = model.aggregator.get_parameter("attention.score.weight")
    with torch.no_grad():
        weight *= 10
    largest = []
    for _ in range(20):
        output = model.aggregator(made_bags())
        largest.append(output.attention[: SIZES[0]].max().item())
        (gradient,) = torch.autograd.grad(output.penalty, weight)
        with torch.no_grad():
            weight -= 10 * gradient
    assert largest == sorted(largest, reverse=True)
    assert largest[-1] < 0.8 * largest[0]


def test_attention_that_is_zero_in_its_rounding() -> None:
    """0 · ln 0 would be NaN, and so would be its gradient."""
    aggregator = made_model(aem).aggregator.float()
    with torch.no_grad():
        aggregator.get_parameter("attention.score.weight").mul_(1e5)
    bags = made_bags()
    output = aggregator(bags.replace(bags.features.float()))
    assert (output.attention == 0).any()
    output.penalty.backward()
    assert torch.isfinite(output.penalty)
    gradients = [p.grad for p in aggregator.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_evaluation_has_no_penalty() -> None:
    assert made_model(aem).aggregator.eval()(made_bags()).penalty is None


def test_parameters_are_those_of_gated_abmil() -> None:
    """ "Requires no additional modules": D·m, and attention of 128 with biases but the last."""
    built = aem.build(512, 4, aem.Options())
    assert count(built) == 512 * 256 + 2 * (256 * 128 + 128) + 128
