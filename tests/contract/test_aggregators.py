"""What every registered aggregator gives for packed bags, in eval mode."""

import dataclasses

import pytest
import torch
from made_aggregators import CASES, DIM, SIZES, TARGETS, Case, build, identifier, made_bags
from pydantic import TypeAdapter
from torch import Tensor

from wsi_ncmi import registry
from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.interface import Aggregator


@pytest.fixture(params=CASES, ids=identifier)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def aggregator(case: Case) -> Aggregator:
    return build(case)


def shuffled_rows() -> Tensor:
    """An order that shuffles each bag's instances."""
    rng, starts = torch.Generator().manual_seed(2), made_bags().offsets.tolist()
    pairs = zip(SIZES, starts, strict=False)
    return torch.cat([torch.randperm(n, generator=rng) + at for n, at in pairs])


@pytest.mark.parametrize("name", registry.names("aggregator"))
def test_options_are_a_frozen_dataclass_with_a_schema(name: str) -> None:
    options = registry.load("aggregator", name).Options
    assert dataclasses.is_dataclass(options)
    assert options.__dataclass_params__.frozen
    schema = TypeAdapter(options).json_schema()
    assert set(schema.get("properties", {})) == {f.name for f in dataclasses.fields(options)}


def test_shapes(aggregator: Aggregator) -> None:
    output = aggregator(made_bags())
    assert output.embedding.shape == (len(SIZES), aggregator.embedding_dim)
    assert output.attention.ndim == 2
    assert len(output.attention) == sum(SIZES)
    assert torch.isfinite(output.embedding).all()
    if output.instance_embedding is not None:
        assert output.instance_embedding.ndim == 2
        assert len(output.instance_embedding) == sum(SIZES)
    # Four different bags have four different embeddings.
    distances = torch.cdist(output.embedding, output.embedding) + torch.eye(len(SIZES))
    assert distances.min() > 1e-3


def test_attention_is_a_distribution_over_each_bags_instances(aggregator: Aggregator) -> None:
    bags = made_bags()
    attention = aggregator(bags).attention
    assert (attention >= 0).all()
    for weights in bags.split(attention):
        torch.testing.assert_close(
            weights.sum(0), torch.ones(attention.shape[1]), rtol=0, atol=1e-5
        )
    learnt = (attention[: SIZES[0]] - 1 / SIZES[0]).abs().max() > 1e-6
    assert bool(learnt) == aggregator.has_attention


def test_the_order_of_instances(aggregator: Aggregator) -> None:
    bags, order = made_bags(), shuffled_rows()
    before, after = aggregator(bags), aggregator(bags.replace(bags.features[order]))
    if aggregator.permutation_invariant:
        torch.testing.assert_close(after.embedding, before.embedding, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(after.attention, before.attention[order], rtol=1e-4, atol=1e-6)
    else:
        assert (after.embedding - before.embedding).abs().max() > 1e-4


def test_packed_is_one_bag_at_a_time(aggregator: Aggregator) -> None:
    """In float64: in float32 a deep aggregator's sums differ by more on some processors."""
    bags = made_bags()
    bags, aggregator = bags.replace(bags.features.double()), aggregator.double()
    together = aggregator(bags)
    pieces = [aggregator(BagBatch.of([bag])) for bag in bags.split(bags.features)]
    close = {"rtol": 1e-9, "atol": 1e-10}
    alone = torch.cat([piece.embedding for piece in pieces])
    torch.testing.assert_close(together.embedding, alone, **close)
    alone = torch.cat([piece.attention for piece in pieces])
    torch.testing.assert_close(together.attention, alone, **close)
    if together.instance_embedding is not None:
        alone = torch.cat([piece.instance_embedding for piece in pieces])
        torch.testing.assert_close(together.instance_embedding, alone, **close)


def test_targets_are_for_auxiliary_losses_alone(aggregator: Aggregator) -> None:
    """In eval mode too, where objectives look at them before the first step."""
    without, given = aggregator(made_bags()), aggregator(made_bags(), TARGETS)
    assert torch.equal(without.embedding, given.embedding)
    assert torch.equal(without.attention, given.attention)
    assert not without.auxiliary
    assert set(given.auxiliary) == set(aggregator.auxiliaries)


def test_evaluation_draws_no_random_number(aggregator: Aggregator) -> None:
    """Dropout, masks and samples of instances are for training."""
    state = torch.get_rng_state()
    first, second = aggregator(made_bags()), aggregator(made_bags())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.embedding, second.embedding)
    assert torch.equal(first.attention, second.attention)


def test_one_instance_has_all_the_attention(aggregator: Aggregator) -> None:
    attention = aggregator(BagBatch.of([torch.ones(1, DIM)])).attention
    torch.testing.assert_close(attention, torch.ones_like(attention))


def test_state_survives_save_and_load(case: Case, aggregator: Aggregator) -> None:
    other = build(case, seed=9)
    same = torch.equal(other(made_bags()).embedding, aggregator(made_bags()).embedding)
    assert same == (not list(aggregator.parameters()))
    other.load_state_dict(aggregator.state_dict())
    assert torch.equal(other(made_bags()).embedding, aggregator(made_bags()).embedding)


def test_the_embedding_is_pooled_in_float32_under_autocast(aggregator: Aggregator) -> None:
    """Layers on instances may run in bf16; their pooling, and all after it, may not.

    An objective takes a centre off the embedding: a rounding to bf16 is large in what remains.
    """
    bags = made_bags()
    with torch.autocast("cpu", torch.bfloat16):
        found = aggregator(bags)
    assert found.embedding.dtype == found.attention.dtype == torch.float32
    mixed = found.embedding[torch.tensor(SIZES) > 1]
    mixed = mixed[mixed != 0]
    assert (mixed != mixed.bfloat16().float()).float().mean() > 0.9


def test_low_precision_is_for_instances(aggregator: Aggregator) -> None:
    """What autocast changes of an embedding is what bf16 changes of its instances' embeddings."""
    exact = aggregator(made_bags()).embedding
    with torch.autocast("cpu", torch.bfloat16):
        rounded = aggregator(made_bags()).embedding
    assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_float64_stays(aggregator: Aggregator) -> None:
    assert aggregator.double()(made_bags(dtype=torch.float64)).embedding.dtype == torch.float64
