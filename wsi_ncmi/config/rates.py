"""`training.learning_rate: auto`: a rate that suits the number of optimiser steps."""

import math
from typing import Literal

AUTO: Literal["auto"] = "auto"
FACTOR = 0.03
SMALLEST, LARGEST = 1e-4, 3e-3
DIGITS = (1, 2, 3, 5, 10)


def auto_rate(steps: int) -> float:
    """0.03 / √steps, within 1e-4 and 3e-3, rounded to 1, 2, 3 or 5 times a power of ten.

    Folds whose sizes differ by a sample have one rate so. Few large steps and many small ones then
    both train: docs/evidence.md has the trainings on real bags from which the factor comes.

    Args:
        steps: of the whole training, 1 or more.
    """
    wanted = min(LARGEST, max(SMALLEST, FACTOR / math.sqrt(steps)))
    power = 10.0 ** math.floor(math.log10(wanted))
    nearest = min(DIGITS, key=lambda digit: abs(math.log(wanted / power / digit)))
    return float(f"{nearest * power:.0e}")


def steps_of(samples: int, epochs: int, batch_size: int) -> int:
    """Optimiser steps of a training."""
    return epochs * -(-samples // batch_size)
