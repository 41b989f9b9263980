"""A training that diverges is found where it does, after the last step too, and is a result."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.config import Arm, Task, Training
from wsi_ncmi.losses import CrossEntropy, Objective
from wsi_ncmi.predictions.records import OK, Run, product_of, read_curves, read_manifest
from wsi_ncmi.stages import train as stage
from wsi_ncmi.training.bags import fold_samples
from wsi_ncmi.training.finite import DivergedError
from wsi_ncmi.training.interface import Embedded, Network
from wsi_ncmi.training.joint import JointObjective
from wsi_ncmi.training.mil import prepare, train_group
from wsi_ncmi.training.reference import fit

CPU = torch.device("cpu")
WILD = {"optimiser": "sgd", "learning_rate": 1e38, "clip_norm": None, "warmup_fraction": 0.0}
RUN = "abmil--ncmi--fold0--seed0"


class Line(Network):
    """A linear layer, and a scale beside it that only eval mode uses."""

    embedding_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Embedded:
        z = self.layer(inputs)
        return Embedded(z if self.training else z * self.scale)


class Points:
    """Six points of two classes, one step an epoch."""

    def __init__(self, size: float = 1.0) -> None:
        self.x = size * torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
        self.y = torch.arange(6) % 2

    def steps_per_epoch(self) -> int:
        return 1

    def training(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.x, self.y

    def evaluation(self, part: str) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.x, self.y


def diverged(
    network: Network | None = None, objective: Objective | None = None, size: float = 1.0,
    **settings: Any,
) -> DivergedError:  # fmt: skip
    torch.manual_seed(0)
    joint = JointObjective(objective or CrossEntropy(4, [3, 3]), {})
    training = Training.model_validate({"epochs": 2, "weight_decay": 0, **settings})
    with pytest.raises(DivergedError) as error:
        fit(network or Line(), joint, Points(size), training, "run", lambda *_: 0)
    return error.value


def test_the_last_epochs_last_step() -> None:
    """Its loss is finite, and no further loss tells what the step did to the weights."""
    found = diverged(epochs=1, **(WILD | {"learning_rate": 3e38}), size=1e3)
    assert found.reason.startswith("the weights are not finite in epoch 0 (layer.weight")
    assert found.reason.endswith("lower training.learning_rate or set training.clip_norm")
    assert str(found).startswith("run: the weights")
    assert found.history.epochs == 0


def test_a_gradient_whose_norm_overflows_is_no_step_of_zero() -> None:
    """Clipping by an infinite norm leaves every weight as it is, which looks like training."""

    class Steep(CrossEntropy):
        def loss(self, *given: Tensor) -> Any:
            output = super().loss(*given)
            return output._replace(total=output.total * 1e25)

    found = diverged(objective=Steep(4, [3, 3]), clip_norm=5.0)
    assert found.reason.startswith("the gradients are not finite in epoch 0")


def test_weights_that_are_finite_and_embeddings_that_are_not() -> None:
    class Late(Line):
        def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Embedded:
            if self.training:
                self.scale.fill_(1e38)
            return super().forward(inputs, targets)

    found = diverged(Late(), size=1e3)
    assert found.reason.startswith("the embeddings are not finite in epoch 0 (part val)")
    assert [row["part"] for row in found.history.curves] == ["train"]


def test_scores_that_are_not_finite() -> None:
    class Loud(CrossEntropy):
        def raw_scores(self, embedding: Tensor) -> Tensor:
            return super().raw_scores(embedding).double() * float("inf")

    found = diverged(objective=Loud(4, [3, 3]))
    assert found.reason.startswith("the scores are not finite in epoch 0 (part val)")


def test_the_state_of_the_objective() -> None:
    class Drifting(CrossEntropy):
        def end_epoch(self, epoch: int) -> None:
            if epoch == 1:
                self.class_weights.fill_(float("inf"))

    found = diverged(objective=Drifting(4, [3, 3]))
    assert found.reason.startswith("the weights are not finite in epoch 1 (main.class_weights)")
    assert found.history.epochs == 1


def test_features_that_are_not_finite_are_no_learning_rate() -> None:
    found = diverged(size=float("inf"))
    assert found.reason.startswith("the embeddings are not finite before the first epoch")
    assert "learning_rate" not in found.reason
    assert found.history.epoch == -1


def test_a_training_that_diverged_has_failed_whatever_epoch_it_would_keep() -> None:
    class Drifting(CrossEntropy):
        def end_epoch(self, epoch: int) -> None:
            if epoch == 2:
                self.class_weights.fill_(float("nan"))

    found = diverged(
        objective=Drifting(4, [3, 3]), epochs=5, selection="early_stopping", learning_rate=0.01
    )
    assert found.history.epoch == 2


@pytest.fixture
def task(classes: list[str]) -> Callable[..., Task]:
    def make(**training: Any) -> Task:
        small = {"options": {"hidden_dim": 8, "attention_dim": 4}}
        arms = {"cross_entropy": Arm(), "ncmi": Arm(training=training)}
        settings = {"epochs": 2, "batch_size": 4, "learning_rate": 0.01}
        raw = {"objectives": arms, "aggregators": {"abmil": small}, "training": settings}
        return Task.model_validate({"classes": classes, **raw})

    return make


@pytest.fixture
def seed(
    cache_folder: Path, splits: pd.DataFrame, tmp_path: Path
) -> Callable[[Task], pd.DataFrame]:
    """Train a seed as the workflow does; returns its manifest."""
    splits.to_csv(tmp_path / "splits.tsv", sep="\t", index=False)

    def run(task: Task) -> pd.DataFrame:
        stage.run("t", task, "c", "e", 0, cache_folder, tmp_path / "splits.tsv", tmp_path, 1)
        return read_manifest(tmp_path / "seed-0.tsv").set_index("run_id")

    return run


def test_a_model_that_diverges_is_a_row_and_the_others_go_on(
    seed: Callable[..., pd.DataFrame], task: Callable[..., Task], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seed(task())
    manifest = seed(task(**WILD))
    assert dict(manifest.status) == {"abmil--cross_entropy--fold0--seed0": "ok", RUN: "failed"}
    row = manifest.loc[RUN]
    assert (row.epochs, row.failed_epoch) == (0, 0)
    assert "not finite in epoch 0" in row.reason
    assert pd.isna(row.best_epoch)
    # Nothing of the model that had been trained there is left to be taken for this one's.
    assert sorted(p.name for p in (tmp_path / RUN).iterdir()) == ["curves.tsv", "run.json"]
    assert read_curves(tmp_path / RUN / "curves.tsv").empty
    record = json.loads((tmp_path / RUN / "run.json").read_text())
    assert (record["status"], record["failed_epoch"]) == ("failed", 0)

    started: list[str] = []
    monkeypatch.setattr(
        stage, "train_group", lambda group, _: started.extend(s.run.run_id for s in group)
    )
    seed(task(**WILD))
    assert started == []  # the same settings would fail again
    (tmp_path / RUN / "run.json").unlink()
    with pytest.raises(FileNotFoundError):  # as nothing trains here, there is no record
        seed(task(**WILD))
    assert started == [RUN]  # the documented way to try again


def test_other_settings_are_trained(
    seed: Callable[..., pd.DataFrame], task: Callable[..., Task]
) -> None:
    seed(task(**WILD))
    assert set(seed(task()).status) == {OK}


def test_a_failure_whose_curves_are_gone_is_tried_again(
    cache: BagCache, splits: pd.DataFrame, classes: list[str], task: Callable[..., Task],
    make_run: Callable[..., Run], folder: Path,
) -> None:  # fmt: skip
    parts = fold_samples(splits, 0, classes, cache)
    setup = prepare(make_run(), task(**WILD), cache, parts, CPU)
    train_group([setup], folder.parent)
    folder = folder.parent / setup.run.run_id
    assert product_of(make_run(), folder).is_current
    (folder / "curves.tsv").unlink()
    assert not product_of(make_run(), folder).is_current
