"""Written gradients of layers on instances, against torch's own and finite differences."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from wsi_ncmi.aggregators import fused, segments
from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.aggregators.dropout import Dropout
from wsi_ncmi.aggregators.gated import GatedAttention
from wsi_ncmi.aggregators.layers import InstanceLayers

SIZES = (3, 1, 9, 4)
COUNT = sum(SIZES)


@pytest.fixture(autouse=True)
def of_many(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Layers are computed there, however small they are."""
    monkeypatch.setattr(fused, "LEAST", 0)
    with fused.many_models():
        yield


class Network(nn.Module):
    """Layers, gated attention, and its pooling: bags [T, 5] -> [B, K, 3]."""

    def __init__(self, heads: int = 1, dropout: float = 0.25) -> None:
        super().__init__()
        self.layers = InstanceLayers(
            nn.Linear(5, 4), nn.ReLU(), Dropout(dropout),
            nn.Linear(4, 3, bias=False), nn.ReLU(), Dropout(dropout),
        )  # fmt: skip
        self.attention = GatedAttention(3, 2, heads, dropout)

    def forward(self, features: Tensor) -> Tensor:
        bags = BagBatch(features, torch.tensor([0, *SIZES]).cumsum(0))
        hidden = self.layers(features)
        weights = torch.softmax(self.attention(hidden), 0)
        return segments.attention_pool(weights, hidden, bags)


def features() -> Tensor:
    torch.manual_seed(7)
    return torch.randn(COUNT, 5, dtype=torch.float64)


def network(seed: int = 0, **options: Any) -> Network:
    torch.manual_seed(seed)
    return Network(**options).double()


def with_gradients(made: nn.Module, values: Tensor) -> list[Tensor]:
    """The result of fixed dropout, and gradients by the values and all parameters."""
    values.requires_grad_()
    torch.manual_seed(3)
    found = made(values)
    weights = torch.arange(found.numel(), dtype=found.dtype).cos().view_as(found)
    return [found, *torch.autograd.grad((found * weights).sum(), [values, *made.parameters()])]


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_equal_to_torchs_own_operations(heads: int, training: bool) -> None:
    made = network(heads=heads).train(training)
    ours = with_gradients(made, features())
    with mock.patch.object(fused, "applies", return_value=False):
        theirs = with_gradients(made, features())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("heads", [1, 2])
def test_gradients_are_those_of_finite_differences(heads: int) -> None:
    made = network(heads=heads, dropout=0.0)
    state = dict(made.named_parameters())

    def call(values: Tensor, *parameters: Tensor) -> Any:
        given = dict(zip(state, parameters, strict=True))
        return functional_call(made, given, (values,))

    assert torch.autograd.gradcheck(call, (features().requires_grad_(), *state.values()))


@pytest.mark.parametrize("heads", [1, 2])
def test_mapped_over_models_each_is_as_alone(heads: int) -> None:
    models = [network(seed, heads=heads).train() for seed in range(3)]
    parameters, _ = stack_module_state(models)  # type: ignore[arg-type]

    def one(parameters: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(3)
        found: Tensor = functional_call(models[0], parameters, (values,))
        return found

    values = features().requires_grad_()
    found = vmap(one, randomness="same")(parameters)
    weights = torch.arange(found[0].numel(), dtype=found.dtype).cos().view_as(found[0])
    named = list(parameters.values())
    shared, *own = torch.autograd.grad((found * weights).sum(), [values, *named])
    alone = [with_gradients(model, features()) for model in models]
    torch.testing.assert_close(shared, sum(gradients[1] for gradients in alone))
    for place, (expected, _, *gradients) in enumerate(alone):
        assert torch.equal(found[place], expected)
        for mine, theirs in zip(own, gradients, strict=True):
            assert torch.equal(mine[place], theirs)


def test_inputs_of_each_model() -> None:
    made, values = network(), torch.stack([features(), features().flip(0)])
    found = vmap(made.eval())(values)
    for one, expected in zip(found, values, strict=True):
        assert torch.equal(one, made(expected))


def test_small_layers_are_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "LEAST", 4 * 5)
    assert fused.applies(torch.zeros(4, 3), 5)
    assert not fused.applies(torch.zeros(3, 9), 6)


@pytest.mark.parametrize("call", [lambda made: made.layers, lambda made: made.attention])
def test_bf16_is_torchs_own(call: Callable[[Network], nn.Module]) -> None:
    module = call(network().float().eval())
    values = torch.randn(COUNT, next(module.parameters()).shape[1])
    with torch.autocast("cpu", torch.bfloat16):
        assert module(values).dtype == torch.bfloat16
    assert module(values).dtype == torch.float32
