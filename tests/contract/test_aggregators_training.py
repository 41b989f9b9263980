"""Every registered aggregator in training: auxiliary losses, gradients, random numbers."""

import math

import pytest
import torch
from made_aggregators import (
    CASES,
    CLASSES,
    SELECTIVE,
    SIZES,
    TARGETS,
    Case,
    build,
    identifier,
    made_bags,
    total,
)

from wsi_ncmi.aggregators.interface import Aggregator, BagOutput

# A variant of the transformer, which has forty thousand: sixteen times as fast on a quarter.
QUADRATIC = {"transformer-pooling=attention-dropout=0.1"}


@pytest.fixture(params=CASES, ids=identifier)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def aggregator(case: Case) -> Aggregator:
    return build(case).train()


def trained(aggregator: Aggregator, seed: int = 0) -> BagOutput:
    """The output of a training step with the random numbers of a seed."""
    torch.manual_seed(seed)
    return aggregator(made_bags(), TARGETS)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_auxiliary_losses_are_the_declared_ones(aggregator: Aggregator, training: bool) -> None:
    """One may be of no sample where a step has none: a loop leaves it out."""
    output, declared = trained(aggregator.train(training)), aggregator.auxiliaries
    assert set(output.auxiliary) == set(declared)
    for name, (embedding, target, weight) in output.auxiliary.items():
        classes = declared[name].classes
        assert embedding.shape == (len(target), declared[name].dim)
        assert embedding.dtype == torch.float32
        assert target.dtype == torch.int64
        assert ((target >= 0) & (target < classes)).all()
        assert math.isfinite(weight)
        assert weight >= 0
        assert not declared[name].scores or declared[name].dim == classes
        assert torch.isfinite(embedding).all()
    assert not aggregator(made_bags()).auxiliary  # without targets there are none


def test_class_blocks_divide_the_embedding(aggregator: Aggregator) -> None:
    if aggregator.class_blocks:
        assert aggregator.embedding_dim % CLASSES == 0


def test_gradients_reach_every_parameter_and_instance(case: Case) -> None:
    """In float64, where a gradient that is zero in truth is below 1e-12 in its rounding.

    Summed over steps: a step may leave out instances, and pieces of the network, by chance.
    """
    aggregator = build(case).double().train()
    bags = made_bags(dtype=torch.float64)
    bags.features.requires_grad_()
    inputs = {**dict(aggregator.named_parameters()), "features": bags.features}
    reached = {name: torch.zeros_like(value) for name, value in inputs.items()}
    for seed in range(5):
        torch.manual_seed(seed)
        loss = total(aggregator, aggregator(bags, TARGETS))
        found = torch.autograd.grad(loss, list(inputs.values()), materialize_grads=True)
        for name, gradient in zip(inputs, found, strict=True):
            assert torch.isfinite(gradient).all(), name
            reached[name] += gradient.abs()
    instances = reached.pop("features").sum(1) > 1e-12
    assert [name for name, gradient in reached.items() if gradient.max() < 1e-12] == []
    assert all(bag.any() for bag in bags.split(instances))
    assert instances.all() or identifier(case) in SELECTIVE


def test_every_instance_counts_in_evaluation(case: Case) -> None:
    aggregator, bags = build(case).double(), made_bags(dtype=torch.float64)
    bags.features.requires_grad_()
    total(aggregator, aggregator(bags)).backward()
    reached = bags.features.grad.abs().sum(1) > 1e-12
    assert all(bag.any() for bag in bags.split(reached))
    assert reached.all() == (identifier(case) not in SELECTIVE)


def test_a_seed_decides_all_random_numbers(aggregator: Aggregator) -> None:
    first, again, other = trained(aggregator), trained(aggregator), trained(aggregator, 1)
    assert torch.equal(first.embedding, again.embedding)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    aggregator(made_bags(), TARGETS)
    draws = not torch.equal(torch.get_rng_state(), before)
    differs = not torch.equal(total(aggregator, first), total(aggregator, other))
    assert draws == differs


def check_large_bag(case: Case, most: int, training: bool) -> None:
    """A batch with a bag of `most` instances is finite, in every weight and every gradient."""
    aggregator = build(case, narrow=True).train(training)
    bags = made_bags((1, most, 2))
    with torch.set_grad_enabled(training):
        output = aggregator(bags, torch.tensor([0, 1, 2]))
    sums = torch.stack([weights.double().sum(0) for weights in bags.split(output.attention)])
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-4)
    assert torch.isfinite(output.embedding).all()
    if training:
        loss = total(aggregator, output)
        assert torch.isfinite(loss)
        parameters = list(aggregator.parameters())
        if parameters:
            loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in parameters if p.grad is not None)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_bags_of_one_two_and_forty_thousand_instances(case: Case, training: bool) -> None:
    check_large_bag(case, 10_000 if identifier(case) in QUADRATIC else 40_000, training)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_forty_thousand_instances_with_a_quadratic_variant(case: Case, training: bool) -> None:
    if identifier(case) not in QUADRATIC:
        pytest.skip("it has forty thousand in the quick test")
    check_large_bag(case, 40_000, training)


@pytest.mark.parametrize("size", [1, 2])
def test_small_bags_alone(case: Case, size: int) -> None:
    aggregator = build(case).train()
    output = aggregator(made_bags((size,)), torch.tensor([1]))
    assert torch.isfinite(total(aggregator, output))


def test_losses_of_a_step_under_autocast_are_float32(aggregator: Aggregator) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output = trained(aggregator)
    assert output.embedding.dtype == torch.float32
    assert all(loss.embedding.dtype == torch.float32 for loss in output.auxiliary.values())
    assert output.penalty is None or output.penalty.dtype == torch.float32
    assert output.penalty is None or output.penalty.shape == ()
    assert len(output.attention) == sum(SIZES)
