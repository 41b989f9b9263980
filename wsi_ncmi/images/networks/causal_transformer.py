"""A causal transformer on tokens, whose embedding is that of the last position.

Decoder-only, as GPT-2's (Radford et al. 2019): learnt positions, and layers that are normalised
before attention and before their two linear maps; a position sees itself and what is before it. One
window has one target here, the token after it. A language model learns from every position of a
window at once; this one costs as many times more for each target as a window has tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsi_ncmi.bounds import bounded, check_options

INITIAL_STD = 0.02  # as GPT-2's


@dataclass(frozen=True)
class Options:
    """Options of a causal transformer.

    Attributes:
        width: dimensions of the embedding, a multiple of `heads`.
        depth: number of layers, 1 or more.
        heads: of each layer's attention, 1 or more.
        context: largest number of tokens, 1 or more.
        vocabulary: number of different tokens, 2 to 256.
        dropout: in the layers, 0 to below 1.
    """

    width: int = bounded(64, least=1)
    depth: int = bounded(2, least=1)
    heads: int = bounded(4, least=1)
    context: int = bounded(32, least=1)
    vocabulary: int = bounded(256, least=2, most=256)
    dropout: float = bounded(0.0, least=0, below=1)

    def __post_init__(self) -> None:
        check_options(self)
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")


class CausalTransformer(nn.Module):
    """See the module."""

    mask: Tensor

    def __init__(self, options: Options) -> None:
        super().__init__()
        width = options.width
        self.tokens = nn.Embedding(options.vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(options.context, width))
        for weight in (self.tokens.weight, self.positions):
            nn.init.normal_(weight, std=INITIAL_STD)
        layer = nn.TransformerEncoderLayer(
            width,
            options.heads,
            4 * width,
            options.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer, options.depth, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        mask = nn.Transformer.generate_square_subsequent_mask(options.context)
        self.register_buffer("mask", mask, persistent=False)

    def no_weight_decay(self) -> set[str]:
        return {"positions"}

    def forward_features(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [B, t] -> [B, t, width].

        Raises:
            ValueError: these are no tokens, or too many.
        """
        if tokens.ndim != 2 or tokens.is_floating_point():
            raise ValueError("causal_transformer is for tokens, such as those of `characters`")
        length = tokens.shape[1]
        if length > len(self.positions):
            raise ValueError(
                f"causal_transformer was made for {len(self.positions)} tokens: set its `context`"
            )
        x = self.tokens(tokens) + self.positions[:length]
        found: Tensor = self.layers(x, mask=self.mask[:length, :length], is_causal=True)
        return found

    def forward_head(self, features: Tensor) -> Tensor:
        """The last position's."""
        return features[:, -1]


def build(options: Options) -> nn.Module:
    return CausalTransformer(options)
