"""How long the networks of image tasks train on a GPU, by their counted floating point operations.

A forward pass is counted by `torch.utils.flop_counter`, without computing it: a multiplication with
an addition is two operations, and what is no matrix product or convolution does not count. The way
back takes twice as many. The hours are these over a peak rate and a utilisation, which are
assumptions, as is the least time of a step: the command's defaults are what ResNet-18 reached at
128 images of 32 x 32 a step on an H200, whose peak is an H100's (4.5 %, 10 ms under cross-entropy,
13 ms under NCMI: `benchmarks/results/image_training-cuda.json`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from wsi_ncmi.config import Config, ImageTask, ImageTraining
from wsi_ncmi.errors import ConfigError, UserError
from wsi_ncmi.images.kinds import IMAGE, KINDS, Size
from wsi_ncmi.tools.plan.table import duration

H100_FLOPS = 989e12
"""Peak of one H100 SXM in bfloat16 without sparsity, by NVIDIA's data sheet."""

PUBLISHED: dict[str, tuple[int, int, int | None]] = {
    "mnist": (60_000, 10_000, 28),
    "fashion_mnist": (60_000, 10_000, 28),
    "cifar10": (50_000, 10_000, 32),
    "cifar100": (50_000, 10_000, 32),
    "tiny_imagenet": (100_000, 10_000, 64),
    "imagenet": (1_281_167, 50_000, None),
}
"""Training images, test images and their side in pixels (None: they vary), as published."""


@dataclass(frozen=True)
class Gpu:
    """On which images train.

    Attributes:
        flops: peak, FLOP/s.
        utilisation: the share of it that a training reaches with large batches.
        step_seconds: that a step takes at least, however small its batch is.
    """

    flops: float
    utilisation: float
    step_seconds: float

    @classmethod
    def of(cls, flops: float | None, utilisation: float, step_seconds: float) -> "Gpu":
        """An H100 unless it is said.

        Raises:
            ConfigError: the utilisation is above 1.
        """
        if utilisation > 1:
            raise ConfigError([f"--utilisation: found {utilisation}, expected at most 1"])
        return cls(flops or H100_FLOPS, utilisation, step_seconds)

    @property
    def reached(self) -> float:
        """FLOP/s."""
        return self.flops * self.utilisation


@dataclass(frozen=True)
class Samples:
    """How many a task has, and what one is: size and kind, see `images.kinds`."""

    train: int
    val: int
    test: int
    size: Size
    kind: str


@dataclass(frozen=True)
class Work:
    """Operations of all trainings of a task, and the seconds that they take."""

    flop: float
    seconds: float


@dataclass(frozen=True)
class Cost:
    """Floating point operations of a network for one sample."""

    forward: float
    parameters: int

    @property
    def both(self) -> float:
        """Forward and back: gradients of inputs and of weights are as many again each."""
        return 3 * self.forward


def flop_lines(config: Config, gpu: Gpu) -> Iterator[str]:
    """A line per image task, and the time of all."""
    known: list[Work] = []
    for name, task in config.images.items():
        try:
            samples = samples_of(task)
            one = cost_of(task, samples)
        except UserError as error:
            yield f"task {name}: operations not known: {error}"
            continue
        work = task_work(task, samples, one, gpu)
        known.append(work)
        yield (
            f"task {name}: {task.model}, {one.parameters / 1e6:.3g} million parameters, "
            f"{_flop(one.forward)} for one of {KINDS[samples.kind].described(samples.size)} "
            f"(forward); {_flop(work.flop)} for all trainings on {samples.train} samples: "
            f"{duration(work.seconds)}"
        )
    if known:
        yield _total(known, len(config.images) - len(known), gpu)


def _total(known: Sequence[Work], unknown: int, gpu: Gpu) -> str:
    without = f", without {unknown} task(s)" if unknown else ""
    return (
        f"one GPU: {duration(sum(one.seconds for one in known))}{without}: "
        f"{_flop(sum(one.flop for one in known))} at {gpu.flops:.3g} FLOP/s (--gpu-flops), of "
        f"which {gpu.utilisation:g} is reached (--utilisation), and at least "
        f"{1000 * gpu.step_seconds:g} ms a step (--step-seconds). These are assumptions: time an "
        "epoch to know"
    )


