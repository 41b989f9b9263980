"""A ViT with attentional pooling, as CONCH v1.5's vision tower: the adapter `attention_pool`."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from wsi_ncmi.encoders.facts import PathologyEncoder
from wsi_ncmi.encoders.network import make_network

HEADS = 8
# The published network is made for 14 × 14 patches and stretches their positions to its input.
NATIVE_GRID = 14
# Added to the grid's side before dividing (github.com/facebookresearch/dino, issue 8).
_STRETCH = 0.1


class AttentionPool(nn.Module):
    """Trained queries attend to all tokens: [B, N, context] -> [B, queries, dim].

    Args:
        dim: D of queries and output.
        context_dim: width of the tokens.
        queries: how many.
    """

    def __init__(self, dim: int, context_dim: int, queries: int = 1) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(queries, dim))
        self.ln_k, self.ln_q = nn.LayerNorm(context_dim), nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(context_dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        keys, values = self.to_kv(self.ln_k(tokens)).chunk(2, -1)
        queries = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        heads = [x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (queries, keys, values)]
        pooled = F.scaled_dot_product_attention(*heads)
        return self.to_out(pooled.transpose(1, 2).flatten(2))


class Tower(nn.Module):
    """Trunk, pool and norm under the names of the published weights: [B, 3, H, W] -> [B, dim]."""

    def __init__(self, trunk: Any, dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.attn_pool_contrast = AttentionPool(dim, trunk.embed_dim)
        self.ln_contrast = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.attn_pool_contrast(self.trunk.forward_features(images))
        return self.ln_contrast(pooled[:, 0])


def make_tower(facts: PathologyEncoder) -> nn.Module:
    """The network of the facts with its pool, without weights."""
    return Tower(make_network(facts), facts.dim)


def to_input_grid(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The state with its position embedding stretched to the input's grid, once and for all.

    As the published loader does, another grid than 14 × 14 is first brought to it bilinearly; the
    stretch itself is bicubic.
    """
    tower: Any = module
    key, side = "trunk.pos_embed", tower.trunk.patch_embed.grid_size[0]
    position = state.get(key)
    if position is None or side == NATIVE_GRID:
        return state  # nothing to stretch; the strict loading names what is missing
    native = resample_abs_pos_embed(
        position, [NATIVE_GRID, NATIVE_GRID], interpolation="bilinear", antialias=False
    )
    grid = native[:, 1:].unflatten(1, (NATIVE_GRID, NATIVE_GRID)).permute(0, 3, 1, 2)
    factor = (side + _STRETCH) / NATIVE_GRID
    grid = F.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    return {**state, key: torch.cat([native[:, :1], grid.flatten(2).transpose(1, 2)], 1)}
