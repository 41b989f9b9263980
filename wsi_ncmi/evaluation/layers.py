"""How much a network's layers know of each other and of the labels: matrix-based Rényi information.

The mean over batches of I_α (Zaugg et al. 2025, 10.1007/978-3-031-93631-9_16), in bits. What a
batch can show is bounded by log2 of its size, so only values at one batch size can be compared.

The kernel's width decides what is seen. With the predictions' width, inputs are all far apart,
their Gram matrix is nearly the identity, and I(Y; X) = H(Y) whatever they hold: the data-processing
inequality I(Y; X) ≥ I(Y; Ŷ) is then true of any network. So I(Y; X) is reported with the inputs'
own aligned width as well, where it can fail: these estimators do not obey it by construction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.losses.functional import renyi

Batches = Sequence[Ints]


@dataclass(frozen=True)
class LayerInformation:
    """Means over batches, in bits, and the two kernel widths.

    Attributes:
        batches: how many batches were averaged.
        label_entropy: H(Y), the most that anything can know of the labels.
        label_prediction: I(Y; Ŷ).
        label_input: I(Y; X) with the inputs' own aligned width.
        label_input_at_prediction_width: I(Y; X) with Ŷ's width, as the paper has it.
        prediction_width, input_width: s of the two kernels.
    """

    batches: int
    label_entropy: float
    label_prediction: float
    label_input: float
    label_input_at_prediction_width: float
    prediction_width: float
    input_width: float


def layer_information(
    inputs: NDArray[np.floating],
    predictions: Floats,
    targets: Ints,
    batch_size: int = 128,
    seed: int = 0,
    *,
    alpha: float = renyi.ALPHA,
    candidates: int = renyi.CANDIDATES,
) -> LayerInformation:
    """What inputs X and predictions Ŷ say about the labels Y.

    Args:
        inputs: `[N, d]`, or any layer's activations.
        predictions: probabilities `[N, C]`.
        targets: class indices `[N]`.
        batch_size: samples compared with each other; the remainder is left out.
        seed: of the order in which samples become batches.

    Raises:
        ValueError: shapes, or no whole batch.
    """
    batches = shuffled_batches(len(targets), batch_size, seed)
    s_y = layer_width(predictions, targets, batches, candidates)
    s_x = layer_width(inputs, targets, batches, candidates)

    def with_labels(values: NDArray[np.floating], width: float) -> float:
        return renyi_between(targets, values, None, width, batches, alpha)

    return LayerInformation(
        batches=len(batches),
        label_entropy=renyi_between(targets, targets, None, None, batches, alpha),
        label_prediction=with_labels(predictions, s_y),
        label_input=with_labels(inputs, s_x),
        label_input_at_prediction_width=with_labels(inputs, s_y),
        prediction_width=s_y,
        input_width=s_x,
    )


def renyi_between(
    a: NDArray[np.generic],
    b: NDArray[np.generic],
    width_a: float | None,
    width_b: float | None,
    batches: Batches,
    alpha: float = renyi.ALPHA,
) -> float:
    """I_α(A; B) in bits, the mean over batches.

    Args:
        a, b: two layers' activations `[N, d]`, or labels `[N]`.
        width_a, width_b: of their kernels; None for labels, which are the same or not.
        batches: indices of each batch's samples, as from `shuffled_batches`.

    Raises:
        ValueError: not the same number of samples, or labels with a width, or a layer without one.
    """
    if len(a) != len(b):
        raise ValueError(f"both must have the same samples, found {len(a)} and {len(b)} rows")
    found = [
        renyi.renyi_mutual_information(_gram(a[i], width_a), _gram(b[i], width_b), alpha)
        for i in batches
    ]
    return float(torch.stack(found).mean())


def layer_width(
    values: NDArray[np.floating],
    targets: Ints,
    batches: Batches,
    candidates: int = renyi.CANDIDATES,
    largest: float | None = None,
) -> float:
    """The kernel width whose alignment with the labels, averaged over batches, is largest.

    Args:
        candidates: how many widths are tried, equidistant up to the largest.
        largest: of them; None: the largest distance that occurs within a batch. √2 is the largest
            of two distributions, so that every epoch of a training has the same candidates.

    Raises:
        ValueError: `values` are not one row per target, or all rows are the same.
    """
    if values.ndim != 2 or len(values) != len(targets):
        raise ValueError(f"expected values [{len(targets)}, d], found {list(values.shape)}")
    parts = [(torch.from_numpy(values[i]), torch.from_numpy(targets[i])) for i in batches]
    if largest is None:
        largest = max(renyi.squared_distances(rows).max().sqrt().item() for rows, _ in parts)
    found = [renyi.aligned_width(renyi.label_gram(t), x, candidates, largest) for x, t in parts]
    mean = torch.stack([one.alignments for one in found]).mean(0)
    return float(renyi.best_width(found[0].widths, mean))


def shuffled_batches(n: int, size: int, seed: int) -> list[Ints]:
    """Indices of n samples in random whole batches; the remainder is left out.

    Raises:
        ValueError: a batch of fewer than two, or of more than there are.
    """
    if not 2 <= size <= n:
        raise ValueError(f"batch_size must lie in 2..{n} (the number of samples), found {size}")
    order = np.random.default_rng(seed).permutation(n)
    return list(order[: n - n % size].reshape(-1, size))


def _gram(values: NDArray[np.generic], width: float | None) -> Tensor:
    if (values.ndim == 1) != (width is None):
        raise ValueError(
            f"labels [N] have no kernel width and layers [N, d] need one: found shape "
            f"{list(values.shape)} with width {width}"
        )
    tensor = torch.from_numpy(values)
    return renyi.label_gram(tensor) if width is None else renyi.gram(tensor, width)
