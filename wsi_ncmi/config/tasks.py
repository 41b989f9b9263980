"""Tasks on bags and on images."""

from typing import Any, Literal

from pydantic import Field, model_validator

from wsi_ncmi.config.arms import ImageTraining, Part, TaskBase
from wsi_ncmi.config.base import ArmName, Model
from wsi_ncmi.config.extraction import Transform


class Protocol(Model):
    """How patients are shared out to training, validation and test."""

    kind: Literal["kfold", "leave_one_centre_out", "holdout_centres", "file"] = "kfold"
    folds: int = Field(5, ge=2, description="kfold only.")
    test_centres: list[str] = Field([], description="holdout_centres only.")
    file: str | None = Field(None, description="file only: TSV of fold, part, slide_id.")
    validation_fraction: float = Field(0.2, gt=0, lt=0.5, description="Of the training patients.")
    seed: int = Field(0, description="Of the partition; training seeds are the task's.")

    @model_validator(mode="after")
    def _check_kind(self) -> "Protocol":
        if (self.kind == "holdout_centres") != bool(self.test_centres):
            raise ValueError("test_centres belongs to kind: holdout_centres, and only there")
        if (self.kind == "file") != (self.file is not None):
            raise ValueError("file belongs to kind: file, and only there")
        return self


class Task(TaskBase):
    """A classification of bags."""

    classes: list[str] = Field(min_length=2, description="Labels in their (ordinal) order.")
    sample: Literal["slide", "patient"] = "slide"
    protocol: Protocol = Protocol()
    standardise: bool = Field(
        False, description="Standardise features by the instances of the training part."
    )
    aggregators: dict[ArmName, Part] = Field({"abmil": Part()}, min_length=1)

    @model_validator(mode="after")
    def _check_classes(self) -> "Task":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes has a label twice: {self.classes}")
        return self


class ImageTask(TaskBase):
    """A classification of images by a timm network."""

    dataset: str = Field(description="A file of wsi_ncmi/images/datasets.")
    path: str = Field(description="Folder or file that holds the data set.")
    options: dict[str, Any] = Field({}, description="The data set's own options.")
    train_samples: int | None = Field(None, ge=1, description="Balanced subset; None: all.")
    test_samples: int | None = Field(None, ge=1)
    validation_fraction: float = Field(0.1, gt=0, lt=0.5)
    subset_seed: int = 0
    model: str = Field("resnet18", description="Any timm name.")
    pretrained: bool = False
    small_stem: bool = Field(True, description="3x3 stride 1, no pooling: for 28-64 px images.")
    image_size: int | None = Field(None, ge=8, description="Resize; None: as stored.")
    augmentation: list[Transform] = Field([])
    training: ImageTraining = ImageTraining()
