"""What a user sees whose weights cannot be fetched, and what is fetched when they can."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from torch import nn

from wsi_ncmi.encoders import PathologyEncoder, build_encoder
from wsi_ncmi.encoders.hub import remedy
from wsi_ncmi.encoders.published import PUBLISHED
from wsi_ncmi.errors import PartError


def raised(kind: type[Exception], text: str) -> Exception:
    """An error of the hub; some want a response, which nothing here reads."""
    error = kind.__new__(kind)
    Exception.__init__(error, text)
    return error


ACCESS = "with an account of your own, then log in with `hf auth login` or set HF_TOKEN"
CASES = [
    (errors.GatedRepoError, ACCESS),
    (errors.RepositoryNotFoundError, ACCESS),
    (errors.RemoteEntryNotFoundError, "the repository has no such file any more"),
    (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE is set and the cache does not have them"),
    (errors.LocalEntryNotFoundError, "there is no network"),
    (TimeoutError, "TimeoutError: what it says"),
]


@pytest.mark.parametrize(("kind", "says"), CASES)
@pytest.mark.parametrize("name", ["uni", "phikon_v2"])
def test_the_error_says_what_to_do(
    name: str, kind: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise raised(kind, "what it says")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    facts = PUBLISHED[name]
    with pytest.raises(PartError) as found:
        build_encoder(name, {}, None)
    text = str(found.value)
    assert text.startswith(f"encoder {name}: no weights from {facts.repository} ")
    assert f"(licence {facts.licence})" in text
    assert says in text
    assert f"give the file as extraction.weights ({facts.filename})" in text
    assert (facts.page in text) == (says == ACCESS or facts.gated)


def test_every_published_encoder_names_its_way_to_access(
    published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise raised(errors.GatedRepoError, "401")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    facts = PUBLISHED[published]
    with pytest.raises(PartError) as found:
        build_encoder(published, {}, None)
    text = str(found.value)
    assert facts.page in text
    assert facts.licence in text
    assert "extraction.weights" in text
    assert ("hf auth login" in text) == bool(facts.repository)


def test_at_no_hub() -> None:
    with pytest.raises(PartError, match=r"ctranspath: CTransPath is at no hub; its licence is GPL"):
        build_encoder("ctranspath", {}, None)


def test_what_is_fetched_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shrink: Callable[[str], PathologyEncoder],
    network: Callable[[PathologyEncoder], nn.Module],
) -> None:
    state = network(shrink("uni")).state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")
    asked = []

    def fetch(repository: str, filename: str) -> str:
        asked.append((repository, filename))
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    encoder = build_encoder("uni", {}, None)
    assert asked == [("MahmoodLab/UNI", "pytorch_model.bin")]
    assert encoder.weights_source.startswith("MahmoodLab/UNI, pytorch_model.bin (sha256 ")
    assert torch.equal(encoder.module.state_dict()["cls_token"], state["cls_token"])


def test_a_hub_name_of_timm_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsi_ncmi.encoders import timm as family

    def refuse(*_: Any, **__: Any) -> nn.Module:
        raise raised(errors.GatedRepoError, "403")

    monkeypatch.setattr(family.timm, "create_model", refuse)
    with pytest.raises(PartError) as found:
        build_encoder("hf-hub:somebody/model", {}, None)
    assert "https://huggingface.co/somebody/model" in str(found.value)
    assert ACCESS in str(found.value)


def test_other_errors_keep_their_text() -> None:
    assert remedy("a/b", ValueError("odd")) == "ValueError: odd"
