"""What several encoders of one cohort decide: each its own bags, and the tasks on them."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_changes import BASES, changed, write_files
from made_rules import asked

from wsi_ncmi.errors import ConfigError
from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.planning.digests import Digests
from wsi_ncmi.tiling.seen import count_missed

ALONE = {**BASES["slides"], "extraction": {"encoder": "resnet50"}}
UNI = {"encoder": "uni", "weights": "w.pt"}
BOTH = changed(ALONE, "extraction.others", {"uni": UNI})


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files()


def checked(root: Path, raw: dict[str, Any]) -> CheckedConfig:
    return CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")


def test_one_encoder_more_decides_nothing_of_the_first(root: Path) -> None:
    alone, both = Digests(checked(root, ALONE)), Digests(checked(root, BOTH))
    for bucket in checked(root, ALONE).buckets:
        assert alone.tiles(bucket) == both.tiles(bucket)
        assert alone.features(bucket, "resnet50") == both.features(bucket, "resnet50")
    assert alone.encoding("resnet50") == both.encoding("resnet50") != both.encoding("uni")
    assert alone.train("t") == both.train("t")
    before, after = asked(root, ALONE), asked(root, BOTH)
    own = {"features", "pack"}  # have jobs of the other one beside those of the first
    same = set(before) - own - {"html_report"}
    assert {rule: before[rule] for rule in same} == {rule: after[rule] for rule in same}
    for rule in own:
        was, now = json.loads(before[rule]), json.loads(after[rule])
        lists = [key for key, value in was.items() if isinstance(value, list)]
        assert [key for key in lists if set(was[key]) - set(now[key])] == []


def test_a_task_is_trained_anew_for_its_own_encoder_alone(root: Path) -> None:
    raw = changed(BOTH, "tasks.u", {**BOTH["tasks"]["t"], "encoder": "uni"})

    def digests() -> tuple[str, str]:
        found = Digests(checked(root, raw))
        return found.train("t"), found.train("u")

    first = digests()
    assert first[0] != first[1]
    Path("w.pt").write_text("better")  # its weights
    second = digests()
    assert (second[0] == first[0], second[1] == first[1]) == (True, False)
    raw = changed(raw, "extraction.others.uni.batch_size", 12)
    assert digests()[0] == first[0]
    raw = changed(raw, "extraction.batch_size", 12)  # of both, but the other says its own
    assert (digests()[0] == first[0], digests()[1] == second[1]) == (False, False)


def test_a_slide_that_one_encoder_could_not_see_is_tried_by_it_again(root: Path) -> None:
    made = checked(root, changed(BOTH, "tasks.u", {**BOTH["tasks"]["t"], "encoder": "uni"}))
    bucket = next(iter(made.buckets))

    def digests() -> dict[str, str]:
        found = Digests(made)
        of_task = {name: found.train(name) for name in ("t", "u")}
        bags = {name: found.features(bucket, name) for name in ("resnet50", "uni")}
        return {**of_task, **bags, "tiles": found.tiles(bucket)}

    before = digests()
    manifest = Path(f"results/c/features/uni/bucket-{bucket}.tsv")
    manifest.parent.mkdir(parents=True)
    count_missed(manifest, [made.buckets[bucket][0].slide_id])
    after = digests()
    assert {name for name in after if after[name] != before[name]} == {"u", "uni"}


def test_problems_of_every_encoder_are_said_before_anything_runs(root: Path) -> None:
    others = {"uni": {"encoder": "uni", "weights": "gone.pt"}, "x": {"encoder": "random_resnet"}}
    others["x"]["options"] = {"sead": 1}
    raw = changed(changed(ALONE, "extraction.others", others), "tiling.mpp", 1.0)
    with pytest.raises(ConfigError) as caught:
        checked(root, raw)
    texts = caught.value.problems
    assert any(
        text.startswith("extraction.others.x.options: unknown option 'sead'") for text in texts
    )
    assert "extraction.others.uni.weights: gone.pt: no such file or folder" in texts
    assert any(text.startswith("encoder uni is meant for") for text in texts)
    # Consent to any scale is given for one encoder, not for others.
    raw = changed(changed(BOTH, "extraction.any_scale", True), "tiling.mpp", 1.0)
    with pytest.raises(ConfigError, match="encoder uni is meant for"):
        checked(root, raw)
    checked(root, changed(raw, "extraction.others.uni.any_scale", True))


def test_a_slide_that_is_gone_must_have_the_bag_of_every_encoder(root: Path) -> None:
    Path("a.tif").unlink()
    for encoder in ("resnet50", "uni"):
        with pytest.raises(ConfigError, match=r"path a\.tif: no such file"):
            checked(root, BOTH)
        bag = Path(f"results/c/features/{encoder}/a.h5")
        bag.parent.mkdir(parents=True, exist_ok=True)
        bag.touch()
    checked(root, BOTH)
