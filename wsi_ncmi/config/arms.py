"""What a comparison trains: arms, their settings, and the candidates that a search tries.

The part of the configuration (see `config`) that tasks on bags and on images share.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from wsi_ncmi.config.adversarial import Adversarial
from wsi_ncmi.config.base import ArmName, Fraction, Model, Seed, Unsaid, Values, problems_of
from wsi_ncmi.config.published import PublishedValue
from wsi_ncmi.config.rates import AUTO, auto_rate, steps_of

# For `exclude`: a task without what a search tries, which decides no training.
SEARCHES: dict[str, Any] = {"objectives": {"__all__": {"search"}}}
WEIGHT_DECAY = (
    "The network's weight decay, 0 or more. Biases, weights of norms and an objective's learnt "
    "temperature take none."
)
Beta = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NUMBER: TypeAdapter[float] = TypeAdapter(Rate)


class Training(Unsaid):
    """One training run. Defaults are the CAMELYON-17 line of recent MIL papers."""

    UNSAID: ClassVar[tuple[str, ...]] = ("nesterov", "milestones", "milestone_factor")
    """Keys that a record lacks where they have their defaults."""

    epochs: int = Field(
        50, ge=1, description="Number of epochs; with `early_stopping`, the largest number."
    )
    batch_size: int = Field(1, ge=1, description="Bags per step.")
    optimiser: Literal["adamw", "adam", "sgd", "radam"] = Field(
        "adamw",
        description=(
            "The network's optimiser. `adamw` and `radam` decay the weights themselves; `adam` and "
            "`sgd` add the decay to the gradient (L2)."
        ),
    )
    betas: tuple[Beta, Beta] = Field(
        (0.9, 0.999),
        description=(
            "Decay rates of the gradient's running first and second moment, 0 to below 1; `sgd` "
            "ignores them."
        ),
    )
    lookahead: bool = Field(
        False,
        description=(
            "Lookahead (Zhang et al. 2019) around the optimiser: every 6 steps slow weights move "
            "half of the way to the network's, and the network goes on from them."
        ),
    )
    learning_rate: Rate | Literal["auto"] = Field(
        AUTO,
        description=(
            "The network's peak learning rate, above 0. `auto`: by the number of optimiser steps, "
            "0.03 / √steps, within 1e-4 and 3e-3 and rounded to 1, 2, 3 or 5 times a power of ten; "
            "`sgd` needs a number. What it came to is recorded."
        ),
    )
    weight_decay: float = Field(1e-5, ge=0, description=WEIGHT_DECAY)
    momentum: Fraction = Field(
        0.9, description="Momentum of `sgd`, 0 to 1; other optimisers ignore it."
    )
    nesterov: bool = Field(
        False,
        description="With `sgd`: Nesterov's momentum, which needs `momentum` above 0.",
    )
    centroid_learning_rate: float = Field(
        0.1,
        gt=0,
        description=(
            "Learning rate of the plain SGD that trains an objective's own parameters (NCMI's "
            "class distributions), above 0."
        ),
    )
    warmup_fraction: Fraction = Field(
        0.05,
        description=(
            "Fraction of all steps over which the learning rate rises linearly, 0 to 1, before "
            "`schedule`."
        ),
    )
    schedule: Literal["cosine", "constant", "multi_step", "one_cycle"] = Field(
        "cosine",
        description=(
            "The learning rate after the warm-up: falls to zero along a `cosine`, stays "
            "`constant`, or is multiplied by `milestone_factor` at every one of `milestones` "
            "(`multi_step`). `one_cycle`: rises along a cosine from 1/25 of the rate over the "
            "warm-up, and falls along another to 1/250000, as torch's OneCycleLR; the momentum "
            "stays."
        ),
    )
    milestones: list[Fraction] = Field(
        [0.3, 0.6, 0.8],
        min_length=1,
        description=(
            "With `multi_step`: fractions of all steps, rising. The default is 60, 120 and 160 "
            "epochs of 200."
        ),
    )
    milestone_factor: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="With `multi_step`: factor on the learning rate at a milestone, 0 to 1.",
    )
    clip_norm: float | None = Field(
        5.0,
        gt=0,
        description=(
            "Largest norm of the network's gradient, above 0; longer gradients are scaled down to "
            "it. `null`: no clipping."
        ),
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description=(
            "Precision of the network; pooling and losses are float32 or wider. `bf16`: automatic "
            "mixed precision. `fp16`: the same with scaled gradients, for images only. `auto`: "
            "`bf16` on a GPU that has it, else `fp32`. What it came to is recorded, and models of "
            "one arm in two precisions are not evaluated together."
        ),
    )
    selection: Literal["last", "early_stopping", "best_loss", "averaged"] = Field(
        "last",
        description=(
            "Which weights are scored. `last`: those after the last epoch. `early_stopping`: those "
            "after the epoch with the best macro-F1 on validation; training stops after `patience` "
            "epochs without a better one. `best_loss`: those after the epoch with the smallest "
            "log-loss on validation, all epochs being trained. `averaged`: the mean of those after "
            "each epoch of the last half."
        ),
    )
    patience: int = Field(
        10,
        ge=1,
        description=(
            "With `early_stopping`: epochs without improvement after which training stops, 1 or "
            "more."
        ),
    )
    sampling: Literal["shuffled", "balanced"] = Field(
        "shuffled",
        description=(
            "`shuffled`: every sample once per epoch, in random order. `balanced`: all classes "
            "equally often, drawn with replacement."
        ),
    )
    calibration: Literal["temperature", "bias", "vector"] = Field(
        "temperature",
        description=(
            "How validation calibrates the scores, of every objective alike. `temperature`: one "
            "scale, which never changes a prediction. `bias`: a scale, and a bias for each class. "
            "`vector`: a scale and a bias for each class."
        ),
    )

    @field_validator("learning_rate", mode="wrap")
    @classmethod
    def _number_or_auto(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        # Of a union, each alternative would say what is wrong with a number.
        return handler(value) if value == AUTO else NUMBER.validate_python(value)

    @field_validator("milestones")
    @classmethod
    def _rising(cls, value: list[float]) -> list[float]:
        if any(after <= before for before, after in itertools.pairwise(value)):
            raise ValueError(f"must rise, found {value}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _refuse_keys_of_images(cls, given: Any) -> Any:
        if cls is Training and isinstance(given, Mapping):
            own = ImageTraining.model_fields.keys() - cls.model_fields.keys()
            found = [f"{key} {value!r}" for key, value in given.items() if key in own]
            found += ["precision fp16"] if given.get("precision") == "fp16" else []
            if found:
                raise ValueError(
                    f"found {', '.join(found)}, which is for images: many models on bags train in "
                    "one pass, which has none of it: leave it out"
                )
        return given

    @model_validator(mode="after")
    def _check_nesterov(self) -> Self:
        if self.nesterov and not (self.optimiser == "sgd" and self.momentum > 0):
            raise ValueError(
                f"nesterov is for optimiser sgd with a momentum above 0, found {self.optimiser} "
                f"with momentum {self.momentum}"
            )
        return self

    @model_validator(mode="after")
    def _check_rate(self) -> Self:
        if self.learning_rate == AUTO and self.optimiser == "sgd":
            raise ValueError(
                "learning_rate: auto suits adamw, adam and radam, found optimiser sgd: give a "
                "number"
            )
        return self

    def rate(self, steps: int) -> float:
        """The peak learning rate of a training of so many optimiser steps."""
        given = self.learning_rate
        return auto_rate(steps) if isinstance(given, str) else given

    def for_samples(self, samples: int) -> Self:
        """With the rate as a number, for so many training samples."""
        steps = steps_of(samples, self.epochs, self.batch_size)
        return self.model_copy(update={"learning_rate": self.rate(steps)})


class ImageTraining(Training):
    """Defaults for networks on small images."""

    UNSAID: ClassVar[tuple[str, ...]] = (
        *Training.UNSAID,
        "accumulation",
        "ema_decay",
        "mixup",
        "cutmix",
        "adversarial",
        "compile",
        "cuda_graph",
        "deterministic",
        "snapshots",
    )

    epochs: int = Field(
        30, ge=1, description="Number of epochs; with `early_stopping`, the largest number."
    )
    batch_size: int = Field(
        128, ge=1, description="Images per step, of all processes and micro-batches together."
    )
    learning_rate: float = Field(
        1e-3, gt=0, description="The network's peak learning rate, above 0."
    )
    weight_decay: float = Field(5e-4, ge=0, description=WEIGHT_DECAY)
    accumulation: int = Field(
        1,
        ge=1,
        description=(
            "Micro-batches into which a batch is divided where it does not fit into memory. The "
            "loss is that of the whole batch, whichever it is, and only batch norms see the parts; "
            "each image goes through the network once more, without gradients."
        ),
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description=(
            "Decay of a running mean of the weights over the steps, above 0 and below 1, which is "
            "validated and scored in place of the weights; after n steps it is at most "
            "(1 + n) / (10 + n). `null`: none."
        ),
    )
    mixup: float = Field(
        0.0,
        ge=0,
        description=(
            "α of mixup (arXiv 1710.09412), 0 or more: images and their losses are mixed in pairs "
            "by a share from Beta(α, α). 0: none. For cross-entropy and its family alone."
        ),
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        description=(
            "α of CutMix (arXiv 1905.04899), 0 or more: a rectangle is of another image. With "
            "`mixup` too, half of the batches have either."
        ),
    )
    adversarial: Adversarial | None = Field(
        None,
        description=(
            "Adversarial training: each batch is moved to where its loss, whichever objective it "
            "is, is largest within a ball. `null`: none."
        ),
    )
    compile: bool = Field(
        False,
        description=(
            "Compile the network by torch.compile; the first steps take minutes. It goes together "
            "with `cuda_graph`: a step of ResNet-18 on small images became a sixth shorter."
        ),
    )
    cuda_graph: bool | Literal["auto"] = Field(
        "auto",
        description=(
            "Record a training step as one CUDA graph and replay it for every batch, so that the "
            "GPU does not wait for Python to start its kernels. `auto`: on a GPU, where it can be "
            "done; the log says why not. `true`: anything that prevents it is an error. It cannot "
            "be done with `accumulation`, `adversarial`, `lookahead`, `optimiser: radam` or "
            "`precision: fp16`, in several processes, or under an objective that looks at values "
            "(supcon, mutual_information)."
        ),
    )
    deterministic: bool = Field(
        False,
        description=(
            "Only operations that give the same bits every time. On a CPU all do; on a GPU it "
            "is slower."
        ),
    )
    snapshots: int | None = Field(
        None,
        ge=1,
        description=(
            "Keep the weights after every so many epochs, 1 or more, and after the last one, in "
            "`snapshots/` of the run's folder, for what is measured over a training. `null`: none."
        ),
    )

    @property
    def not_captured(self) -> list[str]:
        """What of these settings keeps a step from being a CUDA graph."""
        found = {
            f"accumulation is {self.accumulation}": self.accumulation > 1,
            "adversarial is set": self.adversarial is not None,
            "lookahead counts steps on the host": self.lookahead,
            "radam counts steps on the host": self.optimiser == "radam",
            "precision fp16 leaves out steps that overflow": self.precision == "fp16",
        }
        return [reason for reason, applies in found.items() if applies]

    @model_validator(mode="after")
    def _check_graph(self) -> Self:
        if self.cuda_graph is True and self.not_captured:
            raise ValueError(
                "cuda_graph: true needs steps that launch the same kernels every time: found that "
                f"{', '.join(self.not_captured)}: change it, or set cuda_graph: auto"
            )
        return self

    @model_validator(mode="after")
    def _check_adversarial(self) -> Self:
        if self.adversarial is not None and (self.accumulation > 1 or self.precision == "fp16"):
            raise ValueError(
                "adversarial needs the gradient of a whole batch with respect to its images, "
                f"unscaled: found accumulation {self.accumulation} and precision {self.precision}: "
                "set accumulation: 1 (with a smaller batch_size, or more processes), and precision "
                "bf16 or fp32"
            )
        return self


class Part(Model):
    """A part under a label of its own; the label is the part's name unless `part` is given."""

    part: str | None = Field(
        None,
        description=(
            "Name of the part (a file of `wsi_ncmi/losses` or `wsi_ncmi/aggregators`). `null`: "
            "the label is the part's name."
        ),
    )
    options: dict[str, Any] = Field(
        {}, description="The part's own options; each part has a table under Parts."
    )
    training: dict[str, Any] = Field(
        {}, description="Keys of `training` that this entry overrides, `preset` among them."
    )

    @property
    def record(self) -> dict[str, Any]:
        """What decides a training, for digests and checkpoints: a search does not."""
        return self.model_dump(mode="json", exclude={"search"})


