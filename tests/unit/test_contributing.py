"""The examples of CONTRIBUTING.md are whole parts that work."""

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from wsi_ncmi import encoders, registry


@pytest.fixture(scope="module")
def sources(root: Path) -> dict[str, str]:
    """File name -> the code that stands below it."""
    text = (root / "CONTRIBUTING.md").read_text()
    found = r"`(wsi_ncmi/\S+\.py)`, used by.*?```python\n(.*?)```"
    return dict(re.findall(found, text, re.DOTALL))


@pytest.fixture(scope="module")
def examples(sources: dict[str, str]) -> dict[str, ModuleType]:
    """File name -> its module."""
    modules = {}
    for path, code in sources.items():
        module = ModuleType(Path(path).stem)
        exec(compile(code, path, "exec"), module.__dict__)
        modules[path] = module
    return modules


def test_one_of_each_kind(examples: dict[str, ModuleType]) -> None:
    folders = [package.replace(".", "/") for package in registry.KINDS.values()]
    assert sorted(str(Path(path).parent) for path in examples) == sorted(folders)


def test_aggregator(examples: dict[str, ModuleType]) -> None:
    module = examples["wsi_ncmi/aggregators/max.py"]
    aggregator = module.build(4, registry.options_of(module, {"hidden_dim": 3})).eval()
    features = torch.randn(1, 5, 4)
    whole = aggregator(features, torch.ones(1, 5, dtype=torch.bool)).embedding
    padded = torch.cat([features, torch.full((1, 2, 4), float("nan"))], 1)
    mask = torch.tensor([[True] * 5 + [False] * 2])
    torch.testing.assert_close(aggregator(padded, mask).embedding, whole)
    expected = torch.relu(aggregator.instance[0](features)).amax(1)
    torch.testing.assert_close(whole, expected)


def test_objective_between_cross_entropy_and_the_absolute_error(
    examples: dict[str, ModuleType],
) -> None:
    module = examples["wsi_ncmi/losses/gce.py"]
    z, target = torch.randn(8, 6), torch.arange(8) % 2
    for q in (1e-3, 1.0):
        objective = module.build(6, [3, 3], registry.options_of(module, {"q": q}))
        cross_entropy = torch.nn.functional.cross_entropy(objective.head(z), target)
        own = objective.head(z).softmax(1)[torch.arange(8), target]
        expected = (1 - own).mean() if q == 1 else cross_entropy
        torch.testing.assert_close(objective(z, target).total, expected, rtol=5e-3, atol=0)


def test_encoder(examples: dict[str, ModuleType]) -> None:
    module = examples["wsi_ncmi/encoders/mean_colour.py"]
    encoder = module.build("mean_colour", module.Options(), None)
    features = encoder.module(torch.full((2, 3, 8, 8), 0.25))
    assert features.shape == (2, encoder.dim)
    torch.testing.assert_close(features[:, :3], torch.full((2, 3), 0.25))


def test_a_file_is_all_that_an_encoder_needs(
    sources: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = sources["wsi_ncmi/encoders/mean_colour.py"]
    (tmp_path / "mean_colour.py").write_text(code)
    monkeypatch.setattr(encoders, "__path__", [*encoders.__path__, str(tmp_path)])
    assert "mean_colour" in registry.names("encoder")
    assert encoders.build_encoder("mean_colour", {"input_px": 32}, None).input_px == 32
    assert encoders.published_facts("mean_colour") is None  # planning asks of every encoder


def test_dataset(examples: dict[str, ModuleType], tmp_path: Path) -> None:
    module = examples["wsi_ncmi/images/datasets/arrays.py"]
    images = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    labels = np.array([0, 1, 0, 1])
    path = tmp_path / "toy.npz"
    parts = {"train_images": images, "train_labels": labels}
    np.savez(path, **parts, test_images=images[:2], test_labels=labels[:2])
    dataset = module.build(path, registry.options_of(module, {"classes": ["dark", "light"]}))
    assert dataset.classes == ["dark", "light"]
    assert dataset.train.targets.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(dataset.test.pixels[1], images[1])
    np.savez(path, **parts)
    with pytest.raises(module.DatasetError, match="lacks test_images, test_labels"):
        module.build(path, module.Options())
