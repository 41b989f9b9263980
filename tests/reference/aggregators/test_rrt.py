"""RRT-MIL against its equations, region by region and with whole attention matrices."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from made_published import (
    DIM,
    TARGETS,
    Model,
    assert_step,
    count,
    cross_entropy,
    made_bags,
    made_model,
    softmax,
)
from torch import Tensor, nn

from wsi_ncmi.aggregators import rrt
from wsi_ncmi.aggregators.bags import BagBatch

State = Mapping[str, Tensor]
HEADS = 2
SMALL: Mapping[str, Any] = {"heads": HEADS, "dropout": 0.0, "attention_dropout": 0.0}


def made(**options: Any) -> Model:
    """With biases that are not zero and an attention far from uniform."""
    model = made_model(rrt, **{**SMALL, "epeg_kernel": 5, "regions": 2, **options})
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


def convolved(scores: Tensor, kernel: Tensor) -> Tensor:
    """EPEG: E [p, p] along the queries."""
    found = []
    for i in range(len(scores)):
        taps = enumerate(kernel, start=i - len(kernel) // 2)
        found.append(sum(tap * scores[at] for at, tap in taps if 0 <= at < len(scores)))
    return torch.stack(found)


def self_attention(state: State, name: str, rows: Tensor) -> Tensor:
    """Among rows [p, m], with EPEG if it has it."""
    query, key, value = (
        linear(state, f"{name}.{part}", rows) for part in ("query", "key", "value")
    )
    width = rows.shape[1] // HEADS
    joined = []
    for head in range(HEADS):
        own = slice(head * width, (head + 1) * width)
        scores = query[:, own] @ key[:, own].T / math.sqrt(width)
        if f"{name}.epeg.weight" in state:
            scores = scores + convolved(scores, state[f"{name}.epeg.weight"][head].flatten())
        joined.append(scores.softmax(1) @ value[:, own])
    return linear(state, f"{name}.out", torch.cat(joined, 1))


def places(size: int, regions: int) -> tuple[int, list[list[int]]]:
    """Side of the map, and the places in it of each region."""
    side = next(side for side in range(1, 100) if side**2 >= size)
    along = regions if side > regions else next(n for n in range(1, 100) if 2 * n >= side)
    region = next(n for n in range(2 if side <= regions else 1, 100) if n * along >= side)
    side = region * along
    found: list[list[int]] = [[] for _ in range(along**2)]
    for row in range(side):
        for column in range(side):
            found[row // region * along + column // region].append(row * side + column)
    return side, found


def across(state: State, regions: list[Tensor]) -> list[Tensor]:
    """CR-MSA of the rows of each region."""
    phi = state["across.phi.weight"]
    scores = [region @ phi.T for region in regions]  # [M², k] each
    updates = [torch.zeros_like(region) for region in regions]
    for k in range(len(phi)):
        pooled = []
        for region, score in zip(regions, scores, strict=True):
            weights = softmax(list(score[:, k]))
            pooled.append(sum(w * row for w, row in zip(weights, region, strict=True)))
        attended = self_attention(state, "across.attention", torch.stack(pooled))
        for number, score in enumerate(scores):
            span = score[:, k].max() - score[:, k].min() + 1e-8
            share = (score[:, k] - score[:, k].min()) / span * score.softmax(1)[:, k]
            updates[number] = updates[number] + share[:, None] * attended[number]
    return updates


def embed(model: Model, bag: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding [m] and attention [N] of one bag."""
    state, options = dict(model.aggregator.named_parameters()), model.aggregator.options
    hidden = first = linear(state, "instance.0", bag).clamp(min=0)
    side, regions = places(len(bag), options.regions)
    for norm in ("norm1", "norm2"):
        rows = layer_norm(state, norm, hidden)
        padded = torch.cat([rows, rows.new_zeros(side**2 - len(rows), rows.shape[1])])
        cut = [padded[region] for region in regions]
        if norm == "norm1":
            updates = [self_attention(state, "within", region) for region in cut]
        else:
            updates = across(state, cut)
        of_place = {
            place: update
            for region, rows in zip(regions, updates, strict=True)
            for place, update in zip(region, rows, strict=True)
        }
        hidden = hidden + torch.stack([of_place[n] for n in range(len(bag))])
    hidden = layer_norm(state, "norm", hidden + first if options.shortcut else hidden)
    scores = linear(state, "attention", hidden)
    scores = scores.tanh() if options.activation == "tanh" else scores.clamp(min=0)
    if options.gated:
        scores = scores * linear(state, "gate", hidden).sigmoid()
    attention = linear(state, "score", scores).flatten().softmax(0)
    return attention @ hidden, attention


CASES: list[dict[str, Any]] = [
    {},
    {"regions": 8},
    {"regions": 3, "crmsa_k": 1, "epeg_kernel": 3},
    {"regions": 1, "gated": True},
    {"shortcut": True, "gated": True, "activation": "tanh"},
]


@pytest.mark.parametrize("options", CASES)
def test_loss_and_gradients(options: dict[str, Any]) -> None:
    model = made(**options)

    def naive() -> Tensor:
        bags = made_bags()
        embedded = [embed(model, bag)[0] for bag in bags.split(bags.features)]
        return cross_entropy(model.logits("", torch.stack(embedded)), TARGETS)

    assert_step(model, naive)


