"""ASMIL against its equations, computed by loops over tokens, heads and instances."""

import math
from typing import Any

import pytest
import torch
from made_published import (
    SIZES,
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
from torch.nn import functional

from wsi_ncmi.aggregators import asmil

SMALL = {"heads": 2, "tokens": 4, "dropout": 0.0}


def made(**options: Any) -> Model:
    """A small model whose anchor is not what it is itself."""
    model = made_model(asmil, **{**SMALL, **options})
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in model.aggregator.named_buffers():
            noise = torch.randn(value.shape, generator=rng, dtype=value.dtype)
            value.add_(noise, alpha=0.5 if "token" not in name else 1.0)
        for name in ("online.queries.token", "class_queries.token"):
            parameter = model.aggregator.get_parameter(name)
            parameter.add_(torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype))
    return model


def logits(
    state: dict[str, Tensor], part: str, heads: int, hidden: list[Tensor]
) -> list[list[list[Tensor]]]:
    """Of each token, head and instance: projected query times projected key, over √(m / H)."""
    found = []
    for n in range(len(state[f"{part}.token"])):
        query = state[f"{part}.query"][n] @ state[f"{part}.token"][n] + state[f"{part}.bias"][n]
        keys = [state[f"{part}.key"][n] @ h for h in hidden]
        width = len(query) // heads
        cuts = [slice(i * width, (i + 1) * width) for i in range(heads)]
        found.append([[(query[cut] @ key[cut]) / math.sqrt(width) for key in keys] for cut in cuts])
    return found


def attend(
    state: dict[str, Tensor], part: str, scores: list[list[list[Tensor]]], hidden: list[Tensor]
) -> list[Tensor]:
    """Each token's output: heads of projected values, joined, projected and normalised."""
    found = []
    for n, of_heads in enumerate(scores):
        values = [state[f"{part}.value"][n] @ h + state[f"{part}.value_bias"][n] for h in hidden]
        width = len(values[0]) // len(of_heads)
        joined = []
        for i, of_instances in enumerate(of_heads):
            cut = slice(i * width, (i + 1) * width)
            weights = softmax(of_instances)
            joined.append(sum(w * value[cut] for w, value in zip(weights, values, strict=True)))
        out = state[f"{part}.out"][n] @ torch.cat(joined) + state[f"{part}.out_bias"][n]
        norm = functional.layer_norm(out, out.shape, eps=1e-6)
        found.append(norm * state[f"{part}.norm"][n] + state[f"{part}.norm_bias"][n])
    return found


def nsf(scores: list[Tensor]) -> list[Tensor]:
    """σ(z_i) / Σ_j σ(z_j)."""
    sigmoids = [1 / (1 + torch.exp(-z)) for z in scores]
    total = sum(sigmoids)
    return [value / total for value in sigmoids]


def divergence(anchored: list[Tensor], online: list[Tensor], temperature: float) -> Tensor:
    """KL(NSF(z′ / T) ‖ softmax(z)) over a bag's instances."""
    pairs = zip(nsf([z / temperature for z in anchored]), softmax(online), strict=True)
    return sum(target * (target.log() - weight.log()) for target, weight in pairs)


def naive(model: Model) -> Tensor:
    options, bags = model.aggregator.options, made_bags()
    state = dict(model.aggregator.named_parameters())
    anchor = dict(model.aggregator.named_buffers())
    kept = options.tokens - int(options.tokens * options.dropped_share)
    draws = torch.rand(len(bags), options.tokens)
    scores, divergences = [], []
    for bag, draw in zip(bags.split(bags.features), draws, strict=True):
        hidden = [torch.relu(state["online.reduction"] @ x) for x in bag]
        online = logits(state, "online.queries", options.heads, hidden)
        tokens = attend(state, "values", online, hidden)
        chosen = sorted(range(options.tokens), key=lambda n: draw[n].item())[:kept]
        seen = [tokens[n] for n in chosen]
        of_class = logits(state, "class_queries", options.heads, seen)
        scores.append(model.logits("", attend(state, "class_values", of_class, seen)[0]))
        anchored_hidden = [torch.relu(anchor["anchor.reduction"] @ x) for x in bag]
        anchored = logits(anchor, "anchor.queries", options.heads, anchored_hidden)
        for n in range(options.tokens):
            for i in range(options.heads):
                pair = anchored[n][i], online[n][i]
                divergences.append(divergence(*pair, options.anchor_temperature))
    loss = cross_entropy(torch.stack(scores), TARGETS)
    return loss + options.anchor_weight * sum(divergences) / len(divergences)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dropped_share": 0.3, "anchor_temperature": 0.5, "anchor_weight": 3.0},
        {"tokens": 1, "heads": 4},
    ],
)
def test_loss_and_gradients(options: dict[str, Any]) -> None:
    model = made(**options)
    assert_step(model, lambda: naive(model))


