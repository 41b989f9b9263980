"""CMI, Γ and NCMI of predictions against loops over pairs of samples; Rényi between layers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from wsi_ncmi.evaluation.information import MEASURES, information, log_probabilities
from wsi_ncmi.evaluation.layers import (
    layer_information,
    layer_width,
    renyi_between,
    shuffled_batches,
)
from wsi_ncmi.evaluation.samples import Arm
from wsi_ncmi.evaluation.tables import information_table
from wsi_ncmi.losses.functional import renyi

FEW = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 10_000)
TARGET = np.array([0, 1, 2, 0, 1, 0, 0])


def scores(seed: int = 0, scale: float = 2.0, n: int = 7, classes: int = 3) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=(n, classes))


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def cross_entropy(p, q):
    return -sum(a * math.log(b) for a, b in zip(p, q, strict=True))


def softmax(row):
    powers = [math.exp(v - max(row)) for v in row]
    return [v / sum(powers) for v in powers]


def oracle(values, target):
    """(a, b, b′), each a list over samples: one pair after the other."""
    p = [softmax(row) for row in values]
    n, present = len(p), sorted(set(target))
    q = {
        y: [sum(p[i][k] for i in own) / len(own) for k in range(len(p[0]))]
        for y in present
        for own in [[i for i in range(n) if target[i] == y]]
    }
    a = [kl(p[i], q[target[i]]) for i in range(n)]
    b = [
        sum(cross_entropy(p[i], p[j]) for j in range(n) if target[j] != target[i]) / n
        for i in range(n)
    ]
    c = [sum(kl(q[v], p[i]) for v in present if v != target[i]) / len(present) for i in range(n)]
    return a, b, c


def measured(values: np.ndarray, target: np.ndarray):
    return information(log_softmax(values, axis=1), target)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0])
@pytest.mark.parametrize("absent", [False, True])
def test_against_loops_over_pairs(scale: float, absent: bool) -> None:
    values = scores(scale=scale, classes=4 if absent else 3)
    found = measured(values, TARGET)
    a, b, c = oracle(values.tolist(), TARGET.tolist())
    np.testing.assert_allclose(found.divergence, a, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(found.separation, b, rtol=1e-10)
    np.testing.assert_allclose(found.centroid_separation, c, rtol=1e-8, atol=1e-14)
    cmi, gamma = sum(a) / 7, sum(b) / 7
    assert found.cmi == pytest.approx(cmi)
    assert found.gamma == pytest.approx(gamma)
    assert found.ncmi == pytest.approx(cmi / gamma)
    assert found.centroid_ncmi == pytest.approx(cmi / (sum(c) / 7))


def test_gamma_is_the_mean_over_independent_pairs() -> None:
    """E[1{Y≠V} H(P_X, P_U)] with both drawn from all samples."""
    values, rng = scores(), np.random.default_rng(1)
    p = [softmax(row) for row in values]
    draws = rng.integers(0, 7, (100_000, 2))
    pairs = np.array(
        [[cross_entropy(p[i], p[j]) * (TARGET[i] != TARGET[j]) for j in range(7)] for i in range(7)]
    )
    drawn = pairs[draws[:, 0], draws[:, 1]]
    error = drawn.std() / math.sqrt(len(drawn))
    assert measured(values, TARGET).gamma == pytest.approx(drawn.mean(), abs=4 * error)


def test_each_class_by_itself() -> None:
    values = scores(classes=4)
    found, (a, b, c) = measured(values, TARGET), oracle(values.tolist(), TARGET.tolist())
    own = [i for i in range(7) if TARGET[i] == 1]
    one = found.of_class(1)
    assert one.cmi == pytest.approx(np.mean([a[i] for i in own]))
    assert one.gamma == pytest.approx(np.mean([b[i] for i in own]))
    assert one.centroid_gamma == pytest.approx(np.mean([c[i] for i in own]))
    weighted = sum(found.of_class(y).cmi * (y == TARGET).sum() for y in range(3)) / 7
    assert found.cmi == pytest.approx(weighted)
    assert len(found.of_class(3).target) == 0
    assert all(math.isnan(v) for v in found.of_class(3).measures.values())


@FEW
@given(SEEDS, st.permutations(range(7)), st.permutations(range(3)))
def test_neither_order_nor_names_nor_repetition_matter(
    seed: int, order: list[int], names: list[int]
) -> None:
    values = scores(seed)
    expected = measured(values, TARGET)
    back = np.argsort(names)
    changes = {
        "order": measured(values[order], TARGET[order]),
        "names": measured(values[:, back], np.array(names)[TARGET]),
        "repeated": measured(np.tile(values, (3, 1)), np.tile(TARGET, 3)),
        "shifted": measured(values + 7.0, TARGET),
    }
    for found in changes.values():
        for name in MEASURES:
            assert found.measures[name] == pytest.approx(expected.measures[name], rel=1e-8)
    np.testing.assert_allclose(changes["order"].divergence, expected.divergence[order], rtol=1e-8)


def test_a_sharper_classifier_of_separable_classes_has_a_lower_ncmi() -> None:
    values = 3 * np.eye(3)[TARGET] + scores(scale=0.3)
    ncmi = [measured(scale * values, TARGET).ncmi for scale in (0.5, 1, 2, 4)]
    assert ncmi == sorted(ncmi, reverse=True)


def test_classes_that_are_points_have_no_cmi() -> None:
    values = np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 3]])[TARGET]
    found = measured(values, TARGET)
    assert found.cmi == pytest.approx(0, abs=1e-15)
    assert found.ncmi == pytest.approx(0, abs=1e-15)
    assert found.gamma > 0


def test_a_classifier_that_says_the_same_of_all() -> None:
    found = measured(np.zeros((4, 3)), np.array([0, 1, 0, 1]))
    assert found.gamma == pytest.approx(0.5 * math.log(3))
    assert found.ncmi == 0
    assert math.isnan(found.centroid_ncmi)  # no class mean is away from any sample


def test_scores_far_apart_stay_finite() -> None:
    values = np.array([[1e4, 0.0], [0.0, 1e4], [0.0, 1.0]])
    found = measured(values, np.array([0, 1, 0]))
    assert all(math.isfinite(v) and v > 0 for v in found.measures.values())
    # Sample 0 against 1 and back: 1e4 each; 2 is uncertain.
    p = softmax([0.0, 1.0])
    pairs = 2e4 + p[0] * 1e4 + math.log1p(math.exp(-1))
    assert found.gamma == pytest.approx(pairs / 9, rel=1e-6)


def test_probabilities_of_zero_count_with_708_nats() -> None:
    found = log_probabilities(np.array([[1.0, 0.0], [0.3, 0.7]]))
    assert found[0, 1] == pytest.approx(-708.396, abs=1e-3)
    np.testing.assert_allclose(found[1], np.log([0.3, 0.7]))
    np.testing.assert_allclose(np.exp(log_probabilities(np.array([[2.0, 6.0]]))), [[0.25, 0.75]])


@pytest.mark.parametrize(
    ("values", "target", "text"),
    [
        (np.zeros((3, 2)), [0, 1], r"found \[3, 2\] and \[2\]"),
        (np.zeros((0, 2)), [], r"found \[0, 2\] and \[0\]"),
        (np.array([[0, 1.0], [np.nan, 0]]), [0, 1], "found nan in row 1, class 0"),
        (np.array([[0, -np.inf], [0, 0]]), [0, 1], "found -inf in row 0, class 1"),
        (np.zeros((2, 2)), [0, 2], r"lie in 0\.\.1, found 0\.\.2"),
        (np.zeros((3, 2)), [1, 1, 1], "all 3 samples are of class 1"),
    ],
)
def test_bad_inputs_are_named(values: np.ndarray, target: list[int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        information(values, np.array(target, dtype=np.int64))


def test_a_test_part_of_a_single_class_has_no_value() -> None:
    found = {"abmil": scores()[None], "mean": scores(1)[None]}
    arms = {(name, "ncmi"): Arm(of.argmax(-1), of) for name, of in found.items()}
    table = information_table(arms, np.zeros(7, dtype=np.int64))
    assert table["aggregator"].tolist() == ["abmil", "mean"]
    assert table[[*MEASURES, "ncmi_seed_sd"]].isna().all(axis=None)
    assert information_table(arms, TARGET)[list(MEASURES)].notna().all(axis=None)


# Layers


def layers(n: int = 60, d: int = 20, noise: float = 0.5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    target = np.arange(n) % 3
    inputs = 2 * np.eye(3, d)[target] + noise * rng.normal(size=(n, d))
    predictions = np.exp(log_softmax(inputs[:, :3], axis=1))
    return inputs, predictions, target


def test_layer_information_against_its_parts() -> None:
    inputs, predictions, target = layers()
    found = layer_information(inputs, predictions, target, batch_size=25, seed=3)
    batches = shuffled_batches(60, 25, 3)
    assert found.batches == len(batches) == 2

    def mean(values: np.ndarray, width: float) -> float:
        grams = [
            (renyi.label_gram(torch.tensor(target[i])), renyi.gram(torch.tensor(values[i]), width))
            for i in batches
        ]
        return float(np.mean([renyi.renyi_mutual_information(y, x) for y, x in grams]))

    assert found.label_prediction == pytest.approx(mean(predictions, found.prediction_width))
    assert found.label_input == pytest.approx(mean(inputs, found.input_width))
    at_prediction_width = mean(inputs, found.prediction_width)
    assert found.label_input_at_prediction_width == pytest.approx(at_prediction_width)
    entropies = [renyi.renyi_entropy(renyi.label_gram(torch.tensor(target[i]))) for i in batches]
    assert found.label_entropy == pytest.approx(float(np.mean(entropies)))


def test_the_predictions_width_makes_inputs_know_everything() -> None:
    """Labels that are noise: I(Y; X) = H(Y) at Ŷ's width says nothing about X."""
    rng = np.random.default_rng(0)
    inputs, target = rng.normal(size=(60, 200)), rng.integers(0, 3, 60)
    predictions = np.exp(log_softmax(0.1 * rng.normal(size=(60, 3)), axis=1))
    found = layer_information(inputs, predictions, target, batch_size=60)
    assert found.label_input_at_prediction_width == pytest.approx(found.label_entropy, abs=1e-6)
    assert found.label_prediction < 0.9 * found.label_entropy


