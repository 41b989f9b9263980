"""Tasks on bags and on images."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from wsi_ncmi.config.arms import ImageTraining, Part, TaskBase, Training
from wsi_ncmi.config.base import ArmName, LocalPath, Name, Seed
from wsi_ncmi.config.class_sets import CLASS_SETS
from wsi_ncmi.config.extraction import Transform
from wsi_ncmi.config.protocol import Protocol
from wsi_ncmi.provenance import digest


def _with_class_set(schema: dict[str, Any]) -> None:
    """`classes` need not be given where `class_set` is."""
    del schema["required"]


class Task(TaskBase):
    """A classification of bags."""

    model_config = ConfigDict(json_schema_extra=_with_class_set)

    classes: list[str] = Field(
        min_length=2,
        description=(
            "Two or more labels of the sheet, or classes of `merge_classes`, in their order; "
            "required without `class_set`. Slides with other labels are not in the task."
        ),
    )
    merge_classes: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        {},
        description=(
            "Class → labels of the sheet that are joined in it. A class that is not named here is "
            "the label of its name."
        ),
    )
    class_set: (
        Literal[
            "stages",
            "metastasis",
            "metastasis_itc_negative",
            "macro",
            "bracs_7",
            "bracs_3",
        ]
        | None
    ) = Field(
        None,
        description=(
            "Name of a set of classes, instead of `classes` and `merge_classes`. Of labels of "
            "CAMELYON-17: `stages` (all four), `metastasis` (isolated tumour cells are positive), "
            "`metastasis_itc_negative` (they are negative), `macro` (a macrometastasis or none). "
            "Of BRACS: `bracs_7` and `bracs_3` (benign, atypical, malignant)."
        ),
    )
    sample: Literal["slide", "patient"] = Field(
        "slide",
        description=(
            "`slide`: one bag per slide. `patient`: one bag per patient, of all its slides."
        ),
    )
    protocol: Protocol = Field(
        Protocol(), description="How patients are divided into training, validation and test."
    )
    encoder: Name | None = Field(
        None,
        description=(
            "Name of the encoder on whose bags it is trained, of `extraction.others` or "
            "`bags.others`. `null`: the one of `extraction` or `bags` itself."
        ),
    )
    standardise: bool = Field(
        False,
        description=(
            "Standardise each feature by its mean and standard deviation over the instances of "
            "the training part."
        ),
    )
    aggregators: dict[ArmName, Part] = Field(
        {"abmil": Part()},
        min_length=1,
        description="Label → aggregator. The report's first comparison is under the first one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_set(cls, given: Any) -> Any:
        """The classes that `class_set` names, where it is a name that there is."""
        name = given.get("class_set") if isinstance(given, dict) else None
        if not isinstance(name, str) or name not in CLASS_SETS:
            return given
        both = [key for key in ("classes", "merge_classes") if given.get(key)]
        if both:
            raise ValueError(
                f"class_set: {name} already says the classes: leave out {' and '.join(both)}"
            )
        found = CLASS_SETS[name]
        merged = {one: labels for one, labels in found.items() if labels != [one]}
        return {**given, "classes": [*found], "merge_classes": merged}

    @model_validator(mode="after")
    def _check_classes(self) -> "Task":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes has a label twice: {self.classes}")
        unknown = [name for name in self.merge_classes if name not in self.classes]
        if unknown:
            raise ValueError(f"merge_classes: {', '.join(unknown)} is not one of classes: add it")
        twice = [label for label, n in Counter(self.labels).items() if n > 1]
        if twice:
            raise ValueError(
                f"label {twice[0]!r} is in several classes: merge_classes may name it in one, and "
                "a class of its name that is not in merge_classes is that label"
            )
        return self

    @model_serializer(mode="wrap")
    def _said(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is at its default, and by its classes: not by their set's name."""
        found: dict[str, Any] = plain(self)
        unsaid = {"class_set", *(() if self.merge_classes else ("merge_classes",))}
        return {key: value for key, value in found.items() if key not in unsaid}

    @property
    def class_of_label(self) -> dict[str, str]:
        """Label of the sheet -> class, of the labels of the task."""
        return {
            label: name for name in self.classes for label in self.merge_classes.get(name, [name])
        }

    @property
    def labels(self) -> list[str]:
        """The labels of the sheet that the task uses, in the order of its classes."""
        return [label for name in self.classes for label in self.merge_classes.get(name, [name])]

    @model_validator(mode="after")
    def _check_aggregators(self) -> "Task":
        for label, part in self.aggregators.items():
            self._check_training(f"aggregators.{label}.training", [part.training])
        for place, one in enumerate(self.published):
            self._check_beside(f"published.{place}.aggregators", one.aggregators, self.aggregators)
        return self

    def training_of(self, aggregator: str, objective: str) -> Training:
        """The settings of two arms: the task's, below the aggregator's, below the objective's."""
        overrides = self.aggregators[aggregator].training, self.objectives[objective].training
        return self._training(*overrides)


