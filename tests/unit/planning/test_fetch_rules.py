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


BUCKET = SimpleNamespace(bucket="1", encoder="resnet50")
OTHERS = {"uni": {"encoder": "uni"}}


def rules(root: Path, others: dict[str, Any] | None = None, **fetch: Any) -> dict[str, Any]:
    raw = changed({**BASES["slides"], "buckets": 5}, "slides.fetch", fetch)
    raw = changed(raw, "extraction.others", others or {})
    return common(root / "workflow" / "rules" / "common.smk", raw)


def test_a_bucket_waits_until_earlier_ones_have_their_bags(root: Path) -> None:
    """Of 5 buckets, 2 at a time: two rows of buckets, in each of which one is on the disk."""
    names = rules(root, keep_slides=False, disk_gb=10)
    assert list(names["CHECKED"].buckets) == [0, 1, 2, 3, 4]
    folder = "results/c/features/resnet50"
    waits = [names["buckets_before"](SimpleNamespace(bucket=bucket)) for bucket in range(5)]
    earlier = [[], [], [0], [1], [0, 2]]
    assert waits == [[f"{folder}/bucket-{b}.tsv" for b in one] for one in earlier]
    command = names["dropping"](BUCKET)
    assert command.startswith(" && python -m wsi_ncmi.cli fetch drop --sheet ")
    assert " --slides results/c/slides/lane-1-of-2 --bucket 1 --buckets 5 " in command
    assert command.endswith(f" --made {folder}/bucket-1.tsv")


def test_a_bucket_waits_for_all_encoders_and_each_job_ends_for_its_own(root: Path) -> None:
    names = rules(root, OTHERS, keep_slides=False, disk_gb=10)
    folders = [f"results/c/features/{name}" for name in ("resnet50", "uni")]
    assert names["buckets_before"](SimpleNamespace(bucket=4)) == [
        f"{f}/bucket-{b}.tsv" for f in folders for b in (0, 2)
    ]
    asked_for = names["finished"](SimpleNamespace(bucket=1), *names["CONFIG"].encoders)
    records = [asked_for[i + 1] for i, given in enumerate(asked_for) if given == "--finished"]
    assert records == [f"results/c/slides/finished/{e}/bucket-1.json" for e in ("resnet50", "uni")]
    digests = {asked_for[i + 1] for i, given in enumerate(asked_for) if given == "--encoding"}
    assert len(digests) == 2
    # What ends the first one's job does not change where there is another one: nothing runs again.
    alone = rules(root, keep_slides=False, disk_gb=10)["dropping"](BUCKET)
    assert names["dropping"](BUCKET) == alone
    other = names["dropping"](SimpleNamespace(bucket="1", encoder="uni"))
    assert other.endswith(f" --made {folders[1]}/bucket-1.tsv")
    assert "--finished results/c/slides/finished/uni/bucket-1.json " in other


def test_what_a_killed_run_has_left_is_fetched_again_where_its_lane_is_needed(root: Path) -> None:
    """Its copies make room for an earlier bucket, though its manifest says that they are there."""
    names = rules(root, keep_slides=False, disk_gb=10)
    names["ancient"] = lambda path: f"ancient {path}"
    (before,) = names["buckets_before"](SimpleNamespace(bucket=2))
    assert before.startswith("ancient ")
    begun = Path("results/c/slides/bucket-2.tsv")
    begun.parent.mkdir(parents=True)
    begun.touch()
    assert names["buckets_before"](SimpleNamespace(bucket=2)) == [before.removeprefix("ancient ")]


def test_slides_that_stay_wait_for_nobody(root: Path) -> None:
    names = rules(root)
    assert [names["buckets_before"](SimpleNamespace(bucket=bucket)) for bucket in range(5)] == [
        []
    ] * 5
    assert names["dropping"](BUCKET) == ""


def test_tiles_and_features_read_the_copies(root: Path) -> None:
    raw = {**BASES["slides"], "buckets": 5}
    found = asked(root, changed(raw, "slides.fetch", {}))
    for rule in ("tiles", "features"):
        assert "results/c/slides" in found[rule]
    without = asked(root, raw)
    assert "fetch" not in without
    assert "results/c/slides" not in without["tiles"]
