"""Learning curves as event files: what is read back is what the histories have."""

import sys
from pathlib import Path

import pytest
from made_groups import MemoryBags, made_setup

from wsi_ncmi.errors import PartError
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.finite import History
from wsi_ncmi.training.tensorboard import VARIABLE


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def same(folder: Path, history: History) -> None:
    found, validation = scalars(folder), [r for r in history.curves if r["part"] == "val"]
    assert {"train/loss", "val/loss", "val/macro_f1"} <= found.keys()
    steps, values = zip(*found["val/macro_f1"], strict=True)
    assert list(steps) == [row["epoch"] for row in validation]
    assert values == pytest.approx([row["macro_f1"] for row in validation])


def test_every_model_has_its_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    cache = MemoryBags()
    for epochs in (3, 2):  # trained again, with other settings: the earlier curves are gone
        group = [made_setup(cache, fold=fold, epochs=epochs) for fold in (0, 1)]
        for setup, history in zip(group, fit(group), strict=True):
            same(tmp_path / "t" / setup.run.run_id, history)


def test_the_plain_loop_has_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    setup = made_setup(MemoryBags(), epochs=2)
    same(tmp_path / "t" / setup.run.run_id, setup.fit())


def test_a_missing_package_is_said_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    setup = made_setup(MemoryBags(), epochs=1)
    with pytest.raises(PartError, match=r"WSI_NCMI_TENSORBOARD asks for .*wsi-ncmi\[tensorboard\]"):
        fit([setup])
    assert not list(tmp_path.iterdir())
