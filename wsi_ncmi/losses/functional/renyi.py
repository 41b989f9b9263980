"""Matrix-based Rényi entropy and mutual information of a batch, without density estimation.

    K_ij = exp(−‖a_i − a_j‖² / s²),   A = K / tr K
    H_α(A) = log2(tr A^α) / (1 − α)
    I_α(A; B) = H_α(A) + H_α(B) − H_α(A ∘ B / tr(A ∘ B))

Everything here is computed and returned in float64, whatever is given: eigenvalues near 0 and, with
α near 1, a logarithm divided by 1 − α leave float32 without digits. Gradients reach float32 inputs.

Source: Sánchez Giraldo, Rao and Príncipe 2015 (10.1109/TIT.2014.2370058) for the quantities; Zaugg
et al. 2025 (10.1007/978-3-031-93631-9_16) for α, the labels' kernel and the choice of s.
"""

from typing import NamedTuple

import torch
from torch import Tensor

ALPHA = 1.01
CANDIDATES = 100
WIDTHS_AT_ONCE = 10  # bounds the memory: 10 · N² numbers


class AlignedWidth(NamedTuple):
    """The best width [] with all candidates [S] and their alignments [S] with the labels."""

    width: Tensor
    widths: Tensor
    alignments: Tensor


def squared_distances(values: Tensor) -> Tensor:
    """‖a_i − a_j‖² of all pairs of rows, the diagonal exactly 0; [N, d] -> [N, N] float64.

    Rows are centred first, so that rounding is 1e-16 of the batch's own spread, wherever it lies.
    """
    centred = values.double()
    centred = centred - centred.mean(0)
    squares = centred.square().sum(1)
    distances = squares[:, None] + squares[None, :] - 2 * centred @ centred.T
    return distances.clamp_min(0) * (1 - torch.eye(len(values), device=values.device))


def gram(values: Tensor, width: Tensor | float) -> Tensor:
    """The Gaussian Gram matrix A = K / tr K of a batch.

    Division by sqrt(K_ii K_jj), as the sources have it, changes nothing here: K_ii = 1.

    Args:
        values: [N, d], a row per sample.
        width: s, in the units of `values`.

    Returns:
        [N, N] float64, trace 1.

    Raises:
        ValueError: `values` is no matrix of one row or more, or a width that is a number is not
            above 0.
    """
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"values must be [N, d] with N above 0, found {list(values.shape)}")
    if isinstance(width, float | int) and not width > 0:
        raise ValueError(f"the kernel's width must be above 0, found {width}")
    return torch.exp(-squared_distances(values) / width**2) / len(values)


def label_gram(target: Tensor) -> Tensor:
    """The labels' A: K_ij = 1 where the classes are the same, else 0; [N] -> [N, N] float64."""
    return (target[:, None] == target[None, :]).double() / len(target)


def joint_gram(a: Tensor, b: Tensor) -> Tensor:
    """A ∘ B with trace 1: the Gram matrix of the pairs (a_i, b_i); [N, N] each."""
    product = a * b
    return product / product.diagonal().sum()


def renyi_entropy(gram: Tensor, alpha: float = ALPHA) -> Tensor:
    """H_α of a Gram matrix, in bits: 0 where all rows are the same, log2 N where all are far apart.

    Args:
        gram: [N, N], symmetric, positive semi-definite, trace 1.
        alpha: above 0 and not 1, towards which it becomes von Neumann's entropy −tr A log2 A.

    Returns:
        [] float64. Its gradient is finite for α > 1; below, it is infinite at an eigenvalue of 0.

    Raises:
        ValueError: `alpha` is out of range.
    """
    if not (alpha > 0 and alpha != 1):
        raise ValueError(f"alpha must be above 0 and not 1, found {alpha}")
    # Rounding makes eigenvalues of 0 slightly negative, and a power of those is NaN.
    eigenvalues = torch.linalg.eigvalsh(gram.double()).clamp_min(0)
    return torch.log2(eigenvalues.pow(alpha).sum()) / (1 - alpha)


def renyi_mutual_information(a: Tensor, b: Tensor, alpha: float = ALPHA) -> Tensor:
    """I_α(A; B) = H_α(A) + H_α(B) − H_α(A, B) of two Gram matrices [N, N], in bits, float64."""
    joint = renyi_entropy(joint_gram(a, b), alpha)
    return renyi_entropy(a, alpha) + renyi_entropy(b, alpha) - joint


def width_candidates(
    largest: Tensor | float, candidates: int = CANDIDATES, device: torch.device | None = None
) -> Tensor:
    """Equidistant widths largest/S, 2·largest/S, …, largest; [S] float64.

    Args:
        device: of the result; None: that of `largest`, or the CPU.
    """
    if isinstance(largest, Tensor):
        device, largest = device or largest.device, largest.double()
    return (
        largest * torch.arange(1, candidates + 1, dtype=torch.float64, device=device) / candidates
    )


def alignments(
    labels: Tensor, values: Tensor, widths: Tensor, used: Tensor | None = None
) -> Tensor:
    """Cosine between the labels' Gram matrix and the values', for each width; no gradient.

    Args:
        labels: [N, N], of `label_gram`.
        values: [N, d].
        widths: [S], above 0.
        used: [N] booleans, the rows that count; None: all. The labels are zero for the others.

    Returns:
        [S] float64. Of several batches, average these and take the largest.
    """
    distances = squared_distances(values.detach())
    if used is not None:
        distances = distances.masked_fill(~(used[:, None] & used), torch.inf)
    chunks = widths.double().split(WIDTHS_AT_ONCE)
    cosines = torch.cat([_cosines(labels.double(), distances, chunk) for chunk in chunks])
    return cosines / torch.linalg.vector_norm(labels.double())


def _cosines(labels: Tensor, distances: Tensor, widths: Tensor) -> Tensor:
    kernels = torch.exp(-distances / widths.square()[:, None, None]).flatten(1)
    return kernels @ labels.flatten() / torch.linalg.vector_norm(kernels, dim=1)


def best_width(widths: Tensor, alignments: Tensor) -> Tensor:
    """The width [] of the largest alignment, the smallest of equals; [S] each."""
    # Not widths[argmax]: under vmap an index is no number.
    return widths.gather(0, alignments.argmax(0, keepdim=True)).squeeze(0)


def aligned_width(
    labels: Tensor,
    values: Tensor,
    candidates: int = CANDIDATES,
    largest: Tensor | float | None = None,
) -> AlignedWidth:
    """The kernel width that makes the values' Gram matrix most like the labels'.

    Args:
        labels: [N, N], of `label_gram`.
        values: [N, d].
        candidates: S, how many widths are tried.
        largest: of the widths; None: the largest distance of two rows. Give it where batches
            are averaged, so that all have the same candidates.

    Raises:
        ValueError: all rows are the same, so that no width says anything.
    """
    if largest is None:
        largest = squared_distances(values.detach()).max().sqrt()
    if not largest > 0:
        raise ValueError("all rows are the same: no kernel width can be chosen from them")
    widths = width_candidates(largest, candidates).to(values.device)
    found = alignments(labels, values, widths)
    return AlignedWidth(best_width(widths, found), widths, found)
