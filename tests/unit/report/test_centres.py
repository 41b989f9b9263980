import numpy as np
import pandas as pd

from wsi_ncmi.evaluation.centre_probe import LABEL_ALONE, PROBE, ROBUSTNESS
from wsi_ncmi.report.centres import centre_blocks, probe_blocks


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


def probe(*rows: tuple[str, float, float, float], centres: int = 5, note: str = "") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"measure": m, "value": v, "low": low, "high": high, "neutral": 0.2, "note": note}
            | {"all_centres": 5, "centres": centres, "patients": 100, "slides": 500}
            for m, v, low, high in rows
        ]
    )


CHANCE = (LABEL_ALONE, 0.2, 0.15, 0.25)


def test_a_probe_above_chance_is_no_verdict() -> None:
    found = probe((PROBE, 0.9, 0.85, 0.95), CHANCE, (ROBUSTNESS, 0.4, np.nan, np.nan), centres=4)
    _, shown, text = probe_blocks(found, 0.95)
    assert shown.rows[0][:3] == ["linear probe on the features", "0.900\n0.850 to 0.950", "0.200"]
    assert shown.rows[2][1] == "0.400"
    assert "telling 4 centres apart on 500 slides of 100 patients" in shown.caption
    assert "1 centre(s) with fewer patients than folds are left out." in shown.caption
    assert "the features carry the centre" in text.text
    assert text.text.endswith("no verdict on the models.")


def test_a_probe_at_chance_and_one_that_the_label_explains() -> None:
    (*_, text) = probe_blocks(probe((PROBE, 0.22, 0.17, 0.27), CHANCE), 0.95)
    assert text.text.startswith("The probe is no better than chance")
    found = probe((PROBE, 0.9, 0.8, 0.95), (LABEL_ALONE, 0.85, 0.8, 0.9))
    (*_, text) = probe_blocks(found, 0.95)
    assert "so is the label alone" in text.text
    # Label alone overlaps, and is itself no better than chance.
    found = probe((PROBE, 0.3, 0.24, 0.36), CHANCE)
    (*_, text) = probe_blocks(found, 0.95)
    assert "the features carry the centre" in text.text


def test_no_probe_says_why_where_there_are_centres() -> None:
    why = probe((PROBE, np.nan, np.nan, np.nan), centres=0, note="found 1 of 5 centres")
    _, text = probe_blocks(why, 0.95)
    assert text.text == "No probe: found 1 of 5 centres."
    assert probe_blocks(why.assign(all_centres=1), 0.95) == []
    assert probe_blocks(why.iloc[:0], 0.95) == []
