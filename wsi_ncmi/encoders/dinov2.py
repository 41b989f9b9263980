"""Names of DINOv2 weights (Oquab et al. 2023, arXiv:2304.07193): others' ones to timm's.

The same network is published under three sets of names: timm's, those of the authors' own
repository, and those of the transformers library. Registers (Darcet et al. 2023, arXiv:2309.16588)
have no position in any of them; timm then keeps the class token's position inside that token.
"""

import re

import torch
from torch import Tensor, nn

# transformers -> DINOv2's own; query, key and value are joined separately.
_TRANSFORMERS = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^encoder\.layer\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
)
_QKV = re.compile(r"^(.*)\.attention\.attention\.(query|key|value)\.(weight|bias)$")


def to_timm(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A state dict under timm's names, whichever of the three it came with.

    Args:
        state: tensors by name, left as it is.
        module: not looked at; the signature is that of `weights.Convert`.
    """
    if "embeddings.cls_token" in state:
        state = _from_transformers(state)
    renamed = {_swiglu(key): value for key, value in state.items() if key != "mask_token"}
    if "register_tokens" in renamed:
        position = renamed["pos_embed"]
        renamed["reg_token"] = renamed.pop("register_tokens")
        renamed["cls_token"] = renamed["cls_token"] + position[:, :1]
        renamed["pos_embed"] = position[:, 1:]
    return renamed


def _swiglu(key: str) -> str:
    return key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")


def _from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part = _QKV.match(key)
        if part:
            block, which, kind = part.groups()
            joined.setdefault(f"{_rename(block + '.')}attn.qkv.{kind}", {})[which] = value
        else:
            renamed[_rename(key)] = value
    for key, parts in joined.items():
        if len(parts) == 3:  # an incomplete one stays out, and the strict loading names it
            renamed[key] = torch.cat([parts["query"], parts["key"], parts["value"]])
    return renamed


def _rename(key: str) -> str:
    for pattern, replacement in _TRANSFORMERS:
        key = re.sub(pattern, replacement, key)
    return key