def test_layer_width_is_the_best_of_the_batches_mean() -> None:
    inputs, _, target = layers()
    batches = shuffled_batches(60, 20, 0)
    widths = renyi.width_candidates(
        max(np.linalg.norm(a - b) for i in batches for a in inputs[i] for b in inputs[i]), 15
    )
    mean = sum(
        renyi.alignments(renyi.label_gram(torch.tensor(target[i])), torch.tensor(inputs[i]), widths)
        for i in batches
    )
    found = layer_width(inputs, target, batches, 15)
    assert found == pytest.approx(widths[mean.argmax()].item())


def test_between_layers_and_with_labels() -> None:
    inputs, predictions, target = layers()
    batches = [np.arange(30), np.arange(30, 60)]
    forth = renyi_between(inputs, predictions, 2.0, 0.5, batches)
    assert forth == pytest.approx(renyi_between(predictions, inputs, 0.5, 2.0, batches))
    assert 0 < forth < renyi_between(inputs, inputs, 2.0, 2.0, batches)
    with pytest.raises(ValueError, match="found 60 and 59 rows"):
        renyi_between(inputs, target[:59], 1.0, None, batches)
    with pytest.raises(ValueError, match=r"shape \[60\] with width 1.0"):
        renyi_between(target, inputs, 1.0, 1.0, [np.arange(60)])
    with pytest.raises(ValueError, match=r"shape \[60, 20\] with width None"):
        renyi_between(target, inputs, None, None, [np.arange(60)])


