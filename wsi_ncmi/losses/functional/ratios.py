"""CMI, and NCMI by its three reductions."""

from typing import Literal

import torch
from torch import Tensor

from wsi_ncmi.losses.functional.distributions import class_means, class_sums
from wsi_ncmi.losses.functional.divergences import kl_own_class

Reduction = Literal["mean_of_ratios", "ratio_of_means", "ema_ratio"]


def cmi(log_p: Tensor, target: Tensor, classes: int) -> Tensor:
    """I(X; P | Y) of a sample: the mean of KL(p_n ‖ s_{y_n}), s_y the class means themselves.

    The class means are the q for which the mean of KL(p_n ‖ q_{y_n}) is the smallest.

    Args:
        log_p: [B, m] centred. target: [B] integers. classes: C.

    Returns:
        A scalar, in nats.
    """
    sums, counts = class_sums(log_p, target, classes)
    means = class_means(sums, counts, torch.zeros_like(sums))
    return kl_own_class(log_p, means, target).mean()


def ncmi(
    a: Tensor,
    b: Tensor,
    reduction: Reduction = "mean_of_ratios",
    weights: Tensor | None = None,
    averages: Tensor | None = None,
) -> Tensor:
    """The loss from the terms of every sample.

    * `mean_of_ratios`: mean of π_n·a_n / b_n, as the published code; finite at one sample.
    * `ratio_of_means`: mean of π·a over mean of π·b, the literal quotient.
    * `ema_ratio`: the value R = Ā/Γ̄ of running means and the gradient (∇a − R·∇b)/Γ̄ of the batch's
      means, so that small batches follow the large-batch quotient.

    Args:
        a, b: [B], of `kl_own_class` and `separation`, or of `ncmi_terms`.
        weights: π [B], of the classes' prior; None: 1.
        averages: (Ā, Γ̄) [2] without gradient, for `ema_ratio`.

    Raises:
        ValueError: `ema_ratio` without averages.
    """
    weighted = a if weights is None else weights * a
    if reduction == "mean_of_ratios":
        return (weighted / b).mean()
    mean_a = weighted.mean()
    mean_b = (b if weights is None else weights * b).mean()
    if reduction == "ratio_of_means":
        return mean_a / mean_b
    if averages is None:
        raise ValueError("ema_ratio needs averages (Ā, Γ̄): a tensor of two values, found None")
    ratio = averages[0] / averages[1]
    gradient = (mean_a - ratio * mean_b) / averages[1]
    return ratio + gradient - gradient.detach()
