import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from wsi_ncmi.evaluation.calibration import reliability
from wsi_ncmi.report import figures
from wsi_ncmi.report.style import colour_of

ARMS = [("abmil", "cross_entropy"), ("abmil", "ncmi"), ("mean", "cross_entropy")]


def ink(png, colour):
    """How many pixels have exactly a colour of the palette."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return int((image == wanted).all(-1).sum())


def test_macro_f1_draws_longer_lines_for_wider_intervals():
    def draw(low):
        rows = [
            {"aggregator": a, "objective": o, "metric": "macro_f1", "value": 0.6}
            | {"low": low if o == "ncmi" else 0.5, "high": 0.7}
            for a, o in ARMS
        ]
        seeds = pd.DataFrame(rows)[["aggregator", "objective", "metric", "value"]]
        return figures.macro_f1(pd.DataFrame(rows), seeds.assign(seed=0), 0.95)

    # Blue is cross-entropy (two aggregators), vermilion NCMI (one, and its interval widens).
    narrow, wide = draw(0.58), draw(0.3)
    assert ink(narrow, colour_of(0)) > ink(narrow, colour_of(1)) > 100
    assert ink(wide, colour_of(1)) > ink(wide, colour_of(0)) / 2
    assert draw(0.3) == wide


@pytest.mark.parametrize("n_classes", [2, 4, 30])
def test_confusion_shades_the_diagonal_of_a_perfect_arm(n_classes):
    matrices = {arm: np.eye(n_classes) * 7.0 for arm in ARMS}  # the fourth cell stays empty
    drawn = figures.confusion(matrices, [f"c{i}" for i in range(n_classes)])
    darkest = "#08306b"  # matplotlib's Blues at 1
    assert ink(drawn, darkest) > 3 * 200
    assert ink(figures.confusion({ARMS[0]: np.zeros((3, 3))}, list("abc")), darkest) < 3 * 200


def test_curves_show_training_and_validation():
    epochs = np.arange(1, 11)
    rows = [
        {"aggregator": a, "objective": o, "epoch": e, "part": p, "loss": 1 / e}
        | {"macro_f1": e / 10 if p == "val" else None}
        for a, o in ARMS
        for e in epochs
        for p in ("train", "val")
    ]
    drawn = figures.curves(pd.DataFrame(rows))
    assert ink(drawn, colour_of(1)) > 500
    only_training = pd.DataFrame([row for row in rows if row["part"] == "train"])
    assert ink(figures.curves(only_training), colour_of(1)) == 0


def test_an_objective_and_a_likelihood_never_share_an_axis(monkeypatch):
    """Each panel holds one line of one arm; only what all arms share has a common axis."""
    drawn = []
    monkeypatch.setattr(figures, "png", lambda figure: drawn.append(figure) or b"")
    losses = {("train", "cross_entropy"): 1.0, ("train", "ncmi"): 40.0}
    rows = [
        {"aggregator": "abmil", "objective": o, "epoch": e, "part": p}
        | {"loss": losses.get((p, o), 0.5), "macro_f1": 0.7 if p == "val" else None}
        for o in ("cross_entropy", "ncmi")
        for e in (0, 1)
        for p in ("train", "val")
    ]
    figures.curves(pd.DataFrame(rows))
    panels = drawn[0].axes
    values = [[line.get_ydata()[0] for line in axes.lines] for axes in panels]
    assert values == [[1.0], [40.0], [0.5], [0.5], [0.7], [0.7]]
    labels = [axes.get_ylabel() for axes in panels]
    assert labels[::2] == ["training objective", "NLL (validation)", "macro-F1 (validation)"]
    limits = [axes.get_ylim() for axes in panels]
    assert limits[0] != limits[1]
    assert limits[2] == limits[3]


def test_reliability_draws_only_arms_that_exist():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    found = reliability(probabilities.argmax(1), probabilities)
    two = figures.reliability(dict.fromkeys(ARMS[:2], found))
    three = figures.reliability(dict.fromkeys(ARMS, found))
    assert ink(two, colour_of(1)) > 50
    assert ink(three, colour_of(0)) > 1.5 * ink(two, colour_of(0))


def test_a_dollar_sign_in_a_name_is_text():
    pictures = {
        name: figures.confusion({("mean", "ncmi"): np.eye(2)}, [name, "b"])
        for name in ("$x_$", "$x$", "x")  # the first is no formula, the second would be one
    }
    assert len(set(pictures.values())) == 3