def test_batches_are_whole_and_follow_the_seed() -> None:
    batches = shuffled_batches(10, 4, 1)
    assert [len(b) for b in batches] == [4, 4]
    assert len(set(np.concatenate(batches))) == 8
    np.testing.assert_array_equal(batches, shuffled_batches(10, 4, 1))
    assert not np.array_equal(batches, shuffled_batches(10, 4, 2))
    for size in (1, 11):
        with pytest.raises(ValueError, match=rf"2\.\.10 .*found {size}"):
            shuffled_batches(10, size, 0)
    with pytest.raises(ValueError, match=r"expected values \[3, d\], found \[2, 2\]"):
        layer_width(np.ones((2, 2)), np.zeros(3, dtype=np.int64), [np.arange(2)])


def test_a_small_divergence_keeps_its_digits() -> None:
    """Of distributions that differ by 1e-7, where a difference of sums would have few left."""
    rng = np.random.default_rng(3)
    log_p = np.log(rng.dirichlet(np.ones(5)))
    step = 1e-7 * rng.normal(size=5)
    step -= (np.exp(log_p) * step).sum()
    pair = np.stack([log_p, log_p + step])
    found = information(np.concatenate([pair, pair[::-1]]), np.array([0, 0, 1, 1]))
    # To second order KL(P ‖ Q) = Σ p s²/2, here with s = ± half the step.
    expected = (np.exp(log_p) * step**2).sum() / 8
    np.testing.assert_allclose(found.divergence, expected, rtol=1e-5)
