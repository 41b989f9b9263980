"""Where NCMI's way down leads: the figure of docs/method.md.

    python benchmarks/loss_surface.py --out docs/images/loss-surface.png

The loss a/b of one sample of the first class, over the directions u that its embedding can have. Of
the sphere of all directions a globe is drawn: its equator holds the classes' directions, its north
pole is one that says nothing of the class, spread over all dimensions. The lines go down along the
gradient on the sphere from starts close to that pole, as embeddings have them before training.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from wsi_ncmi.files.atomic import write_bytes
from wsi_ncmi.losses import functional
from wsi_ncmi.losses.functional.distributions import log_map
from wsi_ncmi.losses.functional.divergences import Direction
from wsi_ncmi.losses.functional.packing import far_apart
from wsi_ncmi.report.style import new_figure, png, styled

DIM = 256
STEPS, RATE = 500, 0.01
STARTS = 12
SHOWN = (1e-2, 1e2)


@dataclass(frozen=True)
class Case:
    """A setting of the loss.

    Attributes:
        xi: [C, m] classes. temperature: τ. direction: of the divergences in b.
    """

    title: str
    xi: Tensor
    temperature: float
    direction: Direction


def cases(classes: int) -> list[Case]:
    """The corners of the paper's code in both directions, and a simplex within reach of p."""
    corners = 10 * far_apart(classes, DIM, 0, "corners")
    simplex = far_apart(classes, DIM, 0, "simplex") / 0.5
    return [
        Case("corners of length 10, τ 0.2, b by KL(q ‖ p)", corners, 0.2, "kl_q_p"),
        Case("corners of length 10, τ 0.2, b by KL(p ‖ q)", corners, 0.2, "kl_p_q"),
        Case("simplex of length 1/τ, τ 0.5, b by KL(p ‖ q)", simplex, 0.5, "kl_p_q"),
    ]


def globe(case: Case) -> Tensor:
    """Three orthonormal directions [3, m]: two for the equator, one for the pole.

    The first two span the classes' differences; of two classes, the second is their mean, or any
    other direction where that is 0.
    """
    xi = case.xi.double()
    mean = xi.mean(0)
    generator = torch.Generator().manual_seed(1)
    other, pole = torch.randn(2, DIM, generator=generator, dtype=torch.float64)
    second = xi[2] - mean if len(xi) == 3 else mean if mean.norm() > 1e-6 else other
    basis, triangle = torch.linalg.qr(torch.stack([xi[0] - mean, second, pole]).T)
    return (basis * triangle.diagonal().sign()).T  # QR gives directions up to their signs


def loss_of(case: Case, directions: Tensor) -> tuple[Tensor, Tensor]:
    """a/b and a [n] of the first class at unit vectors [n, m]."""
    target = torch.zeros(len(directions), dtype=torch.int64)
    classes = len(case.xi)
    given = (
        directions,
        torch.zeros(DIM, dtype=torch.float64),
        torch.tensor(case.temperature, dtype=torch.float64),
        case.xi.double(),
        target,
        torch.full((classes,), 1 / classes, dtype=torch.float64),
    )
    terms = functional.ncmi_terms(*given, functional.Forms("nsf", "nsf", case.direction))
    return terms.a / terms.b, terms.a


def descents(case: Case, axes3: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Paths [steps, starts, 3] down the loss on the globe, and a/b at their ends."""
    angles = torch.arange(STARTS, dtype=torch.float64) * 2 * math.pi / STARTS + 0.13
    flat = math.cos(math.radians(75))
    at = torch.stack(
        [flat * angles.cos(), flat * angles.sin(), torch.full_like(angles, math.sqrt(1 - flat**2))],
        -1,
    )
    path = []
    for _ in range(STEPS):
        path.append(at)
        at = at.detach().requires_grad_()
        ratio, _ = loss_of(case, at / at.norm(dim=-1, keepdim=True) @ axes3)
        (gradient,) = torch.autograd.grad(ratio.sum(), at)
        step = gradient / gradient.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        at = (at - RATE * step).detach()
        at = at / at.norm(dim=-1, keepdim=True)
    return torch.stack(path).numpy(), loss_of(case, at @ axes3)[0].numpy()


def draw(axes: Axes, case: Case) -> str:
    """A map of the globe: longitude and latitude in degrees; what is seen, in words."""
    axes3 = globe(case)
    longitude, latitude = np.linspace(-180, 180, 241), np.linspace(-90, 90, 121)
    points = torch.from_numpy(_points(*np.meshgrid(longitude, latitude))) @ axes3
    ratio, a = (found.reshape(121, 241).numpy() for found in loss_of(case, points))
    logs = np.log10(ratio.clip(*SHOWN))
    filled = axes.contourf(longitude, latitude, logs, np.linspace(*np.log10(SHOWN), 25))
    paths, ends = descents(case, axes3)
    for path in paths.transpose(1, 0, 2):
        east = np.degrees(np.arctan2(path[:, 1], path[:, 0]))
        north = np.degrees(np.arcsin(path[:, 2].clip(-1, 1)))
        east[1:][np.abs(np.diff(east)) > 90] = np.nan  # across the edge of the map
        axes.plot(east, north, color="white", linewidth=0.9)
        axes.plot(east[-1], north[-1], "o", color="white", markersize=3)
    for place, xi in enumerate(case.xi.double()):
        east = math.degrees(math.atan2(float(xi @ axes3[1]), float(xi @ axes3[0])))
        axes.plot(east, 0, "^" if place == 0 else "x", color="#D55E00", markersize=7)
    axes.set(title=case.title, xticks=range(-180, 181, 90), yticks=(-90, 0, 90))
    axes.figure.colorbar(filled, ax=axes, label="log10 of a/b", shrink=0.8)
    return (
        f"C = {len(case.xi)}, {case.title}: a/b from {ratio.min():.3g} to {ratio.max():.3g}; at "
        f"the paths' ends {ends.min():.3g} to {ends.max():.3g}; a at the pole {a[-1, 0]:.3g}, "
        f"between two classes {between(case):.3g}"
    )


def between(case: Case) -> float:
    """KL(q_1 ‖ q_2)."""
    log_q = log_map(case.xi.double(), "nsf")
    return float(functional.kl_all_classes(log_q, log_q)[0, 1])


def _points(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    east, north = np.radians(longitude).ravel(), np.radians(latitude).ravel()
    return np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/loss-surface.png"))
    arguments = parser.parse_args()
    with styled():
        figure = new_figure(13, 5.6)
        grid = figure.subplots(2, 3)
        for row, classes in zip(grid, (2, 3), strict=True):
            for axes, case in zip(row, cases(classes), strict=True):
                print(draw(axes, case))
            row[0].set_ylabel(f"C = {classes}\nlatitude")
        for axes in grid[-1]:
            axes.set_xlabel("longitude")
        write_bytes(arguments.out, png(figure))


if __name__ == "__main__":
    main()
