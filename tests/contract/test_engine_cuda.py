"""The engine on a GPU: a group trains there as each of its models alone, and as on the CPU."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from made_aggregators import NARROW
from made_groups import CPU, MemoryBags, made_setup, states

from wsi_ncmi import registry
from wsi_ncmi.training.checkpoint import Checkpoints
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CUDA = torch.device("cuda", 0)


AGGREGATORS = registry.names("aggregator")
OBJECTIVES = registry.names("objective")


def group(aggregator: str, device: torch.device, **settings: object) -> list[Setup]:
    known = {field.name for field in fields(registry.load("aggregator", aggregator).Options)}
    # What is drawn on a GPU is not what is drawn on a CPU.
    options = {n: v for n, v in {**NARROW, "dropout": 0.0}.items() if n in known}
    return [
        made_setup(
            MemoryBags(count=30),
            name,
            aggregator=aggregator,
            aggregator_options=options,
            seed=seed,
            device=device,
            **{"epochs": 2, "learning_rate": 0.001, **settings},
        )
        for seed in (0, 1)
        for name in OBJECTIVES
    ]


def close(found: Setup, expected: Setup, tolerance: float = 1e-3) -> None:
    for name, tensor in states(expected).items():
        torch.testing.assert_close(
            states(found)[name].cpu(),
            tensor.cpu(),
            rtol=10 * tolerance,
            atol=tolerance,
            msg=lambda text, name=name: f"{expected.run.run_id}: {name}: {text}",
        )


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_a_group_trains_as_each_of_its_models_alone(aggregator: str) -> None:
    together, alone = group(aggregator, CUDA), group(aggregator, CUDA)
    histories = fit(together)
    for one, other, history in zip(together, alone, histories, strict=True):
        expected = other.fit()
        assert history.failure == expected.failure == ""
        assert {tensor.device.type for tensor in states(one).values()} == {"cuda"}
        close(one, other)


@pytest.mark.parametrize("aggregator", ["abmil", "mean", "clam_mb", "dsmil", "aem"])
def test_it_trains_as_on_the_cpu(aggregator: str) -> None:
    """Where nothing is drawn: without dropout."""
    there, here = group(aggregator, CUDA), group(aggregator, CPU)
    fit(there)
    fit(here)
    for one, other in zip(there, here, strict=True):
        close(one, other)


def test_bf16_trains_and_stays_near() -> None:
    low, full = (group("abmil", CUDA, precision=precision) for precision in ("bf16", "fp32"))
    for found, expected in zip(fit(low), fit(full), strict=True):
        assert found.failure == ""
        torch.testing.assert_close(
            found.validation[-1], expected.validation[-1], rtol=0.5, atol=0.5
        )


def test_a_group_on_a_gpu_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole, first, again = (group("abmil", CUDA) for _ in range(3))
    fit(whole)
    fit(first, Checkpoints(tmp_path, "x", seconds=0.0))
    fit(again, Checkpoints(tmp_path, "x"))
    for one, other in zip(again, whole, strict=True):
        close(one, other, 1e-4)