class Setting(NamedTuple):
    """What one candidate of a search overrides of its arm."""

    options: dict[str, Any]
    training: dict[str, Any]


class Search(Model):
    """Candidate settings of an arm: every combination of the listed values."""

    options: dict[str, Values] = Field(
        {}, description="Option of the part → list of values to try."
    )
    training: dict[str, Values] = Field(
        {}, description="Key of `training` → list of values to try."
    )

    @model_validator(mode="after")
    def _check_values(self) -> "Search":
        lists = [*self.options.items(), *self.training.items()]
        if not lists:
            raise ValueError("names nothing to try: give options or training a list of values")
        for key, values in lists:
            if any(value in values[:i] for i, value in enumerate(values)):
                raise ValueError(f"{key} has a value twice: {values}")
        return self

    @property
    def settings(self) -> list[Setting]:
        """All combinations in their order; the last key varies fastest."""
        lists = [*self.options.values(), *self.training.values()]
        split = len(self.options)
        return [
            Setting(
                dict(zip(self.options, values[:split], strict=True)),
                dict(zip(self.training, values[split:], strict=True)),
            )
            for values in itertools.product(*lists)
        ]


class Arm(Part):
    """An objective as an arm of a comparison."""

    stream: ArmName | None = Field(
        None,
        description=(
            "Name of a random stream of this arm's own: another start, order of samples and "
            "dropout under the same seeds, for comparing an arm with itself (A/A). `null`: the "
            "arm shares all three with the others, as a paired comparison needs."
        ),
    )
    search: Search | None = Field(
        None,
        description=(
            "Candidate settings, among which the best on validation is chosen; the task's `search` "
            "says when. `null`: this arm is not tuned."
        ),
    )

    @property
    def record(self) -> dict[str, Any]:
        """See `Part.record`; that an arm has no stream of its own is not said."""
        record = super().record
        return record if self.stream else {k: v for k, v in record.items() if k != "stream"}

    def to_search(self) -> "Arm":
        """The arm without what each candidate overrides: a choice that was merged is no change."""
        if self.search is None:
            return self
        options = {k: v for k, v in self.options.items() if k not in self.search.options}
        training = {k: v for k, v in self.training.items() if k not in self.search.training}
        return self.model_copy(update={"options": options, "training": training})

    def with_setting(self, setting: Setting) -> "Arm":
        """The arm under one candidate of its search."""
        options = {**self.options, **setting.options}
        training = {**self.training, **setting.training}
        return Arm(part=self.part, options=options, training=training, stream=self.stream)


