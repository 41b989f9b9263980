"""Published encoders at toy size from local files: pooling, weights, and what is said of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wsi_ncmi.encoders import Encoder, PathologyEncoder, build_encoder
from wsi_ncmi.encoders.published import PUBLISHED
from wsi_ncmi.errors import PartError

Network = Callable[[PathologyEncoder], nn.Module]
Small = Callable[[str], PathologyEncoder]
VITS = ["uni", "uni2_h", "virchow2", "h_optimus_0", "prov_gigapath", "phikon_v2", "hibou_b"]


@pytest.fixture
def build(
    tmp_path: Path, shrink: Small, network: Network
) -> Callable[[str], tuple[Encoder, nn.Module]]:
    """(the encoder by its name from a local file at toy size, the network that wrote the file)."""

    def make(name: str) -> tuple[Encoder, nn.Module]:
        written = network(shrink(name))
        save_file(written.state_dict(), tmp_path / "weights.safetensors")
        return build_encoder(name, {}, str(tmp_path / "weights.safetensors")), written

    return make


def images(facts: PathologyEncoder | Encoder, count: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(count, 3, facts.input_px, facts.input_px)


def tokens(vit: nn.Module, inputs: Tensor) -> Tensor:
    """Outputs of a ViT's last norm, [B, tokens, D], caught on their way."""
    caught: list[Tensor] = []
    hook = vit.get_submodule("norm").register_forward_hook(lambda m, i, o: caught.append(o))
    with torch.inference_mode():
        vit(inputs)
    hook.remove()
    return caught[0]


@pytest.mark.parametrize("name", VITS)
def test_pooling(name: str, build: Callable[[str], tuple[Encoder, nn.Module]]) -> None:
    encoder, written = build(name)
    inputs = images(encoder)
    with torch.inference_mode():
        features = encoder.module(inputs)
    all_tokens = tokens(written, inputs)
    expected = [all_tokens[:, 0]]
    if name == "virchow2":
        side = encoder.input_px // 14
        assert all_tokens.shape[1] == 1 + 4 + side * side
        expected.append(all_tokens[:, -side * side :].sum(1) / side**2)
    torch.testing.assert_close(features, torch.cat(expected, 1))


def test_registers(small: Small, network: Network) -> None:
    """Class token and registers come first; how many there are is what tells these networks."""
    for name, count in {
        "uni2_h": 8,
        "virchow2": 4,
        "h_optimus_0": 4,
        "hibou_b": 4,
        "uni": 0,
    }.items():
        facts = small(name)
        module = network(facts)
        patch = module.get_submodule("patch_embed").patch_size[0]
        grid = (facts.input_px // patch) ** 2
        assert tokens(module, images(facts, 1)).shape[1] == 1 + count + grid, name


def test_every_tensor_of_the_file_is_loaded(
    published: str, build: Callable[[str], tuple[Encoder, nn.Module]]
) -> None:
    encoder, written = build(published)
    loaded = {k.removeprefix("vit."): v for k, v in encoder.module.state_dict().items()}
    stored = written.state_dict()
    assert set(loaded) == set(stored)
    different = {k for k in stored if not torch.equal(loaded[k], stored[k])}
    assert different <= {"trunk.pos_embed"}  # brought to its input's grid, see test_attention_pool


def test_what_is_said_of_it(
    published: str, build: Callable[[str], tuple[Encoder, nn.Module]]
) -> None:
    encoder, _ = build(published)
    facts = PUBLISHED[published]
    assert encoder.name == published
    assert encoder.mpp == facts.mpp
    assert encoder.licence == facts.licence
    assert encoder.weights_source.startswith("weights.safetensors (sha256 ")
    assert facts.title in encoder.description
    assert facts.page in encoder.description
    assert encoder.options["pooling"] == facts.pooling


def test_weights_of_another_network_are_refused(
    tmp_path: Path, shrink: Small, network: Network
) -> None:
    state = network(shrink("uni")).state_dict()
    del state["blocks.1.ls1.gamma"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(PartError, match=r"part\.safetensors: .*do not fit[\s\S]*blocks\.1\.ls1"):
        build_encoder("uni", {}, str(tmp_path / "part.safetensors"))


def test_it_has_no_options() -> None:
    with pytest.raises(PartError, match="uni: unknown option 'depth'"):
        build_encoder("uni", {"depth": 1}, None)
