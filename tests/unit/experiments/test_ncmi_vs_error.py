from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from made_images import WNIDS, picture, write_folder
from safetensors.torch import save_file
from scipy import stats

from wsi_ncmi.config import Evaluation
from wsi_ncmi.errors import PartError, UserError
from wsi_ncmi.experiments.classifiers import measures
from wsi_ncmi.experiments.ncmi_vs_error import NcmiVsError, Options
from wsi_ncmi.report.style import styled

MODELS = ("test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_byobnet")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """(a folder of 12 validation images, a folder of made weights of MODELS)"""
    root = tmp_path_factory.mktemp("imagenet")
    names = [f"val/{wnid}/{i}.JPEG" for wnid in WNIDS for i in range(4)]
    write_folder(root / "data", {n: picture(i, 40, "JPEG") for i, n in enumerate(names)})
    (root / "weights").mkdir()
    for seed, name in enumerate(MODELS):
        torch.manual_seed(seed)
        model = timm.create_model(name)
        with torch.no_grad():  # of a thousand classes, only these three are predicted
            model.get_classifier().weight[:] *= 30
            model.get_classifier().bias[[0, 1, 217]] += 100
        save_file(model.state_dict(), root / "weights" / f"{name}.safetensors")
    return str(root / "data"), str(root / "weights")


def results():
    """Of a configuration whose tasks have no part in it."""
    return SimpleNamespace(tasks={}, config=SimpleNamespace(evaluation=Evaluation(bootstrap=200)))


def test_pretrained_models_are_classifiers_that_nothing_trained(imagenet):
    path, weights = imagenet
    with styled():
        found = NcmiVsError(Options(MODELS, path, weights, batch_size=5)).findings(results())
    correlations, classifiers = (table.frame for table in found.tables)
    assert classifiers["classifier"].tolist() == list(MODELS)
    assert (classifiers["images"] == 12).all()
    first = timm.create_model("test_resnet")
    count = sum(p.numel() for p in first.parameters()) / 1e6
    assert classifiers["parameters"].iloc[0] == pytest.approx(count)
    assert correlations["measure"].tolist() == ["NCMI", "CMI", "Γ", "NCMI with class means"]
    own = correlations.set_index("measure").loc["CMI"]
    expected = stats.pearsonr(classifiers["cmi"], classifiers["error"]).statistic
    assert own["pearson"] == pytest.approx(expected)
    assert own["n"] == 5
    (axes,) = found.plots[0].figure.axes
    assert [text.get_text() for text in axes.texts] == list(MODELS)


def test_measures_are_their_definitions_over_all_pairs():
    rng = np.random.default_rng(0)
    target = np.arange(12) % 3
    scores = (rng.normal(size=(12, 3)) + 2 * np.eye(3)[target]).astype(np.float32)
    p = np.exp(scores.astype(float))
    p /= p.sum(1, keepdims=True)
    q = np.stack([p[target == c].mean(0) for c in range(3)])
    cmi = np.mean([(p[n] * np.log(p[n] / q[target[n]])).sum() for n in range(12)])
    pairs = [(n, j) for n in range(12) for j in range(12) if target[n] != target[j]]
    gamma = sum(-(p[n] * np.log(p[j])).sum() for n, j in pairs) / 144
    found = measures(scores, target)
    assert found["ncmi"] == pytest.approx(cmi / gamma)
    assert (found["images"], found["error"]) == (12, (p.argmax(1) != target).mean())


def test_what_does_not_belong_together_is_refused(imagenet):
    path, weights = imagenet
    with pytest.raises(ValueError, match="models and path belong together, found 1 models and"):
        Options(models=("resnet18.tv_in1k",))
    with pytest.raises(ValueError, match="found 0 models and path 'imagenet'"):
        Options(path="imagenet")
    with pytest.raises(UserError, match="ImageNet: 2 trained classifiers, expected 4 or more"):
        NcmiVsError(Options(MODELS[:2], path, weights)).findings(results())
    with pytest.raises(PartError, match="no weights of resnet18"):
        NcmiVsError(Options(("resnet18",), path, weights)).findings(results())
