"""ILRA-MIL against its equations, with every projection and matrix written out."""

import math
from collections.abc import Mapping

import pytest
import torch
from made_published import TARGETS, Model, assert_step, count, cross_entropy, made_bags, made_model
from torch import Tensor, nn

from wsi_ncmi.aggregators import ilra
from wsi_ncmi.aggregators.bags import BagBatch

State = Mapping[str, Tensor]
HEADS = 2


def made(**options: int) -> Model:
    """With biases that are not zero and an attention far from uniform."""
    model = made_model(ilra, heads=HEADS, **options)
    with torch.no_grad():
        for name, parameter in model.aggregator.named_parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
            if name.endswith("query.weight"):
                parameter.mul_(2)
    return model


def linear(state: State, name: str, rows: Tensor) -> Tensor:
    found = rows @ state[f"{name}.weight"].T
    return found + state[f"{name}.bias"] if f"{name}.bias" in state else found


def layer_norm(state: State, name: str, rows: Tensor) -> Tensor:
    normed = []
    for row in rows:
        centred = row - row.mean()
        scaled = centred / (centred.square().mean() + 1e-5).sqrt()
        normed.append(scaled * state[f"{name}.weight"] + state[f"{name}.bias"])
    return torch.stack(normed)


def attention_block(
    state: State, names: tuple[str, str], query: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """F, or G where it has a gate, of one bag: [n, m], and weights [H, n, rows].

    `names` are of its projections and of those of its scores.
    """
    name, scores = names
    projected = linear(state, f"{name}.project_query", query)
    values = linear(state, f"{name}.value", linear(state, f"{name}.project_value", rows))
    width = values.shape[1] // HEADS
    if f"{scores}.query.weight" in state:
        queries = linear(state, f"{scores}.query", projected)
        keys = linear(state, f"{scores}.key", linear(state, f"{scores}.project_key", rows))
    else:  # of one row, softmax is 1 whatever the scores
        assert len(rows) == 1
        queries, keys = projected, values
    joined, weights = [], []
    for head in range(HEADS):
        own = slice(head * width, (head + 1) * width)
        weights.append((queries[:, own] @ keys[:, own].T / math.sqrt(width)).softmax(1))
        joined.append(weights[-1] @ values[:, own])
    found = projected + linear(state, f"{name}.out", torch.cat(joined, 1))
    found = layer_norm(state, f"{name}.finish.norm_attended", found)
    found = found + linear(state, f"{name}.finish.linear", found).clamp(min=0)
    found = layer_norm(state, f"{name}.finish.norm", found)
    if f"{name}.finish.gate.weight" in state:
        gate = linear(state, f"{name}.finish.gate", query)
        found = found * gate / (1 + torch.exp(-gate))
    return found, torch.stack(weights)


def learnt(state: State, name: str, hidden: Tensor) -> tuple[Tensor, Tensor]:
    return attention_block(state, (name, name), state[f"{name}.rows"], hidden)


def embed(model: Model, bag: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding [m] and S's weights [H, k, N] of one bag."""
    state, hidden = dict(model.aggregator.named_parameters()), bag
    for number in range(len(model.aggregator.blocks)):
        rows, _ = learnt(state, f"blocks.{number}.forwards", hidden)
        back = f"blocks.{number}.backwards"
        hidden, _ = attention_block(state, (back, f"{back}.scores"), hidden, rows)
    pooled, weights = learnt(state, "pooling", hidden)
    return pooled.mean(0), weights


@pytest.mark.parametrize("options", [{}, {"rank": 3}, {"layers": 1}, {"layers": 3, "rank": 2}])
def test_loss_and_gradients(options: dict[str, int]) -> None:
    model = made(**options)

    def naive() -> Tensor:
        bags = made_bags()
        embedded = [embed(model, bag)[0] for bag in bags.split(bags.features)]
        return cross_entropy(model.logits("", torch.stack(embedded)), TARGETS)

    assert_step(model, naive)


@pytest.mark.parametrize("rank", [1, 3])
def test_attention_is_that_of_the_pooling(rank: int) -> None:
    model, bags = made(rank=rank), made_bags()
    found = bags.split(model.aggregator(bags).attention)
    for bag, weights in zip(bags.split(bags.features), found, strict=True):
        expected = embed(model, bag)[1].mean(1).T
        torch.testing.assert_close(weights, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_a_bag_has_one_embedding(rank: int) -> None:
    """The released classifier takes k rows for k bags, and so k > 1 cannot be trained there."""
    output = made(rank=rank).aggregator(made_bags())
    assert output.embedding.shape == (4, 8)


@pytest.mark.parametrize("rank", [1, 3])
def test_what_instances_get_back_has_a_low_rank(rank: int) -> None:
    """G′ gives each instance a mean of k rows of each head: [N, m] of rank 1 + H (k − 1)."""
    block = made(rank=rank).aggregator.blocks[0]
    bags = made_bags((20,))
    rows, _ = block.forwards(bags.features, bags)
    seen = []
    block.backwards.finish.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    block.backwards(bags.features, rows, bags)
    update = seen[0] - block.backwards.out.bias
    assert torch.linalg.matrix_rank(update) == 1 + HEADS * (rank - 1)


def test_an_instance_sees_its_own_bag_alone() -> None:
    """`nn.MultiheadAttention` takes [N, B, m]: untransposed, instances of different bags attend."""
    aggregator = made(rank=2).aggregator
    first, second = made_bags((5,)).features, made_bags((9,)).features
    before = aggregator(BagBatch.of([first, second])).instance_embedding
    after = aggregator(BagBatch.of([first, second + 1])).instance_embedding
    torch.testing.assert_close(before[:5], after[:5], rtol=1e-12, atol=1e-12)
    assert (before[5:] - after[5:]).abs().max() > 1e-3


def released(query: int, rows: int, dim: int, gated: bool) -> list[nn.Module]:
    """The layers of its `MultiHeadAttention`, with layer norm."""
    layers = [nn.MultiheadAttention(dim, 8), nn.Linear(query, dim), nn.Linear(dim, dim)]
    layers += [nn.Linear(rows, dim), nn.Linear(rows, dim), nn.LayerNorm(dim), nn.LayerNorm(dim)]
    return [*layers, nn.Linear(query, dim)] if gated else layers


def test_size_of_the_released_model() -> None:
    """Its layers without what does nothing: biases of keys, and scores over the one row of G′."""
    feature_dim, dim = 1024, 256
    layers, unused = [], 2 * dim  # of the pooling
    for width in (feature_dim, dim):
        layers += released(dim, width, dim, gated=True) + released(width, dim, dim, gated=True)
        unused += 2 * dim + 2 * (dim * dim + dim) + dim * dim + dim
    layers += released(dim, dim, dim, gated=False)
    total = 3 * dim + sum(p.numel() for layer in layers for p in layer.parameters())
    assert count(ilra.build(feature_dim, 2, ilra.Options())) == total - unused


def test_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="hidden_dim must be a multiple of heads, found 250 and 8"):
        ilra.Options(hidden_dim=250)
