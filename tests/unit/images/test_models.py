import numpy as np
import pytest
import torch

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTask
from wsi_ncmi.errors import PartError
from wsi_ncmi.images import models
from wsi_ncmi.images.datasets.interface import Images
from wsi_ncmi.images.models import ImageEncoder, build_network
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.training.images import ImageParts, prepare

MEAN, STD = (0.25, 0.5, 0.75), (0.1, 0.2, 0.4)


def task(**settings):
    return ImageTask(dataset="mnist", path="x", **settings)


def build(size=(28, 28), **settings):
    return build_network(task(**settings), size, MEAN, STD)


def test_the_small_stem_keeps_the_resolution_that_the_usual_one_throws_away():
    shapes = {}
    for small in (True, False):
        encoder = build(model="test_resnet", small_stem=small).eval()
        seen = []
        encoder.module.layer1.register_forward_hook(lambda _m, i, _o, s=seen: s.append(i[0].shape))
        output = encoder(torch.zeros(2, 3, 28, 28, dtype=torch.uint8))
        assert output.shape == (2, encoder.embedding_dim)
        shapes[small] = tuple(seen[0][2:])
    assert shapes == {True: (28, 28), False: (7, 7)}


@pytest.mark.parametrize(("model", "width"), [("resnet10t", 64), ("test_resnet", 32)])
def test_the_small_stem_replaces_single_and_deep_stems(model, width):
    encoder = build(model=model)
    assert (encoder.module.conv1.out_channels, encoder.module.conv1.stride) == (width, (1, 1))


def test_pixels_are_normalised_by_buffers_that_a_checkpoint_carries():
    encoder = build(model="test_resnet")
    seen = []
    encoder.module.conv1.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    image = torch.randint(0, 256, (2, 28, 28, 3), dtype=torch.uint8)
    encoder(image.permute(0, 3, 1, 2))
    expected = (image.double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(seen[0].double().permute(0, 2, 3, 1), expected, rtol=1e-5, atol=1e-5)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    state = encoder.state_dict()
    assert state["mean"].flatten().tolist() == pytest.approx(MEAN)
    assert state["std"].flatten().tolist() == pytest.approx(STD)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "resnet10x"}, r"'resnet10x' is not one of timm's \(.*resnet"),
        ({"model": "test_vit"}, "small_stem is for ResNets and this is a VisionTransformer"),
        (
            {"model": "test_vit", "small_stem": False},
            "does not take images of 28 x 28 .*image_size",
        ),
        ({"model": "resnet18", "pretrained": True}, "would throw the pretrained stem away"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(settings, message, monkeypatch):
    make = models.timm.create_model
    monkeypatch.setattr(
        models.timm, "create_model", lambda name, pretrained, **kw: make(name, **kw)
    )
    with pytest.raises(PartError, match=message):
        build(**settings)


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch):
    def unreachable(name, *, pretrained, num_classes):
        raise OSError("no route to host")

    monkeypatch.setattr(models.timm, "create_model", unreachable)
    message = "OSError: no route to host; without a network set pretrained: false"
    with pytest.raises(PartError, match=message):
        build(model="resnet18", pretrained=True, small_stem=False)


def test_a_transformer_of_its_own_size_is_taken():
    assert build((160, 160), model="test_vit", small_stem=False).embedding_dim == 64


