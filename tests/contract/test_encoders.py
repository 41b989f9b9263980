"""What every registered encoder keeps to; timm's by tiny models, published ones at toy size."""

import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.torch import save_file

from wsi_ncmi import registry
from wsi_ncmi.encoders import build_encoder
from wsi_ncmi.encoders.facts import PathologyEncoder
from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.encoders.pathology import ADAPTERS
from wsi_ncmi.encoders.published import PUBLISHED
from wsi_ncmi.errors import PartError
from wsi_ncmi.extraction.encode import BatchEncoder, TilePixels

FAMILIES = registry.names("encoder")
TINY = ("test_resnet", "test_vit")
NAMES = [name for name in FAMILIES if name != "timm"] + list(TINY)
SIDE, BATCH = 64, 4
LOCAL = (*TINY, *PUBLISHED)


def toy(facts: PathologyEncoder) -> PathologyEncoder:
    """The facts of the same kind of network with fewer and narrower layers."""
    layers: dict[str, object] = {"embed_dim": 48, "depth": 1, "num_heads": 4, "mlp_ratio": 2.0}
    if facts.architecture.startswith("swin"):
        layers = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2]}
    dim = {"class": 48, "class_mean": 96, "attention": 32, "mean": 128}[facts.pooling]
    return dataclasses.replace(facts, arguments={**facts.arguments, **layers}, dim=dim)


@pytest.fixture(scope="module", autouse=True)
def _published_at_toy_size() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, row in PUBLISHED.items():
            patch.setitem(PUBLISHED, name, toy(row))
        yield


def tiny_state(name: str) -> dict[str, torch.Tensor]:
    """A state dict; timm's with a classifier, as trained weights have one."""
    torch.manual_seed(0)
    if name in TINY:
        return timm.create_model(name, pretrained=False, num_classes=3).state_dict()
    row = PUBLISHED[name]
    state = ADAPTERS[row.adapter].make(row).state_dict()
    # Untrained layer scales would hide the patches from the class token.
    return {
        k: v + 0.2 * torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items()
    }


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("weights")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            save_file(tiny_state(name), path)
        return path

    return path_of


@pytest.fixture(scope="module")
def built() -> dict[str, Encoder]:
    """Encoders by name: each is built once."""
    return {}


@pytest.fixture(params=NAMES)
def encoder(
    request: pytest.FixtureRequest, weights: Callable[[str], Path], built: dict[str, Encoder]
) -> Encoder:
    name = request.param
    if name not in built:
        local = str(weights(name)) if name in LOCAL else None
        try:
            built[name] = build_encoder(name, {}, local)
        except PartError as error:
            if "network" not in str(error):
                raise
            pytest.skip(f"{name} fetches its weights, which needs a network: {error}")
    return built[name]


def tiles(count: int, seed: int = 0) -> NDArray[np.uint8]:
    shape = (count, SIDE, SIDE, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def batches(encoder: Encoder) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """uint8 [n, side, side, 3] -> float32 [n, D], as extraction encodes them."""
    encode = BatchEncoder(encoder, BATCH, torch.device("cpu"), "none")
    return lambda pixels: encode([TilePixels(pixels)]).result()


def test_timm_is_a_family() -> None:
    assert "timm" in FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_options_are_a_frozen_dataclass_with_a_schema(family: str) -> None:
    module: ModuleType = registry.load("encoder", family)
    assert dataclasses.is_dataclass(module.Options)
    assert module.Options.__dataclass_params__.frozen
    schema = TypeAdapter(module.Options).json_schema()
    assert set(schema["properties"]) == {f.name for f in dataclasses.fields(module.Options)}


def test_output(encoder: Encoder) -> None:
    features = batches(encoder)(tiles(3))
    assert features.shape == (3, encoder.dim)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.ptp(features, axis=0).max() > 1e-4  # three tiles, three features


def test_it_is_frozen_and_in_eval_mode(encoder: Encoder) -> None:
    assert not any(p.requires_grad for p in encoder.module.parameters())
    assert not any(m.training for m in encoder.module.modules())


def test_facts_are_json_and_whole(encoder: Encoder) -> None:
    facts = encoder.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts) == {f.name for f in dataclasses.fields(encoder)} - {"module"}
    assert len(facts["mean"]) == len(facts["std"]) == 3
    assert all(0 <= value < 1 for value in facts["mean"])
    assert all(0 < value <= 1 for value in facts["std"])
    assert facts["description"]
    assert facts["licence"]
    assert facts["weights_source"]


def test_the_digest_of_weights_is_theirs(encoder: Encoder, weights: Callable[[str], Path]) -> None:
    local = str(weights(encoder.name)) if encoder.name in LOCAL else None
    again = build_encoder(encoder.name, {}, local)
    assert again.weights_sha256 == encoder.weights_sha256
    assert len(encoder.weights_sha256) == 64
    assert np.array_equal(batches(again)(tiles(2)), batches(encoder)(tiles(2)))