def samples_of(task: ImageTask) -> Samples:
    """Of the data at hand, or as they were published.

    Raises:
        UserError: the data are not there, and nothing is known of them.
    """
    from wsi_ncmi.images.data import open_source
    from wsi_ncmi.images.datasets.interface import DatasetError

    try:
        dataset = open_source(task)
        train, test = len(dataset.train.ids), len(dataset.test.ids)
        kind = dataset.train.kind
        fixed = kind is IMAGE and task.image_size is not None
        size = () if fixed else kind.size(dataset.train.pixels[0])
    except DatasetError:
        if task.dataset not in PUBLISHED:
            raise
        train, test, side = PUBLISHED[task.dataset]
        kind, size = IMAGE, () if side is None else (side, side)
    if kind is IMAGE and task.image_size is not None:
        size = (task.image_size, task.image_size)
    if not size:
        raise UserError(f"{task.dataset}: its images differ in size: set image_size")
    train = min(task.train_samples or train, train)
    val = round(train * task.validation_fraction)
    return Samples(train - val, val, min(task.test_samples or test, test), size, kind.name)


def cost_of(task: ImageTask, samples: Samples) -> Cost:
    """Of the task's network.

    Raises:
        UserError: the network cannot be made, or does not take such samples.
    """
    return _counted(task.model_dump_json(include=NETWORK), samples.size, samples.kind)


NETWORK = {"dataset", "path", "model", "model_options", "small_stem"}


@cache
def _counted(network: str, size: Size, kind_name: str) -> Cost:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from wsi_ncmi.images.models import build_network

    kind = KINDS[kind_name]
    ones = np.ones(kind.moments_shape(size)).ravel().tolist()
    built = build_network(ImageTask.model_validate_json(network), size, ones, ones, kind)
    batch = kind.batch(torch.from_numpy(np.zeros((1, *kind.shape(size)), kind.dtype)))
    counter = FlopCounterMode(display=False)
    # Shapes without numbers; on the device `meta` there is no autocast, of which networks ask.
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), counter:
        built.eval()(batch)
    parameters = sum(parameter.numel() for parameter in built.parameters())
    return Cost(counter.get_total_flops(), parameters)


def task_work(task: ImageTask, samples: Samples, one: Cost, gpu: Gpu) -> Work:
    """Of all trainings: every seed, arm and candidate, validation and test included."""
    flop = seconds = 0.0
    for label in task.objectives:
        candidates = task.candidates(label) if task.is_nested else []
        for variant in [task.under(label, setting) for setting in candidates] or [task]:
            settings = variant.training_of(label)
            own = _training_flop(settings, samples, one)
            flop += own
            seconds += max(own / gpu.reached, _steps(settings, samples) * gpu.step_seconds)
    return Work(flop * len(task.seeds), seconds * len(task.seeds))


def _training_flop(settings: ImageTraining, samples: Samples, one: Cost) -> float:
    """Of one model; class means after the last epoch are one more pass over the training part."""
    step = one.both + (one.forward if settings.accumulation > 1 else 0.0)
    step += _ascents(settings) * one.both
    of_epochs = settings.epochs * (samples.train * step + samples.val * one.forward)
    return of_epochs + (samples.train + samples.val + samples.test) * one.forward


def _steps(settings: ImageTraining, samples: Samples) -> int:
    """Passes through the network and back, one after the other."""
    batches = -(-samples.train // settings.batch_size) * settings.accumulation
    return settings.epochs * batches * (1 + _ascents(settings))


def _ascents(settings: ImageTraining) -> int:
    """Steps of gradient ascent for each batch."""
    return settings.adversarial.steps if settings.adversarial else 0


def _flop(count: float) -> str:
    """With a prefix, to three digits."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if count < 1000:
            return f"{count:.3g} {prefix}FLOP"
        count /= 1000
    return f"{count:.3g} ZFLOP"
