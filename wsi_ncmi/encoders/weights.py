"""Weights from local files, and the digest of what a module holds."""

import hashlib
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from wsi_ncmi.errors import PartError
from wsi_ncmi.files.patience import patiently

# Where training scripts of the field put the state dict inside a .pth.
WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher")
EXAMPLES = 3
"""Keys that an error names of each kind."""


def state_sha256(module: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all tensors of a module."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        hasher.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        hasher.update(data.numpy().tobytes())
    return hasher.hexdigest()


Convert = Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]


def load_weights(module: nn.Module, path: Path, convert: Convert | None = None) -> None:
    """Load a local state dict strictly; classifier weights that the module lacks are left out.

    Args:
        convert: (state as published, module) -> state under the module's names.

    Raises:
        PartError: no such file, not a state dict, or keys that do not fit.
    """
    state = read_state(path)
    if convert is not None:
        state = convert(state, module)
    own = module.state_dict()
    kept = {k: v for k, v in state.items() if k in own or not _is_classifier(k)}
    problem = _misfit(kept, own)
    if problem:
        raise PartError(f"{path}: the weights do not fit this encoder: {problem}")
    module.load_state_dict(kept, strict=True)


def _misfit(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """How many keys do not fit, with examples, or nothing."""
    other = [
        f"{key} {list(state[key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in own.items()
        if key in state and state[key].shape != tensor.shape
    ]
    found = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of other shape": other,
    }
    return "; ".join(
        f"{len(keys)} {what} ({', '.join(keys[:EXAMPLES])}{', …' if len(keys) > EXAMPLES else ''})"
        for what, keys in found.items()
        if keys
    )


def _is_classifier(key: str) -> bool:
    return key.split(".")[0] in ("fc", "head", "classifier", "last_linear")


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors, .pth, .pt or .bin; code in a file is never run."""
    if not path.is_file():
        raise PartError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            return patiently(lambda: load_file(path))
        state = patiently(lambda: torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError:  # torch's words advise to run what is in the file
        raise PartError(
            f"{path}: cannot be read as weights: it holds more than tensors, or is damaged; code "
            "in files is never run: save the state dict alone"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise PartError(f"{path}: cannot be read as weights: {error}") from None
    for key in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise PartError(f"{path}: holds no state dict of tensors")
    return {key.removeprefix("module."): value for key, value in state.items()}
