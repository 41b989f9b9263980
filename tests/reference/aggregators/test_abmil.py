"""ABMIL, plain and gated, against its equations, computed by loops over instances."""

import pytest
import torch
from made_published import (
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

from wsi_ncmi.aggregators import abmil
from wsi_ncmi.aggregators.dropout import Dropout


def naive(model: Model, layers: int, gated: bool) -> Tensor:
    """Equations 7 and 8, or 9."""
    state = dict(model.aggregator.named_parameters())
    bags = made_bags()
    embeddings = []
    for bag in bags.split(bags.features):
        hidden = list(bag)
        for number in range(layers):
            weight, bias = (state[f"instance.{3 * number}.{part}"] for part in ("weight", "bias"))
            hidden = [torch.relu(weight @ h + bias) for h in hidden]
        if gated:
            scores = gated_scores(state, "attention", hidden)
        else:
            matrix, bias = state["attention.tanh.weight"], state["attention.tanh.bias"]
            vector = state["attention.score.weight"]
            scores = [vector @ torch.tanh(matrix @ h + bias) for h in hidden]
        embeddings.append(weighted(softmax(scores), hidden))
    return cross_entropy(model.logits("", torch.stack(embeddings)), TARGETS)


@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
@pytest.mark.parametrize("dims", [None, (7, 4)], ids=["one layer", "three layers"])
def test_loss_and_gradients(gated: bool, dims: tuple[int, ...] | None) -> None:
    model = made_model(abmil, gated=gated, instance_dims=dims, dropout=0.0)
    assert_step(model, lambda: naive(model, 1 if dims is None else 3, gated))


def test_what_is_pooled_is_what_the_attention_looked_at() -> None:
    """In training too: instances that dropout has changed."""
    output = made_model(abmil, dropout=0.5).aggregator(made_bags())
    bags = made_bags()
    pairs = zip(bags.split(output.attention), bags.split(output.instance_embedding), strict=True)
    expected = torch.stack([weighted(list(a), list(h)) for a, h in pairs])
    torch.testing.assert_close(output.embedding, expected)
    assert (output.instance_embedding == 0).float().mean() > 0.6


def test_size_of_the_network_of_the_classic_data_sets() -> None:
    """fc-256, fc-128, fc-64 with ReLU and dropout, mil-attention-64, on MUSK's 166 features."""
    options = abmil.Options(64, 64, dropout=0.5, gated=False, instance_dims=(256, 128))
    built = abmil.build(166, 2, options)
    layers = 166 * 256 + 256 + 256 * 128 + 128 + 128 * 64 + 64
    assert count(built) == layers + (64 * 64 + 64) + 64
    assert [type(one).__name__ for one in built.instance] == 3 * ["Linear", "ReLU", "Dropout"]
    assert {one.p for one in built.instance if isinstance(one, Dropout)} == {0.5}
