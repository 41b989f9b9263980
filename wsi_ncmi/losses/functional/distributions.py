"""Distributions over the m feature dimensions, as log-probabilities.

Logs are *centred* where they are made here: the log-ratio to the uniform distribution, ln(m·p),
because absolute divergences are 1e-3 and less while ln m is about 6, and float32 has seven digits.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.losses.functional.maps import Map

# m·q − 1 holds no smaller m·q than this with some digits.
SMALLEST_RATIO = {torch.float32: 1e-6, torch.float64: 1e-14}


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


def log_map(activation: Tensor, form: Map) -> Tensor:
    """ln(m·p) of activations [..., m] under either map."""
    return centred(activation) if form == "softmax" else centred_log_nsf(activation)


def log_nsf(activation: Tensor) -> Tensor:
    """ln NSF(a), normalised log-probabilities; [..., m] -> [..., m]."""
    return centred_log_nsf(activation) - math.log(activation.shape[-1])


def log_ratio(excess: Tensor) -> Tensor:
    """Centred logs ln(m·q) from m·q − 1; the floor stands for entries that it cannot hold."""
    floor = SMALLEST_RATIO.get(excess.dtype, SMALLEST_RATIO[torch.float32])
    return torch.log1p(excess.clamp_min(floor - 1))


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
    excess = torch.expm1(log_p)
    sums = excess.new_zeros(classes, log_p.shape[1]).index_add(0, target, excess)
    return sums, excess.new_zeros(classes).index_add(0, target, torch.ones_like(excess[:, 0]))


def class_means(sums: Tensor, counts: Tensor, otherwise: Tensor) -> Tensor:
    """Centred logs of the class means s_y from `class_sums`; absent classes keep `otherwise`.

    [..., C, m], [..., C] and [..., C, m] -> [..., C, m].
    """
    means = log_ratio(sums / counts.clamp_min(1)[..., None])
    return torch.where((counts > 0)[..., None], means, otherwise)
