"""All that stands between a pixel and a prediction, as one differentiable function.

    pixels in 0..1 → channels normalised → network → centred, L2 normalised, ÷ τ, NSF →
    log-odds by the class means (or the linear head) → calibrated scores

An attack on a part of it says little: where the gradient stops before the centre or the
normalisation, the defender looks stronger than it is (Athalye et al. 2018, arXiv 1802.00420).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.images.models import ImageEncoder
from wsi_ncmi.losses.objective import Objective

Raised = Literal["cross_entropy", "margin", "own"]
"""What an attack raises.

cross_entropy: of the calibrated scores. margin: the largest score of another class minus that of
its own (Carlini and Wagner 2017, arXiv 1608.04644), whose gradient does not vanish where the model
is sure. own: the loss that the objective trains by, such as NCMI's ratio.
"""


class Pipeline(nn.Module):
    """A trained encoder and objective, in eval mode, whose parameters take no gradient any more.

    Maps pixels [B, 3, h, w] in 0..1 to class log-odds [B, C].
    """

    def __init__(self, encoder: ImageEncoder, objective: Objective) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective
        self.eval()
        self.requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.objective.scores(self.encoder(pixels * 255))

    def raised(self, pixels: Tensor, target: Tensor, kind: Raised) -> tuple[Tensor, Tensor]:
        """What an attack raises, a scalar or [B], and the scores [B, C]; see `Raised`."""
        embedding = self.encoder(pixels * 255)
        scores = self.objective.scores(embedding)
        if kind == "own":
            return self.objective(embedding, target).total, scores
        if kind == "margin":
            return margin(scores, target), scores
        # In float32 the gradient at a sure prediction would be exactly 0, and no attack at all.
        return F.cross_entropy(scores.double(), target, reduction="none"), scores


def margin(scores: Tensor, target: Tensor) -> Tensor:
    """max_{v ≠ y} s_v − s_y of scores [B, C]: [B], above 0 where the prediction is wrong."""
    own = scores.gather(1, target[:, None])
    others = scores.scatter(1, target[:, None], -torch.inf).amax(1)
    return others - own[:, 0]
