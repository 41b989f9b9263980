"""FROC as CAMELYON-16 defines it: lesions found at given numbers of false positives a slide.

The challenge's evaluation (camelyon16.grand-challenge.org/Evaluation; Bejnordi et al. 2017, doi
10.1001/jama.2017.14585): a detection is a point with a probability. Outlines of lesions are widened
by 37.5 µm on every side, and those that meet then are one lesion; one whose longest diameter is
then below 275 µm is of isolated tumour cells and counts neither as found nor as missed, nor do
detections in it. Each other lesion takes the highest probability of the detections in it; every
detection in no lesion is a false positive, on all slides, those without a lesion too. Over all
thresholds the sensitivity is read, by linear interpolation, at 1/4, 1/2, 1, 2, 4 and 8 false
positives a slide; the score is the mean of the six.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.evaluation.metrics import Floats, Ints

RATES: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a slide."""
NO_LESION: Final = -1
IGNORED: Final = -2


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one slide.

    Attributes:
        probability: `[D]`, of any scale, larger for surer.
        lesion: in which lesion each lies `[D]`: 0 … L − 1, `NO_LESION`, or `IGNORED`.
        lesions: L, how many the slide has that count.
    """

    probability: Floats
    lesion: Ints
    lesions: int


@dataclass(frozen=True, eq=False)
class Froc:
    """The curve over all thresholds, from the strictest.

    Attributes:
        false_positives: mean number a slide `[T]`, not decreasing.
        sensitivity: share of lesions found `[T]`, not decreasing.
    """

    false_positives: Floats
    sensitivity: Floats

    @property
    def at_rates(self) -> Floats:
        """Sensitivity at `RATES` `[6]`; beyond the curve's end, that of its end."""
        # Of several thresholds of one rate the lowest counts: it finds the most.
        last = np.append(np.diff(self.false_positives) > 0, True)
        return np.interp(RATES, self.false_positives[last], self.sensitivity[last])

    @property
    def score(self) -> float:
        """The challenge's: the mean over `RATES`."""
        return float(self.at_rates.mean())


def froc(slides: Sequence[Detections]) -> Froc:
    """The curve of some slides.

    Raises:
        ValueError: no slide, or none has a lesion that counts.
    """
    total = sum(slide.lesions for slide in slides)
    if not total:
        raise ValueError("FROC needs a lesion: no slide has one that counts")
    found = np.concatenate([_found(slide) for slide in slides])
    wrong = np.concatenate([one.probability[one.lesion == NO_LESION] for one in slides])
    thresholds = np.unique(np.concatenate([found, wrong]))[::-1]
    # The strictest threshold of all lets nothing through: the curve begins at (0, 0).
    return Froc(
        np.concatenate([[0.0], _at_least(wrong, thresholds) / len(slides)]),
        np.concatenate([[0.0], _at_least(found, thresholds) / total]),
    )


def _found(slide: Detections) -> Floats:
    """The highest probability in each lesion that has a detection."""
    best = np.full(slide.lesions, -np.inf)
    inside = slide.lesion >= 0
    np.maximum.at(best, slide.lesion[inside], slide.probability[inside])
    return best[np.isfinite(best)]


def _at_least(values: NDArray[np.floating], thresholds: Floats) -> Ints:
    """How many values are at or above each threshold `[T]`."""
    return np.asarray(len(values) - np.searchsorted(np.sort(values), thresholds, side="left"))
