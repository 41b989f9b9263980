"""benchmarks/image_experiments.py: what it copies, under which names."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def script(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import image_experiments

    yield image_experiments
    sys.modules.pop("image_experiments")


def test_files_are_named_after_the_cohort(script: Any, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "batch-size" / "experiment"
    folder.mkdir(parents=True)
    (folder / "over_rates.tsv").write_text("a\n1\n")
    (folder / "sweep.png").write_bytes(b"png")
    (folder / "left_over.tsv").write_text("of an earlier version")
    parts = {"tables": [{"file": "over_rates.tsv"}], "figures": [{"file": "sweep.png"}]}
    (folder / "findings.json").write_text(json.dumps(parts))
    written = script.copy(folder.parent, tmp_path / "tables", tmp_path / "figures")
    assert [path.relative_to(tmp_path) for path in written] == [
        Path("tables/batch-size-over-rates.tsv"),
        Path("figures/batch-size-sweep.png"),
    ]
    assert written[0].read_text() == "a\n1\n"
    assert written[1].read_bytes() == b"png"


def test_an_unfinished_cohort_is_refused(script: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no findings\.json: run its configuration first"):
        script.copy(tmp_path)
