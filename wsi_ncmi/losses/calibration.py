"""Scores to calibrated scores, fitted on validation samples, for many models at once.

    temperature   s · f_c                 Guo et al. 2017, arXiv 1706.04599
    bias          s · f_c + b_c           one scale, a bias for each class (Alexandari et al. 2020,
                                          arXiv 1901.06852, "bias-corrected temperature scaling")
    vector        w_c · f_c + b_c         vector scaling (Guo et al. 2017)

All maximise the likelihood of smoothed targets (`temperature`). The temperature never changes which
class is the largest; the others may. Their fit is penalised by (‖w − 1‖² + ‖b‖²)/2n, where w = 1
and b = 0 is the fitted temperature: a normal prior of variance 1 around it, without which a class
with few validation samples gets what these happen to say.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wsi_ncmi.losses.distributed import sum_over_ranks
from wsi_ncmi.losses.temperature import fitted_log_scale, smoothed

Kind = Literal["temperature", "bias", "vector"]
STEPS = 15  # of Newton's method: it doubles the digits in each once it is near
HALVINGS = 6


class Calibration(NamedTuple):
    """What turns scores f [..., n, C] into calibrated ones: exp(ς) · w_c · f_c + b_c.

    Attributes:
        log_scale: ς [...]. class_scale: w [..., C]. bias: b [..., C].
    """

    log_scale: Tensor
    class_scale: Tensor
    bias: Tensor

    def __call__(self, raw: Tensor) -> Tensor:
        """[..., n, C] -> [..., n, C]."""
        scale = self.log_scale.exp()[..., None] * self.class_scale
        return raw * scale.unsqueeze(-2) + self.bias.unsqueeze(-2)


@torch.no_grad()
def fitted(
    kind: Kind, raw: Tensor, targets: Tensor, n_total: int | Tensor, weights: Tensor | None = None
) -> Calibration:
    """The calibration of the highest likelihood of smoothed targets, in float64.

    Args:
        raw: scores f [..., n, C] of this process's samples.
        targets: [n] or [..., n] int64.
        n_total: samples of all processes, [...] where they differ.
        weights: [..., n], 1 for samples that count and 0 for others; None: all count.
    """
    log_scale = fitted_log_scale(raw, targets, n_total, weights)
    raw = raw.double()
    ones = torch.ones_like(raw[..., 0, :])
    start = Calibration(log_scale, ones, torch.zeros_like(ones))
    if kind == "temperature":
        return start
    if weights is None:
        weights = torch.ones_like(raw[..., 0])
    total = torch.as_tensor(n_total, dtype=raw.dtype, device=raw.device)
    f = torch.where(weights[..., None] > 0, start(raw), 0)
    classes = raw.shape[-1]
    problem = _Problem(f, smoothed(targets, classes, total), weights, _basis(kind, f))
    theta = torch.cat([ones, torch.zeros_like(ones)], -1)
    for _ in range(STEPS):
        theta = problem.step(theta)
    return Calibration(log_scale, theta[..., :classes], theta[..., classes:])


def _basis(kind: Kind, f: Tensor) -> Tensor:
    """What moves of (w, b): rows [P, 2C]."""
    whole = torch.eye(2 * f.shape[-1], dtype=f.dtype, device=f.device)
    if kind == "vector":
        return whole
    classes = f.shape[-1]
    return torch.cat([whole[:classes].sum(0, keepdim=True), whole[classes:]])


class _Problem(NamedTuple):
    """−Σ_n Σ_c t ln softmax(w · f + b) + (‖w − 1‖² + ‖b‖²)/2 in θ = (w, b) [..., 2C].

    Attributes:
        f, targets: [..., n, C]. weights: [..., n]. basis: [P, 2C].
    """

    f: Tensor
    targets: Tensor
    weights: Tensor
    basis: Tensor

    def step(self, theta: Tensor) -> Tensor:
        """Newton's, as long as the best of its halves and of none."""
        gradient, hessian = self._derivatives(theta)
        direction, _ = torch.linalg.solve_ex(
            self.basis @ hessian @ self.basis.mT, gradient @ self.basis.mT
        )
        direction = direction @ self.basis
        lengths = [0.0, *(0.5**i for i in range(HALVINGS))]
        tried = torch.stack([theta - length * direction for length in lengths])
        best = self._loss(tried).argmin(0)
        return torch.gather(tried, 0, best.expand(1, *best.shape)[..., None].expand_as(tried[:1]))[
            0
        ]

    def _logits(self, theta: Tensor) -> Tensor:
        w, b = theta.unsqueeze(-2).chunk(2, -1)
        return self.f * w + b

    def _from_start(self, theta: Tensor) -> Tensor:
        return torch.cat([theta[..., : self.f.shape[-1]] - 1, theta[..., self.f.shape[-1] :]], -1)

    def _loss(self, theta: Tensor) -> Tensor:
        each = -(self.targets * self._logits(theta).log_softmax(-1)).sum(-1)
        loss = (self.weights * each).sum(-1)
        sum_over_ranks(loss)
        return loss + self._from_start(theta).square().sum(-1) / 2

    def _derivatives(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient [..., 2C] and Hessian [..., 2C, 2C]."""
        p, weights = self._logits(theta).softmax(-1), self.weights[..., None]
        residual = weights * (p - self.targets)
        gradient = torch.cat([(residual * self.f).sum(-2), residual.sum(-2)], -1)
        by_theta = torch.cat([p * self.f, p], -1)  # [..., n, 2C]
        hessian = -by_theta.mT @ (weights * by_theta)
        count = self.f.shape[-1]
        for i, left in enumerate((self.f, torch.ones_like(self.f))):
            for j, right in enumerate((self.f, torch.ones_like(self.f))):
                block = hessian[..., i * count : (i + 1) * count, j * count : (j + 1) * count]
                block.diagonal(0, -2, -1).add_((weights * p * left * right).sum(-2))
        sum_over_ranks(gradient, hessian)
        identity = torch.eye(2 * count, dtype=theta.dtype, device=theta.device)
        return gradient + self._from_start(theta), hessian + identity
