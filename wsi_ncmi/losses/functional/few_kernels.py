"""Triton's kernels of `few_triton`: NCMI of few classes; `few` has the equations.

Of arrays they take pointers; those with more than one row lie row by row. m is the number of
dimensions, B of samples, C of classes; M, the next power of two over m, is what a program holds.
They keep NaN as torch does, so that a training that has diverged is seen to have.
"""

import triton
import triton.language as tl


@triton.jit
def _mapped(x, mask, m, NSF: tl.constexpr, LOWEST: tl.constexpr):
    """σ (or exp) of activations, m·p and ln(m·p); zeros outside of the mask."""
    if not NSF:
        x = x - tl.max(tl.where(mask, x, float("-inf")), 0)
    x = tl.where(x < LOWEST, LOWEST, x)  # tl.maximum would lose NaN
    e = tl.exp(x)
    if NSF:
        e = 1.0 / (1.0 + tl.exp(-x))
    weight = tl.where(mask, e, 0.0)
    ratio = weight / (tl.sum(weight, 0) / m)
    log = tl.where(mask, tl.log(tl.where(mask, ratio, 1.0)), 0.0)
    return weight, ratio, log


@triton.jit
def of_classes(
    xi, q_weight, q_ratio, q_log, m, NSF: tl.constexpr, LOWEST: tl.constexpr, M: tl.constexpr
):
    """Of one class: σ (or exp) of its activations, m·q and ln(m·q)."""
    row = tl.program_id(0)
    column = tl.arange(0, M)
    mask = column < m
    x = tl.load(xi + row * m + column, mask, 0.0).to(tl.float64)
    weight, ratio, log = _mapped(x, mask, m, NSF, LOWEST)
    place = row * m + column
    tl.store(q_weight + place, weight, mask)
    tl.store(q_ratio + place, ratio, mask)
    tl.store(q_log + place, log, mask)


@triton.jit
def of_samples(
    z,
    centre,
    temperature,
    target,
    weights,
    prior,
    q_log,
    p_ratio,
    of_sample,
    by_z,
    m,
    B,
    C,
    FLOOR: tl.constexpr,
    NSF: tl.constexpr,
    LOWEST: tl.constexpr,
    WEIGHTED: tl.constexpr,
    EMBEDDING: tl.constexpr,
    KEEP: tl.constexpr,
    M: tl.constexpr,
):
    """Of one sample: m·p, its row of `of_sample` and the gradient by its embedding.

    of_sample [6, B]: m·a, m·b, a/b · 1/B (or π/B), the derivatives by m·a and by m·b, that by τ.
    """
    row = tl.program_id(0)
    column = tl.arange(0, M)
    mask = column < m
    place = row * m + column
    tau = tl.load(temperature).to(tl.float64)
    shifted = tl.load(z + place, mask, 0.0).to(tl.float64) - tl.load(centre + column, mask, 0.0).to(
        tl.float64
    )
    square = tl.sum(shifted * shifted, 0)
    length = tl.where(square == 0, float("inf"), tl.sqrt(square))
    divisor = length * tau
    weight, ratio, log = _mapped(shifted / divisor, mask, m, NSF, LOWEST)
    information = tl.sum(ratio * log, 0)
    own = tl.load(target + row)
    a = information * 0.0
    b = information * 0.0
    others = information * 0.0
    for v in range(C):
        log_q = tl.load(q_log + v * m + column, mask, 0.0)
        divergence = information - tl.sum(ratio * log_q, 0)
        w = tl.load(weights + v).to(tl.float64)
        is_own = v == own
        a += tl.where(is_own, divergence, 0.0)
        b += tl.where(is_own, 0.0, w * divergence)
        others += tl.where(is_own, 0.0, w)
    b = tl.where(b < others * FLOOR, others * FLOOR, b)
    f = 1.0 / (b * B)
    if WEIGHTED:
        f = f * tl.load(prior + own, (own >= 0) & (own < C), 0.0).to(tl.float64)
    each = a * f
    g = -each / b
    tl.store(of_sample + row, a)
    tl.store(of_sample + B + row, b)
    tl.store(of_sample + 2 * B + row, each)
    tl.store(of_sample + 3 * B + row, f)
    tl.store(of_sample + 4 * B + row, g)
    if KEEP:
        tl.store(p_ratio + place, ratio, mask)
    if EMBEDDING:
        joined = tl.zeros([M], tl.float64)
        for v in range(C):
            log_q = tl.load(q_log + v * m + column, mask, 0.0)
            w = tl.load(weights + v).to(tl.float64)
            joined += tl.where(v == own, f, w * g) * log_q
        grad = ratio * (log * (f + g * others) - joined)
        grad = grad - ratio * (tl.sum(grad, 0) / m)
        if NSF:
            grad = grad * (1.0 - weight)
        along = tl.sum(grad * shifted, 0)
        by = (grad - shifted * (along / (length * length))) / divisor
        tl.store(of_sample + 5 * B + row, -along / divisor / tau)
        tl.store(by_z + place, by.to(by_z.dtype.element_ty), mask)


