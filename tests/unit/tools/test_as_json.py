"""What `--json` prints: nothing else on stdout, these keys and types, and each is documented."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from made_predictions import new_bag

from wsi_ncmi import cli
from wsi_ncmi.bags.store import write_bag
from wsi_ncmi.tools.as_json import VERSIONS, print_json

UNKNOWN = type(None)
TEXT, WHOLE, NUMBER, TRUTH = (str,), (int,), (int, float), (bool,)
MAYBE_WHOLE, MAYBE_NUMBER = (int, UNKNOWN), (int, float, UNKNOWN)
MAPPING = "any keys"

PLAN = {
    **dict.fromkeys(("slide_id", "reader", "reader_reason", "mpp_source", "tiles_from"), TEXT),
    **dict.fromkeys(("fingerprint", "problem", "note"), TEXT),
    **dict.fromkeys(("width", "height", "level", "read_px", "tiles", "bytes"), MAYBE_WHOLE),
    **dict.fromkeys(("mpp", "level_downsample", "residual"), MAYBE_NUMBER),
    **dict.fromkeys(("scale_error_percent", "seconds"), MAYBE_NUMBER),
}
TASK = {
    "task": TEXT,
    **dict.fromkeys(("arms", "settings", "folds", "repeats", "seeds", "runs", "models"), WHOLE),
    **dict.fromkeys(("seconds_each", "seconds"), MAYBE_NUMBER),
    "measured": WHOLE,
}
KEYS: dict[str, Any] = {
    "plan": {
        "external": MAPPING,  # second cohort -> as of `slides`
        "slides": {
            "plans": [PLAN],
            "same_slides": [TEXT],
            "encoders": [
                {
                    **dict.fromkeys(("encoder", "folder", "note", "problem"), TEXT),
                    "dim": MAYBE_WHOLE,
                    "bytes_per_tile": MAYBE_WHOLE,
                }
            ],
            "fetch": [TEXT],
            "rates": {"given": MAPPING, "by_reader": MAPPING},
            "totals": {
                **dict.fromkeys(("slides", "problems", "notes", "tiles"), WHOLE),
                "seconds": MAYBE_NUMBER,
                "bytes": MAYBE_WHOLE,
            },
            "folder": TEXT,
            "free_bytes": WHOLE,
        },
        "trainings": {"tasks": [TASK], "remarks": [TEXT], "problem": TEXT},
    },
    "doctor": {
        "findings": [
            {
                **dict.fromkeys(("area", "name", "status", "detail", "remedy"), TEXT),
                "needed": TRUTH,
            }
        ]
    },
    "verify": {
        "path": TEXT,
        "well": TRUTH,
        **dict.fromkeys(("bags", "good", "bad", "not_reached", "left_out"), WHOLE),
        "problems": [{"bag": TEXT, "problems": [TEXT]}],
        "leftovers": [TEXT],
        "unreadable": [TEXT],
        "not_verified": [{"layout": TEXT, "files": WHOLE, "example": TEXT}],
    },
    "status": {
        "results": TEXT,
        "state": TEXT,
        "stages": [
            {
                **dict.fromkeys(("stage", "of", "unit"), TEXT),
                **dict.fromkeys(("total", "done", "failed", "left"), WHOLE),
                "reasons": MAPPING,
                "seconds_left": MAYBE_NUMBER,
            }
        ],
        "jobs": [
            {**dict.fromkeys(("name", "state", "last", "log"), TEXT), "quiet_seconds": NUMBER}
        ],
        "disk": MAPPING,
        "free_bytes": WHOLE,
    },
}


def misfits(value: Any, expected: Any, at: str) -> list[str]:
    """Where a document is not as its keys and types say."""
    if expected == MAPPING:
        return [] if isinstance(value, dict) else [f"{at}: {value!r}"]
    if isinstance(expected, list):
        return [text for one in value for text in misfits(one, expected[0], f"{at}[]")]
    if isinstance(expected, dict):
        if {*value} != {*expected}:
            return [f"{at}: keys {sorted({*value} ^ {*expected})}"]
        return [text for k, v in expected.items() for text in misfits(value[k], v, f"{at}.{k}")]
    return [] if type(value) in expected else [f"{at}: {value!r} is {type(value).__name__}"]


def names(expected: Any) -> set[str]:
    if isinstance(expected, list):
        return names(expected[0])
    if not isinstance(expected, dict):
        return set()
    return {*expected}.union(*(names(one) for one in expected.values()))


def document(command: str, *arguments: str, capfd: pytest.CaptureFixture[str]) -> tuple[Any, int]:
    """What is printed, which is JSON alone, and the exit status."""
    status = 0
    try:
        cli.main([*command.split(), *arguments, "--json"])
    except SystemExit as ended:
        status = int(ended.code or 0)
    printed = capfd.readouterr()
    assert printed.out, printed.err
    found = json.loads(printed.out)
    name = command.split()[-1]
    assert [*found][:2] == ["format", "version"]
    assert (found.pop("format"), found.pop("version")) == (f"wsi-ncmi {name}", VERSIONS[name])
    return found, status


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A slide that is there twice, one that is none, and a configuration."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(90, 200, (512, 512, 3), np.uint8)
    tifffile.imwrite("a.tif", pixels, photometric="rgb", tile=(256, 256))
    shutil.copy("a.tif", "copy.tif")
    Path("torn.svs").write_bytes(b"no slide")
    lines = ["slide_id\tpath\tlabel\tpatient_id\tcentre\tmpp", "a\ta.tif\tx\tp\tc\t0.5"]
    lines += ["again\tcopy.tif\tx\tp\tc\t0.5", "torn\ttorn.svs\ty\tq\tc\t0.5"]
    Path("s.tsv").write_text("\n".join(lines) + "\n")
    raw = {
        "cohort": "c",
        "slides": {"sheet": "s.tsv"},
        "tiling": {"mpp": 0.5, "tile_px": 64},
        "extraction": {"encoder": "random_resnet", "any_scale": True},
        "tasks": {
            "t": {
                "classes": ["x", "y"],
                "aggregators": {"mean": {}},
                "objectives": {"cross_entropy": {}},
            }
        },
    }
    Path("c.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path


def test_plan(given: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found, status = document("plan", "--config", "c.yaml", "--quick", capfd=capfd)
    assert misfits(found, KEYS["plan"], "plan") == []
    assert status == 1
    plans = {one["slide_id"]: one for one in found["slides"]["plans"]}
    assert plans["a"]["tiles"] == 64
    assert plans["torn"]["problem"]
    assert found["slides"]["totals"]["problems"] == 1
    assert found["slides"]["totals"]["tiles"] == 128
    assert found["slides"]["same_slides"] == ["a (patient p), again (patient p)"]
    (task,) = found["trainings"]["tasks"]
    assert (task["task"], task["models"]) == ("t", task["folds"] * task["seeds"])


def test_a_plan_of_an_unfinished_configuration(
    given: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load(Path("c.yaml").read_text())
    Path("c.yaml").write_text(yaml.safe_dump({**raw, "tasks": {"t": {"classes": ["x"]}}}))
    found, _ = document("plan", "--config", "c.yaml", "--quick", "--rate", "9", capfd=capfd)
    assert "classes" in found["trainings"]["problem"]
    assert found["slides"]["rates"] == {"given": {"": 9.0}, "by_reader": {}}
    del raw["tasks"]
    Path("c.yaml").write_text(yaml.safe_dump(raw))
    found, _ = document("plan", "--config", "c.yaml", "--quick", "--rate", "9", capfd=capfd)
    assert found["trainings"] is None


def test_a_plan_without_slides(given: Path, capfd: pytest.CaptureFixture[str]) -> None:
    raw = yaml.safe_load(Path("c.yaml").read_text())
    del raw["slides"], raw["tiling"], raw["extraction"]
    raw["bags"] = {"path": "b.h5", "format": "h5", "sheet": "s.tsv"}
    Path("c.yaml").write_text(yaml.safe_dump(raw))
    found, status = document("plan", "--config", "c.yaml", capfd=capfd)
    assert (found["slides"], status) == (None, 0)
    assert misfits(found["trainings"], KEYS["plan"]["trainings"], "trainings") == []


def test_doctor(given: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found, status = document("doctor", "--folder", str(given), capfd=capfd)
    assert misfits(found, KEYS["doctor"], "doctor") == []
    bad = any(one["needed"] and one["status"] == "missing" for one in found["findings"])
    assert status == int(bad)
    assert {one["status"] for one in found["findings"]} <= {"ok", "warn", "missing"}


def test_verify(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for slide_id in ("s00", "s01"):
        write_bag(tmp_path / f"{slide_id}.h5", new_bag(slide_id))
    found, status = document("bags verify", str(tmp_path), capfd=capfd)
    assert misfits(found, KEYS["verify"], "verify") == []
    assert (found["well"], found["bags"], found["good"], status) == (True, 2, 2, 0)
    torn = tmp_path / "s01.h5"
    torn.write_bytes(torn.read_bytes()[:-40])
    (tmp_path / "bucket-0.tsv").write_text("slide_id\tstatus\tdigest\n")
    (tmp_path / ".s02.h5.part").write_text("half")
    found, status = document("bags verify", str(tmp_path), capfd=capfd)
    assert misfits(found, KEYS["verify"], "verify") == []
    assert (found["well"], found["good"], found["bad"], status) == (False, 1, 1, 1)
    assert [one["bag"] for one in found["problems"]] == [str(torn)]
    assert found["leftovers"] == [str(tmp_path / ".s02.h5.part")]


def test_status(given: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = given / "results/c/logs/tiles/bucket-0.log"
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-01 10:00:00 INFO begun\n")
    found, _ = document("status", "--config", "c.yaml", capfd=capfd)
    assert misfits(found, KEYS["status"], "status") == []
    assert len(found["jobs"]) == 1
    assert found["stages"]


@pytest.mark.parametrize("command", KEYS)
def test_every_key_is_documented(command: str, root: Path) -> None:
    text = (root / "docs/json.md").read_text()
    section = text.split(f"\n## {command}\n")[1].split("\n## ")[0]
    known = {word.split(".")[-1] for word in re.findall(r"`([a-z_.]+)`", section)}
    assert names(KEYS[command]) - known == set()
    assert f"version {VERSIONS[command]}" in section.casefold()


def test_what_is_not_known_is_null(capfd: pytest.CaptureFixture[str]) -> None:
    """JSON knows no NaN: programs would fail to read it."""
    print_json("plan", {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": "é"}})
    text = capfd.readouterr().out
    assert json.loads(text)["b"] == [None, 1.5]
    assert "é" in text
    assert "NaN" not in text
