"""Local weights: what is said of those that do not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from wsi_ncmi.encoders.weights import load_weights
from wsi_ncmi.errors import PartError


def many(count: int) -> nn.Module:
    return nn.ModuleDict({f"layer{i}": nn.Linear(2, 3, bias=False) for i in range(count)})


def test_weights_that_fit(tmp_path: Path) -> None:
    written, read = many(2), many(2)
    torch.save({**written.state_dict(), "head.weight": torch.ones(1)}, tmp_path / "w.pth")
    load_weights(read, tmp_path / "w.pth")
    assert torch.equal(read.state_dict()["layer1.weight"], written.state_dict()["layer1.weight"])


def test_keys_are_counted(tmp_path: Path) -> None:
    state = {f"other{i}.weight": torch.ones(1) for i in range(2000)}
    state["layer0.weight"] = torch.ones(5, 2)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(PartError) as caught:
        load_weights(many(1000), tmp_path / "w.pth")
    assert str(caught.value) == (
        f"{tmp_path}/w.pth: the weights do not fit this encoder: "
        "999 missing (layer1.weight, layer2.weight, layer3.weight, …); "
        "2000 unexpected (other0.weight, other1.weight, other2.weight, …); "
        "1 of other shape (layer0.weight [5, 2] instead of [3, 2])"
    )


class _Program:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code in a file was run')",)


def test_a_program_instead_of_weights(tmp_path: Path) -> None:
    torch.save(_Program(), tmp_path / "w.pth")
    with pytest.raises(PartError, match="code in files is never run") as caught:
        load_weights(many(1), tmp_path / "w.pth")
    assert "weights_only" not in str(caught.value)
