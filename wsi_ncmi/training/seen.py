"""What an epoch's own steps say of the training part: how far its classes are told apart."""

import torch
from torch import Tensor, nn

from wsi_ncmi.losses.distributed import sum_over_ranks
from wsi_ncmi.losses.functional.labels import one_hot


class Seen(nn.Module):
    """Counts of classes against predictions of an epoch's samples, in buffers of no checkpoint.

    All of it takes the leading axes of a stack of models.

    Args:
        scores_are_logits: their softmax means something: the likelihood is summed too.
    """

    counts: Tensor
    log_loss: Tensor

    def __init__(self, classes: int, *, scores_are_logits: bool) -> None:
        super().__init__()
        self.scores_are_logits = scores_are_logits
        self.register_buffer("counts", torch.zeros(classes, classes), persistent=False)
        self.register_buffer("log_loss", torch.zeros(()), persistent=False)

    @torch.no_grad()
    def add(self, scores: Tensor, target: Tensor) -> None:
        """A step's raw scores [B, C] and targets [B]."""
        classes = self.counts.shape[-1]
        own = one_hot(target, classes)
        guess = one_hot(scores.argmax(-1), classes)
        self.counts.add_(own.mT.to(self.counts.dtype) @ guess.to(self.counts.dtype))
        if self.scores_are_logits:
            each = torch.where(own, scores.log_softmax(-1), 0)
            self.log_loss.sub_(each.sum((-2, -1)).to(self.log_loss.dtype))

    @torch.no_grad()
    def take(self) -> dict[str, Tensor]:
        """Scalars by name; counting starts anew.

        macro_f1: of the predictions, over the classes that were seen. chance_f1: that of
        predictions as frequent as these which do not depend on the class, so that the prediction of
        one class alone is at chance. log_loss: mean negative log-likelihood; prior_entropy: the
        smallest that a constant prediction reaches, the entropy of the classes' shares.
        """
        sum_over_ranks(self.counts, self.log_loss)
        truth, guess = self.counts.sum(-1), self.counts.sum(-2)
        total = truth.sum(-1, keepdim=True)
        both = (truth + guess).clamp_min(1)
        hits = self.counts.diagonal(dim1=-2, dim2=-1)
        found = {
            "macro_f1": _mean(2 * hits / both, truth),
            "chance_f1": _mean(2 * truth * guess / total / both, truth),
        }
        if self.scores_are_logits:
            share = truth / total
            found["log_loss"] = self.log_loss / total.squeeze(-1)
            found["prior_entropy"] = -torch.special.xlogy(share, share).sum(-1)
        self.counts.zero_()
        self.log_loss.zero_()
        return found


def _mean(values: Tensor, truth: Tensor) -> Tensor:
    present = (truth > 0).to(values.dtype)
    return (values * present).sum(-1) / present.sum(-1)
