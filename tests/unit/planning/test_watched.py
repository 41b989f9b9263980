"""Annotations and images count by their content: an edited file is noticed, and by whom."""

from pathlib import Path

from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.planning.digests import Digests

TASK = {"t": {"classes": ["x", "y"]}}


def digests(root: Path, **raw: object) -> Digests:
    schema = root / "workflow" / "schemas" / "parts.schema.json"
    return Digests(CheckedConfig({"cohort": "c", **raw}, schema))


def images(root: Path, path: Path) -> tuple[str, str]:
    """Digests of the images of two tasks, one of them on other files."""
    task = {"dataset": "image_folder", "path": str(path)}
    elsewhere = path.parent / "other.zip"
    if not elsewhere.exists():
        elsewhere.touch()
    other = {**task, "path": str(elsewhere)}
    found = digests(root, images={"t": task, "other": other})
    return found.images("t"), found.images("other")


def test_a_changed_image_folder_decides_its_task_alone(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    image = folder / "train" / "a" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_text("pixels")
    first = images(root, folder)
    assert images(root, folder) == first
    image.write_text("other pixels")
    second = images(root, folder)
    assert second[0] != first[0]
    assert second[1] == first[1]
    (image.parent / "2.png").write_text("more")
    assert images(root, folder)[0] != second[0]


def test_a_changed_zip_decides_its_task_alone(root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "data.zip"
    archive.write_text("zip")
    first = images(root, archive)
    assert images(root, archive) == first
    archive.write_text("another zip")
    assert images(root, archive)[0] != first[0]
    assert images(root, archive)[1] == first[1]


def test_an_edited_annotation_decides_the_attention_alone(root: Path, tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif", "a.xml"):
        (tmp_path / name).write_text(name)
    head = "slide_id\tpath\tlabel\tpatient_id\tcentre\tannotation"
    rows = ["a\ta.tif\tx\tp1\tc\ta.xml", "b\tb.tif\ty\tp2\tc\t"]
    (tmp_path / "slides.tsv").write_text("\n".join([head, *rows]) + "\n")

    def state() -> tuple[str, list[str]]:
        found = digests(root, slides={"sheet": str(tmp_path / "slides.tsv")}, tasks=TASK, buckets=1)
        return found.annotations("t"), [found.tiles(0), found.bags("t"), found.train("t")]

    first = state()
    assert state() == first
    (tmp_path / "a.xml").write_text("another")
    second = state()
    assert second[0] != first[0]
    assert second[1] == first[1]


def test_the_demos_annotations_are_known_before_they_are_written(
    root: Path, tmp_path: Path
) -> None:
    labels = {"tasks": {"t": {"classes": ["negative", "macro"]}}, "ignore_labels": ["itc", "micro"]}
    before = digests(root, demo={}, results=str(tmp_path), **labels)
    first = before.annotations("t")
    for row in before._checked.rows:
        if row.annotation:
            Path(row.annotation).parent.mkdir(parents=True, exist_ok=True)
            Path(row.annotation).write_text("xml")
    assert digests(root, demo={}, results=str(tmp_path), **labels).annotations("t") == first
    other = digests(root, demo={"seed": 18}, results=str(tmp_path), **labels)
    assert other.annotations("t") != first
