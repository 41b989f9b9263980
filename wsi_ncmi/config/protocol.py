"""How the patients of a task on bags are shared out to training, validation and test."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from wsi_ncmi.config.base import LocalPath, Model, Seed


class Protocol(Model):
    """How patients are shared out to training, validation and test."""

    kind: Literal["kfold", "leave_one_centre_out", "holdout_centres", "official", "file"] = Field(
        "kfold",
        description=(
            "Test part of each fold. `kfold`: each of `folds` groups of patients in turn. "
            "`leave_one_centre_out`: each centre in turn. `holdout_centres`: `test_centres`. "
            "`official`: the slides whose column `split` in the sheet is `test`. `file`: as `file` "
            "says."
        ),
    )
    folds: int = Field(5, ge=2, description="Number of folds of `kfold`, 2 or more.")
    repeats: int = Field(
        1,
        ge=1,
        description=(
            "How often `kfold` divides the patients anew, 1 or more, each time by a seed that "
            "`seed` and the repeat decide. Folds go on counting: of 5 folds, the second repeat "
            "has folds 5 to 9."
        ),
    )
    test_centres: list[str] = Field(
        [], description="Centres that `holdout_centres` tests on; only with that kind."
    )
    file: LocalPath | None = Field(
        None,
        description=(
            "With kind `file` only: TSV with the columns `fold`, `part` (train, val, test) and "
            "`slide_id`."
        ),
    )
    validation_fraction: float = Field(
        0.2,
        gt=0,
        lt=0.5,
        description=(
            "Fraction of the training patients used for validation, above 0 and below 0.5. Kind "
            "`file` ignores it, and `official` does where the sheet's `split` has `val`."
        ),
    )
    training_patients: int | None = Field(
        None,
        ge=1,
        description=(
            "At most so many patients of each class are trained on, in every fold, 1 or more; "
            "those of a smaller number are among those of a larger one. Validation and test parts "
            "stay. `null`: all."
        ),
    )
    label_noise: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "Share of each class's training samples that get the label of another class, 0 to "
            "below 1, for studies of label noise. Validation and test parts stay."
        ),
    )
    seed: Seed = Field(
        0, description="Random seed of the partition. All training seeds share one partition."
    )

    @model_validator(mode="after")
    def _check_kind(self) -> "Protocol":
        if (self.kind == "holdout_centres") != bool(self.test_centres):
            raise ValueError("test_centres belongs to kind: holdout_centres, and only there")
        if (self.kind == "file") != (self.file is not None):
            raise ValueError("file belongs to kind: file, and only there")
        if self.repeats > 1 and self.kind != "kfold":
            raise ValueError(
                f"repeats: {self.repeats} belongs to kind: kfold, found {self.kind}, whose test "
                "parts are the same in every repeat: set repeats: 1"
            )
        return self

    @model_serializer(mode="wrap")
    def _said(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A single repeat and whole training parts are not said: what decides them is as before."""
        found: dict[str, Any] = plain(self)
        unsaid = {"repeats": 1, "training_patients": None, "label_noise": 0.0}
        return {k: v for k, v in found.items() if k not in unsaid or v != unsaid[k]}
