"""Which weights of a training are kept, by epochs that are given."""

import pytest
import torch
from torch import nn

from wsi_ncmi.config import Training
from wsi_ncmi.training.interface import Validation
from wsi_ncmi.training.selection import Kept

WEIGHTS = [1.0, 2.0, 4.0, 8.0, 16.0]
EPOCHS = [
    Validation(0.5, 0.9),
    Validation(0.8, 0.6),
    Validation(0.7, 0.3),
    Validation(0.8, 0.7),
    Validation(0.6, 0.4),
]


def kept(epochs: int = 5, **settings: object) -> tuple[int, int, float]:
    """Number of epochs that were trained, the epoch that is kept, the weight that is kept."""
    module = nn.Linear(1, 1, bias=False)
    selection = Kept(Training(epochs=epochs, **settings))  # type: ignore[arg-type]
    trained = 0
    for epoch in range(epochs):
        nn.init.constant_(module.weight, WEIGHTS[epoch])
        trained += 1
        selection.see(epoch, EPOCHS[epoch], {"network": module})
        if selection.has_stopped(epoch):
            break
    selection.restore({"network": module})
    return trained, selection.epoch, module.weight.item()


def test_the_last() -> None:
    assert kept(selection="last") == (5, 4, 16.0)


def test_the_best_metric_and_its_patience() -> None:
    assert kept(selection="early_stopping", patience=5) == (5, 1, 2.0)
    assert kept(selection="early_stopping", patience=2) == (4, 1, 2.0)


def test_the_smallest_loss_whatever_the_patience() -> None:
    assert kept(selection="best_loss", patience=1) == (5, 2, 4.0)


@pytest.mark.parametrize(("epochs", "mean"), [(1, 1.0), (4, 6.0), (5, 28 / 3)])
def test_the_mean_over_the_last_half(epochs: int, mean: float) -> None:
    trained, epoch, weight = kept(epochs, selection="averaged")
    assert (trained, epoch) == (epochs, epochs - 1)
    assert weight == pytest.approx(mean, rel=1e-6)


def test_integers_of_a_mean_are_the_last() -> None:
    module = nn.BatchNorm1d(2)
    selection = Kept(Training(epochs=4, selection="averaged"))
    for epoch in range(4):
        module(torch.randn(3, 2))
        selection.see(epoch, EPOCHS[epoch], {"network": module})
    selection.restore({"network": module})
    assert module.num_batches_tracked == 4
