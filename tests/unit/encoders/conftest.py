"""Published encoders at toy size: the true construction, a fraction of the width and depth."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn

from wsi_ncmi.encoders import PathologyEncoder
from wsi_ncmi.encoders.pathology import ADAPTERS
from wsi_ncmi.encoders.published import PUBLISHED

VIT = {"embed_dim": 48, "depth": 2, "num_heads": 4, "mlp_ratio": 4.0}
SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`published` runs over every row of the table."""
    if "published" in metafunc.fixturenames:
        metafunc.parametrize("published", sorted(PUBLISHED))


def small_facts(name: str) -> PathologyEncoder:
    """The facts of a network of the same kind, with 48 (Swin: 8 · 16) features."""
    facts = PUBLISHED[name]
    swin = facts.architecture.startswith("swin")
    widths = {"class": 48, "class_mean": 96, "attention": 32, "mean": 128}
    return dataclasses.replace(
        facts,
        arguments={**facts.arguments, **(SWIN if swin else VIT)},
        dim=widths[facts.pooling],
    )


@pytest.fixture
def small() -> Callable[[str], PathologyEncoder]:
    return small_facts


@pytest.fixture
def shrink(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], PathologyEncoder]:
    """Puts a network of toy size into a row of the table, and gives its facts."""

    def replace(name: str) -> PathologyEncoder:
        monkeypatch.setitem(PUBLISHED, name, small_facts(name))
        return PUBLISHED[name]

    return replace


@pytest.fixture
def network() -> Callable[[PathologyEncoder], nn.Module]:
    """The network of some facts as `build` makes it, with weights of no pattern."""

    def make(facts: PathologyEncoder) -> nn.Module:
        return scramble(ADAPTERS[facts.adapter].make(facts))

    return make


def scramble(module: nn.Module) -> nn.Module:
    """Every tensor of a module away from its initial value, so that each one matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator))
    return module.eval()
