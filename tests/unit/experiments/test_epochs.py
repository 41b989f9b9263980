import dataclasses

import numpy as np
import pytest
import torch
from made_experiments import write_mnist
from torch.func import jacrev

from wsi_ncmi.config import ImageTask
from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.layers import layer_information
from wsi_ncmi.experiments.epochs import Snapshots, TaskImages
from wsi_ncmi.experiments.information_curves import measured
from wsi_ncmi.experiments.results import TaskResults
from wsi_ncmi.predictions.records import score_scales
from wsi_ncmi.stages import image_index, images
from wsi_ncmi.training.images import load_run

CPU = torch.device("cpu")
RUN = "mlp--cross_entropy--fold0--seed0"
WIDTH, ALPHA, BATCH = 0.4, 1.5, 15


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Two trainings of three epochs on 60 pictures, with snapshots."""
    root = tmp_path_factory.mktemp("epochs")
    write_mnist(root / "data", of_class=8)
    settings = ImageTask.model_validate(
        {
            "dataset": "mnist",
            "path": str(root / "data"),
            "validation_fraction": 0.25,
            "model": "mlp",
            "model_options": {"width": 6, "depth": 1},
            "objectives": {"cross_entropy": {}, "mutual_information": {}},
            "training": {"epochs": 3, "batch_size": 20, "learning_rate": 1e-2, "snapshots": 1},
            "seeds": [0],
        }
    )
    index = root / "data-sets" / settings.source
    image_index.run(settings, index / "summary.json", 1)
    images.run("t", settings, "c", 0, index, root / "runs", 1)
    images.run_splits(settings, index, root / "runs" / "splits.tsv")
    return TaskResults("t", settings, root / "runs", index)


def test_after_the_last_epoch_it_predicts_what_is_recorded_before_calibration(task):
    run = Snapshots(TaskImages.read(task, None, CPU), RUN, "cross_entropy")
    assert run.epochs == [0, 1, 2]
    scale = score_scales(task.folder, task.runs.runs)[RUN]
    for part in ("val", "test"):
        scores, target = task.runs.scored(RUN, part)
        expected = torch.from_numpy(scores / scale).double().log_softmax(1)
        np.testing.assert_allclose(run.log_probabilities(2, part), expected, atol=1e-4)
        assert run.images.targets(part).tolist() == target.tolist()
    assert not np.allclose(run.log_probabilities(0, "val"), run.log_probabilities(2, "val"))


def test_pixels_are_in_0_to_1_and_three_equal_channels_are_one(task):
    given = TaskImages.read(task, None, CPU)
    found = given.pixels("val")
    stored = given.images.parts["val"].pixels
    expected = np.stack([np.asarray(stored[i])[..., 0].ravel() / 255 for i in range(len(found))])
    np.testing.assert_array_equal(found, expected)


def test_a_subset_of_the_training_part_is_balanced(task):
    found = TaskImages.read(task, 20, CPU)
    assert np.bincount(found.targets("train")).tolist() == [2] * 10
    assert len(found.targets("val")) == 20
    assert len(found.pixels("train")) == 20


def test_gradients_are_those_of_both_terms_in_float64(task):
    """By jacobians of a function of all weights, with I_α written out again."""
    given = TaskImages.read(task, None, CPU)
    run = Snapshots(given, RUN, "cross_entropy", BATCH)
    encoder, objective, _ = load_run(task.folder / RUN, CPU, 1)
    model = torch.nn.Sequential(encoder.module, objective.head).double()
    weights = {name: p.detach() for name, p in model.named_parameters()}
    data = given.data("cross_entropy", BATCH)
    gradients = []
    for batch, target in list(data.evaluation("train"))[: 60 // BATCH]:
        x = (batch.double() / 255 - encoder.mean.double()) / encoder.std.double()

        def terms(w, x=x, target=target):
            hidden = torch.relu(
                x.mean(1).flatten(1) @ w["0.layers.0.weight"].T + w["0.layers.0.bias"]
            )
            p = (hidden @ w["1.weight"].T + w["1.bias"]).softmax(1)
            loss = -p[torch.arange(len(target)), target].log().mean()
            d = (p[:, None] - p[None]).square().sum(2)
            a = torch.exp(-d / WIDTH**2) / len(target)
            b = (target[:, None] == target).double() / len(target)
            joint = a * b / (a * b).trace()
            entropies = [_entropy(k) for k in (a, b, joint)]
            return torch.stack([loss, entropies[0] + entropies[1] - entropies[2]])

        jacobians = jacrev(terms)(weights)
        rows = torch.cat([j.flatten(1) for j in jacobians.values()], 1)
        gradients.append(rows)
    found = run.gradient_norms(1, WIDTH, ALPHA)
    np.testing.assert_allclose(found, torch.stack(gradients).mean(0).norm(dim=1), rtol=1e-3)


def _entropy(gram):
    eigenvalues = torch.linalg.eigh(gram)[0].clamp_min(1e-15)
    return eigenvalues.pow(ALPHA).sum().log2() / (1 - ALPHA)


def test_curves_are_those_of_the_layers_measured_one_by_one(task):
    given = TaskImages.read(task, None, CPU)
    found = measured(given, BATCH, ALPHA)
    assert len(found) == 2 * 3 * 2  # arms, epochs, parts
    assert found["width"].nunique() == 1
    train = found[(found["objective"] == "cross_entropy") & (found["part"] == "train")]
    assert train["width"].iloc[0] == pytest.approx(train["prediction_width"].mean())
    row = train[train["epoch"] == 2].iloc[0]
    log_p = Snapshots(given, RUN, "cross_entropy").log_probabilities(2, "train")
    targets = given.targets("train")
    assert row["loss"] == pytest.approx(-log_p[np.arange(60), targets].mean())
    assert row["error"] == pytest.approx((log_p.argmax(1) != targets).mean())
    x, p = given.pixels("train"), np.exp(log_p)
    expected = layer_information(x, p, targets, BATCH, 0, alpha=ALPHA)
    assert row["label_input_own_width"] == pytest.approx(expected.label_input)
    assert row["label_entropy"] == pytest.approx(expected.label_entropy)
    assert row["input_width"] == pytest.approx(expected.input_width)


def test_a_run_without_snapshots_says_what_to_set(task, tmp_path):
    elsewhere = dataclasses.replace(task, folder=tmp_path)
    run = Snapshots(TaskImages.read(task, None, CPU), RUN, "cross_entropy")
    bare = dataclasses.replace(run, images=dataclasses.replace(run.images, task=elsewhere))
    with pytest.raises(UserError, match=r"has no snapshots, .*: set training\.snapshots: 1"):
        assert bare.epochs
