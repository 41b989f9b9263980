"""What a training loop is given: a network that embeds, and data in batches."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from wsi_ncmi.aggregators.interface import Auxiliary, AuxiliaryLoss

# Of a batch, what a network takes: packed bags, or images.
Inputs = Any


class Embedded(NamedTuple):
    """What a network makes of a batch of B samples.

    Attributes:
        embedding: [B, m], float32 or float64.
        auxiliary: losses beside the samples' own, by name; only where targets were given.
        penalty: a scalar that is added to the loss, or None.
        weight: of the samples' own loss.
    """

    embedding: Tensor
    auxiliary: Mapping[str, AuxiliaryLoss] = {}
    penalty: Tensor | None = None
    weight: float = 1.0


class Network(nn.Module, ABC):
    """Anything that embeds inputs.

    Attributes:
        precision: in which the loop runs it, `fp32`, `bf16` or `fp16`; `fit` sets it.
        takes_tensors: its inputs are a tensor [B, ...], of one shape but for B.
    """

    embedding_dim: int
    precision: str = "fp32"
    takes_tensors: bool = False

    @abstractmethod
    def forward(self, inputs: Inputs, targets: Tensor | None = None) -> Embedded: ...

    @property
    def auxiliaries(self) -> Mapping[str, Auxiliary]:
        """The auxiliary losses that it gives, by name."""
        return {}

    def undecayed(self) -> Sequence[nn.Parameter]:
        """Parameters of two dimensions or more that take no weight decay."""
        return ()

    def end_step(self) -> None:
        """After every optimiser step."""


class Data(Protocol):
    """Where a loop's batches come from, on the loop's device."""

    def steps_per_epoch(self) -> int: ...

    def training(self, epoch: int, first: int = 0) -> Iterator[tuple[Inputs, Tensor]]:
        """One epoch of training batches from a step on: inputs and int64 targets."""
        ...

    def evaluation(self, part: str) -> Iterator[tuple[Inputs, Tensor]]:
        """A part (train, val, test) in its fixed order, nothing augmented."""
        ...

    def augmented(self) -> Iterator[tuple[Inputs, Tensor]]:
        """The training part in its fixed order, each sample augmented once as in training."""
        ...


@dataclass(frozen=True)
class Validation:
    """How an epoch did on the validation part."""

    macro_f1: float
    loss: float

    def better_than(self, other: "Validation | None") -> bool:
        """By macro-F1, then by the temperature-fitted log-likelihood; never by a raw loss."""
        if other is None:
            return True
        return (self.macro_f1, -self.loss) > (other.macro_f1, -other.loss)
