"""CONCH v1.5's pooling and position embedding, computed another way."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wsi_ncmi.encoders import PathologyEncoder
from wsi_ncmi.encoders.attention_pool import AttentionPool, make_tower, to_input_grid

Small = Callable[[str], PathologyEncoder]


def test_a_query_attends_to_all_tokens() -> None:
    torch.manual_seed(0)
    dim, context, heads = 32, 24, 8
    pool = AttentionPool(dim, context)
    for parameter in pool.parameters():
        nn.init.normal_(parameter)
    tokens = torch.randn(3, 10, context)
    p = {name: value.detach().double().numpy() for name, value in pool.named_parameters()}

    def norm(x: np.ndarray, which: str) -> np.ndarray:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * p[f"{which}.weight"] + p[f"{which}.bias"]

    for b in range(3):
        memory = norm(tokens[b].double().numpy(), "ln_k") @ p["to_kv.weight"].T
        query = norm(p["query"], "ln_q") @ p["to_q.weight"].T
        joined = []
        for h in range(heads):
            cut = slice(h * dim // heads, (h + 1) * dim // heads)
            scores = query[:, cut] @ memory[:, :dim][:, cut].T / math.sqrt(dim // heads)
            weights = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            joined.append(weights @ memory[:, dim:][:, cut])
        expected = np.concatenate(joined, 1) @ p["to_out.weight"].T
        found = pool(tokens[b : b + 1])[0].detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_tower_pools_the_trunk(small: Small) -> None:
    tower: Any = make_tower(small("conch_v1_5")).eval()
    images = torch.randn(1, 3, 448, 448)
    with torch.inference_mode():
        tokens = tower.trunk(images)
        assert tokens.shape == (1, 1 + 28 * 28, 48)  # the class token takes part
        pooled = tower.attn_pool_contrast(tokens)
        assert pooled.shape == (1, 1, 32)
        expected = F.layer_norm(pooled[:, 0], (32,))
        torch.testing.assert_close(tower(images), expected)


@pytest.fixture
def tower(small: Small) -> nn.Module:
    return make_tower(small("conch_v1_5"))


def stretched(state: dict[str, torch.Tensor], tower: nn.Module) -> torch.Tensor:
    before = {key: value.clone() for key, value in state.items()}
    found = to_input_grid(state, tower)["trunk.pos_embed"]
    assert all(torch.equal(before[key], state[key]) for key in state)  # the input is left alone
    return found


def cubic(distance: float) -> float:
    """The cubic convolution kernel of torch's bicubic (Keys 1981, a = −0.75)."""
    a, x = -0.75, abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def cubic_weights() -> np.ndarray:
    """[28, 14]: how much each of 14 positions counts at each of 28, the edge ones repeated."""
    weights = np.zeros((28, 14))
    for row in range(28):
        centre = (row + 0.5) * 14 / 28.1 - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            weights[row, min(max(tap, 0), 13)] += cubic(centre - tap)
    return weights


def test_positions_are_stretched_to_the_input(tower: nn.Module) -> None:
    torch.manual_seed(0)
    position = torch.randn(1, 197, 3)
    found = stretched({"trunk.pos_embed": position}, tower)
    assert found.shape == (1, 1 + 28 * 28, 3)
    assert torch.equal(found[:, 0], position[:, 0])
    grid, w = position[0, 1:].reshape(14, 14, 3).double().numpy(), cubic_weights()
    expected = np.einsum("ia,jb,abd->ijd", w, w, grid).reshape(784, 3)
    np.testing.assert_allclose(found[0, 1:].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_another_stored_grid_is_first_brought_to_14(tower: nn.Module) -> None:
    """28 × 28 positions come down to the means of four, then up like any 14 × 14."""
    torch.manual_seed(0)
    first, native = torch.randn(1, 1, 5), torch.randn(28, 28, 5)
    means = native.reshape(14, 2, 14, 2, 5).mean((1, 3)).reshape(1, 196, 5)
    fine = torch.cat([first, native.reshape(1, 784, 5)], 1)
    found = stretched({"trunk.pos_embed": fine}, tower)
    expected = stretched({"trunk.pos_embed": torch.cat([first, means], 1)}, tower)
    torch.testing.assert_close(found, expected)


def test_a_state_without_positions_is_left_to_the_strict_loading(tower: nn.Module) -> None:
    assert to_input_grid({}, tower) == {}
