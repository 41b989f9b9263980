"""The plan: deterministic, light, of the promised make-up, and stable when it grows."""

import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Demo
from wsi_ncmi.demo.cohort import design_cohort, sheet_rows
from wsi_ncmi.demo.design import DIAMETER_UM

FOLDER = Path("cohort")


def test_make_up_of_the_default_cohort() -> None:
    slides = design_cohort(Demo(), FOLDER)
    good = [slide for slide in slides if not slide.defect]
    assert [slide.defect for slide in slides[60:]] == ["no_tissue", "unreadable"]
    assert Counter(s.label for s in good) == {"negative": 24, "itc": 10, "micro": 12, "macro": 14}
    assert len({slide.patient_id for slide in slides}) == 20
    assert len({slide.slide_id for slide in slides}) == 62


def test_a_patient_has_several_slides_and_one_centre() -> None:
    centres, counts = defaultdict(set), Counter()
    for slide in design_cohort(Demo(), FOLDER):
        centres[slide.patient_id].add(slide.centre)
        counts[slide.patient_id] += 1
    assert all(len(found) == 1 for found in centres.values())
    assert min(counts.values()) == 3
    assert len(set.union(*centres.values())) == 5


def test_neither_centre_nor_patient_gives_the_label() -> None:
    by_centre, by_patient = defaultdict(Counter), defaultdict(set)
    for slide in design_cohort(Demo(), FOLDER)[:60]:
        by_centre[slide.centre][slide.label] += 1
        by_patient[slide.patient_id].add(slide.label)
    for found in by_centre.values():
        assert found["negative"] in (4, 5, 6)
        assert found["itc"] == 2
        assert found["micro"] in (2, 3)
        assert found["macro"] in (2, 3, 4)
    assert min(len(found) for found in by_patient.values()) >= 2


def test_sizes_and_scale() -> None:
    slides = design_cohort(Demo(), FOLDER)
    scales = {slide.centre: {s.mpp for s in slides if s.centre == slide.centre} for slide in slides}
    assert all(len(found) == 1 for found in scales.values())
    assert sorted(mpp for (mpp,) in scales.values()) == [1.82, 1.91, 2.0, 2.09, 2.18]
    for slide in slides:
        for side in (slide.width, slide.height):
            assert side <= 3000
            assert 3000 <= side * slide.mpp <= 6000


@pytest.mark.parametrize(
    ("label", "least", "most"), [("itc", 0, 200), ("micro", 200, 2000), ("macro", 2000, 4000)]
)
def test_lesions_fit_their_stage(label: str, least: float, most: float) -> None:
    found = [
        s.lesions_um for s in design_cohort(Demo(), FOLDER) if s.label == label and not s.defect
    ]
    assert len(found) >= 10
    for sizes in found:
        assert least < max(sizes) == sizes[0] <= most
        assert DIAMETER_UM[label][0] <= sizes[0] <= DIAMETER_UM[label][1]


def test_negative_slides_have_no_lesion_and_no_annotation() -> None:
    slides = design_cohort(Demo(), FOLDER)
    negative = [slide for slide in slides if slide.label == "negative" or slide.defect]
    assert len(negative) == 26
    assert all(s.lesions_um == () and s.annotation is None for s in negative)


def test_deterministic_from_the_seed() -> None:
    assert design_cohort(Demo(), FOLDER) == design_cohort(Demo(), FOLDER)
    other = design_cohort(Demo(seed=18), FOLDER)
    assert {s.digest for s in other}.isdisjoint(s.digest for s in design_cohort(Demo(), FOLDER))


@pytest.mark.parametrize("slides", [10, 37, 60])
def test_a_growing_cohort_keeps_its_slides(slides: int) -> None:
    before = design_cohort(Demo(slides=slides), FOLDER)
    after = design_cohort(Demo(slides=slides + 1), FOLDER)
    added = [slide for slide in after if slide not in before]
    assert [slide.slide_id for slide in added] == [f"demo_{slides:03d}"]
    assert [slide for slide in after if slide in before] == before


def test_every_ten_slides_have_every_label() -> None:
    labels = [slide.label for slide in design_cohort(Demo(slides=120), FOLDER)[:120]]
    for start in range(0, 120, 10):
        assert set(labels[start : start + 10]) == {"negative", "itc", "micro", "macro"}


def test_digest_is_of_the_looks_and_not_of_the_folder() -> None:
    here, there = design_cohort(Demo(), Path("a")), design_cohort(Demo(), Path("b"))
    assert [slide.digest for slide in here] == [slide.digest for slide in there]
    assert len({slide.digest for slide in here}) == 62


def test_sheet_rows() -> None:
    slides = design_cohort(Demo(), FOLDER)
    assert sheet_rows(slides)[1] == SlideRow(
        slide_id="demo_001",
        label="micro",
        patient_id="patient_00",
        centre="centre_0",
        path=str(FOLDER / "demo_001.tif"),
        annotation=str(FOLDER / "demo_001.xml"),
    )
    rows = sheet_rows(slides, relative=True)
    assert (rows[0].path, rows[0].annotation) == ("demo_000.tif", "")
    assert (rows[1].path, rows[1].annotation) == ("demo_001.tif", "demo_001.xml")
    assert [(row.slide_id, row.label) for row in rows[60:]] == [
        ("demo_blank", "negative"),
        ("demo_broken", "macro"),
    ]


def test_planning_imports_no_numpy() -> None:
    code = (
        "import sys; import wsi_ncmi.demo.cohort, wsi_ncmi.demo.camelyon17; "
        "print(sorted({'numpy', 'cv2', 'tifffile', 'pandas', 'torch'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
