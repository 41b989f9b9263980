"""benchmarks/attention_*.py: what slides are made of, and what is said of attention on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wsi_ncmi.bags.foreign.packed import PackedFile

Module = Callable[[str], Any]


@pytest.fixture
def bags(benchmark: Module) -> Any:
    return benchmark("attention_bags")


@pytest.fixture
def tiles(benchmark: Module) -> Any:
    """Twelve pictures of each kind, two tiles of each."""
    kinds = np.repeat(["lung_n", "lung_aca", "lung_scc"], 24)
    groups = [f"{kind}_{i % 24 // 2}" for i, kind in enumerate(kinds)]
    pixels = np.zeros((72, 2, 2, 3), np.uint8)
    return benchmark("many_tasks_data").Tiles(pixels, list(kinds), groups)


def test_a_slide_is_of_its_sites_pictures_and_says_what_is_a_lesion(bags: Any, tiles: Any) -> None:
    recipe = bags.Recipe(sites=4, slides=2, tiles=(50, 80), share=(0.1, 0.2))
    slides = list(bags.made(tiles, recipe))
    assert len(slides) == 4 * 3 * 2
    site_of = {}
    for slide in slides:
        kinds = np.array(tiles.labels)[slide.tile]
        assert ((kinds != "lung_n") == slide.lesion).all()
        assert set(kinds) <= {"lung_n", bags.CLASSES[slide.label]}
        assert 50 <= len(slide.tile) <= 80
        assert slide.lesion.any() == (slide.label != "benign")
        if slide.lesion.any():
            assert 0.09 <= slide.lesion.mean() <= 0.21
        for tile in slide.tile:
            assert site_of.setdefault(tiles.groups[tile], slide.site) == slide.site
    assert len(site_of) == 36


def test_the_packed_file_holds_the_tiles_as_they_are_seen(
    bags: Any, tiles: Any, tmp_path: Path
) -> None:
    slides = list(bags.made(tiles, bags.Recipe(sites=3, slides=1, tiles=(20, 30))))
    features = np.random.default_rng(0).normal(size=(72, 8, 4)).astype(np.float16)
    bags.write(slides, features, tiles.groups, tmp_path)
    packed = PackedFile(tmp_path / "bags.h5")
    first = slides[4]
    found = packed.read(first.slide_id).features
    np.testing.assert_array_equal(found, features[first.tile, first.orientation])
    place = packed.position[first.slide_id]
    assert packed.columns()["patient_id"][place] == first.site
    lesions = pd.read_csv(tmp_path / "lesions.tsv", sep="\t")
    own = lesions[lesions["slide_id"] == first.slide_id]
    assert own["lesion"].tolist() == first.lesion.astype(int).tolist()
    assert own["picture"].tolist() == [tiles.groups[tile] for tile in first.tile]


def test_the_eight_orientations_differ(bags: Any) -> None:
    image = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert len({bags._turned(image, i).tobytes() for i in range(8)}) == 8


def scored(gain: float, spread: float) -> pd.DataFrame:
    """Twenty sites with a slide of each of two classes, three seeds, four folds."""
    rng = np.random.default_rng(0)
    rows = []
    for site in range(20):
        for label in ("benign", "lesion"):
            base = rng.uniform(0.6, 0.8)
            for seed in range(3):
                for objective, more in (("cross_entropy", 0.0), ("ncmi", gain)):
                    auroc = base + more + rng.normal(0, spread) if label == "lesion" else np.nan
                    wrong = objective == "ncmi" and site == 0
                    rows.append(("abmil", objective, seed, site % 4, f"{site}-{label}", str(site)))
                    rows[-1] += (label, "benign" if wrong else label, auroc)
    columns = ["aggregator", "objective", "seed", "fold", "slide_id", "site"]
    return pd.DataFrame(rows, columns=[*columns, "label", "predicted", "auroc"])


def test_a_difference_of_attention_with_its_interval(benchmark: Module) -> None:
    table = scored(gain=0.05, spread=0.02)
    rows = benchmark("attention_differences").analysed(table.sample(frac=1, random_state=1))
    reference, arm = (row for row in rows if row["measure"] == "attention_auroc")
    if reference["objective"] != "cross_entropy":
        reference, arm = arm, reference
    means = table.groupby("objective")["auroc"].mean()
    assert "difference" not in reference
    assert reference["value"] == pytest.approx(means["cross_entropy"])
    assert arm["difference"] == pytest.approx(means["ncmi"] - means["cross_entropy"])
    # Of 60 pairs of slides with a standard deviation of 0.02 √2 each.
    assert arm["high"] - arm["low"] == pytest.approx(2 * 2.03 * 0.02 * np.sqrt(2 / 60), rel=0.35)
    assert arm["p_holm"] == arm["p_value"] < 1e-6


def test_macro_f1_beside_it(benchmark: Module) -> None:
    rows = benchmark("attention_differences").analysed(scored(gain=0.0, spread=0.02))
    found = {row["objective"]: row for row in rows if row["measure"] == "macro_f1"}
    # One of twenty lesions is taken for benign: F1 40/41 and 38/39.
    expected = (40 / 41 + 38 / 39) / 2
    assert found["cross_entropy"]["value"] == 1
    assert found["ncmi"]["value"] == pytest.approx(expected)
    assert found["ncmi"]["difference"] == pytest.approx(expected - 1)


def test_holm_is_over_arms_and_aggregators(benchmark: Module) -> None:
    one = scored(gain=0.004, spread=0.02)
    both = pd.concat([one, one.assign(aggregator="clam_sb")])
    rows = benchmark("attention_differences").analysed(both)
    tested = [r for r in rows if r["measure"] == "attention_auroc" and "p_value" in r]
    assert len(tested) == 2
    for row in tested:
        assert row["p_holm"] == pytest.approx(min(1, 2 * row["p_value"]))


def test_a_study_that_was_not_run(benchmark: Module, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"results-attention\.yaml first"):
        benchmark("attention_localisation").source(tmp_path, tmp_path / "lesions.tsv")


def test_the_figure(benchmark: Module, tmp_path: Path) -> None:
    rows = benchmark("attention_differences").analysed(scored(gain=0.01, spread=0.02))
    benchmark("attention_figure").draw(rows, tmp_path / "attention.png")
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")


def test_the_states_of_models_are_counted_once_each(benchmark: Module) -> None:
    table = scored(gain=0.0, spread=0.02)
    late = (table["objective"] == "ncmi") & (table["seed"] == 1)
    table["state"] = np.where(late, "undertrained", "trained")
    found = benchmark("attention_differences").states(table)
    counts = {(row["objective"], row["state"]): row["models"] for row in found}
    assert counts == {
        ("cross_entropy", "trained"): 12,
        ("ncmi", "trained"): 8,
        ("ncmi", "undertrained"): 4,
    }


def test_attention_where_the_prediction_is_right(benchmark: Module) -> None:
    table = scored(gain=0.0, spread=0.02)
    found = benchmark("attention_differences").by_slides(table)
    means = {(row["objective"], row["slides"]): row["auroc"] for row in found}
    wrong = table[(table["objective"] == "ncmi") & (table["site"] == "0")]["auroc"]
    assert means["ncmi", "wrongly"] == pytest.approx(wrong.mean())
    assert ("cross_entropy", "wrongly") not in means
    reference = table[table["objective"] == "cross_entropy"]["auroc"].mean()
    assert means["cross_entropy", "classified rightly"] == pytest.approx(reference)
    assert means["cross_entropy", "lesion"] == pytest.approx(reference)
