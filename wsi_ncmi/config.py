"""The configuration: everything that is not a part, as pydantic models that refuse unknown keys.

A part's own options (an encoder's, aggregator's, objective's or dataset's) are a frozen dataclass
in its file; here they are a mapping, checked against the schemas that `wsi-ncmi schema` generates,
so that planning a workflow imports neither torch nor pandas.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

# Arms and their settings are keys of the configuration like all others: found under one name.
from wsi_ncmi.arms import Arm as Arm
from wsi_ncmi.arms import ArmName, Fraction, ImageTraining, Model, Part, TaskBase, problems_of
from wsi_ncmi.arms import Search as Search
from wsi_ncmi.arms import Training as Training
from wsi_ncmi.errors import ConfigError

SAFE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=SAFE_NAME)]


class Demo(Model):
    """A cohort of synthetic slides, written by the workflow itself."""

    slides: int = Field(60, ge=10, description="Slides with tissue; two defective ones are added.")
    seed: int = 17
    centres: int = Field(5, ge=2)


class Slides(Model):
    """Your own slides."""

    sheet: str = Field(description="TSV: slide_id, path, label, patient_id, centre; see the docs.")


class Bags(Model):
    """Feature bags that exist already; no slides are read."""

    path: str = Field(description="The packed file, or the folder of one file per slide.")
    format: Literal["packed", "h5", "pt"] = "packed"
    sheet: str = Field(description="TSV: slide_id, label, patient_id, centre.")
    name: Name = Field("imported", description="What the encoder is called in results and report.")


class Tissue(Model):
    """The tissue mask, made on a thumbnail. Every key is also a column of the sheet."""

    method: Literal["otsu_saturation", "hsv", "entropy", "model"] = Field(
        "otsu_saturation", description="A file of wsi_ncmi/slides/tissue, or model: a network."
    )
    thumbnail_mpp: float = Field(8.0, gt=0, description="µm/px of the thumbnail.")
    min_saturation: Fraction = Field(
        0.03, description="otsu_saturation: its threshold is never below; glass is not tissue."
    )
    max_saturation: Fraction = Field(
        0.12, description="otsu_saturation: nor above; faint fat beside dark tissue is kept."
    )
    hsv_saturation: Fraction = Field(0.07, description="hsv: least saturation of tissue.")
    hue_from: float = Field(
        220.0, ge=0, lt=360, description="hsv: hues of tissue, in degrees, go from here (blue)"
    )
    hue_to: float = Field(40.0, ge=0, lt=360, description="hsv: through red (0) up to here (brown)")
    min_entropy: float = Field(
        2.0, ge=0, le=5, description="entropy: least bits of the grey levels nearby, 5 at most."
    )
    weights: str | None = Field(
        None, description="model: a local TorchScript file, or weights of `architecture`."
    )
    architecture: str | None = Field(
        None, description="model: a timm classifier of two classes, run on patches."
    )
    patch_px: int = Field(32, ge=8, description="model with architecture: side of a patch.")
    min_probability: Fraction = Field(0.5, description="model: least probability of tissue.")
    min_area_um2: float = Field(4_000.0, ge=0, description="Smaller islands of tissue are dropped.")
    min_hole_um2: float = Field(1_500.0, ge=0, description="Smaller holes are filled, others kept.")

    @model_validator(mode="after")
    def _check_model(self) -> "Tissue":
        if self.method == "model" and self.weights is None:
            raise ValueError("method: model needs weights: a local file")
        return self


class Tiling(Model):
    """The grid of tiles."""

    mpp: float = Field(0.5, gt=0, description="Wanted µm per pixel of a tile.")
    tile_px: int | None = Field(256, ge=8, description="Tile side in pixels at `mpp`.")
    tile_um: float | None = Field(None, gt=0, description="Tile side in µm, instead of tile_px.")
    overlap_px: int = Field(0, ge=0, description="Pixels at `mpp` that neighbours share.")
    min_tissue: Fraction = Field(0.25, description="Least fraction of a tile that is tissue.")
    upsample: bool = Field(False, description="Read slides coarser than `mpp` (refused otherwise).")
    half_decoding: bool = Field(
        False, description="Decode JPEG at half size where no level fits; sharper, so do not mix."
    )
    quality_mpp: float = Field(2.0, gt=0, description="µm/px at which tile quality is measured.")
    tissue: Tissue = Tissue()

    @model_validator(mode="before")
    @classmethod
    def _um_replaces_px(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tile_um") is not None:
            if data.get("tile_px") is not None:
                raise ValueError("give tile_px or tile_um, not both")
            return {**data, "tile_px": None}
        return data

    @model_validator(mode="after")
    def _check_overlap(self) -> "Tiling":
        if self.overlap_px >= self.side_px:
            raise ValueError(f"overlap_px ({self.overlap_px}) must be below the tile's side")
        return self

    @property
    def side_px(self) -> int:
        """Tile side in pixels at `mpp`."""
        return self.tile_px if self.tile_px is not None else round((self.tile_um or 0) / self.mpp)


class Transform(Model):
    """One albumentations transform by its class name."""

    name: str
    options: dict[str, Any] = Field({})


class Augmentation(Model):
    """Augmented copies of every tile's features, drawn from in training only."""

    transforms: list[Transform] = Field(min_length=1)
    copies: int = Field(1, ge=1)
    seed: int = 0


