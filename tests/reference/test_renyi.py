"""Rényi information against loops in float64, and the properties that it is known to have."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wsi_ncmi.losses.functional import renyi
from wsi_ncmi.losses.mutual_information import MutualInformation, Options

ALPHA = 1.01
FEW = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 10_000)


def oracle_gram(values, width):
    """K_ij pair by pair, over sqrt(K_ii K_jj), over its trace."""
    n = len(values)
    kernel = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            squared = sum(
                (float(a) - float(b)) ** 2 for a, b in zip(values[i], values[j], strict=True)
            )
            kernel[i, j] = math.exp(-squared / width**2)
    return oracle_normalised(kernel)


def oracle_normalised(kernel):
    n = len(kernel)
    scaled = np.array(
        [
            [kernel[i, j] / math.sqrt(kernel[i, i] * kernel[j, j]) for j in range(n)]
            for i in range(n)
        ]
    )
    return scaled / sum(scaled[i, i] for i in range(n))


def oracle_labels(target):
    return oracle_normalised(np.array([[float(a == b) for b in target] for a in target]))


def oracle_entropy(matrix, alpha=ALPHA):
    """The general eigenvalue solver, not the symmetric one."""
    eigenvalues = np.linalg.eigvals(matrix).real
    return math.log2(sum(max(v, 0.0) ** alpha for v in eigenvalues)) / (1 - alpha)


def oracle_information(a, b, alpha=ALPHA):
    n = len(a)
    joint = np.array([[a[i, j] * b[i, j] for j in range(n)] for i in range(n)])
    joint = joint / sum(joint[i, i] for i in range(n))
    return oracle_entropy(a, alpha) + oracle_entropy(b, alpha) - oracle_entropy(joint, alpha)


def shannon(counts):
    shares = np.array([c for c in counts if c]) / sum(counts)
    return float(-(shares * np.log2(shares)).sum())


def random_values(n=9, d=4, seed=0, dtype=torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_gram_entropy_and_information_against_loops() -> None:
    values, target = random_values(), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1])
    expected, labels = oracle_gram(values, 1.3), oracle_labels(target.tolist())
    np.testing.assert_allclose(renyi.gram(values, 1.3), expected, rtol=1e-12)
    np.testing.assert_allclose(renyi.label_gram(target), labels, rtol=1e-15)
    for alpha in (0.5, ALPHA, 2.0):
        found = renyi.renyi_entropy(renyi.gram(values, 1.3), alpha)
        assert found.item() == pytest.approx(oracle_entropy(expected, alpha), rel=1e-9)
    found = renyi.renyi_mutual_information(renyi.label_gram(target), renyi.gram(values, 1.3))
    assert found.item() == pytest.approx(oracle_information(labels, expected), rel=1e-9)


def test_close_rows_far_from_the_origin_keep_their_distances() -> None:
    steps = torch.tensor([[0.0], [1.0], [2.0], [4.0]]) / 256
    values = (torch.full((4, 3), 1000.0) + steps).float()  # exact in float32
    found = renyi.squared_distances(values)
    expected = 3 * (steps.double() - steps.double().T) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert torch.count_nonzero(found.diagonal()) == 0


def test_entropy_of_known_matrices() -> None:
    same, apart = torch.ones(6, 2), 100 * torch.arange(6.0)[:, None]
    assert renyi.renyi_entropy(renyi.gram(same, 1.0)).item() == pytest.approx(0, abs=1e-9)
    assert renyi.renyi_entropy(renyi.gram(apart, 1.0)).item() == pytest.approx(math.log2(6))
    labels = renyi.label_gram(torch.tensor([0, 0, 0, 1, 1, 2]))
    expected = math.log2((3 / 6) ** 2 + (2 / 6) ** 2 + (1 / 6) ** 2) / (1 - 2)
    assert renyi.renyi_entropy(labels, 2.0).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("side", [-1, 1])
def test_entropy_tends_to_von_neumann_and_shannon(side: int) -> None:
    gram = renyi.gram(random_values(), 1.5)
    eigenvalues = np.linalg.eigvalsh(gram.numpy())
    expected = -sum(v * math.log2(v) for v in eigenvalues)
    gaps = [
        abs(renyi.renyi_entropy(gram, 1 + side * h).item() - expected) for h in (1e-1, 1e-2, 1e-3)
    ]
    assert gaps[1] < 0.2 * gaps[0]
    assert gaps[2] < 0.2 * gaps[1]
    assert gaps[2] < 1e-3
    labels = renyi.label_gram(torch.tensor([0] * 5 + [1] * 2 + [2]))
    near = renyi.renyi_entropy(labels, 1 + side * 1e-7).item()
    assert near == pytest.approx(shannon([5, 2, 1]), abs=1e-5)


@FEW
@given(SEEDS, st.floats(0.01, 100))
def test_gram_knows_neither_scale_nor_place(seed: int, scale: float) -> None:
    values = random_values(seed=seed)
    expected = renyi.gram(values, 0.8)
    torch.testing.assert_close(renyi.gram(scale * values, scale * 0.8), expected)
    torch.testing.assert_close(renyi.gram(values + scale, 0.8), expected)
    assert expected.diagonal().sum().item() == pytest.approx(1)


@FEW
@given(SEEDS, st.permutations(range(9)), st.permutations(range(3)))
def test_information_knows_neither_order_nor_names(
    seed: int, order: list[int], names: list[int]
) -> None:
    values, target = random_values(seed=seed), torch.arange(9) % 3
    expected = renyi.renyi_mutual_information(renyi.label_gram(target), renyi.gram(values, 1.0))
    renamed = torch.tensor(names)[target][order]
    found = renyi.renyi_mutual_information(
        renyi.label_gram(renamed), renyi.gram(values[order], 1.0)
    )
    assert found.item() == pytest.approx(expected.item(), abs=1e-9)


@FEW
@given(st.lists(st.integers(0, 4), min_size=2, max_size=20))
def test_labels_know_all_of_themselves(labels: list[int]) -> None:
    gram = renyi.label_gram(torch.tensor(labels))
    entropy = renyi.renyi_entropy(gram).item()
    assert renyi.renyi_mutual_information(gram, gram).item() == pytest.approx(entropy, abs=1e-9)


@FEW
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 2))
def test_independent_labels_know_nothing(a: int, b: int, repeats: int) -> None:
    """Every pair of values equally often."""
    pairs = torch.cartesian_prod(torch.arange(a), torch.arange(b)).reshape(-1, 2).repeat(repeats, 1)
    found = renyi.renyi_mutual_information(*(renyi.label_gram(pairs[:, i]) for i in range(2)))
    assert found.item() == pytest.approx(0, abs=1e-9)


@FEW
@given(SEEDS)
def test_independent_values_know_little(seed: int) -> None:
    a, b = random_values(40, 2, seed), random_values(40, 2, seed + 1)
    found = renyi.renyi_mutual_information(renyi.gram(a, 3.0), renyi.gram(b, 3.0)).item()
    own = renyi.renyi_mutual_information(renyi.gram(a, 3.0), renyi.gram(a, 3.0)).item()
    assert -1e-9 < found < own


MAP = st.lists(st.integers(0, 2), min_size=6, max_size=6)


@FEW
@given(st.lists(st.integers(0, 5), min_size=2, max_size=24), MAP, MAP)
def test_coarser_inputs_know_no_more_of_labels_that_follow_from_the_input(
    inputs: list[int], label_of: list[int], coarse_of: list[int]
) -> None:
    """Y = h(X): then H(X, Y) = H(X), and the inequality is exact at every α."""
    x = torch.tensor(inputs)
    label, coarse = torch.tensor(label_of)[x], torch.tensor(coarse_of)[x]
    y, fine, rough = (renyi.label_gram(v) for v in (label, x, coarse))
    whole = renyi.renyi_mutual_information(y, fine).item()
    assert whole == pytest.approx(renyi.renyi_entropy(y).item(), abs=1e-9)
    assert whole >= renyi.renyi_mutual_information(y, rough).item() - 1e-9


@FEW
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=2, max_size=24), MAP)
def test_data_processing_inequality_in_shannons_limit(
    pairs: list[tuple[int, int]], coarse_of: list[int]
) -> None:
    x, y = (torch.tensor(column) for column in zip(*pairs, strict=True))
    labels, fine, rough = (renyi.label_gram(v) for v in (y, x, torch.tensor(coarse_of)[x]))
    alpha = 1 + 1e-7
    whole = renyi.renyi_mutual_information(labels, fine, alpha).item()
    assert whole >= renyi.renyi_mutual_information(labels, rough, alpha).item() - 1e-5


@pytest.mark.parametrize("duplicates", [False, True])
def test_gradcheck(duplicates: bool) -> None:
    values, labels = random_values(6, 3), renyi.label_gram(torch.tensor([0, 1, 2, 0, 1, 0]))
    if duplicates:  # eigenvalues of 0
        values[3:] = values[:3]

    def information(rows: Tensor) -> Tensor:
        return renyi.renyi_mutual_information(labels, renyi.gram(rows, 1.2))

    assert torch.autograd.gradcheck(information, values.requires_grad_(), atol=1e-4)


def test_gradient_is_finite_where_eigenvalues_meet_and_vanish() -> None:
    for rows in (torch.zeros(5, 3), torch.eye(3)[[0, 1, 2, 0, 1]], torch.ones(1, 3)):
        rows = rows.requires_grad_()
        labels = renyi.label_gram(torch.arange(len(rows)) % 2)
        renyi.renyi_mutual_information(labels, renyi.gram(rows, 0.5)).backward()
        assert rows.grad is not None
        assert rows.grad.dtype == torch.float32
        assert torch.isfinite(rows.grad).all()


def test_aligned_width_against_loops() -> None:
    target = torch.tensor([0, 0, 1, 1, 2, 2, 2])
    values = 0.3 * random_values(7) + 2 * torch.eye(3, 4, dtype=torch.float64)[target]
    labels = oracle_labels(target.tolist())
    found = renyi.aligned_width(renyi.label_gram(target), values, candidates=12)
    largest = max(float((a - b).norm()) for a in values for b in values)
    assert found.widths.tolist() == pytest.approx([largest * k / 12 for k in range(1, 13)])
    expected = []
    for width in found.widths.tolist():
        gram = oracle_gram(values, width)
        expected.append((gram * labels).sum() / np.sqrt((gram**2).sum() * (labels**2).sum()))
    assert found.alignments.tolist() == pytest.approx(expected, rel=1e-10)
    assert found.width.item() == pytest.approx(found.widths[int(np.argmax(expected))].item())
    assert 0 < int(np.argmax(expected)) < 11
    given = renyi.aligned_width(renyi.label_gram(target), values, 12, largest=10.0)
    assert given.widths[-1].item() == 10.0


@pytest.mark.parametrize("alpha", [0, -1, 1, float("nan")])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and not 1, found {alpha}"):
        renyi.renyi_entropy(torch.eye(2) / 2, alpha)


def test_impossible_kernels_are_named() -> None:
    with pytest.raises(ValueError, match="width must be above 0, found 0"):
        renyi.gram(torch.ones(2, 2), 0)
    with pytest.raises(ValueError, match=r"N above 0, found \[3\]"):
        renyi.gram(torch.ones(3), 1.0)
    with pytest.raises(ValueError, match=r"N above 0, found \[0, 2\]"):
        renyi.gram(torch.ones(0, 2), 1.0)
    with pytest.raises(ValueError, match="all rows are the same"):
        renyi.aligned_width(torch.eye(2) / 2, torch.ones(2, 3))


@pytest.mark.parametrize(("epoch", "decay"), [(0, 0.5), (1, 0.5), (8, 0.5), (3, 1.0)])
def test_the_objectives_loss_against_the_formula(epoch: int, decay: float) -> None:
    made = MutualInformation(5, [4, 4, 4], Options(width=0.25, decay=decay)).double()
    made.epoch.fill_(epoch)
    z, target = random_values(12, 5), torch.arange(12) % 3
    output = made(z, target)
    probabilities = made.head(z).softmax(1).detach().numpy()
    cross_entropy = -np.mean([math.log(p[n % 3]) for n, p in enumerate(probabilities)])
    information = oracle_information(
        oracle_labels(target.tolist()), oracle_gram(probabilities, 0.25)
    )
    share = 1 / (1 + epoch) ** decay
    expected = share * cross_entropy - (1 - share) * information
    assert output.total.item() == pytest.approx(expected, rel=1e-9)
    assert output.parts["cross_entropy"].item() == pytest.approx(cross_entropy)
    assert output.parts["mutual_information"].item() == pytest.approx(information)
