"""`training.precision`: honoured, recorded as what it came to, and not mixed within an arm."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from wsi_ncmi.aggregators.abmil import ABMIL
from wsi_ncmi.config import Arm, Task, Training
from wsi_ncmi.errors import UserError
from wsi_ncmi.predictions.completeness import check_precision
from wsi_ncmi.predictions.records import read_manifest
from wsi_ncmi.stages import train as stage
from wsi_ncmi.training.precision import mixed, resolved

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("wanted", "device", "able", "found"),
    [
        ("auto", CPU, False, "fp32"),
        ("auto", CUDA, True, "bf16"),
        ("auto", CUDA, False, "fp32"),
        ("fp32", CUDA, True, "fp32"),
        ("bf16", CUDA, True, "bf16"),
        ("bf16", CPU, False, "bf16"),
    ],
)
def test_auto_is_what_the_device_has(
    monkeypatch: pytest.MonkeyPatch, wanted: str, device: torch.device, able: bool, found: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    settings = Training(precision=wanted, epochs=7)  # type: ignore[arg-type]
    assert resolved(settings, device) == Training(precision=found, epochs=7)  # type: ignore[arg-type]
    assert resolved(resolved(settings, device), device) == resolved(settings, device)


def test_bf16_on_a_gpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(
        UserError, match=r"training\.precision is bf16, which Tesla T4 does not have"
    ):
        resolved(Training(precision="bf16"), CUDA)


def test_mixed_is_autocast_or_nothing() -> None:
    product = torch.ones(2, 2)
    with mixed("bf16", CPU):
        assert (product @ product).dtype == torch.bfloat16
    with mixed("fp32", CPU):
        assert (product @ product).dtype == torch.float32


@pytest.fixture
def train(
    cache_folder: Path, splits: pd.DataFrame, classes: list[str], tmp_path: Path
) -> Callable[..., pd.DataFrame]:
    """Train a seed with two arms, the second under settings of its own."""
    splits.to_csv(tmp_path / "splits.tsv", sep="\t", index=False)

    def run(all_arms: str, **own: Any) -> pd.DataFrame:
        arms = {"cross_entropy": Arm(), "ncmi": Arm(training=own)}
        small = {"options": {"hidden_dim": 8, "attention_dim": 4}}
        settings = {"epochs": 1, "batch_size": 6, "precision": all_arms}
        raw = {"objectives": arms, "aggregators": {"abmil": small}, "training": settings}
        task = Task.model_validate({"classes": classes, **raw})
        given = cache_folder, tmp_path / "splits.tsv", tmp_path, 1
        stage.run("t", task, "c", "e", 0, *given)
        return read_manifest(tmp_path / "seed-0.tsv").set_index("objective")

    return run


def test_bf16_is_honoured_and_recorded(
    train: Callable[..., pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    original = ABMIL.forward

    def recorded(self: ABMIL, *inputs: Any) -> Any:
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(self, *inputs)

    monkeypatch.setattr(ABMIL, "forward", recorded)
    assert dict(train("fp32", precision="bf16").precision) == {
        "cross_entropy": "fp32",
        "ncmi": "bf16",
    }
    # Trained in two passes, then scored one after another.
    assert [mixed for mixed, _ in itertools.groupby(seen)] == [False, True, False, True]
    record = json.loads((tmp_path / "abmil--ncmi--fold0--seed0" / "run.json").read_text())
    assert (record["precision"], record["settings"]["training"]["precision"]) == ("bf16", "bf16")


def test_a_run_of_another_device_is_not_current(
    train: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `auto` comes to is part of the digest: named outright, it is the same run."""
    digests = train("auto").digest
    assert dict(train("auto").precision) == {"cross_entropy": "fp32", "ncmi": "fp32"}
    started: list[str] = []
    monkeypatch.setattr(
        stage, "train_group", lambda group, _: started.extend(s.run.precision for s in group)
    )
    assert train("fp32").digest.equals(digests)
    assert started == []
    train("bf16")  # as `auto` on a GPU
    assert started == ["bf16", "bf16"]


def test_two_precisions_in_one_arm_are_not_evaluated() -> None:
    rows = [("abmil", "ncmi", "fp32"), ("abmil", "ncmi", "bf16"), ("abmil", "ce", "fp32")]
    runs = pd.DataFrame(rows, columns=["aggregator", "objective", "precision"])
    check_precision(runs.iloc[1:], "t")  # arms may differ: it is a setting like others
    with pytest.raises(UserError) as error:
        check_precision(runs, "t")
    text = str(error.value)
    assert text.startswith(
        "task t: abmil + ncmi has models in two precisions (1 in fp32, 1 in bf16)"
    )
    assert "set training.precision" in text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_in_bf16_and_says_so(
    train: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bf16")
    manifest = train("auto", precision="fp32")
    assert dict(manifest.precision) == {"cross_entropy": "bf16", "ncmi": "fp32"}
    assert set(manifest.status) == {"ok"}
    assert not torch.backends.cudnn.allow_tf32
