import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from made_images import index_of

from wsi_ncmi.config import Evaluation, ImageTask, Transform, parse
from wsi_ncmi.errors import PartError, UserError
from wsi_ncmi.evaluation.policies import validation_curves
from wsi_ncmi.images.data import open_source, partition
from wsi_ncmi.images.datasets.interface import DatasetError, Images
from wsi_ncmi.predictions.validation import read_validation
from wsi_ncmi.stages import evaluate, images
from wsi_ncmi.training.images import ImageData, ImageParts, load_run, prepare

CPU = torch.device("cpu")
RUNS = ("test_resnet--cross_entropy--fold0--seed0", "test_resnet--ncmi--fold0--seed0")


def small_task(path, **changes):
    settings = {
        "dataset": "mnist",
        "path": str(path),
        "model": "test_resnet",
        "augmentation": [Transform(name="HorizontalFlip", options={"p": 0.0})],
        "validation_fraction": 0.2,
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 5e-3, "snapshots": 1},
        "seeds": [0],
    }
    return ImageTask.model_validate({**settings, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, write_idx_dataset):
    root = tmp_path_factory.mktemp("images")
    task = small_task(write_idx_dataset(root / "data", per_class=60))
    out = root / "runs" / "garments"
    index = index_of(task, root / "index")
    images.run("garments", task, "mnist", 0, index, out, 1)
    images.run_splits(task, index, out / "splits.tsv")
    return task, out


def arm_of(models):
    return models[0][0].objective


def test_both_objectives_learn(trained):
    _, out = trained
    splits = pd.read_csv(out / "splits.tsv", sep="\t").set_index("sample_id")
    for run_id in RUNS:
        rows = pd.read_parquet(out / run_id / "predictions.parquet")
        assert rows.groupby("part").size().to_dict() == {"val": 120, "test": 300}
        test = rows[rows.part == "test"]
        assert (test.target == test.predicted).mean() > 0.5  # chance is 0.1
        assert splits.loc[rows.sample_id, "part"].tolist() == rows.part.tolist()
        assert splits.loc[rows.sample_id, "label"].tolist() == rows.target.tolist()
        curves = pd.read_csv(out / run_id / "curves.tsv", sep="\t")
        assert curves.part.tolist() == ["train", "val"] * 2


def test_an_arm_with_a_stream_of_its_own_shares_nothing(trained):
    """Neither the start, nor the order, nor what is done to an image, nor dropout."""
    flips = [Transform(name="HorizontalFlip", options={"p": 0.5})]
    arms = {
        "cross_entropy": {},
        "again": {"part": "cross_entropy"},
        "own": {"part": "cross_entropy", "stream": "own"},
    }
    task = trained[0].model_copy(update={"augmentation": flips})
    task = ImageTask.model_validate({**task.model_dump(), "objectives": arms})
    dataset = open_source(task)
    parts = partition(dataset, task)
    found = ImageParts.measure(dataset.classes, parts, None)
    cells = images.cells_of_seed("t", task, "mnist", 0, "official", {}, CPU)
    setups = {cell.run.objective: prepare(cell.run, task, found, CPU) for cell in cells}
    starts = [next(setup.network.parameters()) for setup in setups.values()]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    batches = [next(iter(setup.data.training(0))) for setup in setups.values()]
    assert torch.equal(batches[0][0], batches[1][0])
    assert not torch.equal(batches[0][1], batches[2][1])
    rows = [np.arange(40)]
    loaders = [setup.data.loader for setup in setups.values()]
    pictures = [next(loader.batches("train", rows, 0)) for loader in loaders]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])
    assert [setup.stream for setup in setups.values()] == [None, None, "own"]


def test_a_run_is_loaded_as_it_was_after_an_epoch(trained):
    _, out = trained
    last = load_run(out / RUNS[0], CPU)[0].state_dict()
    weights = {epoch: load_run(out / RUNS[0], CPU, epoch)[0].state_dict() for epoch in (0, 1)}
    assert all(torch.equal(weights[1][name], tensor) for name, tensor in last.items())
    assert not torch.equal(weights[0]["module.conv1.weight"], last["module.conv1.weight"])
    assert torch.equal(weights[0]["mean"], last["mean"])  # of the pixels
    with pytest.raises(UserError, match="no snapshot of epoch 2, found 0, 1"):
        load_run(out / RUNS[0], CPU, 2)


