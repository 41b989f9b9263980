"""`splits audit`: every layout is read, every fault is found where it is, and nowhere else."""

import json
from pathlib import Path

import numpy as np
import pytest

from wsi_ncmi import cli
from wsi_ncmi.bags.twins import equal_bags
from wsi_ncmi.errors import UserError
from wsi_ncmi.tools.splits import command
from wsi_ncmi.tools.splits.faults import Finding, findings
from wsi_ncmi.tools.splits.known import Sheet, name_of, twins
from wsi_ncmi.tools.splits.layouts import Placed, Split, read_splits

# Slides 0 to 7, two classes, one patient each: nothing is wrong with it.
GOOD = [
    Placed(0, part, f"s{i}", f"case-{chr(97 + i)}", "ab"[i % 2])
    for part, own in {"train": (0, 1, 2, 3), "val": (4, 5), "test": (6, 7)}.items()
    for i in own
]


def found(rows: list[Placed], same: tuple[tuple[str, ...], ...] = ()) -> list[tuple[object, ...]]:
    """(fold, level, fault, parts, count, example) of every finding."""
    return [
        (one.fold, one.level, one.fault, one.parts, one.count, one.example)
        for one in findings(Split("x", "rows", tuple(rows)), same)
    ]


def replaced(slide: str, **values: object) -> list[Placed]:
    return [row._replace(**values) if row.slide_id == slide else row for row in GOOD]


def test_a_good_split_has_no_findings() -> None:
    assert found(GOOD) == []


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [*GOOD, Placed(0, "test", "s0", "case-a", "a")],
            [
                (0, "error", "slide in two parts", "train and test", 1, "s0"),
                (0, "error", "patient in two parts", "train and test", 1, "case-a"),
            ],
        ),
        (
            replaced("s5", patient_id="case-a"),
            [(0, "error", "patient in two parts", "train and val", 1, "case-a")],
        ),
        (
            [*GOOD, GOOD[-1]],
            [(0, "error", "slide twice in a part", "test", 1, "s7")],
        ),
        (
            [row for row in GOOD if row.part != "val"]
            + [row._replace(part="val") for row in GOOD if row.part == "test"],
            [(0, "error", "validation and test part are the same", "val and test", 2, "s6")],
        ),
        (
            [row for row in GOOD if row.part != "val"],
            [(0, "warning", "no slide in a part", "val", 0, "")],
        ),
        (
            [row for row in GOOD if row.part != "test"],
            [(0, "error", "no slide in a part", "test", 0, "")],
        ),
        (replaced("s7", label="a"), [(0, "error", "class missing", "test", 1, "b")]),
        (replaced("s4", label="b"), [(0, "warning", "class missing", "val", 1, "a")]),
        (
            replaced("s2", patient_id=""),
            [(None, "warning", "patient not known, so not examined", "", 1, "s2")],
        ),
        (
            replaced("s2", label=""),
            [(None, "warning", "label not known, so not examined", "", 1, "s2")],
        ),
        (
            [row._replace(patient_id=f"patient_{i}") for i, row in enumerate(GOOD)],
            [
                (
                    None,
                    "warning",
                    "patients are numbered, one for each slide: patients with several are not "
                    "known",
                    "",
                    8,
                    "patient_0",
                )
            ],
        ),
    ],
)
def test_every_fault_of_a_fold(rows: list[Placed], expected: list[tuple[object, ...]]) -> None:
    assert found(rows) == expected


def test_one_bag_under_two_names() -> None:
    """Across parts a leak; within one it counts twice; a set in no split is nothing."""
    across = "same bag under two names in two parts"
    assert found(GOOD, (("s0", "s6"), ("s1", "elsewhere"))) == [
        (0, "error", across, "train and test", 1, "s0 = s6")
    ]
    assert found(GOOD, (("s0", "s1"),)) == [
        (0, "warning", "same bag under two names", "train", 1, "s0 = s1")
    ]


def turned(fold: int, test: tuple[int, ...]) -> list[Placed]:
    """A fold that tests some of the eight slides, and validates on two more."""
    validation = [Placed(fold, "val", f"s{8 + i}", f"case-{'ij'[i]}", "ab"[i]) for i in (0, 1)]
    parts = ["test" if i in test else "train" for i in range(len(GOOD))]
    own = [row._replace(fold=fold, part=part) for row, part in zip(GOOD, parts, strict=True)]
    return own + validation


