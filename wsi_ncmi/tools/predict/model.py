"""What predicts: the models of one arm with all that must be known of their bags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsi_ncmi.bags.ordinary import Ordinary
from wsi_ncmi.predictions.conformal import CrossConformal, Validated
from wsi_ncmi.provenance import digest
from wsi_ncmi.tools.predict.ranges import Ranges

PATIENT = "patient"
ONE_SLIDE = "the models were trained on patients: a slide is scored as one of one slide"
FACTS = ("weights_sha256", "input_px", "mean", "std", "resize", "stain", "tile_mpp", "tile_px")
"""Attributes of a bag that must be those of the bags of the training, beside its encoder."""


@dataclass(frozen=True, eq=False)
class Model:
    """An arm that was trained.

    Attributes:
        task, cohort, aggregator, objective: whose it is.
        sample: of the task, `slide` or `patient`.
        classes: in their order.
        encoder: facts of the encoder, as `encoder.json` has them.
        bags: of `FACTS`, what the bags of the training state; what is not known is left out.
        dim: features of a tile.
        contents: of each member's checkpoint, over folds and seeds.
        validated: of each member, what conformal sets need.
        validation: mean macro_f1 and log_loss of the members on validation.
        ordinary: where the bags of the training lie; None: not known.
        notes: what a reader of the predictions should know.
        seen: of the task's slides, over all folds, digests of bags and fingerprints of files.
        ranges: of what the slides of the training look like, see `ranges`; empty: not known.
        sections: the record of how the bags were made, `config.making`; empty: not known.
        metrics: rows of the evaluation on the test part, for the model card.
    """

    task: str
    cohort: str
    aggregator: str
    objective: str
    sample: str
    classes: Sequence[str]
    encoder: Mapping[str, Any]
    bags: Mapping[str, Any]
    dim: int
    contents: Sequence[Mapping[str, Any]]
    validated: Sequence[Validated]
    validation: Mapping[str, float]
    ordinary: Ordinary | None
    notes: Sequence[str] = ()
    seen: Sequence[str] = ()
    ranges: Ranges = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = field(default_factory=list)
    sections: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arm(self) -> str:
        """`aggregator/objective`."""
        return f"{self.aggregator}/{self.objective}"

    @property
    def digest(self) -> str:
        """Of the members' own digests."""
        return digest([content["run"] for content in self.contents])

    @property
    def conformal(self) -> CrossConformal:
        """Prediction sets by the members' validation samples."""
        return CrossConformal(self.validated, len(self.classes))

    @property
    def described(self) -> dict[str, Any]:
        """For the file of predictions."""
        runs = [content["run"] for content in self.contents]
        places = ("fold", "seed", "aggregator", "objective")
        return {
            "task": self.task,
            "cohort": self.cohort,
            "aggregator": self.aggregator,
            "objective": self.objective,
            "classes": list(self.classes),
            "sample": self.sample,
            "digest": self.digest,
            "members": [{name: run[name] for name in places} for run in runs],
            "validation": dict(self.validation),
            "encoder": dict(self.encoder),
            "bags": dict(self.bags),
        }
