"""How arms of a comparison are tested against their reference."""

from typing import Literal

from pydantic import Field, model_validator

from wsi_ncmi.config.base import ArmName, Model, Seed


class Family(Model):
    """Which comparisons are one family, whose p-values are adjusted together (Holm)."""

    by: Literal["task", "aggregator", "objective"] = Field(
        "task",
        description=(
            "`task`: all comparisons of a task are one family, of each metric its own. "
            "`aggregator`, `objective`: those of each aggregator or objective are."
        ),
    )
    objectives: list[ArmName] = Field(
        [],
        description=(
            "Objectives whose comparisons belong to the family; `[]`: all. The others are shown "
            "without an adjusted p-value, as explorations."
        ),
    )


class Evaluation(Model):
    """Intervals and tests."""

    primary: Literal["hierarchical_bootstrap", "corrected_t"] = Field(
        "hierarchical_bootstrap",
        description=(
            "The test of a difference. `hierarchical_bootstrap`: over patients and trainings, "
            "needs two seeds (or repeats) or more. `corrected_t`: Nadeau and Bengio's corrected "
            "resampled t over repeats and folds, needs two folds or more."
        ),
    )
    equivalence_margin: float = Field(
        0.01,
        gt=0,
        lt=1,
        description=(
            "Differences of macro-F1 up to this size count as none, above 0 and below 1: what the "
            "tests of equivalence are about."
        ),
    )
    family: Family = Field(Family(), description="Which comparisons are adjusted together.")
    bootstrap: int = Field(
        2000, ge=100, description="Bootstrap resamples of patients, 100 or more."
    )
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description=(
            "Confidence level of all intervals, above 0.5 and below 1. Tests are at the level "
            "that is left: 5 % of 0.95."
        ),
    )
    seed: Seed = Field(0, description="Random seed of the resamples.")
    centre_probe: bool = Field(
        True,
        description=(
            "Measure how well a linear probe on slides' mean features tells centres apart, in "
            "tasks on bags with two centres or more of five patients or more. It reads all bags "
            "once."
        ),
    )
    robustness_index: bool = Field(
        False,
        description=(
            "Beside the probe, the robustness index of croma: whether a slide's neighbours are of "
            "its label or of its centre. Needs `pip install 'wsi-ncmi[croma]'`."
        ),
    )

    @model_validator(mode="after")
    def _check_robustness(self) -> "Evaluation":
        if self.robustness_index and not self.centre_probe:
            raise ValueError(
                "robustness_index is computed beside the probe: set centre_probe: true, or leave "
                "robustness_index out"
            )
        return self
