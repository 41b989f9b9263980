"""What every aggregator takes and returns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from wsi_ncmi.aggregators.bags import BagBatch


@dataclass(frozen=True)
class Auxiliary:
    """What an aggregator says beforehand of one of its auxiliary losses.

    Its training makes a second objective of the arm's own kind for it, so that it is learnt under
    NCMI as under cross-entropy.

    Attributes:
        dim: width of its embedding.
        classes: number of its pseudo-targets' classes.
        scores: the embedding is `classes` class scores of a layer of the aggregator: an objective
            with a linear head takes them as they are.
    """

    dim: int
    classes: int
    scores: bool = False


class AuxiliaryLoss(NamedTuple):
    """An auxiliary loss of a step: weight · objective(embedding, target).

    Attributes:
        embedding: [n, dim], float32 (or float64); n need not be the number of bags.
        target: [n] int64, pseudo-targets.
        weight: of the loss beside the bag's, a number or a scalar tensor.
    """

    embedding: Tensor
    target: Tensor
    weight: float | Tensor


class BagOutput(NamedTuple):
    """An aggregator's output for B bags of T instances.

    Attributes:
        embedding: [B, m], what an objective takes: float32 (or float64), also under autocast.
        attention: [T, K] weights, non-negative and summing to 1 over each bag's instances for each
            of K heads.
        instance_embedding: [T, d], what was pooled; None: the features themselves.
        auxiliary: losses beside the bag's by name, where targets were given.
        penalty: a scalar that is added to the loss under every objective, or None.
        bag_weight: of the bag's own loss beside the auxiliary ones.
    """

    embedding: Tensor
    attention: Tensor
    instance_embedding: Tensor | None = None
    auxiliary: Mapping[str, AuxiliaryLoss] = {}
    penalty: Tensor | None = None
    bag_weight: float = 1.0


class Aggregator(nn.Module, ABC):
    """A module over packed bags.

    `forward` must work under `torch.func.vmap` over stacked parameters: many models train in one
    pass. Branch on `bags.sizes`, never on values of a tensor that depends on parameters; no
    `.item()`, no indexing by a boolean mask, no tensor written in place that parameters do not
    reach. Its random numbers come from torch's global generator alone and have shapes that depend
    on the bags alone: paired arms share them. On a GPU dropout draws its mask in the order of
    memory, which `einsum` chooses and a stack may change: make what it is given `contiguous()`.

    Under autocast, layers on instances may run in bf16; from the pooling on it computes in float32
    (`pooling_precision`). An objective takes a centre off the embedding and looks at what remains,
    in which a rounding to bf16 is a hundred times as large.
    """

    embedding_dim: int
    """m, the width of `BagOutput.embedding`."""

    permutation_invariant: ClassVar[bool] = True
    """Whether, in eval mode, the order of a bag's instances changes nothing."""

    has_attention: ClassVar[bool] = False
    """Whether `attention` is learnt, and so worth a heatmap."""

    is_mapped: ClassVar[bool] = True
    """Whether many models are mapped over together. Where a kernel has no rule for it, they are
    computed one after another."""

    joins_streams: ClassVar[bool] = False
    """Whether bags of several streams can be mapped over, one model each (`StreamBags`): `forward`
    asks for no sizes and splits nothing, draws by `Dropout` alone, has no buffers, and gives its
    auxiliary losses a row for each bag."""

    class_blocks: ClassVar[bool] = False
    """Whether the embedding is C blocks of equal width, one for each class."""

    @property
    def instance_dim(self) -> int:
        """Width of what is computed of each instance: how many models fit into a pass."""
        return self.embedding_dim

    @property
    def auxiliaries(self) -> Mapping[str, Auxiliary]:
        """The auxiliary losses by name; `forward` gives each of them in training."""
        return {}

    @abstractmethod
    def forward(self, bags: BagBatch, targets: Tensor | None = None) -> BagOutput:
        """Embed bags.

        Args:
            targets: [B] int64, the bags' classes, for auxiliary losses alone; None: there are none.
        """

    def end_step(self) -> None:
        """After every optimiser step, without gradients: buffers that follow parameters move."""


def pooling_precision(values: Tensor) -> AbstractContextManager[Any]:
    """Autocast off on the device of the values; pass what is pooled through `at_least_float32`."""
    return torch.autocast(values.device.type, enabled=False)


def at_least_float32(values: Tensor) -> Tensor:
    """bf16 and fp16 become float32; float32 and float64 stay."""
    return values if values.dtype == torch.float64 else values.float()
