import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from wsi_ncmi.config import Training
from wsi_ncmi.errors import UserError
from wsi_ncmi.losses import NCMI, CrossEntropy, Objective
from wsi_ncmi.training import reference
from wsi_ncmi.training.evaluation import embed, score, start
from wsi_ncmi.training.finite import History
from wsi_ncmi.training.interface import Embedded, Network, Validation
from wsi_ncmi.training.joint import JointObjective


class Toy(Network):
    """A linear layer with dropout: training and eval mode differ."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6)
        self.dropout = nn.Dropout(dropout)
        self.embedding_dim = 6

    def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Embedded:
        return Embedded(self.dropout(self.layer(inputs)))


class ToyData:
    """Three classes of four-dimensional points; counts what is asked for."""

    def __init__(self, poison: float | None = None) -> None:
        rng = torch.Generator().manual_seed(0)
        self.y = torch.arange(30) % 3
        self.x = torch.randn(30, 4, generator=rng) + 2 * torch.eye(3, 4)[self.y]
        self.poison = poison
        self.asked: list[str] = []

    def steps_per_epoch(self) -> int:
        return 3

    def training(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for at in range(0, 30, 10):
            x = self.x[at : at + 10]
            if self.poison is not None and epoch == 1:
                x = x * self.poison
            yield x, self.y[at : at + 10]

    def evaluation(self, part: str) -> Iterator[tuple[Tensor, Tensor]]:
        self.asked.append(part)
        for at in range(0, 30, 7):
            yield self.x[at : at + 7], self.y[at : at + 7]


def parts(kind: str = "ncmi", dropout: float = 0.0) -> tuple[Toy, Objective]:
    torch.manual_seed(0)
    network = Toy(dropout)
    return network, {"ncmi": NCMI, "cross_entropy": CrossEntropy}[kind](6, [10, 10, 10])


def fit(
    network: Network, objective: Objective, data: ToyData, settings: Training, name: str
) -> History:
    joint = JointObjective(objective, {})
    return reference.fit(
        network, joint, data, settings, name, lambda epoch, step: 100 * epoch + step
    )


@pytest.mark.parametrize("kind", ["ncmi", "cross_entropy"])
def test_it_learns(kind: str) -> None:
    network, objective = parts(kind)
    data = ToyData()
    settings = Training(epochs=8, learning_rate=0.05, weight_decay=0)
    history = fit(network, objective, data, settings, "run")
    scores, targets = score(network, objective, data, "test")
    assert (scores.argmax(1) == targets).float().mean() > 0.8
    losses = [row["loss"] for row in history.curves if row["part"] == "train"]
    assert losses[-1] < losses[0]
    assert (history.epochs, history.best_epoch) == (8, 7)


def test_curves_hold_every_epoch_of_both_parts() -> None:
    history = fit(*parts(), ToyData(), Training(epochs=3), "run")
    found = [(row["epoch"], row["part"]) for row in history.curves]
    assert found == [(e, p) for e in range(3) for p in ("train", "val")]
    watched = {"macro_f1", "chance_f1", "separation", "plateau", "collapsed"}
    assert set(history.curves[0]) == {"epoch", "part", "loss", "ncmi", "cmi", "gamma", *watched}
    assert set(history.curves[1]) == {"epoch", "part", "loss", "macro_f1"}


def test_training_never_looks_at_the_test_part() -> None:
    data = ToyData()
    fit(*parts(), data, Training(epochs=2, selection="early_stopping"), "run")
    assert set(data.asked) == {"train", "val"}


def test_what_inference_needs_is_fitted_in_eval_mode() -> None:
    network, objective = parts(dropout=0.5)
    data = ToyData()
    fit(network, objective, data, Training(epochs=2), "run")
    with torch.inference_mode():
        z = network.eval()(data.x).embedding
    twin = copy.deepcopy(objective)
    twin.fit("classes", z, data.y)
    torch.testing.assert_close(objective.log_means, twin.log_means)
    twin.fit("temperature", z, data.y)
    torch.testing.assert_close(objective.log_scale, twin.log_scale)


class Decided(CrossEntropy):
    """Predicts what its embedding says."""

    def raw_scores(self, embedding: Tensor) -> Tensor:
        return embedding[:, : self.classes]


def test_validation_counts_its_own_classes_whatever_is_predicted() -> None:
    target, predicted = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 2, 1, 1, 2])

    class Six(ToyData):
        def evaluation(self, part: str) -> Iterator[tuple[Tensor, Tensor]]:
            yield torch.eye(3, 4)[predicted], target

    network = Toy()
    with torch.no_grad():
        network.layer.weight.copy_(torch.eye(6, 4))
        network.layer.bias.zero_()
    found, _ = reference.validate(network, Decided(6, [3, 3, 3]), Six())
    assert found.macro_f1 == pytest.approx(0.8)  # of two classes, not of three


def test_embedding_is_in_eval_mode_and_in_order() -> None:
    network, _ = parts(dropout=0.5)
    data = ToyData()
    embeddings, targets = embed(network.train(), data, "val")
    assert torch.equal(targets, data.y)
    torch.testing.assert_close(embeddings, network.layer(data.x).detach())
    assert not network.training
    assert not embeddings.requires_grad


def scripted(monkeypatch: pytest.MonkeyPatch, f1: list[float], losses: list[float]) -> list[dict]:
    """Let validation say this, epoch by epoch; returns the network's state at each."""
    states: list[dict] = []
    results = iter(zip(f1, losses, strict=True))

    def validate(network: Network, *_: object) -> tuple[Validation, Tensor]:
        states.append(copy.deepcopy(network.state_dict()))
        return Validation(*next(results)), torch.zeros(3, 3)

    monkeypatch.setattr(reference, "validate", validate)
    return states


