"""Pure functions of the information-theoretic losses, on log-probabilities.

Notation: B samples, C classes, m feature dimensions; p is a sample's distribution over the m
dimensions, q a class's. Logs are *centred* where they are made here: the log-ratio to the uniform
distribution, ln(m·p), because absolute divergences are 1e-3 and less while ln m is about 6, and
float32 has seven digits. Every function that takes logs accepts normalised ones as well.

Source: the NCMI paper, arXiv 2601.02543; numerics derived and measured in docs/method.md.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Below this |ln p - ln q| the second-order form is a series: its two terms cancel there.
SERIES_BELOW = {torch.float32: 0.03, torch.float64: 1e-3}
DIRECT_BELOW = 20.0
SMALLEST_RATIO = 1e-6


def centred_log_nsf(activation: Tensor) -> Tensor:
    """ln(m · NSF(a)), the normalised sigmoid against the uniform distribution.

    NSF(a)_i = σ(a_i) / Σ_j σ(a_j), so ln NSF(a) = log_softmax(logsigmoid(a)) exactly.

    Args:
        activation: [..., m].

    Returns:
        [..., m] centred logs: the mean of their exponentials is 1.
    """
    return centred(F.logsigmoid(activation))


def centred(logs: Tensor) -> Tensor:
    """Unnormalised logs [..., m] -> ln(m·p): mean taken off first, so that digits are kept."""
    shifted = logs - logs.mean(-1, keepdim=True)
    return shifted - (torch.logsumexp(shifted, -1, keepdim=True) - math.log(logs.shape[-1]))


def log_nsf(activation: Tensor) -> Tensor:
    """ln NSF(a), normalised log-probabilities; [..., m] -> [..., m]."""
    return centred_log_nsf(activation) - math.log(activation.shape[-1])


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) along the last dimension, every term of it non-negative.

    Σ q·(d·e^d − expm1(d)) with d = ln p − ln q; a series where |d| is small (its terms cancel),
    p·d − p + q where e^d would overflow.

    Args:
        log_p, log_q: broadcastable to [..., m], both normalised or both centred.

    Returns:
        [...] divergences in nats, relative error about 1e-5 in float32 down to 1e-6 nats.
    """
    d = log_p - log_q
    p, q = torch.softmax(log_p, -1), torch.softmax(log_q, -1)
    size = d.abs()
    near = torch.where(size < DIRECT_BELOW, d, torch.zeros_like(d))
    series = near * near * (0.5 + near * (1 / 3 + near / 8))
    direct = near * near.exp() - torch.expm1(near)
    second_order = torch.where(size < SERIES_BELOW.get(d.dtype, 0.03), series, direct)
    return torch.where(size < DIRECT_BELOW, q * second_order, p * d - p + q).sum(-1)


def kl_own_class(log_p: Tensor, log_q: Tensor, target: Tensor) -> Tensor:
    """KL(p_n ‖ q_{y_n}) of every sample.

    Args:
        log_p: [B, m]. log_q: [C, m]. target: [B] integers.

    Returns:
        [B].
    """
    return kl(log_p, log_q[target])


def separation(
    log_p: Tensor, log_q: Tensor, target: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Each sample's part of Γ: Σ_{v≠y} w_v · KL(q_v ‖ p), without any B × C × m.

    The compensation identity: Σ_{v≠y} w_v KL(q_v‖p) = W_y·KL(q̄_y‖p) + J_y, where q̄_y is the
    weighted mean of the other classes and J_y = Σ_{v≠y} w_v KL(q_v‖q̄) − W_y·KL(q̄_y‖q̄), with q̄
    the mean of all.

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
    excess = torch.expm1(log_q) * weights[:, None]
    log_mean = log_ratio(excess.sum(0) / weights.sum())
    log_others = log_ratio((excess.sum(0) - excess) / others[:, None])
    spread = weights * kl(log_q, log_mean)
    constant = spread.sum() - spread - others * kl(log_others, log_mean)
    # With two classes the only other one is its own mean; a difference would be rounding noise.
    constant = torch.zeros_like(constant) if classes == 2 else constant.clamp_min(0)
    return others[target] * kl(log_others[target], log_p) + constant[target]


def log_ratio(excess: Tensor) -> Tensor:
    """Centred logs ln(m·q) from m·q − 1; the floor stands for entries that float32 cannot hold."""
    return torch.log1p(excess.clamp_min(SMALLEST_RATIO - 1))


def kl_all_classes(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p_n ‖ q_y) of every sample and class by one matrix product, for inference.

    Args:
        log_p: [B, m] centred. log_q: [C, m] centred.

    Returns:
        [B, C].
    """
    p = torch.softmax(log_p, -1)
    return (p * log_p).sum(-1, keepdim=True) - p @ log_q.T


def unit_vectors(values: Tensor) -> Tensor:
    """Rows of length one: [..., m] -> [..., m]; a zero row stays zero and gets no gradient."""
    # The length does not depend on the scale, which is taken out before squares overflow.
    scale = values.detach().abs().amax(-1, keepdim=True)
    zero = scale == 0  # not `scale > 0`: NaN is to stay NaN
    scaled = values / torch.where(zero, torch.ones_like(scale), scale)
    length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    unit = scaled / torch.where(zero, torch.ones_like(length), length)
    return torch.where(zero, torch.zeros_like(unit), unit)


def class_sums(log_p: Tensor, target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Sum over each class's samples of m·p − 1, and how many they are.

    Returns:
        [C, m] and [C]; a class without samples has zeros.
    """
    hot = F.one_hot(target, classes).to(log_p.dtype)
    return hot.T @ torch.expm1(log_p), hot.sum(0)


def class_means(sums: Tensor, counts: Tensor, otherwise: Tensor) -> Tensor:
    """Centred logs of the class means s_y from `class_sums`; absent classes keep `otherwise`."""
    means = log_ratio(sums / counts.clamp_min(1)[:, None])
    return torch.where((counts > 0)[:, None], means, otherwise)
