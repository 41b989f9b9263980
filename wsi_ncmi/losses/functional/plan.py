"""What is asked of one evaluation of NCMI of few classes."""

from dataclasses import dataclass

from wsi_ncmi.losses.functional.problem import Forms
from wsi_ncmi.losses.functional.ratios import Reduction

EMBEDDING, TEMPERATURE, CLASSES = 0, 2, 3  # places of the arguments


@dataclass(frozen=True)
class Plan:
    """What is asked of one evaluation, alike for all models of a stack.

    Attributes:
        decay: of the running means, for `ema_ratio`; else 0.
        weighted: whether samples are weighted by their class's π.
        embedding, temperature, classes: whether each gets a gradient.
        separation: whether the classes' gradient runs through b as well as through a.
        observed: whether class sums are asked for.
    """

    forms: Forms
    reduction: Reduction
    decay: float = 0.0
    weighted: bool = False
    embedding: bool = True
    temperature: bool = False
    classes: bool = True
    separation: bool = True
    observed: bool = True

    @property
    def learnt(self) -> list[int]:
        """Which arguments get a gradient."""
        flags = {EMBEDDING: self.embedding, TEMPERATURE: self.temperature, CLASSES: self.classes}
        return [place for place, learns in flags.items() if learns]

    @property
    def runs(self) -> bool:
        """Whether the reduction has running means."""
        return self.reduction == "ema_ratio"
