"""The code blocks of docs/python.md run as they stand, one after the other, on made data."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_bags import Memory
from made_predictions import make_results, new_bag
from made_tiled import tiled_slide
from PIL import Image

from wsi_ncmi.bags.store import write_bag
from wsi_ncmi.predictions.attention import SlideAttention, write_attention
from wsi_ncmi.tiling import tilefile

RUN = "abmil--ncmi--fold0--seed0"


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`results/demo` with all that the blocks name."""
    monkeypatch.chdir(tmp_path)
    demo = tmp_path / "results/demo"
    made = make_results(
        tmp_path / "made", aggregators=("abmil",), objectives=("cross_entropy", "ncmi")
    )
    (demo / "slides").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (2048, 2048, 3), np.uint8)
    place = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        demo / "slides/demo_000.tif", pixels, photometric="rgb", tile=(256, 256), **place
    )
    bag = new_bag("s00")
    write_bag(demo / "features/random_resnet/demo_000.h5", bag)
    (demo / "runs/stage").mkdir(parents=True)
    (made / "runs/t" / RUN).rename(demo / "runs/stage" / RUN)
    weights = np.full(len(bag.features), 1 / len(bag.features), np.float32)
    write_attention(
        demo / "runs/stage/attention/weights/demo_000.h5",
        SlideAttention("demo_000", bag.coords, {"abmil/ncmi": weights}),
    )
    tilefile.write(demo / "tiles/demo_000.h5", tiled_slide("demo_000"))
    (demo / "tiles/thumbnails").mkdir()
    Image.new("RGB", (64, 64)).save(demo / "tiles/thumbnails/demo_000.jpg")
    return tmp_path


def test_every_block_runs(demo: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (root / "docs/python.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    assert all(len(block.splitlines()) <= 12 for block in blocks)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"block {number}", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    rows = len(Memory().read("s00")[0])
    assert printed[0].startswith("0.5 (2048, 2048)")
    assert printed[1] == "(256, 512, 3)"
    assert printed[2].startswith(f"({rows}, 8) [[0 1]")
    assert sum(eval(printed[-2]).values()) == pytest.approx(1, abs=1e-5)
    assert printed[-1] == f"torch.Size([{rows}])"
    assert Image.open(demo / "heatmap.png").size[0] > 100
