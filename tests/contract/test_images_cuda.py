"""Images on a GPU: a training is that of the CPU, in every precision, and goes on where it was."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_trainings import After

from wsi_ncmi.config import ImageTask
from wsi_ncmi.images.datasets.interface import Images
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.training.checkpoint import Checkpoints, Interrupted
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


def made_setup(objective: str, device: torch.device, **training: Any) -> Setup:
    """Noisy pictures of three classes, each of a colour of its own."""
    rng, targets = np.random.default_rng(0), np.arange(192) % 3
    pixels = rng.integers(0, 120, (192, 16, 16, 3), dtype=np.uint8)
    pixels[np.arange(192), :, :, targets] += 100
    images = Images([f"{n}" for n in range(192)], targets, pixels)
    parts = {"train": images, "val": images.select(np.arange(48)), "test": images}
    settings = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "optimiser": "sgd"}
    task = ImageTask.model_validate(
        {
            "dataset": "cifar10",
            "path": "-",
            "model": "test_resnet",
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
