"""The plain transformer against its equations, token by token with whole weight matrices."""

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
    gated_scores,
    made_bags,
    made_model,
    softmax,
    weighted,
)
from torch import Tensor

from wsi_ncmi.aggregators import transformer
from wsi_ncmi.aggregators.bags import BagBatch

SMALL: Mapping[str, Any] = {"hidden_dim": 8, "heads": 2, "feed_forward_dim": 6, "registers": 3}
State = Mapping[str, Tensor]


def norm(state: State, name: str, row: Tensor) -> Tensor:
    centred = row - row.mean()
    scale = (centred.square().mean() + 1e-5).sqrt()
    return centred / scale * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(state: State, name: str, row: Tensor) -> Tensor:
    return state[f"{name}.weight"] @ row + state[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def block(state: State, name: str, tokens: list[Tensor], heads: int) -> list[Tensor]:
    """One layer; every token attends to every token of its bag."""
    dim = len(tokens[0])
    width = dim // heads
    normed = [norm(state, f"{name}.norm", token) for token in tokens]
    query, key, value = (
        [weight @ row for row in normed] for weight in state[f"{name}.projection.weight"].split(dim)
    )
    found = []
    for at, token in enumerate(tokens):
        joined = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            weights = softmax([query[at][part] @ k[part] / math.sqrt(width) for k in key])
            joined.append(weighted(weights, [v[part] for v in value]))
        token = token + linear(state, f"{name}.out", torch.cat(joined))
        hidden = norm(state, f"{name}.feed_forward.0", token)
        hidden = gelu(linear(state, f"{name}.feed_forward.1", hidden))
        found.append(token + linear(state, f"{name}.feed_forward.4", hidden))
    return found


def naive(model: Model, layers: int, heads: int, pooling: str) -> Tensor:
    state = dict(model.aggregator.named_parameters())
    bags = made_bags()
    logits = []
    for bag in bags.split(bags.features):
        prefix = state.get("tokens", ())
        tokens = [*prefix, *(torch.relu(linear(state, "instance.0", x)) for x in bag)]
        for layer in range(layers):
            tokens = block(state, f"blocks.{layer}", tokens, heads)
        tokens = [norm(state, "norm", token) for token in tokens]
        instances = tokens[len(prefix) :]
        found = tokens[0]
        if pooling == "attention":
            found = weighted(softmax(gated_scores(state, "attention", instances)), instances)
        logits.append(model.logits("", found))
    return cross_entropy(torch.stack(logits), TARGETS)


@pytest.mark.parametrize("pooling", ["class_token", "attention"])
@pytest.mark.parametrize(("layers", "registers"), [(1, 2), (2, 0), (3, 3)])
def test_loss_and_gradients(pooling: str, layers: int, registers: int) -> None:
    options = {**SMALL, "layers": layers, "pooling": pooling, "registers": registers}
    model = made_model(transformer, **options)
    assert_step(model, lambda: naive(model, layers, 2, pooling))


def test_attention_is_the_class_tokens_among_the_instances() -> None:
    """Of a model of one layer: softmax over the instances of its logits, without the registers."""
    model = made_model(transformer, **{**SMALL, "layers": 1})
    state, bags = dict(model.aggregator.named_parameters()), made_bags()
    found = bags.split(model.aggregator(bags).attention)
    query, key, _ = state["blocks.0.projection.weight"].split(8)
    asked = query @ norm(state, "blocks.0.norm", state["tokens"][0])
    for bag, attention in zip(bags.split(bags.features), found, strict=True):
        hidden = [torch.relu(linear(state, "instance.0", x)) for x in bag]
        keys = [key @ norm(state, "blocks.0.norm", h) for h in hidden]
        for head, part in enumerate((slice(4), slice(4, 8))):
            expected = softmax([asked[part] @ k[part] / 2 for k in keys])
            torch.testing.assert_close(attention[:, head], torch.stack(expected))


def test_registers_take_attention_and_are_not_read() -> None:
    """A register of a large key takes the class token's attention from all instances.

    Their shares among themselves, which a heatmap shows, stay.
    """
    model = made_model(transformer, **{**SMALL, "layers": 1, "registers": 1}).aggregator
    bags = made_bags()
    before = model(bags)
    with torch.no_grad():
        model.tokens[1] *= 3
    after = model(bags)
    assert (after.embedding - before.embedding).abs().max() > 1e-6
    torch.testing.assert_close(after.attention, before.attention)


@pytest.mark.parametrize("pooling", ["class_token", "attention"])
def test_memory_follows_the_instances(pooling: str) -> None:
    """What a step keeps for its gradients: weights between all pairs would be 16 times as much."""
    model = made_model(transformer, **{**SMALL, "pooling": pooling}).aggregator.float()

    def kept(instances: int) -> int:
        sizes: list[int] = []
        bags = BagBatch.of([torch.randn(instances, DIM)])

        def pack(value: Tensor) -> Tensor:
            sizes.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            model(bags)
        return sum(sizes)

    assert kept(2000) < 4.2 * kept(500)


def test_a_map_over_models_warns_of_nothing() -> None:
    models = [made_model(transformer, **SMALL).aggregator for _ in range(2)]
    state = torch.func.stack_module_state(models)

    def embed(parameters: State, buffers: State) -> Tensor:
        output = torch.func.functional_call(models[0], (parameters, buffers), (made_bags(),))
        return output.embedding

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = torch.func.vmap(embed, randomness="same")(*state)
        found.sum().backward()


def test_dropout_is_off_in_evaluation() -> None:
    model = made_model(transformer, **SMALL, dropout=0.5).aggregator
    without = made_model(transformer, **SMALL).aggregator
    bags = made_bags()
    assert not torch.equal(model(bags).embedding, without(bags).embedding)
    assert torch.equal(model.eval()(bags).embedding, without(bags).embedding)


def test_parameters() -> None:
    """Wagner et al.'s layers: D → 512, two blocks of 512, and here one norm, four registers."""
    block = 2 * 2 * 512 + 3 * 512 * 512 + 3 * (512 * 512 + 512)
    expected = (768 * 512 + 512) + 5 * 512 + 2 * block + 2 * 512
    assert count(transformer.build(768, 2, transformer.Options())) == expected


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="hidden_dim must be a multiple of heads, found 10 and 4"):
        transformer.Options(hidden_dim=10, heads=4)
