"""The scale of scores that fits validation samples best, for many models at once."""

import torch
from torch import Tensor

from wsi_ncmi.losses.distributed import sum_over_ranks
from wsi_ncmi.losses.functional.labels import one_hot

# Of the search, relative to the scores' own range: the optimum lies inside unless scores are worse
# than none.
LOG_SCALE_RANGE = (-10.0, 12.0)
BISECTIONS = 45  # leave 22 · 2^-45: 6e-13


@torch.no_grad()
def fitted_log_scale(
    raw: Tensor, targets: Tensor, n_total: int | Tensor, weights: Tensor | None = None
) -> Tensor:
    """ln s of the scale s under which scores have the highest likelihood of smoothed targets.

    Temperature scaling (Guo et al. 2017, arXiv 1706.04599) with smoothed targets (Platt 1999,
    "Probabilistic outputs for support vector machines"): a sample's class counts (n + 1)/(n + 2),
    which is the mean belief after n right ones of n under a uniform prior, and the other classes
    share the rest. Platt counts each class by itself, having a slope and an offset to fit; the one
    scale here is every sample's, so n counts all of them. Without this, separable validation
    samples have no finite optimum. With many samples it makes no difference: it moves the optimum
    by order 1/n.

    The loss is convex in s, so bisection finds where its derivative Σ_n (E_p[f] − E_t[f]) is zero:
    p = softmax(s f) and t the smoothed target. It computes in float64, a fixed number of steps and
    without a look at values, so that models do not wait for one another or for the device.

    Args:
        raw: scores f [..., n, C] of this process's samples.
        targets: [n] or [..., n] int64.
        n_total: samples of all processes, [...] where they differ.
        weights: [..., n], 1 for samples that count and 0 for others; None: all count.

    Returns:
        [...] float64; 0 where all scores are alike.
    """
    raw = raw.double()
    if weights is None:
        weights = torch.ones_like(raw[..., 0])
    raw = torch.where(weights[..., None] > 0, raw, 0)  # what does not count may be NaN
    total = torch.as_tensor(n_total, dtype=raw.dtype, device=raw.device)
    size = (weights * (raw.amax(-1) - raw.amin(-1))).sum(-1)
    sum_over_ranks(size)
    unit = (size / total).log()
    expected = (weights * _expected(raw, smoothed(targets, raw.shape[-1], total))).sum(-1)
    low, high = (torch.full_like(unit, bound) - unit for bound in LOG_SCALE_RANGE)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        found = _expected(raw, (raw * middle.exp()[..., None, None]).softmax(-1))
        slope = (weights * found).sum(-1) - expected
        sum_over_ranks(slope)
        low, high = torch.where(slope > 0, low, middle), torch.where(slope > 0, middle, high)
    return torch.where(size == 0, 0, (low + high) / 2)


def smoothed(targets: Tensor, classes: int, total: Tensor) -> Tensor:
    """Targets [..., n, C], each 1/(n + 2) short of certain."""
    missing = 1 / (total + 2)[..., None, None]
    return torch.where(one_hot(targets, classes), 1 - missing, missing / (classes - 1))


def _expected(raw: Tensor, weights: Tensor) -> Tensor:
    return (weights * raw).sum(-1)