@triton.jit
def over_samples(
    target,
    weights,
    of_sample,
    p_ratio,
    q_weight,
    q_ratio,
    cmi,
    gamma,
    total,
    by_tau,
    counts,
    sums,
    by_xi,
    m,
    B,
    NSF: tl.constexpr,
    CLASSES: tl.constexpr,
    SEPARATION: tl.constexpr,
    OBSERVED: tl.constexpr,
    TAU: tl.constexpr,
    N: tl.constexpr,
    M: tl.constexpr,
):
    """Sums over samples: of one class and block of dimensions; the first program's, of the loss."""
    v = tl.program_id(0)
    block = tl.program_id(1)
    column = block * M + tl.arange(0, M)
    mask = column < m
    w = tl.load(weights + v).to(tl.float64)
    acc = tl.zeros([M], tl.float64)
    seen = tl.zeros([M], tl.float64)
    rows = tl.arange(0, N)
    by_all = tl.zeros([N], tl.float64)
    count = tl.zeros([N], tl.float64)
    if CLASSES or OBSERVED:
        for start in range(0, B, N):
            row = start + rows
            there = row < B
            is_own = (tl.load(target + row, there, -1) == v) & there
            ratio = tl.load(
                p_ratio + row[:, None] * m + column[None, :], there[:, None] & mask[None, :], 0.0
            )
            if CLASSES:
                by = tl.where(is_own, tl.load(of_sample + 3 * B + row, there, 0.0), 0.0)
                if SEPARATION:
                    by += tl.where(
                        is_own | (row >= B), 0.0, w * tl.load(of_sample + 4 * B + row, there, 0.0)
                    )
                acc += tl.sum(ratio * by[:, None], 0)
                by_all += by
            if OBSERVED:
                seen += tl.sum(tl.where(is_own[:, None], ratio, 0.0), 0)
                count += tl.where(is_own, 1.0, 0.0)
    own = v * m + column
    if CLASSES:
        grad = tl.sum(by_all, 0) * tl.load(q_ratio + own, mask, 0.0) - acc
        if NSF:
            grad = grad * (1.0 - tl.load(q_weight + own, mask, 0.0))
        tl.store(by_xi + own, grad.to(by_xi.dtype.element_ty), mask)
    if OBSERVED:
        number = tl.sum(count, 0)
        tl.store(sums + own, seen - number, mask)
        if block == 0:
            tl.store(counts + v, number)
    if (v == 0) & (block == 0):
        a = tl.zeros([N], tl.float64)
        b = tl.zeros([N], tl.float64)
        each = tl.zeros([N], tl.float64)
        tau = tl.zeros([N], tl.float64)
        for start in range(0, B, N):
            row = start + rows
            a += tl.load(of_sample + row, row < B, 0.0)
            b += tl.load(of_sample + B + row, row < B, 0.0)
            each += tl.load(of_sample + 2 * B + row, row < B, 0.0)
            if TAU:
                tau += tl.load(of_sample + 5 * B + row, row < B, 0.0)
        tl.store(cmi, tl.sum(a, 0) / B / m)
        tl.store(gamma, tl.sum(b, 0) / B / m)
        tl.store(total, tl.sum(each, 0).to(total.dtype.element_ty))
        if TAU:
            tl.store(by_tau, tl.sum(tau, 0).to(by_tau.dtype.element_ty))
