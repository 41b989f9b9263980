import pytest
import torch
from made_trainings import After, Made

from wsi_ncmi.errors import UserError
from wsi_ncmi.training.checkpoint import Checkpoints, Interrupted
from wsi_ncmi.training.snapshots import Snapshots, read_snapshot, snapshot_epochs

CPU = torch.device("cpu")
EMA = {"optimiser": "sgd", "ema_decay": 0.9, "learning_rate": 0.1}


def trained(folder, epochs, every=1, digest="d", **training):
    made = Made("ncmi", norm=True, epochs=epochs, **training)
    made.fit(after=Snapshots(folder, every, epochs, digest).see)
    return made


def test_every_epoch_has_the_weights_that_a_training_of_so_many_epochs_ends_with(tmp_path):
    settings = {"schedule": "constant", "warmup_fraction": 0.0}
    trained(tmp_path, 3, **settings)
    assert snapshot_epochs(tmp_path) == [0, 1, 2]
    for epoch in range(3):
        shorter = Made("ncmi", norm=True, epochs=epoch + 1, **settings)
        shorter.fit()
        found = read_snapshot(tmp_path, epoch, "d", CPU)
        assert found["network"].keys() == shorter.network.state_dict().keys()
        for name, tensor in shorter.network.state_dict().items():
            assert torch.equal(found["network"][name], tensor), name
        for name, parameter in shorter.objective.main.named_parameters():
            assert torch.equal(found["objective"][name], parameter), name


def test_the_running_mean_is_kept_where_it_is_what_is_scored(tmp_path):
    made = trained(tmp_path, 2, **EMA)  # `fit` puts the mean in the network's place at the end
    for name, tensor in made.network.state_dict().items():
        assert torch.equal(read_snapshot(tmp_path, 1, "d", CPU)["network"][name], tensor), name
    plain = trained(tmp_path / "plain", 2, **{**EMA, "ema_decay": None})
    assert not torch.equal(plain.network.layer.weight, made.network.layer.weight)


def test_the_last_epoch_is_kept_and_those_of_an_earlier_training_are_not(tmp_path):
    trained(tmp_path, 5, every=2)
    assert snapshot_epochs(tmp_path) == [1, 3, 4]
    trained(tmp_path, 3, every=3, digest="e")
    assert snapshot_epochs(tmp_path) == [2]
    with pytest.raises(UserError, match=r"no snapshot of epoch 0, found 2: set training\.snapsho"):
        read_snapshot(tmp_path, 0, "e", CPU)
    with pytest.raises(UserError, match="of another training than the run's: delete"):
        read_snapshot(tmp_path, 2, "d", CPU)


def test_none_are_written_unless_they_are_asked_for(tmp_path):
    trained(tmp_path, 1, every=None)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_training_leaves_the_same_snapshots(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    Made(dropout=0.3).fit(after=Snapshots(whole, 1, 3, "d").see)
    see = Snapshots(parts, 1, 3, "d").see
    with pytest.raises(Interrupted):
        Made(dropout=0.3).fit(After(tmp_path, "run", 6), see)  # in the second of three epochs
    assert snapshot_epochs(parts) == [0]
    Made(dropout=0.3).fit(Checkpoints(tmp_path, "run"), see)
    assert snapshot_epochs(parts) == [0, 1, 2]
    for epoch in range(3):
        expected = read_snapshot(whole, epoch, "d", CPU)["network"]
        found = read_snapshot(parts, epoch, "d", CPU)["network"]
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