class Extraction(Model):
    """From tiles to features."""

    encoder: str = Field(
        "resnet50", description="A file of wsi_ncmi/encoders, a timm name, or hf-hub:<repository>."
    )
    options: dict[str, Any] = Field({}, description="The encoder's own options.")
    weights: str | None = Field(None, description="Local .safetensors or .pth instead of a hub.")
    name: Name | None = Field(None, description="Folder name; by default made from the encoder's.")
    batch_size: int = Field(64, ge=1)
    dtype: Literal["float16", "float32"] = Field("float16", description="How features are stored.")
    autocast: Literal["auto", "none", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 (or fp16) on CUDA, none on CPU."
    )
    compile: bool = Field(False, description="By torch.compile: pays on long runs on CUDA.")
    any_scale: bool = Field(
        False, description="Let tiles through whose µm/px the encoder is not meant for."
    )
    max_invalid_fraction: Fraction = Field(
        0.1, description="A slide with more undecodable tiles is rejected."
    )
    min_focus: float | None = Field(None, description="Leave out tiles whose focus is below.")
    max_pen: Fraction | None = Field(None, description="Leave out tiles with more pen.")
    max_white: Fraction | None = Field(None, description="Leave out tiles with more white.")
    max_black: Fraction | None = Field(None, description="Leave out tiles with more black.")
    max_fold: Fraction | None = Field(None, description="Leave out tiles with more folds.")
    stain: Literal["none", "macenko", "reinhard"] = Field(
        "none", description="Bring the stain of all slides to one target before encoding."
    )
    augmentation: Augmentation | None = None

    @property
    def folder(self) -> str:
        """The name under which bags are kept."""
        return self.name or re.sub(r"[^A-Za-z0-9._-]+", "_", self.encoder)


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


class Attention(Model):
    """What is drawn of an aggregator's attention."""

    slides: int = Field(6, ge=0, description="Heatmaps per task.")
    tiles: int = Field(8, ge=1, description="Most attended tiles shown per heatmap.")


class Evaluation(Model):
    """Intervals."""

    bootstrap: int = Field(2000, ge=100, description="Resamples of patients.")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    seed: int = 0


class Config(Model):
    """One cohort: where its data come from, and the tasks on it."""

    cohort: Name
    results: str = "results"
    question: str = Field(
        "Does training under NCMI change macro-F1 against cross-entropy?",
        description="Stands at the head of the report.",
    )
    buckets: int = Field(16, ge=1, le=999, description="Jobs that slides are shared out to.")
    demo: Demo | None = None
    slides: Slides | None = None
    bags: Bags | None = None
    images: dict[Name, ImageTask] = Field({})
    ignore_labels: list[str] = Field([], description="Labels of the sheet that no task uses.")
    tiling: Tiling = Tiling()
    extraction: Extraction = Extraction()
    tasks: dict[Name, Task] = Field({})
    attention: Attention = Attention()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _check_source(self) -> "Config":
        given = [k for k in ("demo", "slides", "bags", "images") if getattr(self, k)]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of demo, slides, bags, images: found {found}")
        if self.images and self.tasks:
            raise ValueError("tasks belong to slides and bags; images hold their own")
        if not self.images and not self.tasks:
            raise ValueError("tasks is empty: name at least one")
        return self

    @property
    def encoder_folder(self) -> str:
        """The folder of features: an encoder's, or the name of the imported bags."""
        return self.bags.name if self.bags else self.extraction.folder

    def part_options(self) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        """(key in the configuration, kind of part, part's name, its options) of every part."""
        if self.demo or self.slides:
            yield "extraction", "encoder", self.extraction.encoder, self.extraction.options
        for task_key, tasks in (("tasks", self.tasks), ("images", self.images)):
            for name, task in tasks.items():
                where = f"{task_key}.{name}"
                for label, arm in task.objectives.items():
                    key = f"{where}.objectives.{label}"
                    yield key, "objective", arm.part or label, arm.options
                    for setting in task.candidates(label):
                        yield f"{key}.search", "objective", arm.part or label, setting.options
                if isinstance(task, ImageTask):
                    yield where, "dataset", task.dataset, task.options
                    continue
                for label, part in task.aggregators.items():
                    key = f"{where}.aggregators.{label}"
                    yield key, "aggregator", part.part or label, part.options


def parse(raw: Mapping[str, Any]) -> Config:
    """The checked configuration.

    Raises:
        ConfigError: lists every unknown key and every value that does not fit.
    """
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as error:
        raise ConfigError(problems_of(error)) from None


def part_problems(config: Config, schemas: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong with parts' names and options, by the generated schemas.

    Args:
        config: the checked configuration.
        schemas: kind of part -> name of part -> JSON schema of its options.
    """
    from jsonschema import Draft202012Validator

    problems = []
    for key, kind, name, options in config.part_options():
        if kind == "encoder" and name not in schemas[kind]:
            name = "timm"  # any other name is a timm model's
        if name not in schemas[kind]:
            known = ", ".join(sorted(schemas[kind]))
            problems.append(f"{key}: unknown {kind} {name!r}, expected one of {known}")
            continue
        for error in Draft202012Validator(schemas[kind][name]).iter_errors(options):
            problems.append(f"{'.'.join([key, 'options', *map(str, error.path)])}: {error.message}")
    return list(dict.fromkeys(problems))  # candidates of a search share their values
