"""Samples that are no images go the same way: index, parts, training, records, checkpoint."""

import numpy as np
import pandas as pd
import pytest
import torch
from made_images import index_of

from wsi_ncmi.config import ImageTask
from wsi_ncmi.errors import PartError
from wsi_ncmi.images.data import load_dataset, open_source, partition
from wsi_ncmi.images.datasets.interface import DatasetError, Images
from wsi_ncmi.images.kinds import IMAGE, TOKEN, VECTOR
from wsi_ncmi.images.models import build_network
from wsi_ncmi.stages import images
from wsi_ncmi.training.images import load_run

CPU = torch.device("cpu")
TABLES = "package:sklearn/datasets/data"
SHAPES = {
    "breast_cancer": (569, 30, ["malignant", "benign"]),
    "digits": (1797, 64, [*"0123456789"]),
    "iris": (150, 4, ["setosa", "versicolor", "virginica"]),
    "wine": (178, 13, ["class_0", "class_1", "class_2"]),
}


def test_moments_of_images_are_those_of_all_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 5, 7, 3), dtype=np.uint8)
    pixels[..., 2] = 51
    mean, std = IMAGE.moments(pixels)
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std[:2], (pixels / 255).std((0, 1, 2))[:2], rtol=1e-9)
    assert std[2] == 1 / 255  # constant: nothing is divided by zero


def test_vectors_are_standardised_and_what_is_constant_is_zero():
    values = np.random.default_rng(0).normal(5, 3, (50, 4)).astype(np.float32)
    values[:, 2] = 7
    mean, std = (torch.from_numpy(v).float() for v in VECTOR.moments(values))
    found = VECTOR.normalised(torch.from_numpy(values), mean, std)
    expected = (values - values.mean(0)) / np.where(np.arange(4) == 2, 1, values.std(0))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert (found[:, 2] == 0).all()


def test_tokens_are_left_alone():
    tokens = torch.tensor([[0, 255, 3]], dtype=torch.uint8)
    moments = (torch.from_numpy(v) for v in TOKEN.moments(tokens.numpy()))
    assert TOKEN.normalised(tokens, *moments).tolist() == [[0, 255, 3]]


@pytest.mark.parametrize("table", SHAPES)
def test_the_tables_are_scikit_learns(table):
    samples, features, classes = SHAPES[table]
    dataset = open_source(ImageTask(dataset="sklearn_table", path=TABLES, options={"table": table}))
    assert (len(dataset.train) + len(dataset.test), dataset.classes) == (samples, classes)
    assert dataset.train.pixels[0].shape == (features,)
    from sklearn import datasets

    values = getattr(datasets, f"load_{table}")().data
    for part in (dataset.train, dataset.test):
        rows = [int(name[-4:]) for name in part.ids]
        np.testing.assert_allclose(
            np.stack([part.pixels[i] for i in range(len(rows))]), values[rows], rtol=1e-6
        )


def test_another_folder_is_no_table(tmp_path):
    with pytest.raises(
        DatasetError, match=f"{tmp_path}: the tables are read by scikit-learn, from"
    ):
        open_source(ImageTask(dataset="sklearn_table", path=str(tmp_path)))


