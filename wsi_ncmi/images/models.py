"""Networks for images, vectors and tokens: our own, and any timm model without its classifier.

Both normalise on the device.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import timm
import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTask
from wsi_ncmi.errors import PartError
from wsi_ncmi.images.kinds import IMAGE, Kind, Size
from wsi_ncmi.losses.functional.precision import at_least_float32, full_precision


class ImageEncoder(nn.Module):
    """A network behind the normalisation of its training data.

    Mean and standard deviation are buffers: a checkpoint carries them.

    Args:
        module: maps [B, 3, h, w] to [B, m].
        mean, std: of the channels in 0..1, or of what the kind has.
        embedding_dim: m.
        size: of a sample. kind: of the samples.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        embedding_dim: int,
        size: Size = (),
        kind: Kind = IMAGE,
    ) -> None:
        super().__init__()
        self.module, self.embedding_dim, self.kind = module, embedding_dim, kind
        for name, values in (("mean", mean), ("std", std)):
            tensor = torch.tensor([float(value) for value in values])
            self.register_buffer(name, tensor.reshape(kind.moments_shape(size)))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, h, w] in 0..255, uint8 or floating, or a batch of another kind.

        Returns:
            embedding [B, m].
        """
        return _embed(self.module, self.kind.normalised(images, self.mean, self.std))

    @property
    def undecayed(self) -> list[nn.Parameter]:
        """Parameters that the model's authors give no weight decay, such as its positions."""
        names: set[str] = getattr(self.module, "no_weight_decay", set)()
        return [p for name, p in self.module.named_parameters() if name in names]


def _embed(module: nn.Module, images: Tensor) -> Tensor:
    """Normalised images [B, 3, h, w] -> embedding [B, m], pooled in float32 under autocast too.

    Every model of timm's is its `forward_head` after its `forward_features`.
    """
    features = module.forward_features(images)  # type: ignore[operator]
    with full_precision(images):
        embedding: Tensor = module.forward_head(_in_float32(features))  # type: ignore[operator]
        return embedding


def _in_float32(features: Any) -> Any:
    """A feature map, or the several of a model with branches."""
    if isinstance(features, Tensor):
        return at_least_float32(features)
    return type(features)(_in_float32(part) for part in features)


def build_network(
    task: ImageTask,
    size: Size,
    mean: Sequence[float],
    std: Sequence[float],
    kind: Kind = IMAGE,
) -> ImageEncoder:
    """The task's network for images of `size` (height, width), or samples of another kind.

    Raises:
        PartError: there is no such model, an option does not suit it, its weights cannot be
            fetched, the small stem is not for it, or it does not take images of this size.
    """
    if task.model in registry.names("network"):
        module = _own(task)
    else:
        module = _create(task)
        if task.small_stem:
            _shrink_stem(module, task)
    dim = _embedding_dim(module, task, size, kind)
    return ImageEncoder(module, mean, std, dim, size, kind)


def _own(task: ImageTask) -> nn.Module:
    if task.pretrained:
        raise PartError(f"model {task.model} has no pretrained weights: set pretrained: false")
    part = registry.load("network", task.model)
    module: nn.Module = part.build(registry.options_of(part, task.model_options))
    return module


def _create(task: ImageTask) -> nn.Module:
    name = task.model
    if not name.startswith("hf-hub:") and not timm.is_model(name):
        own = ", ".join(registry.names("network"))
        near = ", ".join(timm.list_models(f"*{name.split('.')[0][:6]}*")[:5]) or "none is like it"
        raise PartError(f"model {name!r} is not one of timm's ({near}), and none of {own}")
    try:
        module: nn.Module = timm.create_model(
            name, pretrained=task.pretrained, num_classes=0, **task.model_options
        )
    except Exception as error:  # hubs and constructors raise what they like
        hint = "; without a network set pretrained: false" if task.pretrained else ""
        raise PartError(
            f"model {name} cannot be made: {type(error).__name__}: {error}{hint}"
        ) from error
    return module


def _shrink_stem(module: nn.Module, task: ImageTask) -> None:
    """One 3x3 convolution of stride 1 and no pooling, as is usual for CIFAR."""
    if not isinstance(module, ResNet):
        raise PartError(
            f"model {task.model}: small_stem is for ResNets and this is a {type(module).__name__}: "
            "set small_stem: false (and image_size, if the model wants larger images)"
        )
    if task.pretrained:
        raise PartError(
            f"model {task.model}: small_stem would throw the pretrained stem away: set small_stem: "
            "false (and image_size: 224), or pretrained: false"
        )
    stem = [layer for layer in module.conv1.modules() if isinstance(layer, nn.Conv2d)]
    small = nn.Conv2d(3, stem[-1].out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    module.register_module("conv1", small)
    module.register_module("maxpool", nn.Identity())


def _embedding_dim(module: nn.Module, task: ImageTask, size: Size, kind: Kind) -> int:
    # A trial, since not every model says how wide its output is or which sizes it takes.
    module.eval()
    try:
        with torch.no_grad():
            stacked = torch.from_numpy(np.zeros((1, *kind.shape(size)), kind.dtype))
            trial = kind.normalised(kind.batch(stacked), torch.zeros(()), torch.ones(()))
            output = _embed(module, trial)
    except Exception as error:  # each architecture fails in its own way
        remedy = "set image_size" if kind is IMAGE else f"choose a network for a {kind.name}"
        raise PartError(
            f"model {task.model} does not take {kind.described(size)} ({error}): {remedy}"
        ) from error
    if output.ndim != 2:
        raise PartError(
            f"model {task.model} gives {list(output.shape)} for one {kind.name}, expected "
            "[1, m]: choose a model that pools"
        )
    return int(output.shape[1])
