"""Attacked arms: who is compared with whom, intervals, and what gives a hidden gradient away."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsi_ncmi import registry
from wsi_ncmi.attacks.pipeline import Pipeline
from wsi_ncmi.config import Evaluation, ImageTask
from wsi_ncmi.errors import UserError
from wsi_ncmi.experiments.robust.arms import arms_of
from wsi_ncmi.experiments.robust.masking import FAILED, PASSED, check_table
from wsi_ncmi.experiments.robust.measure import CLEAN, FGSM, RANDOM, WORST, Plan, measured
from wsi_ncmi.experiments.robust.models import Given
from wsi_ncmi.experiments.robust.statistics import Resampled
from wsi_ncmi.experiments.robust.tables import Attacks, accuracy_table, difference_table
from wsi_ncmi.images.models import ImageEncoder

BALL = {"adversarial": {"radius": 0.1}}
SIDE, CLASSES, COUNT = 4, 4, 80


def task(**objectives: Any) -> ImageTask:
    given = {"dataset": "mnist", "path": "x", "objectives": {"cross_entropy": {}, **objectives}}
    return ImageTask.model_validate(given)


# --- arms ----------------------------------------------------------------------------------------


def test_arms_are_compared_with_those_that_were_trained_alike() -> None:
    found = arms_of(
        "t",
        task(
            ncmi_robust={"part": "ncmi", "training": BALL},
            ncmi={},
            robust={"part": "cross_entropy", "training": BALL},
        ),
    )
    assert [(arm.label, arm.reference) for arm in found] == [
        ("cross_entropy", None),
        ("ncmi_robust", "robust"),
        ("ncmi", "cross_entropy"),
        ("robust", None),
    ]
    assert [arm.adversarial is not None for arm in found] == [False, True, False, True]


def test_an_arm_without_a_counterpart_is_refused() -> None:
    smooth = {"part": "cross_entropy", "options": {"label_smoothing": 0.1}, "training": BALL}
    with pytest.raises(UserError, match=r"images.t: ncmi_robust, smooth differ from cross_entropy"):
        arms_of("t", task(ncmi_robust={"part": "ncmi", "training": BALL}, smooth=smooth))


# --- intervals -----------------------------------------------------------------------------------


def test_where_seeds_agree_the_interval_is_that_of_the_images() -> None:
    """Of a mean over n images: √(p (1 − p) / n)."""
    right = np.arange(400) % 5 > 0
    resampled = Resampled(np.arange(400), Evaluation(bootstrap=4000))
    found = resampled.accuracy(dict.fromkeys((0, 1, 2), right))
    assert float(found.difference) == pytest.approx(0.8)
    assert float(found.error) == pytest.approx((0.8 * 0.2 / 400) ** 0.5, rel=0.04)
    same = resampled.difference({0: right, 1: right}, {0: right, 1: right}, paired=True)
    assert float(same.difference) == float(same.error) == 0


def test_trainings_that_differ_widen_it() -> None:
    """Var of the mean over seeds is at least that between seeds, by their number."""
    rows = {seed: np.arange(400) < 400 * share for seed, share in enumerate((0.5, 0.6, 0.7))}
    found = Resampled(np.arange(400), Evaluation()).accuracy(rows)
    assert float(found.error) >= (0.01 / 3) ** 0.5
    low, high = found.interval(0.95)
    assert low < 0.6 < high


def test_images_of_a_group_are_drawn_together() -> None:
    """Twice the same images are no more images."""
    right = np.arange(200) % 5 > 0
    single = Resampled(np.arange(200), Evaluation()).accuracy({0: right, 1: right})
    twice = Resampled(np.tile(np.arange(200), 2), Evaluation()).accuracy(
        dict.fromkeys((0, 1), np.tile(right, 2))
    )
    assert float(twice.error) == pytest.approx(float(single.error), rel=1e-6)


# --- attacks and masking -------------------------------------------------------------------------


class Hidden(nn.Module):
    """A layer of the pixels; `levels`: after they are rounded, by which the gradient is lost."""

    def __init__(self, levels: int | None, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer, self.levels = nn.Linear(3 * SIDE * SIDE, 8), levels

    def forward_features(self, images: Tensor) -> Tensor:
        return (images * self.levels).round() / self.levels if self.levels else images

    def forward_head(self, features: Tensor) -> Tensor:
        return torch.tanh(self.layer(features.flatten(1)))


def pipeline(seed: int, levels: int | None = None) -> Pipeline:
    encoder = ImageEncoder(Hidden(levels, seed), [0.5] * 3, [0.25] * 3, 8)
    module = registry.load("objective", "cross_entropy")
    return Pipeline(encoder, module.build(8, [1] * CLASSES, module.Options()))


PLAN = Plan(0.1, 10, 2, (0.02, 0.05), 0.3, 0, 50)


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    """Two seeds of a plain arm and of one that rounds its pixels."""
    pixels = torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    models: dict[str, dict[int, Any]] = {"cross_entropy": {}, "ncmi": {}}
    for seed in (0, 1):
        plain, rounded = pipeline(seed), pipeline(seed, levels=12)
        target = plain(pixels).argmax(1)
        given = Given(pixels, target, np.arange(COUNT))
        found = measured({"cross_entropy": plain, "ncmi": rounded}, given, PLAN)
        for arm, one in found.items():
            models[arm][seed] = one
    streams: dict[str, str | None] = dict.fromkeys(models)
    return Attacks("t", arms_of("t", task(ncmi={})), models, streams, given)


def test_the_worst_of_all_is_no_better_than_any(attacks: Attacks) -> None:
    of_pgd = ["PGD-5", "PGD-10", "PGD-10 of the margin", "PGD-10 of its own loss"]
    assert attacks.attacks == [CLEAN, RANDOM, FGSM, *of_pgd, WORST, "PGD-10 in L2"]
    one = attacks.models["cross_entropy"][0]
    for name in attacks.attacks[:-1]:
        assert (one.right[name] | ~one.right[WORST]).all()
    assert one.right[CLEAN].all()
    assert list(one.by_radius) == [0.0, 0.02, 0.05, 0.1, 1.0]
    assert len(one.by_step) == len(one.loss) == 11
    assert one.right[WORST].mean() < 0.8
    assert list(one.transfer) == ["ncmi"]


def test_a_hidden_gradient_is_found_out(attacks: Attacks) -> None:
    """Rounded pixels withstand every gradient, but not random points, others' images or ε = 1."""
    table = check_table("t", attacks.models, PLAN).set_index(["objective", "check"])["verdict"]
    assert set(table["cross_entropy"]) == {PASSED}
    masked = table["ncmi"]
    failed = set(masked.index[masked == FAILED])
    assert {"no image withstands the whole range", "the loss rises along the attack"} <= failed
    assert "the other arms' images are no stronger" in failed
    assert len(masked) == 8  # AutoAttack was not run


def test_tables_have_every_arm_and_attack(attacks: Attacks) -> None:
    rules = Evaluation(bootstrap=200)
    found = accuracy_table(attacks, rules)
    assert list(found["objective"].unique()) == ["cross_entropy", "ncmi"]
    assert len(found) == 2 * len(attacks.attacks)
    clean = found[found["attack"] == CLEAN]
    assert clean["accuracy"].iloc[0] == 1
    assert (found["low"] <= found["accuracy"]).all()
    own = difference_table(attacks, rules)
    assert set(own["reference"]) == {"cross_entropy"}
    for row in own.itertuples():
        both = found[found["attack"] == row.attack].set_index("objective")["accuracy"]
        assert row.difference == pytest.approx(both["ncmi"] - both["cross_entropy"])
    assert (own["p_holm"] >= own["p_value"]).all()
