"""NCMI of few classes on a GPU, in three kernels in place of some fifty.

One program for each class makes its distribution; one for each sample has its divergences, a, b,
and the gradient by its embedding, which depends on nothing else where the loss is a mean of ratios;
one for each class and block of dimensions sums over samples. All compute in float64, and in one
order: twice the same numbers are the same bits.

Importing this needs triton, which comes with torch for CUDA.
"""

import math
from contextlib import nullcontext

import torch
import triton
from torch import Tensor

from wsi_ncmi.losses.functional import few_kernels as kernels
from wsi_ncmi.losses.functional.maps import LOWEST_LOGIT
from wsi_ncmi.losses.functional.plan import Plan
from wsi_ncmi.losses.functional.problem import SMALLEST_SEPARATION, Forms

WIDEST = 4096
"""Dimensions that one program holds."""
ROWS, COLUMNS = 32, 64
"""Of the block of samples and dimensions that is summed at once."""


def suits(embedding: Tensor, classes: Tensor, plan: Plan) -> bool:
    """Whether the kernels compute what is asked for."""
    return (
        embedding.ndim == classes.ndim == 2
        and embedding.shape[1] <= WIDEST
        and plan.reduction == "mean_of_ratios"
        and plan.forms.direction == "kl_p_q"
    )


def try_out(device: torch.device) -> None:
    """Compile and run the kernels on little.

    Raises:
        Exception: whatever Triton says.
    """
    z = torch.zeros(2, 4, device=device)
    scalar, pair = z.new_ones(()), z.new_ones(2)
    given = z, z[0], scalar, z, torch.arange(2, device=device), pair, pair
    evaluate(*given, Plan(Forms(direction="kl_p_q"), "mean_of_ratios", temperature=True))


def evaluate(
    embedding: Tensor,
    centre: Tensor,
    temperature: Tensor,
    classes: Tensor,
    target: Tensor,
    weights: Tensor,
    prior: Tensor,
    plan: Plan,
) -> tuple[Tensor, ...]:
    """What `few` computes of one model, in its order; see `few_classes_loss` for the arguments."""
    samples, dim = embedding.shape
    count = classes.shape[0]
    given = embedding, centre, classes, target, weights, prior
    embedding, centre, classes, target, weights, prior = (each.contiguous() for each in given)
    kept = plan.classes or plan.observed
    moved = plan.embedding or plan.temperature
    nsf = plan.forms.sample == "nsf", plan.forms.classes == "nsf"
    wide = triton.next_power_of_2(dim)
    warps = 4 if wide <= 1024 else 8

    def empty(*shape: int) -> Tensor:
        return embedding.new_empty(shape, dtype=torch.float64)

    q_weight, q_ratio, q_log = (empty(count, dim) for _ in range(3))
    p_ratio, of_sample = empty(samples, dim) if kept else q_log, empty(6, samples)
    total, cmi, gamma = embedding.new_empty(()), empty(), empty()
    by_z = torch.empty_like(embedding) if moved else embedding
    by_tau = torch.empty_like(temperature) if plan.temperature else total
    by_xi = torch.empty_like(classes) if plan.classes else classes
    counts, sums = (empty(count), empty(count, dim)) if plan.observed else (cmi, cmi)
    floor = SMALLEST_SEPARATION * dim * math.log(dim)
    with torch.cuda.device(embedding.device) if embedding.is_cuda else nullcontext():
        kernels.of_classes[(count,)](
            classes, q_weight, q_ratio, q_log, dim, nsf[1], LOWEST_LOGIT, wide, num_warps=warps
        )
        kernels.of_samples[(samples,)](
            embedding, centre, temperature, target, weights, prior, q_log, p_ratio, of_sample, by_z,
            dim, samples, count, floor, nsf[0], LOWEST_LOGIT, plan.weighted, moved, kept, wide,
            num_warps=warps,
        )  # fmt: skip
        kernels.over_samples[(count, triton.cdiv(dim, COLUMNS)) if kept else (1, 1)](
            target, weights, of_sample, p_ratio, q_weight, q_ratio, cmi, gamma, total, by_tau,
            counts, sums, by_xi, dim, samples, nsf[1], plan.classes, plan.separation, plan.observed,
            plan.temperature, ROWS, COLUMNS, num_warps=4,
        )  # fmt: skip
    observed = (counts, sums) if plan.observed else ()
    by = (by_z, plan.embedding), (by_tau, plan.temperature), (by_xi, plan.classes)
    return total, cmi, gamma, *observed, *(tensor for tensor, asked in by if asked)
