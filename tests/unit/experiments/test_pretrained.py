from io import BytesIO

import numpy as np
import pytest
import timm
import torch
from made_images import TRUE, WNIDS, devkit, imagenet_val, picture, write_folder
from PIL import Image
from safetensors.torch import save_file

from wsi_ncmi.errors import PartError
from wsi_ncmi.experiments.pretrained import (
    check_models,
    imagenet_validation,
    load_classifier,
    log_probabilities,
    synsets,
)
from wsi_ncmi.images.datasets.interface import DatasetError

CPU = torch.device("cpu")
INDEX = {"n01440764": 0, "n01443537": 1, "n02102040": 217}
"""Of the tests' synsets among ImageNet's 1,000."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of made weights of timm's smallest model."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), folder / "test_resnet.safetensors")
    return folder


def test_images_have_the_indices_of_timms_classifiers(tmp_path):
    val = {f"val/{w}/{i}.JPEG": picture(i, 24, "JPEG") for i, w in enumerate(sorted(WNIDS))}
    images = imagenet_validation(write_folder(tmp_path / "folders", val))
    assert images.targets.tolist() == [0, 1, 217]
    flat = {f"val/{name}": data for name, data in imagenet_val().items()} | devkit()
    images = imagenet_validation(write_folder(tmp_path / "flat", flat))
    assert images.targets.tolist() == [INDEX[WNIDS[c]] for c in TRUE]
    assert [synsets()[i] for i in (0, 1, 217)] == sorted(WNIDS)


def test_another_class_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"class pizza is none of the 1000 known ones"):
        imagenet_validation(write_folder(tmp_path, {"val/pizza/0.png": picture(0)}))
    with pytest.raises(DatasetError, match=r"no val/ and no ILSVRC2012_img_val\.tar"):
        imagenet_validation(tmp_path / "nothing")


def test_probabilities_are_those_of_the_model_on_its_own_picture(tmp_path, weights):
    """By hand: a square picture is resized to 168, its middle 160 cut out, and normalised."""
    val = {f"val/{w}/{i}.png": picture(i, 50) for i, w in enumerate(sorted(WNIDS))}
    images = imagenet_validation(write_folder(tmp_path, val))
    module = load_classifier("test_resnet", weights, CPU)
    found = log_probabilities(module, images, CPU, batch_size=2, workers=0)
    assert found.shape == (3, 1000)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, rtol=1e-5)
    torch.manual_seed(0)
    own = timm.create_model("test_resnet").eval()
    for row, data in enumerate(val.values()):
        resized = Image.open(BytesIO(data)).resize((168, 168), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(resized)[4:164, 4:164].copy()).permute(2, 0, 1)
        with torch.no_grad():
            expected = own((pixels[None].float() / 255 - 0.5) / 0.5).log_softmax(1)
        np.testing.assert_allclose(found[row], expected[0], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("resnet5O", True, r"'resnet5O' is not one of timm's \(.*resnet50"),
        ("resnet50.tv_in9k", True, r"no weights 'resnet50.tv_in9k'; it has resnet50\.a1_in1k"),
        ("test_vit", False, r"no weights of test_vit: expected one of test_vit\.safetensors, test"),
    ],
)
def test_a_model_that_is_not_there_is_said_before_any_is_made(weights, name, own, message):
    with pytest.raises(PartError, match=message):
        check_models(["test_resnet", name], None if own else weights)
    check_models(["test_resnet"], None if own else weights)


def test_weights_with_other_classes_are_refused(weights, monkeypatch):
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda n, pretrained: make(n, num_classes=0))
    with pytest.raises(PartError, match="test_resnet has 0 classes, expected ImageNet's 1000"):
        load_classifier("test_resnet", weights, CPU)


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch):
    def unreachable(name, pretrained):
        assert pretrained
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(PartError, match="no route to host; without a network put its weights"):
        load_classifier("resnet50", None, CPU)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path, weights):
    val = {"val/n01440764/0.png": picture(0), "val/n01443537/1.png": b"no picture"}
    images = imagenet_validation(write_folder(tmp_path, val))
    module = load_classifier("test_resnet", weights, CPU)
    with pytest.raises(DatasetError, match=r"n01443537/1\.png: the image cannot be read"):
        log_probabilities(module, images, CPU, batch_size=2, workers=0)