def test_features_do_not_depend_on_neighbours(encoder: Encoder) -> None:
    """Byte for byte, in a full batch, in a padded one and at another place in it."""
    encode = batches(encoder)
    wanted, others = tiles(2), tiles(4, seed=1)
    alone = encode(wanted)
    full = encode(np.concatenate([wanted, others[:2]]))
    assert full[:2].tobytes() == alone.tobytes()
    moved = encode(np.concatenate([others[:1], wanted, others[1:2]]))
    assert moved[1:3].tobytes() == alone.tobytes()


def test_input_is_resized_and_normalised(encoder: Encoder) -> None:
    """A tile of one colour at any size gives one feature: resizing leaves it as it is."""
    encode = batches(encoder)
    colour = np.array([180, 90, 160], np.uint8)
    small, large = (np.tile(colour, (1, side, side, 1)) for side in (48, 96))
    np.testing.assert_allclose(encode(small), encode(large), rtol=1e-4, atol=1e-5)
    side = encoder.input_px
    pixels = torch.tensor(colour).float() / 255
    normalised = (pixels - torch.tensor(encoder.mean)) / torch.tensor(encoder.std)
    inputs = normalised[None, :, None, None].expand(BATCH, 3, side, side)
    with torch.inference_mode():
        expected = encoder.module(inputs.contiguous(memory_format=torch.channels_last))
    np.testing.assert_allclose(encode(small), expected[:1].numpy(), rtol=1e-4, atol=1e-5)


def test_local_weights_are_loaded(weights: Callable[[str], Path]) -> None:
    encoder = build_encoder("test_resnet", {}, str(weights("test_resnet")))
    state = tiny_state("test_resnet")
    loaded = encoder.module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    assert "test_resnet.safetensors (sha256 " in encoder.weights_source
    facts = timm.data.resolve_model_data_config(timm.create_model("test_resnet"))
    assert encoder.mean == tuple(facts["mean"])
    assert encoder.input_px == facts["input_size"][-1]


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_pth_with_and_without_a_wrapper(
    tmp_path: Path, weights: Callable[[str], Path], wrapper: str | None
) -> None:
    state = {f"module.{key}": value for key, value in tiny_state("test_resnet").items()}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / "w.pth")
    found = build_encoder("test_resnet", {}, str(tmp_path / "w.pth"))
    expected = build_encoder("test_resnet", {}, str(weights("test_resnet")))
    assert found.weights_sha256 == expected.weights_sha256


class Dangerous:
    """A pickle of it would write a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("plain", [True, False])
def test_code_in_weights_is_refused_and_not_run(tmp_path: Path, plain: bool) -> None:
    trap, path = tmp_path / "trap", tmp_path / "weights.pth"
    content = {"state_dict": Dangerous(trap)}
    if plain:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(PartError, match=r"weights\.pth: cannot be read as weights"):
        build_encoder("test_resnet", {}, str(path))
    assert not trap.exists()


def test_bad_weights_are_named(tmp_path: Path) -> None:
    def build(path: Path) -> None:
        build_encoder("test_resnet", {}, str(path))

    with pytest.raises(PartError, match=r"none\.pth: no such file of weights"):
        build(tmp_path / "none.pth")
    for name in ("torn.pth", "torn.safetensors", "empty.pth", "empty.safetensors"):
        (tmp_path / name).write_bytes(b"not weights" if "torn" in name else b"")
        with pytest.raises(PartError, match=rf"{name}: cannot be read as weights"):
            build(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(PartError, match=r"list\.pth: holds no state dict of tensors"):
        build(tmp_path / "list.pth")
    state = tiny_state("test_vit")
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(PartError, match=r"other\.safetensors: the weights do not fit"):
        build(tmp_path / "other.safetensors")


def test_unknown_names_and_options_are_named() -> None:
    with pytest.raises(PartError, match="'resnet5o' is neither ours nor timm's"):
        build_encoder("resnet5o", {}, None)
    with pytest.raises(PartError, match="timm: unknown option 'widht'"):
        build_encoder("test_resnet", {"widht": 3}, None)
    with pytest.raises(PartError, match=r"timm: input_px: .*found 'big'"):
        build_encoder("test_resnet", {"input_px": "big"}, None)


def test_every_forward_pass_has_the_same_shape(encoder: Encoder) -> None:
    """Other batch sizes take other kernels, on other machines than this one as well."""
    seen: list[tuple[int, ...]] = []
    hook = encoder.module.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape)))
    encode = batches(encoder)
    for count in (1, 3, BATCH):
        assert len(encode(tiles(count))) == count
    hook.remove()
    assert seen == [(BATCH, 3, encoder.input_px, encoder.input_px)] * 3
