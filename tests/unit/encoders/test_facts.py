"""The facts of published encoders: whole, plain, light to read, and those of the documentation."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from wsi_ncmi import registry
from wsi_ncmi.encoders import PathologyEncoder, published_facts
from wsi_ncmi.encoders.facts import AdapterName, hub_page
from wsi_ncmi.encoders.network import LAYERS, ClassAndMean
from wsi_ncmi.encoders.pathology import ADAPTERS
from wsi_ncmi.encoders.published import PUBLISHED

WANTED = {
    "uni", "uni2_h", "conch_v1_5", "virchow2", "h_optimus_0", "h_optimus_1", "prov_gigapath",
    "phikon_v2", "hibou_b", "hibou_l", "ctranspath",
}  # fmt: skip
OPTIONAL = ("repository", "elsewhere", "unverified", "precision", "parameters_m", "gated")


def test_the_well_known_ones_are_there() -> None:
    assert set(PUBLISHED) == WANTED
    assert set(registry.names("encoder")) == WANTED | {"timm", "random_resnet"}
    assert all(published_facts(name) is row for name, row in PUBLISHED.items())


def test_other_names_have_no_facts() -> None:
    assert published_facts("timm") is None
    assert published_facts("random_resnet") is None
    assert published_facts("resnet50") is None
    assert published_facts("hf-hub:MahmoodLab/UNI") is None


def test_facts_are_whole(published: str) -> None:
    facts = PUBLISHED[published]
    assert facts.name == published
    for field in dataclasses.fields(facts):
        value = getattr(facts, field.name)
        if field.name not in OPTIONAL:
            assert value, field.name
    assert all(0 < value < 1 for value in (*facts.mean, *facts.std))
    assert all(0.1 < mpp < 4 for mpp in facts.mpp)
    assert facts.input_px <= facts.tile_px <= 8 * facts.input_px // 7
    assert Path(facts.filename).suffix in (".bin", ".pth", ".safetensors")
    assert json.loads(json.dumps(dataclasses.asdict(facts)))["arguments"] == facts.arguments


def test_where_the_weights_are(published: str) -> None:
    facts = PUBLISHED[published]
    if facts.repository:
        assert re.fullmatch(r"[\w-]+/[\w.-]+", facts.repository)
        assert facts.page == hub_page(facts.repository)
    else:
        assert not facts.gated
        assert facts.page.startswith("https://")


def test_adapters_are_known_by_name() -> None:
    assert set(ADAPTERS) == set(get_args(AdapterName))


def test_layers_are_known_by_name(published: str) -> None:
    arguments = PUBLISHED[published].arguments
    named = {key: arguments[key] for key in ("mlp_layer", "act_layer") if key in arguments}
    assert set(named.values()) <= set(LAYERS)


def test_the_full_network_is_the_published_one(
    published: str, network: Callable[[PathologyEncoder], nn.Module]
) -> None:
    """Its number of parameters and its width, without memory for either."""
    facts = PUBLISHED[published]
    with torch.device("meta"):
        module = network(facts)
        if facts.parameters_m is not None:
            millions = sum(p.numel() for p in module.parameters()) / 1e6
            digits = 0.06 if facts.parameters_m < 1000 else 6.0  # as exactly as it is published
            assert millions == pytest.approx(facts.parameters_m, abs=digits)
        if facts.pooling == "class_mean":
            module = ClassAndMean(module)
        features = module(torch.empty(2, 3, facts.input_px, facts.input_px))
    assert features.shape == (2, facts.dim)


def test_reading_facts_loads_no_torch(root: Path) -> None:
    code = f"""
import sys
from wsi_ncmi.encoders import check_scale, published_facts
for facts in map(published_facts, {sorted(WANTED)!r}):
    check_scale(facts, facts.mpp[0], facts.tile_px)
print([name for name in ("torch", "timm", "numpy") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_guide_says_the_same(root: Path, published: str) -> None:
    facts = PUBLISHED[published]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (root / "docs" / "slides.md").read_text().splitlines()
        if line.startswith(f"| `{published}` |")
    ]
    assert len(rows) == 1
    _, _, tiles, features, pooling, licence = rows[0]
    assert tiles.startswith(f"{facts.tile_px} px at ")
    assert tuple(float(x) for x in re.findall(r"[\d.]+", tiles)[1:]) == facts.mpp
    assert int(features) == facts.dim
    words = {"class": "class token", "class_mean": "class token and mean"}
    assert pooling == words.get(facts.pooling, facts.pooling)
    assert licence.endswith("gated") == facts.gated
    assert licence.split(",")[0] in facts.licence
