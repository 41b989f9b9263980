"""Prediction sets with a stated coverage for an ensemble over folds: cross-conformal, by class.

A set holds every class whose p-value is above 1 − coverage. The p-value of class y is the share of
the validation samples of y, this sample among them, that are at least as strange as it is: a
sample's strangeness is 1 − the probability of the class, and each validation sample is compared by
the model that it validated (cross-conformal: Vovk 2015, Annals of Mathematics and Artificial
Intelligence 74, 9; strangeness: Sadinle, Lei and Wasserman 2019, JASA 114, 223). Each class has
its own samples (class-conditional, "Mondrian": Vovk 2012, ACML), so that the coverage holds for a
rare class too.

MAPIE 1 has neither: its `CrossConformalClassifier` fits its models itself, and it has no
class-conditional sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.evaluation.metrics import log_probabilities

Floats = NDArray[np.float64]
TIE = 1e-6
"""Within which two samples are equally strange: records keep scores in float32."""


@dataclass(frozen=True, eq=False)
class Validated:
    """What a model made of its validation part.

    Attributes:
        fold: whose validation part it is; models of one fold share it.
        targets: [n] int64. strangeness: [n], 1 − the probability of the sample's own class.
    """

    fold: int
    targets: NDArray[np.int64]
    strangeness: Floats

    @classmethod
    def of(cls, fold: int, targets: NDArray[np.int64], scores: NDArray[np.floating]) -> Self:
        """From class log-odds [n, C]."""
        own = np.exp(log_probabilities(scores))[np.arange(len(targets)), targets]
        return cls(fold, targets, 1 - own)

    def of_class(self, index: int) -> Floats:
        """The strangeness of the samples of a class."""
        return self.strangeness[self.targets == index]


class CrossConformal:
    """P-values and sets of an ensemble.

    Args:
        models: of the ensemble, in its order.
        classes: their number C.
    """

    def __init__(self, models: Sequence[Validated], classes: int) -> None:
        self.models, self.classes = models, classes
        folds = [model.fold for model in models]
        # Models of a fold differ by seed: together they count as one, and its samples once.
        self.share = np.array([1 / folds.count(fold) for fold in folds])
        sizes = [[len(model.of_class(y)) for y in range(classes)] for model in models]
        self.samples: Floats = self.share @ np.array(sizes, np.float64)
        self.folds = len(set(folds))

    def p_values(self, probabilities: NDArray[np.floating]) -> Floats:
        """Of each class [C]; 1 for a class that nothing validated.

        Args:
            probabilities: of a sample, by each model [M, C].
        """
        strange = 1 - np.asarray(probabilities, np.float64)
        at_least = [
            [np.count_nonzero(model.of_class(y) >= own[y] - TIE) for y in range(self.classes)]
            for model, own in zip(self.models, strange, strict=True)
        ]
        counted: Floats = self.share @ np.array(at_least, np.float64)
        return (counted + 1) / (self.samples + 1)

    def inside(self, p_values: Floats, coverage: float) -> NDArray[np.bool_]:
        """Which classes are in the set [C]."""
        return np.asarray(p_values > _level(coverage))

    def guaranteed(self, coverage: float) -> Floats:
        """The coverage of each class [C] that is proven.

        Every model's own p-value is valid, and twice a weighted mean of valid p-values is valid
        however they depend on each other (Vovk and Wang 2020, Biometrika 107, 791). Pooling n
        samples of K folds gives p with (n + 1) p + K − 1 = (n + K) × the mean over folds that is
        weighted by n_k + 1. A single model needs no factor of two.
        """
        level, folds = _level(coverage), self.folds
        mean = ((self.samples + 1) * level + folds - 1) / (self.samples + folds)
        return 1 - np.minimum(1, mean * (1 if len(self.models) == 1 else 2))

    def described(self, coverage: float, names: Sequence[str]) -> dict[str, Any]:
        """What is aimed at and what is proven, for people and programs."""
        proven = self.guaranteed(coverage)
        return {
            "method": "cross-conformal, class-conditional, strangeness 1 - probability",
            "coverage": coverage,
            "folds": self.folds,
            "classes": {
                name: {
                    "validation_samples": float(self.samples[y]),
                    "smallest_p": float(1 / (self.samples[y] + 1)),
                    "guaranteed_coverage": float(proven[y]),
                }
                for y, name in enumerate(names)
            },
            "assumptions": ASSUMPTIONS,
        }

    def always_in(self, coverage: float) -> list[int]:
        """Classes with too few validation samples to be left out of any set."""
        smallest = 1 / (self.samples + 1)
        few: list[int] = np.flatnonzero(self.inside(smallest, coverage)).tolist()
        return few


def _level(coverage: float) -> float:
    """1 − coverage, without the last bits by which 1 − 0.9 is below 0.1."""
    return round(1 - coverage, 12)


ASSUMPTIONS = (
    "The coverage aimed at is what such sets usually reach; guaranteed_coverage is what is proven, "
    "if a new slide of a class is exchangeable with the validation samples of that class (one "
    "slide per patient, the same population and laboratory), and if validation had decided "
    "nothing. It fitted the calibration, chose the best arm where none was named, and the epoch "
    "or the setting where those were chosen: the proof is approximate by as much."
)