class ImageTask(TaskBase):
    """A classification of images by a timm network."""

    dataset: str = Field(
        description=(
            "Kind of data set, a file of `wsi_ncmi/images/datasets`: `fashion_mnist`, `mnist`, "
            "`cifar10`, `cifar100`, `tiny_imagenet`, `imagenet`, `image_folder`, `webdataset`, or, "
            "of samples that are no images, `sklearn_table` and `characters`."
        )
    )
    path: LocalPath = Field(description="Folder or file with the data set.")
    options: dict[str, Any] = Field(
        {}, description="The data set's own options; each data set has a table under Parts."
    )
    corrupt: Literal["refuse", "skip"] = Field(
        "refuse",
        description=(
            "Images that cannot be decoded. `refuse`: an error that names them. `skip`: they are "
            "left out, and the report says how many."
        ),
    )
    overlap: Literal["warn", "refuse", "drop"] = Field(
        "warn",
        description=(
            "Test images that are in the training part too, pixel by pixel. `warn`: all are used, "
            "and the report says how many. `refuse`: an error. `drop`: they are left out of "
            "training."
        ),
    )
    merge_classes: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        {},
        description=(
            "Name → classes of the data set that become one class of this name, before anything "
            "is drawn by class. Classes that are not listed stay as they are, after the merged "
            "ones."
        ),
    )
    train_samples: int | None = Field(
        None,
        ge=1,
        description=(
            "Size of a balanced subset of the training part, validation included. `null`: all "
            "images."
        ),
    )
    test_samples: int | None = Field(
        None, ge=1, description="Size of a balanced subset of the test part. `null`: all images."
    )
    validation_fraction: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description=(
            "Fraction of the training part used for validation, stratified by class, above 0 and "
            "below 0.5."
        ),
    )
    subset_seed: Seed = Field(
        0,
        description="Random seed of the subsets and of validation. All training seeds share them.",
    )
    model: str = Field(
        "resnet18",
        description="The network: a file of `wsi_ncmi/images/networks`, or any timm name.",
    )
    model_options: dict[str, Any] = Field(
        {},
        description=(
            "The network's own options; those of `wsi_ncmi/images/networks` have a table under "
            "Parts. Of a timm model: what its constructor takes, such as `drop_path_rate`."
        ),
    )
    pretrained: bool = Field(False, description="Start from timm's weights, downloaded once.")
    small_stem: bool = Field(
        True,
        description=(
            "Use a 3×3 first convolution with stride 1 and no pooling, for images of 28 to 64 px. "
            "ResNets of timm only; networks of `wsi_ncmi/images/networks` are made for them."
        ),
    )
    image_size: int | None = Field(
        None,
        ge=8,
        description=(
            "Cut out the central square and resize it to this side in pixels, 8 or more. `null`: "
            "images keep their size."
        ),
    )
    augmentation: list[Transform] = Field(
        [], description="albumentations transforms, applied in this order to training images only."
    )
    batch_augmentation: list[Transform] = Field(
        [],
        description=(
            "kornia transforms (`kornia.augmentation`), applied in this order to batches of "
            "training images on the device, after `augmentation`."
        ),
    )
    loading: Literal["auto", "device", "workers"] = Field(
        "auto",
        description=(
            "Where images come from; it changes speed alone. `device`: they are decoded once and "
            "kept on the device as uint8, without `augmentation`. `workers`: each batch is decoded "
            "when it is needed, in the job's threads but one. `auto`: `device` without "
            "`augmentation` and up to 4 GiB, else `workers`."
        ),
    )
    training: ImageTraining = Field(
        ImageTraining(),
        description="Settings of a training run, for all arms; the defaults are for images.",
    )

    @model_validator(mode="after")
    def _check_merged(self) -> "ImageTask":
        counts = Counter(name for listed in self.merge_classes.values() for name in listed)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(
                f"merge_classes lists {twice[0]!r} more than once: a class becomes part of one"
            )
        return self

    @model_validator(mode="after")
    def _check_loading(self) -> "ImageTask":
        if self.loading == "device" and self.augmentation:
            raise ValueError(
                "loading: device decodes each image once, so that augmentation (albumentations, "
                "image by image) cannot be: move its transforms to batch_augmentation (kornia), or "
                "set loading: workers"
            )
        return self

    @model_validator(mode="after")
    def _check_snapshots(self) -> "ImageTask":
        keeping = [label for label in self.objectives if self._keeps_snapshots(label)]
        if self.is_nested and keeping:
            raise ValueError(
                "search: nested records the best of several models, whose snapshots would "
                f"overwrite each other: leave training.snapshots out of {', '.join(keeping)}"
            )
        return self

    def _keeps_snapshots(self, label: str) -> bool:
        tasks = [self, *(self.under(label, setting) for setting in self.candidates(label))]
        return any(one.training_of(label).snapshots for one in tasks)

    @model_validator(mode="after")
    def _check_models(self) -> "ImageTask":
        for place, one in enumerate(self.published):
            self._check_beside(f"published.{place}.aggregators", one.aggregators, [self.model])
        return self

    @property
    def source(self) -> str:
        """What names the index of its data set: tasks on the same images share one."""
        return f"{self.dataset}-{digest([self.dataset, self.path, self.options])[:8]}"

    def training_of(self, objective: str) -> ImageTraining:
        """The settings of an objective's arm: the task's, with what the arm overrides."""
        found = self._training(self.objectives[objective].training)
        assert isinstance(found, ImageTraining)
        return found