def test_the_anchor_is_a_running_average_of_the_model() -> None:
    """In the released loop it is updated where a weight is NaN: it never moves."""
    aggregator = made_model(asmil, **SMALL, anchor_decay=0.9).aggregator
    names = ["reduction", *(f"queries.{name}" for name in ("token", "query", "bias", "key"))]
    averages = {name: aggregator.get_parameter(f"online.{name}").clone() for name in names}
    rng = torch.Generator().manual_seed(0)
    for _ in range(5):
        for name in names:
            value = aggregator.get_parameter(f"online.{name}")
            with torch.no_grad():
                value.add_(torch.randn(value.shape, generator=rng, dtype=value.dtype))
            averages[name] = 0.9 * averages[name] + 0.1 * value
        aggregator.end_step()
    found = dict(aggregator.named_buffers())
    assert set(found) == {f"anchor.{name}" for name in names}
    for name in names:
        torch.testing.assert_close(
            found[f"anchor.{name}"], averages[name].detach(), rtol=1e-12, atol=1e-14
        )


def test_a_step_moves_the_anchor_and_no_gradient_reaches_it() -> None:
    aggregator = made().aggregator
    before = {name: value.clone() for name, value in aggregator.named_buffers()}
    aggregator(made_bags(), TARGETS).penalty.backward()
    assert not any(value.requires_grad for value in aggregator.buffers())
    assert all(torch.equal(value, before[name]) for name, value in aggregator.named_buffers())
    aggregator.end_step()
    assert not any(torch.equal(value, before[name]) for name, value in aggregator.named_buffers())


def test_an_anchor_without_memory_is_the_model() -> None:
    aggregator = made(anchor_decay=0.0).aggregator
    aggregator.end_step()
    for name, value in aggregator.named_buffers():
        assert torch.equal(value, aggregator.get_parameter(name.replace("anchor.", "online.")))


def test_evaluation_does_not_use_the_anchor_and_drops_no_token() -> None:
    model = made(dropped_share=0.75)
    aggregator, bags = model.aggregator.eval(), made_bags()
    before = aggregator(bags)
    assert before.penalty is None
    with torch.no_grad():
        for value in aggregator.buffers():
            value.fill_(torch.nan)
    assert torch.equal(aggregator(bags).embedding, before.embedding)
    before.embedding.square().sum().backward()
    assert (aggregator.values.out.grad.abs().sum((1, 2)) > 0).all()


@pytest.mark.parametrize(("share", "kept"), [(0.0, 4), (0.3, 3), (0.5, 2), (0.75, 1), (0.99, 1)])
def test_a_share_of_the_tokens_is_dropped_in_training(share: float, kept: int) -> None:
    model = made(dropped_share=share)
    output = model.aggregator(made_bags((5,)))
    output.embedding.square().sum().backward()
    assert (model.aggregator.values.out.grad.abs().sum((1, 2)) > 0).sum() == kept


def test_each_bag_drops_its_own_tokens() -> None:
    aggregator, used = made().aggregator, set()
    output = aggregator(made_bags((5,) * 8))
    for row in output.embedding:
        (gradient,) = torch.autograd.grad(
            row.square().sum(), aggregator.values.out, retain_graph=True
        )
        used.add(tuple((gradient.abs().sum((1, 2)) > 0).tolist()))
    assert len(used) > 1


def test_nsf_is_flat_where_softmax_concentrates() -> None:
    """One instance far above the others: the anchor's attention does not follow it."""
    high = [torch.tensor(z, dtype=torch.float64) for z in (20.0, 5.0, 5.0, -9.0)]
    assert softmax(high)[0] > 0.999
    assert [round(w.item(), 2) for w in nsf(high)] == [0.33, 0.33, 0.33, 0]


def test_attention_of_the_tokens_is_the_mean_of_their_heads() -> None:
    model = made()
    state, bags = dict(model.aggregator.named_parameters()), made_bags()
    found = model.aggregator.eval()(bags).attention
    assert found.shape == (sum(SIZES), 4)
    hidden = [torch.relu(state["online.reduction"] @ x) for x in bags.features[: SIZES[0]]]
    for n, of_heads in enumerate(logits(state, "online.queries", 2, hidden)):
        expected = torch.stack([torch.stack(softmax(z)) for z in of_heads]).mean(0)
        torch.testing.assert_close(found[: SIZES[0], n], expected, rtol=1e-10, atol=1e-12)


def test_size_of_the_released_model() -> None:
    """Its layers but the biases of keys, which its softmax does not see."""

    def attention(dim: int) -> list[nn.Module]:
        return [*(nn.Linear(dim, dim) for _ in range(4)), nn.LayerNorm(dim)]

    tokens, dim = 8, 256
    layers = [layer for _ in range(tokens + 1) for layer in attention(dim)]
    released = sum(p.numel() for layer in layers for p in layer.parameters())
    released += 512 * dim + (tokens + 1) * dim
    assert count(asmil.build(512, 4, asmil.Options())) == released - (tokens + 1) * dim


def test_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="hidden_dim must be a multiple of heads, found 250 and 8"):
        asmil.Options(hidden_dim=250)
