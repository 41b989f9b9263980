"""Nyström attention of a bag's tokens (Xiong et al. 2021, AAAI, arXiv 2102.03902).

Self-attention of n tokens by m landmarks, with memory and time that follow n · m:

    Q̃_j, K̃_j = means of the j-th of m segments of the queries, of the keys        (equation 16)
    F = softmax(Q K̃ᵀ/√d),   A = softmax(Q̃ K̃ᵀ/√d),   B = softmax(Q̃ Kᵀ/√d)    (equation 13)
    out = F Z (B V) + DConv(V),   Z ≈ A⁺               (equations 15 and 17, figure 4)
    Z_0 = Aᵀ / (‖A‖₁ ‖A‖_∞)
    Z_{k+1} = ¼ Z_k (13 I − A Z_k (15 I − A Z_k (7 I − A Z_k)))                  (equation 14)

with a depthwise convolution over the tokens as a residual of the values. As in the common
implementation (github.com/lucidrains/nystrom-attention, which TransMIL uses):

* Where m does not divide n, zero rows are put in front. The projections have no bias, so their
  queries, keys and values are zero. Nothing masks them: each takes the weight exp(0) in B, and a
  segment of them alone is a landmark as any other.
* ‖A‖_∞, the largest row sum of a softmax, is 1. ‖A‖₁, the largest column sum, is of each head here.
  There it is the largest of all heads and bags of a batch, by which bags would depend on each
  other; with one bag a step the two differ by the heads alone, and in what the iteration has not
  reached after its last step.

Zero rows are never made. k equal landmarks, or keys, are one with the multiplicity k: with
D = diag(multiplicities) and M = A D, whose rows are softmax with each entry counted so often, all
that the iteration makes of the repeated rows and columns stays equal among them, and

    Z'_0 = D⁻¹ Mᵀ D / ‖A‖₁,   Z' iterated with M in the place of A,   out = F' Z' (B' V)

is the same number with as many landmarks as a small bag has tokens, not m.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.aggregators.dropout import Dropout
from wsi_ncmi.aggregators.interface import at_least_float32, pooling_precision


class Landmarks(NamedTuple):
    """What a bag's tokens are attended through.

    Attributes:
        key: K̃ of r different landmarks, [H, r, d + 1], see `keys_of`.
        inverse: Z', [H, r, r].
        weights: B' of n tokens and, in front, of the zero rows if there are any, [H, r, n (+ 1)].
    """

    key: Tensor
    inverse: Tensor
    weights: Tensor


class NystromAttention(nn.Module):
    """Self-attention of a bag's tokens, [n, D] -> [n, D].

    Dropout is on the output, in training only. Under autocast the projections run in its
    precision, the attention in float32.
    """

    def __init__(
        self, dim: int, heads: int, landmarks: int, iterations: int, kernel: int, dropout: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.landmarks = landmarks
        self.iterations = iterations
        self.projection = nn.Linear(dim, 3 * dim, bias=False)
        self.residual = nn.Conv2d(
            heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False
        )
        self.out = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self._project(tokens)
        with pooling_precision(tokens):
            through = self._landmarks(query, key)
            inner = through.inverse @ (through.weights @ _after_zeros(value, through))
            outer = (queries_of(query, 0) @ through.key.mT).softmax(-1)  # F', [H, n, r]
            attended = outer @ inner + self._convolved(value)  # [H, n, d]
        joined = attended.transpose(0, 1).flatten(1)
        return self.dropout(self.out(joined))

    def first(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The first token's output [D], and its approximated attention F Z B [H, n].

        Of all n outputs it is the one that is computed, in full precision.
        """
        query, key, value = self._project(tokens)
        with pooling_precision(tokens):
            through = self._landmarks(query, key)
            outer = (queries_of(query[:, :1], 0) @ through.key.mT).softmax(-1) @ through.inverse
            attended = outer @ (through.weights @ _after_zeros(value, through))  # [H, 1, d]
            half = self.residual.kernel_size[0] // 2
            window = value[:, : half + 1]  # before it there are zeros alone
            taps = self.residual.weight[:, :, half : half + window.shape[1], 0]  # [H, 1, k]
            output = self.dropout(self.out((attended + taps @ window).flatten()))
            weights = (outer.detach() @ through.weights.detach()).squeeze(1)
        return output, weights[:, -len(tokens) :]

    def _convolved(self, value: Tensor) -> Tensor:
        residual: Tensor = self.residual(value.contiguous()[None])
        return residual.squeeze(0)

    def _project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries divided by √d, keys and values, [H, n, d] each."""
        joined = at_least_float32(self.projection(tokens)).unflatten(1, (3, self.heads, -1))
        query, key, value = joined.permute(1, 2, 0, 3).unbind(0)
        return query / math.sqrt(query.shape[2]), key, value

    def _landmarks(self, query: Tensor, key: Tensor) -> Landmarks:
        size, padding = segments(key.shape[1], self.landmarks)
        zeros = padding // size  # segments of zero rows alone
        landmarks = queries_of(segment_means(query, size, padding), zeros)
        landmark_keys = keys_of(segment_means(key, size, padding), zeros)
        weights = (landmarks @ keys_of(key, padding).mT).softmax(-1)
        inner = (landmarks @ landmark_keys.mT).softmax(-1)
        return Landmarks(landmark_keys, pseudo_inverse(inner, zeros, self.iterations), weights)


def segments(tokens: int, landmarks: int) -> tuple[int, int]:
    """Rows of each of the m segments, and the zero rows in front that make them so many."""
    size = math.ceil(tokens / landmarks)
    return size, size * landmarks - tokens


def segment_means(rows: Tensor, size: int, padding: int) -> Tensor:
    """Means [H, r, d] of the segments that are not of zero rows alone, of rows [H, n, d]."""
    padded = F.pad(rows, (0, 0, padding % size, 0))
    return padded.unflatten(1, (-1, size)).mean(2)


def queries_of(query: Tensor, zeros: int) -> Tensor:
    """Queries for `keys_of`, and one for zero rows in front, if there are any."""
    return F.pad(F.pad(query, (0, 0, 1 if zeros else 0, 0)), (0, 1), value=1.0)


def keys_of(key: Tensor, zeros: int) -> Tensor:
    """Keys, and one for all zero rows in front, if there are any: [H, n, d] -> [H, n (+ 1), d + 1].

    The last column is the logarithm of the multiplicity: a query has 1 there, so that softmax
    counts the key as often.
    """
    if not zeros:
        return F.pad(key, (0, 1))
    rows = F.pad(key, (0, 1, 1, 0))
    multiplicity = F.pad(rows.new_tensor([[math.log(zeros)]]), (key.shape[2], 0, 0, key.shape[1]))
    return rows + multiplicity


def pseudo_inverse(inner: Tensor, zeros: int, iterations: int) -> Tensor:
    """Z' of M [H, r, r], of which the first row and column have the multiplicity `zeros` if any."""
    count = F.pad(inner.new_ones(inner.shape[-1] - 1), (1, 0), value=float(max(zeros, 1)))
    single = inner / count  # A, each of its different columns once
    largest = (count @ single).amax(-1)[:, None, None]  # ‖A‖₁
    found = single.mT * count / largest
    identity = torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)
    for _ in range(iterations):
        product = inner @ found
        bracket = 15 * identity - product @ (7 * identity - product)
        found = found @ (13 * identity - product @ bracket) / 4
    return found


def _after_zeros(value: Tensor, through: Landmarks) -> Tensor:
    """Values as `Landmarks.weights` have columns: those of zero rows are zero."""
    return F.pad(value, (0, 0, through.weights.shape[2] - value.shape[1], 0))
