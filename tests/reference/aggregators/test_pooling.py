"""Means and maxima, linear and with an MLP, computed by loops over instances."""

import pytest
import torch
from made_published import (
    TARGETS,
    Model,
    assert_step,
    count,
    cross_entropy,
    made_bags,
    made_model,
)
from torch import Tensor
from torch.nn import functional

from wsi_ncmi.aggregators import max_pool, mean, mean_pool


def pooled(kind: str) -> Tensor:
    bags, rows = made_bags(), []
    for bag in bags.split(bags.features):
        columns = [column.tolist() for column in bag.T]
        values = [max(c) if kind == "max" else sum(c) / len(c) for c in columns]
        rows.append(torch.tensor(values, dtype=torch.float64))
    return torch.stack(rows)


def linear(state: dict[str, Tensor], name: str, value: Tensor) -> Tensor:
    return state[f"{name}.weight"] @ value + state[f"{name}.bias"]


def naive(model: Model, kind: str) -> Tensor:
    state = dict(model.aggregator.named_parameters())
    embeddings = []
    for row in pooled(kind):
        if "linear.weight" in state:
            embeddings.append(linear(state, "linear", row))
            continue
        centred = row - row.mean()
        normed = centred / (centred.square().mean() + 1e-5).sqrt()
        normed = normed * state["mlp.0.weight"] + state["mlp.0.bias"]
        embeddings.append(linear(state, "mlp.4", functional.relu(linear(state, "mlp.1", normed))))
    return cross_entropy(model.logits("", torch.stack(embeddings)), TARGETS)


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_linear_pooling(kind: str) -> None:
    model = made_model(mean_pool if kind == "mean" else max_pool)
    assert_step(model, lambda: naive(model, kind))


def test_mean_and_mlp() -> None:
    model = made_model(mean, dropout=0.0)
    assert_step(model, lambda: naive(model, "mean"))


@pytest.mark.parametrize("module", [mean_pool, max_pool])
def test_under_cross_entropy_the_model_is_logistic_regression(module: object) -> None:
    """Class scores are affine in what is pooled."""
    model = made_model(module)
    first, second = (made_bags((1,)), made_bags((1,)))
    second = second.replace(-3 * first.features + 1)
    middle = first.replace(0.3 * first.features + 0.7 * second.features)
    logits = [model.logits("", model.aggregator(one).embedding) for one in (first, second, middle)]
    torch.testing.assert_close(logits[2], 0.3 * logits[0] + 0.7 * logits[1])


@pytest.mark.parametrize("module", [mean, mean_pool, max_pool])
def test_copies_of_instances_change_nothing(module: object) -> None:
    model = made_model(module)
    model.aggregator.eval()
    bags = made_bags((5,))
    twice = bags.of([bags.features.repeat(2, 1)])
    found = [model.aggregator(one).embedding for one in (bags, twice)]
    torch.testing.assert_close(*found)
    assert not model.aggregator.has_attention


def test_sizes() -> None:
    assert count(mean_pool.build(1024, 2, mean_pool.Options())) == 1024 * 256 + 256
    assert count(max_pool.build(1024, 2, max_pool.Options())) == 1024 * 256 + 256
    layers = 2 * 1024 + 1024 * 256 + 256 + 256 * 256 + 256
    assert count(mean.build(1024, 2, mean.Options())) == layers
