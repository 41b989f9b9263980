"""timm models with their own classifier on ImageNet's validation images: nothing is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config
from timm.models import is_model_pretrained
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from wsi_ncmi.encoders.weights import load_weights
from wsi_ncmi.errors import PartError
from wsi_ncmi.images.datasets.files.devkit import read_devkit
from wsi_ncmi.images.datasets.files.stored import StoredPixels
from wsi_ncmi.images.datasets.imagenet import validation
from wsi_ncmi.images.datasets.interface import DatasetError, Images

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def imagenet_validation(path: Path) -> Images:
    """ImageNet's validation images, or those of some of its classes.

    Args:
        path: ImageNet's folder, as of the data set `imagenet`: `val/<wnid>/…`, or `val/…` or
            `ILSVRC2012_img_val.tar` with the devkit. Its training part is not looked at.

    Returns:
        Targets are the indices that timm's classifiers have for these synsets.

    Raises:
        DatasetError: there is no validation part, or it has a class that is not ImageNet's.
    """
    return validation(path, synsets(), read_devkit(path))


def synsets() -> list[str]:
    """The 1,000 synsets in the order of timm's classifiers."""
    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_label_name(index) for index in range(info.num_classes())]


def check_models(names: Sequence[str], weights: Path | None) -> None:
    """All that is known of models before one of them is made.

    Args:
        weights: see `load_classifier`.

    Raises:
        PartError: timm has no such model, or no weights of it, or the folder has none.
    """
    for name in names:
        if weights is not None:
            _file(weights, name)
        if name.startswith("hf-hub:"):
            continue
        family = name.split(".")[0]
        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{family[:6]}*")[:5]) or "none is like it"
            raise PartError(f"models: {name!r} is not one of timm's ({near})")
        if weights is None and not is_model_pretrained(name):
            known = ", ".join(timm.list_pretrained(f"{family}*")[:5]) or "none of this model"
            raise PartError(f"models: timm has no weights {name!r}; it has {known}")


def load_classifier(name: str, weights: Path | None, device: torch.device) -> nn.Module:
    """A timm model with its ImageNet classifier, in eval mode.

    Args:
        weights: folder with `<name>.safetensors` (or .pth, .pt, .bin); None: timm's own, which are
            downloaded once.

    Raises:
        PartError: it cannot be made, or its classifier has other classes.
    """
    try:
        module: nn.Module = timm.create_model(name, pretrained=weights is None)
    except Exception as error:  # hubs and constructors raise what they like
        raise PartError(
            f"models: {name} cannot be made: {type(error).__name__}: {error}; without a network "
            "put its weights into a folder and set the option weights"
        ) from error
    if weights is not None:
        load_weights(module, _file(weights, name))
    classes = getattr(module, "num_classes", None)
    if classes != len(synsets()):
        raise PartError(
            f"models: {name} has {classes} classes, expected ImageNet's {len(synsets())}: choose "
            "weights that were trained on ImageNet-1k last"
        )
    return module.to(device).eval()


def _file(folder: Path, name: str) -> Path:
    found = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    there = [path for path in found if path.is_file()]
    if not there:
        names = ", ".join(path.name for path in found)
        raise PartError(f"{folder}: no weights of {name}: expected one of {names}")
    return there[0]


@dataclass(frozen=True)
class _Pictures(Dataset[Any]):
    """Images as a model was evaluated on them by its authors: timm's own transform."""

    pixels: StoredPixels
    transform: Any

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor | DatasetError:
        try:
            # Not pixels[index], which keeps what it decodes: here every image is needed once.
            image = self.pixels.decode(index, self.pixels.raw(index))
        except DatasetError as error:  # a worker would wrap it into a traceback
            return error
        found: Tensor = self.transform(Image.fromarray(image))
        return found


@torch.inference_mode()
def log_probabilities(
    module: nn.Module, images: Images, device: torch.device, batch_size: int, workers: int
) -> NDArray[np.float32]:
    """ln of the classifier's probabilities [n, 1000], as it was published: uncalibrated.

    Args:
        workers: processes that decode.

    Raises:
        DatasetError: an image cannot be decoded.
    """
    transform = create_transform(**resolve_model_data_config(module), is_training=False)
    assert isinstance(images.pixels, StoredPixels)
    loader = DataLoader(
        _Pictures(images.pixels, transform),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_batch,
        pin_memory=device.type == "cuda",
    )
    found = []
    for batch in loader:
        if isinstance(batch, DatasetError):
            raise batch
        logits = module(batch.to(device, non_blocking=True))
        found.append(logits.float().log_softmax(1).cpu().numpy())
    return np.concatenate(found)


def _batch(pictures: Sequence[Tensor | DatasetError]) -> Tensor | DatasetError:
    wrong = [one for one in pictures if isinstance(one, DatasetError)]
    return wrong[0] if wrong else torch.stack([one for one in pictures if isinstance(one, Tensor)])
