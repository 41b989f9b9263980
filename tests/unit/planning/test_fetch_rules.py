"""What the rules make of `slides.fetch`: whose slides are on the disk at a time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_changes import BASES, changed, write_sheet
from made_rules import asked, common

IDS = [f"slide{i:02d}" for i in range(40)]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sheet(
        "slides.tsv",
        slide_id=IDS,
        path=[f"s3://bucket/{name}.tif" for name in IDS],
        label=["x", "y"] * 20,
        patient_id=[f"p{i}" for i in range(40)],
        centre=["c1", "c2"] * 20,
    )


BUCKET = SimpleNamespace(bucket="1")


def rules(root: Path, **fetch: Any) -> dict[str, Any]:
    raw = changed({**BASES["slides"], "buckets": 5}, "slides.fetch", fetch)
    return common(root / "workflow" / "rules" / "common.smk", raw)


def test_a_bucket_waits_until_earlier_ones_have_their_bags(root: Path) -> None:
    """Of 5 buckets, 2 at a time: two rows of buckets, in each of which one is on the disk."""
    names = rules(root, keep_slides=False, disk_gb=10)
    assert list(names["CHECKED"].buckets) == [0, 1, 2, 3, 4]
    folder = f"results/c/features/{names['ENCODER']}"
    waits = [names["buckets_before"](bucket) for bucket in range(5)]
    earlier = [[], [], [0], [1], [0, 2]]
    assert waits == [[f"{folder}/bucket-{b}.tsv" for b in one] for one in earlier]
    command = names["dropping"](BUCKET)
    assert command.startswith(" && python -m wsi_ncmi.cli fetch drop --sheet ")
    assert " --slides results/c/slides/lane-1-of-2 --bucket 1 --buckets 5 " in command
    assert command.endswith(f" --made {folder}/bucket-1.tsv")


def test_slides_that_stay_wait_for_nobody(root: Path) -> None:
    names = rules(root)
    assert [names["buckets_before"](bucket) for bucket in range(5)] == [[]] * 5
    assert names["dropping"](BUCKET) == ""


def test_tiles_and_features_read_the_copies(root: Path) -> None:
    raw = {**BASES["slides"], "buckets": 5}
    found = asked(root, changed(raw, "slides.fetch", {}))
    for rule in ("tiles", "features"):
        assert "results/c/slides" in found[rule]
    without = asked(root, raw)
    assert "fetch" not in without
    assert "results/c/slides" not in without["tiles"]