@pytest.mark.parametrize(
    ("f1", "losses", "patience", "best", "epochs"),
    [
        ([0.1, 0.5, 0.3, 0.2, 0.9, 0.9], [1.0] * 6, 2, 1, 4),
        ([0.1, 0.5, 0.3, 0.6, 0.2, 0.2], [1.0] * 6, 2, 3, 6),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [3.0, 2.0, 2.0, 1.0, 2.0, 4.0], 2, 3, 6),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [1.0] * 6, 1, 0, 2),
    ],
)
def test_early_stopping_keeps_the_best_epoch(
    monkeypatch: pytest.MonkeyPatch,
    f1: list[float],
    losses: list[float],
    patience: int,
    best: int,
    epochs: int,
) -> None:
    states = scripted(monkeypatch, f1, losses)
    network, objective = parts()
    settings = Training(epochs=6, selection="early_stopping", patience=patience, learning_rate=0.1)
    history = fit(network, objective, ToyData(), settings, "run")
    assert (history.best_epoch, history.epochs) == (best, epochs)
    assert torch.equal(network.layer.weight, states[best]["layer.weight"])
    assert not torch.equal(network.layer.weight, states[-1]["layer.weight"])


def test_the_last_epoch_is_kept_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    states = scripted(monkeypatch, [0.9, 0.5, 0.1], [1.0, 2.0, 3.0])
    network, objective = parts()
    history = fit(network, objective, ToyData(), Training(epochs=3), "run")
    assert (history.best_epoch, history.epochs) == (2, 3)
    assert torch.equal(network.layer.weight, states[2]["layer.weight"])


def test_better_is_by_macro_f1_then_by_likelihood() -> None:
    now = Validation(0.5, 1.0)
    assert now.better_than(None)
    assert now.better_than(Validation(0.4, 0.1))
    assert now.better_than(Validation(0.5, 1.1))
    assert not now.better_than(Validation(0.5, 1.0))
    assert not now.better_than(Validation(0.6, 9.0))


@pytest.mark.parametrize("kind", ["ncmi", "cross_entropy"])
def test_a_loss_that_is_not_finite(kind: str) -> None:
    with pytest.raises(UserError) as error:
        fit(*parts(kind), ToyData(poison=float("nan")), Training(epochs=3), "abmil--x--fold0")
    text = str(error.value)
    assert text.startswith("abmil--x--fold0: the loss is not finite in epoch 1 ({'loss': nan")
    assert text.endswith("lower training.learning_rate or set training.clip_norm")


def test_a_penalty_of_the_network_is_trained() -> None:
    class Extra(Toy):
        def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Embedded:
            embedding = super().forward(inputs).embedding.detach()
            return Embedded(embedding, penalty=self.layer.weight.square().sum())

    torch.manual_seed(0)
    network = Extra()
    before = network.layer.weight.square().sum().item()
    objective = NCMI(6, [10, 10, 10])
    fit(network, objective, ToyData(), Training(epochs=3, learning_rate=0.05), "run")
    assert network.layer.weight.square().sum().item() < 0.7 * before


def test_validation_changes_nothing() -> None:
    network, objective = parts()
    data = ToyData()
    start(network, JointObjective(objective, {}), data)
    before = copy.deepcopy(objective.state_dict())
    result, _ = reference.validate(network, objective, data)
    assert all(torch.equal(before[k], v) for k, v in objective.state_dict().items())
    assert 0 <= result.macro_f1 <= 1
    assert result.loss > 0


def test_too_few_samples_a_step_are_named_before_training() -> None:
    """Not a training that skips every step."""

    class Pairs(CrossEntropy):
        min_samples = 2

    with pytest.raises(UserError, match=r"run x: Pairs .* needs 2 or more: found .*batch_size 1"):
        fit(Toy(), Pairs(6, [10, 10, 10]), ToyData(), Training(batch_size=1, epochs=1), "run x")