def test_every_epoch_on_validation_is_kept(trained):
    _, out = trained
    rows = pd.read_parquet(out / RUNS[1] / "predictions.parquet")
    rows, found = rows[rows.part == "val"], read_validation(out / RUNS[1])
    assert found.scores.shape == (2, 120, 10)
    assert found.sample_ids.tolist() == rows.sample_id.tolist()
    assert found.targets.tolist() == rows.target.tolist()
    curves = pd.read_csv(out / RUNS[1] / "curves.tsv", sep="\t")
    f1, loss = validation_curves(found.scores, found.targets)
    own = curves[curves.part == "val"]
    np.testing.assert_allclose(f1, own.macro_f1, atol=1e-5)
    np.testing.assert_allclose(loss, own.loss, rtol=1e-4)


def test_the_manifest_names_the_runs(trained):
    manifest = pd.read_csv(trained[1] / "seed-0.tsv", sep="\t", keep_default_na=False)
    assert manifest.run_id.tolist() == list(RUNS)
    assert set(manifest.protocol) == {"official"}
    assert set(manifest.aggregator) == {"test_resnet"}
    assert set(manifest.encoder) == {"-"}
    assert set(manifest.bags_digest) == {""}


def test_a_rerun_does_nothing_and_a_changed_arm_trains_alone(trained, monkeypatch):
    task, out = trained
    files = [
        *out.rglob("*.parquet"),
        *out.rglob("*.pt"),
        *out.rglob("run.json"),
        *out.glob("*.tsv"),
    ]
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}
    started = []
    monkeypatch.setattr(
        images, "train_run", lambda models, *_: started.append(models[0][0].objective)
    )
    index = out.parent.parent / "index"
    images.run("garments", task, "mnist", 0, index, out, 1)
    images.run_splits(task, index, out / "splits.tsv")
    assert started == []
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files} == before
    objectives = {"cross_entropy": {}, "ncmi": {"options": {"temperature": 0.5}}}
    other = small_task(task.path, objectives=objectives)
    images.run("garments", other, "mnist", 0, index, out, 1)
    assert started == ["ncmi"]


def test_moved_data_keep_their_runs_and_changed_data_do_not(
    trained, monkeypatch, tmp_path, write_idx_dataset
):
    _, out = trained
    started = []
    monkeypatch.setattr(
        images, "train_run", lambda models, *_: started.append(models[0][0].objective)
    )
    moved = write_idx_dataset(tmp_path / "moved", per_class=60)
    task = small_task(moved)
    images.run("garments", task, "mnist", 0, index_of(task, tmp_path / "one"), out, 1)
    assert started == []
    changed = write_idx_dataset(tmp_path / "changed", per_class=60, seed=1)
    task = small_task(changed)
    images.run("garments", task, "mnist", 0, index_of(task, tmp_path / "two"), out, 1)
    assert started == ["cross_entropy", "ncmi"]


