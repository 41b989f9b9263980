"""An oracle of NCMI in float64, with loops over pairs, written from the method's formulae alone."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor


def nsf(activation: Tensor) -> Tensor:
    """σ(a_i) / Σ_j σ(a_j)."""
    sigmoid = 1 / (1 + torch.exp(-activation))
    return sigmoid / sigmoid.sum()


def softmax(activation: Tensor) -> Tensor:
    """e^a_i / Σ_j e^a_j, the map of the ablation."""
    powers = torch.exp(activation - activation.max())
    return powers / powers.sum()


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Σ p ln(p / q)."""
    return (p * torch.log(p / q)).sum()


def distribution(z: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """p of one embedding [m]."""
    shifted = z - centre
    return nsf(shifted / torch.sqrt((shifted * shifted).sum()) / temperature)


def own_terms(p: Sequence[Tensor], q: Sequence[Tensor], target: Sequence[int]) -> Tensor:
    """a_n = KL(p_n ‖ q_{y_n}), [B]."""
    return torch.stack([kl(p_n, q[y]) for p_n, y in zip(p, target, strict=True)])


def separation_terms(
    p: Sequence[Tensor], q: Sequence[Tensor], target: Sequence[int], weights: Sequence[float]
) -> Tensor:
    """b_n = Σ_{v ≠ y_n} w_v KL(q_v ‖ p_n), [B]: one pair after the other."""
    rows = []
    for p_n, y in zip(p, target, strict=True):
        total = torch.zeros((), dtype=torch.float64)
        for v, q_v in enumerate(q):
            if v != y:
                total = total + weights[v] * kl(q_v, p_n)
        rows.append(total)
    return torch.stack(rows)


def terms(
    z: Tensor,
    xi: Tensor,
    target: Tensor,
    *,
    centre: Tensor | None = None,
    temperature: float = 0.2,
    weights: Sequence[float] | None = None,
    detach_gamma: bool = False,
) -> tuple[Tensor, Tensor]:
    """a [B] and b [B] from embeddings [B, m] and ξ [C, m], differentiable in both."""
    centre = torch.zeros_like(z[0]) if centre is None else centre
    p = [distribution(row, centre, temperature) for row in z]
    q = [nsf(row) for row in xi]
    in_gamma = [row.detach() for row in q] if detach_gamma else q
    weights = [1 / len(q)] * len(q) if weights is None else weights
    labels = target.tolist()
    return own_terms(p, q, labels), separation_terms(p, in_gamma, labels, weights)


def loss(
    z: Tensor,
    xi: Tensor,
    target: Tensor,
    reduction: str,
    sample_weights: Tensor | None = None,
    **options: object,
) -> Tensor:
    """`mean_of_ratios` or `ratio_of_means`."""
    a, b = terms(z, xi, target, **options)  # type: ignore[arg-type]
    weight = torch.ones_like(a) if sample_weights is None else sample_weights
    if reduction == "mean_of_ratios":
        return (weight * a / b).sum() / len(a)
    return (weight * a).sum() / (weight * b).sum()


@pytest.fixture(scope="session")
def oracle() -> SimpleNamespace:
    """The functions of this file."""
    return SimpleNamespace(
        nsf=nsf,
        softmax=softmax,
        kl=kl,
        distribution=distribution,
        own_terms=own_terms,
        separation_terms=separation_terms,
        terms=terms,
        loss=loss,
    )
