from dataclasses import replace
from pathlib import Path

import pytest

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import (
    SlideRow,
    bucket_of,
    checked_sheet,
    label_problems,
    read_sheet,
    tissue_problems,
    write_sheet,
)
from wsi_ncmi.config import Tissue
from wsi_ncmi.errors import ConfigError

HEADER = "slide_id\tpath\tlabel\tpatient_id\tcentre"


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "a.tif"
    for name in ("a.tif", "b.tif", "c.tif"):
        (tmp_path / name).write_bytes(b"slide")
    return path


def sheet(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "slides.tsv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def problems(path: Path, *, need_path: bool = True) -> list[str]:
    return [p.removeprefix(str(path)) for p in read_sheet(path, need_path=need_path)[1]]


def test_rows(tmp_path: Path, slide: Path) -> None:
    header = f"{HEADER}\tmpp\tsha256\tannotation"
    first = f"s1\ta.tif\tmacro\tp1\tc1\t0.25\tabc\t{slide}"
    path = sheet(tmp_path, first, "s.2\ts3://b/x.tif\t\tp1\tc1\t\t\t", header=header)
    rows, found = read_sheet(path, need_path=True)
    assert found == []
    assert rows == [
        SlideRow("s1", "macro", "p1", "c1", str(slide), 0.25, "abc", str(slide)),
        SlideRow("s.2", "", "p1", "c1", "s3://b/x.tif"),
    ]


def test_byte_order_mark_and_spaces(tmp_path: Path, slide: Path) -> None:
    path = tmp_path / "excel.tsv"
    path.write_bytes(f"\ufeff{HEADER}\r\n s1 \ta.tif\t x \tp1 \t c1\r\n".encode())
    rows, found = read_sheet(path, need_path=True)
    assert found == []
    assert rows == [SlideRow("s1", "x", "p1", "c1", str(slide))]


def test_every_problem_with_its_row(tmp_path: Path, slide: Path) -> None:
    path = sheet(
        tmp_path,
        "s1\ta.tif\tx\tp1\tc1",
        "s1\ta.tif\tx\tp1\tc1",
        "s/3\tmissing.tif\tx\t\tc1",
        "s4\t\tx\tp1\t ",
        "\ta.tif\tx\tp1\tc1",
    )
    assert problems(path) == [
        " row 4: slide_id 's/3' must be letters, digits, '.', '_' or '-' (it names files)",
        " row 4: patient_id is empty",
        f" row 4: path {tmp_path / 'missing.tif'}: no such file",
        " row 5: centre is empty",
        " row 5: path is empty",
        " row 6: slide_id '' must be letters, digits, '.', '_' or '-' (it names files)",
        ": slide_id 's1' stands in rows 2, 3",
        ": path 'a.tif' stands in rows 2, 3, 6",
    ]


@pytest.mark.parametrize("slide_id", ["../x", ".hidden", "-x", "a b", "ä", "a\\b", "a:b"])
def test_names_that_are_no_file_names(tmp_path: Path, slide: Path, slide_id: str) -> None:
    found = problems(sheet(tmp_path, f"{slide_id}\ta.tif\tx\tp\tc"))
    assert len(found) == 1
    assert found[0].startswith(f" row 2: slide_id {slide_id!r} must be")


@pytest.mark.parametrize(
    ("mpp", "text"),
    [
        ("0,25", "mpp '0,25' is not a number"),
        ("0", "mpp 0 is no plausible µm/px, expected a value in [0.05, 50]"),
        ("-1", "mpp -1 is no plausible µm/px, expected a value in [0.05, 50]"),
        ("nan", "mpp nan is no plausible µm/px, expected a value in [0.05, 50]"),
        ("inf", "mpp inf is no plausible µm/px, expected a value in [0.05, 50]"),
        ("0.025", "mpp 0.025 is no plausible µm/px, expected a value in [0.05, 50]"),
        ("352.8", "mpp 352.8 is no plausible µm/px, expected a value in [0.05, 50]"),
    ],
)
def test_mpp(tmp_path: Path, slide: Path, mpp: str, text: str) -> None:
    path = sheet(tmp_path, f"s\ta.tif\tx\tp\tc\t{mpp}", header=f"{HEADER}\tmpp")
    assert problems(path) == [f" row 2: {text}"]


@pytest.mark.parametrize("line", ["s\ta.tif\tx\tp", "s\ta.tif\tx\tp\tc\tmore", "s"])
def test_wrong_number_of_fields(tmp_path: Path, slide: Path, line: str) -> None:
    expected = [" row 2: expected 5 tab-separated fields as in the header"]
    assert problems(sheet(tmp_path, line)) == expected


def test_missing_annotation(tmp_path: Path, slide: Path) -> None:
    path = sheet(tmp_path, "s\ta.tif\tx\tp\tc\tno.xml", header=f"{HEADER}\tannotation")
    assert problems(path) == [f" row 2: annotation {tmp_path / 'no.xml'}: no such file"]


def test_columns(tmp_path: Path) -> None:
    path = sheet(tmp_path, "s\tp\tc", header="slide_id\tpatient_id\tcenter")
    found = problems(path)
    assert found[:3] == [f": column {n!r} is missing" for n in ("label", "centre", "path")]
    assert found[3].startswith(": unknown column 'center', expected slide_id, label")
    assert len(found) == 4
    assert found[3].endswith("tissue.<a key of tiling.tissue> or label.<name of another label set>")


def test_a_mask_and_options_of_a_slide(tmp_path: Path, slide: Path) -> None:
    (tmp_path / "m.geojson").write_text("{}")
    (tmp_path / "w.pt").write_bytes(b"")
    columns = "mask\ttissue.method\ttissue.thumbnail_mpp\ttissue.patch_px\ttissue.weights"
    path = sheet(
        tmp_path,
        "s1\ta.tif\tx\tp\tc\tm.geojson\t\t\t\t",
        "s2\tb.tif\tx\tp\tc\t\tmodel\t4.5\t64\tw.pt",
        "s3\tc.tif\tx\tp\tc\t\t\t\t\t",
        header=f"{HEADER}\t{columns}",
    )
    rows, found = read_sheet(path, need_path=True)
    assert found == []
    assert [row.mask for row in rows] == [str(tmp_path / "m.geojson"), "", ""]
    assert dict(rows[1].tissue) == {
        "method": "model",
        "thumbnail_mpp": 4.5,
        "patch_px": 64,
        "weights": str(tmp_path / "w.pt"),
    }
    assert rows[0].tissue == rows[2].tissue == ()
    options = rows[1].tissue_options(Tissue(min_area_um2=7.0))
    assert (options.method, options.patch_px, options.min_area_um2) == ("model", 64, 7.0)
    assert rows[2].tissue_options(Tissue(method="hsv")) == Tissue(method="hsv")


def test_options_that_do_not_fit_are_named_with_their_rows(tmp_path: Path, slide: Path) -> None:
    columns = "tissue.method\ttissue.min_saturation\ttissue.patch_px\ttissue.weights\tmask"
    path = sheet(
        tmp_path,
        "s1\ta.tif\tx\tp\tc\totsu\t1.5\t7.5\t\t",
        "s2\tb.tif\tx\tp\tc\t\tlow\t\tgone.pt\tgone.geojson",
        "s3\tc.tif\tx\tp\tc\t\t\t\t\ts3://b/m.geojson",
        header=f"{HEADER}\t{columns}",
    )
    found = problems(path)
    assert len(found) == 7
    assert found[0].startswith(" row 2: tissue.method 'otsu': Input should be 'otsu_saturation', ")
    assert found[1] == (
        " row 2: tissue.min_saturation '1.5': Input should be less than or equal to 1"
    )
    assert found[2].startswith(" row 2: tissue.patch_px '7.5': Input should be a valid integer")
    assert found[3].startswith(" row 3: tissue.min_saturation 'low': Input should be a valid numb")
    assert found[4] == f" row 3: mask {tmp_path / 'gone.geojson'}: no such file"
    assert found[5] == f" row 3: tissue.weights {tmp_path / 'gone.pt'}: no such file"
    assert found[6] == " row 4: mask s3://b/m.geojson: no such file"
    unknown = problems(sheet(tmp_path, "s\ta.tif\tx\tp\tc\t1", header=f"{HEADER}\ttissue.size"))
    assert unknown[0].startswith(": unknown column 'tissue.size', expected slide_id")


def test_options_that_do_not_go_together(tmp_path: Path, slide: Path) -> None:
    path = sheet(tmp_path, "s1\ta.tif\tx\tp\tc\tmodel", header=f"{HEADER}\ttissue.method")
    rows, found = read_sheet(path, need_path=True)
    assert found == []
    expected = (
        "sheet.tsv: slide s1: tissue: configuration: method: model needs weights: a local file"
    )
    assert tissue_problems(rows, Tissue(), "sheet.tsv") == [expected]
    assert tissue_problems(rows, Tissue(weights="w.pt"), "sheet.tsv") == []


def test_bags_need_no_path(tmp_path: Path) -> None:
    path = sheet(tmp_path, "s\tx\tp\tc", header="slide_id\tlabel\tpatient_id\tcentre")
    assert read_sheet(path, need_path=False) == ([SlideRow("s", "x", "p", "c")], [])
    assert problems(path) == [": column 'path' is missing"]


def test_no_rows_and_no_sheet(tmp_path: Path) -> None:
    assert problems(sheet(tmp_path)) == [": no rows"]
    missing = tmp_path / "none.tsv"
    assert read_sheet(missing, need_path=True) == ([], [f"{missing}: no such slide sheet"])


def test_checked_sheet_raises_all_together(tmp_path: Path, slide: Path) -> None:
    path = sheet(tmp_path, "s/1\ta.tif\tx\tp\tc", "s2\tgone.tif\tx\tp\tc")
    with pytest.raises(ConfigError) as error:
        checked_sheet(path, need_path=True)
    assert len(error.value.problems) == 2
    assert "2 problem(s)" in str(error.value)
    good = sheet(tmp_path, "s1\ta.tif\tx\tp\tc")
    assert [row.slide_id for row in checked_sheet(good, need_path=True)] == ["s1"]


def test_labels() -> None:
    given = zip("abcdef", ["x", "", "z", "z", "w", "z"], strict=True)
    rows = [SlideRow(slide, label, "p", "c") for slide, label in given]
    assert label_problems(rows, ["x", "y"], ["n"], "slides.tsv") == [
        "slides.tsv: 4 slide(s) have an unknown label: 'z' of 3 (first: c), 'w' of 1 (first: e); "
        "expected one of x, y, n (or name it in ignore_labels)"
    ]
    assert label_problems(rows, ["x", "y"], ["z", "w"], "slides.tsv") == []
    many = [SlideRow(f"s{i}", f"l{i}", "p", "c") for i in range(300)]
    (line,) = label_problems(many, ["x"], [], "slides.tsv")
    assert "300 slide(s)" in line
    assert "'l9' of 1 (first: s9) and 290 more labels; expected" in line


def test_write_and_read_again(tmp_path: Path, slide: Path) -> None:
    rows = [
        SlideRow("s1", "x", "p", "c", str(slide), 0.242, "ff", str(slide)),
        SlideRow("s2", "", "p", "c", "https://host/x.tif"),
    ]
    path = tmp_path / "out" / "slides.tsv"
    write_sheet(rows, path)
    assert read_sheet(path, need_path=True) == (rows, [])
    assert "mask" not in path.read_text()
    mask = tmp_path / "m.geojson"
    mask.write_text("{}")
    options = (("method", "hsv"), ("min_area_um2", 0.0))
    rows.append(SlideRow("s3", "", "p", "c", "s3://b/y.tif", mask=str(mask), tissue=options))
    write_sheet(rows, path)
    assert read_sheet(path, need_path=True) == (rows, [])


@pytest.mark.parametrize(
    ("path", "remote"),
    [("s3://b/k", True), ("https://h/x", True), ("/data/s3.tif", False), ("x.tif", False)],
)
def test_remote(path: str, remote: bool) -> None:
    assert is_remote(path) == remote


def test_buckets_depend_on_the_name_alone_and_are_even() -> None:
    counts = [0] * 16
    for i in range(1600):
        counts[bucket_of(f"slide_{i}", 16)] += 1
    assert min(counts) > 60
    assert max(counts) < 140
    assert bucket_of("patient_000_node_0", 16) == 12  # the last hex digit of its SHA-1: c


def test_one_file_under_two_names_is_refused(tmp_path: Path) -> None:
    """It could be trained on as one slide and tested on as the other."""
    (tmp_path / "a.tif").write_bytes(b"slide")
    lines = ["slide_id\tpath\tlabel\tpatient_id\tcentre"]
    lines += ["one\ta.tif\tx\tp1\tc", "two\t./a.tif\ty\tp2\tc"]
    (tmp_path / "sheet.tsv").write_text("\n".join(lines) + "\n")
    _, problems = read_sheet(tmp_path / "sheet.tsv", need_path=True)
    assert problems == [f"{tmp_path / 'sheet.tsv'}: path 'a.tif' stands in rows 2, 3"]


def test_excluded_slides_need_no_file_and_are_used_for_nothing(tmp_path: Path, slide: Path) -> None:
    path = tmp_path / "sheet.tsv"
    rows = [
        SlideRow("s1", "x", "p", "c", str(slide), split="train", label_source="a: why"),
        SlideRow("s2", "y", "q", "c", str(tmp_path / "gone.tif"), exclude="a duplicate"),
    ]
    rows = [replace(row, labels=(("other", "z"),)) for row in rows]
    write_sheet(rows, path)
    assert read_sheet(path, need_path=True) == (rows, [])
    assert checked_sheet(path, need_path=True) == rows[:1]


def test_a_split_is_one_of_three(tmp_path: Path, slide: Path) -> None:
    path = tmp_path / "sheet.tsv"
    write_sheet([SlideRow("s1", "x", "p", "c", str(slide), split="valid")], path)
    (problem,) = read_sheet(path, need_path=True)[1]
    assert problem == f"{path} row 2: split 'valid': expected one of train, val, test, or nothing"
