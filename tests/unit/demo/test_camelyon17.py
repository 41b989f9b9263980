"""The demo under CAMELYON-17's names: real labels, whole patients, all centres and stages."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import openslide
import pytest
import tifffile

from wsi_ncmi.cohorts.camelyon17 import annotated_slides
from wsi_ncmi.cohorts.label_versions import LabelRow
from wsi_ncmi.demo.camelyon17 import SHRINK, design_camelyon17
from wsi_ncmi.demo.design import DIAMETER_UM, DemoSlide
from wsi_ncmi.demo.shapes import diameter
from wsi_ncmi.demo.slide import write_slide
from wsi_ncmi.errors import ConfigError
from wsi_ncmi.slides.reader import open_slide
from wsi_ncmi.tiling.asap import read_asap

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
    scales = {slide.centre: slide.mpp for slide in slides}
    assert scales == {"0": 0.243, "1": 0.243, "2": 0.226, "3": 0.243, "4": 0.25}
    # Tissue is as large in µm at every centre, whole tiles apart.
    sides = {c: mean(s.width * s.mpp for s in slides if s.centre == c) for c in scales}
    assert all(520 < side < 640 for side in sides.values())


def test_tissue_and_lesions_are_smaller_by_the_stated_factor() -> None:
    slides = design_camelyon17(_labels(), 100, FOLDER, seed=3)
    for label, (low, high) in DIAMETER_UM.items():
        largest = [SHRINK * s.lesions_um[0] for s in slides if s.label == label]
        assert all(low - 0.1 <= size <= high + 0.1 for size in largest)


def test_the_fifty_annotated_slides_have_their_xml() -> None:
    slides = design_camelyon17(_labels(), 500, FOLDER, seed=3)
    found = {slide.slide_id for slide in slides if slide.annotation}
    assert len(annotated_slides()) == 50
    assert found == annotated_slides()
    assert {slide.path.parent for slide in slides} == {FOLDER / "images"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> DemoSlide:
    """A slide of the least size, a micrometastasis in it."""
    folder = tmp_path_factory.mktemp("CAMELYON17")
    row = LabelRow("patient_009_node_1", "micro", "patient_009", "0")
    (slide,) = design_camelyon17([row], 1, folder, seed=3)
    slide = replace(slide, width=1024, height=1024, fat=0.0, pieces=1)
    assert write_slide(slide)
    return slide


def test_slides_are_stored_as_the_challenge_stores_them(published: DemoSlide) -> None:
    with tifffile.TiffFile(published.path) as file:
        assert file.is_bigtiff
        pages = [page.aspage() for page in file.pages]
    assert [page.shape[:2] for page in pages] == [(2048, 2048), (1024, 1024), (512, 512)]
    assert {(page.tilewidth, page.tilelength) for page in pages} == {(512, 512)}
    assert {page.photometric.name for page in pages} == {"YCBCR"}
    for level, page in enumerate(pages):
        assert page.tags["ResolutionUnit"].value == 3  # centimetres
        pixels, per = page.tags["XResolution"].value
        assert per / pixels * 1e4 == pytest.approx(0.243 * 2**level)
    with published.path.open("rb") as file:
        for page in pages:
            assert page.jpegtables is not None
            assert page.jpegtables.count(b"\xff\xdb") == 2  # quantisation of Y and of Cb, Cr
            stored = zip(page.dataoffsets, page.databytecounts, strict=True)
            for offset, size in ((offset, size) for offset, size in stored if size):
                file.seek(offset)
                assert file.read(2 + 2)[2:] == b"\xff\xe0"  # an abbreviated tile begins with JFIF
                file.seek(offset)
                assert b"\xff\xc4" not in file.read(size).split(b"\xff\xda")[0]
    empty = np.array(pages[0].databytecounts).reshape(4, 4) == 0
    assert empty[[0, -1]].all()
    assert not empty[1:3, 1:3].any()


def test_libraries_agree_on_its_pixels(published: DemoSlide) -> None:
    with open_slide(published.path) as slide, openslide.OpenSlide(published.path) as reference:
        own = slide.read_region(512, 512, 0, 1024, 1024).astype(int)
        other = np.asarray(reference.read_region((512, 512), 0, (1024, 1024)).convert("RGB"))
    assert own.std() > 5
    assert np.abs(own - other.astype(int)).max() <= 2


def test_its_background_without_bytes_is_white(published: DemoSlide) -> None:
    with open_slide(published.path) as slide:
        assert (slide.reader, slide.mpp) == ("native", pytest.approx(0.243))
        sizes = slide.compressed_sizes(0)
        assert sizes is not None
        assert (sizes.sizes == 0).sum() >= 12
        assert (slide.read_region(0, 0, 0, 512, 512) == 255).all()
        tissue = slide.read_region(768, 768, 0, 256, 256)
        assert tissue.mean() < 230


def test_annotations_are_those_of_asap(published: DemoSlide) -> None:
    assert published.annotation
    assert published.annotation.parent.name == "annotations"
    text = published.annotation.read_text()
    assert 'Group Name="metastases" PartOfGroup="None" Color="#ff0000"' in text
    assert 'Group Name="normal" PartOfGroup="None" Color="#00ff00"' in text
    found = read_asap(published.annotation)
    np.testing.assert_allclose(
        [diameter(one.points) * published.mpp for one in found], published.lesions_um, atol=0.01
    )
    # Lesions lie on the tissue, not in the margin around it.
    assert all((one.points > 512).all() and (one.points < 1536).all() for one in found)


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
