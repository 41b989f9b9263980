"""The demo under CAMELYON-17's names: real labels, whole patients, all centres and stages."""

import random
from collections import Counter
from pathlib import Path

import pytest

from wsi_ncmi.cohorts.label_versions import LabelRow
from wsi_ncmi.demo.camelyon17 import design_camelyon17
from wsi_ncmi.errors import ConfigError

FOLDER = Path("images")


def _labels() -> list[LabelRow]:
    """500 slides with CAMELYON-17's names and proportions."""
    rng = random.Random(0)
    stages = ["negative"] * 320 + ["itc"] * 36 + ["micro"] * 58 + ["macro"] * 86
    rng.shuffle(stages)
    return [
        LabelRow(
            f"patient_{i // 5:03d}_node_{i % 5}", stage, f"patient_{i // 5:03d}", str(i // 100)
        )
        for i, stage in enumerate(stages)
    ]


def test_hundred_slides_are_twenty_whole_patients_of_five_centres() -> None:
    slides = design_camelyon17(_labels(), 100, FOLDER, seed=3)
    assert set(Counter(slide.patient_id for slide in slides).values()) == {5}
    assert Counter(slide.centre for slide in slides) == {str(centre): 20 for centre in range(5)}
    assert [slide.slide_id for slide in slides] == sorted(slide.slide_id for slide in slides)


def test_labels_are_the_given_ones_in_their_proportions() -> None:
    given = {row[0]: row[1] for row in _labels()}
    slides = design_camelyon17(_labels(), 100, FOLDER, seed=3)
    assert all(given[slide.slide_id] == slide.label for slide in slides)
    counts = Counter(slide.label for slide in slides)
    for label, share in {"negative": 64, "itc": 7.2, "micro": 11.6, "macro": 17.2}.items():
        assert abs(counts[label] - share) <= 3


def test_selection_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    labels = _labels()
    first = design_camelyon17(labels, 50, FOLDER, seed=3)
    assert first == design_camelyon17(labels[::-1], 50, FOLDER, seed=3)
    other = design_camelyon17(labels, 50, FOLDER, seed=4)
    assert {s.patient_id for s in first} != {s.patient_id for s in other}


def test_scale_follows_the_centre() -> None:
    slides = design_camelyon17(_labels(), 100, FOLDER, seed=3)
    assert {(slide.centre, slide.mpp) for slide in slides} == {
        ("0", 1.82),
        ("1", 1.91),
        ("2", 2.0),
        ("3", 2.09),
        ("4", 2.18),
    }


def test_last_patient_is_cut_to_the_count() -> None:
    slides = design_camelyon17(_labels(), 12, FOLDER, seed=3)
    assert sorted(Counter(slide.patient_id for slide in slides).values()) == [2, 5, 5]


def test_what_cannot_be_planned_is_refused_together() -> None:
    labels = [*_labels()[:10], ("patient_009_node_0", "t4", "patient_009", "0")]
    with pytest.raises(ConfigError) as caught:
        design_camelyon17(labels, 100, FOLDER, seed=3)
    assert caught.value.problems == [
        "slide patient_009_node_0: label 't4', expected one of negative, itc, micro, macro",
        "100 slides asked for, expected 1 to 11 (those labelled)",
    ]