def test_folds_together() -> None:
    never = (None, "warning", "slide tested in no fold", "", 4, "s4")
    assert found(turned(0, (0, 1)) + turned(1, (2, 3)))[0][:5] == (
        None,
        "warning",
        "slide tested in no fold",
        "",
        6,
    )
    overlap = "slide tested in several folds: they are not a cross-validation"
    assert found(turned(0, (0, 1, 2)) + turned(1, (1, 2, 3)))[0] == (
        None, "warning", overlap, "test", 2, "s1",
    )  # fmt: skip
    assert found(turned(0, (0, 1)) + turned(1, (0, 1))) == [
        (
            None,
            "warning",
            "one test part for all folds: they are repetitions, not a cross-validation",
            "test",
            2,
            "",
        )
    ]
    assert never not in found(turned(0, (0, 1)))  # a single fold is no cross-validation


CLAM = ",train,val,test\n0,s0,s2,s3\n1,s1,,\n"
LAYOUTS = {
    "splits_0.csv": ("columns", CLAM),
    "fold0.csv": (
        "columns",
        ",train,train_label,val,val_label,test,test_label\n0,s0,a,s2,a,s3,b\n1,s1,b,,,,\n",
    ),
    "k_fold0.csv": (
        "columns",
        "train_slide_path,train_label,val_slide_path,val_label,test_slide_path,test_label\n"
        "s0,a,s2,a,s3,b\ns1,b,,,,\n",
    ),
    "splits_0_bool.csv": (
        "booleans",
        ",train,val,test\ns0,True,False,False\ns1,True,False,False\ns2,False,True,False\n"
        "s3,False,False,True\n",
    ),
    "folds.tsv": (
        "rows",
        "fold\tpart\tslide_id\n0\ttrain\ts0\n0.0\tTrain\ts1\n0\tval\ts2\n0\ttest\ts3\n",
    ),
    "official.csv": (
        "rows",
        "slide_id,split,label\ns0,training,a\ns1,train,b\ns2,validation,a\ns3,test,b\n",
    ),
    "k=all.tsv": (
        "folds",
        "case_id\tslide_id\tfold_0\nc\ts0\ttrain\nc\ts1\ttrain\nd\ts2\tval\ne\ts3\ttest\n",
    ),
    "split_0.json": (
        "json",
        json.dumps({"train_names": ["s0", "s1"], "val_names": ["s2"], "test_names": ["s3"]}),
    ),
    "nested.json": (
        "json",
        json.dumps([{"train": ["s0", "s1"], "val": ["s2"], "test": {"s3": {"features": 1}}}]),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout(name: str, tmp_path: Path) -> None:
    layout, text = LAYOUTS[name]
    (tmp_path / name).write_text(text)
    splits, problems = read_splits([tmp_path / name])
    assert problems == []
    assert [split.layout for split in splits] == [layout]
    parts = sorted((row.fold, row.part, row.slide_id) for row in splits[0].rows)
    assert parts == [(0, "test", "s3"), (0, "train", "s0"), (0, "train", "s1"), (0, "val", "s2")]
    if "label" in text:
        labels = {row.slide_id: row.label for row in splits[0].rows}
        assert labels == {"s0": "a", "s1": "b", "s2": "a", "s3": "b"}


def test_a_folder_of_folds_is_one_split(tmp_path: Path) -> None:
    for fold in (0, 1, 10):
        (tmp_path / f"splits_{fold}.csv").write_text(CLAM)
    (tmp_path / "splits_0_descriptor.csv").write_text(",train,val,test\na,1,1,0\n")
    splits, problems = read_splits([tmp_path])
    assert problems == []
    assert [(s.name, s.folds) for s in splits] == [(str(tmp_path), [0, 1, 10])]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "slide_id,stage\ns,1\n", "is no split file: found columns slide_id, stage"),
        ("a.csv", ",train,val,test\n", "no slide in any part"),
        ("a.csv", ",train,val\n0,a\n", "line 2: expected as many cells as in the header"),
        ("a.tsv", "slide_id\tpart\ns\tleft\n", "line 2: column part: found 'left', expected train"),
        ("a.tsv", "slide_id\tpart\tfold\ns\ttest\tx\n", "column fold: found 'x', expected a whole"),
        ("a.json", "{", "is no JSON"),
        ("a.json", '{"slides": ["a"]}', "expected lists of slides under train, val and test"),
    ],
)
def test_what_is_no_split(name: str, text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    splits, problems = read_splits([tmp_path / name, tmp_path / "none.csv"])
    assert splits == []
    assert expected in problems[0]
    assert str(tmp_path / name) in problems[0]
    assert "none.csv: no such file" in problems[1]


def test_twins_by_name_by_file_and_by_features(tmp_path: Path) -> None:
    assert name_of("/data/A.b-1.SVS") == name_of("a.b-1.h5") == "a.b-1"
    rows = tuple(Placed(0, "train", name) for name in ("a/X.svs", "x.h5", "y", "z"))
    split = Split("x", "rows", rows)
    assert twins(split, Sheet(), None) == [["a/X.svs", "x.h5"]]
    (tmp_path / "y").write_text("")
    (tmp_path / "z").symlink_to(tmp_path / "y")
    sheet = Sheet(paths={name: str(tmp_path / name) for name in "yz"})
    assert twins(split, sheet, None) == [["a/X.svs", "x.h5"], ["y", "z"]]
    bags = {
        "a": np.arange(600.0).reshape(300, 2),
        "b": np.arange(600.0).reshape(300, 2),
        "c": np.arange(600.0).reshape(300, 2),
        "d": np.zeros((300, 2)),
    }
    bags["c"][1] = -1.0  # a row that the digest of a sample does not look at
    assert equal_bags("abcd", bags.__getitem__) == [["a", "b"]]


TCGA = """,train,val,test
0,TCGA-AA-0001-01Z-00-DX1.X,TCGA-AA-0002-01Z-00-DX1.X,TCGA-AA-0001-01Z-00-DX2.Y
1,TCGA-AA-0003-01Z-00-DX1.X,TCGA-AA-0004-01Z-00-DX1.X,TCGA-AA-0005-01Z-00-DX1.X
"""


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A barcode says the patient, a table of another tool the label; JSON has every finding."""
    split, labels, out = tmp_path / "splits_3.csv", tmp_path / "tcga.csv", tmp_path / "o.json"
    split.write_text(TCGA)
    lines = [f"{line},{'ab'[i % 2]}" for i, line in enumerate(("1-01Z-00-DX1.X", "3-01Z-00-DX1.X"))]
    lines += ["2-01Z-00-DX1.X,a", "4-01Z-00-DX1.X,b", "1-01Z-00-DX2.Y,a", "5-01Z-00-DX1.X,b"]
    labels.write_text("slide_id,label\n" + "".join(f"TCGA-AA-000{line}\n" for line in lines))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["splits", "audit", str(split), "--sheet", str(labels), "--out", str(out)])
    assert stopped.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}: 1 fold (layout columns)",
        "  6 slides, 5 patients (by TCGA barcode), labels a, b",
        "  error    patient in two parts (train and test): 1 of 5, such as TCGA-AA-0001",
    ]
    fault = "patient in two parts"
    expected = Finding(str(tmp_path), 3, "error", fault, "train and test", 1, 5, "TCGA-AA-0001")
    assert json.loads(out.read_text()) == [vars(expected)]


def test_warnings_fail_only_if_strict(tmp_path: Path) -> None:
    """Without labels and patients: known by a pattern, left out by classes, or said."""
    split, out = tmp_path / "folds.tsv", tmp_path / "o.tsv"
    lines = ["train\tx_1_a\tu", "val\tx_2_a\tu", "test\tx_3_a\tu", "test\tx_1_b\tw"]
    split.write_text("part\tslide_id\tlabel\n" + "\n".join(lines) + "\n")
    assert command.run([split], None, None, None, "u", out, strict=False) == 0
    assert "patient not known" in out.read_text()
    assert command.run([split], None, None, None, "u", out, strict=True) == 1
    assert command.run([split], None, None, r"(x_\d)", None, out, strict=False) == 1
    assert "patient in two parts\ttrain and test\t1\t3\tx_1" in out.read_text()
    with pytest.raises(UserError, match="no slide has one of the labels z; found u, w"):
        command.run([split], None, None, None, "z", None, strict=False)
    with pytest.raises(UserError, match="has no group"):
        command.run([split], None, None, "x", None, None, strict=False)
