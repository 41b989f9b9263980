"""Divergences between distributions: every one in a form that keeps float32's digits."""

from typing import Literal

import torch
from torch import Tensor

from wsi_ncmi.losses.functional.distributions import centred, log_ratio
from wsi_ncmi.losses.functional.precision import full_precision

Direction = Literal["kl_q_p", "kl_p_q"]
# Where |ln q - ln p| is below, e^s - 1 - s is a series: there its three terms cancel. The bound
# balances the series' first missing term with what the cancellation leaves of the digits.
SERIES_BELOW = {torch.float32: 0.3, torch.float64: 0.012}


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) along the last dimension, every term of it non-negative.

    Σ p·(e^s − 1 − s) with s = ln q − ln p, its second-order form: a series where |s| is small,
    q − p − p·s elsewhere, which cannot overflow.

    Args:
        log_p, log_q: broadcastable to [..., m], both normalised or both centred.

    Returns:
        [...] divergences in nats, relative error about 1e-5 in float32 down to 1e-7 nats.
    """
    s = log_q - log_p
    p, q = torch.softmax(log_p, -1), torch.softmax(log_q, -1)
    near = s.abs() < series_below(s)
    small = torch.where(near, s, torch.zeros_like(s))
    return torch.where(near, p * second_order(small), q - p - p * s).sum(-1)


def series_below(s: Tensor) -> float:
    """The bound of the series for a dtype."""
    return SERIES_BELOW.get(s.dtype, SERIES_BELOW[torch.float32])


def second_order(s: Tensor) -> Tensor:
    """e^s − 1 − s for small |s|, by its series to the sixth power."""
    return s * s * (s * (s * (s * (s / 720 + 1 / 120) + 1 / 24) + 1 / 6) + 0.5)


def kl_own_class(log_p: Tensor, log_q: Tensor, target: Tensor) -> Tensor:
    """KL(p_n ‖ q_{y_n}) of every sample.

    Args:
        log_p: [B, m]. log_q: [C, m]. target: [B] integers.

    Returns:
        [B].
    """
    return kl(log_p, log_q[target])


def separation(
    log_p: Tensor,
    log_q: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    direction: Direction = "kl_q_p",
) -> Tensor:
    """Each sample's part of Γ over the other classes, without any B × C × m.

    `kl_q_p`: Σ_{v≠y} w_v · KL(q_v ‖ p), the published code's. The compensation identity makes it
    W_y·KL(q̄_y ‖ p) + J_y, where W_y = Σ_{v≠y} w_v, q̄_y is the weighted arithmetic mean of the other
    classes and J_y = Σ_{v≠y} w_v KL(q_v ‖ q̄) − W_y·KL(q̄_y ‖ q̄), with q̄ the mean of all.

    `kl_p_q`: Σ_{v≠y} w_v · KL(p ‖ q_v), the numerator's direction. The same identity holds with
    geometric means and both divergences turned round.

    Args:
        log_p: [B, m] centred. log_q: [C, m] centred. target: [B] integers.
        weights: [C], or None for 1/C each.

    Returns:
        [B].
    """
    classes = log_q.shape[0]
    if weights is None:
        weights = log_q.new_full((classes,), 1 / classes)
    others = weights.sum() - weights  # W_y, [C]
    mean_of_all, mean_of_others = _MEANS[direction](log_q, weights, others)
    if classes == 2:  # the other class itself, in all its digits
        mean_of_others = log_q.flip(0)
    if direction == "kl_q_p":
        spread, shift = kl(log_q, mean_of_all), kl(mean_of_others, mean_of_all)
        distance = kl(mean_of_others[target], log_p)
    else:
        spread, shift = kl(mean_of_all, log_q), kl(mean_of_all, mean_of_others)
        distance = kl(log_p, mean_of_others[target])
    spread = weights * spread
    constant = spread.sum() - spread - others * shift
    # With two classes a difference would be rounding noise.
    constant = torch.zeros_like(constant) if classes == 2 else constant.clamp_min(0)
    return others[target] * distance + constant[target]


def _arithmetic_means(log_q: Tensor, weights: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    excess = torch.expm1(log_q) * weights[:, None]
    total = excess.sum(0)
    return log_ratio(total / weights.sum()), log_ratio((total - excess) / others[:, None])


def _geometric_means(log_q: Tensor, weights: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    weighted = log_q * weights[:, None]
    total = weighted.sum(0)
    return centred(total / weights.sum()), centred((total - weighted) / others[:, None])


_MEANS = {"kl_q_p": _arithmetic_means, "kl_p_q": _geometric_means}


def kl_all_classes(log_p: Tensor, log_q: Tensor, direction: Direction = "kl_p_q") -> Tensor:
    """KL(p_n ‖ q_y), or KL(q_y ‖ p_n), of every sample and class by one matrix product.

    It is exact to about 1e-6 nats in float32, and to 1e-15 in float64, in which inference calls it.

    Args:
        log_p: [B, m] centred. log_q: [C, m] centred.

    Returns:
        [B, C].
    """
    if direction == "kl_q_p":
        return kl_all_classes(log_q, log_p).transpose(-1, -2)
    with full_precision(log_p):
        p = torch.softmax(log_p, -1)
        return (p * log_p).sum(-1, keepdim=True) - p @ log_q.transpose(-1, -2)


def pairwise_cross_entropy(log_p: Tensor, target: Tensor) -> Tensor:
    """Each sample's part of CMIC-DL's Γ: the mean over the batch of 1{y_n ≠ y_u}·H(p_n, p_u).

    H(p, u) = −Σ p ln u (CMIC-DL, arXiv 2309.09123). The mean over samples is E[1{Y≠V} H(P_X, P_U)]
    with (U, V) an independent copy.

    Args:
        log_p: [B, C] normalised. target: [B] integers.

    Returns:
        [B].
    """
    negative = target[:, None] != target[None, :]
    with full_precision(log_p):
        cross_entropy = -(log_p.exp() @ log_p.transpose(-1, -2))
    return torch.where(negative, cross_entropy, torch.zeros_like(cross_entropy)).mean(-1)
