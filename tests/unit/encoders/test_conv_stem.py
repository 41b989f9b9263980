"""CTransPath's network and the renaming of weights from timm 0.5."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsi_ncmi.encoders import PathologyEncoder, build_encoder
from wsi_ncmi.encoders.conv_stem import ConvStem

Small = Callable[[str], PathologyEncoder]
Network = Callable[[PathologyEncoder], nn.Module]


def as_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As timm 0.5 named them: downsampling ends a stage, derived buffers are stored, a head too."""
    old: dict[str, Tensor] = {}
    for key, value in state.items():
        for stage in (1, 2, 3):
            key = key.replace(f"layers.{stage}.downsample", f"layers.{stage - 1}.downsample_")
        old[key.replace("downsample_", "downsample")] = value
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    old["head.weight"], old["head.bias"] = torch.zeros(1000, 128), torch.zeros(1000)
    return old


@pytest.mark.parametrize("old", [True, False])
def test_old_and_new_names_load_alike(
    old: bool, tmp_path: Path, shrink: Small, network: Network
) -> None:
    state = network(shrink("ctranspath")).state_dict()
    torch.save({"model": as_published(state) if old else state}, tmp_path / "ctranspath.pth")
    encoder = build_encoder("ctranspath", {}, str(tmp_path / "ctranspath.pth"))
    loaded = encoder.module.state_dict()
    assert set(loaded) == set(state)
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_features_are_the_mean_over_the_map(small: Small, network: Network) -> None:
    module: Any = network(small("ctranspath"))
    with torch.inference_mode():
        images = torch.randn(2, 3, 224, 224)
        last = module.forward_features(images)  # [B, H, W, D]
        assert last.shape == (2, 7, 7, 128)
        torch.testing.assert_close(module(images), last.sum((1, 2)) / 49)


def test_the_stem_sees_seven_pixels_and_strides_by_four() -> None:
    stem = ConvStem(16, 4, 32, nn.Identity).eval()  # type: ignore[arg-type]
    assert [layer.weight.shape for layer in stem.proj if isinstance(layer, nn.Conv2d)] == [
        (4, 3, 3, 3), (8, 4, 3, 3), (32, 8, 1, 1),
    ]  # fmt: skip
    base = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        out = stem(base)
        assert out.shape == (1, 4, 4, 32)
        moved = {}
        for column in range(16):
            changed = base.clone()
            changed[:, :, :, column] += 100
            moved[column] = (stem(changed) - out).abs().amax((0, 1, 3)) > 1e-3
    seen = [column for column in range(16) if moved[column][2]]
    assert min(seen) >= 4 * 2 - 3
    assert max(seen) <= 4 * 2 + 3
    assert len(seen) >= 5
