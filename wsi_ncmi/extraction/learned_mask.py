"""The tissue mask of a network from a local file: TorchScript, or weights of a timm classifier."""

import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wsi_ncmi.config import Tissue
from wsi_ncmi.encoders.weights import load_weights
from wsi_ncmi.errors import PartError
from wsi_ncmi.extraction.encode import pick_device

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet: what TorchScript networks get; a timm model gets its own data config's."""

WINDOW_PX = 1024
MARGIN_PX = 64
"""Networks that segment see windows with so much around them: memory stays small."""

BATCH = 64


def learned_mask(rgb: NDArray[np.uint8], mpp: float, options: Tissue) -> NDArray[np.bool_]:
    """Where a network sees tissue, bool `[h, w]`; see `tiling.tissue.MaskOf`.

    Without `architecture` the weights are a TorchScript file that maps float32 [1, 3, h, w],
    normalised as for ImageNet, to logits [1, 1, h, w] (tissue) or [1, 2, h, w] (glass, tissue).
    With it they are those of a timm classifier of two classes (glass, tissue), which sees patches
    of `patch_px` that do not overlap, resized to its input.

    Args:
        mpp: of the thumbnail: `thumbnail_mpp` is to be what the network was trained at.

    Raises:
        PartError: the file cannot be read, or the network gives something else.
    """
    path = Path(options.weights or "")
    if not path.is_file():
        raise PartError(f"tissue.weights {path}: no such file")
    image = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 255
    device = pick_device()
    with torch.inference_mode():
        if options.architecture is None:
            network = _script(path, path.stat().st_mtime_ns, str(device))
            found = _segment(network, image.to(device), path)
        else:
            time = path.stat().st_mtime_ns
            classifier = _classifier(options.architecture, path, time, str(device))
            found = _by_patches(classifier, image.to(device), options.patch_px)
    return (found >= options.min_probability).cpu().numpy()


@lru_cache(maxsize=4)
def _script(path: Path, time: int, device: str) -> nn.Module:
    try:
        with warnings.catch_warnings():
            # torch calls it deprecated; networks for masks are still shared so.
            warnings.simplefilter("ignore", FutureWarning)
            return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise PartError(
            f"tissue.weights {path}: no TorchScript file ({first}); for weights of a timm model "
            "name it as tissue.architecture"
        ) from None


@lru_cache(maxsize=4)
def _classifier(name: str, path: Path, time: int, device: str) -> nn.Module:
    if not timm.is_model(name):
        raise PartError(f"tissue.architecture {name!r}: timm has no such model")
    module = timm.create_model(name, pretrained=False, num_classes=2)
    load_weights(module, path)
    return module.eval().to(device)


def _normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    shape = (3, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def _segment(network: nn.Module, image: Tensor, path: Path) -> Tensor:
    """Probability of tissue [h, w]; every window has the same shape, and white beyond the slide."""
    height, width = image.shape[1:]
    found = image.new_zeros(height, width)
    beyond = (MARGIN_PX, MARGIN_PX + WINDOW_PX)
    padded = F.pad(image, (*beyond, *beyond), value=1.0)
    side = WINDOW_PX + 2 * MARGIN_PX
    for y in range(0, height, WINDOW_PX):
        for x in range(0, width, WINDOW_PX):
            window = _normalised(padded[None, :, y : y + side, x : x + side], MEAN, STD)
            part = _probability(network(window), side, path)[MARGIN_PX:, MARGIN_PX:]
            h, w = min(WINDOW_PX, height - y), min(WINDOW_PX, width - x)
            found[y : y + h, x : x + w] = part[:h, :w]
    return found


def _probability(logits: Tensor, side: int, path: Path) -> Tensor:
    if tuple(logits.shape) not in ((1, 1, side, side), (1, 2, side, side)):
        raise PartError(
            f"tissue.weights {path}: gives {list(logits.shape)} for [1, 3, {side}, {side}], "
            f"expected logits [1, 1, {side}, {side}] or [1, 2, {side}, {side}]"
        )
    logits = logits[0].float()
    return logits[0].sigmoid() if len(logits) == 1 else logits.softmax(dim=0)[1]


def _by_patches(module: nn.Module, image: Tensor, side: int) -> Tensor:
    """Probability of tissue [h, w], the same within a patch; white beyond the slide."""
    height, width = image.shape[1:]
    rows, columns = -(-height // side), -(-width // side)
    padded = F.pad(image, (0, columns * side - width, 0, rows * side - height), value=1.0)
    patches = padded.unfold(1, side, side).unfold(2, side, side)
    patches = patches.permute(1, 2, 0, 3, 4).reshape(-1, 3, side, side)
    data = timm.data.resolve_model_data_config(module)
    size = data["input_size"][1:]
    found = []
    for batch in patches.split(BATCH):
        batch = F.interpolate(batch, size, mode="bilinear", antialias=True, align_corners=False)
        logits = module(_normalised(batch, data["mean"], data["std"]))
        found.append(logits.softmax(dim=1)[:, 1])
    grid = torch.cat(found).reshape(rows, columns)
    return grid.repeat_interleave(side, 0).repeat_interleave(side, 1)[:height, :width]
