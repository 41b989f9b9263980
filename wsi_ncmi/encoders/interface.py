"""What every encoder is: a module and the facts about it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the facts of encoders are read without torch
    from torch import nn


@dataclass(frozen=True)
class Encoder:
    """A frozen network and how tiles are prepared for it.

    Attributes:
        name: what the user asked for.
        description: what it is, in a sentence that stands in the report.
        module: [B, 3, input_px, input_px] normalised floats -> [B, dim].
        dim: D, the width of its features.
        input_px: side of its input in pixels.
        mean, std: of the RGB channels in [0, 1].
        weights_source: where the weights came from.
        weights_sha256: of all tensors of the module in the order of their names.
        mpp: µm/px of the tiles it is meant for (`scale.check_scale`); empty: any.
        licence: of the weights.
        options: what else makes it what it is; part of every bag's digest.
    """

    name: str
    description: str
    module: "nn.Module"
    dim: int
    input_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_source: str
    weights_sha256: str
    mpp: tuple[float, ...]
    licence: str
    options: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """All but the module, for digests, bags and the report."""
        return {
            "name": self.name,
            "description": self.description,
            "dim": self.dim,
            "input_px": self.input_px,
            "mean": list(self.mean),
            "std": list(self.std),
            "weights_source": self.weights_source,
            "weights_sha256": self.weights_sha256,
            "mpp": list(self.mpp),
            "licence": self.licence,
            "options": self.options,
        }
