"""What models make of annotated lesions: FROC of attention, and recall by the lesion's size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from wsi_ncmi.evaluation.froc import RATES, Detections, froc

ARM = ["aggregator", "objective"]
FROC_COLUMNS = [*ARM, "slides", "lesions", "score", *(f"at_{rate:g}" for rate in RATES)]
SIZE_COLUMNS = [*ARM, "largest lesion", "slides", "detected", "recall"]
SIZES = ((200.0, "up to 0.2 mm"), (2000.0, "0.2 to 2 mm"), (float("inf"), "over 2 mm"))
"""Upper ends in µm: the limits of isolated tumour cells and of micrometastases."""


@dataclass(frozen=True)
class Judged:
    """One arm's verdict on one slide.

    Attributes:
        detected: whether it is called any class but the first; right: whether its own class.
        detections: None: the slide's lesions are not known.
        longest_um: longest diameter of its largest lesion; 0: it has none that is annotated.
    """

    aggregator: str
    objective: str
    detected: bool
    right: bool
    detections: Detections | None = None
    longest_um: float = 0.0


def froc_table(found: Iterable[Judged]) -> pd.DataFrame:
    """Sensitivity at each rate of false positives and the score, by arm; none without a lesion."""
    rows = []
    for key, own in _by_arm(found).items():
        slides = [one.detections for one in own if one.detections is not None]
        lesions = sum(one.lesions for one in slides)
        if lesions:
            curve = froc(slides)
            rows.append([*key, len(slides), lesions, curve.score, *curve.at_rates])
    return pd.DataFrame(rows, columns=FROC_COLUMNS)


def size_table(found: Iterable[Judged]) -> pd.DataFrame:
    """Slides with an annotated lesion by its size: how many are found, and called their class."""
    rows = []
    for key, own in _by_arm(found).items():
        for (low, _), (high, name) in zip(((0.0, ""), *SIZES), SIZES, strict=False):
            part = [one for one in own if low < one.longest_um <= high]
            if part:
                detected, right = (sum(one.detected for one in part), sum(o.right for o in part))
                rows.append([*key, name, len(part), detected / len(part), right / len(part)])
    return pd.DataFrame(rows, columns=SIZE_COLUMNS)


def _by_arm(found: Iterable[Judged]) -> Mapping[tuple[str, str], Sequence[Judged]]:
    arms: dict[tuple[str, str], list[Judged]] = {}
    for one in found:
        arms.setdefault((one.aggregator, one.objective), []).append(one)
    return arms
