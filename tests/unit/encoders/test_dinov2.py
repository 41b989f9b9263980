"""DINOv2 weights under three sets of names give one network: it is computed here another way."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from wsi_ncmi.encoders import PathologyEncoder, build_encoder
from wsi_ncmi.encoders.dinov2 import to_timm
from wsi_ncmi.errors import PartError

D, HEADS, DEPTH = 48, 4, 2
State = dict[str, Tensor]


def linear(outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
    return torch.randn(outputs, inputs) / math.sqrt(inputs), torch.randn(outputs)


def made_up(patch: int, registers: int, swiglu: bool) -> State:
    """A state dict with the transformers library's names of a DINOv2 network, of no training."""
    torch.manual_seed(3)
    state: State = {
        "embeddings.cls_token": torch.randn(1, 1, D),
        "embeddings.mask_token": torch.randn(1, D),
        "embeddings.position_embeddings": torch.randn(1, 1 + (224 // patch) ** 2, D),
        "embeddings.patch_embeddings.projection.weight": torch.randn(D, 3, patch, patch) / patch,
        "embeddings.patch_embeddings.projection.bias": torch.randn(D),
        "layernorm.weight": torch.randn(D),
        "layernorm.bias": torch.randn(D),
    }
    if registers:
        state["embeddings.register_tokens"] = torch.randn(1, registers, D)
    for i in range(DEPTH):
        layers = {f"attention.attention.{x}": (D, D) for x in ("query", "key", "value")}
        layers["attention.output.dense"] = (D, D)
        layers |= (
            {"mlp.weights_in": (4 * D, D), "mlp.weights_out": (D, 2 * D)}
            if swiglu
            else {"mlp.fc1": (4 * D, D), "mlp.fc2": (D, 4 * D)}
        )
        for name, shape in layers.items():
            key = f"encoder.layer.{i}.{name}"
            state[f"{key}.weight"], state[f"{key}.bias"] = linear(*shape)
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            state[f"encoder.layer.{i}.{name}"] = torch.randn(D)
        for which in (1, 2):
            state[f"encoder.layer.{i}.layer_scale{which}.lambda1"] = torch.randn(D)
    return state


def reference(state: State, images: Tensor) -> Tensor:
    """DINOv2's class token by its paper, head by head: [B, D]."""

    def apply(key: str, x: Tensor) -> Tensor:
        return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]

    def norm(key: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return centred / scale * state[f"{key}.weight"] + state[f"{key}.bias"]

    def attention(key: str, x: Tensor) -> Tensor:
        q, k, v = (apply(f"{key}.attention.{n}", x) for n in ("query", "key", "value"))
        width, outputs = D // HEADS, []
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(width)
            outputs.append(scores.softmax(-1) @ v[..., part])
        return apply(f"{key}.output.dense", torch.cat(outputs, -1))

    def mlp(key: str, x: Tensor) -> Tensor:
        if f"{key}.fc1.weight" in state:
            return apply(f"{key}.fc2", F.gelu(apply(f"{key}.fc1", x)))
        gate, value = apply(f"{key}.weights_in", x).chunk(2, -1)
        return apply(f"{key}.weights_out", gate * gate.sigmoid() * value)

    kernel = state["embeddings.patch_embeddings.projection.weight"]
    patches = F.conv2d(images, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    patches = patches + state["embeddings.patch_embeddings.projection.bias"]
    classes = state["embeddings.cls_token"].expand(len(images), -1, -1)
    x = torch.cat([classes, patches], 1) + state["embeddings.position_embeddings"]
    registers = state.get("embeddings.register_tokens", torch.empty(1, 0, D))
    x = torch.cat([x[:, :1], registers.expand(len(images), -1, -1), x[:, 1:]], 1)
    for i in range(DEPTH):
        key = f"encoder.layer.{i}"
        scale = [state[f"{key}.layer_scale{n}.lambda1"] for n in (1, 2)]
        x = x + scale[0] * attention(f"{key}.attention", norm(f"{key}.norm1", x))
        x = x + scale[1] * mlp(f"{key}.mlp", norm(f"{key}.norm2", x))
    return norm("layernorm", x)[:, 0]


def dinov2_names(state: State) -> State:
    """The same state under the names of the authors' own repository."""
    own: State = {}
    for key, value in state.items():
        if ".attention.attention." in key:
            continue
        for old, new in (
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("embeddings.position_embeddings", "pos_embed"),
            ("embeddings.", ""),
            ("encoder.layer.", "blocks."),
            ("layernorm.", "norm."),
            ("attention.output.dense", "attn.proj"),
            ("layer_scale1.lambda1", "ls1.gamma"),
            ("layer_scale2.lambda1", "ls2.gamma"),
            ("mlp.weights_in", "mlp.w12"),
            ("mlp.weights_out", "mlp.w3"),
        ):
            key = key.replace(old, new)
        own[key] = value
    for i in range(DEPTH):
        for kind in ("weight", "bias"):
            parts = [f"attention.attention.{n}.{kind}" for n in ("query", "key", "value")]
            joined = torch.cat([state[f"encoder.layer.{i}.{part}"] for part in parts])
            own[f"blocks.{i}.attn.qkv.{kind}"] = joined
    return own


@pytest.mark.parametrize(
    ("name", "patch", "registers", "swiglu"),
    [("phikon_v2", 16, 0, False), ("hibou_b", 14, 4, True), ("hibou_l", 14, 4, True)],
)
@pytest.mark.parametrize("names", ["transformers", "dinov2"])
def test_published_names_give_the_network_of_the_paper(
    name: str,
    patch: int,
    registers: int,
    swiglu: bool,
    names: str,
    tmp_path: Path,
    shrink: Callable[[str], PathologyEncoder],
) -> None:
    state = made_up(patch, registers, swiglu)
    stored = state if names == "transformers" else dinov2_names(state)
    save_file(stored, tmp_path / "model.safetensors")
    shrink(name)
    encoder = build_encoder(name, {}, str(tmp_path / "model.safetensors"))
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        features = encoder.module(images)
    torch.testing.assert_close(features, reference(state, images), rtol=1e-3, atol=1e-3)


def test_timms_own_names_stay(
    small: Callable[[str], PathologyEncoder], network: Callable[[PathologyEncoder], nn.Module]
) -> None:
    state = network(small("hibou_b")).state_dict()
    again = to_timm(dict(state), nn.Identity())
    assert set(again) == set(state)
    assert all(again[key] is value for key, value in state.items())


def test_what_is_missing_is_named(
    tmp_path: Path, shrink: Callable[[str], PathologyEncoder]
) -> None:
    state = made_up(16, 0, False)
    del state["encoder.layer.1.attention.attention.key.bias"]
    save_file(state, tmp_path / "torn.safetensors")
    shrink("phikon_v2")
    with pytest.raises(PartError, match=r"torn\.safetensors: .*\s.*blocks\.1\.attn\.qkv\.bias"):
        build_encoder("phikon_v2", {}, str(tmp_path / "torn.safetensors"))
