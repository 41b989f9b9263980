import pandas as pd

from wsi_ncmi.predictions.splits import absent_from_validation


def test_a_class_that_validation_lacks_is_said_with_its_folds() -> None:
    rows = [
        (fold, part, label)
        for fold in range(12)
        for part in ("train", "val", "test")
        for label in ("a", "b", "c")
        if not (part == "val" and (label == "b" or (label == "c" and fold == 3)))
    ]
    splits = pd.DataFrame(rows, columns=["fold", "part", "label"])
    assert absent_from_validation(splits[splits.label == "a"], ["a"]) == []
    several, one = absent_from_validation(splits, ["a", "b", "c"])
    folds = "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …"
    assert several.startswith(
        f"class b is missing from the validation part of 12 of 12 fold(s) ({folds})"
    )
    assert one.startswith("class c is missing from the validation part of 1 of 12 fold(s) (3):")
