"""What every registered aggregator keeps to."""

import dataclasses
from types import ModuleType

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from wsi_ncmi import registry
from wsi_ncmi.aggregators.interface import Aggregator

DIM = 16
SIZES = (7, 1, 12, 3)


@pytest.fixture(params=registry.names("aggregator"))
def module(request: pytest.FixtureRequest) -> ModuleType:
    return registry.load("aggregator", request.param)


@pytest.fixture
def aggregator(module: ModuleType) -> Aggregator:
    torch.manual_seed(0)
    return module.build(DIM, module.Options()).eval()


def bags(padding: int = 0, fill: float = 0.0) -> tuple[Tensor, Tensor]:
    """Four bags of several sizes, [4, 12 + padding, 16], and their mask."""
    rng = torch.Generator().manual_seed(1)
    longest = max(SIZES) + padding
    features = torch.full((len(SIZES), longest, DIM), fill)
    mask = torch.zeros(len(SIZES), longest, dtype=torch.bool)
    for i, size in enumerate(SIZES):
        features[i, :size] = torch.randn(size, DIM, generator=rng)
        mask[i, :size] = True
    return features, mask


def test_options_are_a_frozen_dataclass_with_a_schema(module: ModuleType) -> None:
    assert dataclasses.is_dataclass(module.Options)
    assert module.Options.__dataclass_params__.frozen
    schema = TypeAdapter(module.Options).json_schema()
    assert set(schema["properties"]) == {f.name for f in dataclasses.fields(module.Options)}


def test_output(aggregator: Aggregator) -> None:
    features, mask = bags()
    output = aggregator(features, mask)
    assert output.embedding.shape == (len(SIZES), aggregator.embedding_dim)
    assert output.attention.shape[:2] == mask.shape
    assert torch.isfinite(output.embedding).all()
    if output.instance_embedding is not None:
        assert output.instance_embedding.shape[:2] == mask.shape
    if output.auxiliary is not None:
        assert output.auxiliary.shape == ()
    # Four different bags have four different embeddings.
    distances = torch.cdist(output.embedding, output.embedding) + torch.eye(len(SIZES))
    assert distances.min() > 1e-3


def test_attention_is_a_distribution_over_instances(aggregator: Aggregator) -> None:
    features, mask = bags(padding=4)
    attention = aggregator(features, mask).attention
    assert (attention >= 0).all()
    assert torch.count_nonzero(attention[~mask]) == 0
    total = attention.sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)
    learnt = (attention[0, : SIZES[0]] - 1 / SIZES[0]).abs().max() > 1e-6
    assert bool(learnt) == aggregator.has_attention


def test_permuting_instances(aggregator: Aggregator) -> None:
    features, mask = bags()
    before = aggregator(features, mask)
    order = torch.stack(
        [torch.cat([torch.arange(s).flip(0), torch.arange(s, max(SIZES))]) for s in SIZES]
    )
    rows = torch.arange(len(SIZES))[:, None]
    after = aggregator(features[rows, order], mask)
    torch.testing.assert_close(after.embedding, before.embedding, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.attention, before.attention[rows, order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fill", [0.0, 1e6, float("nan"), float("inf")])
def test_padding_changes_nothing(aggregator: Aggregator, fill: float) -> None:
    before = aggregator(*bags())
    features, mask = bags(padding=9, fill=fill)
    features.requires_grad_()
    after = aggregator(features, mask)
    longest = max(SIZES)
    torch.testing.assert_close(after.embedding, before.embedding, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after.attention[:, :longest], before.attention, rtol=1e-5, atol=1e-7)
    aggregator.zero_grad()
    after.embedding.square().sum().backward()
    gradients = [p.grad for p in aggregator.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)
    assert torch.count_nonzero(features.grad[~mask]) == 0


def test_a_bag_does_not_depend_on_its_neighbours(aggregator: Aggregator) -> None:
    features, mask = bags()
    together = aggregator(features, mask).embedding
    for i, size in enumerate(SIZES):
        alone = aggregator(features[i : i + 1, :size], mask[i : i + 1, :size]).embedding
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-6)


def test_one_instance(aggregator: Aggregator) -> None:
    features = torch.randn(1, 1, DIM, generator=torch.Generator().manual_seed(3))
    for mode in (True, False):
        output = aggregator.train(mode)(features, torch.ones(1, 1, dtype=torch.bool))
        assert torch.isfinite(output.embedding).all()
        torch.testing.assert_close(output.attention, torch.ones_like(output.attention))


def test_gradients_reach_all_parameters(module: ModuleType) -> None:
    """In float64, where a gradient that is zero in truth is below 1e-12 in its rounding."""
    torch.manual_seed(0)
    aggregator = module.build(DIM, module.Options()).double().train()
    features, mask = bags()
    output = aggregator(features.double(), mask)
    weight = torch.linspace(-1, 1, output.embedding.numel(), dtype=torch.float64)
    total = (output.embedding.reshape(-1) * weight).sum()
    (total if output.auxiliary is None else total + output.auxiliary).backward()
    dead = [
        name
        for name, parameter in aggregator.named_parameters()
        if parameter.grad is None or parameter.grad.abs().max() < 1e-12
    ]
    assert dead == []


def test_every_instance_counts(aggregator: Aggregator) -> None:
    features, mask = bags()
    features.requires_grad_()
    aggregator(features, mask).embedding.square().sum().backward()
    assert (features.grad.abs().sum(2)[mask] > 0).all()


def test_state_survives_save_and_load(module: ModuleType, aggregator: Aggregator) -> None:
    torch.manual_seed(9)
    other = module.build(DIM, module.Options()).eval()
    assert not torch.equal(other(*bags()).embedding, aggregator(*bags()).embedding)
    other.load_state_dict(aggregator.state_dict())
    assert torch.equal(other(*bags()).embedding, aggregator(*bags()).embedding)


def test_the_embedding_is_pooled_in_float32_under_autocast(aggregator: Aggregator) -> None:
    """Layers on instances may run in bf16; their mean, and all after it, may not.

    An objective takes a centre off the embedding: a rounding to bf16 is large in what remains.
    """
    features, mask = bags(padding=2)
    with torch.autocast("cpu", torch.bfloat16):
        found = aggregator(features, mask)
    assert found.embedding.dtype == torch.float32
    if found.instance_embedding is None:  # the features are pooled, which no one has rounded
        expected = aggregator(features, mask).embedding
    elif aggregator.has_attention:
        weights = found.attention.double().mean(2)
        expected = torch.einsum("bn,bnm->bm", weights, found.instance_embedding.double())
    else:
        return  # neither says what the embedding is of its instances
    torch.testing.assert_close(found.embedding, expected.float(), rtol=1e-6, atol=1e-7)


def test_low_precision_is_for_instances(aggregator: Aggregator) -> None:
    """What autocast changes of an embedding is what bf16 changes of its instances' embeddings."""
    features, mask = bags()
    exact = aggregator(features, mask).embedding
    with torch.autocast("cpu", torch.bfloat16):
        rounded = aggregator(features, mask).embedding
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.02)


def test_float64_stays(aggregator: Aggregator) -> None:
    features, mask = bags()
    assert aggregator.double()(features.double(), mask).embedding.dtype == torch.float64
