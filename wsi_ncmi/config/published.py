"""Published values that stand beside a task's own in the report."""

from typing import Literal

from pydantic import Field, model_validator

from wsi_ncmi.config.base import ArmName, Model


class PublishedValue(Model):
    """One value that others report under the protocol of a task."""

    method: str = Field(min_length=1, description="Its name in the report.")
    metric: Literal["macro_f1", "accuracy", "balanced_accuracy", "auroc", "quadratic_kappa"] = (
        Field("macro_f1", description="Which metric of the test part it is.")
    )
    value: float = Field(ge=-1, le=1, description="The value, or the lower end of a range.")
    high: float | None = Field(
        None, le=1, description="The upper end of a range, above `value`. `null`: a single value."
    )
    aggregators: list[str] = Field(
        [],
        description=(
            "Labels of the aggregators beside which it stands (of images: the model). None: all."
        ),
    )
    objectives: list[ArmName] = Field(
        [], description="Labels of the objectives beside which it stands. None: all."
    )
    source: str = Field(
        min_length=1,
        description="Where it stands, and what is not as here: the report shows it.",
    )

    @model_validator(mode="after")
    def _check_range(self) -> "PublishedValue":
        if self.high is not None and self.high <= self.value:
            raise ValueError(f"high: found {self.high}, expected more than value, {self.value}")
        return self