@pytest.mark.parametrize("run_id", RUNS)
def test_a_checkpoint_gives_the_stored_scores_again(trained, run_id):
    task, out = trained
    encoder, objective, content = load_run(out / run_id, CPU)
    dataset = open_source(task)
    test = partition(dataset, task)["test"]
    batch = torch.from_numpy(np.stack([test.pixels[i] for i in range(40)])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        scores = objective.scores(encoder(batch))
    rows = pd.read_parquet(out / run_id / "predictions.parquet")
    stored = np.stack(rows[rows.part == "test"].scores.iloc[:40])
    np.testing.assert_allclose(scores.numpy(), stored, rtol=1e-3, atol=1e-3)
    assert content["classes"] == dataset.classes
    assert json.loads((out / run_id / "run.json").read_text())["seed"] == 0


def test_the_runs_can_be_evaluated(trained):
    _, out = trained
    settings = Evaluation(bootstrap=100)
    evaluate.run(out, [out / "seed-0.tsv"], None, settings, "cross_entropy", out / "evaluation")
    summary = json.loads((out / "evaluation" / "summary.json").read_text())
    assert {part: sum(n.values()) for part, n in summary["samples"].items()} == {
        "train": 480,
        "val": 120,
        "test": 300,
    }
    assert summary["test_patients"] == 300


def test_the_same_seed_gives_the_same_predictions(trained, tmp_path):
    task, out = trained
    only = small_task(task.path, objectives={"cross_entropy": {}})
    images.run("garments", only, "mnist", 0, out.parent.parent / "index", tmp_path, 1)
    again, before = (
        pd.read_parquet(folder / RUNS[0] / "predictions.parquet") for folder in (tmp_path, out)
    )
    np.testing.assert_array_equal(np.stack(again.scores), np.stack(before.scores))


def test_a_network_that_diverges_is_a_row(trained, tmp_path):
    wild = {"optimiser": "sgd", "learning_rate": 1e30, "clip_norm": None, "epochs": 1}
    objectives = {"cross_entropy": {}, "ncmi": {"training": wild}}
    task = small_task(trained[0].path, objectives=objectives)
    images.run("garments", task, "mnist", 0, trained[1].parent.parent / "index", tmp_path, 1)
    manifest = pd.read_csv(tmp_path / "seed-0.tsv", sep="\t", keep_default_na=False)
    assert manifest.status.tolist() == ["ok", "failed"]
    assert "not finite in epoch 0" in manifest.reason[1]
    assert sorted(p.name for p in (tmp_path / RUNS[1]).iterdir()) == ["curves.tsv", "run.json"]
    out, settings = tmp_path / "evaluation", Evaluation(bootstrap=100)
    evaluate.run(tmp_path, [tmp_path / "seed-0.tsv"], None, settings, "cross_entropy", out)
    found = pd.read_csv(out / "differences.tsv", sep="\t")
    assert found.difference.isna().all()
    assert set(found.failed) == {1}
    assert set(found.reference_failed) == {0}


def image_data(images_part, task, seed=0, size=(8, 8)):
    parts = {"train": images_part, "val": images_part, "test": images_part}
    found = ImageParts(list("ab"), parts, np.zeros(3), np.ones(3), size)
    return ImageData(found, task, task.training, seed, 0, CPU)


def coded(count, side=8):
    """Images whose first pixel is their number and whose left half is darker."""
    pixels = np.zeros((count, side, side, 3), np.uint8)
    pixels[:, :, side // 2 :] = 200
    pixels[..., 0] = np.arange(count)[:, None, None]
    return Images([f"i{n}" for n in range(count)], np.arange(count) % 2, pixels)


def test_order_and_augmentation_follow_seed_and_epoch_alone():
    flip = [Transform(name="HorizontalFlip", options={"p": 0.5})]
    task = small_task("x", augmentation=flip, objectives={"cross_entropy": {}})

    def epoch(number, seed=0):
        batches = list(image_data(coded(48), task, seed).training(number))
        return torch.cat([inputs for inputs, _ in batches])

    first = epoch(0)
    assert torch.equal(epoch(0), first)
    for other in (epoch(1), epoch(0, seed=1)):
        assert sorted(other[:, 0, 0, 0].tolist()) == list(range(48))
        assert other[:, 0, 0, 0].tolist() != first[:, 0, 0, 0].tolist()
    flipped = {n: bool(i[1, 0, 0]) for n, i in zip(first[:, 0, 0, 0].tolist(), first, strict=True)}
    later = epoch(1)
    flipped_later = {
        n: bool(i[1, 0, 0]) for n, i in zip(later[:, 0, 0, 0].tolist(), later, strict=True)
    }
    assert 8 < sum(flipped.values()) < 40
    assert flipped != flipped_later


def test_the_augmented_training_part_is_each_image_once_in_its_order():
    flip = [Transform(name="HorizontalFlip", options={"p": 0.5})]
    task = small_task("x", augmentation=flip, objectives={"cross_entropy": {}})
    data = image_data(coded(48), task)
    inputs, targets = (torch.cat(column) for column in zip(*data.augmented(), strict=True))
    again, _ = (torch.cat(column) for column in zip(*data.augmented(), strict=True))
    assert torch.equal(inputs, again)
    assert inputs[:, 0, 0, 0].tolist() == list(range(48))
    assert targets.tolist() == [n % 2 for n in range(48)]
    flipped = inputs[:, 1, 0, 0] > 0
    assert 8 < flipped.sum() < 40


def test_batches_are_uint8_and_channels_last_and_evaluation_is_not_augmented():
    flip = [Transform(name="HorizontalFlip", options={"p": 1.0})]
    data = image_data(coded(20), small_task("x", augmentation=flip))
    batch, target = next(data.evaluation("test"))
    assert batch.dtype == torch.uint8
    assert batch.shape == (16, 3, 8, 8)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert (batch[:, 1, :, 0] == 0).all()
    assert target.tolist() == [0, 1] * 8
    trained_on, _ = next(data.training(0))
    assert (trained_on[:, 1, :, 0] == 200).all()


@pytest.mark.parametrize(("count", "sizes"), [(33, [16, 16]), (34, [16, 16, 2]), (1, [1])])
def test_a_single_left_over_image_waits_for_another_epoch(count, sizes):
    data = image_data(coded(count), small_task("x", augmentation=[]))
    assert [len(target) for _, target in data.training(0)] == sizes
    assert data.steps_per_epoch() == len(sizes)
    assert sum(len(target) for _, target in data.evaluation("test")) == count


def test_balanced_sampling_draws_classes_equally_often():
    part = coded(400)
    part = part.select(np.array([*range(0, 400, 2), *range(1, 40, 2)]))
    task = small_task("x", augmentation=[], training={"batch_size": 50, "sampling": "balanced"})
    drawn = torch.cat([target for _, target in image_data(part, task).training(0)])
    assert 0.4 < drawn.double().mean() < 0.6  # 20 of 220 images are of class 1


def test_images_of_other_sizes_need_image_size():
    pixels = [coded(1).pixels[0], coded(1, side=9).pixels[0]]
    mixed = Images(["a", "b"], np.array([0, 1]), pixels)
    with pytest.raises(DatasetError, match=r"b: 9 x 9 pixels, expected 8 x 8 .*set image_size"):
        list(image_data(mixed, small_task("x")).evaluation("test"))
    batch, _ = next(image_data(mixed, small_task("x", image_size=8)).evaluation("test"))
    assert batch.shape == (2, 3, 8, 8)


def test_an_augmentation_that_changes_the_size_is_named():
    cut = [Transform(name="CenterCrop", options={"height": 4, "width": 4})]
    data = image_data(coded(4), small_task("x", augmentation=cut))
    with pytest.raises(DatasetError, match=r"4 x 4 pixels \(after augmentation\), expected 8 x 8"):
        next(data.training(0))


def test_an_unknown_transform_is_refused():
    with pytest.raises(PartError, match="'Flop' is not a transform of albumentations"):
        image_data(coded(4), small_task("x", augmentation=[{"name": "Flop"}]))


def test_the_example_configuration_trains_on_five_thousand_images(root, shared_data):
    raw = yaml.safe_load((root / "config" / "images.yaml").read_text())
    task = parse(raw).images["garments"]
    here = task.model_copy(update={"path": str(shared_data / "images" / "fashion-mnist")})
    parts = partition(open_source(here), here)
    assert {part: np.bincount(parts[part].targets).tolist() for part in parts} == {
        "train": [500] * 10,
        "val": [100] * 10,
        "test": [1000] * 10,
    }
    assert task.objectives["ncmi"].options["centre"] == "ema"
    measured = ImageParts.measure(list("abcdefghij"), parts, here.image_size)
    assert measured.size == (28, 28)
    assert ImageData(measured, here, here.training, 0, 0, CPU).steps_per_epoch() == 79


RATES = {"training": {"learning_rate": [1e-5, 5e-3]}}


@pytest.fixture(scope="module")
def searched(trained, tmp_path_factory):
    """The task of `trained`, every arm searched in every run; its runs, and their evaluation."""
    alone, of_alone = trained
    changes = {"search": "nested", "training": {**alone.training.model_dump(), "snapshots": None}}
    arms = {"cross_entropy": {"search": RATES}, "ncmi": {"search": RATES}}
    task = ImageTask.model_validate({**alone.model_dump(), **changes, "objectives": arms})
    out = tmp_path_factory.mktemp("searched") / "runs" / "garments"
    images.run("garments", task, "mnist", 0, of_alone.parent.parent / "index", out, 1)
    return task, out


def test_a_nested_search_records_the_setting_that_validation_chose(trained, searched):
    _, out = searched
    _, of_alone = trained
    for run_id in RUNS:
        trials = pd.read_csv(out / run_id / "search.tsv", sep="\t")
        assert trials.learning_rate.tolist() == [1e-5, 5e-3]
        assert trials.chosen.tolist() == ["no", "yes"]
        assert trials.log_loss[1] < trials.log_loss[0]
        run = json.loads((out / run_id / "run.json").read_text())
        assert run["setting"]["training"] == {"learning_rate": 5e-3}
        assert run["among"] == trials.digest.tolist()
        # The chosen model is the one that its setting alone trains, to the last bit.
        scores = [
            np.stack(list(pd.read_parquet(folder / run_id / "predictions.parquet").scores))
            for folder in (out, of_alone)
        ]
        np.testing.assert_array_equal(*scores)
    assert not list((out / "checkpoints").glob("*"))


def test_a_nested_search_that_is_whole_is_not_trained_again(searched, monkeypatch, trained):
    task, out = searched
    monkeypatch.setattr(images, "train_run", lambda *_: pytest.fail("trained again"))
    images.run("garments", task, "mnist", 0, trained[1].parent.parent / "index", out, 1)


def test_a_model_of_a_nested_search_loads(searched):
    encoder, _, content = load_run(searched[1] / RUNS[1], CPU)
    assert encoder.embedding_dim == 96
    assert content["run"]["setting"]["training"] == {"learning_rate": 5e-3}


def test_a_nested_search_keeps_no_snapshots(trained):
    arms = {"cross_entropy": {"search": RATES}, "ncmi": {"search": RATES}}
    raw = {**trained[0].model_dump(), "search": "nested", "objectives": arms}
    with pytest.raises(ValueError, match=r"leave training\.snapshots out of cross_entropy, ncmi"):
        ImageTask.model_validate(raw)