@pytest.mark.parametrize(
    ("model", "size"), [("test_resnet", 64), ("test_vit", 160), ("test_convnext", 64)]
)
def test_embeddings_are_pooled_in_float32_under_autocast(model, size):
    """Of the same feature map in bf16, the head's mean has all of float32's digits."""
    torch.manual_seed(0)
    encoder = build((size, size), model=model, small_stem=False).eval()
    features = []
    original = encoder.module.forward_features

    def recorded(images):
        features.append(original(images))
        return features[-1]

    encoder.module.forward_features = recorded
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = encoder(images)
    assert found.dtype == torch.float32
    with torch.inference_mode():
        expected = encoder.module.double().forward_head(features[0].double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(found, found.bfloat16().float())


def test_the_embedding_is_that_of_the_model_itself():
    encoder = build((64, 64), model="test_convnext", small_stem=False).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        pixels = (images.float() / 255 - encoder.mean) / encoder.std
        assert torch.equal(encoder(images), encoder.module(pixels))


def test_positions_take_no_weight_decay():
    """They have three dimensions, and timm's authors list them."""
    encoder = build((160, 160), model="test_vit", small_stem=False)
    spared = {id(parameter) for parameter in encoder.undecayed}
    assert {id(encoder.module.pos_embed), id(encoder.module.cls_token)} <= spared
    assert build(model="test_resnet").undecayed == []


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_lenet5_has_the_papers_number_of_parameters():
    encoder = build(model="lenet5")
    assert encoder.embedding_dim == 84
    assert count(encoder) + 84 * 10 + 10 == 44_426
    wide = build((32, 32), model="lenet5", model_options={"width": 2, "side": 32, "grey": False})
    assert wide.embedding_dim == 168


def test_a_perceptron_is_as_wide_and_deep_as_its_options_say():
    encoder = build(model="mlp", model_options={"width": 32, "depth": 3})
    assert encoder.embedding_dim == 32
    count = sum(p.numel() for p in encoder.parameters())
    assert count == (28 * 28 * 32 + 32) + 2 * (32 * 32 + 32)
    grey = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8).expand(-1, 3, -1, -1)
    x = (grey.double() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    x = x.mean(1).flatten(1)
    for layer in encoder.module.layers:
        x = (x @ layer.weight.double().T + layer.bias.double()).clamp_min(0)
    torch.testing.assert_close(encoder(grey).double(), x, rtol=1e-4, atol=1e-5)
    coloured = build((32, 32), model="mlp", model_options={"side": 32, "grey": False, "depth": 1})
    assert coloured.module.layers[0].in_features == 3 * 32 * 32
    with pytest.raises(PartError, match="mlp was made for images of 28 pixels: set its `side`"):
        build((32, 32), model="mlp")


def test_lenet5_says_for_which_images_it_is():
    with pytest.raises(PartError, match="lenet5 was made for images of 28 pixels: set its `side`"):
        build((32, 32), model="lenet5")


def test_wide_resnets_have_the_papers_number_of_parameters():
    """36.5 and 8.9 million, as table 4 of arXiv 1605.07146 says, the classifier of 10 included."""
    with torch.device("meta"):
        large = registry.load("network", "wide_resnet")
        found = [large.build(large.Options(depth=d, width=k)) for d, k in ((28, 10), (40, 4))]
    assert count(found[0]) + 640 * 10 + 10 == 36_479_194
    assert round((count(found[1]) + 256 * 10 + 10) / 1e6, 1) == 8.9


def test_a_wide_resnet_halves_its_map_twice():
    encoder = build((32, 32), model="wide_resnet", model_options={"depth": 10, "width": 1})
    encoder.eval()
    seen = []
    encoder.module.norm.register_forward_hook(lambda _m, _i, o: seen.append(o.shape))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert encoder(images).shape == (2, 64)
    assert seen == [(2, 64, 8, 8)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "wide_resnet", "model_options": {"depth": 20}}, "depth must be 10, 16, 22"),
        ({"model": "lenet5", "pretrained": True}, "lenet5 has no pretrained weights"),
        ({"model": "test_resnet", "model_options": {"side": 3}}, "cannot be made: TypeError"),
        ({"model": "resnet10x"}, "none of causal_transformer, lenet5, mlp"),
    ],
)
def test_what_a_network_does_not_take_is_said(settings, message):
    with pytest.raises(PartError, match=message):
        build(**settings)


def test_options_of_a_timm_model_are_its_constructors():
    encoder = build(model="test_resnet", model_options={"drop_path_rate": 0.3})
    assert "DropPath" in repr(encoder.module)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_network_is_compiled_where_it_is_asked_for(compiled, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: asked.append(type(module)))
    parts = {"train": Images(["a", "b"], np.arange(2), np.zeros((2, 28, 28, 3), np.uint8))}
    images = ImageParts(["x", "y"], parts, np.full(3, 0.5), np.full(3, 0.25), (28, 28))
    settings = {"training": {"compile": compiled}, "model": "lenet5"}
    one = ImageTask.model_validate({"dataset": "mnist", "path": "x", **settings})
    run = Run("t", "c", "-", "official", 0, 0, "lenet5", "ncmi", "last", "fp32", "", {})
    prepare(run, one, images, torch.device("cpu"))
    assert asked == [ImageEncoder] * compiled
