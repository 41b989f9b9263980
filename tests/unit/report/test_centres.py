import numpy as np
import pandas as pd

from wsi_ncmi.report.centres import centre_blocks


def table(*classes: int) -> pd.DataFrame:
    rows = [
        {"centre": f"c{i}", "samples": 10, "classes": n, "aggregator": "mean", "objective": o}
        | {"macro_f1": 0.5 if n > 1 else np.nan}
        for i, n in enumerate(classes)
        for o in ("cross_entropy", "ncmi")
    ]
    return pd.DataFrame(rows)


def test_where_label_and_centre_coincide_it_says_so() -> None:
    _, text = centre_blocks(table(1, 1, 1))
    assert text.style == "warning"
    assert text.text.startswith("Label and centre coincide: each of the 3 centres has test samples")


def test_centres_of_one_class_have_no_macro_f1() -> None:
    _, shown, text = centre_blocks(table(2, 1, 3))
    assert [row[2:] for row in shown.rows] == [
        ["2", "0.500", "0.500"],
        ["1", "–", "–"],
        ["3", "0.500", "0.500"],
    ]
    assert text.text.startswith("1 of 3 centres have test samples of a single class")


def test_one_centre_says_nothing_and_several_classes_say_no_more() -> None:
    assert centre_blocks(table(2)) == []
    assert len(centre_blocks(table(2, 2))) == 2
