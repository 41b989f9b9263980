"""What `predict` writes: `predictions.tsv` for people, `predictions.json` for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsi_ncmi.files.atomic import write_json
from wsi_ncmi.files.table import DIGITS, write_table

FORMAT, VERSION = "wsi-ncmi predictions", 1
OK, REFUSED = "ok", "refused"
BETWEEN = " | "
"""Between the classes of a set in the table."""


@dataclass(frozen=True)
class Prediction:
    """What is predicted for a slide or a patient, or why nothing is.

    Attributes:
        slide_id: of the slide; where patients are scored, the patient's id.
        reason: why it is refused; of a patient that is scored, which slides are left out and why.
        probabilities, spread, p_values: class -> value.
        classes: of the prediction set, in their order.
        distance: from the bags of the training, see `bags.ordinary`; None: not known.
        unusual: what is out of the ordinary.
        bag: digest of its features.
        attention: files, one for each of its slides, relative to the output; none: the models do
            not attend, or the places of the tiles are not known.
        slides: that were scored together: itself, or those of a patient.
    """

    slide_id: str
    status: str
    reason: str = ""
    tiles: int = 0
    predicted: str = ""
    classes: Sequence[str] = ()
    probabilities: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    p_values: Mapping[str, float] = field(default_factory=dict)
    distance: float | None = None
    unusual: Sequence[str] = ()
    bag: str = ""
    attention: Sequence[str] = ()
    slides: Sequence[str] = ()

    @property
    def record(self) -> dict[str, Any]:
        """As the JSON has it."""
        return {
            "slide_id": self.slide_id,
            "status": self.status,
            "reason": self.reason,
            "tiles": self.tiles,
            "predicted": self.predicted or None,
            "prediction_set": list(self.classes),
            "probabilities": dict(self.probabilities),
            "spread": dict(self.spread),
            "p_values": dict(self.p_values),
            "distance": self.distance,
            "unusual": list(self.unusual),
            "bag": self.bag,
            "attention": list(self.attention),
            "slides": list(self.slides),
        }


def document(
    model: Mapping[str, Any],
    conformal: Mapping[str, Any],
    notes: Sequence[str],
    found: Sequence[Prediction],
) -> dict[str, Any]:
    """The content of `predictions.json`."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": dict(model),
        "conformal": dict(conformal),
        "notes": list(notes),
        "slides": [one.record for one in found],
    }


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Both files, each whole or as it was; the JSON last."""
    classes = content["model"]["classes"]
    columns = ["slide_id", "status", "reason", "tiles", "predicted", "prediction_set"]
    values = [("prob", "probabilities"), ("sd", "spread"), ("p", "p_values")]
    columns += [f"{short}_{name}" for short, _ in values for name in classes]
    columns += ["distance", "unusual", "bag", "slides"]
    rows = [
        [
            *(one[name] for name in columns[:5]),
            BETWEEN.join(one["prediction_set"]),
            *(one[key].get(name) for _, key in values for name in classes),
            one["distance"],
            "; ".join(one["unusual"]),
            one["bag"],
            BETWEEN.join(one["slides"]),
        ]
        for one in content["slides"]
    ]
    write_table(folder / "predictions.tsv", columns, rows, DIGITS)
    write_json(folder / "predictions.json", content)
