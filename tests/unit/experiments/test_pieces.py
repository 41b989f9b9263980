"""The numbers that experiments compute themselves."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTask
from wsi_ncmi.errors import PartError, UserError
from wsi_ncmi.evaluation.resampling import confusions
from wsi_ncmi.experiments import cmic_dl
from wsi_ncmi.experiments.finer import FinerClasses, adjusted_rand
from wsi_ncmi.experiments.next_token import frequency
from wsi_ncmi.experiments.results import TaskResults
from wsi_ncmi.experiments.simplex import CORNERS, points, shown_epochs
from wsi_ncmi.images.datasets.interface import Images
from wsi_ncmi.images.kinds import TOKEN
from wsi_ncmi.losses.ncmi_mixture import NCMIMixture, Options


def task_of(merged: dict[str, list[str]]) -> TaskResults:
    task = ImageTask(dataset="fashion_mnist", path="x", merge_classes=merged)
    return TaskResults("garments", task, Path("runs"), Path("index"))


@pytest.fixture
def finer() -> FinerClasses:
    """Two merged classes of two finer ones each, 40 images of every finer class."""
    found = FinerClasses(task_of({"low": ["a", "b"], "high": ["c", "d"]}), 40, 0)
    fine = np.repeat(np.arange(4), 40)
    made: dict[str, Any] = {"fine": (fine, list("abcd")), "target": fine // 2}
    found.__dict__.update(made)
    return found


def test_the_finer_classes_themselves_are_found_whole(finer: FinerClasses) -> None:
    """Whatever the distributions are called, and in both merged classes alike."""
    swapped = 1 - finer.fine[0] % 2
    found = finer.rand_index([swapped, finer.fine[0]], [0, 1])
    assert (found.value, found.low, found.high) == (1, 1, 1)
    assert finer.used([swapped], [0, 1]) == pytest.approx(2)


def test_half_followed_classes_are_half_found_and_the_mean_is_over_classes(
    finer: FinerClasses,
) -> None:
    """A quarter of the second class's images is on the wrong side."""
    follows = finer.fine[0] % 2
    wrong = (finer.target == 1) & (np.arange(160) % 4 == 0)
    share = np.where(wrong, 1 - follows, follows)
    assert finer.rand_index([share], [0]).value == 1
    other = finer.rand_index([share], [1])
    assert other.value == pytest.approx(0.2404, abs=1e-4)
    assert 0.05 < other.low < other.value < other.high < 0.6
    assert finer.rand_index([share], [0, 1]).value == pytest.approx((1 + other.value) / 2)
    assert abs(finer.rand_index([np.arange(160) % 2], [0]).value) < 0.02  # chance
    assert finer.used([np.zeros(160, int)], [0, 1]) == 1
    three_to_one = np.where(np.arange(160) % 4 == 0, 1, 0)
    expected = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert finer.used([three_to_one], [0]) == pytest.approx(expected)


def test_the_index_of_resamples_is_scikit_learns() -> None:
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(1)
    fine, share = rng.integers(0, 3, 200), rng.integers(0, 5, 200)
    share = np.where(rng.random(200) < 0.6, fine, share)
    weights = np.concatenate([np.ones((200, 1)), rng.multinomial(200, [1 / 200] * 200, 6).T], 1)
    found = adjusted_rand(confusions(fine, share, weights, 5))
    for column, value in zip(weights.T.astype(int), found, strict=True):
        expected = adjusted_rand_score(np.repeat(fine, column), np.repeat(share, column))
        assert value == pytest.approx(expected)
    assert adjusted_rand(np.array([[[5.0, 0.0], [0.0, 0.0]]])).tolist() == [1]


def test_classes_must_be_merged() -> None:
    with pytest.raises(UserError, match=r"images\.garments\.merge_classes: none, expected classes"):
        FinerClasses(task_of({}), 10, 0)


def test_the_nearest_distribution_decides_the_score_where_assignment_is_hard() -> None:
    torch.manual_seed(0)
    objective = NCMIMixture(6, [5, 5], Options(centroids_per_class=3, softness=1e-6)).eval()
    z = torch.randn(8, 6)
    nearest = objective.divergences(z).amin(-1)
    assert objective.divergences(z).shape == (8, 2, 3)
    torch.testing.assert_close(objective.raw_scores(z), -nearest.float(), rtol=1e-4, atol=1e-6)


def test_sure_predictions_lie_in_the_corners_and_unsure_ones_in_the_middle() -> None:
    scores = np.array([[50.0, 0, 9, 0], [0, 0, 9, 50.0], [0, 0, -9, 0], [0, 40.0, 9, 0]])
    found = points(scores, [0, 1, 3])
    expected = [CORNERS[0], CORNERS[2], CORNERS.mean(0), CORNERS[1]]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("epochs", "shown"), [(1, [0]), (2, [0, 1]), (27, [0, 2, 8, 26])])
def test_first_and_last_epochs_are_shown(epochs: int, shown: list[int]) -> None:
    assert shown_epochs(epochs) == shown


def test_a_simplex_has_three_corners() -> None:
    with pytest.raises(PartError, match=r"simplex.wine must name three classes, found \['a'"):
        registry.options_of(cmic_dl, {"simplex": {"wine": ["a", "b"]}})


def test_bits_of_counting_are_those_of_the_counts() -> None:
    text = "abab" * 25 + "ccab" * 5

    def images(text: str) -> Images:
        tokens = np.array(["abc".index(sign) for sign in text], np.uint8)
        ids = [str(i) for i in range(len(text) - 1)]
        return Images(ids, tokens[1:].astype(np.int64), tokens[:-1, None], kind=TOKEN)

    train, test = images(text), images("abcab")
    alone, pairs = Counter(text[1:]), Counter(pairwise(text))
    bits, accuracy = frequency(train, test, 0, 3)
    p = {sign: (alone[sign] + 1) / (len(text) - 1 + 3) for sign in "abc"}
    assert bits == pytest.approx(-np.mean([np.log2(p[sign]) for sign in "bcab"]))
    assert accuracy == 0.5  # b, the most frequent
    bits, accuracy = frequency(train, test, 1, 3)
    after = {a: sum(n for (first, _), n in pairs.items() if first == a) for a in "abc"}
    expected = [(pairs[a, b] + 1) / (after[a] + 3) for a, b in zip("abca", "bcab", strict=True)]
    assert bits == pytest.approx(-np.mean(np.log2(expected)))
    assert accuracy == 0.75  # ab, ca (as frequent as cc, and first) and ab


def test_what_arms_differ_in_decides_how_they_are_shown() -> None:
    def kind(*options: dict[str, float]) -> str:
        arms = {f"arm{i}": {"part": "cmic_dl", "options": one} for i, one in enumerate(options)}
        arms["cross_entropy"] = {}
        raw = {"dataset": "mnist", "path": "x", "objectives": arms}
        found: Any = SimpleNamespace(settings=ImageTask.model_validate(raw))
        rows = [cmic_dl._options(found, arm) for arm in arms]
        return cmic_dl._kind(pd.DataFrame(rows))

    assert kind({"cmi_weight": 0.1}, {"separation_weight": 0.1}) == "weights"
    assert kind({"centroid_samples": 1}, {"centroid_decay": 0.5}) == "samples"
    assert kind({}) == "objectives"
