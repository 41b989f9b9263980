"""Images on a GPU: a training is that of the CPU, in every precision, and goes on where it was.

Recorded as a CUDA graph it is that of single kernels.
"""

import logging
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_trainings import After

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTask
from wsi_ncmi.images.datasets.interface import Images
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.training.captured import WARM_UP, CapturedStep
from wsi_ncmi.training.checkpoint import Checkpoints, Interrupted
from wsi_ncmi.training.determinism import deterministic
from wsi_ncmi.training.execute import Setup
from wsi_ncmi.training.images import ImageParts, prepare
from wsi_ncmi.training.learner import Learner, for_images

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
AUGMENTATION = [
    {"name": "RandomCrop", "options": {"size": [16, 16], "padding": 2}},
    {"name": "RandomHorizontalFlip"},
]
OBJECTIVES = ("cross_entropy", "ncmi", "ncmi_mixture", "cmic_dl", "mutual_information", "supcon")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def made_setup(
    objective: str,
    device: torch.device,
    count: int = 192,
    model_options: Any = None,
    **training: Any,
) -> Setup:
    """Noisy pictures of three classes, each of a colour of its own."""
    if objective == "supcon":
        pytest.importorskip("pytorch_metric_learning", reason="pip install 'wsi-ncmi[metric]'")
    rng, targets = np.random.default_rng(0), np.arange(count) % 3
    pixels = rng.integers(0, 120, (count, 16, 16, 3), dtype=np.uint8)
    pixels[np.arange(count), :, :, targets] += 100
    images = Images([f"{n}" for n in range(count)], targets, pixels)
    parts = {"train": images, "val": images.select(np.arange(48)), "test": images}
    settings = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "optimiser": "sgd"}
    task = ImageTask.model_validate(
        {
            "dataset": "cifar10",
            "path": "-",
            "model": "test_resnet",
            "model_options": model_options or {},
            "batch_augmentation": AUGMENTATION,
            "objectives": {objective: {}},
            "reference": objective,
            "training": {**settings, "precision": "fp32", **training},
        }
    )
    run = Run("t", "c", "-", "official", 0, 0, "m", objective, "last", "", "", {})
    moments = np.full(3, 0.5), np.full(3, 0.25)
    return prepare(run, task, ImageParts([*"abc"], parts, *moments, (16, 16)), device)


def first_losses(setup: Setup, steps: int = 3) -> list[float]:
    setup.network.precision = setup.settings.precision
    learner = Learner(setup.network, setup.objective, for_images(setup.settings), 100)
    learner.train()
    batches = islice(setup.data.training(0), steps)
    found = [learner.step(*batch, seed=n)[0] for n, batch in enumerate(batches)]
    return [float(loss) for loss in found]


def test_the_gpu_augments_to_the_pixels_of_the_cpu() -> None:
    batches = [[*made_setup("ncmi", device).data.training(1)] for device in (CPU, CUDA)]
    for (one, target), (other, expected) in zip(*batches, strict=True):
        assert torch.equal(one, other.cpu())
        assert torch.equal(target, expected.cpu())
        assert other.is_cuda
        assert other.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_first_steps_are_those_of_the_cpu(objective: str) -> None:
    found, expected = (first_losses(made_setup(objective, device)) for device in (CUDA, CPU))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("objective", OBJECTIVES[:2])
@pytest.mark.parametrize("way", [{"precision": "bf16"}, {"precision": "fp16"}, {"compile": True}])
def test_other_ways_are_near(objective: str, way: dict[str, Any]) -> None:
    found = first_losses(made_setup(objective, CUDA, **way))
    expected = first_losses(made_setup(objective, CUDA))
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("objective", OBJECTIVES[:2])
@pytest.mark.parametrize("way", [{}, {"compile": True, "precision": "bf16"}, {"ema_decay": 0.9}])
def test_a_training_learns_and_is_scored(objective: str, way: dict[str, Any]) -> None:
    history = made_setup(objective, CUDA, epochs=6, learning_rate=0.05, **way).fit()
    rows = [row for row in history.curves if row["part"] == "val"]
    assert history.failure == ""
    assert rows[-1]["macro_f1"] > 0.8


def test_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def setup() -> Setup:
        return made_setup("ncmi", CUDA, deterministic=True, precision="bf16")

    whole = setup()
    whole.fit()
    with pytest.raises(Interrupted):
        setup().fit(After(tmp_path, "run", 4))
    again = setup()
    again.fit(Checkpoints(tmp_path, "run"))
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name


