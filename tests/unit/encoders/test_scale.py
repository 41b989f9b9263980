"""The input contract: which tiles reach which encoder."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from wsi_ncmi import config as configuration
from wsi_ncmi.encoders import build_encoder, check_scale
from wsi_ncmi.encoders.published import PUBLISHED
from wsi_ncmi.errors import PartError


@dataclass(frozen=True)
class Stated:
    name: str = "toy"
    mpp: tuple[float, ...] = (0.5,)
    input_px: int = 224


@pytest.mark.parametrize(
    ("tile_mpp", "tile_px"),
    [
        (0.5, 224),  # as trained
        (0.5, 256),  # as authors do: 0.571 µm/px at the network
        (0.45, 224),
        (0.55, 256),
        (0.5, 196),
        (0.25, 448),  # the network sees 0.5 µm/px
        (0.57, 196),
    ],
)
def test_tiles_of_the_right_scale_pass(tile_mpp: float, tile_px: int) -> None:
    check_scale(Stated(), tile_mpp, tile_px)


@pytest.mark.parametrize(
    ("tile_mpp", "tile_px"),
    [
        (1.0, 224),
        (0.25, 224),
        (0.25, 256),
        (0.44, 224),
        (0.56, 224),
        (0.125, 1024),  # shrunk 4.6 times to 0.571 µm/px: nobody cuts tiles like that
        (0.5, 512),  # the right µm/px, then halved
        (0.5, 190),
        (0.56, 256),
        (1.0, 112),  # enlarged to 0.5 µm/px: its detail is that of 1
    ],
)
def test_tiles_of_a_wrong_scale_are_refused(tile_mpp: float, tile_px: int) -> None:
    with pytest.raises(PartError):
        check_scale(Stated(), tile_mpp, tile_px)


def test_the_error_says_what_to_do() -> None:
    with pytest.raises(PartError) as found:
        check_scale(Stated(mpp=(0.5, 2.0)), 1.5, 256)
    text = str(found.value)
    assert "encoder toy is meant for 0.5 or 2 µm/px, found tiles of 256 px at 1.5 µm/px" in text
    assert "reach it as 224 px at 1.71 µm/px" in text
    assert "set tiling.mpp to 2 and tiling.tile_px to 224" in text
    assert "extraction.any_scale: true" in text


def test_the_remedy_is_one() -> None:
    for mpp in (0.01, 0.3, 0.9, 5.0):
        with pytest.raises(PartError, match=r"set tiling\.mpp to (0\.5|2) and"):
            check_scale(Stated(mpp=(0.5, 2.0)), mpp, 224)
    check_scale(Stated(mpp=(0.5, 2.0)), 0.5, 224)
    check_scale(Stated(mpp=(0.5, 2.0)), 2.0, 224)


def test_several_scales_are_each_accepted() -> None:
    facts = PUBLISHED["virchow2"]
    for mpp in (0.25, 0.5, 1.0, 2.0):
        check_scale(facts, mpp, 224)
    for mpp in (0.35, 0.72, 1.4, 4.0):
        with pytest.raises(PartError, match=r"0\.25 or 0\.5 or 1 or 2 µm/px"):
            check_scale(facts, mpp, 224)


def test_an_encoder_that_states_none_takes_any() -> None:
    for mpp in (0.1, 0.5, 8.0):
        check_scale(replace(Stated(), mpp=()), mpp, 512)


def test_published_tiles_reach_their_encoder(published: str) -> None:
    facts = PUBLISHED[published]
    for mpp in facts.mpp:
        check_scale(facts, mpp, facts.tile_px)
    with pytest.raises(PartError, match=f"encoder {published} is meant for"):
        check_scale(facts, 6.0, facts.tile_px)


def test_built_encoders_state_theirs() -> None:
    random = build_encoder("random_resnet", {"architecture": "test_resnet", "stages": [1]}, None)
    check_scale(random, 2.0, 128)
    with pytest.raises(PartError, match="encoder random_resnet is meant for 2 µm/px"):
        check_scale(random, 0.5, 128)


def shipped(root: Path) -> list[dict[str, Any]]:
    folder, files = root / "config", []
    for names in (
        ["config.yaml"],
        ["camelyon17.yaml"],
        ["camelyon17-small.yaml"],
    ):
        raw: dict[str, Any] = {}
        for name in names:
            update_config(raw, yaml.safe_load((folder / name).read_text()))
        files.append(raw)
    return files


def test_shipped_configurations_keep_the_contract(root: Path) -> None:
    checked = 0
    for raw in shipped(root):
        parsed = configuration.parse(raw)
        for extraction in parsed.extraction.each.values():
            assert not extraction.any_scale
            if extraction.encoder == "random_resnet":
                encoder = build_encoder(extraction.encoder, extraction.options, None)
                check_scale(encoder, parsed.tiling.mpp, parsed.tiling.side_px)
                checked += 1
    assert checked == 3