def test_groups_stay_together_and_no_class_is_lost():
    groups = np.repeat([f"g{n}" for n in range(10)], 6)
    pixels = np.zeros((60, 2), np.float32)
    whole = Images([f"i{n}" for n in range(60)], np.arange(60) % 3, pixels, list(groups), VECTOR)
    stay, taken = whole.split(0.3, 0, "validation_fraction")
    assert (len(set(taken.owners)), len(set(stay.owners))) == (3, 7)
    assert not set(taken.owners) & set(stay.owners)
    assert taken.kind is stay.kind is VECTOR
    assert list(whole.split(0.3, 1, "x")[1].ids) != list(taken.ids)
    alone = Images(whole.ids, np.arange(60) // 6, pixels, list(groups), VECTOR)
    message = "validation_fraction 0.3 takes 3 of 10 groups, and with them all samples of 3 classes"
    with pytest.raises(DatasetError, match=message):
        alone.split(0.3, 0, "validation_fraction")


def test_settings_of_images_are_refused_for_others(tmp_path):
    task = ImageTask(
        dataset="sklearn_table",
        path=TABLES,
        options={"table": "iris"},
        batch_augmentation=[{"name": "RandomHorizontalFlip"}],
    )
    index = index_of(task, tmp_path / "index")
    with pytest.raises(DatasetError, match=r"batch_augmentation is for images, .*of kind vector"):
        load_dataset(task, index)


@pytest.mark.parametrize(
    ("model", "kind", "size", "message"),
    [
        ("test_resnet", VECTOR, (13,), "does not take vectors of 13 numbers .*for a vector"),
        ("mlp", VECTOR, (13,), "does not take vectors of 13 numbers"),
        ("causal_transformer", VECTOR, (13,), "causal_transformer is for tokens"),
        ("causal_transformer", TOKEN, (40,), "made for 32 tokens: set its `context`"),
    ],
)
def test_a_network_for_other_samples_is_refused(model, kind, size, message):
    task = ImageTask(dataset="mnist", path="x", model=model)
    ones = [1.0] * 13
    with pytest.raises(PartError, match=message):
        build_network(task, size, ones if kind is VECTOR else [1.0], ones, kind)


def test_no_position_sees_what_comes_after_it():
    torch.manual_seed(0)
    task = ImageTask(dataset="mnist", path="x", model="causal_transformer")
    encoder = build_network(task, (8,), [0.0], [1.0], TOKEN).eval()
    tokens = torch.randint(0, 30, (2, 8))
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 30
    one, other = (encoder.module.forward_features(t) for t in (tokens, changed))
    torch.testing.assert_close(one[:, :5], other[:, :5])
    assert ((one - other).abs().amax(2)[:, 5:] > 1e-4).all()
    torch.testing.assert_close(encoder(tokens.byte()), one[:, -1])
    torch.testing.assert_close(encoder(tokens[:, :5].byte()), one[:, 4])


def test_a_text_is_learnt_and_its_run_loaded(tmp_path):
    """Of a text that repeats, the last eight characters tell the next one."""
    path = tmp_path / "text.txt"
    path.write_text("abcadbacbd" * 120)
    task = ImageTask.model_validate(
        {
            "dataset": "characters",
            "path": str(path),
            "options": {"context": 8, "stretch": 60},
            "model": "causal_transformer",
            "model_options": {"width": 16, "depth": 1, "heads": 2, "context": 8},
            "validation_fraction": 0.2,
            "objectives": {"cross_entropy": {}, "ncmi": {"options": {"temperature": 0.2}}},
            "training": {"epochs": 6, "batch_size": 32, "learning_rate": 1e-2},
        }
    )
    index = index_of(task, tmp_path / "index")
    images.run("text", task, "c", 0, index, tmp_path / "runs", 1)
    dataset = load_dataset(task, index).dataset
    test = partition(dataset, task)["test"]
    batch = torch.from_numpy(np.stack([test.pixels[i] for i in range(len(test))]))
    for name in ("cross_entropy", "ncmi"):
        folder = tmp_path / "runs" / f"causal_transformer--{name}--fold0--seed0"
        rows = pd.read_parquet(folder / "predictions.parquet").query("part == 'test'")
        assert (rows.target == rows.predicted).mean() > 0.95  # the most frequent sign: 0.3
        assert rows.patient_id.tolist() == list(test.groups)
        encoder, objective, _ = load_run(folder, CPU)
        with torch.inference_mode():
            scores = objective.scores(encoder(batch))
        np.testing.assert_allclose(scores, np.stack(rows.scores), rtol=1e-3, atol=1e-3)


def test_a_table_is_learnt_by_a_perceptron(tmp_path):
    task = ImageTask.model_validate(
        {
            "dataset": "sklearn_table",
            "path": TABLES,
            "options": {"table": "wine"},
            "model": "mlp",
            "model_options": {"features": 13, "width": 16},
            "validation_fraction": 0.2,
            "objectives": {"cross_entropy": {}},
            "training": {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2},
        }
    )
    index = index_of(task, tmp_path / "index")
    images.run("wine", task, "c", 0, index, tmp_path / "runs", 1)
    folder = tmp_path / "runs" / "mlp--cross_entropy--fold0--seed0"
    rows = pd.read_parquet(folder / "predictions.parquet").query("part == 'test'")
    assert (rows.target == rows.predicted).mean() > 0.9  # chance is 0.4; unscaled it stays there
    assert rows.patient_id.tolist() == rows.sample_id.tolist()
    encoder, _, _ = load_run(folder, CPU)
    train = partition(load_dataset(task, index).dataset, task)["train"]
    values = np.stack([train.pixels[i] for i in range(len(train))])
    np.testing.assert_allclose(encoder.mean.numpy()[0], values.mean(0), rtol=1e-5)