class TaskBase(Model):
    """What tasks on bags and on images share."""

    objectives: dict[ArmName, Arm] = Field(
        {"cross_entropy": Arm(), "ncmi": Arm()},
        min_length=1,
        description=(
            "Label → arm: the objectives to compare. A label has letters and digits, with single "
            "`.`, `_` or `-` between them."
        ),
    )
    reference: str = Field(
        "cross_entropy", description="Label of the objective that the others are compared with."
    )
    ordinal: bool = Field(
        False,
        description=(
            "Whether the order of the classes means something, as in stages or grades. `true`: "
            "the report has the quadratic kappa, which counts the steps between classes."
        ),
    )
    unequal_budget: Literal["refuse", "allow"] = Field(
        "refuse",
        description=(
            "Whether arms may have different numbers of candidate settings in their `search`. "
            "`allow`: the report flags it."
        ),
    )
    search: Literal["apart", "nested"] = Field(
        "apart",
        description=(
            "When the candidate settings of the objectives' `search` are tried. `apart`: by "
            "`snakemake search`, on the first fold; training ignores them. `nested`: by training, "
            "in every fold, with every seed and aggregator (images: network) anew, on that fold's "
            "own validation part; no other model than the chosen one is tested."
        ),
    )
    training: Training = Field(Training(), description="Settings of a training run, for all arms.")
    seeds: list[Seed] = Field(
        [0, 1, 2],
        min_length=1,
        description=(
            "Training seeds, at least one. Each seed is a job; every arm is trained with every "
            "seed."
        ),
    )
    published: list[PublishedValue] = Field(
        [],
        description=(
            "Values that others report under this protocol, which the report shows beside the "
            "arms'. They decide nothing."
        ),
    )

    @model_validator(mode="after")
    def _check_published(self) -> "TaskBase":
        for place, one in enumerate(self.published):
            self._check_beside(f"published.{place}.objectives", one.objectives, self.objectives)
            if one.metric == "quadratic_kappa" and not self.ordinal:
                raise ValueError(f"published.{place}: quadratic_kappa needs ordinal: true")
        return self

    def _check_beside(self, key: str, labels: Iterable[str], known: Iterable[str]) -> None:
        unknown = [label for label in labels if label not in known]
        if unknown:
            expected = ", ".join(known)
            raise ValueError(f"{key}: {', '.join(unknown)} is no arm, expected some of {expected}")

    @model_validator(mode="after")
    def _check_arms(self) -> "TaskBase":
        if self.reference not in self.objectives:
            known = ", ".join(self.objectives)
            raise ValueError(f"reference {self.reference!r} is not one of objectives: {known}")
        for label, arm in self.objectives.items():
            tried = [setting.training for setting in self.candidates(label)]
            self._check_training(f"objectives.{label}.training", [arm.training])
            self._check_training(f"objectives.{label}.search.training", tried)
        self._check_budgets()
        return self

    def _check_training(self, key: str, overrides: Iterable[Mapping[str, Any]]) -> None:
        problems: dict[str, None] = {}  # candidates share their values: each is said once
        for one in overrides:
            try:
                self._training(one)
            except ValidationError as error:
                problems |= dict.fromkeys(f"{key}.{problem}" for problem in problems_of(error))
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def is_nested(self) -> bool:
        """Whether every run is chosen among its arm's candidate settings."""
        return self.search == "nested"

    def _check_budgets(self) -> None:
        compared = self.objectives if self.is_nested else self.searched
        budgets = {label: len(self.candidates(label)) for label in compared}
        if len(set(budgets.values())) > 1 and self.unequal_budget == "refuse":
            found = ", ".join(f"{label} {count or 'none'}" for label, count in budgets.items())
            which = "every arm, the reference too," if self.is_nested else "every searched arm"
            raise ValueError(
                f"objectives: {which} needs as many settings as the others: {found}; give them "
                "equally many, or set unequal_budget: allow, which the report flags"
            )
        if self.is_nested and not self.searched:
            raise ValueError("search: nested has nothing to choose from: give objectives `search`")

    def _training(self, *overrides: Mapping[str, Any]) -> Training:
        """The task's settings with what overrides them; the last counts most."""
        keys = self.training.model_dump()
        for one in overrides:
            keys |= one
        return type(self.training).model_validate(keys)

    def under(self, objective: str, setting: Setting) -> Self:
        """The task with one arm under one of its candidate settings."""
        arm = self.objectives[objective].with_setting(setting)
        return self.model_copy(update={"objectives": {**self.objectives, objective: arm}})

    @property
    def searched(self) -> list[str]:
        """Labels of the objectives that have candidate settings."""
        return [label for label, arm in self.objectives.items() if arm.search]

    def candidates(self, objective: str) -> list[Setting]:
        """The settings that a search tries for an objective's arm; none without `search`."""
        search = self.objectives[objective].search
        return search.settings if search else []