@pytest.mark.parametrize("options", CASES)
def test_attention_is_that_of_the_pooling(options: dict[str, Any]) -> None:
    model, bag = made(**options), made_bags((30,))
    found = model.aggregator(bag).attention.flatten()
    torch.testing.assert_close(found, embed(model, bag.features)[1], rtol=1e-9, atol=1e-12)


def region_of(size: int, regions: int = 8) -> list[int]:
    """The region of each instance."""
    layout = rrt.Regions.of(size, regions)
    cut = layout.cut(torch.arange(1, size + 1)[:, None])
    number = torch.arange(len(cut))[:, None, None].expand_as(cut)
    return layout.join(number).flatten().tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 40, 64, 65, 100, 500, 13_000])
def test_regions_are_cut_and_joined_in_order(size: int) -> None:
    layout, rows = rrt.Regions.of(size, 8), torch.arange(1.0, size + 1)[:, None]
    cut = layout.cut(rows)
    assert torch.equal(layout.join(cut), rows)
    assert torch.count_nonzero(cut) == size
    assert layout.along <= 8
    assert cut.shape == (layout.along**2, layout.side**2, 1)


def test_regions_are_squares_of_the_map() -> None:
    """Of 17 × 17 instances, rounded up to 24 × 24: 3 × 3 in each of 8 × 8 regions."""
    found = region_of(289)
    assert found[:7] == [0, 0, 0, 1, 1, 1, 2]
    assert found[24] == found[48] == 0  # the rows of the map below
    assert found[72] == 8


@pytest.mark.parametrize("size", [5, 12, 40, 64, 65, 80])
def test_both_attentions_do_something_in_a_small_bag(size: int) -> None:
    """The released code cuts up to 64 instances into 64 regions of one: softmax is 1, min-max 0."""
    model, bag = made(regions=8), made_bags((size,))
    bag.features.requires_grad_()
    hidden = model.aggregator(bag).instance_embedding
    (gradient,) = torch.autograd.grad(hidden[0].square().sum(), bag.features)
    assert (gradient.abs().sum(1) > 1e-9).sum() > 1
    for layer in (model.aggregator.within, model.aggregator.across.attention):
        weight = layer.query.weight
        (found,) = torch.autograd.grad(
            model.aggregator(bag).embedding.square().sum(), weight, materialize_grads=True
        )
        assert found.abs().max() > 1e-9


def test_regions_exchange_through_the_attention_across_alone() -> None:
    model = made()
    bag = made_bags((16,)).features.requires_grad_()  # 2 × 2 regions of 2 × 2

    def seen() -> list[int]:
        """The instances that the first one's embedding depends on."""
        hidden = model.aggregator(BagBatch.of([bag])).instance_embedding
        (gradient,) = torch.autograd.grad(hidden[0].square().sum(), bag)
        return (gradient.abs().sum(1) > 1e-12).nonzero().flatten().tolist()

    assert seen() == list(range(16))
    with torch.no_grad():
        for parameter in model.aggregator.across.attention.out.parameters():
            parameter.zero_()
    assert seen() == [0, 1, 4, 5]


def test_memory_follows_the_instances() -> None:
    """What a step keeps for its gradients, in one region: scores would be 16 times as much."""
    model = made(regions=1).aggregator.float()

    def kept(instances: int) -> int:
        sizes: list[int] = []

        def pack(value: Tensor) -> Tensor:
            sizes.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            model(BagBatch.of([torch.randn(instances, DIM)]))
        return sum(sizes)

    assert kept(44**2) < 4.2 * kept(22**2)


def test_a_map_over_models_warns_of_nothing() -> None:
    models = [made().aggregator for _ in range(2)]
    state = torch.func.stack_module_state(models)

    def embed(parameters: State, buffers: State) -> Tensor:
        return torch.func.functional_call(
            models[0], (parameters, buffers), (made_bags(),)
        ).embedding

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.func.vmap(embed, randomness="same")(*state).sum().backward()


def test_size_of_the_released_model() -> None:
    """Its layers, 2.70 million with the classifier, without biases that softmax does not see."""
    dim = 512
    layers: list[nn.Module] = [nn.Linear(1024, dim), *(nn.LayerNorm(dim) for _ in range(3))]
    layers += [nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)] * 2
    layers += [nn.Conv2d(8, 8, (15, 1), groups=8), nn.Linear(dim, 3, bias=False)]
    layers += [nn.Linear(dim, 128, bias=False), nn.Linear(128, 1, bias=False)]
    released = sum(p.numel() for layer in layers for p in layer.parameters())
    assert round((released + 2 * dim + 2) / 1e6, 2) == 2.70
    assert count(rrt.build(1024, 2, rrt.Options())) == released - 2 * dim - 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 500}, "hidden_dim must be a multiple of heads, found 500 and 8"),
        ({"epeg_kernel": 14}, "epeg_kernel must be odd, found 14"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rrt.Options(**options)


def test_dropout_is_off_in_evaluation() -> None:
    aggregator = made(dropout=0.5, attention_dropout=0.5).aggregator
    bag = BagBatch.of([torch.randn(9, DIM, dtype=torch.float64)])
    trained, evaluated = aggregator(bag), aggregator.eval()(bag)
    assert not torch.allclose(trained.embedding, evaluated.embedding)
    assert torch.equal(aggregator(bag).embedding, evaluated.embedding)