# --- CUDA graphs --------------------------------------------------------------------------------

CAPTURED = [n for n in registry.names("objective") if n not in ("supcon", "mutual_information")]
SGD = {"optimiser": "sgd", "learning_rate": 0.01, "deterministic": True}


def taken(objective: str, steps: int = 24, **given: Any) -> tuple[list[float], Setup, Any]:
    """Losses of some steps of 32 of 208 images (the seventh of an epoch is of 16), and the step."""
    setup = made_setup(objective, CUDA, 208, **{**SGD, **given})
    setup.network.precision = setup.settings.precision
    learner = Learner(setup.network, setup.objective, for_images(setup.settings), steps)
    losses: list[torch.Tensor] = []
    with deterministic(True):
        torch.use_deterministic_algorithms(True, warn_only=True)
        for epoch in range(-(-steps // 7)):
            learner.train()
            for number, batch in enumerate(setup.data.training(epoch)):
                losses.append(learner.step(*batch, seed=100 * epoch + number)[0])
            setup.objective.end_epoch(epoch)
    return [float(loss) for loss in losses[:steps]], setup, learner.take


def near(found: Setup, expected: Setup, **tolerance: float) -> None:
    for part in ("network", "objective"):
        states = getattr(found, part).state_dict(), getattr(expected, part).state_dict()
        for name, tensor in states[1].items():
            torch.testing.assert_close(
                states[0][name], tensor, msg=lambda m, n=name: f"{n}: {m}", **tolerance
            )


@pytest.mark.parametrize("objective", CAPTURED)
def test_a_graph_takes_the_steps_of_single_kernels(objective: str) -> None:
    """The rates change from step to step, and some batches are too small for the graph."""
    found, setup, step = taken(objective, cuda_graph=True)
    assert isinstance(step, CapturedStep)
    assert step.replay is not None
    expected, eager, _ = taken(objective, cuda_graph=False)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    near(setup, eager, rtol=1e-2, atol=1e-3)


WAYS: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "bf16"},
    "AdamW and a running mean": {"optimiser": "adamw", "learning_rate": 1e-3, "ema_decay": 0.9},
    "clipped": {"clip_norm": 0.1},
    "random numbers": {"model_options": {"drop_path_rate": 0.3}},
    "mixed": {"mixup": 0.4, "cutmix": 1.0},
    "one cycle": {"schedule": "one_cycle", "warmup_fraction": 0.4},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_graph_has_the_settings_of_single_kernels(way: str) -> None:
    objective = "cross_entropy" if way == "mixed" else "ncmi"
    found, setup, step = taken(objective, cuda_graph=True, **WAYS[way])
    assert isinstance(step, CapturedStep)
    assert step.replay is not None
    expected, eager, _ = taken(objective, cuda_graph=False, **WAYS[way])
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)
    near(setup, eager, rtol=5e-2, atol=5e-3)


@pytest.mark.parametrize("objective", ["supcon", "mutual_information"])
def test_what_looks_at_values_has_no_graph(
    objective: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        *_, step = taken(objective, 4)
    assert not isinstance(step, CapturedStep)
    assert "without a CUDA graph" in caplog.text


def test_a_network_that_waits_for_the_device_has_none(caplog: pytest.LogCaptureFixture) -> None:
    setup = made_setup("ncmi", CUDA, **SGD)
    setup.network.register_forward_hook(lambda _m, _i, out: print(out.embedding.sum().item()))
    learner = Learner(setup.network, setup.objective, for_images(setup.settings), 100)
    learner.train()
    for number, batch in enumerate(setup.data.training(0)):
        learner.step(*batch, seed=number)
    assert number > WARM_UP
    assert learner.take.refused
    assert "wait for the device in" in caplog.text


@pytest.mark.parametrize("objective", ["cross_entropy", "ncmi"])
def test_with_a_graph_it_goes_on_to_the_same_bits(objective: str, tmp_path: Path) -> None:
    def setup() -> Setup:
        return made_setup(objective, CUDA, 208, **SGD, precision="bf16", ema_decay=0.9, epochs=3)

    whole = setup()
    history = whole.fit()
    with pytest.raises(Interrupted):
        setup().fit(After(tmp_path, "run", 12))
    again = setup()
    assert again.fit(Checkpoints(tmp_path, "run")).curves == history.curves
    near(again, whole, rtol=0, atol=0)
