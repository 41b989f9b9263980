"""Training on the worst images of a ball around each image, a part of the settings of images."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from wsi_ncmi.config.base import Model

FRACTION = r"^[0-9]+(\.[0-9]+)?/[0-9]*[1-9][0-9]*$"


def as_number(value: Any) -> Any:
    """8/255 as the number that it is; what is no fraction stays."""
    if isinstance(value, str) and re.match(FRACTION, value):
        above, below = value.split("/")
        return float(above) / int(below)
    return value


def _schema(**bounds: float) -> WithJsonSchema:
    """Of a number within bounds, or a fraction."""
    fraction = {"type": "string", "pattern": FRACTION}
    return WithJsonSchema({"anyOf": [{"type": "number", **bounds}, fraction]})


Fractional = Annotated[float, BeforeValidator(as_number), _schema()]
"""A number, or a fraction as the field writes sizes of perturbations."""
Radius = Annotated[float, Field(ge=0), BeforeValidator(as_number), _schema(minimum=0)]
Step = Annotated[float, Field(gt=0), BeforeValidator(as_number), _schema(exclusiveMinimum=0)]


class Adversarial(Model):
    """The inner maximisation of adversarial training (Madry et al. 2018, arXiv 1706.06083)."""

    norm: Literal["linf", "l2"] = Field(
        "linf",
        description=(
            "Norm of the perturbation of an image. `linf`: its largest change of a channel of a "
            "pixel. `l2`: its Euclidean length."
        ),
    )
    radius: Radius = Field(
        "8/255",
        validate_default=True,
        description=(
            "ε, the radius of the ball, 0 or more, where pixels are 0 to 1; a number, or a "
            "fraction such as 8/255. 0: ordinary training."
        ),
    )
    step: Step = Field(
        "2/255",
        validate_default=True,
        description="Length of a step of gradient ascent, above 0, in the norm and unit of ε.",
    )
    steps: int = Field(
        10,
        ge=1,
        description="Steps of gradient ascent for each batch, 1 or more; each costs one "
        "pass through the network and back.",
    )
    random_start: bool = Field(
        True, description="Start at a random point of the ball; `false`: at the image."
    )
